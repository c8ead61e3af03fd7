"""mailstack queue, as a person uses it beside a stack that runs."""

import json
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from integration.conftest import MAILSTACK, run_in
from mailstack.world.containers import Machine, wait_for
from mailstack.world.site import Site
from support import address_of, message, send, subject

SENDER = "user@foxtrot.example"
# A host that is not there.
WAITS_FOR = "user@late.example"


class Queue:
    def __init__(self, site: Site) -> None:
        self.site = site

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return run_in(self.site.directory, *MAILSTACK, "queue", *arguments)

    def do(self, *arguments: str) -> str:
        """A command that must succeed; what it says on stderr."""
        done = self.run(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stderr

    def list(self) -> dict[str, dict[str, Any]]:
        """By queue id."""
        done = self.run("list", "--json")
        assert done.returncode == 0, done.stderr
        return {one["id"]: one for one in json.loads(done.stdout)}

    def tries(self, queue_id: str) -> int:
        return sum(f" {queue_id}: " in one and "status=deferred" in one for one in self.site.log("postfix"))


@pytest.fixture
def queue(foxtrot: Site) -> Iterator[Queue]:
    queue = Queue(foxtrot)
    queue.do("delete", "--all")
    yield queue
    queue.do("delete", "--all")


@pytest.fixture
def submit(queue: Queue, foxtrot: Site, insider: Machine) -> Callable[[str], str]:
    """Submit a message that waits; its queue id once it is deferred."""

    def submit(about: str) -> str:
        before = queue.list().keys()
        content = message(SENDER, WAITS_FOR, about)
        assert send(insider, address_of(foxtrot), SENDER, WAITS_FOR, content, port=587).code == 250

        def deferred() -> list[str]:
            return [key for key, one in queue.list().items() if key not in before and one["queue"] == "deferred"]

        (found,) = wait_for(deferred, "it is not deferred", seconds=60)
        return found

    return submit


def test_what_waits_is_shown(queue: Queue, submit: Callable[[str], str]) -> None:
    """Who sent it to whom, and why it waits; its header and its octets; nothing steers a terminal."""
    assert queue.run("list").stdout == "the queue is empty\n"
    about = subject("waits") + " \x1b[31m"
    waiting = submit(about)
    found = queue.list()[waiting]
    assert (found["sender"], [one["address"] for one in found["recipients"]]) == (SENDER, [WAITS_FOR])
    assert "late.example" in found["recipients"][0]["reason"]
    heading, first, to = queue.run("list").stdout.splitlines()
    assert heading.split() == ["id", "queue", "age", "size", "from"]
    assert first.split()[:2] == [waiting, "deferred"]
    assert first.endswith(SENDER)
    assert to.startswith(f"    to {WAITS_FOR}: ")
    shown = queue.run("show", waiting).stdout
    assert f"\nSubject: {about.replace(chr(27), '?')}\n" in shown
    assert "\nDKIM-Signature: " in shown
    assert "A body." not in shown
    raw = queue.run("show", "--raw", waiting).stdout
    assert f"\nSubject: {about}\n" in raw
    assert raw.endswith("\n\nA body.\n")


def test_a_message_is_held_released_and_tried(queue: Queue, submit: Callable[[str], str]) -> None:
    """What is on hold is not tried, and says what would release it; the other message goes its way."""
    held, other = submit(subject("held")), submit(subject("other"))
    assert queue.do("hold", held) == "1 message put on hold\n"
    assert (queue.list()[held]["queue"], queue.list()[other]["queue"]) == ("hold", "deferred")
    done = queue.run("flush", held)
    assert done.returncode == 1
    assert done.stderr == f"error: {held}: on hold; run: mailstack queue release {held}\n"
    tries, others = queue.tries(held), queue.tries(other)
    assert queue.do("flush") == "1 message will be tried now\n"
    wait_for(lambda: queue.tries(other) > others, "it is not tried", seconds=60)
    assert queue.tries(held) == tries
    assert queue.do("release", "--all") == "1 message released\n"
    wait_for(lambda: queue.tries(held) > tries, "it is not tried", seconds=60)
    wait_for(lambda: queue.list()[held]["queue"] == "deferred", "it is not deferred")
    tries = queue.tries(held)
    assert queue.do("flush", held) == "1 message will be tried now\n"
    wait_for(lambda: queue.tries(held) > tries, "it is not tried", seconds=60)


def test_messages_are_deleted(queue: Queue, submit: Callable[[str], str]) -> None:
    """These, and no others; then all."""
    first, *others = (submit(subject(f"goes {at}")) for at in range(3))
    assert queue.do("delete", first) == "1 message deleted\n"
    assert queue.list().keys() == set(others)
    done = queue.run("delete", others[0], first)
    assert (done.returncode, done.stderr) == (
        1,
        f"error: {first}: not in the queue (any more); see: mailstack queue list\n",
    )
    assert queue.list().keys() == set(others)
    assert queue.do("delete", "--all") == "2 messages deleted\n"
    assert queue.list() == {}


def test_postfix_does_not_run(queue: Queue, foxtrot: Site, submit: Callable[[str], str]) -> None:
    """It is said, with what starts it; and trace says what the log of the stopped container has."""
    waiting = submit(subject("waits"))
    foxtrot.compose("stop", "postfix")
    try:
        for arguments in (["list"], ["delete", "--all"], ["flush"]):
            done = queue.run(*arguments)
            assert done.returncode == 4
            assert "does not run; run: " in done.stderr
            assert "compose up -d --wait" in done.stderr
        done = run_in(foxtrot.directory, *MAILSTACK, "trace", waiting)
        assert done.returncode == 0, done.stderr
        assert f"  deferred for {WAITS_FOR}: " in done.stdout
        assert "what is still in the queue is not known: postfix of " in done.stderr
    finally:
        foxtrot.up()
