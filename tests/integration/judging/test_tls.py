"""TLS from outside and to others: real clients, real certificates, DANE by real TLSA records."""

import asyncio
import contextlib
import hashlib
import itertools
import re
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from certificates import Authority, Pair
from integration import in_clear
from mailstack.dns.check import smtp
from mailstack.keys.certificates import of_host
from mailstack.services.ids import IDS
from mailstack.world.containers import Machine, wait_for
from mailstack.world.internet import Internet
from mailstack.world.site import Site, parse
from place import EDGE
from support import (
    Client,
    address_of,
    count,
    delivered,
    flush_until_delivered,
    message,
    own_results,
    send,
    subject,
)

NAME = "mail.bravo.example"
OTHER = "mx.bravo.example"


@pytest.fixture(scope="module")
def pairs(authority: Authority, bravo: Site) -> Iterator[dict[str, Pair]]:
    """Certificates for bravo's host name and for another one, which Postfix presents."""
    made = {name: authority.issue(name) for name in (NAME, OTHER)}
    for name, pair in made.items():
        (bravo.directory / "tls" / f"{name}.pem").write_bytes(pair.chain + pair.key)
    wait_for(lambda: certificate(bravo) == made[NAME].serial, "the certificate is not served")
    yield made
    for name in made:
        (bravo.directory / "tls" / f"{name}.pem").unlink()


def context(authority: Authority, **attributes: object) -> ssl.SSLContext:
    """What a client has that trusts the test's authority alone."""
    made = ssl.create_default_context(cadata=authority.root.decode())
    for name, value in attributes.items():
        setattr(made, name, value)
    return made


def certificate(site: Site, name: str = "") -> int:
    """The serial number of the certificate that a site presents on port 25 to one that asks for a name."""
    with contextlib.closing(starttls(address_of(site), 25, ssl._create_unverified_context(), name)) as link:  # noqa: S323
        return x509.load_der_x509_certificate(link.getpeercert(binary_form=True) or b"").serial_number


def starttls(host: str, port: int, tls: ssl.SSLContext, name: str) -> ssl.SSLSocket:
    """A connection from this host's address on the edge, after STARTTLS."""
    link = socket.create_connection((host, port), timeout=20)
    try:
        for command in (b"", b"EHLO client.example\r\n", b"STARTTLS\r\n"):
            link.sendall(command)
            answer = b""
            while not re.search(rb"(?m)^\d{3} .*\r\n", answer):
                answer += link.recv(1024) or b"999 closed\r\n"
        return tls.wrap_socket(link, server_hostname=name or None)
    except BaseException:
        link.close()
        raise


@pytest.mark.parametrize(("port", "machine"), [(25, "outsider"), (587, "insider"), (465, "insider")])
def test_ports(
    port: int, machine: str, pairs: object, authority: Authority, bravo: Site, request: pytest.FixtureRequest
) -> None:
    """STARTTLS on 25 and 587, TLS from the first octet on 465, with a certificate that holds; Received says so."""
    client: Machine = request.getfixturevalue(machine)
    about, tls = subject(f"TLS on {port}"), context(authority)
    sender = "user@bravo.example" if machine == "insider" else "someone@listed.example"
    with Client(client, address_of(bravo), port, tls=tls if port == 465 else None, name=NAME) as session:
        session.ehlo()
        if port != 465:
            session.encrypt(tls, NAME)
        assert not session.has_extn("starttls")
        # No passwords yet, with TLS or without it.
        assert not session.has_extn("auth")
        session.sendmail(sender, ["user@bravo.example"], message(sender, "user@bravo.example", about))
    received = [str(one) for one in parse(delivered(bravo, "user@bravo.example", about)).get_all("Received", [])]
    assert "using TLSv1.3 with cipher " in received[0]


def test_dns_check_looks_at_port_25(pairs: object, bravo: Site) -> None:
    """It knows the site by its name and its certificate."""
    (address,) = bravo.stack.public_addresses
    own, other = (of_host(bravo.directory / "tls", name)[:1] for name in (NAME, OTHER))
    cases = [(NAME, own, "fine"), (NAME, other, "smtp-certificate"), (OTHER, other, "smtp-other")]
    for name, certificates, code in cases:
        (found,) = asyncio.run(smtp.answers(address, name, certificates, smtp.SECONDS))
        assert found.code == code, found.what


def test_clear_on_port_25(pairs: object, outsider: Machine, bravo: Site) -> None:
    """TLS is offered there, and not demanded."""
    with Client(outsider, address_of(bravo)) as session:
        session.ehlo()
        assert session.has_extn("starttls")
    about = subject("in clear")
    content = message("someone@listed.example", "user@bravo.example", about)
    assert send(outsider, address_of(bravo), "someone@listed.example", "user@bravo.example", content).code == 250
    (received, *_) = parse(delivered(bravo, "user@bravo.example", about)).get_all("Received", [])
    assert "TLS" not in str(received)


def test_port_465_says_nothing_in_clear(pairs: object, insider: Machine, bravo: Site) -> None:
    """A client that speaks SMTP there gets no banner."""
    with insider.connect(address_of(bravo), 465) as link:
        link.sendall(b"EHLO client.example\r\n")
        assert b"ESMTP" not in link.recv(1024)


def test_strangers_on_465(pairs: object, authority: Authority, outsider: Machine, bravo: Site) -> None:
    """Port 465 is for trusted networks, as 587 is."""
    with pytest.raises(Exception, match="this port is for trusted networks"):
        Client(outsider, address_of(bravo), 465, tls=context(authority), name=NAME).__enter__()


def test_names(pairs: dict[str, Pair], bravo: Site) -> None:
    """Who asks for another name gets its certificate; who asks for none, or for one that is not ours, the host's."""
    assert certificate(bravo, OTHER) == pairs[OTHER].serial
    for name in (NAME, "", "elsewhere.example"):
        assert certificate(bravo, name) == pairs[NAME].serial


def test_commands_behind_starttls(pairs: object, authority: Authority, bravo: Site) -> None:
    """What a man in the middle puts behind STARTTLS in clear is not executed in the session that begins."""
    tls = context(authority)
    with socket.create_connection((address_of(bravo), 25), timeout=20) as link:
        stream = link.makefile("rb")
        assert stream.readline().startswith(b"220 ")
        link.sendall(b"EHLO client.example\r\n")
        while not stream.readline().startswith(b"250 "):
            pass
        link.sendall(b"STARTTLS\r\nHELO client.example\r\nMAIL FROM:<someone@listed.example>\r\n")
        assert stream.readline().startswith(b"220 ")
        with tls.wrap_socket(link, server_hostname=NAME) as session:
            inside = session.makefile("rb")
            session.sendall(b"RCPT TO:<user@bravo.example>\r\n")
            assert inside.readline().startswith(b"503 5.5.1 ")


VERSIONS = {
    ssl.TLSVersion.TLSv1: "TLSV1_ALERT_PROTOCOL_VERSION",
    ssl.TLSVersion.TLSv1_1: "TLSV1_ALERT_PROTOCOL_VERSION",
    ssl.TLSVersion.TLSv1_2: "",
}
# Of TLS 1.2: Mozilla's intermediate list for a certificate with an elliptic key, and what it leaves out.
SUITES = {
    "ECDHE-ECDSA-AES128-GCM-SHA256": True,
    "ECDHE-ECDSA-AES256-GCM-SHA384": True,
    "ECDHE-ECDSA-CHACHA20-POLY1305": True,
    "ECDHE-ECDSA-AES128-SHA": False,
    "ECDHE-ECDSA-AES256-SHA384": False,
    "ECDHE-ECDSA-AES128-CCM8": False,
    "AECDH-AES256-SHA": False,
}


def handshake(site: Site, tls: ssl.SSLContext) -> str:
    """The alert by which the server refuses, if it does."""
    try:
        starttls(address_of(site), 25, tls, NAME).close()
    except ssl.SSLError as error:
        return error.reason
    return ""


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize(("version", "alert"), VERSIONS.items())
def test_versions(version: ssl.TLSVersion, alert: str, pairs: object, authority: Authority, bravo: Site) -> None:
    """TLS 1.2 is the least."""
    tls = context(authority, minimum_version=version, maximum_version=version)
    tls.set_ciphers("ALL:@SECLEVEL=0")
    assert handshake(bravo, tls) == alert


@pytest.mark.parametrize(("suite", "accepted"), SUITES.items())
def test_cipher_suites(suite: str, accepted: bool, pairs: object, authority: Authority, bravo: Site) -> None:
    """Of TLS 1.2 the suites with forward secrecy and authenticated encryption are taken, and no others."""
    tls = context(authority, maximum_version=ssl.TLSVersion.TLSv1_2)
    tls.set_ciphers(f"{suite}:@SECLEVEL=0")
    assert handshake(bravo, tls) == ("" if accepted else "SSLV3_ALERT_HANDSHAKE_FAILURE")


def test_status(pairs: dict[str, Pair], bravo: Site) -> None:
    """Status says which certificates are presented, until when; what is wrong makes the site one that is not well."""
    state = bravo.status()["certificates"]
    assert {tuple(one["names"]): one["file"] for one in state["served"]} == {
        (NAME,): f"tls/{NAME}.pem",
        (OTHER,): f"tls/{OTHER}.pem",
    }
    assert state["faults"] == []
    half = bravo.directory / "tls" / "half.pem"
    half.write_bytes(pairs[NAME].chain[:200])
    try:
        wait_for(lambda: bravo.status()["certificates"]["faults"], "status says nothing of it")
        status = bravo.status()
        assert not status["well"]
        assert status["certificates"]["faults"] == ["tls/half.pem is cut off: a part has no end"]
    finally:
        half.unlink()
    wait_for(lambda: bravo.status()["well"], "it is not well again")


# DANE


def tlsa(pair: Pair) -> str:
    """TLSA 3 1 1: the digest of the certificate's public key (RFC 6698, RFC 7672 section 3.1.1)."""
    public = x509.load_pem_x509_certificate(pair.certificate).public_key()
    digest = hashlib.sha256(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()
    return f"3 1 1 {digest}"


WRONG = f"3 1 1 {'00' * 32}"


# What a stack's resolver says, asked from its dmarc container.
ASK = """
import sys, dns.resolver
try:
    print(sorted(one.exchange.to_text(True) for one in dns.resolver.resolve(sys.argv[1], "MX")))
except dns.resolver.DNSException as error:
    print(type(error).__name__)
"""


class Dane:
    """Mail from alpha to hosts that are bravo, by fresh names, each with its own TLSA record."""

    def __init__(self, world: Internet, insider: Machine, alpha: Site, bravo: Site) -> None:
        self._world, self.insider, self.alpha, self.bravo = world, insider, alpha, bravo
        self._count = itertools.count(1)

    def hosts(self, *tlsa: str | None, address: str = "") -> list[str]:
        """Make hosts with TLSA records the MX of bravo's domain, in this order; their names."""
        names = self._world.names
        found = []
        for record in tlsa:
            host = f"mx{next(self._count)}.dane.example"
            names.set(host, "A", address or address_of(self.bravo))
            names.set(f"_25._tcp.{host}", "TLSA", *([record] if record else []))
            found.append(host)
        self.mx(*found)
        return found

    def mx(self, *hosts: str) -> None:
        names = self._world.names
        names.set("bravo.example", "MX", *(f"{10 * at} {host}." for at, host in enumerate(hosts, 1)))
        names.publish()
        wanted = f"{sorted(hosts)}\n".encode()
        wait_for(
            lambda: self.alpha.run("dmarc", "python3", "-c", ASK, "bravo.example") == wanted,
            "the old MX is still known",
        )

    def set(self, name: str, kind: str, *values: str) -> None:
        self._world.names.set(name, kind, *values)
        self._world.names.publish()

    def send(self, about: str) -> str:
        """Send; the queue id at alpha."""
        sender, recipient = "user@alpha.example", "user@bravo.example"
        content = message(sender, recipient, about)
        reply = send(self.insider, address_of(self.alpha), sender, recipient, content, port=587)
        assert reply.code == 250
        return reply.text.rpartition(" ")[2]

    def log(self, queue_id: str, words: str) -> str:
        """Alpha's first log line about a message with these words."""
        return wait_for(
            lambda: next((one for one in self.alpha.log("postfix") if f" {queue_id}: " in one and words in one), ""),
            f"the log does not say {words!r} of {queue_id}",
        )

    def sent(self, queue_id: str, about: str) -> tuple[str, str]:
        """Once it arrived: the log's line about its delivery, and the one about the TLS session before it."""
        flush_until_delivered(self.alpha, self.bravo, "user@bravo.example", about)
        line = self.log(queue_id, "status=sent")
        process = re.search(r"/smtp\[\d+\]: ", line)
        assert process
        lines = [one for one in self.alpha.log("postfix") if process[0] in one]
        earlier = lines[: lines.index(line)]
        return line, next(one for one in reversed(earlier) if "TLS connection established" in one)


@pytest.fixture(scope="module")
def dane_world(world: Internet, insider: Machine, alpha: Site, bravo: Site, pairs: object) -> Iterator[Dane]:
    dane = Dane(world, insider, alpha, bravo)
    yield dane
    dane.mx(NAME)


@pytest.fixture
def dane(dane_world: Dane) -> Dane:
    return dane_world


def test_right_tlsa(dane: Dane, pairs: dict[str, Pair]) -> None:
    """With a TLSA record that names the certificate, it is checked by that: encryption is not only tried."""
    dane.hosts(tlsa(pairs[NAME]))
    about = subject("right TLSA")
    _, session = dane.sent(dane.send(about), about)
    assert "Verified TLS connection established to mx" in session


def test_wrong_tlsa(dane: Dane, pairs: dict[str, Pair]) -> None:
    """With one that names another certificate mail waits, and goes, once, when the record is right."""
    (host,) = dane.hosts(WRONG)
    about = subject("wrong TLSA")
    queue_id = dane.send(about)
    assert "Server certificate not verified" in dane.log(queue_id, "status=deferred")
    assert count(dane.bravo, "user@bravo.example", about) == 0
    dane.set(f"_25._tcp.{host}", "TLSA", tlsa(pairs[NAME]))
    _, session = dane.sent(queue_id, about)
    assert "Verified TLS connection" in session
    assert count(dane.bravo, "user@bravo.example", about) == 1


def test_the_right_one_of_two(dane: Dane, pairs: dict[str, Pair]) -> None:
    """Where the first MX presents another certificate than its record names, mail goes by the second."""
    _, second = dane.hosts(WRONG, tlsa(pairs[NAME]))
    about = subject("two MX")
    line, session = dane.sent(dane.send(about), about)
    assert f"relay={second}[" in line
    assert f"Verified TLS connection established to {second}[" in session


def test_tlsa_without_an_answer(dane: Dane, world: Internet) -> None:
    """While nobody says whether there is a TLSA record, mail waits: it may be demanded."""
    (host,) = dane.hosts(None)
    world.names.delegate_unsigned(f"_tcp.{host}")
    world.names.break_zone(f"_tcp.{host}")
    world.names.publish()
    try:
        about = subject("no answer about TLSA")
        queue_id = dane.send(about)
        assert "TLSA lookup error" in dane.log(queue_id, "status=deferred")
    finally:
        world.names.mend_zone(f"_tcp.{host}")
        world.names.publish()
    _, session = dane.sent(queue_id, about)
    assert "Verified" not in session
    assert count(dane.bravo, "user@bravo.example", about) == 1


def test_no_tlsa(dane: Dane) -> None:
    """Without a TLSA record mail is encrypted where the server offers it, whatever certificate that has."""
    dane.hosts(None)
    about = subject("no TLSA")
    _, session = dane.sent(dane.send(about), about)
    assert re.search("(Untrusted|Trusted|Anonymous) TLS connection established", session)


def test_unsigned_zone(dane: Dane, delta: Site) -> None:
    """A TLSA record in a zone without DNSSEC says nothing: anybody may have put it there."""
    dane.set(f"_25._tcp.{delta.stack.hostname}", "TLSA", WRONG)
    dane.mx(NAME)
    about = subject("unsigned TLSA")
    sender, recipient = "user@alpha.example", "user@delta.unsigned.example"
    content = message(sender, recipient, about)
    assert send(dane.insider, address_of(dane.alpha), sender, recipient, content, port=587).code == 250
    delivered(delta, recipient, about)
    dane.set(f"_25._tcp.{delta.stack.hostname}", "TLSA")


@pytest.fixture
def in_clear_server(world: Internet) -> Iterator[Machine]:
    """A host whose mail server offers no TLS."""
    program = f"/usr/local/lib/{Path(in_clear.__file__).name}"
    with world.edge.serving(
        "in-clear",
        world.image,
        EDGE[51],
        25,
        command=["python3", program, "25"],
        volumes={Path(in_clear.__file__): program},
        tmpfs={str(in_clear.COMMANDS.parent): f"uid={IDS.world},gid={IDS.world}"},
    ) as machine:
        yield machine


def test_never_in_clear_where_tls_is_asked_for(dane: Dane, pairs: dict[str, Pair], in_clear_server: Machine) -> None:
    """A server with a TLSA record that offers no STARTTLS learns neither sender nor recipient, and gets no message."""
    (host,) = dane.hosts(tlsa(pairs[NAME]), address=str(in_clear_server.address))
    about = subject("no STARTTLS")
    queue_id = dane.send(about)
    assert "TLS is required, but was not offered" in dane.log(queue_id, "status=deferred")
    commands = in_clear_server.run("cat", str(in_clear.COMMANDS)).upper().splitlines()
    assert commands
    assert not [one for one in commands if one.startswith(("MAIL", "RCPT", "DATA"))]
    dane.set(host, "A", address_of(dane.bravo))
    dane.sent(queue_id, about)


def test_many_by_one_connection(dane: Dane, pairs: dict[str, Pair]) -> None:
    """What waits for one destination does not make a TLS session for each message."""
    (host,) = dane.hosts(tlsa(pairs[NAME]), address=str(EDGE[49]))
    about = [subject("many") for _ in range(30)]
    for queue_id in [dane.send(one) for one in about]:
        dane.log(queue_id, "status=deferred")
    lines = len(dane.alpha.log("postfix"))
    dane.set(host, "A", address_of(dane.bravo))
    for one in about:
        flush_until_delivered(dane.alpha, dane.bravo, "user@bravo.example", one)
    assert any("Verified TLS connection reused to mx" in one for one in dane.alpha.log("postfix")[lines:])


def test_believed_over_tls(dane: Dane, pairs: dict[str, Pair]) -> None:
    """Over TLS mail has the verdicts that it has in clear, and says in the first Received by which session it came."""
    dane.hosts(tlsa(pairs[NAME]))
    about = subject("believed")
    dane.sent(dane.send(about), about)
    content = delivered(dane.bravo, "user@bravo.example", about)
    assert {one.method: one.result for one in own_results(content, dane.bravo)} == dict.fromkeys(
        ("spf", "dkim", "dmarc"), "pass"
    )
    assert "using TLSv1.3 with cipher " in str(parse(content).get_all("Received", [])[0])
