"""The benchmark's statistics, budgets and tables."""

import dataclasses
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench import report
from bench.__main__ import main
from bench.accounting import Memory
from bench.arena import passes
from bench.candidates import MAILSTACK, NAMES
from bench.figures import Figures, Latency, MemoryUse, Point, Run, Spread, ratio
from bench.load import LOADS, MESSAGE_OCTETS, message
from bench.send import mix
from mailstack.errors import EngineError

POINT = Point("signed", 10)
MB = 1_000_000
# CPU milliseconds per message, of which the SPF service's.
COST = {
    "bare": (2.0, None),
    "tutorial": (4.0, 0.9),
    "tutorial-opendmarc": (6.0, 0.9),
    "rspamd": (3.5, None),
    MAILSTACK: (4.0, 0.3),
}


def run(candidate: str, number: int, slowness: float = 1.0) -> Run:
    cost, spf = COST[candidate]
    parts = {"resolver": 0.1, "policyd-spf": spf or 0.0}
    parts["postfix"] = cost - sum(parts.values())
    return Run(
        candidate,
        POINT,
        number,
        {name: value * slowness for name, value in parts.items()},
        None if spf is None else spf * slowness,
        300.0,
        Latency(1.0, 2.0, 3.0),
    )


def figures(slowness: tuple[float, ...] = (1.0, 1.0, 1.0)) -> Figures:
    """Rounds in which the whole machine was so much slower."""
    return Figures(
        tuple(run(name, number, slow) for number, slow in enumerate(slowness, 1) for name in NAMES),
        tuple(
            MemoryUse(name, Memory(40 * MB, 5 * MB), Memory(300 * MB, 0), Memory(20 * MB, 0), Memory(45 * MB, 0))
            for name in NAMES
        ),
        100,
        dict.fromkeys(NAMES, 1.0),
        0.0,
    )


def test_quartiles() -> None:
    """Median and quartiles are those of the values themselves, and of a single value that value."""
    assert Spread.of([5, 1, 3, 2, 4]) == Spread(2, 3, 4)
    assert Spread.of([7]) == Spread(7, 7, 7)


def test_percentiles() -> None:
    """Latencies are given in milliseconds, whatever the order of the messages."""
    seconds = [at / 1000 for at in (*range(50, 101), *range(50))]
    assert dataclasses.astuple(Latency.of(seconds)) == pytest.approx((50, 95, 99))


def test_slow_rounds_do_not_change_ratios() -> None:
    """What slows the whole machine down in some rounds is in both sides of a pair."""
    slow = figures((1.0, 1.7, 1.3))
    found = ratio(slow.overhead(MAILSTACK, POINT), slow.overhead("tutorial-opendmarc", POINT))
    assert dataclasses.astuple(found) == pytest.approx((0.5, 0.5, 0.5))
    assert slow.overhead("bare", POINT) == [0, 0, 0]


def test_json() -> None:
    """What was measured is the same after writing and reading it."""
    assert Figures.from_json(figures().to_json()) == figures()


def test_budgets() -> None:
    """Each budget is judged by what it names."""
    verdicts = {one.what.removeprefix(f"{POINT}: "): (one.measured, one.verdict) for one in report.budgets(figures())}
    assert verdicts["authentication, of tutorial-opendmarc's"] == (pytest.approx(0.5), "met")
    assert verdicts["authentication, of rspamd's"] == (pytest.approx(4 / 3), "NOT MET")
    assert verdicts["SPF and DMARC services"] == (pytest.approx(0.3), "met, and the aim")
    assert verdicts["SPF and DMARC services, where bare takes 2.1 ms"] == (pytest.approx(0.315), "met, and the aim")
    assert verdicts["SPF check, of the tutorial's"] == (pytest.approx(1 / 3), "met")
    assert verdicts["memory: idle"] == (45, "met, and the aim")
    assert verdicts["memory: 100 sessions, of the tutorial's"] == (1, "NOT MET")
    assert verdicts["memory: SPF and DMARC services at 100 sessions"] == (45, "met")
    assert verdicts["memory: SPF service at 100 sessions, of the tutorial's"] == (1, "NOT MET")


def test_tables_name_every_candidate_and_budget() -> None:
    """Nothing that was measured is left out of the tables."""
    text = report.text(figures())
    assert all(f"  {name}" in text for name in NAMES)
    assert all(one.what in text for one in report.budgets(figures()))
    assert "DISTURBED" not in text
    assert "DISTURBED" in report.text(dataclasses.replace(figures(), others_cpu=500))


def test_a_candidate_that_refuses_sessions() -> None:
    """It has no memory with sessions, and nothing is compared with it."""
    whole = figures()
    memory = [
        dataclasses.replace(one, busy=None, busy_spf=None, busy_judges=None) if one.candidate == "tutorial" else one
        for one in whole.memory
    ]
    some = dataclasses.replace(whole, memory=tuple(memory))
    assert Figures.from_json(some.to_json()) == some
    assert [line.split()[:3] for line in report.text(some).splitlines() if "refuses" in line] == [
        ["tutorial", "45", "refuses"]
    ]
    assert not [one for one in report.budgets(some) if "sessions, of the tutorial's" in one.what]
    for pair in ((whole, some), (some, whole)):
        text, agreed = report.agreement(*pair)
        assert agreed
        assert "only in one: memory, tutorial: 100 sessions\n" in text


def test_agreement() -> None:
    """Two runs agree when no median is more than a tenth apart from the other's; relative ones, however fast it was."""
    whole = figures()
    assert report.agreement(whole, figures((1.0, 1.09, 1.3)))[1]
    text, agreed = report.agreement(whole, figures((1.2, 1.2, 1.2)))
    assert not agreed
    assert "18.2%" in text
    text, agreed = report.agreement(whole, figures((1.2, 1.2, 1.2)), relative=True)
    assert agreed
    assert " ms of CPU" in text
    slower = tuple(
        dataclasses.replace(one, parts={"all": 1.2 * one.cpu}) if one.candidate == MAILSTACK else one
        for one in whole.runs
    )
    text, agreed = report.agreement(whole, dataclasses.replace(whole, runs=slower), relative=True)
    assert not agreed
    assert text.splitlines()[1].startswith(f"{POINT}, {MAILSTACK}: CPU, of the mean")
    assert not report.agreement(whole, dataclasses.replace(whole, memory=whole.memory[1:]))[1]


def test_figures_of_an_earlier_run_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that ends in an error leaves the file alone that it was to write; one that could not write it does not begin."""
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent")
    file = tmp_path / "figures.json"
    file.write_text("figures")
    assert CliRunner().invoke(main, ["run", "--quick", "--save", str(file)]).exit_code == EngineError.exit_code
    assert file.read_text() == "figures"
    done = CliRunner().invoke(main, ["run", "--save", str(tmp_path / "none" / "figures.json")])
    assert (done.exit_code, "is not there, or not writable" in done.output) == (2, True)


def test_mix_follows_zipf() -> None:
    """Of several senders the n-th sends in proportion to 1/n; the same seed gives the same order; one sends all."""
    load = [(f"user@d{rank}.example", b"") for rank in range(1, 201)]
    order = mix(load, 20_000, 1)
    assert order == mix(load, 20_000, 1) != mix(load, 20_000, 2)
    counts = [order.count(one) for one in load[:4]]
    assert [counts[0] / one for one in counts] == pytest.approx([1, 2, 3, 4], rel=0.15)
    assert set(mix(load[:1], 5, 3)) == {load[0]}


def test_mix_without_a_seed_takes_turns() -> None:
    """Each sender comes once before any comes twice."""
    load = [(f"user@d{rank}.example", b"") for rank in range(1, 4)]
    assert mix(load, 5, None) == [*load, *load[:2]]


@pytest.mark.parametrize("name", LOADS)
def test_messages(name: str) -> None:
    """Messages have the length that is said, whole lines, and need no dot-stuffing (RFC 5321 section 4.5.2)."""
    content = message(LOADS[name].domains[-1])
    assert len(content) == MESSAGE_OCTETS
    lines = content.split(b"\r\n")
    assert lines[-1] == b""
    assert not any(line.startswith(b".") or b"\n" in line or b"\r" in line for line in lines)


def test_what_a_delivered_message_shows() -> None:
    """Passes are read from both kinds of fields, and nothing but passes counts."""
    content = (
        b"Authentication-Results: a.example; dkim=pass header.d=b.example;\r\n dmarc=fail header.from=b.example\r\n"
        b"Received-SPF: Pass (mailfrom) client-ip=192.0.2.1\r\nSubject: spf=fail dmarc=pass\r\n\r\ndmarc=pass\r\n"
    )
    assert passes(content) == {"dkim", "spf"}
    assert passes(b"Received-SPF: softfail (x)\r\n\r\n") == frozenset()
