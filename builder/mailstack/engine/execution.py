"""Commands in running containers, by the engine's API."""

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
_HEADER = struct.Struct(">BxxxL")
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
    upgrade = {"Connection": "Upgrade", "Upgrade": "tcp"}
    url = api._url("/exec/{0}/start", started)  # noqa: SLF001
    answer = api._post_json(url, headers=upgrade, data={"Tty": False, "Detach": False}, stream=True)  # noqa: SLF001
    with answer:
        api._raise_for_status(answer)  # noqa: SLF001
        stream: BinaryIO = answer.raw._fp.fp  # noqa: SLF001
        link: socket.socket = stream.raw._sock  # type: ignore[attr-defined]  # noqa: SLF001
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
    while header := stream.read(_HEADER.size):
        kind, size = _HEADER.unpack(header)
        yield kind, stream.read(size)
