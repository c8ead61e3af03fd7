"""What an appliance of env.example costs a host: image sizes, memory, the time to be ready, the time of a build.

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
from dataclasses import dataclass
from pathlib import Path

import docker

from bench.accounting import Cgroup
from mailstack import reference
from mailstack.engine import connection
from mailstack.render import image_name
from mailstack.report import table
from mailstack.stack import SERVICES, Packages

_MB = 1e6
_BUILDS = 5
# The memory's budget is for this long after the services are healthy, in seconds.
_SETTLED = 60
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
            _run(directory, "docker", "compose", "down", "--volumes", check=False)
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
    ready = _run(directory, "docker", "compose", "up", "--detach", "--wait")
    figures.append(Figure("docker compose up --wait", ready, "s", 6))
    time.sleep(_SETTLED)
    total = 0.0
    for service in SERVICES:
        used = Cgroup.of(client, f"{_PROJECT}-{service}-1").memory().total / _MB
        total += used
        figures.append(Figure(f"memory of {service}, idle", used, "MB"))
    figures.append(Figure("memory of all, idle", total, "MB", 80))
    return figures


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
        for service in SERVICES
    ]


def _run(directory: Path, *command: str, check: bool = True) -> float:
    """Run a command; the seconds that it took."""
    started = time.monotonic()
    subprocess.run(command, cwd=directory, check=check, capture_output=True)
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
