"""mailstack_auth.lines: the log's lines, some at a time."""

import asyncio
import io
import sys

from mailstack_auth.lines import Lines


class Output(io.RawIOBase):
    """Standard output, and what each write brought."""

    def __init__(self):
        self.writes = []
        self.written = asyncio.Event()

    def writable(self):
        return True

    def write(self, octets):
        self.writes.append(bytes(octets))
        self.written.set()
        return len(octets)


def redirected(monkeypatch):
    """Standard output as it is for a program whose log somebody reads."""
    output = Output()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BufferedWriter(output)))
    return output


def test_some_at_a_time(monkeypatch):
    """Lines that may wait are written together, and those that come later as well."""

    async def run():
        output, lines = redirected(monkeypatch), Lines()
        for one in ("a", "b", "c"):
            lines.write(one, soon=True)
        assert output.writes == []
        await output.written.wait()
        output.written.clear()
        lines.write("d", soon=True)
        await output.written.wait()
        assert output.writes == [b"a\nb\nc\n", b"d\n"]

    asyncio.run(asyncio.wait_for(run(), 10))


def test_at_once(monkeypatch):
    """A line that may not wait is written before the call returns, behind those that waited."""

    async def run():
        output, lines = redirected(monkeypatch), Lines()
        lines.write("a", soon=True)
        lines.write("b")
        assert output.writes == [b"a\nb\n"]
        lines.write("c")
        assert output.writes == [b"a\nb\n", b"c\n"]

    asyncio.run(run())
