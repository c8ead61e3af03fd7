"""A stack of the world, in a directory of its own: rendered as a user's would be, and brought up by docker compose.

Compose changes what runs. Who only looks, or runs a command in a container, asks the engine itself: the docker command
costs a fifth of a second of CPU each time.
"""

import contextlib
import os
import subprocess
import tarfile
from collections.abc import Callable, Mapping
from email import message_from_bytes, policy
from email.message import EmailMessage
from io import BytesIO
from pathlib import Path
from typing import Any

import docker.errors

from mailstack import compose
from mailstack.engine import connection, execution
from mailstack.engine.connection import Failure, reason
from mailstack.engine.status import PROJECT, every_container
from mailstack.errors import EngineError
from mailstack.stack.model import Stack
from mailstack.stack.services import service_names
from mailstack.tasks import build as deploy
from mailstack.tasks import written
from mailstack.tasks.status import status
from mailstack.world.containers import wait_for

_COMPOSE_SECONDS = 180
_START_SECONDS = 60
_FILES = ("-f", "compose.yaml", "-f", "compose.override.yaml", "-f", "compose.place.yaml")


class Site:
    """One deployment. The environment is what its .env would hold; place is compose's YAML that ties it to a world.

    The prefix of its compose project keeps it apart from a stack of the same host name in another world, or outside.
    """

    def __init__(
        self, directory: Path, environment: Mapping[str, str], *, place: str, override: str, prefix: str = ""
    ) -> None:
        self.directory = directory
        self._prefix = prefix
        self._client = connection.connect()
        # What is in a Maildir's "new" never changes: the messages that were read there, by path and name.
        self._read: dict[str, dict[str, bytes]] = {}
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "compose.place.yaml").write_text(place)
        (directory / "compose.override.yaml").write_text(override or "services: {}\n")
        self.build(environment)

    def build(self, environment: Mapping[str, str], *, refresh: bool = False) -> None:
        """What "mailstack build" does."""
        self.environment = dict(environment)
        done = deploy.build(self.directory, environment, refresh=refresh, prefix=self._prefix)
        self.stack: Stack = done.stack

    def status(self) -> dict[str, Any]:
        """What "mailstack status --json" shows."""
        return status(self.directory, self.environment, prefix=self._prefix)[0]

    def up(self) -> None:
        """Start, or recreate what has changed, and wait until every service is healthy.

        Compose's own wait ends with the first check that fails, as one may while much else starts.
        """
        self.compose("up", "--detach")
        self.wait_healthy(_START_SECONDS)

    def down(self) -> None:
        """Remove everything, the mail included."""
        self.remove_containers("--volumes", "--remove-orphans", "--timeout", "5")
        self.remove_volumes()

    def remove_containers(self, *options: str) -> None:
        """What "docker compose down" does. Raises EngineError with its stderr if it fails."""
        try:
            self.compose("down", *options)
        except EngineError as error:
            # Engines of the release 20.10 can lose count of a network's end points where several containers start or
            # end at once (moby/moby issue 43286). The network stays until the engine restarts, and can be used.
            if "has active endpoints" not in str(error) or self.containers():
                raise

    def remove_volumes(self) -> None:
        """Remove the mail and whatever else was kept, also what compose.yaml does not name any more."""
        label = f"{PROJECT}={self.stack.project}"
        try:
            for volume in self._client.volumes.list(filters={"label": label}):
                with contextlib.suppress(docker.errors.NotFound):
                    volume.remove()
        except Failure as error:
            raise EngineError(f"volumes of {self.stack.project}: {reason(error)}") from None

    def compose(self, *arguments: str) -> bytes:
        """Run docker compose in the directory; its stdout. Raises EngineError with its stderr if it fails."""
        done = subprocess.run(
            [*compose.command(), *_FILES, *arguments],
            cwd=self.directory,
            env={key: value for key, value in os.environ.items() if not key.startswith(("COMPOSE_", "MAILSTACK_"))},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_COMPOSE_SECONDS,
            check=False,
        )
        if done.returncode:
            said = (done.stderr + done.stdout).decode(errors="replace").strip()
            raise EngineError(f"docker compose {' '.join(arguments)}: exit {done.returncode}: {said}")
        return done.stdout

    def run(self, service: str, *command: str, stdin: bytes | None = None, user: str = "") -> bytes:
        """Run a command in a running container; its stdout. Raises EngineError with what it said if it fails."""
        return execution.run(self._client, self.container(service), command, stdin=stdin, user=user)

    def containers(self) -> dict[str, str]:
        """The id of each service's container, whatever its state is."""
        return every_container(self._client, self.stack.project)

    def container(self, service: str) -> str:
        """The id of a service's container. Raises EngineError if there is none."""
        found = self.containers().get(service)
        if found is None:
            raise EngineError(f"there is no container of {service}")
        return found

    def states(self) -> dict[str, tuple[str, str, int]]:
        """Of each service: the container's state, its health and its exit code."""
        found = {}
        for service, container in self.containers().items():
            try:
                state = self._client.api.inspect_container(container)["State"]
            except Failure as error:
                raise EngineError(f"{service}: {reason(error)}") from None
            found[service] = (state["Status"], state.get("Health", {}).get("Status", ""), state["ExitCode"])
        return found

    def healthy(self) -> bool:
        """Whether every service runs and is healthy; one of the override need not have a health check."""
        states, wanted = self.states(), set(service_names(self.stack))
        return states.keys() >= wanted and all(
            state == "running" and (health == "healthy" or (service not in wanted and not health))
            for service, (state, health, _) in states.items()
        )

    def wait_healthy(self, seconds: float) -> None:
        """Wait until every service is healthy. Raises EngineError with the states of all when time is up."""

        def healthy() -> bool:
            if not self.healthy():
                raise EngineError(f"{self.states()}")
            return True

        wait_for(healthy, "not every service became healthy", seconds)

    def sendmail(self, message: bytes, *arguments: str) -> None:
        """Hand a message to the local sendmail, as root."""
        self.run("postfix", "sendmail", *arguments, stdin=message)

    def file(self, service: str, path: str) -> Path:
        """The host's file that a service's container is to have at a path."""
        (place,) = [one for one in written.read(self.directory).places if f"/{service}/" in one]
        return self.directory / place / path

    def log(self, *services: str) -> list[str]:
        """The log lines of services, of all if none is named, the name of the service before each."""
        containers = self.containers()
        lines = []
        for service in services or containers:
            try:
                text: bytes = self._client.api.logs(containers[service])
            except KeyError:
                continue
            except Failure as error:
                raise EngineError(f"{service}: {reason(error)}") from None
            lines += [f"{service}  | {line}" for line in text.decode(errors="replace").splitlines()]
        return lines

    def mail(self, mailbox: str, folder: str = "") -> list[bytes]:
        """The messages that were delivered to a mailbox, as they lie in its Maildir or in a folder of it (".Junk")."""
        local, _, domain = mailbox.rpartition("@")
        path = f"/var/vmail/{domain}/{local}/Maildir/{folder}/new"
        # There is no directory before the first delivery.
        names = sorted(self.run("postfix", "sh", "-c", 'ls "$0" 2>/dev/null || true', path).decode().split())
        read = self._read.setdefault(path, {})
        fresh = "\n".join(name for name in names if name not in read)
        if fresh:
            archive = self.run("postfix", "tar", "-c", "-C", path, "-T", "-", stdin=fresh.encode())
            with tarfile.open(fileobj=BytesIO(archive)) as files:
                read |= {one.name: content.read() for one in files if (content := files.extractfile(one))}
        return [read[name] for name in names]

    def wait_for_mail(self, mailbox: str, wanted: Callable[[EmailMessage], bool], folder: str = "") -> bytes:
        """Wait for a message in a mailbox; its octets."""
        others: set[bytes] = set()

        def arrived() -> bytes | None:
            for one in reversed(self.mail(mailbox, folder)):
                if one not in others:
                    if wanted(parse(one)):
                        return one
                    others.add(one)
            return None

        return wait_for(arrived, f"no such message arrived for {mailbox}")


def parse(message: bytes) -> EmailMessage:
    """The message as Python's parser of RFC 5322 sees it."""
    return message_from_bytes(message, policy=policy.SMTP)
