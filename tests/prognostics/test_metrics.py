from __future__ import annotations

import numpy as np
import pytest

from twinseal.measures.common import Accuracy
from twinseal.prognostics.metrics import late_share, measure, missed_failure_share, nasa_score, rmse_cycles


def test_rmse_is_in_cycles() -> None:
    assert pytest.approx(5.0) == rmse_cycles([10.0, 20.0], [5.0, 25.0])


def test_nasa_score_punishes_late_more_than_early() -> None:
    assert pytest.approx(np.e - 1) == nasa_score([60.0], [50.0])  # late by 10
    assert pytest.approx(np.e - 1) == nasa_score([37.0], [50.0])  # early by 13
    assert 0.0 == nasa_score([50.0, 7.0], [50.0, 7.0])


def test_nasa_score_stays_finite_for_an_absurd_estimate() -> None:
    assert np.isfinite(nasa_score([1e6, -1e6], [0.0, 0.0]))


def test_late_is_an_estimate_after_the_truth() -> None:
    assert 0.25 == late_share([1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, 3.0])


def test_a_missed_failure_is_a_failing_machine_called_healthy() -> None:
    assert 0.5 == missed_failure_share([61.0, 60.0, 500.0], [30.0, 0.0, 31.0])


def test_no_failing_window_is_no_evidence_about_missed_failures() -> None:
    with pytest.raises(ValueError, match="expected a window within 30 cycles of failure, got none"):
        missed_failure_share([50.0], [50.0])
    assert measure([50.0], [50.0], [0]).missed_failure_share is None
    assert "missed_failure_share" not in measure([50.0], [50.0], [0]).to_dict()


def test_measure_has_every_number() -> None:
    found = measure([10.0, 90.0], [12.0, 80.0], [4, 7])
    assert set(Accuracy.model_fields) == set(found.to_dict())
    assert (2, 2, 1, 1) == (found.windows, found.units, found.failing_windows, found.failing_units)
    assert rmse_cycles([10.0, 90.0], [12.0, 80.0]) == found.rmse_cycles
    assert nasa_score([10.0, 90.0], [12.0, 80.0]) == found.nasa_score
    assert (0.5, 0.0) == (found.late_share, found.missed_failure_share)


def test_windows_of_one_machine_are_one_machine() -> None:
    found = measure([10.0, 9.0, 8.0, 50.0], [12.0, 11.0, 10.0, 40.0], ["a", "a", "b", "c"])
    assert (4, 3, 3, 2) == (found.windows, found.units, found.failing_windows, found.failing_units)


def test_a_window_without_its_machine_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected one unit for each truth, got \(1,\) for \(2,\)"):
        measure([1.0, 2.0], [1.0, 2.0], [0])


def measure_alone(estimate: list[float], truth: list[float]) -> Accuracy:
    """`measure`, each window of its own machine."""
    return measure(estimate, truth, np.arange(np.size(truth)).reshape(np.shape(truth)))


@pytest.mark.parametrize("metric", [rmse_cycles, nasa_score, late_share, missed_failure_share, measure_alone])
@pytest.mark.parametrize(
    ("estimate", "truth", "message"),
    [
        ([], [], "one estimate for each truth"),
        ([1.0, 2.0], [1.0], "one estimate for each truth"),
        ([[1.0], [2.0]], [1.0, 2.0], "one estimate for each truth"),
        ([float("nan")], [1.0], "got NaN or an infinity"),
        ([1.0], [float("inf")], "got NaN or an infinity"),
    ],
)
def test_what_would_mean_nothing_is_refused(metric, estimate, truth, message) -> None:
    with pytest.raises(ValueError, match=message):
        metric(estimate, truth)
