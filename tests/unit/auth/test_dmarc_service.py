"""mailstack_auth.dmarc.service and supervisor: the running program."""

import asyncio
import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import mailstack_auth
from mailstack.world.containers import wait_for
from mailstack_auth.header.fields import Field
from mailstack_auth.runtime import supervisor
from unit.auth.postfix import FROM_A, INTERNAL_ID, OUR_ID, TROUBLE, Postfix, Sent, close, plain, running
from unit.auth.test_milter import END, NEGOTIATED, NEGOTIATION, packet, replies

# The program itself; its paths are the test's.
PROGRAM = """
import sys, time
from pathlib import Path
from mailstack_auth.dmarc import service
from mailstack_auth.runtime import supervisor
from mailstack_auth.submission import judges

directory = Path(sys.argv[1])
service.DEFERRALS, service.COUNTS = directory / "deferrals.json", directory / "counts.json"
service.SPF_RESULTS, service.SPF_SOCKET = directory / "results", directory / "results.sock"
service.CONFIGURATION = directory / "dmarc.json"
service.INTERNAL_ID = directory / "authserv-id"


def hangs(fields, looked_for=judges.author_domain):
    # What nobody has thought of: one call that never ends and lets nothing else work, as an endless look-up in C does.
    (value,) = [one.value for one in fields if one.name == b"From"] or [b""]
    return sum(iter(int, 1)) if b"endless" in value else looked_for(fields)


judges.author_domain, supervisor._MAX_SECONDS = hangs, float(sys.argv[2])
supervisor.main("mailstack_auth.dmarc.service", *(f"{directory}/{name}.sock" for name in ("outside", "inside", "signed")))
"""


@pytest.fixture
def program(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[bytes]]:
    """The running program: supervisor and worker, without a policyd-spf; how long a worker may sleep, in seconds."""
    configuration = {"hostname": OUR_ID}
    names = ("local_domains", "signed", "signed_below", "junk", "extended", "skip_networks", "skip_domains")
    lists: dict[str, list[str]] = {name: [] for name in names}
    (tmp_path / "dmarc.json").write_text(json.dumps(configuration | lists))
    (tmp_path / "authserv-id").write_text(f"{INTERNAL_ID}\n")
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(tmp_path), str(getattr(request, "param", 60))],
            stdout=log,
            stderr=log,
            env=os.environ | {"PYTHONPATH": str(Path(mailstack_auth.__file__).parents[1])},
            start_new_session=True,
        )
    yield process
    # The worker, too.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(10)


def test_the_program(program, tmp_path):
    """It serves both roles; a worker that dies is replaced; on TERM a message in hand is finished, and it ends with 0."""
    inside, outside = (Postfix(tmp_path / f"{name}.sock") for name in ("inside", "outside"))
    wait_for((tmp_path / "inside.sock").is_socket, "the program does not start")
    assert asyncio.run(inside.hand_on(plain("a.example"))).reply is None
    assert asyncio.run(outside.hand_on(plain("a.example"))).reply == TROUBLE
    assert asyncio.run(outside.hand_on(Sent(()))).reply == "550 5.7.1 the message has no From field"
    (worker,) = Path(f"/proc/{program.pid}/task/{program.pid}/children").read_text().split()
    os.kill(int(worker), signal.SIGKILL)
    assert asyncio.run(inside.hand_on(plain("a.example"))).reply is None
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(str(tmp_path / "inside.sock"))
        octets = NEGOTIATION + plain("a.example").packets()
        connection.sendall(octets[: -len(END)])
        stream = connection.makefile("rb")
        # The reply to the negotiation: what came with it is in hand.
        assert replies(stream.read(4 + len(NEGOTIATED)))[0][:1] == b"O"
        program.terminate()
        connection.sendall(END)
        assert replies(stream.read())[-1] == b"a"
    assert program.wait(10) == 0
    assert (tmp_path / "log").read_text().count("worker was killed by signal 9 (SIGKILL); starting a new one") == 1


def served(postfix: Postfix) -> bool:
    """Whether a message is accepted now."""
    try:
        return asyncio.run(postfix.hand_on(plain("a.example"))).reply is None
    except (ConnectionError, TimeoutError, ValueError):
        return False


def test_a_worker_that_answers_nobody_is_replaced(program, tmp_path):
    """Within seconds others are served again, and the log says what it did."""
    inside = Postfix(tmp_path / "inside.sock")
    wait_for((tmp_path / "inside.sock").is_socket, "the program does not start")
    assert asyncio.run(inside.hand_on(plain("a.example"))).reply is None
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(tmp_path / "inside.sock"))
        connection.sendall(NEGOTIATION + plain("endless.example").packets())
        log = tmp_path / "log"
        wait_for(
            lambda: "worker used 2 s of processor time without a reply; starting a new one" in log.read_text(),
            "it is not replaced",
        )
        # A connection that the worker had already accepted ends with it; Postfix defers, and the sender retries.
        wait_for(lambda: served(inside), "nobody is served")
    assert "in hangs" in log.read_text()


def test_much_work_at_once_is_no_fault(program, tmp_path):
    """Messages that each take their time may all come in one turn of the loop: nobody is cut off for that."""
    wait_for((tmp_path / "outside.sock").is_socket, "the program does not start")
    # Comments are what takes longest of two megabytes of header.
    heavy = [Field(b"Authentication-Results", b" ()" * 17_900)] * 36
    sent = plain("a.example", *heavy)
    rest = packet(b"B", sent.body) + END
    begin = NEGOTIATION + sent.packets().removesuffix(rest)
    with contextlib.ExitStack() as open_ones:
        connections = [open_ones.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(24)]
        for one in connections:
            one.settimeout(60)
            one.connect(str(tmp_path / "outside.sock"))
            one.sendall(begin)
        wait_for(lambda: not any(map(unread, connections)), "the headers are not read")
        for one in connections:
            one.sendall(rest)
        # Without a policyd-spf each waits.
        assert {replies_of(one)[-1][:4] for one in connections} == {b"y451"}
    assert "worker" not in (tmp_path / "log").read_text()


def unread(connection):
    """How many octets the other side has not read yet (unix(7), SIOCOUTQ)."""
    return int.from_bytes(fcntl.ioctl(connection, termios.TIOCOUTQ, bytes(4)), sys.byteorder)


def replies_of(connection):
    """What comes until the message is answered."""
    connection.shutdown(socket.SHUT_WR)
    return replies(connection.makefile("rb").read())


def test_a_pause_of_all_is_no_fault(program, tmp_path):
    """A container or machine that was paused goes on with the worker that it had."""
    wait_for((tmp_path / "inside.sock").is_socket, "the program does not start")
    inside = Postfix(tmp_path / "inside.sock")
    wait_for(lambda: served(inside), "nobody is served")
    watch = supervisor._Watch()
    paused = time.monotonic() + 10 * supervisor._MAX_SECONDS
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "monotonic", lambda: paused)
        assert not watch.stuck()


@pytest.mark.parametrize("program", [3], indirect=True)
def test_a_worker_that_is_stopped_is_replaced(program, tmp_path):
    """It takes no processor time, and answers nobody either."""
    inside = Postfix(tmp_path / "inside.sock")
    wait_for((tmp_path / "inside.sock").is_socket, "the program does not start")
    assert asyncio.run(inside.hand_on(plain("a.example"))).reply is None
    (worker,) = Path(f"/proc/{program.pid}/task/{program.pid}/children").read_text().split()
    os.kill(int(worker), signal.SIGSTOP)
    wait_for(lambda: served(inside), "nobody is served")
    assert "worker was killed by signal 9 (SIGKILL); starting a new one" in (tmp_path / "log").read_text()


def test_a_peer_that_is_no_postfix(tmp_path):
    """It is cut off, and others are none the worse."""

    async def hand_on():
        async with running(tmp_path) as one:
            stream, sink = await asyncio.open_unix_connection(str(tmp_path / "outside"))
            sink.write(b"GET / HTTP/1.0\r\n\r\n")
            assert await stream.read() == b""
            await close(sink)
            return await one.outside.hand_on(plain("a.example", **FROM_A))

    assert asyncio.run(hand_on()).results()[-1] == "dmarc=pass"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, "exited with status 0"),
        (1, "exited with status 1"),
        (-9, "was killed by signal 9 (SIGKILL)"),
        (-signal.SIGPROF, "used 2 s of processor time without a reply"),
        (-63, "was killed by signal 63 (no name)"),
    ],
)
def test_how_a_worker_ended(code: int, words: str) -> None:
    """The log says it in words, for signals without a name too."""
    assert supervisor._ending(code) == words
