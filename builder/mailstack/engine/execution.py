"""Commands in running containers, by the engine's API."""

import contextlib
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO, NamedTuple

import docker

from mailstack.engine.connection import Failure, reason
from mailstack.errors import EngineError

# Longer than any command that is run here.
_SECONDS = 180
_PAUSE_SECONDS = 0.01
# Engine API, "Attach to a container": what each frame of the stream begins with, and the number of stdout.
FRAME = struct.Struct(">BxxxL")
_STDOUT = 1


class Answer(NamedTuple):
    """How a command ended, what it wrote to stdout, and that with what it wrote to stderr."""

    status: int
    stdout: bytes
    said: bytes


def run(
    client: docker.DockerClient, container: str, command: Sequence[str], *, stdin: bytes | None = None, user: str = ""
) -> bytes:
    """Run a command in a container; its stdout. Raises EngineError with what it said if it fails."""
    try:
        answer = ask(client, container, command, stdin=stdin, user=user)
    except (*Failure, OSError) as error:
        raise EngineError(f"{' '.join(command)}: {reason(error)}") from None
    if answer.status:
        said = answer.said.decode(errors="replace").strip()
        raise EngineError(f"{' '.join(command)}: exit {answer.status}: {said}")
    return answer.stdout


def ask(
    client: docker.DockerClient, container: str, command: Sequence[str], *, stdin: bytes | None = None, user: str = ""
) -> Answer:
    """Run a command in a container. Raises one of Failure, or OSError, where it cannot be run.

    The SDK's exec_run loses output that the engine sends before the SDK has read the head of the answer: it goes on
    below the buffer that this was read into.
    """
    # Its types leave out what it does with requests of its own.
    api: Any = client.api
    started = api.exec_create(container, list(command), stdin=stdin is not None, user=user)["Id"]
    with _stream(api, f"/exec/{started}/start", {"Tty": False, "Detach": False}) as (link, stream):
        link.settimeout(_SECONDS)
        if stdin is not None:
            link.sendall(stdin)
            link.shutdown(socket.SHUT_WR)
        frames = list(_frames(stream))
    return Answer(
        _status(api, started),
        b"".join(content for kind, content in frames if kind == _STDOUT),
        b"".join(content for _, content in frames),
    )


@contextlib.contextmanager
def attached(client: docker.DockerClient, container: str) -> Iterator[Iterator[tuple[bool, bytes]]]:
    """What a container writes from now on, piece by piece, each with whether it is stdout's. It need not run yet."""
    with _stream(client.api, f"/containers/{container}/attach?stream=1&stdout=1&stderr=1", None) as (link, stream):
        # It may say nothing for a long time; when it ends, so does the stream.
        link.settimeout(None)
        yield ((kind == _STDOUT, content) for kind, content in _frames(stream))


@contextlib.contextmanager
def _stream(api: Any, path: str, data: Any) -> Iterator[tuple[socket.socket, BinaryIO]]:  # noqa: ANN401
    """The connection that a request becomes, and what comes by it behind the head of the answer."""
    upgrade = {"Connection": "Upgrade", "Upgrade": "tcp"}
    answer = api._post_json(api._url(path), headers=upgrade, data=data, stream=True)  # noqa: SLF001
    with answer:
        api._raise_for_status(answer)  # noqa: SLF001
        stream: BinaryIO = answer.raw._fp.fp  # noqa: SLF001
        link: socket.socket = stream.raw._sock  # type: ignore[attr-defined]  # noqa: SLF001
        yield link, stream


def _status(api: Any, started: str) -> int:  # noqa: ANN401
    """The exit status, which the engine may know a little later than the end of the output."""
    end = time.monotonic() + _SECONDS
    while (found := api.exec_inspect(started)["ExitCode"]) is None and time.monotonic() < end:
        time.sleep(_PAUSE_SECONDS)
    if found is None:
        raise TimeoutError("the command did not end in time")
    return int(found)


def _frames(stream: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """The stream's number and the content of each frame."""
    while header := stream.read(FRAME.size):
        kind, size = FRAME.unpack(header)
        yield kind, stream.read(size)
