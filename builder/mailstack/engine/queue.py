"""Postfix's queue, by its own commands in its container (postqueue(1), postsuper(1), postcat(1))."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import docker

from mailstack.engine import execution
from mailstack.engine.status import containers
from mailstack.errors import EngineError


@dataclass(frozen=True)
class Recipient:
    """An address that a message waits for, and why; the reason is empty where there was no try yet."""

    address: str
    reason: str


@dataclass(frozen=True)
class Waiting:
    """A message in one of Postfix's queues (qmgr(8)): arrived in seconds since 1970, size in octets."""

    id: str
    queue: str
    arrived: int
    size: int
    sender: str
    recipients: tuple[Recipient, ...]


class Queue:
    """The queue of a site that runs. Each method raises EngineError where Postfix cannot be asked."""

    def __init__(self, client: docker.DockerClient, project: str) -> None:
        found = containers(client, project, "postfix")
        if not found:
            raise EngineError(f"postfix of {project} does not run; run: docker compose up -d --wait")
        self._client = client
        self._container = str(found[0].id)

    def messages(self) -> list[Waiting]:
        """All that wait, the oldest first."""
        # A JSON object on each line.
        found = [_waiting(json.loads(line)) for line in self._run(["postqueue", "-j"]).splitlines()]
        return sorted(found, key=lambda one: (one.arrived, one.id))

    def places(self, queue_ids: Iterable[str]) -> dict[str, tuple[str, float]]:
        """In which queue each of these lies that has not left yet; and the time of its file, in seconds since 1970.

        That of a deferred message is when it is tried again (qmgr(8)).
        """
        wanted = " -o ".join(f"-name {one}" for one in queue_ids).split()
        queues = [f"/var/spool/postfix/{one}" for one in ("incoming", "active", "deferred", "hold")]
        said = self._run(["find", *queues, "-type", "f", "(", *wanted, ")", "-printf", "%f %H %T@\n"])
        rows = [line.split() for line in said.decode("ascii").splitlines()]
        return {name: (queue.rpartition("/")[2], float(time)) for name, queue, time in rows}

    def header(self, queue_id: str) -> bytes:
        """A message's header."""
        return self._run(["postcat", "-hq", queue_id])

    def message(self, queue_id: str) -> bytes:
        """A message as it came, and as the services have changed it."""
        return self._run(["postcat", "-bhq", queue_id])

    def try_all(self) -> None:
        """Let Postfix try to deliver all that is deferred."""
        self._run(["postqueue", "-f"])

    def try_now(self, queue_ids: Iterable[str]) -> None:
        """Let Postfix try to deliver these."""
        self._run(["xargs", "-r", "-n", "1", "postqueue", "-i"], _lines(queue_ids))

    def hold(self, queue_ids: Sequence[str]) -> None:
        """Keep them without a try."""
        self._change("-h", queue_ids)

    def release(self, queue_ids: Sequence[str]) -> None:
        """End that. Postfix itself would wait for their next turn."""
        self._change("-H", queue_ids)
        self.try_now(queue_ids)

    def delete(self, queue_ids: Sequence[str]) -> None:
        """Remove them; nobody is told."""
        self._change("-d", queue_ids)

    def _change(self, option: str, queue_ids: Iterable[str]) -> None:
        self._run(["postsuper", option, "-"], _lines(queue_ids))

    def _run(self, command: Sequence[str], stdin: bytes | None = None) -> bytes:
        return execution.run(self._client, self._container, command, stdin=stdin)


def _lines(queue_ids: Iterable[str]) -> bytes:
    """For a command's stdin: there may be more than a command line takes."""
    return "".join(f"{one}\n" for one in queue_ids).encode()


def _waiting(found: dict[str, Any]) -> Waiting:
    recipients = tuple(Recipient(one["address"], one.get("delay_reason", "")) for one in found["recipients"])
    return Waiting(
        found["queue_id"],
        found["queue_name"],
        int(found["arrival_time"]),
        int(found["message_size"]),
        found["sender"],
        recipients,
    )
