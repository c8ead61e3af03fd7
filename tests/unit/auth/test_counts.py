"""mailstack_auth.runtime.counts: what was done with messages, for status and for the log."""

import asyncio
import json
import time

import pytest

from mailstack_auth.runtime import counts
from mailstack_auth.runtime.counts import Counts


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Minutes are moments."""
    monkeypatch.setattr(counts, "_WRITE_SECONDS", 0.01)
    monkeypatch.setattr(counts, "_LOG_SECONDS", 0.05)


def counted(path, *messages):
    """What the log says once these are counted."""
    lines = []

    async def run():
        found = Counts(path, lines.append)
        for one in messages:
            found.add(*one)
        while not lines:  # noqa: ASYNC110
            await asyncio.sleep(0)
        return lines

    return asyncio.run(asyncio.wait_for(run(), 10))


def test_by_action_and_rule(tmp_path):
    """The file has numbers by what was done and by which rule; one line of the log has the same."""
    messages = [("reject", "DMARC"), ("reject", "DMARC"), ("reject", "author"), ("discard", "local sender")]
    (line,) = counted(tmp_path / "counts", *messages)
    found = json.loads((tmp_path / "counts").read_text())
    assert found["counts"] == {"discard": {"local sender": 1}, "reject": {"DMARC": 2, "author": 1}}
    assert time.time() - 60 < found["since"] <= time.time()
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(found["since"]))
    assert line == f"since {since}: discard 1 (local sender 1); reject 3 (DMARC 2, author 1)"


def test_another_worker_goes_on(tmp_path):
    """Numbers and the time that they begin at outlive a worker."""
    (tmp_path / "counts").write_text(json.dumps({"since": 1_800_000_000, "counts": {"defer": {"DNS": 3}}}))
    counted(tmp_path / "counts", ("defer", "DNS"))
    assert json.loads((tmp_path / "counts").read_text()) == {"since": 1_800_000_000, "counts": {"defer": {"DNS": 4}}}


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", '{"since": 1, "counts": {"x": 1}}', '{"since": "x", "counts": {}}']
)
def test_a_damaged_file(content, tmp_path):
    """It is as good as none."""
    (tmp_path / "counts").write_text(content)
    counted(tmp_path / "counts", ("defer", "DNS"))
    assert json.loads((tmp_path / "counts").read_text())["counts"] == {"defer": {"DNS": 1}}


def test_a_file_that_cannot_be_written(tmp_path):
    """The log still says it."""
    (line,) = counted(tmp_path / "missing" / "counts", ("defer", "DNS"))
    assert line.endswith(": defer 1 (DNS 1)")
