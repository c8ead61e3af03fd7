"""mailstack_auth.runtime.log: the log's lines, some at a time."""

import asyncio
import contextlib
import io
import sys
from pathlib import Path

import pytest

from mailstack_auth.runtime.log import Log


class Output(io.RawIOBase):
    """Standard output, and what each write brought."""

    def __init__(self):
        self.broken = False
        self.writes = []
        self.written = asyncio.Event()

    def writable(self):
        return True

    def write(self, octets):
        self.written.set()
        if self.broken:
            raise BrokenPipeError
        self.writes.append(bytes(octets))
        return len(octets)


def redirected(monkeypatch):
    """Standard output as it is for a program whose log somebody reads."""
    output = Output()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BufferedWriter(output)))
    return output


@contextlib.contextmanager
def full_disk():
    """Standard output for which there is no room."""
    output = Path("/dev/full").open("w")  # noqa: SIM115
    try:
        with contextlib.redirect_stdout(output):
            yield
    finally:
        with contextlib.suppress(OSError):
            output.close()


def test_some_at_a_time(monkeypatch):
    """Lines that may wait are written together, and those that come later as well."""

    async def run():
        output, log = redirected(monkeypatch), Log()
        for one in ("a", "b", "c"):
            log.write(one, soon=True)
        assert output.writes == []
        await output.written.wait()
        output.written.clear()
        log.write("d", soon=True)
        await output.written.wait()
        assert output.writes == [b"a\nb\nc\n", b"d\n"]

    asyncio.run(asyncio.wait_for(run(), 10))


def test_at_once(monkeypatch):
    """A line that may not wait is written before the call returns, behind those that waited."""

    async def run():
        output, log = redirected(monkeypatch), Log()
        log.write("a", soon=True)
        log.write("b")
        assert output.writes == [b"a\nb\n"]
        log.write("c")
        assert output.writes == [b"a\nb\n", b"c\n"]

    asyncio.run(run())


def test_a_log_that_cannot_be_written(monkeypatch):
    """The next one is told, and so holds its message back; until it can be written again."""

    async def run():
        output, log = redirected(monkeypatch), Log()
        output.broken = True
        log.write("a", soon=True)
        await output.written.wait()
        for _ in range(2):
            with pytest.raises(BrokenPipeError):
                log.write("b", soon=True)
        output.broken = False
        log.write("c", soon=True)
        assert output.writes[-1].endswith(b"c\n")
        output.written.clear()
        log.write("d", soon=True)
        await output.written.wait()
        assert output.writes[-1] == b"d\n"

    asyncio.run(asyncio.wait_for(run(), 10))
