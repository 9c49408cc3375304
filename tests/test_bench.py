"""The benchmarks' own arithmetic: what they say is in reach must be."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bench import __main__ as bench
from bench import accepted, attack, cold_start, soak, twin_rates
from bench.accepted import TOLERANCES, Accepted, compare
from bench.calibration import calibrate
from bench.table import Row, machine, ratio, show
from tests.mosquitto import needs_mosquitto
from twinseal.digests import parse_json
from twinseal.twin.runtime import UnverifiedRuntime


def row(*samples: float, unit: str = "s", reach: float | None = None) -> Row:
    return Row("b", "w", samples, unit, reach)


def test_ratio_is_to_the_slowest_of_the_same_repetition() -> None:
    found = ratio("b", "w", row(10.0, 30.0), [row(5.0, 1.0), row(1.0, 20.0)], 1.25)
    assert ((2.0, 1.5), 1.75, False) == (found.samples, found.median, found.reached)


@pytest.mark.parametrize(
    ("reach", "reached"), [(None, None), (2.0, True), (1.99, False)], ids=["none", "within", "beyond"]
)
def test_median_decides_what_is_reached(reach: float | None, reached: bool | None) -> None:
    assert reached is row(1.0, 2.0, 900.0, reach=reach).reached


def test_row_keeps_its_samples_and_their_spread() -> None:
    found = row(3.0, 1.0, 2.0, reach=2.0).to_dict()
    assert (3.0, 1.0, 2.0) == found["samples"]
    assert (2.0, 1.0, 3.0, True) == tuple(found[key] for key in ("median", "least", "greatest", "reached"))


def test_machine_is_named(tmp_path: Path) -> None:
    about = machine(tmp_path)
    assert {"cpu", "cores", "memory_gib", "kernel", "python", "packages", "disk", "load_1_min"} == set(about)
    assert about["cores"] >= 1
    assert all(about[key] for key in ("cpu", "kernel", "python", "disk"))


def test_table_says_what_was_missed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    show([row(1.0, 3.0, 2.0, reach=2.0), row(7.0, unit="MiB", reach=6.0)], machine(tmp_path))
    lines = capsys.readouterr().out.splitlines()
    assert [["2.00 s", "1.00 – 3.00", "≤ 2.00 s", "reached"], ["7 MiB", "7 – 7", "≤ 6 MiB", "missed"]] == [
        [part.strip() for part in line.split("  ") if part.strip()][2:] for line in lines if " w " in line
    ]


def compared(now: Row, before: Accepted, calibration_s: float = 1.0) -> accepted.Comparison:
    return compare([now], calibration_s, {(now.bench, now.what): before})[0]


def test_times_are_compared_in_multiples_of_the_calibration() -> None:
    """The machine is twice as slow as the one whose figure was accepted: twice the time is the same work."""
    found = compared(row(4.0), Accepted(2.0, "s", 5, calibration_s=1.0), calibration_s=2.0)
    assert (4.0, 1.0, False) == (found.expected, found.ratio, found.worse)
    assert compared(row(4.0), Accepted(2.0, "s", 5, calibration_s=1.0), calibration_s=1.0).worse


@pytest.mark.parametrize("unit", ["×", "MiB", "cycles", "%", ""])
def test_figures_that_are_not_times_are_compared_as_they_are(unit: str) -> None:
    now = row(*[12.0] * 5, unit=unit)
    found = compared(now, Accepted(12.0, unit, 5, calibration_s=9.0), calibration_s=1.0)
    assert (12.0, 1.0, False) == (found.expected, found.ratio, found.worse)


@pytest.mark.parametrize("unit", list(TOLERANCES))
def test_what_exceeds_the_accepted_figure_by_more_than_the_tolerance_is_worse(unit: str) -> None:
    tolerance = TOLERANCES[unit]
    most = 100.0 * (1 + tolerance.share) + tolerance.amount
    before = Accepted(100.0, unit, 1, calibration_s=1.0)
    verdicts = [compared(row(value, unit=unit), before).worse for value in (1.0, most - 0.01, most + 0.01)]
    assert [False, False, True] == verdicts


def test_an_accepted_figure_of_zero_is_exceeded_too() -> None:
    before = Accepted(0.0, "%", 1, calibration_s=1.0)
    assert [None, False] == [compared(row(0.5, unit="%"), before).ratio, compared(row(0.5, unit="%"), before).worse]
    assert compared(row(1.5, unit="%"), before).worse


@pytest.mark.parametrize(
    "before",
    [Accepted(1.0, "%", 1, 1.0), Accepted(1.0, "cycles", 5, 1.0)],
    ids=["another unit", "more seeds"],
)
def test_what_cannot_be_compared_is_not(before: Accepted) -> None:
    found = compared(row(900.0, unit="cycles"), before)
    assert (None, None, False) == (found.expected, found.ratio, found.worse)


def test_every_unit_that_a_benchmark_writes_has_a_tolerance() -> None:
    units = {figure["unit"] for result in accepted.read().values() for figure in result["figures"].values()}
    assert units <= set(TOLERANCES)


def test_the_comparison_says_what_got_worse_and_by_how_much_it_may(capsys: pytest.CaptureFixture[str]) -> None:
    before = {("b", "w"): Accepted(1.0, "s", 3, calibration_s=0.5)}
    accepted.show(compare([row(1.0), row(9.0), Row("b", "new", (7.0,), "s")], 1.0, before))
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    for expected in ("b w 1.00 s 2.00 s 0.50", "b w 9.00 s 2.00 s 4.50 worse", "b new 7.00 s none"):
        assert expected in lines
    assert ["worse: b, w: 9.00 s, accepted 2.00 s (tolerance 30 %)"] == [line for line in lines if "tolerance" in line]


@pytest.mark.proof
def test_the_calibration_is_the_same_work_every_time() -> None:
    """Two runs on one machine differ by the machine's mood, not by a factor."""
    first, second = calibrate(), calibrate()
    assert 0.05 < first < 60
    assert 1 / 5 < first / second < 5


@pytest.fixture
def measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Runs `python -m bench pull` with samples instead of measurements, and a calibration of one second."""
    monkeypatch.setattr(bench, "ROOT", tmp_path)
    monkeypatch.setattr(accepted, "ACCEPTED", tmp_path / "accepted.json")
    monkeypatch.setattr(bench, "calibrate", lambda: 1.0)

    def run(*samples: float, words: tuple[str, ...] = ("--repeats", "2")) -> int:
        monkeypatch.setattr(bench, "bench", lambda name: lambda folder, repeats: [row(*samples * repeats, reach=2.0)])
        monkeypatch.setattr("sys.argv", ["bench", "pull", *words, "--scratch", str(tmp_path / "scratch")])
        return bench.main()

    return run


@pytest.mark.parametrize(("samples", "status"), [((1.0,), 0), ((3.0,), 1)])
def test_benchmark_leaves_its_samples_and_its_verdict(
    samples: tuple[float, ...],
    status: int,
    measured: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert status == measured(*samples)
    result = parse_json((tmp_path / "reports/bench/pull.json").read_bytes(), "pull.json")
    assert [*samples, *samples] == result["rows"][0]["samples"]
    assert 1.0 == result["calibration_s"]
    assert [] == list((tmp_path / "scratch").iterdir())
    assert "reached" in capsys.readouterr().out or status


def test_accepted_results_are_what_the_next_run_is_compared_with(
    measured: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert 1 == measured(1.0, words=("--accept",))
    assert "nothing accepted" in capsys.readouterr().out
    assert 0 == measured(1.0)
    assert 0 == measured(words=("--accept",))
    assert 0 == measured(1.2)
    assert 1 == measured(1.4)
    assert "worse: b, w: 1.40 s, accepted 1.00 s" in capsys.readouterr().out
    assert 0 == measured(words=("--accept",))
    assert 0 == measured(1.4)


def test_accepting_one_benchmark_leaves_the_others_as_they_were(measured: Callable[..., int], tmp_path: Path) -> None:
    other = {
        "time": "t",
        "machine": {},
        "calibration_s": 2.0,
        "figures": {"w": {"median": 5.0, "unit": "s", "samples": 1}},
    }
    (tmp_path / "accepted.json").write_text(json.dumps({"other": other}))
    measured(1.0)
    measured(words=("--accept",))
    known = accepted.read()
    assert other == known["other"]
    assert {"w": {"median": 1.0, "unit": "s", "samples": 2}} == known["b"]["figures"]


@pytest.mark.parametrize("words", [["pul"], ["pull", "--repeats", "0"]])
def test_what_is_not_known_is_refused(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["bench", *words])
    with pytest.raises(SystemExit):
        bench.main()
    names = "accuracy, attack, cold_start, fleet, frames, pull, serve, soak, start, twin_rates, validation"
    assert f"expected of {names}, and one repeat at least" in capsys.readouterr().err


def test_the_benchmark_of_attacks_runs_and_its_two_attacks_agree(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With few windows: that a benchmark still runs is found here, not on the day when somebody wants its figures."""
    monkeypatch.setattr(attack, "WINDOWS", 4)
    rows = {found.what: found for found in attack.measure(tmp_path, 1)}
    assert 7 == len(rows)
    assert rows["and how far apart they end, of the target"].reached


def test_the_benchmark_of_the_twin_answers_what_it_measures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Likewise; and the machines of its scene are mostly sound: of a guard that abstains the rate would say nothing."""
    monkeypatch.setattr(twin_rates, "UNITS", 20)
    monkeypatch.setattr(twin_rates, "MANY_UNITS", 20)
    rates = twin_rates.rates(1)
    assert all(value > 0 for what in rates for value in rates[what] if "memory" not in what)
    packages, size = twin_rates.installed()
    assert packages > 10
    assert size > 10


def test_the_machines_of_the_benchmark_are_answered_as_sound_ones() -> None:
    model = twin_rates.engine()
    known = twin_rates.life(100, len(model.channels))
    readings = model.normaliser.restore(known, np.zeros(len(known), dtype=np.int64))
    runtime, names = UnverifiedRuntime(model), model.contract.inputs
    rows = [{"unit": "a", "cycle": at} | dict(zip(names, row, strict=True)) for at, row in enumerate(readings, 1)]
    assert np.mean([answer.readings == "refused" for answer in runtime.predict_rows(rows)]) < 0.05


@needs_mosquitto
@pytest.mark.proof
def test_a_short_soak_loses_nothing_though_everything_fails_once(tmp_path: Path) -> None:
    run = soak.Soak(tmp_path, seconds=20.0, units=40, burst=4)
    run.run()
    rows = {found.what: found for found in run.rows()}
    assert 40 * 44 == rows["rows given"].median
    assert rows["rows of 40 machines that were lost"].reached
    assert rows["rows answered otherwise the second time"].reached


@pytest.mark.proof
def test_a_cold_start_is_measured_on_both_sides(tmp_path: Path) -> None:
    rows = {found.what: found.median for found in cold_start.measure(tmp_path, 1)}
    assert 0 < rows["of the twin's CPU: admit"] < rows["twin, CPU"]
    assert rows["twin : pyfunc, CPU"] < 1
