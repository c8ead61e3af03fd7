"""What a backup reads of volumes and directories: a program for a container that has them mounted.

It writes a tar to stdout, whose last member, END, says that all was read. It imports nothing of ours, since it runs by
its source.

While Postfix runs, its processes are stopped for the moment in which the queue is copied and the mail is listed.
Without that, a message that moves from one directory of the queue to another could be missed, and one that is delivered
meanwhile would be both in the queue and in its mailbox. master, which is process 1, cannot be stopped; what it starts
meanwhile brings new messages at most. Messages in mailboxes never change, so they are read afterwards, wherever a
mailbox server has moved them.
"""

import contextlib
import json
import os
import shutil
import signal
import stat
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator, Mapping
from typing import BinaryIO

END = "end"
# So long Postfix may be held, in seconds. Clients wait for minutes (RFC 5321 section 4.5.3.2).
_HELD_SECONDS = 30
_PAUSE_SECONDS = 0.002
# What works on a delivery to a mailbox, and so often in a row it must be seen asleep. virtual(8) waits for bounce(8),
# which is also the service "trace", before it marks a message as delivered.
_DELIVERS = {"virtual", "bounce"}
_LOOKS = 10
# States of a process (proc_pid_stat(5)), "" being ours for one that is gone.
_ENDED = {"", "Z", "X"}
# A file that is not larger is read as it is now, even if its size changes meanwhile.
_READ_AT_ONCE = 64 * 1024 * 1024
# How often files are looked for that a mailbox server moves while they are read.
_TRIES = 5


class Output:
    """A tar, written to a stream that cannot be rewound."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def put(self, path: str, name: str, status: os.stat_result, handle: int | None = None) -> None:
        """Write a directory, a symbolic link, or a regular file that is open."""
        info = tarfile.TarInfo(name)
        info.mode, info.uid, info.gid = stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid
        info.mtime = status.st_mtime
        if handle is not None:
            self._file(path, info, handle, status.st_size)
            return
        info.type = tarfile.DIRTYPE
        if stat.S_ISLNK(status.st_mode):
            info.type, info.linkname = tarfile.SYMTYPE, os.readlink(path)  # noqa: PTH115
        self._header(info)

    def _file(self, path: str, info: tarfile.TarInfo, handle: int, size: int) -> None:
        with open(handle, "rb", closefd=False) as file:
            content = file.read(_READ_AT_ONCE + 1)
            info.size = len(content) if len(content) <= _READ_AT_ONCE else size
            self._header(info)
            self._stream.write(content)
            left = info.size - len(content)
            while left > 0:
                content = file.read(min(left, 1 << 20))
                if not content:
                    raise OSError(f"{path} became shorter while it was read")
                self._stream.write(content)
                left -= len(content)
        self._stream.write(bytes(-info.size % tarfile.BLOCKSIZE))

    def _header(self, info: tarfile.TarInfo) -> None:
        self._stream.write(info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape"))

    def end(self) -> None:
        """Say that all was read."""
        self._header(tarfile.TarInfo(END))
        self._stream.write(bytes(2 * tarfile.BLOCKSIZE))
        self._stream.flush()


def below(directory: str) -> Iterator[tuple[str, int]]:
    """The path and the inode of all below a directory.

    "new" of a Maildir comes before "cur", since a file moves from the one to the other. What lies in its "tmp" is not
    delivered yet (maildir(5)).
    """
    try:
        with os.scandir(directory) as found:
            entries = sorted(found, key=lambda one: one.name, reverse=True)
    except (FileNotFoundError, NotADirectoryError):
        return
    in_maildir = {"new", "cur", "tmp"} <= {one.name for one in entries}
    for one in entries:
        yield one.path, one.inode()
        if one.is_dir(follow_symlinks=False) and not (in_maildir and one.name == "tmp"):
            yield from below(one.path)


class Root:
    """A mounted volume or directory, with the name under which it stands in the backup.

    files has the directories whose files count, with the permission bits of complete ones; None: all files.
    """

    def __init__(self, at: str, name: str, files: Mapping[str, int] | None) -> None:
        self._at, self._name, self._files = at, name, files
        # By inode and name: one inode may have several names, and a name loses its flags as it gains others.
        self._listed: dict[tuple[int, str], str] = {}
        # Each name comes once, whatever is moved to it meanwhile.
        self._written: set[str] = set()

    def copy(self, output: Output) -> None:
        """Write what is there now."""
        for path in (self._at, *(path for path, _ in below(self._at))):
            with contextlib.suppress(FileNotFoundError):
                self._put(output, path)

    def list(self) -> None:
        """Note all files, until nothing new is found: a mailbox server may move some meanwhile."""
        for _ in range(_TRIES):
            before = len(self._listed)
            for path, inode in below(self._at):
                self._listed[_key(path, inode)] = path
            if len(self._listed) == before:
                break

    def read(self, output: Output, instant: float) -> None:
        """Write the files that were listed, under the names that they have by now, and their directories.

        instant is when they were listed: no file that is younger has taken the place of one that is gone.
        """
        self._put(output, self._at)
        missing = {key: path for key, path in self._listed.items() if not self._put(output, path, key[0])}
        for _ in range(_TRIES):
            if not missing:
                break
            now = {_key(path, inode): path for path, inode in below(self._at)}
            renamed = {key[0]: path for key, path in now.items() if key not in self._listed}
            there = {key: now.get(key) or renamed.get(key[0]) for key in missing}
            # The others were removed by whom they belong to.
            missing = {
                key: path for key, path in there.items() if path and not self._put(output, path, key[0], instant)
            }

    def _put(self, output: Output, path: str, inode: int | None = None, instant: float | None = None) -> bool:
        """Write one of them; whether that is done. It must have the inode, and be older than the instant."""
        name = self._name + path[len(self._at) :]
        if name in self._written:
            return True
        try:
            status = os.lstat(path)
            if stat.S_ISREG(status.st_mode):
                handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
                try:
                    status = os.fstat(handle)
                    if (inode or status.st_ino) != status.st_ino or (instant and status.st_mtime > instant):
                        return False
                    if self._counts(path, status.st_mode):
                        self._written.add(name)
                        output.put(path, name, status, handle)
                finally:
                    os.close(handle)
            elif stat.S_ISDIR(status.st_mode) or stat.S_ISLNK(status.st_mode):
                self._written.add(name)
                output.put(path, name, status)
        except FileNotFoundError:
            if inode is None:
                raise
            return False
        return True

    def _counts(self, path: str, mode: int) -> bool:
        if self._files is None:
            return True
        bits = self._files.get(path[len(self._at) + 1 :].partition("/")[0])
        return bits is not None and mode & bits == bits


def _key(path: str, inode: int) -> tuple[int, str]:
    return inode, os.path.basename(path).partition(":")[0]  # noqa: PTH119


@contextlib.contextmanager
def held() -> Iterator[None]:
    """Stop all that process 1 has started. They go on afterwards, whatever happens."""
    signal.signal(signal.SIGALRM, _late)
    signal.alarm(_HELD_SECONDS)
    try:
        _stop()
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGALRM})
        signal.alarm(0)
        _send(signal.SIGCONT, _others())
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGALRM})


def _late(*_: object) -> None:
    raise TimeoutError(
        f"the queue could not be copied within {_HELD_SECONDS} seconds, in which Postfix is held and ends the "
        "deliveries that it has in hand; run: docker compose stop postfix, and try again"
    )


def _stop() -> None:
    """Return when all are stopped, and none was started meanwhile.

    The queue manager comes first, so that virtual(8) has nothing in hand when its turn comes: what it has written to a
    mailbox is then marked so in the queue. A large message may take long on a slow disk; meanwhile all others run.
    """
    # What held them before may have been killed.
    _send(signal.SIGCONT, _others())
    _send(signal.SIGSTOP, [one for one in _others() if _name(one) == "qmgr"])
    quiet = 0
    while quiet < _LOOKS:
        time.sleep(_PAUSE_SECONDS)
        busy = any(_state(one) not in {"S", *_ENDED} for one in _others() if _name(one) in _DELIVERS)
        quiet = 0 if busy else quiet + 1
    while running := [one for one in _others() if _state(one) not in {"T", "t", *_ENDED}]:
        _send(signal.SIGSTOP, running)
        time.sleep(_PAUSE_SECONDS)


def _send(number: signal.Signals, processes: list[int]) -> None:
    for one in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(one, number)


def _others() -> list[int]:
    """What process 1 has started, and what that has. Commands that the engine runs there have no parent."""
    parents = {int(one): _parent(int(one)) for one in os.listdir("/proc") if one.isdecimal()}  # noqa: PTH208
    found = {1}
    while more := {one for one, parent in parents.items() if parent in found} - found:
        found |= more
    return sorted(found - {1})


def _parent(process: int) -> int:
    fields = _of(process, "stat").rpartition(") ")[2].split()
    return int(fields[1]) if fields else 0


def _state(process: int) -> str:
    """A letter (proc_pid_stat(5)); none for a process that has ended."""
    return _of(process, "stat").rpartition(") ")[2][:1]


def _name(process: int) -> str:
    return _of(process, "comm").strip()


def _of(process: int, file: str) -> str:
    try:
        with open(f"/proc/{process}/{file}", encoding="utf-8", errors="replace") as stream:  # noqa: PTH123
            return stream.read()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def take(roots: list[dict[str, object]], stream: BinaryIO, *, hold: bool) -> None:
    """Write all that roots name: each is a Root's arguments, and when it is read.

    "held": while Postfix is; "listed": listed then, and read afterwards; "later".
    """
    output = Output(stream)
    by_time: dict[str, list[Root]] = {"held": [], "listed": [], "later": []}
    for one in roots:
        by_time[str(one["when"])].append(Root(one["at"], one["name"], one["files"]))  # type: ignore[arg-type]
    # Once before, so that no disk is waited for while Postfix is held.
    for root in by_time["listed"]:
        root.list()
    with tempfile.TemporaryFile() as spool:
        with held() if hold else contextlib.nullcontext():
            for root in by_time["held"]:
                root.copy(Output(spool))
            for root in by_time["listed"]:
                root.list()
            instant = time.time()
        spool.seek(0)
        shutil.copyfileobj(spool, stream)
    for root in by_time["later"]:
        root.copy(output)
    for root in by_time["listed"]:
        root.read(output, instant)
    output.end()


if __name__ == "__main__":
    # Ends by way of the exception, so that Postfix goes on.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))
    asked = json.loads(sys.argv[1])
    try:
        take(asked["roots"], sys.stdout.buffer, hold=asked["hold"])
    except (OSError, ValueError) as fault:
        sys.exit(str(fault))
