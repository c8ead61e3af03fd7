"""The first process of a container: it holds the listening sockets, and a worker that it forks serves them.

If the worker dies, or answers nobody, another one takes its place, and connections that are being made wait in the
backlog meanwhile.
What a worker needs it imports itself, in a third of a second: two processes that share memory by a fork do not share it
for long, since Python counts references in every object. The supervisor itself imports little (no pathlib, 0.9 MB).
"""

import faulthandler
import gc
import importlib
import mmap
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator

STOP = frozenset({signal.SIGTERM, signal.SIGINT})
WATCHED = STOP | {signal.SIGCHLD}

# Postfix connects once for each smtpd process; all of them may come at the same time, after a restart. One that finds
# no room does not wait (unix(7), EAGAIN).
BACKLOG = 1024
# A worker that gives up within this time, in seconds, cannot start, and neither could another one.
_START_SECONDS = 5.0
# One that is killed within this time makes the next one wait as long.
_PAUSE_SECONDS = 1.0
# How much memory all workers have in common, in octets.
SHARED = 136 * 1024

# A worker beats so often, in seconds, while it has connections, and while it has none.
BEAT_SECONDS, IDLE_SECONDS = 1.0, 10.0
# One that works on without a beat for so many seconds of processor time holds up all others (a busy machine gives it
# less of that, and more time): the kernel ends it. One that sleeps without a beat is stuck, which the supervisor looks
# for: nobody wakes up often where there is nothing to do.
_MAX_PROCESSOR_SECONDS, _MAX_START_SECONDS = 2.0, 20.0
_MAX_SECONDS, _LOOK_SECONDS = 25.0, 5.0
# The latest beat, as a number that changes.
_BEAT = mmap.mmap(-1, mmap.PAGESIZE)
# Beats that follow one so soon, in seconds, are none: each is a system call.
_BETWEEN_SECONDS = 0.05
_last = 0.0
# Whether this process is a worker; who serves without a supervisor has no limit.
_limited = False


def beat() -> None:
    """Say that the worker works: by the worker, at each turn of its event loop, and at each thing that it begins."""
    global _last  # noqa: PLW0603
    now = time.monotonic()
    if now - _last < _BETWEEN_SECONDS:
        return
    _last = now
    _BEAT[0] = (_BEAT[0] + 1) % 256
    if _limited:
        signal.setitimer(signal.ITIMER_PROF, _MAX_PROCESSOR_SECONDS)


def main(module: str, *paths: str) -> None:
    """Serve until TERM, by a module's work(sockets, shared): a listening socket for each path, and SHARED octets."""

    def log(text: str) -> None:
        sys.stdout.write(f"{sys.argv[0].rpartition('/')[2]}: {text}\n")
        sys.stdout.flush()

    sockets, shared = [listen(one) for one in paths], mmap.mmap(-1, SHARED)

    def work() -> None:
        found = importlib.import_module(module)
        gc.collect()
        gc.freeze()
        found.work(sockets, shared)

    log(f"listening on {' and '.join(paths)}")
    sys.exit(_run(work, log))


def listen(path: str) -> socket.socket:
    """A listening socket at a path, open to its group (which is Postfix's).

    What an earlier server left there is replaced in one step, so that whoever connects finds the one or the other.
    Raises OSError if a server still answers at the path.
    """
    if _answers(path):
        raise OSError(f"{path}: socket is already in use")
    fresh = f"{path}.new"
    if os.path.lexists(fresh):
        os.unlink(fresh)  # noqa: PTH108
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(fresh)
    os.chmod(fresh, 0o770)  # noqa: PTH101, S103
    listener.listen(BACKLOG)
    os.rename(fresh, path)  # noqa: PTH104
    return listener


def _answers(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(0)
        try:
            probe.connect(path)
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        except BlockingIOError:
            pass  # its backlog is full
    return True


def _run(work: Callable[[], None], log: Callable[[str], None]) -> int:
    """Keep a worker going until TERM or INT, and let it end then; its exit status, or that of one that cannot start."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
    worker, started, stopping = _fork(work), time.monotonic(), False
    watch = _Watch()
    while True:
        caught = signal.sigtimedwait(WATCHED, _LOOK_SECONDS)
        if watch.is_time() and watch.stuck():
            log(f"worker did not respond for {_MAX_SECONDS:g} s; ending it")
            watch.end(worker)
        if caught is None:
            continue
        if caught.si_signo in STOP:
            stopping = True
            os.kill(worker, signal.SIGTERM)
            continue
        for pid, status in _ended():
            if pid != worker:
                continue  # a health check that outlived the engine's patience
            code = os.waitstatus_to_exitcode(status)
            if stopping:
                return max(code, 0)  # one that was killed before is of the past
            lived = time.monotonic() - started
            if code > 0 and lived < _START_SECONDS:
                return code  # the engine waits longer each time, and meanwhile nobody waits for an answer
            log(f"worker {_ending(code)}; starting a new one")
            if lived < _PAUSE_SECONDS and signal.sigtimedwait(STOP, _PAUSE_SECONDS):
                return 0
            worker, started = _fork(work), time.monotonic()
            watch = _Watch()


def _ending(code: int) -> str:
    """How a worker ended, in words; a negative code is a signal's."""
    if code >= 0:
        return f"exited with status {code}"
    if code == -signal.SIGPROF:
        return f"used {_MAX_PROCESSOR_SECONDS:g} s of processor time without a reply"
    names = {known.value: known.name for known in signal.Signals}
    return f"was killed by signal {-code} ({names.get(-code, 'no name')})"


class _Watch:
    """Watches the beats of a worker."""

    def __init__(self) -> None:
        self._seen = _BEAT[0]
        # Looks without a beat, and not the time since: where both were stopped (a paused container or machine), neither
        # goes on.
        self._looks = 0
        self._told = False
        self._looked = time.monotonic()

    def is_time(self) -> bool:
        """Whether it is time to look again, however many signals came meanwhile."""
        if time.monotonic() - self._looked < _LOOK_SECONDS:
            return False
        self._looked = time.monotonic()
        return True

    def end(self, worker: int) -> None:
        """Have it write what it does (faulthandler) and end; one that is stopped is killed at the next look."""
        os.kill(worker, signal.SIGKILL if self._told else signal.SIGABRT)
        self._told = True

    def stuck(self) -> bool:
        """Whether the worker is of no use."""
        if _BEAT[0] != self._seen:
            self._seen, self._looks = _BEAT[0], 0
        else:
            self._looks += 1
        return self._looks * _LOOK_SECONDS > _MAX_SECONDS


def _fork(work: Callable[[], None]) -> int:
    """The process id of a child that does the work. The signals stay blocked in it until it has handlers for them."""
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        global _limited  # noqa: PLW0603
        _limited = True
        faulthandler.enable()
        faulthandler.register(signal.SIGPROF, chain=True)
        signal.setitimer(signal.ITIMER_PROF, _MAX_START_SECONDS)
        work()
        sys.exit(0)
    return pid


def _ended() -> Iterator[tuple[int, int]]:
    """Children that have ended, as their ids and statuses."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        yield pid, status
