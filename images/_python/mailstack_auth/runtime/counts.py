"""How many messages were not just accepted, by what was done and by which rule, since the service's container started.

The file is read by "mailstack status"; the log has a line with the same, once an hour if anything was added.
"""

import asyncio
import contextlib
import json
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

# How long numbers may wait before they are written, in seconds; a worker that is killed loses these.
_WRITE_SECONDS = 1.0
_LOG_SECONDS = 3600.0


class Counts:
    """Counts that outlive a worker, in a file on a tmpfs."""

    def __init__(self, path: Path, log: Callable[[str], None]) -> None:
        """A file that cannot be read or written is as good as none: the log has every message by itself."""
        self._path = path
        self._log = log
        self._since = int(time.time())
        self._counts: Counter[tuple[str, str]] = Counter()
        self._writing = self._logging = False
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
            data = json.loads(path.read_text())
            counts = {(action, rule): int(n) for action, rules in data["counts"].items() for rule, n in rules.items()}
            self._counts, self._since = Counter(counts), int(data["since"])

    def add(self, action: str, rule: str) -> None:
        """Count a message: what was done with it, and why."""
        self._counts[action, rule] += 1
        loop = asyncio.get_running_loop()
        if not self._writing:
            self._writing = True
            loop.call_later(_WRITE_SECONDS, self._write)
        if not self._logging:
            self._logging = True
            loop.call_later(_LOG_SECONDS, self._say)

    def _by_action(self) -> dict[str, dict[str, int]]:
        found: dict[str, dict[str, int]] = {}
        for (action, rule), number in sorted(self._counts.items()):
            found.setdefault(action, {})[rule] = number
        return found

    def _write(self) -> None:
        self._writing = False
        fresh = self._path.with_suffix(".new")
        with contextlib.suppress(OSError):
            fresh.write_text(json.dumps({"since": self._since, "counts": self._by_action()}))
            fresh.replace(self._path)

    def _say(self) -> None:
        self._logging = False
        since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._since))
        parts = [
            f"{action} {sum(rules.values())} ({', '.join(f'{rule} {number}' for rule, number in rules.items())})"
            for action, rules in self._by_action().items()
        ]
        self._log(f"since {since}: {'; '.join(parts)}")
