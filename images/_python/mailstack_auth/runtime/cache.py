"""Memory that stays small: what was put in expires, and a total weight is never exceeded."""

import hashlib
import mmap
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from typing import Generic, TypeVar

_DIGEST = 16

_K = TypeVar("_K", bound=Hashable)
_V = TypeVar("_V")


class Cache(Generic[_K, _V]):
    """Values by key, each for a time. Over the capacity, what was not asked for longest goes first.

    capacity is in the unit of the weights that put() is given: octets, or pieces. Times are those of a monotonic clock,
    in seconds.
    """

    def __init__(self, capacity: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._capacity = capacity
        self._clock = clock
        self._weight = 0
        self._entries: OrderedDict[_K, tuple[float, int, _V]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: _K) -> _V | None:
        """The value, unless its time is over."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        end, _, value = entry
        if end <= self._clock():
            self.forget(key)
            return None
        self._entries.move_to_end(key)
        return value

    def seconds_left(self, key: _K) -> float:
        """How long a key will be remembered, unless others crowd it out."""
        entry = self._entries.get(key)
        return entry[0] - self._clock() if entry else 0.0

    def put(self, key: _K, value: _V, seconds: float, weight: int = 1) -> None:
        """Remember for so long; what has no time, or is heavier than everything together may be, is not remembered."""
        self.forget(key)
        if seconds <= 0 or weight > self._capacity:
            return
        self._entries[key] = (self._clock() + seconds, weight, value)
        self._weight += weight
        while self._weight > self._capacity:
            self.forget(next(iter(self._entries)))

    def forget(self, key: _K) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._weight -= entry[1]


def digest(key: str) -> bytes:
    """What stands for a key in a place that is narrower than keys may be."""
    return hashlib.blake2b(key.encode("utf-8", "surrogateescape"), digest_size=_DIGEST).digest()


class Latest:
    """The digests of the latest keys, as many as there is room for in memory that outlives a process."""

    def __init__(self, memory: mmap.mmap) -> None:
        self._count = len(memory) // _DIGEST - 1
        self._memory = memory

    def add(self, key: bytes) -> None:
        """Add a digest, in the place of the oldest one. One process at a time may."""
        at = int.from_bytes(self._memory[:_DIGEST], "big")
        start = _DIGEST * (1 + at % self._count)
        self._memory[start : start + _DIGEST] = key
        self._memory[:_DIGEST] = (at + 1).to_bytes(_DIGEST, "big")

    def __iter__(self) -> Iterator[bytes]:
        """From the oldest to the newest."""
        at = int.from_bytes(self._memory[:_DIGEST], "big")
        for one in range(max(at - self._count, 0), at):
            start = _DIGEST * (1 + one % self._count)
            yield self._memory[start : start + _DIGEST]
