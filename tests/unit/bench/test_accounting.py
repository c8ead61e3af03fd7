"""The benchmark reads the kernel's accounts of a container, in both versions of control groups."""

import os
from pathlib import Path

import pytest

from bench.accounting import Cgroup, Memory, Spawned, busy
from mailstack.errors import EngineError

PID = 7


def write(root: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


def group(root: Path) -> Cgroup:
    return Cgroup(PID, proc=root / "proc", cgroups=root / "cgroups")


def version_1(root: Path) -> Cgroup:
    write(
        root,
        {
            f"proc/{PID}/cgroup": "9:name=systemd:/elsewhere\n5:cpu,cpuacct:/docker/abc\n4:memory:/docker/abc\n0::/x\n",
            "cgroups/cpuacct/docker/abc/cpuacct.usage": "2500000000\n",
            "cgroups/memory/docker/abc/memory.stat": "cache 999\nrss 1\ntotal_cache 999\ntotal_rss 3000\n",
            "cgroups/memory/docker/abc/memory.kmem.usage_in_bytes": "400\n",
            "cgroups/memory/docker/abc/cgroup.procs": "",
        },
    )
    return group(root)


def stat(name: str, parent: int, times: str) -> str:
    """proc_pid_stat(5) up to cstime; times are utime, stime, cutime and cstime."""
    return f"1 ({name}) S {parent} 0 0 0 0 0 0 0 0 0 {times} 20 0\n"


def test_version_1(tmp_path: Path) -> None:
    """Version 1: nanoseconds from cpuacct, anonymous pages of the group and all below it, and the kernel's memory."""
    one = version_1(tmp_path)
    assert one.cpu() == 2.5
    assert one.memory() == Memory(anonymous=3000, kernel=400)


def test_version_2(tmp_path: Path) -> None:
    """Version 2: microseconds from cpu.stat, and both kinds of memory from memory.stat."""
    write(
        tmp_path,
        {
            f"proc/{PID}/cgroup": "0::/system.slice/docker-abc.scope\n",
            "cgroups/system.slice/docker-abc.scope/cpu.stat": "usage_usec 1500000\nuser_usec 1\n",
            "cgroups/system.slice/docker-abc.scope/memory.stat": "anon 5000\nfile 999\nkernel 600\n",
        },
    )
    one = group(tmp_path)
    assert one.cpu() == 1.5
    assert one.memory() == Memory(anonymous=5000, kernel=600)
    assert one.memory().total == 5600


def test_inside_a_container(tmp_path: Path) -> None:
    """A container may see its own part of the groups alone, as the root of their file system."""
    write(
        tmp_path,
        {
            f"proc/{PID}/cgroup": "5:cpuacct:/docker/abc/below\n4:memory:/docker/abc\n",
            "proc/self/mountinfo": "".join(
                f"36 35 0:32 /docker/abc {tmp_path}/cgroups/{name} ro - cgroup cgroup rw\n"
                for name in ("cpuacct", "memory")
            ),
            "cgroups/cpuacct/below/cpuacct.usage": "2500000000\n",
            "cgroups/memory/memory.stat": "total_rss 3000\n",
            "cgroups/memory/memory.kmem.usage_in_bytes": "400\n",
        },
    )
    assert group(tmp_path).cpu() == 2.5
    assert group(tmp_path).memory().total == 3400


def test_process_of_another_host(tmp_path: Path) -> None:
    """A container whose process is not here is an error that says so, not a zero."""
    with pytest.raises(EngineError, match="not on this host"):
        group(tmp_path)


def test_spawned_processes_end(tmp_path: Path) -> None:
    """Nothing that a policy service used is lost when it ends, nor when the process that started it does."""
    one = version_1(tmp_path)
    procs = tmp_path / "cgroups/memory/docker/abc/cgroup.procs"
    spawned = Spawned(one, "policyd-spf")

    def now(**processes: str) -> float:
        write(tmp_path, {f"proc/{pid.removeprefix('p')}/stat": content for pid, content in processes.items()})
        procs.write_text("".join(f"{pid.removeprefix('p')}\n" for pid in processes))
        return spawned.cpu()

    smtpd = stat("smtpd", 1, "900 900 0 0")
    spawn = stat("spawn", 1, "1 1 0 0")
    assert now(p10=smtpd, p11=spawn, p12=stat("policyd-spf", 11, "50 48 0 0")) == 1.0
    assert now(p10=smtpd, p11=stat("spawn", 1, "1 1 100 98")) == 2.0
    assert now(p10=smtpd) == 2.0
    assert now(p10=smtpd, p20=spawn) == 2.02


def test_spawned_memory(tmp_path: Path) -> None:
    """Its memory is that of its own processes alone."""
    one = version_1(tmp_path)
    write(
        tmp_path,
        {
            "proc/10/stat": stat("smtpd", 1, "0 0 0 0"),
            "proc/10/status": "RssAnon:\t9000 kB\nVmPTE:\t90 kB\n",
            "proc/12/stat": stat("policyd-spf", 11, "0 0 0 0"),
            "proc/12/status": "Name:\tpolicyd-spf\nRssAnon:\t1000 kB\nVmPTE:\t10 kB\n",
            "cgroups/memory/docker/abc/cgroup.procs": "10\n12\n13\n",
        },
    )
    assert Spawned(one, "policyd-spf").memory() == Memory(1000 * 1024, 10 * 1024)


def test_this_host() -> None:
    """On a real host a process's control group has used CPU, and the machine at least as much as this process."""
    one = Cgroup(os.getpid())
    assert one.cpu() > 0
    assert one.memory().anonymous > 0
    assert busy() >= os.times().user
