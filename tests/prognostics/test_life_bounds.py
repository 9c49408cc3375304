from __future__ import annotations

import numpy as np
import pytest

from twinseal.config import parse
from twinseal.errors import ConfigError, DataError
from twinseal.prognostics.life_bounds import SLACK_CYCLES, LifeBound, fit_life_bound, locked_early, uncapped

CAP = 125.0


def told(seed: int, units: int = 60) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Whole lives of 200 cycles: estimates that err by a part of their own, and by a part that lasts a life."""
    rng = np.random.default_rng(seed)
    left = np.tile(np.arange(199, -1, -1.0), units)
    unit = np.repeat(np.arange(units), 200)
    spread = 2 + 0.07 * np.minimum(left, CAP)
    error = rng.normal(size=units)[unit] + 0.4 * rng.normal(size=len(unit))
    return np.clip(np.minimum(left, CAP) + spread * error, 0, CAP), left, unit


def test_of_a_hundred_lives_about_one_is_locked_too_early_at_most() -> None:
    """Each of twenty bounds is set by 120 lives, and tried on 200 that it does not know."""
    shares, reached = [], []
    for seed in range(20):
        bound = fit_life_bound(*told(seed, 120), cap_cycles=CAP)
        shares.append(float(locked_early(bound, *told(1_000 + seed, 200)).mean()))
        reached.append(bound.false_lock_share)
    assert max(reached) <= 0.01
    assert 0 < float(np.mean(shares)) + 1e-9 and float(np.mean(shares)) <= 0.01


def test_margins_say_something() -> None:
    bound = fit_life_bound(*told(1), cap_cycles=CAP)
    assert 0 < bound.margins[0] < bound.margins[-1] < 60
    assert np.isinf(bound.at_most([CAP, 2 / 3 * CAP])).all()
    assert bound.at_most([10.0])[0] == pytest.approx(10.0 + bound.margins[0])
    assert bound.at_most([10.0], 2.0)[0] == pytest.approx(10.0 + 2 * bound.margins[0])


def test_few_lives_reach_what_they_say_and_not_more() -> None:
    bound = fit_life_bound(*told(2, units=19), cap_cycles=CAP)
    assert bound.lives == 19
    assert bound.false_lock_share == pytest.approx(1 / 20)
    with pytest.raises(DataError, match="expected at least 5 lives, got 4"):
        fit_life_bound(*told(2, units=4), cap_cycles=CAP)


def test_one_row_is_enough_to_lock_a_life() -> None:
    bound = LifeBound(edges=(80.0,), margins=(5.0,), lives=99, false_lock_share=0.01, unknown_cycles=20.0)
    left, units = np.array([90.0, 89.0, 88.0, 88.0]), np.array([0, 0, 1, 1])
    estimate = np.array([85.0, 89.0 - SLACK_CYCLES - 5.1, 88.0 - SLACK_CYCLES - 4.9, 90.0])
    assert locked_early(bound, estimate, left, units).tolist() == [True, False]


def test_labels_below_the_cap_tell_the_whole_life() -> None:
    left = np.concatenate([np.arange(149, -1, -1.0), np.arange(9, -1, -1.0)])
    cycles = np.concatenate([np.arange(1, 151), np.arange(1, 11)])
    units = np.repeat([4, 9], [150, 10])
    assert np.array_equal(left, uncapped(np.minimum(left, 40.0), cycles, units, 40.0))
    always = np.full(3, 40.0)
    assert np.array_equal(always, uncapped(always, np.array([1, 2, 3]), np.zeros(3, dtype=np.int64), 40.0))


def test_an_unknown_unit_is_given_what_nine_of_ten_rows_have_left() -> None:
    bound = fit_life_bound(*told(3), cap_cycles=CAP)
    assert bound.unknown_cycles == pytest.approx(19.9)


def test_a_bound_comes_back_from_plain_data() -> None:
    bound = fit_life_bound(*told(4), cap_cycles=CAP)
    assert bound == parse(LifeBound, bound.model_dump(mode="json"), "config.json")


@pytest.mark.parametrize(
    "change",
    [
        {"edges": [5.0, 5.0, 6.0, 7.0]},
        {"edges": [0.0, 20.0, 30.0, 40.0]},
        {"edges": [], "margins": []},
        {"margins": [1.0]},
        {"margins": [1.0, 1.0, 1.0, -1.0]},
        {"margins": [1.0, 1.0, 1.0, 1e9]},
        {"lives": 0},
        {"false_lock_share": 0.0},
        {"false_lock_share": 1.0},
        {"unknown_cycles": -1.0},
        {"other": 1},
    ],
)
def test_what_is_no_bound_is_refused(change: dict) -> None:
    bound = fit_life_bound(*told(5), cap_cycles=CAP)
    with pytest.raises(ConfigError):
        parse(LifeBound, bound.model_dump(mode="json") | change, "config.json")
