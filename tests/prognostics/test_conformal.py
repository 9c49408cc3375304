from __future__ import annotations

import numpy as np
import pytest

from twinseal.config import parse
from twinseal.errors import ConfigError, DataError
from twinseal.prognostics.conformal import Intervals, fit, measure_coverage

CAP = 125.0


def told(seed: int, units: int = 60, windows: int = 80) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Estimates whose error grows with the truth, with a part that all windows of a unit share."""
    rng = np.random.default_rng(seed)
    unit = np.repeat(np.arange(units), windows)
    truth = rng.uniform(0, CAP, units * windows)
    spread = 2 + 0.12 * truth
    error = 0.7 * rng.normal(size=units)[unit] + 0.7 * rng.normal(size=len(unit))
    return truth + spread * error, truth, unit


def test_they_hold_nine_of_ten_on_units_that_nobody_knew() -> None:
    intervals = fit(*told(1), cap_cycles=CAP)
    held = [float(np.mean(intervals.hold(*told(seed)[:2]))) for seed in range(50, 70)]
    assert 0.88 < float(np.mean(held)) < 0.92


def test_what_is_measured_beforehand_is_what_comes_to_pass() -> None:
    found = measure_coverage(*told(2), cap_cycles=CAP)
    assert 0.86 < found["coverage_share"] < 0.94
    assert 0.005 < found["standard_error"] < 0.03
    assert 10 < found["width_cycles"] < 50


def test_a_failing_machine_has_the_narrower_interval() -> None:
    low, high = fit(*told(3), cap_cycles=CAP).of([10.0, 90.0])
    assert (high - low)[0] < 0.6 * (high - low)[1]


def test_a_repaired_answer_has_the_wider_one() -> None:
    intervals = fit(*told(3), cap_cycles=CAP)
    (low, high), (lower, higher) = intervals.of(60.0), intervals.of(60.0, widen=1.5)
    assert 1.5 * (60.0 - low) == pytest.approx(60.0 - lower)
    assert 1.5 * (high - 60.0) == pytest.approx(higher - 60.0)


def test_no_interval_leaves_what_can_be() -> None:
    low, high = fit(*told(4), cap_cycles=CAP).of(np.array([-50.0, 0.0, CAP, 900.0]))
    assert bool((low >= 0).all()) and bool((high <= CAP).all()) and bool((low <= high).all())


def test_a_unit_with_many_windows_counts_as_one() -> None:
    """One unit of thousands of bad windows among sixty good ones must not set the width."""
    said, truth, unit = told(5)
    bad = np.full(20_000, 60.0)
    crowded = fit(
        np.concatenate([said, bad]),
        np.concatenate([truth, np.zeros(20_000)]),
        np.concatenate([unit, np.full(20_000, 999)]),
        cap_cycles=CAP,
    )
    held = float(np.mean(crowded.hold(*told(80)[:2])))
    assert held < 0.95


def test_too_few_units_are_refused() -> None:
    with pytest.raises(DataError, match="expected at least 5 units, got 4"):
        fit(*told(6, units=4), cap_cycles=CAP)


def test_they_come_back_from_plain_data() -> None:
    intervals = fit(*told(7), cap_cycles=CAP)
    assert intervals == parse(Intervals, intervals.model_dump(mode="json"), "config.json")


@pytest.mark.parametrize(
    "change",
    [
        {"edges": [5.0, 5.0]},
        {"below": [1.0]},
        {"above": [-1.0, 1.0, 1.0]},
        {"coverage": 1.0},
        {"cap_cycles": 0.0},
        {"more": 1},
    ],
)
def test_intervals_that_hold_nothing_cannot_be_built(change: dict[str, object]) -> None:
    honest = {"coverage": 0.9, "edges": [5.0, 9.0], "below": [1.0] * 3, "above": [1.0] * 3, "cap_cycles": CAP}
    assert 0.9 == parse(Intervals, honest, "config.json").coverage
    with pytest.raises(ConfigError, match=r"intervals|unknown key"):
        parse(Intervals, honest | change, "config.json")
