from __future__ import annotations

import numpy as np
import pytest

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
    assert "missed_failure_share" not in measure([50.0], [50.0])


def test_measure_has_every_number() -> None:
    expected = {"rmse_cycles", "nasa_score", "late_share", "missed_failure_share", "windows", "failing_windows"}
    assert expected == set(measure([10.0, 90.0], [12.0, 80.0]))
    assert (2, 1) == (
        measure([10.0, 90.0], [12.0, 80.0])["windows"],
        measure([10.0, 90.0], [12.0, 80.0])["failing_windows"],
    )


@pytest.mark.parametrize("metric", [rmse_cycles, nasa_score, late_share, missed_failure_share, measure])
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
