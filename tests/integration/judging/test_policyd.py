"""policyd-spf as it is shipped, on the socket that Postfix uses; DNS says what each test wants it to say."""

import contextlib
import ipaddress
import json
import select
import subprocess
import sys
import tarfile
from collections.abc import Iterator

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.policy_server import SERVICE, PolicyServer
from integration.conftest import BASE_IMAGE
from place import INNER
from policy_client import PolicyConnection, request
from received_spf import parse

# The suite of RFC 7208 comes with pyspf's sources; it is another project's, so it is fetched.
SUITE = "pyspf==2.0.14 --hash=sha256:57a7ef01bda090173aafb6af0106251686ed73f03db4e911fcd34c57fc347186"
SUITE_FILE = "pyspf-2.0.14/test/rfc7208-tests.yml"
SUITE_TESTS = 203
# Names of tests whose result differs.
EXCEPTIONS: set[str] = set()

HANGS = "error.example"
ZONE = {
    "pass.example": [{"TXT": "v=spf1 ip4:192.0.2.0/24 ip6:2001:db8::/32 -all"}],
    "fail.example": [{"TXT": "v=spf1 -all"}],
    "macros.example": [{"TXT": "v=spf1 exists:%{l}.%{h}.%{i}.x.example ?include:%{S}.x.example ~all"}],
    "broken.example": [{"TXT": "v=spf1 é -all"}],
}


@pytest.fixture(scope="module")
def policyd(engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PolicyServer]:
    # The last network of this run's, which no site has.
    *_, subnet = INNER.subnets(new_prefix=27)
    with PolicyServer(tmp_path_factory.mktemp("policyd"), BASE_IMAGE, {"SUBNET": str(subnet)}) as server:
        yield server


@pytest.fixture
def zone(policyd: PolicyServer) -> None:
    policyd.serve(ZONE, silent=True)
    policyd.restart()


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    """The scenarios of the RFC 7208 suite."""
    directory = tmp_path_factory.mktemp("suite")
    (directory / "wanted").write_text(f"{SUITE}\n")
    command = ["pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:", "--require-hashes", "-r", "wanted"]
    subprocess.run([sys.executable, "-m", *command], cwd=directory, check=True)
    with tarfile.open(next(directory.glob("*.tar.gz"))) as archive:
        content = archive.extractfile(SUITE_FILE)
        assert content is not None
        return list(yaml.safe_load_all(content))


def result(action: str) -> str:
    """The SPF result that an action of the shipped policy stands for."""
    if action.startswith("DEFER_IF_PERMIT 4.7.24 "):
        return "temperror"
    assert action.startswith("PREPEND "), action
    return parse(action.removeprefix("PREPEND "))[0]


def test_rfc7208_suite(policyd: PolicyServer, suite: list[dict], capsys: pytest.CaptureFixture[str]) -> None:
    """Every test of the suite has its result, on a fresh start for each scenario and all of its tests at once.

    In one scenario "TIMEOUT" is silence, for which an evaluation's whole time is waited; in the others SERVFAIL.
    """
    wrong, count = {}, 0
    for at, scenario in enumerate(suite):
        policyd.serve(scenario["zonedata"], silent=scenario["description"] == "Record lookup")
        policyd.restart()
        with contextlib.ExitStack() as connections:
            asked = {}
            for name, test in scenario["tests"].items():
                asked[name] = connections.enter_context(PolicyConnection(policyd.connect))
                sender = test.get("mailfrom") or ""
                asked[name].send(request(sender, client=test["host"], helo=test["helo"], instance=f"{at}.{name}"))
            for name, connection in asked.items():
                expected = scenario["tests"][name]["result"]
                found = result(connection.receive() or "")
                if found not in ([expected] if isinstance(expected, str) else expected):
                    wrong[name] = (expected, found)
            count += len(asked)
    with capsys.disabled():
        sys.stdout.write(f"\nRFC 7208 suite: {count - len(wrong)} of {count} as expected; otherwise: {wrong}\n")
    assert count == SUITE_TESTS
    assert set(wrong) == EXCEPTIONS


# What Postfix can be made to send: every octet but the line feed, which ends a value. Often what means something in a
# header, a macro or an address.
MEANINGFUL = st.sampled_from([*b'\\"();=,@.<>:%{}[] \t\r\x00\x7f\x80\xff\xc3\xa9', *b"Received-SPF: pass"])
OCTETS = st.lists(st.one_of(MEANINGFUL, st.integers(0, 255)), max_size=200).map(
    lambda values: bytes(values).replace(b"\n", b"").decode("utf-8", "surrogateescape")
)
DOMAINS = st.sampled_from([*ZONE, "none.example", "[192.0.2.1]", ""])
SENDERS = st.one_of(OCTETS, st.builds("{}@{}".format, OCTETS, st.one_of(DOMAINS, OCTETS)), st.just(""))
HELOS = st.one_of(DOMAINS, OCTETS, OCTETS.map(lambda text: text * 10))
CLIENTS = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str)


def test_whatever_a_client_sends(policyd: PolicyServer, zone: None) -> None:
    """Of thousands of requests each gets one reply; a header has one result and the values as sent, or without them."""
    count = 0
    with PolicyConnection(policyd.connect) as connection:

        @settings(max_examples=3000, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(SENDERS, HELOS, OCTETS, CLIENTS)
        def ask(sender: str, helo: str, recipient: str, client: str) -> None:
            nonlocal count
            count += 1
            action = connection.ask(
                request(sender, helo=helo, client=client, recipient=recipient, instance=str(count), queue_id=str(count))
            )
            assert action is not None
            address = ipaddress.ip_address(client)
            address = getattr(address, "ipv4_mapped", None) or address
            if action == "DUNNO":
                assert address.is_loopback
            elif not action.startswith("DEFER_IF_PERMIT 4.7.24 "):
                _, pairs = parse(action.removeprefix("PREPEND "))
                values = {"helo": helo, "envelope-from": sender, "receiver": "mail.policy.example"}
                assert pairs.pop("identity") in {"helo", "mailfrom"}
                assert ipaddress.ip_address(pairs.pop("client-ip")) == address
                assert pairs == {name: values[name] for name in pairs}
                for name, value in values.items():
                    if value.isascii() and value.isprintable() and len(value) <= 160:
                        assert name in pairs

        ask()
        assert connection.ask(b"request=healthcheck\n\n") == "OK"
    assert count >= 3000


LINES = st.lists(
    st.one_of(
        st.binary(max_size=300),
        st.just(request("a@fail.example")),
        st.just(b"request=healthcheck\n\n"),
        st.sampled_from([b"\n", b"\n\n", b"=\n", b"sender=a\r\n", b"a=" + b"x" * 70000, b"\x00", b"=" * 3000]),
    ),
    max_size=8,
)


def test_whatever_a_peer_sends(policyd: PolicyServer, zone: None) -> None:
    """Whatever comes on a connection, only replies come back, no more than there are requests; others go on."""
    with PolicyConnection(policyd.connect) as other:

        @settings(max_examples=500, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(LINES)
        def send(lines: list[bytes]) -> None:
            octets = b"".join(lines)
            with PolicyConnection(policyd.connect) as connection, contextlib.suppress(ConnectionError):
                connection.send(octets + b"\n\nno attribute\n\n")
                count = 0
                while connection.receive() is not None:
                    count += 1
                assert count <= octets.count(b"\n\n") + 1
            assert other.ask(b"request=healthcheck\n\n") == "OK"

        send()


ASK = """
import socket, sys
connection = socket.socket(socket.AF_UNIX)
connection.connect("/run/policyd-spf/results.sock")
connection.sendall(sys.stdin.buffer.read())
connection.shutdown(socket.SHUT_WR)
sys.stdout.write(connection.makefile().read())
"""


def test_results_of_the_same_evaluation(policyd: PolicyServer, zone: None) -> None:
    """The internal socket gives each identity's result for a message, without asking DNS anew; Postfix has no way to it."""
    message = request("a@pass.example", helo="fail.example", queue_id="4gX9", instance="9")
    with PolicyConnection(policyd.connect) as connection:
        assert result(connection.ask(message) or "") == "pass"
    policyd.serve({})
    (line,) = policyd.site.run(SERVICE, "python3", "-c", ASK, stdin=message).splitlines()
    found = json.loads(line)["evaluation"]
    assert [found[name]["result"] for name in ("helo", "mailfrom")] == ["fail", "pass"]
    assert found["mailfrom"]["domain"] == "pass.example"
    services = yaml.safe_load((policyd.site.directory / "compose.yaml").read_text())["services"]
    shared = {name for name, one in services.items() if "/run/policyd-spf" in str(one.get("volumes", []))}
    assert shared == {"policyd-spf", "dmarc"}


SEND = """
import asyncio, os, socket, uvloop
from mailstack_auth.runtime.serving import Connection, Serving
ours, theirs = socket.socketpair()
theirs.setblocking(False)

async def run():
    connection = Connection(Serving(print, 100), lambda _: None)
    await asyncio.get_running_loop().create_unix_connection(lambda: connection, sock=ours)
    connection.send(b"sent")
    print(theirs.recv(100).decode(), flush=True)
    os._exit(0)

uvloop.run(run())
"""


def test_what_is_sent_is_sent_at_once(policyd: PolicyServer) -> None:
    """A worker that is killed next takes nothing with it that it has noted as sent; by the image's own event loop."""
    assert policyd.site.run(SERVICE, "python3", "-c", SEND) == b"sent\n"


def test_300_connections(policyd: PolicyServer, zone: None, capsys: pytest.CaptureFixture[str]) -> None:
    """With 300 open connections, all of which were served, the container holds no more than 60 MB."""
    account = policyd.account()
    idle = account.memory().total
    with contextlib.ExitStack() as connections:
        several = [connections.enter_context(PolicyConnection(policyd.connect)) for _ in range(300)]
        for at, one in enumerate(several):
            one.send(request(f"{at}@pass.example", helo=f"h{at}.example", instance=str(at), queue_id=f"Q{at}"))
        for one in several:
            assert result(one.receive() or "") == "pass"
        used = account.memory().total
    with capsys.disabled():
        sys.stdout.write(f"\nmemory: {idle / 1e6:.1f} MB after start, {used / 1e6:.1f} MB with 300 connections\n")
    assert used <= 60e6


def test_nobody_waits_for_another(policyd: PolicyServer, zone: None) -> None:
    """While one of 300 connections waits for a domain whose DNS never answers, all others are answered, twice each."""
    with contextlib.ExitStack() as connections:
        hanging, *others = [connections.enter_context(PolicyConnection(policyd.connect)) for _ in range(300)]
        hanging.send(request(f"a@{HANGS}"))
        for turn in range(2):
            for at, one in enumerate(others):
                assert result(one.ask(request(f"{turn}.{at}@pass.example")) or "") == "pass"
        assert not _readable(hanging)
        assert result(hanging.receive() or "") == "temperror"


def _readable(connection: PolicyConnection) -> bool:
    return bool(select.select([connection], [], [], 0)[0])
