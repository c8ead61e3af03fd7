"""What services wrote to their logs, as the engine keeps it: read as a stream, since there may be hundreds of MB."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import docker

from mailstack.engine.connection import Failure, reason
from mailstack.engine.execution import FRAME
from mailstack.engine.status import every_container
from mailstack.errors import EngineError

# The kind of frame in which the engine says that it cannot go on.
_SYSTEM = 3
_CHUNK = 1 << 18
# The engine splits longer lines than 16 kB; of such a line so much is kept.
_MAX_LINE = 1 << 17


class Line(NamedTuple):
    """A line of a log: when the engine got it, as RFC 3339 has it, in UTC and of a fixed width; and what it says."""

    time: str
    text: bytes


@dataclass(frozen=True)
class Log:
    """The log of a service; its container may be stopped."""

    client: docker.DockerClient
    service: str
    container: str

    def lines(self, since: float = 0, last: int | None = None) -> Iterator[Line]:
        """The lines from a time on, in seconds since 1970, the oldest first, or of these so many of the last ones.

        Raises EngineError where reading ends.
        """
        # The SDK's types leave out what it does with requests of its own; its logs() reads two pieces for each line.
        api: Any = self.client.api
        tail = "all" if last is None else last
        wanted = {"stdout": 1, "stderr": 1, "timestamps": 1, "follow": 0, "tail": tail, "since": f"{since:.9f}"}
        url = api._url("/containers/{0}/logs", self.container)  # noqa: SLF001
        try:
            with api._get(url, params=wanted, stream=True) as answer:  # noqa: SLF001
                api._raise_for_status(answer)  # noqa: SLF001
                yield from _lines(_frames(answer.iter_content(_CHUNK)))
        except Failure as error:
            raise EngineError(f"the log of {self.service} cannot be read: {reason(error)}") from None
        except ValueError as error:
            raise EngineError(f"the log of {self.service} cannot be read: {error}") from None

    def begins(self) -> str | None:
        """The time of the first line that is kept; None for an empty log."""
        lines = self.lines()
        try:
            return next((line.time for line in lines), None)
        finally:
            lines.close()  # type: ignore[attr-defined]


def logs(client: docker.DockerClient, project: str, services: Sequence[str]) -> dict[str, Log]:
    """The log of each service that has a container, be it running or not."""
    there = every_container(client, project)
    return {one: Log(client, one, there[one]) for one in services if one in there}


def _frames(chunks: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """The kind and the content of each frame."""
    left = b""
    for chunk in chunks:
        data, at = left + chunk, 0
        while at + FRAME.size <= len(data):
            if data[at] > _SYSTEM:
                raise ValueError("it is the output of a terminal (tty: true in compose.override.yaml)")
            kind, size = FRAME.unpack_from(data, at)
            end = at + FRAME.size + size
            if end > len(data):
                break
            yield kind, data[at + FRAME.size : end]
            at = end
        left = data[at:]


def _lines(frames: Iterable[tuple[int, bytes]]) -> Iterator[Line]:
    """Whole lines. Of a long one the engine sends parts, each with the time of the line."""
    begun: dict[int, tuple[bytes, bytes]] = {}
    for kind, content in frames:
        if kind == _SYSTEM:
            raise ValueError(content.decode(errors="replace").strip())
        time, _, text = content.partition(b" ")
        if kind in begun:
            time, before = begun.pop(kind)
            text = before + text if len(before) < _MAX_LINE else before + text[-1:]
        if text.endswith(b"\n"):
            yield Line(time.decode("ascii", "replace"), text[:-1])
        else:
            begun[kind] = time, text
    for time, text in begun.values():
        yield Line(time.decode("ascii", "replace"), text)
