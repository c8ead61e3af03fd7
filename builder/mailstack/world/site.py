"""A stack of the world, in a directory of its own: rendered as a user's would be, driven by docker compose."""

import io
import json
import os
import subprocess
import tarfile
from collections.abc import Callable, Mapping
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path

from mailstack import compose
from mailstack.errors import EngineError
from mailstack.stack.model import Stack
from mailstack.stack.services import SERVICES
from mailstack.tasks import build as deploy
from mailstack.tasks import written
from mailstack.world.containers import wait_for

_COMPOSE_SECONDS = 180
_FILES = ("-f", "compose.yaml", "-f", "compose.override.yaml", "-f", "compose.place.yaml")


class Site:
    """One deployment. The environment is what its .env would hold; place is compose's YAML that ties it to a world."""

    def __init__(self, directory: Path, environment: Mapping[str, str], *, place: str, override: str) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "compose.place.yaml").write_text(place)
        (directory / "compose.override.yaml").write_text(override or "services: {}\n")
        self.build(environment)

    def build(self, environment: Mapping[str, str], *, refresh: bool = False) -> None:
        """What "mailstack build" does."""
        self.environment = dict(environment)
        self.stack: Stack = deploy.build(self.directory, environment, refresh=refresh).stack

    def up(self) -> None:
        """Start, or recreate what has changed, and wait until every service is healthy."""
        self.compose("up", "--detach", "--wait")

    def down(self) -> None:
        """Remove everything, the mail included."""
        self.compose("down", "--volumes", "--timeout", "5")

    def compose(self, *arguments: str, stdin: bytes | None = None) -> bytes:
        """Run docker compose in the directory; its stdout. Raises EngineError with its stderr if it fails."""
        done = subprocess.run(
            [*compose.command(), *_FILES, *arguments],
            cwd=self.directory,
            env={key: value for key, value in os.environ.items() if not key.startswith(("COMPOSE_", "MAILSTACK_"))},
            input=stdin if stdin is not None else b"",
            capture_output=True,
            timeout=_COMPOSE_SECONDS,
            check=False,
        )
        if done.returncode:
            said = (done.stderr + done.stdout).decode(errors="replace").strip()
            raise EngineError(f"docker compose {' '.join(arguments)}: exit {done.returncode}: {said}")
        return done.stdout

    def run(self, service: str, *command: str, stdin: bytes | None = None) -> bytes:
        """Run a command in a running container."""
        return self.compose("exec", "--no-TTY", service, *command, stdin=stdin)

    def states(self) -> dict[str, tuple[str, str, int]]:
        """Of each service: the container's state, its health and its exit code."""
        rows = self.compose("ps", "--all", "--format", "json").decode().splitlines()
        return {row["Service"]: (row["State"], row["Health"], row["ExitCode"]) for row in map(json.loads, rows)}

    def healthy(self) -> bool:
        """Whether every service runs and is healthy."""
        states = self.states()
        return states.keys() == set(SERVICES) and all(one[:2] == ("running", "healthy") for one in states.values())

    def container(self, service: str) -> str:
        """The id of a service's container."""
        return self.compose("ps", "--all", "--quiet", service).decode().strip()

    def sendmail(self, message: bytes, *arguments: str) -> None:
        """Hand a message to the local sendmail, as root."""
        self.run("postfix", "sendmail", *arguments, stdin=message)

    def file(self, service: str, path: str) -> Path:
        """The host's file that a service's container is to have at a path."""
        (place,) = [one for one in written.read(self.directory).places if f"/{service}/" in one]
        return self.directory / place / path

    def log(self, *services: str) -> list[str]:
        """The log lines of services, the name of the service before each."""
        return self.compose("logs", "--no-color", *services).decode(errors="replace").splitlines()

    def mail(self, mailbox: str, folder: str = "") -> list[bytes]:
        """The messages that were delivered to a mailbox, as they lie in its Maildir or in a folder of it (".Junk")."""
        local, _, domain = mailbox.rpartition("@")
        path = f"/var/vmail/{domain}/{local}/Maildir/{folder}/new"
        # "cp" is a tar of the directory; there is none before the first delivery.
        try:
            archive = self.compose("cp", f"postfix:{path}", "-")
        except EngineError:
            return []
        with tarfile.open(fileobj=io.BytesIO(archive)) as files:
            found = [
                files.extractfile(one) for one in sorted(files.getmembers(), key=lambda one: one.name) if one.isfile()
            ]
            return [one.read() for one in found if one is not None]

    def wait_for_mail(self, mailbox: str, wanted: Callable[[EmailMessage], bool], folder: str = "") -> bytes:
        """Wait for a message in a mailbox; its octets."""

        def arrived() -> bytes | None:
            return next((one for one in self.mail(mailbox, folder) if wanted(parse(one))), None)

        return wait_for(arrived, f"no such message arrived for {mailbox}")


def parse(message: bytes) -> EmailMessage:
    """The message as Python's parser of RFC 5322 sees it."""
    return message_from_bytes(message, policy=policy.SMTP)
