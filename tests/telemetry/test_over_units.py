from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinseal.telemetry.over_units import MOST_BAD, clipped_weights, largest, median, reach, tolerated, winsorised_mean

STATISTICS = (winsorised_mean, largest, median)
numbers = st.floats(-1e6, 1e6)


@pytest.mark.parametrize("statistic", STATISTICS)
@given(values=st.lists(numbers, min_size=80, max_size=90), bad=st.integers(1, 3), seed=st.integers(0, 99))
def test_bad_units_move_a_statistic_no_further_than_is_said(
    statistic: Callable[[np.ndarray], np.ndarray], values: list[float], bad: int, seed: int
) -> None:
    """Whatever `bad` units say, wherever they are; and no further than the others' own values."""
    rng, honest = np.random.default_rng(seed), np.array(values)
    low, high = reach(statistic, honest, bad)
    assert low <= statistic(honest) <= high
    changed = honest.copy()
    changed[rng.permutation(len(honest))[:bad]] = rng.choice([-1e300, -1.0, 0.0, 1.0, 1e300], bad)
    slack = 1e-9 * np.abs(honest).max()
    assert low - slack <= statistic(changed) <= high + slack
    assert honest.min() <= low and high <= honest.max()


@pytest.mark.parametrize("statistic", (winsorised_mean, largest))
def test_more_bad_units_than_are_tolerated_have_no_bound(statistic: Callable[[np.ndarray], np.ndarray]) -> None:
    _, high = reach(statistic, np.arange(90.0), MOST_BAD + 1)
    assert high == np.inf


def test_reach_is_attained() -> None:
    values = np.arange(60.0)
    low, high = reach(winsorised_mean, values, 2)
    assert high == winsorised_mean(np.append(values[2:], [1e300, 1e300]))
    assert low == winsorised_mean(np.append(values[:-2], [-1e300, -1e300]))


def test_a_unit_without_a_value_has_no_vote() -> None:
    values = np.append(np.arange(20.0), [np.nan] * 5)[:, None]
    assert winsorised_mean(values)[0] == winsorised_mean(np.arange(20.0)[:, None])[0]
    assert np.isnan(winsorised_mean(np.full((6, 1), np.nan))[0])


def test_reach_is_of_the_units_that_have_a_value() -> None:
    """In a regime in which not every unit was operated, the others are the ones that may be bad."""
    values = np.append(np.arange(60.0), [np.nan] * 20)
    for found, expected in zip(
        reach(winsorised_mean, values, 2), reach(winsorised_mean, np.arange(60.0), 2), strict=True
    ):
        assert found == expected


def test_no_contribution_is_larger_than_the_others_own() -> None:
    sizes = np.append(np.ones(60), [1e9, 1e12])
    assert (clipped_weights(sizes) * sizes).max() == 1.0
    assert clipped_weights(np.zeros(9)).tolist() == [1.0] * 9


def test_few_units_tolerate_fewer() -> None:
    assert [0, 0, 1, 1, 2, 2, 3, 3] == [tolerated(n) for n in (1, 19, 20, 49, 50, 79, 80, 200)]
