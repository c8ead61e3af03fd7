"""mailstack_auth.spf.service and supervisor: the running program, asked on both of its sockets."""

import asyncio
import contextlib
import json
import mmap
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from dns.asyncresolver import Resolver

import mailstack_auth
from mailstack.world.containers import wait_for
from mailstack_auth.dns.lookup import Lookups
from mailstack_auth.runtime.cache import Latest
from mailstack_auth.runtime.counts import Counts
from mailstack_auth.runtime.deferrals import Deferrals
from mailstack_auth.runtime.handover import Reader, Writer
from mailstack_auth.spf import policy_protocol
from mailstack_auth.spf.evaluation import Evaluation, Evaluator, Result
from mailstack_auth.spf.judgement import Judgement
from mailstack_auth.spf.policy import Policy
from mailstack_auth.spf.service import TROUBLE, Server
from received_spf import parse
from unit.auth.test_log import full_disk
from unit.dns_server import Server as NameServer

# The program itself; its paths, its DNS and its time limit for an evaluation are the test's.
PROGRAM = """
import sys
from pathlib import Path
import dns.asyncresolver
from mailstack_auth.spf import evaluation
from mailstack_auth.dns import lookup
from mailstack_auth.spf import service as policyd
from mailstack_auth.runtime import supervisor

directory = Path(sys.argv[1])
policyd.RESULTS, policyd.CONFIGURATION = directory / "results", directory / "policy.json"
policyd.DEFERRALS, policyd.COUNTS = directory / "deferrals.json", directory / "counts.json"
resolver = dns.asyncresolver.Resolver(configure=False)
resolver.nameservers, resolver.port = ["127.0.0.1"], int(sys.argv[2])
policyd.Lookups = lambda: lookup.Lookups(resolver)
policyd.Evaluator = lambda lookups: evaluation.Evaluator(lookups, float(sys.argv[3]))
supervisor.main("mailstack_auth.spf.service", f"{directory}/postfix", f"{directory}/results.sock")
"""

ZONE = {
    "pass.example": [{"TXT": "v=spf1 ip4:192.0.2.0/24 ip6:2001:db8::/32 -all"}],
    "fail.example": [{"TXT": "v=spf1 -all"}],
    "broken.example": [{"TXT": "v=spf1 nonsense:term -all"}],
    "silent.example": ["TIMEOUT"],
}
# Who writes from them can be answered; what is below has its own test.
for records in ZONE.values():
    records.append({"MX": [10, "mail.example.org"]})
ZONE |= {
    "addressless.example": [{"TXT": "v=spf1 ?all"}],
    "no-mail.example": [{"MX": [0, ""]}],
    "address.example": [{"A": "192.0.2.1"}],
    "ipv6.example": [{"AAAA": "2001:db8::1"}],
    "half.example": [{"TXT": "v=spf1 ?all"}, {"MX": "TIMEOUT"}],
}
POLICY = {
    "hostname": "mail.example.com",
    "actions": {"fail": "reject-early", "temperror": "defer"},
    "trusted_networks": ["127.0.0.0/8"],
    "skip_networks": ["192.0.2.53/32"],
    "skip_domains": [],
    "domains": [],
    "judged_late": False,
    "hours": 4,
    "unknown_sender_domain": "defer",
}


@pytest.fixture(scope="module")
def names() -> Iterator[tuple[NameServer, int]]:
    """A name server in a thread, and its port."""
    server, ready, port, stop = NameServer.of(ZONE), threading.Event(), 0, asyncio.Event()
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        nonlocal port
        async with server.serve() as port:
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert ready.wait(10)
    yield server, port
    loop.call_soon_threadsafe(stop.set)
    thread.join()
    loop.close()


class Program:
    """The running program: supervisor and worker."""

    def __init__(self, directory: Path, port: int, seconds: float = 0.5, policy: Mapping[str, object] = POLICY) -> None:
        self.directory = directory
        (directory / "policy.json").write_text(json.dumps(policy))
        self._log = (directory / "log").open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(directory), str(port), str(seconds)],
            stdout=self._log,
            stderr=self._log,
            env=os.environ | {"PYTHONPATH": str(Path(mailstack_auth.__file__).parents[1]), "PYTHONUNBUFFERED": ""},
            start_new_session=True,
        )

    def wait_ready(self) -> None:
        wait_for(lambda: self.ask(b"request=healthcheck\n\n") == b"action=OK\n\n", "the program does not answer")

    def log(self) -> list[str]:
        return (self.directory / "log").read_text().splitlines()

    def worker(self) -> int:
        (child,) = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return int(child)

    def connect(self, name: str = "postfix") -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(10)
        connection.connect(str(self.directory / name))
        return connection

    def ask(self, octets: bytes, name: str = "postfix") -> bytes:
        """Everything that comes back on one connection, until the server closes it; nothing if there is no server."""
        try:
            with self.connect(name) as connection, connection.makefile("rb") as stream:
                connection.sendall(octets)
                connection.shutdown(socket.SHUT_WR)
                return stream.read()
        except (FileNotFoundError, ConnectionError):
            return b""

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal to all its processes; the exit status."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)
        status = self.process.wait(20)
        self._log.close()
        return status


@pytest.fixture(scope="module")
def program(names: tuple[NameServer, int], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    one = Program(tmp_path_factory.mktemp("program"), names[1])
    one.wait_ready()
    yield one
    one.end()


@pytest.fixture
def own_program(names: tuple[NameServer, int], tmp_path: Path) -> Iterator[Program]:
    """For tests that end it."""
    one = Program(tmp_path, names[1])
    one.wait_ready()
    yield one
    one.end()


def request(sender="a@pass.example", *, client="192.0.2.1", helo="mail.example.org", **others):
    """A policy request."""
    values = {"request": "smtpd_access_policy", "helo_name": helo, "sender": sender, "client_address": client} | others
    return "".join(f"{name}={value}\n" for name, value in values.items()).encode("utf-8", "surrogateescape") + b"\n"


def actions(octets):
    """The actions in what came back, which must be replies and nothing else."""
    assert octets.endswith(b"\n\n") or not octets
    replies = octets.decode("ascii").split("\n\n")[:-1]
    assert all(one.startswith("action=") and "\n" not in one for one in replies)
    return [one.removeprefix("action=") for one in replies]


def results(program, octets):
    """The answers on the internal socket."""
    return [json.loads(line) for line in program.ask(octets, "results.sock").splitlines()]


def test_replies_come_in_order(program):
    """Requests that are sent at once get one reply each, in order."""
    sent = [
        request(),
        request("a@fail.example"),
        b"request=healthcheck\n\n",
        request(client="192.0.2.53"),
        request("a@silent.example"),
    ]
    passed, refused, health, skipped, deferred = actions(program.ask(b"".join(sent)))
    assert parse(passed.removeprefix("PREPEND "))[0] == "pass"
    assert refused == "550 5.7.23 SPF fail: 192.0.2.1 is not authorized to send for MAIL FROM fail.example"
    assert health == "OK"
    assert skipped == "PREPEND X-SPF-Skipped: mail.example.com does not check SPF of mail from the forwarder 192.0.2.53"
    assert (
        deferred
        == "DEFER_IF_PERMIT 4.7.24 DNS lookup of the SPF record of MAIL FROM silent.example failed, please retry"
    )


def test_one_header_for_a_message(program):
    """A message's first recipient brings the header, further ones none, on whatever connection; a refusal is repeated."""
    first = request(instance="one header", queue_id="4gX0")
    (header, again), (elsewhere,) = actions(program.ask(first * 2)), actions(program.ask(first))
    assert header.startswith("PREPEND Received-SPF: Pass ")
    assert (again, elsewhere) == ("DUNNO", "DUNNO")
    at_once = request(helo="silent.example", instance="at once")
    with program.connect() as one, program.connect() as another:
        for connection in (one, another):
            connection.sendall(at_once)
        replies = [actions(connection.recv(2000))[0] for connection in (one, another)]
    assert sorted(one.split()[0] for one in replies) == ["DUNNO", "PREPEND"]
    refused = actions(program.ask(request("a@fail.example", instance="one refusal") * 3))
    assert [one.split()[0] for one in refused] == ["550"] * 3
    assert [one.split()[0] for one in actions(program.ask(request() * 2))] == ["PREPEND"] * 2


@pytest.mark.parametrize("one", [request(client="127.0.0.1"), request("a@fail.example", sasl_username="user")])
def test_trusted_and_authenticated_are_not_judged(program, one):
    """Even if Postfix asks about them."""
    assert actions(program.ask(one)) == ["DUNNO"]


@pytest.mark.parametrize(
    ("sender", "action"),
    [
        ("a@pass.example", "PREPEND"),
        ("a@address.example", "PREPEND"),
        ("a@ipv6.example", "PREPEND"),
        ("a@IPv6.example.", "PREPEND"),
        ("", "PREPEND"),
        ("a@[192.0.2.1]", "PREPEND"),
        # Whether that matters is known when its signatures are.
        ("a@half.example", "PREPEND"),
        ("a@missing.example", "reject_unknown_sender_domain"),
        ("a@addressless.example", "reject_unknown_sender_domain"),
        ("a@no..name", "reject_unknown_sender_domain"),
        ("a@no-mail.example", "reject_unknown_sender_domain"),
        # SPF comes first.
        ("a@fail.example", "550 5.7.23"),
    ],
)
def test_a_sender_who_cannot_be_answered(program, sender, action):
    """Neither MX nor address, or a null MX: Postfix looks and refuses; no answer of DNS is no reason."""
    (found,) = actions(program.ask(request(sender)))
    assert found.startswith(action)


@pytest.mark.parametrize(
    ("changes", "others", "code"),
    [
        ({"unknown_sender_domain": "accept"}, {}, "PREPEND"),
        ({}, {"client": "127.0.0.1"}, "DUNNO"),
        ({}, {"sasl_username": "user"}, "DUNNO"),
        ({"domains": ["missing.example"]}, {}, "PREPEND"),
        ({"skip_networks": ["192.0.2.1/32"]}, {}, "reject_unknown_sender_domain"),
    ],
)
def test_who_may_be_beyond_reach(names, tmp_path, changes, others, code):
    """As the setting says; not asked about our own domains, trusted clients and users."""
    program = Program(tmp_path, names[1], policy=POLICY | changes)
    try:
        program.wait_ready()
        (found,) = actions(program.ask(request("a@missing.example", **others)))
        assert found.startswith(code)
    finally:
        program.end()


def test_a_log_that_cannot_be_written(tmp_path):
    """A refusal is in the log before Postfix learns it; once lines that may wait could not be written, mail waits."""

    async def ask(server, sender):
        sent = []
        await server.action(policy_protocol.request(bytearray(request(sender))), sent.append)
        return actions(b"".join(sent))

    async def run():
        async with NameServer.of(ZONE).lookups() as lookups:
            kept = {"deferrals": Deferrals(tmp_path / "deferrals", 0), "counts": Counts(tmp_path / "counts", print)}
            kept |= {"lookups": lookups}
            server = Server(Policy.from_json(POLICY), Evaluator(lookups), Latest(mmap.mmap(-1, 144)), None, **kept)
            with full_disk():
                with pytest.raises(OSError, match="No space left"):
                    await ask(server, "a@fail.example")
                (action,) = await ask(server, "a@pass.example")
                assert action.startswith("PREPEND ")
                while not server._log._failed:  # noqa: ASYNC110
                    await asyncio.sleep(0)
                with pytest.raises(OSError, match="No space left"):
                    await ask(server, "a@pass.example")

    asyncio.run(asyncio.wait_for(run(), 10))


@pytest.mark.parametrize("client", ["", "unknown", "192.0.2.256", "é", "\udcff"])
def test_no_answer_is_no_pass(program, client):
    """A request that cannot be judged makes the message wait, each time anew, and is one line of ASCII in the log."""
    before = len(program.log())
    assert actions(program.ask(request(client=client, instance="no answer") * 2)) == [str(TROUBLE)] * 2
    # Lines about messages that Postfix went on with may still come.
    lines = [line for line in program.log()[before:] if not re.search("action=(DUNNO|PREPEND)", line)]
    assert len(lines) == 2
    assert all(line.isascii() and "action=DEFER_IF_PERMIT" in line for line in lines)


def test_one_log_line_for_a_decision(program):
    """Queue id, client, identity, domain, result and action; and what is wrong with a record. Repetitions add none."""
    program.ask(
        request("a@broken.example", queue_id="4gX1", instance="one line") * 3 + request("\x1b[2J@\udcff\r.example")
    )
    start = (
        "policyd-spf: 4gX1: client=192.0.2.1 identity=mailfrom domain='broken.example' result=permerror action=PREPEND"
    )

    def decisions() -> list[str]:
        return [line for line in program.log() if "4gX1" in line or "\\r.example" in line]

    wait_for(lambda: "\\r.example" in "".join(decisions()), "the last decision is not logged")
    broken, odd = decisions()
    assert broken == f"{start} reason='Unknown mechanism found: nonsense:term'"
    assert odd == (
        "policyd-spf: NOQUEUE: client=192.0.2.1 identity=mailfrom domain='?\\r.example' result=none"
        " action=reject_unknown_sender_domain"
    )


def test_results(program):
    """On the internal socket a message's judgement comes as one line of JSON."""
    helo = {"identity": "helo", "domain": "mail.example.org", "result": "none", "reason": "no SPF record"}
    mailfrom = {"identity": "mailfrom", "domain": "pass.example", "result": "pass", "reason": "sender SPF authorized"}
    assert results(program, request(client="2001:DB8::1")) == [
        {"evaluation": {"helo": helo, "mailfrom": mailfrom}, "exempt": None, "doubtful": False}
    ]
    (null,) = results(program, request("", helo="fail.example"))
    assert null["evaluation"]["mailfrom"] is None
    assert null["evaluation"]["helo"]["result"] == "fail"
    sent = request(sasl_username="u") + request(client="127.0.0.1") + request(client="192.0.2.53") + request(client="")
    assert results(program, sent) == [
        *(json.loads(Judgement(exempt=one).line()) for one in ("authenticated", "trusted", "forwarder")),
        {"error": """RequestError("no client address: ''")"""},
    ]


def test_one_evaluation_serves_both_sockets(program, names):
    """What Postfix has asked about needs no second evaluation: DNS that gives no answer is not waited for again."""
    server, _ = names
    one = request("a@silent.example", queue_id="4gX2")
    assert actions(program.ask(one))[0].startswith("DEFER_IF_PERMIT 4.7.24 ")
    asked = len(server.asked)
    (found,) = results(program, one)
    assert found["evaluation"]["mailfrom"]["result"] == "temperror"
    assert len(server.asked) == asked
    results(program, request("a@silent.example", queue_id="4gX3"))
    assert len(server.asked) > asked


def test_a_milter_gets_what_postfix_got(program, names):
    """A milter sees HELO and sender as they were sent and knows no instance: the queue id tells whose evaluation it is."""
    server, _ = names
    asked_by_postfix = request("a b@pass.example", helo="x?y.example", queue_id="4gX4", instance="milter")
    assert actions(program.ask(asked_by_postfix))[0].startswith("PREPEND Received-SPF: Pass ")
    (expected,) = results(program, asked_by_postfix)
    asked = len(server.asked)
    asked_by_milter = request('"a b"@pass.example', helo="x;y.example", queue_id="4gX4", client_name="mail.example.org")
    assert results(program, asked_by_milter) == [expected]
    assert expected["evaluation"]["mailfrom"]["result"] == "pass"
    assert expected["evaluation"]["helo"]["domain"] == "x?y.example"
    assert len(server.asked) == asked
    relay = request(client="192.0.2.53", queue_id="4gX5")
    program.ask(relay)
    assert results(program, relay) == [json.loads(Judgement(exempt="forwarder").line())]


def test_results_are_left(program):
    """What Postfix has asked about lies where the milter looks first, under the words in which it would ask."""
    left = Reader(program.directory / "results")
    one = request("a b@pass.example", helo="x\udcff.example", queue_id="4gX6")
    question = policy_protocol.question("4gX6", "192.0.2.1", b"x\xff.example", b"a b@pass.example")
    assert left.get(question) is None
    program.ask(one)
    assert left.get(question) == program.ask(one, "results.sock")
    for other in ("4gX7", "192.0.2.1"), ("4gX6", "192.0.2.2"):
        assert left.get(policy_protocol.question(*other, b"x\xff.example", b"a b@pass.example")) is None
    program.ask(request())
    assert left.get(policy_protocol.question("", "192.0.2.1", b"mail.example.org", b"a@pass.example")) is None


HELO = Result("helo", "mx.a.example", "none", "")
JUDGEMENTS = [
    Judgement(Evaluation(HELO, Result("mailfrom", "a.example", "pass", ""))),
    Judgement(Evaluation(None, Result("mailfrom", "a.example", "fail", "why")), doubtful=True),
    Judgement(Evaluation(HELO._replace(result="fail"), None)),
    Judgement(exempt="forwarder"),
]


@pytest.mark.parametrize("judgement", JUDGEMENTS)
def test_a_judgement_is_read_as_it_was_written(judgement):
    """All of it: HELO that was given up, a doubt about relays, why there is none."""
    line = judgement.line()
    assert line.isascii()
    assert line.endswith(b"\n")
    assert Judgement.of_line(line) == judgement


def test_what_a_judgement_does_not_hand_on():
    """A reason becomes one printable line; what is no domain is none."""
    odd = Result("mailfrom", "a b.example", "pass", "SPF Permanent Error: \xe9\n250 OK")
    found = Judgement.of_line(Judgement(Evaluation(None, odd)).line())
    assert found.identifier == Result("mailfrom", "", "pass", "?250 OK")
    assert not found.passed


def test_header_is_remembered_when_it_was_sent(tmp_path):
    """A reply that nobody got, since a worker died or Postfix had gone, is given once more; one that was sent is not."""
    policy, headers = Policy.from_json(POLICY), Latest(mmap.mmap(-1, 80))
    relay = {"client_address": "192.0.2.53", "instance": "sent"}

    async def ask(*, arrives, dies=False):
        sent = []
        left = Writer(tmp_path / "results")

        def send(octets):
            # What a worker that starts at this moment would know.
            assert list(headers) == given_before
            if dies:
                raise SystemExit
            sent.append(octets)
            return arrives

        given_before = list(headers)
        # A worker of its own each time, with what outlives one.
        with contextlib.suppress(SystemExit):
            kept = {"deferrals": Deferrals(tmp_path / "deferrals", 0), "counts": Counts(tmp_path / "counts", print)}
            kept |= {"lookups": Lookups(Resolver(configure=False))}
            await Server(policy, Evaluator(kept["lookups"]), headers, left, **kept).action(relay, send)
        return [one.split()[0] for one in actions(b"".join(sent))]

    async def run():
        assert await ask(arrives=True, dies=True) == []
        assert await ask(arrives=False) == ["PREPEND"]
        assert await ask(arrives=True) == ["PREPEND"]
        assert await ask(arrives=True) == ["DUNNO"]

    asyncio.run(run())


def test_a_peer_that_has_gone_gets_the_header_on_its_next_connection(program, names):
    """Postfix that gave up waiting asks again."""
    server, _ = names
    gone = request(helo="silent.example", queue_id="4gXgone", instance="gone")
    asked = len(server.asked)
    with program.connect() as connection:
        connection.sendall(gone)
        wait_for(lambda: "silent.example TXT" in server.asked[asked:], "the request is not in hand")
    wait_for(lambda: any("4gXgone: " in line for line in program.log()), "the request is not decided")
    assert [one.split()[0] for one in actions(program.ask(gone * 2))] == ["PREPEND", "DUNNO"]


BROKEN = {
    "another protocol": b"GET / HTTP/1.0\r\n\r\n",
    "no attribute": b"a=1\nnonsense\n\n",
    "empty": b"\n\n",
    "endless": b"a=" + b"x" * 3 * policy_protocol.MAX_REQUEST,
    "octets": bytes(range(256)) + b"\n\n",
}


@pytest.mark.parametrize("nonsense", BROKEN.values(), ids=BROKEN.keys())
@pytest.mark.parametrize("name", ["postfix", "results.sock"])
def test_broken_peer_is_cut_off(program, name, nonsense):
    """A peer that does not speak the protocol gets the replies that it is due and no others, and the rest goes on."""
    with program.connect() as another:
        due = program.ask(request(), name)
        assert due
        with program.connect(name) as connection, connection.makefile("rb") as stream:
            connection.sendall(request())
            assert stream.read(len(due)) == due
            with contextlib.suppress(ConnectionError):
                connection.sendall(nonsense + request())
                assert stream.read() == b""
        another.sendall(b"request=healthcheck\n\n")
        assert another.recv(100) == b"action=OK\n\n"


def test_sockets_are_open_to_their_group_only(program):
    """Others may not connect."""
    for name in ("postfix", "results.sock"):
        mode = (program.directory / name).stat().st_mode
        assert (stat.S_ISSOCK(mode), stat.S_IMODE(mode)) == (True, 0o770)


def test_nobody_waits_for_another(names, tmp_path):
    """While the DNS of 100 connections' messages is silent, 200 others are answered."""
    program = Program(tmp_path, names[1], seconds=60.0)
    with contextlib.ExitStack() as open_connections:
        open_connections.callback(program.end, signal.SIGKILL)
        program.wait_ready()
        waiting, others = (
            [open_connections.enter_context(program.connect()) for _ in range(count)] for count in (100, 200)
        )
        for at, one in enumerate(waiting):
            one.sendall(request(f"{at}@silent.example"))
        for one in others:
            one.sendall(request())
        for one in others:
            assert one.recv(1000).startswith(b"action=PREPEND Received-SPF: Pass ")
        for one in waiting:
            one.setblocking(False)
            with pytest.raises(BlockingIOError):
                one.recv(1000)


def test_a_worker_that_dies_is_replaced(program):
    """While the worker is killed again and again, every connection is answered, and no message gets a second header."""
    begun = request(instance="begun")
    assert actions(program.ask(begun))[0].startswith("PREPEND Received-SPF: Pass ")
    with program.connect() as idle:
        for _ in range(2):
            killed = program.worker()
            os.kill(killed, signal.SIGKILL)
            assert actions(program.ask(request("a@fail.example")))[0].startswith("550 5.7.23 ")
            assert program.worker() != killed
        assert idle.recv(100) == b""
    assert actions(program.ask(begun)) == ["DUNNO"]
    assert sum("worker was killed by signal 9 (SIGKILL); starting a new one" in line for line in program.log()) == 2


def test_a_worker_that_cannot_start(names, tmp_path):
    """The program ends with its status, and nobody waits at a socket behind which nobody comes."""
    one = Program(tmp_path, names[1], policy={})
    assert one.process.wait(20) == 1
    assert any("KeyError: 'hostname'" in line for line in one.log())
    with pytest.raises(ConnectionRefusedError):
        one.connect()


def test_an_end_writes_what_waits_for_the_log(names, tmp_path):
    """A decision that was answered is in the log, however soon the program was told to end."""
    one = Program(tmp_path, names[1])
    one.wait_ready()
    with one.connect() as connection:
        connection.sendall(request(queue_id="4gX9"))
        assert connection.recv(1000).startswith(b"action=PREPEND Received-SPF: Pass ")
        assert one.end() == 0
    assert sum("4gX9: client=192.0.2.1 " in line for line in one.log()) == 1


def test_results_that_cannot_be_left(names, tmp_path):
    """Whoever wants one asks."""
    (tmp_path / "results").mkdir()
    one = Program(tmp_path, names[1])
    try:
        one.wait_ready()
        asked = request(queue_id="4gX8")
        assert actions(one.ask(asked))[0].startswith("PREPEND Received-SPF: Pass ")
        assert results(one, asked)[0]["evaluation"]["mailfrom"]["result"] == "pass"
        assert (
            sum("cannot write results to shared memory; dmarc uses the socket instead: " in line for line in one.log())
            == 1
        )
    finally:
        one.end()


def test_stop_finishes_what_is_in_hand(own_program, names):
    """On TERM a request in hand is answered, idle connections are closed, and the program ends with 0."""
    with own_program.connect() as busy, own_program.connect() as idle, own_program.connect() as half:
        asked = len(names[0].asked)
        busy.sendall(request("a@silent.example"))
        half.sendall(request()[:-1])
        wait_for(lambda: "silent.example TXT" in names[0].asked[asked:], "the request is not in hand")
        own_program.process.terminate()
        assert idle.recv(1000) == b""
        assert half.recv(1000) == b""
        assert busy.recv(1000).startswith(b"action=DEFER_IF_PERMIT 4.7.24 ")
        assert busy.recv(1000) == b""
    assert own_program.process.wait(10) == 0


def test_stale_sockets_are_taken_over(own_program, names, tmp_path):
    """After a kill of everything the paths that were left behind are no obstacle; a living server's are."""
    second = Program(tmp_path, names[1])
    assert second.end(0) == 1
    assert any("socket is already in use" in line for line in own_program.log())
    assert actions(own_program.ask(request(client="127.0.0.1"))) == ["DUNNO"]
    assert own_program.end(signal.SIGKILL) == -signal.SIGKILL
    assert (tmp_path / "postfix").is_socket()
    third = Program(tmp_path, names[1])
    try:
        third.wait_ready()
    finally:
        assert third.end() == 0
