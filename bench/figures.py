"""What was measured, as values: runs, medians and quartiles, ratios; as JSON and back."""

import dataclasses
import json
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

from bench.accounting import Memory

BARE = "bare"
_PERCENTILES = (50, 95, 99)


@dataclass(frozen=True)
class Spread:
    """Median and quartiles."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Self:
        found = list(values)
        if len(found) == 1:
            return cls(found[0], found[0], found[0])
        return cls(*statistics.quantiles(found, n=4, method="inclusive"))


@dataclass(frozen=True)
class Latency:
    """Milliseconds within which so many of a hundred messages were answered after their final dot."""

    p50: float
    p95: float
    p99: float

    @classmethod
    def of(cls, seconds: Iterable[float]) -> Self:
        cuts = statistics.quantiles([1000 * one for one in seconds], n=100, method="inclusive")
        return cls(*(cuts[percent - 1] for percent in _PERCENTILES))


@dataclass(frozen=True, order=True)
class Point:
    """A load at a number of sessions."""

    load: str
    sessions: int

    def __str__(self) -> str:
        return f"{self.load}, {self.sessions} at a time"


@dataclass(frozen=True)
class Run:
    """One candidate, one point, one round."""

    candidate: str
    point: Point
    round: int
    # CPU milliseconds per message, by part; and what of it an SPF service took that is not a part by itself, or is one.
    parts: Mapping[str, float]
    spf: float | None
    # Messages per second.
    throughput: float
    latency: Latency

    @property
    def cpu(self) -> float:
        """CPU milliseconds per message, all parts."""
        return sum(self.parts.values())


@dataclass(frozen=True)
class MemoryUse:
    """A candidate's memory, hardly used and with many open sessions; None if it refused some of these.

    Then its SPF service's too, and that of all judges beside OpenDKIM, where they can be told apart.
    """

    candidate: str
    idle: Memory
    busy: Memory | None
    busy_spf: Memory | None
    busy_judges: Memory | None


@dataclass(frozen=True)
class Figures:
    """All that a benchmark measured."""

    runs: tuple[Run, ...]
    memory: tuple[MemoryUse, ...]
    # How many sessions were open for it.
    sessions: int
    # CPU milliseconds per second without mail: of each candidate, and of the whole machine beside them.
    idle_cpu: Mapping[str, float]
    others_cpu: float
    # Whether all mail came by TLS.
    tls: bool = False

    @property
    def candidates(self) -> tuple[str, ...]:
        return tuple(one.candidate for one in self.memory)

    @property
    def points(self) -> tuple[Point, ...]:
        return tuple(dict.fromkeys(run.point for run in self.runs))

    def at(self, candidate: str, point: Point) -> list[Run]:
        """A candidate's runs at a point, by round."""
        found = [run for run in self.runs if (run.candidate, run.point) == (candidate, point)]
        return sorted(found, key=lambda run: run.round)

    def spread(self, candidate: str, point: Point, value: Callable[[Run], float]) -> Spread:
        return Spread.of(value(run) for run in self.at(candidate, point))

    def overhead(self, candidate: str, point: Point) -> list[float]:
        """CPU milliseconds per message over bare Postfix's in the same round: what authentication costs."""
        pairs = zip(self.at(candidate, point), self.at(BARE, point), strict=True)
        return [run.cpu - bare.cpu for run, bare in pairs]

    def use(self, candidate: str) -> MemoryUse:
        return next(one for one in self.memory if one.candidate == candidate)

    def means(self, point: Point, value: Callable[[Run], float]) -> list[float]:
        """Each round's geometric mean of all candidates: how fast the machine was, beside other rounds."""
        by_candidate = [[value(run) for run in self.at(candidate, point)] for candidate in self.candidates]
        return [statistics.geometric_mean(one) for one in zip(*by_candidate, strict=True)]

    def medians(self, *, relative: bool) -> Iterator[tuple[str, float]]:
        """Every figure that two benchmarks should agree on, with its name.

        What depends on how fast the machine is in that hour may be relative to the mean of all candidates in the same
        round. One that became dearer is in that mean, too: what was a tenth counts as less.
        """
        values: dict[str, Callable[[Run], float]] = {
            "CPU": lambda run: run.cpu,
            "messages/s": lambda run: run.throughput,
            "DATA 50 %": lambda run: run.latency.p50,
        }
        for point in self.points:
            for what, value in values.items():
                for candidate in self.candidates:
                    if relative:
                        share = ratio((value(run) for run in self.at(candidate, point)), self.means(point, value))
                        yield f"{point}, {candidate}: {what}, of the mean", share.median
                    else:
                        yield f"{point}, {candidate}: {what}", self.spread(candidate, point, value).median
        for one in self.memory:
            yield f"memory, {one.candidate}: idle", one.idle.total
            if one.busy:
                yield f"memory, {one.candidate}: {self.sessions} sessions", one.busy.total

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Raises ValueError, KeyError or TypeError for what to_json did not write."""
        whole = json.loads(text)
        return cls(
            tuple(_run(one) for one in whole["runs"]),
            tuple(_memory_use(one) for one in whole["memory"]),
            whole["sessions"],
            whole["idle_cpu"],
            whole["others_cpu"],
            whole["tls"],
        )


def ratio(ours: Iterable[float], theirs: Iterable[float]) -> Spread:
    """Of pairs of the same round, so that what slowed the machine down for a while is on both sides."""
    return Spread.of(one / other for one, other in zip(ours, theirs, strict=True))


def _run(one: dict[str, Any]) -> Run:
    return Run(**{**one, "point": Point(**one["point"]), "latency": Latency(**one["latency"])})


def _memory_use(one: dict[str, Any]) -> MemoryUse:
    amounts = (one[name] and Memory(**one[name]) for name in ("idle", "busy", "busy_spf", "busy_judges"))
    return MemoryUse(one["candidate"], *amounts)
