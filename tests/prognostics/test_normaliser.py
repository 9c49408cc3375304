from __future__ import annotations

import json
import re

import numpy as np
import pytest

from twinseal.errors import DataError
from twinseal.prognostics.normaliser import Normaliser, fill_gaps, pad
from twinseal.telemetry.contract import Regimes

NAN = float("nan")


def one(mean: np.ndarray, std: np.ndarray) -> Normaliser:
    return Normaliser(mean[None], std[None], np.zeros((1, 0)), np.zeros(0))


def test_rows_become_sigma_of_what_it_was_fitted_on() -> None:
    rows = np.array([[1.0, 10.0], [3.0, 30.0]])
    assert [[-1.0, -1.0], [1.0, 1.0]] == Normaliser.fit(rows).apply(rows).tolist()


def test_a_channel_that_never_moved_stays_at_zero() -> None:
    normaliser = Normaliser.fit(np.full((5, 1), 518.67))
    assert [[0.0]] == normaliser.apply(np.array([[518.67]])).tolist()


def test_a_gap_is_the_reading_before_it_and_the_mean_where_there_is_none() -> None:
    assert [[0.0], [2.0], [2.0], [3.0]] == fill_gaps(np.array([[NAN], [2.0], [NAN], [3.0]])).tolist()


def test_gaps_do_not_disturb_the_fit() -> None:
    assert 2.0 == Normaliser.fit(np.array([[1.0], [NAN], [3.0]])).mean[0, 0]


def test_a_channel_without_readings_is_refused() -> None:
    with pytest.raises(DataError, match="expected readings of every channel"):
        Normaliser.fit(np.array([[1.0, NAN], [2.0, NAN]]))


def test_an_infinite_reading_is_refused() -> None:
    with pytest.raises(DataError, match="expected finite readings, got an infinity"):
        one(np.zeros(1), np.ones(1)).apply(np.array([[np.inf]]))


def test_rows_of_another_width_are_refused() -> None:
    with pytest.raises(ValueError, match=re.escape("rows: expected (L, 1), got (2, 2)")):
        one(np.zeros(1), np.ones(1)).apply(np.zeros((2, 2)))


@pytest.mark.parametrize(
    ("mean", "std"),
    [([0.0], [0.0]), ([0.0], [-1.0]), ([NAN], [1.0]), ([0.0], [np.inf]), ([0.0, 1.0], [1.0]), ([], [])],
)
def test_what_cannot_normalise_cannot_be_built(mean: list[float], std: list[float]) -> None:
    with pytest.raises(ValueError, match="normaliser: expected"):
        one(np.array(mean), np.array(std))


def test_padding_makes_every_row_the_end_of_a_window() -> None:
    padded = pad(np.arange(4, dtype=np.float32)[:, None], 3)
    assert [1.5, 1.5, 0.0, 1.0, 2.0, 3.0] == padded[:, 0].tolist()


def test_padding_knows_the_first_ten_rows_and_no_more() -> None:
    rows = np.concatenate([np.zeros(10), np.full(5, 99.0)]).astype(np.float32)[:, None]
    assert [0.0, 0.0] == pad(rows, 3)[:2, 0].tolist()


POINTS = np.array([[0.0, 100.0], [10.0, 100.0], [35.0, 60.0]])  # altitude and throttle of three operating points
REGIMES = Regimes(settings=("altitude", "throttle"), within=(0.1, 0.1), points=tuple(map(tuple, POINTS.tolist())))


def flown(seed: int, rows: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """Rows of two settings and two channels, and the regime of each: a channel's level is its regime's."""
    rng = np.random.default_rng(seed)
    regime = rng.integers(0, 3, rows)
    settings = POINTS[regime] + rng.normal(0, 0.01, (rows, 2))
    channels = np.array([500.0, 20.0]) * (1 + regime[:, None]) + rng.normal(0, [3.0, 0.1], (rows, 2))
    return np.column_stack([settings, channels]), regime


def test_each_regime_is_normalised_by_its_own() -> None:
    rows, regime = flown(1)
    normaliser = Normaliser.fit(rows, REGIMES)
    known = normaliser.apply(rows)
    for k in range(3):
        np.testing.assert_allclose(0, known[regime == k].mean(axis=0), atol=1e-5)
        np.testing.assert_allclose(1, known[regime == k].std(axis=0), atol=1e-5)
    assert regime.tolist() == normaliser.regimes(rows).tolist()


def test_what_is_restored_is_what_was_normalised() -> None:
    rows, _ = flown(2)
    normaliser = Normaliser.fit(rows, REGIMES)
    restored = normaliser.restore(normaliser.apply(rows), normaliser.regimes(rows))
    np.testing.assert_allclose(rows[:, 2:], restored, rtol=1e-5)


@pytest.mark.parametrize("settings", [[20.0, 80.0], [NAN, 100.0], [0.0, 100.5], [1e300, 60.0]])
def test_a_row_of_no_known_regime_is_refused(settings: list[float]) -> None:
    normaliser = Normaliser.fit(flown(4)[0], REGIMES)
    with pytest.raises(DataError, match="expected settings at an operating point of the contract") as caught:
        normaliser.apply(np.array([[*settings, 500.0, 20.0]]))
    assert "operated as the contract does not know it" in caught.value.remedy


def test_a_regime_that_was_hardly_seen_is_refused() -> None:
    rows, regime = flown(5)
    few = rows[(regime != 2) | (np.arange(len(rows)) < 20)]
    with pytest.raises(DataError, match="expected at least 30 rows of each of 3 regimes"):
        Normaliser.fit(few, REGIMES)


def test_it_comes_back_from_plain_data() -> None:
    rows, _ = flown(6)
    for normaliser in (Normaliser.fit(rows, REGIMES), Normaliser.fit(rows)):
        again = Normaliser.from_dict(json.loads(json.dumps(normaliser.to_dict())))
        assert normaliser.apply(rows).tolist() == again.apply(rows).tolist()


@pytest.mark.parametrize(
    "change",
    [
        {"mean": [["1", 2.0]]},
        {"mean": 3},
        {"mean": [[True, 2.0]]},
        {"std": [[1.0, 0.0]]},
        {"points": [[0.0]]},
        {"within": [1.0]},
        {"points": [[0.0]], "within": [0.0]},
        {"points": [[0.0]], "within": ["near"]},
        {"more": 1},
    ],
)
def test_plain_data_that_is_no_normaliser_is_refused(change: dict[str, object]) -> None:
    honest = one(np.zeros(2), np.ones(2)).to_dict()
    assert 2 == Normaliser.from_dict(honest).mean.size
    with pytest.raises(ValueError, match="normaliser"):
        Normaliser.from_dict(honest | change)
