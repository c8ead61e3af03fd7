"""A stack that looks closely at its clients: limits, what fail2ban reads of them, proxies, and postscreen."""

import ipaddress
import re
import smtplib
import socket
import ssl
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from integration.conftest import CHECKOUT, INSIDER, OUTSIDER, site
from mailstack.errors import EngineError
from mailstack.world.containers import Machine, wait_for
from mailstack.world.internet import Internet
from mailstack.world.site import Site
from place import EDGE
from support import (
    Client,
    address_of,
    delivered,
    dmarc_result,
    message,
    received_spf,
    send,
    spf_result,
    subject,
)

USER, SENDER = "user@tango.example", "someone@listed.example"
CONNECTIONS, MESSAGES, RECIPIENTS = 40, 12, 30
PROXY, HAPROXY = EDGE[45], EDGE[43]


# Lists of clients, and who is in them: RFC 5782 section 2.1.
LISTED, PARDONED, EARLY = EDGE[42], EDGE[41], EDGE[40]
SILENT = EDGE[49]
LISTS = "dnsbl.example*2 allowed.example=127.0.0.[2..3]*-2 refusing.example silent.example"


@pytest.fixture(scope="module")
def tango(world: Internet) -> Site:
    for address, zone in ((LISTED, "dnsbl"), (PARDONED, "dnsbl"), (PARDONED, "allowed")):
        name = ".".join(reversed(str(address).split(".")))
        world.names.set(f"{name}.{zone}.example", "A", "127.0.0.2")
    # As Spamhaus answers a public resolver, whoever is asked about.
    world.names.set("*.refusing.example", "A", "127.255.255.254")
    world.names.publish()
    override = world._directory / "mail.tango.example/overrides/resolver/unbound.conf"
    override.parent.mkdir(parents=True)
    override.write_text(f"forward-zone:\n  name: silent.example\n  forward-addr: {SILENT}\n")
    return site(
        world,
        "mail.tango.example",
        "tango.example",
        MAILBOXES=USER,
        TRUSTED_NETWORKS=str(INSIDER),
        LIMIT_CONNECTIONS=str(CONNECTIONS),
        LIMIT_MESSAGES=str(MESSAGES),
        LIMIT_RECIPIENTS=str(RECIPIENTS),
        LIMIT_MINUTES="5",
        PROXY_NETWORKS=f"{PROXY},{HAPROXY}",
        POSTSCREEN="on",
        DNSBL=LISTS,
    )


@pytest.fixture(scope="module")
def greedy(world: Internet) -> Machine:
    return world.host("greedy", EDGE[47])


def connections(machine: Machine, tango: Site, most: int) -> list[str]:
    """What the host is told at each of so many connections."""
    found = []
    for _ in range(most):
        with machine.connect(address_of(tango), 25) as link:
            found.append(link.recv(1024).decode().strip())
            if found[-1].startswith("220"):
                # So that no session is left.
                link.sendall(b"QUIT\r\n")
                assert link.recv(1024).startswith(b"221")
    return found


def messages(machine: Machine, tango: Site, most: int) -> list[str]:
    """What is answered to the senders of so many messages in one session."""
    with Client(machine, address_of(tango)) as client:
        client.ehlo()
        found = []
        for _ in range(most):
            code, text = client.docmd(f"MAIL FROM:<{SENDER}>")
            found.append(f"{code} {text.decode()}")
            client.rset()
    return found


def recipients(machine: Machine, tango: Site, most: int) -> list[str]:
    """What is answered to so many recipients of one message."""
    with Client(machine, address_of(tango)) as client:
        client.ehlo()
        client.mail(SENDER)
        answers = [client.docmd(f"RCPT TO:<user+{at}@tango.example>") for at in range(most)]
    return [f"{code} {text.decode()}" for code, text in answers]


# In this order: each but the first counts what those before did.
LIMITS: dict[str, tuple[Callable[[Machine, Site, int], list[str]], int, str, str]] = {
    "recipients": (
        recipients,
        RECIPIENTS,
        "450 4.7.1 Error: too many recipients from {}; a client may send to 30 recipients in 5 minutes, please retry in 5 minutes",
        "Recipient address rate limit exceeded",
    ),
    "messages": (
        messages,
        MESSAGES,
        "450 4.7.1 Error: too much mail from {}; a client may send 12 messages in 5 minutes, please retry in 5 minutes",
        "Message delivery request rate limit exceeded",
    ),
    "connections": (
        connections,
        CONNECTIONS,
        "421 4.7.0 mail.tango.example Error: too many connections from {}; a client may have 20 at a time and 40 in 5 minutes, please retry when one has ended or in 5 minutes",
        "Connection rate limit exceeded",
    ),
}


@pytest.mark.parametrize("limit", LIMITS)
def test_limits(limit: str, greedy: Machine, outsider: Machine, insider: Machine, tango: Site) -> None:
    """Who does more than a client may is told so, with the limit and its time; others are served, trusted ones without it."""
    attempt, most, refusal, logged = LIMITS[limit]
    found = attempt(greedy, tango, most + 1)
    assert found[-1] == refusal.format(greedy.address)
    assert {one[:3] for one in found[: most // 2]} <= {"220", "250"}
    wait_for(
        lambda: [one for one in tango.log("postfix") if logged in one and f"[{greedy.address}]" in one],
        "the log does not say it",
    )
    about = subject(f"beside the limit of {limit}")
    assert send(outsider, address_of(tango), SENDER, USER, message(SENDER, USER, about)).code == 250
    delivered(tango, USER, about)
    assert {one[:3] for one in attempt(insider, tango, most + 1)} <= {"220", "250"}


def example(path: str) -> str:
    """The file of a host that docs/clients.md shows, by its path there."""
    text = (CHECKOUT / "docs/clients.md").read_text()
    found = re.search(rf"^```\w+\n(# {re.escape(path)}\n.*?)^```$", text, re.DOTALL | re.MULTILINE)
    assert found
    return found[1]


@pytest.fixture(scope="module")
def fail2ban(readers_image: str, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], str]:
    """Runs a shell's line, with an input, where fail2ban has the files of the documentation; what it prints."""
    volumes = []
    for path in ("/etc/fail2ban/filter.d/mailstack.conf", "/etc/fail2ban/jail.d/mailstack.conf"):
        file = tmp_path_factory.mktemp("fail2ban") / "mailstack.conf"
        file.write_text(example(path))
        volumes += ["--volume", f"{file}:{path}:ro"]
    options = ("--rm", "--interactive", "--network", "none", "--cap-drop", "ALL", "--read-only", "--tmpfs", "/tmp")  # noqa: S108

    def run(line: str, given: str) -> str:
        command = ["docker", "run", *options, *volumes, readers_image, "sh", "-c", line]
        return subprocess.run(command, input=given, capture_output=True, text=True, check=True).stdout

    return run


# What stands before a line of the container, and by which filter it is read.
FORMS = {
    "docker compose logs --no-log-prefix": ("", ("postfix", "mailstack")),
    "the journal, as fail2ban shows it": ("2026-11-30T12:17:01.123456 host 3f2a9c1d2e4b[812]: ", ("mailstack",)),
    "docker compose logs": ("postfix-1  | ", ()),
}
# What each line of a ban has, of whom.
BANNED = ("Relay access denied", "Recipient address rejected: User unknown")
LIMITED = tuple(logged for *_, logged in LIMITS.values())
CLIENT = r" from [^ \[]+\[([^ \]]+)\]"


@pytest.fixture(scope="module")
def log(tango: Site, outsider: Machine, backup_mx: Machine, greedy: Machine) -> list[str]:
    """Postfix's lines about a client that does what leads to a ban, and about others."""
    content = message(SENDER, USER, subject("for fail2ban"))
    # Its HELO name is that of a line about another client.
    helo = f"postfix/smtpd[1]:x:reject:RCPT.from.x[{backup_mx.address}]:554.5.7.1.Relay.access.denied"
    for recipient in ("x@elsewhere.example", "nobody@tango.example"):
        assert send(outsider, address_of(tango), SENDER, recipient, content, helo=helo).code in {550, 554}
    before = tango.log("postfix")
    for attempt, most, _, logged in LIMITS.values():
        if not any(logged in one for one in before):
            attempt(greedy, tango, most + 1)
    send(backup_mx, address_of(tango), SENDER, USER, content)
    wanted = (*BANNED, *LIMITED)
    lines = wait_for(
        lambda: (found := tango.log("postfix")) and all(any(each in one for one in found) for each in wanted) and found,
        "the log does not say it",
    )
    return [one.partition("| ")[2] for one in lines]


@pytest.mark.parametrize("form", FORMS)
def test_lines_for_fail2ban(form: str, log: list[str], fail2ban: Callable[[str, str], str]) -> None:
    """fail2ban's own tester finds the lines that should lead to a ban, and takes the client's address, which stands first."""
    prefix, filters = FORMS[form]
    lines = [prefix + one for one in log]
    for name in ("postfix", "mailstack"):
        tester = f"cat > /tmp/log && exec fail2ban-regex --out '<ip> <msg>' /tmp/log {name}"
        found = fail2ban(tester, "".join(f"{line}\n" for line in lines)).splitlines()
        wanted = (*BANNED, *LIMITED) if name == "mailstack" else BANNED
        matched = [one for one in lines if name in filters and any(each in one for each in wanted)]
        assert sorted(found) == sorted(f"{re.findall(CLIENT, one)[0]} {one}" for one in matched)


def test_jail_of_fail2ban(fail2ban: Callable[[str, str], str]) -> None:
    """The jail reads the container's journal, looks at warnings, as limits are, and bans where published ports pass."""
    jail = [one for one in fail2ban("exec fail2ban-client -d", "").splitlines() if "'mailstack'" in one]
    for word in ("'addjournalmatch', 'CONTAINER_NAME=", "(?:warning:|", "-I DOCKER-USER -p $proto -j f2b-mailstack"):
        assert [one for one in jail if word in one], word


def version_1(client: str) -> bytes:
    """A header of the PROXY protocol that names a client (proxy-protocol.txt of haproxy, section 2.1)."""
    family = "TCP6" if ":" in client else "TCP4"
    return f"PROXY {family} {client} {'2001:db8::25' if ':' in client else '192.0.2.25'} 4711 25\r\n".encode()


def version_2(client: str = "") -> bytes:
    """The same in binary (section 2.2); without a client it is the proxy's own connection (LOCAL)."""
    family, addresses = 0, b""
    if client:
        server = ipaddress.ip_address("2001:db8::25" if ":" in client else "192.0.2.25")
        family = 0x21 if ":" in client else 0x11
        addresses = ipaddress.ip_address(client).packed + server.packed + struct.pack(">HH", 4711, 25)
    command = 0x21 if client else 0x20
    return b"\r\n\r\n\0\r\nQUIT\n" + bytes([command, family]) + struct.pack(">H", len(addresses)) + addresses


class Proxied(Client):
    """An SMTP client behind a proxy, which sends its header first."""

    def __init__(
        self, proxy: Machine, tango: Site, port: int, header: bytes, tls: ssl.SSLContext | None = None
    ) -> None:
        self._header = header
        super().__init__(proxy, address_of(tango), port, tls=tls)

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        link = self._machine.connect(host, port, timeout)
        link.sendall(self._header)
        return self._tls.wrap_socket(link) if self._tls else link


@pytest.fixture(scope="module")
def proxy(world: Internet) -> Machine:
    return world.host("proxy", PROXY)


VERSIONS = {"version 1": version_1, "version 2": version_2}


# Who is named, and what SPF says of mail that it sends for a domain.
NAMED = {
    "IPv4": (str(OUTSIDER), SENDER, f"Pass (mailfrom) identity=mailfrom; client-ip={OUTSIDER};"),
    "IPv6": (
        "2001:db8::7",
        "someone@softfail.example",
        'Softfail (mailfrom) identity=mailfrom; client-ip="2001:db8::7";',
    ),
}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("family", NAMED)
def test_the_client_that_a_proxy_names(version: str, family: str, proxy: Machine, tango: Site) -> None:
    """SPF is checked for this client, though the containers' networks have no IPv6."""
    client, sender, result = NAMED[family]
    about = subject(f"{family} by {version}")
    with Proxied(proxy, tango, 12525, VERSIONS[version](client)) as link:
        assert link.sendmail(sender, USER, message(sender, USER, about)) == {}
    assert received_spf(delivered(tango, USER, about)).startswith(result)


def test_who_is_no_proxy(outsider: Machine, tango: Site) -> None:
    """A host that is not listed names no client: it is refused before the header is read."""
    for port in (12525, 10587, 10465):
        with outsider.connect(address_of(tango), port) as link:
            link.sendall(version_1(str(INSIDER)) + b"EHLO outsider.example\r\n")
            assert link.makefile("rb").read() == b"521 5.7.1 this port is for proxies\r\n"
    wait_for(
        lambda: [
            one for one in tango.log("postfix") if f"reject: CONNECT from unknown[{outsider.address}]: 521" in one
        ],
        "the log does not say it",
    )


@pytest.mark.parametrize(
    "header", [version_2(), version_1("127.0.0.1"), version_1("::1"), version_2("::ffff:127.0.0.1")]
)
def test_a_proxy_that_names_nobody(header: bytes, proxy: Machine, tango: Site) -> None:
    """Its own connections are served, as a proxy's health checks need, and send nothing, though loopback is trusted."""
    for port in (12525, 10587):
        with Proxied(proxy, tango, port, header) as link:
            link.ehlo()
            link.docmd(f"MAIL FROM:<{USER}>")
            assert link.docmd("RCPT TO:<someone@elsewhere.example>")[0] in {503, 550}
            assert link.docmd(f"RCPT TO:<{USER}>")[0] in {503, 550}


def test_submission_by_a_proxy(proxy: Machine, tango: Site) -> None:
    """A client that the site trusts is trusted through a proxy, too; another one is refused."""
    tls = ssl._create_unverified_context()  # noqa: S323 its certificate is its own
    for port, context in ((10587, None), (10465, tls)):
        with Proxied(proxy, tango, port, version_2(str(INSIDER)), context) as link:
            link.ehlo()
            assert link.mail(USER)[0] == 250
            assert link.rcpt("someone@elsewhere.example")[0] == 250
    with pytest.raises(smtplib.SMTPConnectError, match="521"):
        Proxied(proxy, tango, 10587, version_2(str(OUTSIDER)))


@pytest.fixture
def haproxy(world: Internet, tango: Site, tmp_path: Path) -> Iterator[Machine]:
    """Debian's haproxy, configured as docs/clients.md has it."""
    file = tmp_path / "haproxy.cfg"
    text = example("/etc/haproxy/haproxy.cfg")
    assert "192.0.2.25:12525" in text
    file.write_text(text.replace("192.0.2.25", address_of(tango)))
    command = ["haproxy", "-W", "-db", "-f", "/haproxy.cfg"]
    volumes = {file: "/haproxy.cfg"}
    with world.edge.serving("haproxy", world.image, HAPROXY, 25, command=command, volumes=volumes) as machine:
        yield machine


def test_haproxy(haproxy: Machine, outsider: Machine, tango: Site) -> None:
    """Its health check succeeds, and mail through it is that of its client."""
    about = subject("through haproxy")
    content = message(SENDER, USER, about)

    def sent() -> bool:
        try:
            return send(outsider, str(haproxy.address), SENDER, USER, content).code == 250
        except (OSError, smtplib.SMTPException) as error:
            raise EngineError(repr(error)) from None

    wait_for(sent, "haproxy takes no mail")
    assert f"client-ip={outsider.address};" in received_spf(delivered(tango, USER, about))


# postscreen_greet_wait (postconf(5)).
GREETING_SECONDS = 6


def greeted_in(machine: Machine, tango: Site) -> float:
    """How many seconds a client waits for the whole greeting."""
    before = time.monotonic()
    with Client(machine, address_of(tango)):
        return time.monotonic() - before


@pytest.mark.parametrize(("address", "reply"), [(LISTED, 550), (PARDONED, 250)])
def test_lists_of_clients(address: ipaddress.IPv4Address, reply: int, world: Internet, tango: Site) -> None:
    """Who is listed is told by which list, by TLS too; a list that allows weighs as much as it is given."""
    machine = world.host(f"listed-{reply}", address)
    tls = ssl._create_unverified_context()  # noqa: S323 its certificate is its own
    with Client(machine, address_of(tango)) as client:
        client.encrypt(tls, tango.stack.hostname)
        client.mail(SENDER)
        code, text = client.rcpt(USER)
    assert code == reply
    if reply != 250:
        blocked = f"5.7.1 Service unavailable; client [{machine.address}] blocked using dnsbl.example"
        assert text.decode() == blocked
        wait_for(lambda: [one for one in tango.log("postfix") if blocked in one], "the log does not say it")


def test_who_speaks_first(world: Internet, tango: Site) -> None:
    """A client that does not wait for the greeting is rejected."""
    replies = []
    with world.host("early", EARLY).connect(address_of(tango), 25) as link:
        said = link.makefile("rb")
        for command in ("EHLO early.example", "MAIL FROM:<>", f"RCPT TO:<{USER}>"):
            link.sendall(f"{command}\r\n".encode())
            replies.append(next(line for line in said if line[3:4] == b" "))
    assert [one[:3] for one in replies] == [b"250", b"250", b"550"]
    assert replies[-1] == b"550 5.5.1 Protocol error\r\n"


def test_who_waits(outsider: Machine, insider: Machine, tango: Site) -> None:
    """Lists that do not answer, or do not serve this host, hold nobody up; mail is checked behind postscreen as ever.

    Trusted clients do not wait. Others wait once: the cache outlives the container.
    """
    about = subject("behind postscreen")
    assert send(outsider, address_of(tango), SENDER, USER, message(SENDER, USER, about)).code == 250
    content = delivered(tango, USER, about)
    assert spf_result(content, tango).result == "pass"
    assert dmarc_result(content, tango).result == "none"
    assert greeted_in(insider, tango) < GREETING_SECONDS
    assert greeted_in(outsider, tango) < 2 * GREETING_SECONDS
    tango.compose("up", "--detach", "--force-recreate", "postfix")
    tango.wait_healthy(60)
    assert greeted_in(outsider, tango) < GREETING_SECONDS
