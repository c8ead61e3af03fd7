"""Since when messages wait for DNS, so that waiting has an end: by the client's network and the author's domain."""

import contextlib
import hashlib
import ipaddress
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mailstack_auth import names

# A message that comes back later than this, in seconds, is another one: no server waits so long between two attempts
# (Exim's default is the longest, six hours).
_FORGOTTEN_AFTER = 12 * 3600
# How many are remembered of one network, so that nobody crowds others out, and in all: 400 kB in the file, of which
# there are two for a moment, in 1 MB.
_PER_NETWORK = 64
_IN_ALL = 8192
# The file is written so often at the most, in seconds: what a killed worker has not written, a retry notes again.
_WRITE_SECONDS = 1.0
# Networks of one sender's hosts, by the version of their addresses.
_PREFIXES = {4: 24, 6: 64}


class Deferrals:
    """First and latest deferral of each, in a file."""

    def __init__(self, path: Path, seconds: float, clock: Callable[[], float] = time.time) -> None:
        """Messages wait so many seconds at the most. A file that cannot be read or written is as good as none."""
        self._path = path
        self._seconds = seconds
        self._clock = clock
        self._written = 0.0
        self._times: dict[str, dict[str, tuple[int, int]]] = {}
        with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):
            self._times = _times(json.loads(path.read_text()))

    def over(self, client: str, author: str) -> bool:
        """Note that a message is about to be deferred, and whether such ones have waited long enough."""
        now, network = round(self._clock()), _network(client)
        # What was asked for last stands last.
        authors = self._times.pop(network, {})
        self._times[network] = authors
        # Names may have 253 octets.
        name = hashlib.sha256(author.encode()).hexdigest()[:12]
        first, latest = authors.pop(name, (now, now))
        if now - latest > _FORGOTTEN_AFTER:
            first = now
        authors[name] = (first, now)
        while len(authors) > _PER_NETWORK:
            del authors[next(iter(authors))]
        while sum(map(len, self._times.values())) > _IN_ALL:
            del self._times[next(iter(self._times))]
        if now - self._written >= _WRITE_SECONDS:
            self._written = now
            self._write()
        return now - first >= self._seconds

    def _write(self) -> None:
        fresh = self._path.with_suffix(".new")
        try:
            fresh.write_text(json.dumps(self._times, separators=(",", ":")))
            fresh.replace(self._path)
        except OSError:
            # What is left of it would fill the place that others need.
            with contextlib.suppress(OSError):
                fresh.unlink()


def _times(data: Any) -> dict[str, dict[str, tuple[int, int]]]:  # noqa: ANN401
    """What the file holds. Raises ValueError, TypeError or AttributeError for anything else."""
    return {
        network: {author: (int(first), int(latest)) for author, (first, latest) in authors.items()}
        for network, authors in data.items()
    }


def _network(client: str) -> str:
    address = names.address(client)
    return str(ipaddress.ip_network(f"{address}/{_PREFIXES[address.version]}", strict=False))
