"""Figures as tables for people, and beside the budgets that the design set."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bench.candidates import JUDGES, MAILSTACK, METHODS, RESOLVER_PART
from bench.figures import BARE, Figures, Run, Spread, ratio

_MB = 1e6
_THIRD = 1 / 3
# Medians of two benchmarks that differ by more do not show the same.
AGREEMENT = 0.10
# The budgets in milliseconds of CPU per message are for a machine on which bare Postfix takes this.
_BARE_CPU = 2.1
# More than this of one processor, in milliseconds per second, taken by other things is a disturbance.
_DISTURBANCE = 50


@dataclass(frozen=True)
class Budget:
    """A figure and its limits: what must be kept, and what is aimed at."""

    what: str
    measured: float
    must: float
    aim: float | None
    unit: str = ""

    @property
    def verdict(self) -> str:
        if self.measured > self.must:
            return "NOT MET"
        return "met" if self.aim is None or self.measured > self.aim else "met, and the aim"


def text(figures: Figures) -> str:
    """All tables."""
    rounds = max(run.round for run in figures.runs)
    way = " by TLS" if figures.tls else ""
    parts = [
        f"CPU milliseconds per message of 4 kB{way}, of all containers, above idle; medians of {rounds} rounds",
        _table(_cpu_rows(figures)),
        "CPU milliseconds per message over bare Postfix: mailstack's beside the others', by pairs of the same round",
        _table(_ratio_rows(figures)),
        "mailstack's containers, CPU milliseconds per message",
        _table(_part_rows(figures)),
        "Memory, anonymous and kernel, in MB; CPU milliseconds per second without mail",
        _table(_memory_rows(figures)),
        "Budgets",
        _table(_budget_rows(figures)),
        *_notes(figures),
    ]
    return "\n\n".join(parts) + "\n"


def agreement(one: Figures, other: Figures, *, relative: bool = False) -> tuple[str, bool]:
    """Two benchmarks' medians side by side, the most different first; and whether all that both have agree."""
    first, second = (dict(each.medians(relative=relative)) for each in (one, other))
    pairs = [(name, first[name], second[name]) for name in first if name in second]
    apart = sorted(((abs(b - a) / ((a + b) / 2), name, a, b) for name, a, b in pairs), reverse=True)
    rows = [["figure", "first", "second", "apart"]]
    rows += [[name, f"{a:.2f}", f"{b:.2f}", f"{share:.1%}"] for share, name, a, b in apart]
    notes = [f"only in one: {name}" for name in sorted(first.keys() ^ second.keys())]
    for point in one.points:
        if point in other.points:
            speeds = (f"{Spread.of(each.means(point, lambda run: run.cpu)).median:.2f}" for each in (one, other))
            notes.append(f"{point}: the mean of all set-ups in a round is {' and '.join(speeds)} ms of CPU")
    agreed = one.candidates == other.candidates and all(share <= AGREEMENT for share, *_ in apart)
    return "\n".join([_table(rows), *notes, ""]), agreed


def budgets(figures: Figures) -> Iterator[Budget]:
    """What concerns CPU and memory; each CPU budget at each point."""
    for point in figures.points:
        ours = figures.overhead(MAILSTACK, point)
        spf = [_spf(run) for run in figures.at(MAILSTACK, point)]
        everything = ratio(ours, figures.overhead("tutorial-opendmarc", point)).median
        rspamd = ratio(ours, figures.overhead("rspamd", point)).median
        spawned = ratio(spf, [_spf(run) for run in figures.at("tutorial", point)]).median
        judges = [sum(run.parts.get(part, 0.0) for part in JUDGES) for run in figures.at(MAILSTACK, point)]
        scaled = ratio(judges, (run.cpu / _BARE_CPU for run in figures.at(BARE, point))).median
        yield Budget(f"{point}: authentication, of tutorial-opendmarc's", everything, 0.6, None)
        yield Budget(f"{point}: authentication, of rspamd's", rspamd, 1.3, 1.0)
        yield Budget(f"{point}: SPF and DMARC services", Spread.of(judges).median, 0.7, 0.4, " ms")
        yield Budget(f"{point}: SPF and DMARC services, where bare takes {_BARE_CPU} ms", scaled, 0.7, 0.4, " ms")
        yield Budget(f"{point}: SPF check, of the tutorial's", spawned, _THIRD, None)
    ours_use, tutorial = figures.use(MAILSTACK), figures.use("tutorial")
    yield Budget("memory: idle", ours_use.idle.total / _MB, 80, 60, " MB")
    held = f"{figures.sessions} sessions"
    if ours_use.busy and tutorial.busy:
        yield Budget(f"memory: {held}, of the tutorial's", ours_use.busy.total / tutorial.busy.total, _THIRD, None)
    if ours_use.busy_judges:
        yield Budget(f"memory: SPF and DMARC services at {held}", ours_use.busy_judges.total / _MB, 60, None, " MB")
    if ours_use.busy_spf and tutorial.busy_spf:
        share = ours_use.busy_spf.total / tutorial.busy_spf.total
        yield Budget(f"memory: SPF service at {held}, of the tutorial's", share, 0.1, None)


def _cpu_rows(figures: Figures) -> Iterator[list[str]]:
    yield [
        *("load", "set-up", "CPU", "quartiles", "over bare", "SPF", "resolver"),
        *("messages/s", "DATA 50 %", "95 %", "99 %"),
    ]
    for point in figures.points:
        for name in figures.candidates:
            cpu = figures.spread(name, point, lambda run: run.cpu)
            runs = figures.at(name, point)
            spf = [run.spf for run in runs if run.spf is not None]
            latencies = [figures.spread(name, point, value).median for value in (_p50, _p95, _p99)]
            yield [
                str(point),
                name,
                f"{cpu.median:.2f}",
                f"{cpu.low:.2f}-{cpu.high:.2f}",
                f"{Spread.of(figures.overhead(name, point)).median:.2f}" if name != BARE else "",
                f"{Spread.of(spf).median:.2f}" if spf else "",
                f"{figures.spread(name, point, lambda run: run.parts[RESOLVER_PART]).median:.2f}",
                f"{figures.spread(name, point, lambda run: run.throughput).median:.0f}",
                *(f"{one:.1f}" for one in latencies),
            ]


def _ratio_rows(figures: Figures) -> Iterator[list[str]]:
    yield ["load", "beside", "ratio", "quartiles"]
    for point in figures.points:
        ours = figures.overhead(MAILSTACK, point)
        for name in figures.candidates:
            if name not in {BARE, MAILSTACK}:
                found = ratio(ours, figures.overhead(name, point))
                yield [str(point), name, f"{found.median:.2f}", f"{found.low:.2f}-{found.high:.2f}"]


def _part_rows(figures: Figures) -> Iterator[list[str]]:
    parts = list(figures.at(MAILSTACK, figures.points[0])[0].parts)
    yield ["load", *parts]
    for point in figures.points:
        runs = figures.at(MAILSTACK, point)
        yield [str(point), *(f"{Spread.of(run.parts[part] for run in runs).median:.2f}" for part in parts)]


def _memory_rows(figures: Figures) -> Iterator[list[str]]:
    yield ["set-up", "idle", f"{figures.sessions} sessions past RCPT", "of it SPF", "SPF and DMARC", "idle CPU"]
    for one in figures.memory:
        yield [
            one.candidate,
            f"{one.idle.total / _MB:.0f}",
            f"{one.busy.total / _MB:.0f}" if one.busy else "refuses",
            *(f"{part.total / _MB:.0f}" if part else "" for part in (one.busy_spf, one.busy_judges)),
            f"{figures.idle_cpu[one.candidate]:.1f}",
        ]


def _budget_rows(figures: Figures) -> Iterator[list[str]]:
    yield ["what", "measured", "must", "aim", ""]
    for one in budgets(figures):
        aim = f"≤ {one.aim:.3g}{one.unit}" if one.aim is not None else ""
        yield [one.what, f"{one.measured:.2f}{one.unit}", f"≤ {one.must:.3g}{one.unit}", aim, one.verdict]


def _notes(figures: Figures) -> Iterator[str]:
    missing = METHODS["tutorial-opendmarc"] - METHODS[MAILSTACK]
    if missing:
        yield f"mailstack does not judge {', '.join(sorted(missing))} in this checkout: its figures are without."
    if figures.others_cpu > _DISTURBANCE:
        yield (
            f"DISTURBED: without mail, other things than the candidates took {figures.others_cpu:.0f} ms of CPU "
            "per second. Ratios by pairs of a round stand that to a degree, medians do not."
        )


def _table(rows: Iterator[list[str]] | Sequence[list[str]]) -> str:
    """Aligned columns: the first ones are words and begin at the left, numbers end at the right."""
    found = list(rows)
    widths = [max(map(len, column)) for column in zip(*found, strict=True)]
    words = [not any(cell[:1].isdigit() for cell in column[1:]) for column in zip(*found, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if word else cell.rjust(width)
            for cell, width, word in zip(row, widths, words, strict=True)
        ).rstrip()
        for row in found
    )


def _spf(run: Run) -> float:
    assert run.spf is not None  # noqa: S101
    return run.spf


def _p50(run: Run) -> float:
    return run.latency.p50


def _p95(run: Run) -> float:
    return run.latency.p95


def _p99(run: Run) -> float:
    return run.latency.p99
