from __future__ import annotations

import numpy as np
import pytest
from guard.conftest import untrained_params
from hypothesis import given
from hypothesis import strategies as st

from twinseal.guard import cross_channel
from twinseal.guard.cross_channel import CrossChannel


def covariance(seed: int, channels: int) -> np.ndarray:
    factors = np.random.default_rng(seed).normal(size=(channels, channels + 2))
    return factors @ factors.T / channels + 0.1 * np.eye(channels)


def channels_of(matrix: np.ndarray) -> CrossChannel:
    precision = np.linalg.inv(matrix)
    precision = (precision + precision.T) / 2
    return CrossChannel(untrained_params(len(matrix), precision=tuple(map(tuple, precision.tolist()))))


@given(seed=st.integers(0, 10_000), channels=st.integers(2, 8), data=st.data())
def test_what_the_rest_expects_is_the_regression_on_it(seed: int, channels: int, data: st.DataObject) -> None:
    without = data.draw(st.sets(st.integers(0, channels - 1), max_size=channels - 1))
    matrix, mine = covariance(seed, channels), sorted(without)
    remaining = channels_of(matrix).leave_out(frozenset(without))
    rest = [i for i in range(channels) if i not in without]
    regression = np.linalg.solve(matrix[np.ix_(rest, rest)], matrix[np.ix_(rest, mine)])
    assert rest == remaining.channels.tolist()
    np.testing.assert_allclose(remaining.expected[rest], regression, atol=1e-8)
    np.testing.assert_array_equal(remaining.expected[mine], 0.0)


@given(seed=st.integers(0, 10_000), channels=st.integers(2, 8), data=st.data())
def test_disagreement_is_the_error_of_that_regression_in_its_deviations(
    seed: int, channels: int, data: st.DataObject
) -> None:
    without = data.draw(st.sets(st.integers(0, channels - 1), max_size=channels - 2))
    matrix = covariance(seed, channels)
    remaining = channels_of(matrix).leave_out(frozenset(without))
    row = np.random.default_rng(seed + 1).normal(size=channels)
    rest = [i for i in range(channels) if i not in without]
    for i in rest:
        known = [j for j in rest if j != i]
        weights = np.linalg.solve(matrix[np.ix_(known, known)], matrix[known, i])
        deviation = np.sqrt(matrix[i, i] - matrix[i, known] @ weights)
        expected = (row[i] - row[known] @ weights) / deviation
        assert float(row @ remaining.scaled[:, i]) == pytest.approx(expected, abs=1e-7)
    assert all((remaining.scaled[:, i] == 0).all() for i in without)


def test_a_span_longer_than_what_was_seen_says_nothing() -> None:
    judge = CrossChannel(untrained_params(2, spans=(1, 5), thresholds=((1.0, 1.0), (1.0, 1.0)), falls=(1.0, 1.0)))
    ratios = judge.ratios(np.full((2, 2, 2), 3.0), np.array([4, 5]))
    assert ratios.tolist() == [[[3.0, 3.0], [0.0, 0.0]], [[3.0, 3.0], [3.0, 3.0]]]


@pytest.mark.parametrize("limit", [1, 64])
def test_leaving_out_each_channel_in_turn_is_leaving_it_out(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stacked or one by one, for machines of many channels: the same numbers."""
    monkeypatch.setattr(cross_channel, "MAX_STACKED_CHANNELS", limit)
    judge, without = channels_of(covariance(3, 6)), frozenset({1, 4})
    averages = np.random.default_rng(4).normal(size=(1, 6))
    rest, worst = judge.worst_without_each(averages, np.array(9), without)
    assert [0, 2, 3, 5] == rest
    assert [judge.ratios(averages, np.array(9), without | {i}).max() for i in rest] == worst.tolist()
    nobody, none = judge.worst_without_each(averages, np.array(9), frozenset(range(6)))
    assert (0, 0) == (len(nobody), len(none))
