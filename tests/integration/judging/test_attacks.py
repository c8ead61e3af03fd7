"""Every attack of the table, from a host of its own: refused, or delivered so that no reader is taken in by it."""

import ipaddress
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import dkim
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

import readers
from attacks import (
    ATTACKS,
    BANK,
    BANK_ADDRESS,
    CASES_OF_ESPOOFER,
    DELIVERED,
    EVIL,
    FAILS,
    FORGED,
    HOSTNAME,
    LOCAL,
    SELECTOR,
    Attack,
)
from integration.conftest import OUTSIDER
from mailstack.world.containers import Machine, wait_for
from mailstack.world.internet import Internet
from mailstack.world.site import Site
from place import EDGE
from support import JUNK, address_of, all_verdicts, delivered, message, send, subject

ESPOOFER = EDGE[62]
# How long the whole of a conversation may take, in seconds; and how many are held at a time.
_PATIENCE = 60.0
_AT_A_TIME = 4


class Keys(NamedTuple):
    """Private keys, as PEM."""

    evil: bytes
    bank: bytes


def _key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def _pem(key: rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )


def _record(key: rsa.RSAPrivateKey) -> str:
    """The public key as a TXT record, in strings."""
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    value = "v=DKIM1; k=rsa; p=" + "".join(public.decode().splitlines()[1:-1])
    return " ".join(f'"{value[at : at + 255]}"' for at in range(0, len(value), 255))


@pytest.fixture(scope="module")
def keys(world: Internet) -> Keys:
    """What the bank and the attackers publish, and with what they sign."""
    names, evil, bank = world.names, _key(), _key()
    names.set(BANK, "A", BANK_ADDRESS)
    names.set(BANK, "TXT", f'"v=spf1 ip4:{BANK_ADDRESS} -all"')
    names.set(f"_dmarc.{BANK}", "TXT", '"v=DMARC1; p=reject"')
    names.set(f"{SELECTOR.decode()}._domainkey.{BANK}", "TXT", _record(bank))
    # SPF passes for all names below evil.example; a wildcard leaves out one that has others below it.
    for name in (EVIL, f"*.{EVIL}", f"{BANK}.{EVIL}"):
        names.set(name, "A", str(OUTSIDER))
        names.set(name, "TXT", f'"v=spf1 ip4:{OUTSIDER} ip4:{ESPOOFER} -all"')
    names.set(f"_dmarc.{EVIL}", "TXT", '"v=DMARC1; p=none"')
    for name in _key_names():
        names.set(name, "TXT", _record(evil))
    names.publish()
    return Keys(_pem(evil), _pem(bank))


def _key_names() -> Iterator[str]:
    """Where evil's key must lie so that the signatures are good in the eyes of who reads their domains so."""
    for attack in ATTACKS:
        if attack.signed and attack.signed.key == "evil":
            domain, selector = attack.signed.domain, attack.signed.selector
            name = b"%s._domainkey.%s" % (selector.partition(b".\0")[0], domain)
            if name.endswith(EVIL.encode()) and b"\0" not in name:
                yield re.sub(rb"[^A-Za-z0-9._-]", lambda one: b"\\%03d" % ord(one[0]), name).decode("ascii")


@pytest.fixture(scope="module")
def all_readers(programs: Sequence[readers.Program], rspamd: readers.Rspamd) -> Mapping[str, readers.Reader]:
    found = {
        "authres": readers.by_authres,
        "Python": readers.by_python,
        "Python, compat32": readers.by_old_python,
        "Python, compat32, decoded": readers.by_decoding_python,
        "rspamd": rspamd,
    }
    for program in programs:
        found |= program.readers()
    return found


@dataclass(frozen=True)
class Played:
    """What came of an attack: the replies that matter, and what bravo delivered."""

    replies: tuple[str, ...]
    # In the inbox, and in Junk.
    messages: tuple[bytes, ...]
    aside: tuple[bytes, ...]
    verdicts: tuple[Mapping[str, Any], ...]

    @property
    def refusal(self) -> str | None:
        """The first reply that is not positive."""
        return next(filter(_refuses, self.replies), None)


@pytest.fixture(scope="module")
def played(
    request: pytest.FixtureRequest, keys: Keys, outsider: Machine, insider: Machine, alpha: Site, bravo: Site
) -> Mapping[str, Played]:
    """The whole table, or what was selected of it; the mailbox is read once, when nothing is under way any more."""
    selected = {item.callspec.params.get("attack") for item in request.session.items if hasattr(item, "callspec")}
    rows = {f"row-{at:04}": attack for at, attack in enumerate(ATTACKS) if attack in selected}

    def play(row: str) -> tuple[str, ...]:
        attack = rows[row]
        machine, site = (outsider, bravo) if attack.way == "outside" else (insider, alpha)
        port = 587 if attack.way == "submission" else 25
        return _converse(machine, address_of(site), port, attack, attack.conversation(row, keys._asdict()))

    with ThreadPoolExecutor(_AT_A_TIME) as pool:
        replies = dict(zip(rows, pool.map(play, rows), strict=True))
    return {
        rows[row].name: Played(replies[row], *came) for row, came in _what_came(rows, outsider, alpha, bravo).items()
    }


def _what_came(
    rows: Mapping[str, object], outsider: Machine, *sites: Site
) -> dict[str, tuple[tuple[bytes, ...], tuple[bytes, ...], tuple[Mapping[str, Any], ...]]]:
    """Of each row what the last site delivered, and what its dmarc service said, once nothing is under way."""
    # Others' mail may wait in the queues.
    recipients = f"@{LOCAL}".encode()
    for site in sites:
        wait_for(
            lambda site=site: recipients not in site.run("postfix", "postqueue", "-j"), "mail stays in a queue", 60
        )
    inbox, junk = (sites[-1].mail("user@bravo.example", folder) for folder in ("", JUNK))
    said = all_verdicts(sites[-1], "user@bravo.example", outsider)
    return {
        row: (
            tuple(one for one in inbox if row.encode() in one),
            tuple(one for one in junk if row.encode() in one),
            tuple(one for one in said if row in one["message_id"]),
        )
        for row in rows
    }


def _converse(machine: Machine, host: str, port: int, attack: Attack, pieces: tuple[bytes, ...]) -> tuple[str, ...]:
    """Send pieces, after a reply each, until one is negative; the replies but those to what does not matter."""
    found: list[str] = []
    with machine.connect(host, port, _PATIENCE) as link:
        replies = _replies(link.makefile("rb"))
        if not attack.early:
            next(replies)
        for octets in attack.before:
            link.sendall(octets)
            next(replies, None)
        for octets in pieces:
            link.sendall(octets)
            found.append(next(replies, _CLOSED))
            if _refuses(found[-1]):
                return tuple(found)
        # What was sent beyond the end may get replies of its own, before the one to this.
        link.sendall(b"QUIT\r\n")
        for reply in replies:
            found.append(reply)
            if reply.startswith("221") or _refuses(reply):
                break
    return tuple(found)


_CLOSED = "closed"


def _refuses(reply: str) -> bool:
    return reply[:1] not in {"2", "3"}


def _replies(stream: Iterator[bytes]) -> Iterator[str]:
    """The last line of each reply."""
    for line in stream:
        if line[3:4] != b"-":
            yield line.decode("latin-1").strip()


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_attack(attack: Attack, played: Mapping[str, Played], all_readers: Mapping[str, readers.Reader]) -> None:
    """It is refused as the table says and nothing is delivered, or no reader sees the victim in what is."""
    _assert_outcome(attack, played[attack.name], all_readers)


def _assert_outcome(attack: Attack, came: Played, all_readers: Mapping[str, readers.Reader]) -> None:
    if attack.outcome == DELIVERED:
        assert came.refusal is None, came.replies
        assert len(came.messages) == 1
        (content,) = came.messages
        for name, read in all_readers.items():
            reading = read(content, HOSTNAME)
            assert not reading.lets_pass(attack.victim), (name, reading)
            assert not reading.shows(attack.victim), (name, reading)
            assert reading.dmarc in {"pass", "fail", "none"}, (name, reading)
        return
    assert came.messages == ()
    if attack.outcome not in {FAILS, FORGED}:
        assert came.aside == ()
        assert (came.refusal or came.replies[-1]).startswith(attack.outcome), came.replies
        return
    (verdict,) = came.verdicts
    assert verdict["result"] in {"fail", "none"}
    if _passes(verdict):
        _assert_put_aside(attack, came, all_readers)
    elif attack.outcome == FORGED and f"{LOCAL}>" in verdict["envelope_from"].lower():
        assert (verdict["action"], came.refusal, came.aside) == ("discard", None, ())
    else:
        assert (verdict["action"], came.aside) == ("reject", ())
        refused = "550 5.7.26 DMARC: " if attack.outcome == FAILS else "550 5.7.1 From uses our domain "
        assert str(came.refusal).startswith(refused), came.replies


def _passes(verdict: Mapping[str, Any]) -> list[str]:
    """The domains that SPF or DKIM has authenticated."""
    found = verdict["auth_results"]
    passes = [one["domain"] for one in (found["spf"], *found["dkim"]) if one and one["result"] == "pass"]
    return [one for one in passes if one]


def _assert_put_aside(attack: Attack, came: Played, all_readers: Mapping[str, readers.Reader]) -> None:
    """It lies in Junk, marked; whoever reads it there sees no pass for the victim, and DMARC's fail."""
    assert came.refusal is None, came.replies
    (content,), (verdict,) = came.aside, came.verdicts
    assert verdict["action"] == "quarantine"
    assert not [one for one in _passes(verdict) if one == attack.victim or one.endswith(f".{attack.victim}")]
    assert b"\nX-Mailstack-Quarantine: " in b"\n" + content
    for name, read in all_readers.items():
        reading = read(content, HOSTNAME)
        assert not reading.lets_pass(attack.victim), (name, reading)
        assert reading.dmarc in {"fail", None}, (name, reading)


# What it can send itself; as a customer it insists on TLS and a password.
_BY_ESPOOFER = {one.espoofer: one for one in CASES_OF_ESPOOFER if one.way == "outside"}


@pytest.fixture(scope="module")
def sent_by_espoofer(
    world: Internet, keys: Keys, outsider: Machine, bravo: Site, tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, Played]:
    """The cases that the package can send itself, all at once since it takes its time; from a host of their own."""
    directory = tmp_path_factory.mktemp("espoofer")
    (directory / "dkimkey").write_bytes(keys.evil)
    relay = ["socat", "TCP4-LISTEN:25,fork,reuseaddr", f"TCP4:{address_of(bravo)}:25"]
    machine = world.edge.start("espoofer", world.image, ESPOOFER, command=relay, ports=(25,))
    processes: dict[str, subprocess.Popen[bytes]] = {}
    try:
        wait_for(lambda: machine.listens(25), "the relay does not listen")
        host, port = machine.published(25)
        program = str(Path(readers.__file__).with_name("espoofer_case.py"))
        for case in _BY_ESPOOFER:
            processes[f"({case})"] = subprocess.Popen(
                [sys.executable, program, case, host, str(port), f"({case})"],
                cwd=directory,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
        said = {row: process.communicate(timeout=_PATIENCE)[0].decode() for row, process in processes.items()}
    finally:
        for process in processes.values():
            process.kill()
        machine.remove()
    replies = {
        row: tuple(re.findall(r"^(?:\x1b\[\d+m)*>>> (\d{3} .*)", text, re.MULTILINE)) for row, text in said.items()
    }
    return {
        row.strip("()"): Played(replies[row], *came) for row, came in _what_came(processes, outsider, bravo).items()
    }


@pytest.mark.parametrize("case", _BY_ESPOOFER)
def test_espoofer(case: str, sent_by_espoofer: Mapping[str, Played], all_readers: Mapping[str, readers.Reader]) -> None:
    """Sent by the package itself, a case ends as its row says."""
    _assert_outcome(_BY_ESPOOFER[case], sent_by_espoofer[case], all_readers)


def test_all_cases_of_espoofer_are_rows() -> None:
    """The package's list of cases, as it stands."""
    done = subprocess.run(
        [sys.executable, "-m", "espoofer.espoofer", "--list"], capture_output=True, text=True, check=True
    )
    listed = re.findall(r"^((?:server|client)_a\d+)\b", done.stdout, re.MULTILINE)
    assert sorted(listed) == sorted(one.espoofer for one in CASES_OF_ESPOOFER)
    assert len(listed) == 22


def test_every_reader_sees_a_genuine_pass(
    world: Internet, keys: Keys, bravo: Site, all_readers: Mapping[str, readers.Reader]
) -> None:
    """What the bank itself sends passes in every reader's eyes: the table's "no pass" means something."""
    machine = world.host("bank", ipaddress.IPv4Address(BANK_ADDRESS))
    try:
        about = subject("genuine")
        content = message(f"Admin <admin@{BANK}>", "user@bravo.example", about)
        signed = dkim.sign(content, SELECTOR, BANK.encode(), keys.bank) + content
        reply = send(machine, address_of(bravo), f"admin@{BANK}", "user@bravo.example", signed, helo=BANK)
        assert reply.code == 250, reply
    finally:
        machine.remove()
    arrived = delivered(bravo, "user@bravo.example", about)
    for name, read in all_readers.items():
        reading = read(arrived, HOSTNAME)
        assert (reading.shows(BANK), reading.lets_pass(BANK), reading.dmarc) == (True, True, "pass"), (name, reading)
        assert (reading.shows(EVIL), reading.lets_pass(EVIL)) == (False, False), (name, reading)


BELIEVED = b"Authentication-Results: mail.bravo.example; %s\r\nFrom: <admin@bank.example>\r\n\r\n"


@pytest.mark.parametrize(
    "result",
    [
        b"spf=pass smtp.mailfrom=bank.example",
        b"spf=pass smtp.mailfrom=admin@bank.example",
        b"dkim=pass header.d=bank.example",
        b"dmarc=pass header.from=bank.example",
    ],
)
def test_every_reader_would_believe_a_forgery(result: bytes, all_readers: Mapping[str, readers.Reader]) -> None:
    """A forged result that got through would be seen, whichever it is, with the author."""
    for name, read in all_readers.items():
        reading = read(BELIEVED % result, HOSTNAME)
        assert reading.lets_pass(BANK), name
        assert reading.shows(BANK) or name == "authres"
        assert not read(BELIEVED % result, "mail.other.example").lets_pass(BANK), name


def test_every_reader_would_believe_a_forged_received_spf(all_readers: Mapping[str, readers.Reader]) -> None:
    """The first Received-SPF counts."""
    forged = b'Received-SPF: Pass (x) identity=mailfrom; envelope-from="admin@bank.example"; receiver=x\r\n\r\n'
    ours = b'Received-SPF: Fail (x) identity=mailfrom; envelope-from="admin@bank.example"; receiver=x\r\n'
    for name, read in all_readers.items():
        assert read(forged, HOSTNAME).lets_pass(BANK), name
        assert not read(ours + forged, HOSTNAME).lets_pass(BANK), name
