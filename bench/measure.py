"""The measurement: candidates in turns, round by round."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.accounting import Account, Memory, busy
from bench.arena import Arena
from bench.candidates import JUDGES, Candidate
from bench.figures import Figures, Latency, MemoryUse, Point, Run
from bench.load import SIGNED, UNSIGNED, ZIPF
from mailstack.console import progress
from mailstack.errors import EngineError

_SPF = "spf service"


@dataclass(frozen=True)
class Plan:
    """What is measured: points, with the messages of a run (a multiple of the sessions), and how often."""

    points: Mapping[Point, int]
    rounds: int
    # Open sessions for the memory.
    hold: int
    # How long all are left alone, to see what they use without mail: some times the 12 seconds of the health checks.
    idle_seconds: int


QUICK = Plan(
    points={Point(ZIPF.name, 10): 1000},
    rounds=6,
    hold=100,
    idle_seconds=24,
)
FULL = Plan(
    points={
        Point(load.name, sessions): messages
        for load in (UNSIGNED, SIGNED, ZIPF)
        for sessions, messages in ((1, 300), (10, 1000), (100, 2000))
    },
    rounds=5,
    hold=100,
    idle_seconds=60,
)


def measure(arena: Arena, plan: Plan) -> Figures:
    """All runs of a plan, and each candidate's memory: first after one message, at the end with open sessions."""
    progress(f"{plan.idle_seconds} s without mail …")
    idle, everything = _idle(arena.candidates, plan.idle_seconds)
    unused = {one.name: _memory(one.parts) for one in arena.candidates}
    progress("warm-up …")
    for point in plan.points:
        for one in arena.candidates:
            arena.warm_up(one, point)
    runs: list[Run] = []
    for number in range(1, plan.rounds + 1):
        progress(f"round {number} of {plan.rounds} …")
        for point, messages in plan.points.items():
            # Each round begins with another candidate, so that none always follows the same one.
            runs += [
                _run(arena, one, point, number, messages=messages, idle=idle[one.name])
                for one in _rotated(arena.candidates, number)
            ]
    progress(f"memory at {plan.hold} sessions …")
    memory = []
    for one in arena.candidates:
        try:
            with arena.hold(one, plan.hold):
                busy_spf = one.spf.memory() if one.spf else None
                memory.append(MemoryUse(one.name, unused[one.name], _memory(one.parts), busy_spf, _judges(one)))
        except EngineError as error:
            progress(f"{one.name} does not hold {plan.hold} sessions: {error}")
            memory.append(MemoryUse(one.name, unused[one.name], None, None, None))
    idle_cpu = {one.name: 1000 * sum(idle[one.name][part] for part in one.parts) for one in arena.candidates}
    others = 1000 * everything - sum(idle_cpu.values())
    return Figures(tuple(runs), tuple(memory), plan.hold, idle_cpu, others)


def _run(
    arena: Arena, candidate: Candidate, point: Point, number: int, *, messages: int, idle: Mapping[str, float]
) -> Run:
    before, begin = _cpu(candidate), time.monotonic()
    delivery = arena.deliver(candidate, point, messages, seed=number)
    after, seconds = _cpu(candidate), time.monotonic() - begin
    each = {name: 1000 * (after[name] - before[name] - idle[name] * seconds) / messages for name in before}
    return Run(
        candidate.name,
        point,
        number,
        parts={name: each[name] for name in candidate.parts},
        spf=each.get(_SPF),
        throughput=messages / delivery.seconds,
        latency=Latency.of(delivery.latencies),
    )


def _idle(candidates: Sequence[Candidate], seconds: float) -> tuple[dict[str, dict[str, float]], float]:
    """Seconds of CPU per second without mail: by each account of each candidate, and by the whole machine."""
    before, machine = {one.name: _cpu(one) for one in candidates}, busy()
    time.sleep(seconds)
    used = {
        one.name: {name: (cpu - before[one.name][name]) / seconds for name, cpu in _cpu(one).items()}
        for one in candidates
    }
    return used, (busy() - machine) / seconds


def _cpu(candidate: Candidate) -> dict[str, float]:
    found = {name: account.cpu() for name, account in candidate.parts.items()}
    return found | ({_SPF: candidate.spf.cpu()} if candidate.spf else {})


def _judges(candidate: Candidate) -> Memory | None:
    judges = {name: account for name, account in candidate.parts.items() if name in JUDGES}
    return _memory(judges) if judges else None


def _memory(accounts: Mapping[str, Account]) -> Memory:
    parts = [account.memory() for account in accounts.values()]
    return Memory(sum(one.anonymous for one in parts), sum(one.kernel for one in parts))


def _rotated(candidates: Sequence[Candidate], by: int) -> Sequence[Candidate]:
    at = by % len(candidates)
    return [*candidates[at:], *candidates[:at]]
