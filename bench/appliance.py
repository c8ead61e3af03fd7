"""What an appliance of env.example costs a host: image sizes, memory, idle CPU, the time to be ready, that of a build.

Run in a checkout as "make figures". It needs a container engine on this host, and ports 25 and 587 free; nothing
else should run. DESIGN's budgets stand beside the figures; exit code 1 if one is not met.
"""

import datetime as dt
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import docker

from bench.accounting import Cgroup
from mailstack import compose
from mailstack.cli.shared import table
from mailstack.engine import connection
from mailstack.render.contexts import image_name
from mailstack.services import SERVICE_NAMES
from mailstack.settings import reference
from mailstack.stack.packages import Packages

_MB = 1e6
_BUILDS = 5
# In seconds: the memory's budget is for this long after the services are healthy, and idle CPU is a mean of so many,
# which are as many as a health check goes on for.
_SETTLED = 60
_IDLE = 300
_FIRST_MESSAGE = b"From: user@example.com\nTo: user@example.com\nSubject: hello\n\nIt works.\n"
_PROJECT = "mail-example-com"


@dataclass(frozen=True)
class Figure:
    """One figure beside its budget, both in the unit; no budget is given for what has none of its own."""

    what: str
    value: float
    unit: str
    budget: float | None = None

    @property
    def met(self) -> bool:
        return self.budget is None or self.value <= self.budget

    def row(self) -> list[str]:
        digits = 2 if self.value < 1 else 1
        budget = "" if self.budget is None else f"≤ {self.budget:g} {self.unit}"
        return [self.what, f"{self.value:.{digits}f} {self.unit}", budget, "" if self.met else "not met"]


def main() -> int:
    """Measure, print a table for README, and say by the exit code whether all budgets are met."""
    client = connection.connect()
    with tempfile.TemporaryDirectory(prefix="mailstack-") as name:
        directory = Path(name)
        (directory / ".env").write_text(reference.env_example())
        try:
            figures = measure(directory, client)
        finally:
            _run(directory, *compose.command(), "down", "--volumes", check=False)
    rows = [["figure", "measured", "budget", ""], *(one.row() for one in figures)]
    sys.stdout.write(f"{_where(client)}\n\n{table(rows)}")
    return 0 if all(one.met for one in figures) else 1


def measure(directory: Path, client: docker.DockerClient) -> list[Figure]:
    """All figures, in the order in which a newcomer meets them."""
    build = (sys.executable, "-m", "mailstack", "build")
    _run(directory, *build)
    figures = list(_sizes(client))
    again = [_run(directory, *build) for _ in range(_BUILDS)]
    figures.append(Figure(f"build, nothing changed (median of {_BUILDS})", statistics.median(again), "s", 0.5))
    ready = _run(directory, *compose.command(), "up", "--detach", "--wait")
    figures.append(Figure("docker compose up --wait", ready, "s", 5))
    groups = {service: Cgroup.of(client, f"{_PROJECT}-{service}-1") for service in SERVICE_NAMES}
    time.sleep(_SETTLED)
    figures += _each("memory of {}, idle", {one: group.memory().total / _MB for one, group in groups.items()}, "MB", 80)
    before = {service: group.cpu() for service, group in groups.items()}
    time.sleep(_IDLE)
    used = {service: 1000 * (group.cpu() - before[service]) / _IDLE for service, group in groups.items()}
    figures += _each("CPU of {}, idle", used, "ms/s", 4)
    _run(directory, *compose.command(), "exec", "--no-TTY", "postfix", "sendmail", "-t", stdin=_FIRST_MESSAGE)
    time.sleep(_SETTLED)
    after = sum(group.memory().total for group in groups.values()) / _MB
    figures.append(Figure("memory of all, after a message", after, "MB", 70))
    return figures


def _each(what: str, values: Mapping[str, float], unit: str, budget: float) -> list[Figure]:
    """A figure for each service, and their sum beside its budget."""
    each = [Figure(what.format(service), value, unit) for service, value in values.items()]
    return [*each, Figure(what.format("all"), sum(values.values()), unit, budget)]


def _sizes(client: docker.DockerClient) -> list[Figure]:
    budgets = {"postfix": 48, "opendkim": 10}
    packages = Packages("debian:trixie-slim")
    base = client.images.get(packages.base_image).attrs["Size"]
    return [
        Figure(
            f"image of {service}, beside the base",
            (client.images.get(image_name(service, packages)).attrs["Size"] - base) / _MB,
            "MB",
            budgets.get(service),
        )
        for service in SERVICE_NAMES
    ]


def _run(directory: Path, *command: str, check: bool = True, stdin: bytes = b"") -> float:
    """Run a command; the seconds that it took."""
    started = time.monotonic()
    subprocess.run(command, cwd=directory, check=check, capture_output=True, input=stdin)
    return time.monotonic() - started


def _where(client: docker.DockerClient) -> str:
    """The date and the machine, as one line."""
    about = client.info()
    return (
        f"{dt.datetime.now(dt.UTC):%Y-%m-%d}, {os.cpu_count()} cores, {about['MemTotal'] / 2**30:.0f} GiB, "
        f"{about['OperatingSystem']}, engine {about['ServerVersion']}, Python {platform.python_version()}"
    )


if __name__ == "__main__":
    sys.exit(main())
