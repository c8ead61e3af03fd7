"""Look at what waits in Postfix's queue, and decide about it. It needs a stack that runs, and none of its settings."""

import dataclasses
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from mailstack import console
from mailstack.engine import connection
from mailstack.engine.queue import Queue, Waiting
from mailstack.errors import MailstackError, shown
from mailstack.tasks import written

# postconf(5), enable_long_queue_ids: letters and digits. Anything else could be an option of the command.
_ID = re.compile(r"[0-9A-Za-z]{5,32}")
_HOLD = "hold"


def messages(directory: Path) -> list[dict[str, Any]]:
    """All that waits as plain data, the oldest first."""
    return [dataclasses.asdict(one) for one in _queue(directory).messages()]


def show(directory: Path, queue_id: str) -> tuple[dict[str, Any], str]:
    """A message as plain data, and its header as text that no terminal takes for commands."""
    queue = _queue(directory, queue_id)
    (found,) = _chosen(queue.messages(), [queue_id])
    return dataclasses.asdict(found), console.printable(queue.header(found.id).decode("utf-8", "replace"), also="\n\t")


def content(directory: Path, queue_id: str) -> bytes:
    """A message's octets."""
    queue = _queue(directory, queue_id)
    (found,) = _chosen(queue.messages(), [queue_id])
    return queue.message(found.id)


def flush(directory: Path, queue_ids: Sequence[str]) -> int:
    """Let Postfix try to deliver these now, or all that are deferred; how many."""
    queue = _queue(directory, *queue_ids)
    there = queue.messages()
    if not queue_ids:
        queue.try_all()
        return sum(one.queue == "deferred" for one in there)
    chosen = _chosen(there, queue_ids)
    held = [one.id for one in chosen if one.queue == _HOLD]
    if held:
        raise MailstackError(f"{', '.join(held)}: on hold; run: mailstack queue release {' '.join(held)}")
    queue.try_now(one.id for one in chosen)
    return len(chosen)


def hold(directory: Path, queue_ids: Sequence[str] | None) -> int:
    """Keep these, or with None all, without a try; how many."""
    return _change(directory, queue_ids, Queue.hold, lambda one: one.queue != _HOLD)


def release(directory: Path, queue_ids: Sequence[str] | None) -> int:
    """Let Postfix deliver these, or with None all that are on hold; how many."""
    return _change(directory, queue_ids, Queue.release, lambda one: one.queue == _HOLD)


def delete(directory: Path, queue_ids: Sequence[str] | None) -> int:
    """Remove these, or with None all; how many. Nobody is told, the sender neither."""
    return _change(directory, queue_ids, Queue.delete, lambda _: True)


def _change(
    directory: Path,
    queue_ids: Sequence[str] | None,
    change: Callable[[Queue, Sequence[str]], None],
    concerns: Callable[[Waiting], bool],
) -> int:
    queue = _queue(directory, *(queue_ids or ()))
    there = queue.messages()
    chosen = there if queue_ids is None else _chosen(there, queue_ids)
    wanted = {one.id for one in chosen if concerns(one)}
    if wanted:
        change(queue, sorted(wanted))
        # Postfix leaves alone what it is just delivering.
        left = sorted(one.id for one in queue.messages() if one.id in wanted and concerns(one))
        if left:
            raise MailstackError(
                f"{', '.join(left)}: not changed, because Postfix is delivering it right now; try again"
            )
    return len(wanted)


def _queue(directory: Path, *queue_ids: str) -> Queue:
    """The queue of a site, after a look at the ids: what is none comes to no command."""
    for one in queue_ids:
        if not _ID.fullmatch(one):
            raise MailstackError(f"{shown(one)} is not a queue id; see: mailstack queue list")
    project = written.project(directory)
    return Queue(connection.connect(), project)


def _chosen(there: Iterable[Waiting], queue_ids: Sequence[str]) -> list[Waiting]:
    """The messages of these ids. Raises MailstackError for one that is not in the queue."""
    by_id = {one.id: one for one in there}
    missing = [one for one in queue_ids if one not in by_id]
    if missing:
        raise MailstackError(f"{', '.join(missing)}: not in the queue (any more); see: mailstack queue list")
    return [by_id[one] for one in dict.fromkeys(queue_ids)]
