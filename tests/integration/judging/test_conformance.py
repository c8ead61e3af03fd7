"""Inputs that no one here wrote: messages that break mail programs, and signatures with known results (tests/corpora.py).

They come from the packages that hold them, and nothing of them is changed but line ends, which SMTP wants as CR LF.
"""

import base64
import contextlib
import itertools
import re
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.parser import BytesHeaderParser, HeaderParser

import authres
import dkim
import docker
import pytest
from cryptography.hazmat.primitives import serialization

import corpora
from integration.conftest import INSIDER, site
from mailstack.errors import EngineError
from mailstack.world.containers import Machine, wait_for
from mailstack.world.internet import Internet
from mailstack.world.site import Site
from place import BASE_IMAGE
from support import Reply, address_of, as_sent, independent_dkim, results, send

SENDER, RECIPIENT = "user@kilo.example", "corpora@bravo.example"

CPYTHON = ["msg_12a.txt", *(f"msg_{at:02}.txt" for at in range(1, 48))]
MAILBITS = [
    f"{name}.eml"
    for name in (
        "encoded_headers",
        "encoded_param",
        "from_line",
        "groups",
        "has_rfc822",
        "related",
        "reply_to",
        "resent",
        "sender",
        "twine_release",
    )
]
# Unsigned messages of dkimpy's; one with octets beyond ASCII in From and body, of no MIME and no UTF-8.
DKIMPY = [
    "ed25519test.msg",
    "rfc6376.msg",
    "rfc6376.w1258.msg",
    "test.message",
    "test_extra.message",
    "test_nofrom.message",
]
NAMES = [*CPYTHON, *MAILBITS, *DKIMPY]
# The others have one author each.
NO_AUTHOR = {
    "msg_05.txt": 'From is "foo", which is no address',
    "msg_11.txt": "it begins with an attached message",
    "msg_18.txt": "no From",
    "msg_19.txt": "no fields at all",
    "msg_37.txt": "no From",
    "msg_38.txt": "no From",
    "msg_39.txt": "no From",
    "msg_40.txt": "no From",
    "msg_43.txt": 'From is "MAILER DAEMON <>"',
    "related.eml": "no From",
    "test_nofrom.message": "no From",
}


@pytest.fixture(scope="module")
def dkimpy(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What dkimpy tests itself with: messages, key records and keys."""
    return corpora.source_files(corpora.DKIMPY, corpora.DKIMPY_FOLDER, tmp_path_factory.mktemp("dkimpy"))


@pytest.fixture(scope="module")
def messages(engine: None, dkimpy: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The messages of the three packages that carry no signature to be judged."""
    cpython = corpora.cpython_messages(BASE_IMAGE)
    mailbits = corpora.source_files(corpora.MAILBITS, corpora.MAILBITS_FOLDER, tmp_path_factory.mktemp("mailbits"))
    mailbits = {name: content for name, content in mailbits.items() if name.endswith(".eml")}
    assert (sorted(cpython), sorted(mailbits)) == (sorted(CPYTHON), sorted(MAILBITS))
    found = {**cpython, **mailbits, **{name: dkimpy[name] for name in DKIMPY}}
    return {name: as_sent(content) for name, content in found.items()}


def author(content: bytes) -> str | None:
    """The domain of the one author, as Python's parser reads it."""
    fields = message_from_bytes(content, policy=policy.default).get_all("From", [])
    addresses = [address for field in fields for address in field.addresses]
    return addresses[0].domain or None if len(fields) == len(addresses) == 1 else None


def body(content: bytes) -> bytes:
    """The octets behind the header, as Python's parser reads it; a message that is sent ends with a line end."""
    octets = HeaderParser().parsestr(content.decode("latin-1")).get_payload().encode("latin-1")
    return octets if octets.endswith(b"\r\n") or not octets else octets + b"\r\n"


@pytest.fixture(scope="module")
def kilo(world: Internet, messages: dict[str, bytes]) -> Site:
    """A stack to which the domains of all authors belong, so that it signs for them and nothing need be changed."""
    domains = sorted({author(content) or "kilo.example" for content in messages.values()})
    return site(
        world,
        "mail.kilo.example",
        ",".join(["kilo.example", *(one for one in domains if one != "kilo.example")]),
        MAILBOXES=SENDER,
        TRUSTED_NETWORKS=str(INSIDER),
    )


@dataclass(frozen=True)
class Sent:
    """What was replied to a message, and as what it was delivered."""

    reply: Reply
    delivered: bytes | None

    @property
    def start(self) -> tuple[int, str]:
        """The reply code and the enhanced status code."""
        return self.reply.code, self.reply.text.split()[0]

    def results(self, at: Site) -> list[authres.AuthenticationResult]:
        """What a site says of it, in exactly one field."""
        assert self.start == (250, "2.0.0"), self.reply
        assert self.delivered is not None, f"not delivered: {self.reply}"
        (header,) = results(self.delivered, at.stack.hostname)
        return list(header.results)


def send_all(
    client: Machine, first: Site, last: Site, sender: str, contents: Mapping[str, bytes], port: int = 25
) -> dict[str, Sent]:
    """Hand messages for the recipient, who is at the last site, to the first one, and wait for those that it took."""
    replies = {
        name: send(client, address_of(first), sender, RECIPIENT, content, port=port)
        for name, content in contents.items()
    }
    taken = {name: reply.text.rsplit(maxsplit=1)[-1] for name, reply in replies.items() if reply.code == 250}
    found: dict[str, bytes] = {}

    def all_are_there() -> bool:
        for content in last.mail(RECIPIENT):
            received = "".join(BytesHeaderParser().parsebytes(content).get_all("Received", []))
            found.update({name: content for name, queue_id in taken.items() if queue_id in received})
        return len(found) == len(taken)

    # Each one that is missing fails a test of its own.
    with contextlib.suppress(EngineError):
        wait_for(all_are_there, "not all was delivered", 60)
    return {name: Sent(reply, found.get(name)) for name, reply in replies.items()}


@pytest.fixture(scope="module")
def submitted(insider: Machine, kilo: Site, bravo: Site, messages: dict[str, bytes]) -> dict[str, Sent]:
    """All messages, submitted in kilo for bravo."""
    return send_all(insider, kilo, bravo, SENDER, messages, 587)


@pytest.fixture(scope="module")
def received(outsider: Machine, bravo: Site, messages: dict[str, bytes]) -> dict[str, Sent]:
    """Those without an author, sent to bravo from outside."""
    contents = {name: messages[name] for name in NO_AUTHOR}
    return send_all(outsider, bravo, bravo, "someone@none.example", contents)


def test_all_may_be_sent(messages: dict[str, bytes]) -> None:
    """With CR LF for line ends SMTP can carry every one: no NUL, no other CR, no line of more than 998 octets.

    RFC 5322 section 2.1.1, RFC 5321 section 2.3.8. So none has to be changed, and none is refused for such a reason.
    """
    for name, content in messages.items():
        assert not re.search(rb"\0|\r(?!\n)|(?<!\r)\n|[^\r\n]{999}", content), name


def test_who_has_no_author(messages: dict[str, bytes]) -> None:
    """Python's parser finds one author in all but those that are listed here."""
    assert {name for name, content in messages.items() if author(content) is None} == NO_AUTHOR.keys()


@pytest.mark.parametrize("name", [name for name in NAMES if name not in NO_AUTHOR])
def test_signed_and_verified(
    name: str, world: Internet, messages: dict[str, bytes], submitted: dict[str, Sent], kilo: Site, bravo: Site
) -> None:
    """A message with one author is signed in one stack and passes in the other, with the same body to the octet."""
    domain, sent = author(messages[name]), submitted[name]
    found = sent.results(bravo)
    assert sent.delivered is not None
    assert body(as_sent(sent.delivered)) == body(messages[name])
    ours = [(one.result, one.header_s) for one in found if one.method == "dkim" and one.header_d == domain]
    assert ours[:1] == [("pass", kilo.stack.keys.signers[0].selector)]
    (dmarc,) = (one for one in found if one.method == "dmarc")
    assert (dmarc.result, dmarc.properties[0].name, dmarc.properties[0].value) == ("pass", "from", domain)
    assert independent_dkim(sent.delivered, world.names)


@pytest.mark.parametrize("name", NO_AUTHOR)
def test_without_an_author(name: str, submitted: dict[str, Sent], received: dict[str, Sent]) -> None:
    """A message without an author is refused, whether it is to be signed or comes from outside."""
    assert submitted[name].start == (550, "5.6.0")
    assert received[name].start == (550, "5.7.1")


RSA, ED25519 = ("pass", "rsa-sha256"), ("pass", "ed25519-sha256")
# Result and algorithm of each signature, from the top.
SIGNED = {
    "rfc6376.signed.msg": [ED25519, RSA],  # simple/simple
    "rfc6376.signed.rsa.msg": [RSA],
    "ed25519test2.msg": [ED25519],  # made by Exim; its From is of another domain
    "RFC 8463, appendix A": [ED25519, RSA],
    # simple/simple, and the Received field below our own is signed. The key is a bare RSAPublicKey, as RFC 6376 section
    # 3.6.1 has it, which OpenDKIM does not take; its signature is looked at again.
    "RFC 6376, appendix A": [RSA],
}
OTHERS = {
    "rfc6376.signed.no_t.msg": [("fail", "rsa-sha256")],  # no t=, and an x= in a far future; it was changed
    # d=legitimate.com(.attacker.com (the kind of CVE-2020-12272); its key is there.
    "test.message.baddomain": [("permerror", None)],
    **{name: [("none", None)] for name in DKIMPY if name not in NO_AUTHOR},
}
# Key records, and whether a good signature passes by them.
KEYS = {
    "test.txt": True,
    "test2.txt": True,  # without k=
    "test_bad.txt": False,  # p= is cut off
    "badk.txt": False,  # k=ed25519-sha256
    "badversion.txt": False,  # v=DKIM1:
    "test_tlsrpt.txt": False,  # s=tlsrpt: not for mail
    "ed25519test.dns": False,  # a key of the other kind
    "eximtest.dns": False,
}
BAD_DOMAIN_KEY = r"test._domainkey.legitimate.com\(.attacker.com"


def changed_body(content: bytes) -> bytes:
    """With another octet at the beginning of the body."""
    at = content.index(b"\r\n\r\n") + 4
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


def changed_field(content: bytes) -> bytes:
    """With another first letter in From, which every signature covers."""
    return re.sub(rb"(?m)(^From: )(.)", lambda match: match[1] + match[2].swapcase(), content, count=1)


def second_author(content: bytes) -> bytes:
    return b"From: someone@listed.example\r\n" + content


CHANGES: dict[str, Callable[[bytes], bytes]] = {
    "the body": changed_body,
    "a signed field": changed_field,
    "a second From": second_author,
}


def selector(record: str) -> str:
    return record.partition(".")[0].replace("_", "-")


def text(record: str) -> str:
    """A TXT record's value as a zone file has it, in strings of at most 255 octets."""
    return " ".join(f'"{record[at : at + 255]}"' for at in range(0, len(record), 255))


def publish_keys(world: Internet, dkimpy: dict[str, bytes]) -> None:
    """The keys of all signatures, under the names that stand in them."""
    printed = base64.b64decode(corpora.RFC_6376_KEY.partition("p=")[2])
    bare = serialization.load_der_public_key(printed).public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.PKCS1
    )
    records = {
        **{f"{one}._domainkey.football.example.com": record for one, record in corpora.RFC_8463_KEYS.items()},
        "brisbane._domainkey.example.com": f"v=DKIM1; p={base64.b64encode(bare).decode()}",
        "sed._domainkey.test.ex": dkimpy["eximtest.dns"].decode().strip(),
        BAD_DOMAIN_KEY: dkimpy["test.txt"].decode().strip(),
        **{f"{selector(one)}._domainkey.example.com": dkimpy[one].decode().strip() for one in KEYS},
    }
    for name, record in records.items():
        world.names.set(name, "TXT", text(record))
    world.names.publish()


@pytest.fixture(scope="module")
def signed(dkimpy: dict[str, bytes]) -> dict[str, bytes]:
    """Messages whose signatures are to be judged: as they are, changed, and by which key they are signed here."""
    printed = {"RFC 8463, appendix A": corpora.RFC_8463_MESSAGE, "RFC 6376, appendix A": corpora.RFC_6376_MESSAGE}
    found = {name: as_sent((printed | dkimpy)[name]) for name in (*SIGNED, *OTHERS)}
    for name, change in itertools.product(SIGNED, CHANGES):
        found[f"{name}, {change}"] = CHANGES[change](found[name])
    plain = as_sent(dkimpy["test.message"])
    for record in KEYS:
        signature = dkim.sign(plain, selector(record).encode(), b"example.com", dkimpy["test.private"])
        found[record] = bytes(signature) + plain
    return found


@pytest.fixture(scope="module")
def judged(
    world: Internet, outsider: Machine, bravo: Site, dkimpy: dict[str, bytes], signed: dict[str, bytes]
) -> dict[str, Sent]:
    """All of them, sent to bravo from outside; SPF says nothing."""
    publish_keys(world, dkimpy)
    return send_all(outsider, bravo, bravo, "someone@none.example", signed)


def dkim_results(found: Iterable[authres.AuthenticationResult]) -> list[tuple[str, str | None]]:
    return [(one.result, getattr(one, "header_a", None)) for one in found if one.method == "dkim"]


@pytest.mark.parametrize("name", [*SIGNED, *OTHERS])
def test_dkim(name: str, judged: dict[str, Sent], bravo: Site) -> None:
    """Every signature has the result that it should have."""
    assert dkim_results(judged[name].results(bravo)) == (SIGNED | OTHERS)[name]


def test_dkim_of_a_domain_that_is_none(judged: dict[str, Sent], bravo: Site) -> None:
    """Nothing of d=legitimate.com(.attacker.com is shown, and DMARC has no pass by it."""
    sent = judged["test.message.baddomain"]
    (dmarc,) = (one for one in sent.results(bravo) if one.method == "dmarc")
    assert dmarc.result != "pass"
    assert sent.delivered is not None
    (field,) = (
        value
        for value in message_from_bytes(sent.delivered).get_all("Authentication-Results", [])
        if value.startswith(bravo.stack.hostname)
    )
    assert "legitimate" not in field


@pytest.mark.parametrize("name", SIGNED)
@pytest.mark.parametrize("change", ["the body", "a signed field"])
def test_dkim_of_what_was_changed(name: str, change: str, judged: dict[str, Sent], bravo: Site) -> None:
    """One octet is enough for every signature to fail."""
    found = dkim_results(judged[f"{name}, {change}"].results(bravo))
    assert found == [("fail", algorithm) for _, algorithm in SIGNED[name]]


@pytest.mark.parametrize("name", SIGNED)
def test_dkim_beside_a_second_author(name: str, judged: dict[str, Sent]) -> None:
    """A second From is refused, whatever the signatures are worth."""
    assert judged[f"{name}, a second From"].start == (550, "5.7.1")


@pytest.mark.parametrize("record", KEYS)
def test_key_records(record: str, judged: dict[str, Sent], bravo: Site) -> None:
    """A good signature does not pass by a key record that is none (RFC 6376 section 6.1.2, all of them PERMFAIL)."""
    ((result, algorithm),) = dkim_results(judged[record].results(bravo))
    assert algorithm == "rsa-sha256"
    assert result in ({"pass"} if KEYS[record] else {"fail", "permerror"})


# What in a log tells of something that broke.
BROKEN = ("Traceback", "starting a new one", "closing connection", "error=", "fatal:", "panic:", "warning: milter")


@pytest.fixture(scope="module")
def before(kilo: Site, bravo: Site, engine_client: docker.DockerClient) -> dict[str, object]:
    """What can be seen of both stacks before they get to know the messages."""
    return {one.stack.hostname: state(one, engine_client) for one in (kilo, bravo)}


def state(one: Site, engine_client: docker.DockerClient) -> tuple[object, ...]:
    """Since when a site's containers run, how often they were restarted, and what broke."""
    containers = [engine_client.containers.get(one.container(service)) for service in one.states()]
    lives = [(each.id, each.attrs["State"]["StartedAt"], each.attrs["RestartCount"]) for each in containers]
    return lives, [line for line in one.log() if any(word in line for word in BROKEN)]


@pytest.fixture(autouse=True, scope="module")
def _seen_before(before: dict[str, object]) -> None:
    """The first look comes before the first message."""


def test_all_at_once(
    insider: Machine,
    outsider: Machine,
    kilo: Site,
    bravo: Site,
    messages: dict[str, bytes],
    signed: dict[str, bytes],
    judged: dict[str, Sent],
    submitted: dict[str, Sent],
    before: dict[str, object],
    engine_client: docker.DockerClient,
) -> None:
    """Everything, in both roles and on several connections at once: each is taken or refused for good, nothing breaks."""

    def both(content: bytes) -> list[Reply]:
        return [
            send(insider, address_of(kilo), SENDER, RECIPIENT, content, port=587),
            send(outsider, address_of(bravo), "someone@none.example", RECIPIENT, content),
        ]

    with ThreadPoolExecutor(8) as threads:
        replies = list(threads.map(both, [*messages.values(), *signed.values()]))
    found = [reply for pair in replies for reply in pair]
    assert {reply.code for reply in found} == {250, 550}, [one for one in found if one.code not in {250, 550}]
    for one in (kilo, bravo):
        wait_for(one.healthy, f"{one.stack.hostname} is not healthy")
        assert state(one, engine_client) == before[one.stack.hostname]
