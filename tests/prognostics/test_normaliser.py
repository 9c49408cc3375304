from __future__ import annotations

import re

import numpy as np
import pytest

from twinseal.errors import DataError
from twinseal.prognostics.normaliser import Normaliser, fill_gaps, pad

NAN = float("nan")


def test_rows_become_sigma_of_what_it_was_fitted_on() -> None:
    rows = np.array([[1.0, 10.0], [3.0, 30.0]])
    assert [[-1.0, -1.0], [1.0, 1.0]] == Normaliser.fit(rows).apply(rows).tolist()


def test_a_channel_that_never_moved_stays_at_zero() -> None:
    normaliser = Normaliser.fit(np.full((5, 1), 518.67))
    assert [[0.0]] == normaliser.apply(np.array([[518.67]])).tolist()


def test_a_gap_is_the_reading_before_it_and_the_mean_where_there_is_none() -> None:
    assert [[0.0], [2.0], [2.0], [3.0]] == fill_gaps(np.array([[NAN], [2.0], [NAN], [3.0]])).tolist()


def test_gaps_do_not_disturb_the_fit() -> None:
    assert 2.0 == Normaliser.fit(np.array([[1.0], [NAN], [3.0]])).mean[0]


def test_a_channel_without_readings_is_refused() -> None:
    with pytest.raises(DataError, match="expected readings of every channel"):
        Normaliser.fit(np.array([[1.0, NAN], [2.0, NAN]]))


def test_an_infinite_reading_is_refused() -> None:
    with pytest.raises(DataError, match="expected finite readings, got an infinity"):
        Normaliser(np.zeros(1), np.ones(1)).apply(np.array([[np.inf]]))


def test_rows_of_another_width_are_refused() -> None:
    with pytest.raises(ValueError, match=re.escape("rows: expected (L, 1), got (2, 2)")):
        Normaliser(np.zeros(1), np.ones(1)).apply(np.zeros((2, 2)))


@pytest.mark.parametrize(
    ("mean", "std"),
    [([0.0], [0.0]), ([0.0], [-1.0]), ([NAN], [1.0]), ([0.0], [np.inf]), ([0.0, 1.0], [1.0]), ([], [])],
)
def test_what_cannot_normalise_cannot_be_built(mean: list[float], std: list[float]) -> None:
    with pytest.raises(ValueError, match="normaliser: expected"):
        Normaliser(np.array(mean), np.array(std))


def test_padding_makes_every_row_the_end_of_a_window() -> None:
    padded = pad(np.arange(4, dtype=np.float32)[:, None], 3)
    assert [0.0, 0.0, 0.0, 1.0, 2.0, 3.0] == padded[:, 0].tolist()
