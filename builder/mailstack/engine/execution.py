"""Commands in running containers, by the engine's API."""

import socket
import struct
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

import docker

from mailstack.engine.connection import Failure, reason
from mailstack.errors import EngineError

# Longer than any command that is run here.
_SECONDS = 180
# Engine API, "Attach to a container": what each frame of the stream begins with, and the number of stdout.
_HEADER = struct.Struct(">BxxxL")
_STDOUT = 1


def run(
    client: docker.DockerClient, container: str, command: Sequence[str], *, stdin: bytes | None = None, user: str = ""
) -> bytes:
    """Run a command in a container; its stdout. Raises EngineError with what it said if it fails.

    The SDK's exec_run loses output that the engine sends before the SDK has read the head of the answer: it goes on
    below the buffer that this was read into.
    """
    # Its types leave out what it does with requests of its own.
    api: Any = client.api
    try:
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
        status = api.exec_inspect(started)["ExitCode"]
    except (*Failure, OSError) as error:
        raise EngineError(f"{' '.join(command)}: {reason(error)}") from None
    if status:
        said = b"".join(content for _, content in frames).decode(errors="replace").strip()
        raise EngineError(f"{' '.join(command)}: exit {status}: {said}")
    return b"".join(content for kind, content in frames if kind == _STDOUT)


def _frames(stream: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """The stream's number and the content of each frame."""
    while header := stream.read(_HEADER.size):
        kind, size = _HEADER.unpack(header)
        yield kind, stream.read(size)
