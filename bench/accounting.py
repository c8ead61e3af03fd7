"""What the kernel says that a container, or some processes of one, have used.

Control groups are read as this host sees them (cgroups(7)), version 1 or 2; so the engine must run on this host.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

import docker

from mailstack.errors import EngineError

_PROC = Path("/proc")
_CGROUPS = Path("/sys/fs/cgroup")
# proc_pid_stat(5): USER_HZ, which is 100 on every architecture that Debian has but alpha.
_TICKS = 100
_KIB = 1024


@dataclass(frozen=True)
class Memory:
    """Octets that cannot be dropped or written out: anonymous pages, and the kernel's own on behalf of the group."""

    anonymous: int = 0
    kernel: int = 0

    @property
    def total(self) -> int:
        return self.anonymous + self.kernel


class Account(Protocol):
    """Something whose use is accounted for."""

    def cpu(self) -> float:
        """Seconds of CPU, user and system, since its start."""

    def memory(self) -> Memory:
        """Memory in use now."""


def _directory(proc: Path, mounted: Path, group: str) -> Path:
    """Where a control group is below its file system, of which a container may see its own part only (proc(5))."""
    root = "/"
    with contextlib.suppress(OSError):
        for line in (proc / "self/mountinfo").read_text().splitlines():
            _, _, _, top, at, *_ = line.split()
            if at == str(mounted.resolve()):
                root = top
    path = Path("/", group)
    return mounted / path.relative_to(root if path.is_relative_to(root) else "/")


class Cgroup:
    """The control group that a process, and with it its container, is in."""

    def __init__(self, pid: int, *, proc: Path = _PROC, cgroups: Path = _CGROUPS) -> None:
        self._proc = proc
        try:
            lines = (proc / str(pid) / "cgroup").read_text().splitlines()
        except OSError as error:
            raise EngineError(f"process {pid} is not on this host: a local engine is needed ({error})") from None
        paths = {
            controller: path.lstrip("/")
            for _, controllers, path in (line.split(":", 2) for line in lines)
            for controller in controllers.split(",")
        }
        self._one = "cpuacct" in paths
        if self._one:
            self._cpu = _directory(proc, cgroups / "cpuacct", paths["cpuacct"])
            self._memory = _directory(proc, cgroups / "memory", paths["memory"])
        else:
            self._cpu = self._memory = _directory(proc, cgroups, paths[""])

    @classmethod
    def of(cls, client: docker.DockerClient, container: str) -> Self:
        """That of a container, by its id or name, which runs."""
        return cls(int(client.api.inspect_container(container)["State"]["Pid"]))

    def cpu(self) -> float:
        if self._one:
            return int((self._cpu / "cpuacct.usage").read_text()) / 1e9
        return _table(self._cpu / "cpu.stat")["usage_usec"] / 1e6

    def memory(self) -> Memory:
        stat = _table(self._memory / "memory.stat")
        if self._one:
            return Memory(stat["total_rss"], int((self._memory / "memory.kmem.usage_in_bytes").read_text()))
        return Memory(stat["anon"], stat["kernel"])

    def processes(self) -> Iterator[Path]:
        """The directories of its processes in proc(5)."""
        for pid in (self._memory / "cgroup.procs").read_text().split():
            yield self._proc / pid


class Spawned:
    """What spawn(8) has started in a control group: its own processes, and their children, which it waits for."""

    def __init__(self, group: Cgroup, child: str) -> None:
        self._group = group
        self._child = child
        self._seen: dict[str, int] = {}

    def cpu(self) -> float:
        """A child's time goes over to its parent when it ends; a parent's is kept here as it was seen last."""
        families: dict[str, int] = {}
        for process, name, stat in self._found():
            # proc_pid_stat(5): ppid is field 4; utime, stime, cutime and cstime are 14 to 17; here the third is first.
            family = stat[1] if name == self._child else process.name
            families[family] = families.get(family, 0) + sum(map(int, stat[11:15]))
        self._seen |= families
        return sum(self._seen.values()) / _TICKS

    def memory(self) -> Memory:
        """Anonymous pages and page tables; what else the kernel holds for a process is not told apart."""
        anonymous = kernel = 0
        for process, _, _ in self._found():
            with contextlib.suppress(OSError, KeyError):
                status = _table(process / "status")
                anonymous += status["RssAnon:"] * _KIB
                kernel += status["VmPTE:"] * _KIB
        return Memory(anonymous, kernel)

    def _found(self) -> Iterator[tuple[Path, str, list[str]]]:
        for process in self._group.processes():
            # It may have ended since.
            with contextlib.suppress(OSError):
                before, _, after = (process / "stat").read_text().rpartition(") ")
                name = before.partition(" (")[2]
                if name in {"spawn", self._child}:
                    yield process, name, after.split()


def busy(proc: Path = _PROC) -> float:
    """Seconds of CPU that the whole machine has spent (proc_stat(5)): on all but idle, iowait, steal, guest."""
    times = (proc / "stat").read_text().split("\n", 1)[0].split()
    return sum(int(times[at]) for at in (1, 2, 3, 6, 7)) / _TICKS


def _table(file: Path) -> dict[str, int]:
    """A file of names and numbers, whatever stands behind the number."""
    rows = (line.split() for line in file.read_text().splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) > 1 and row[1].isdigit()}
