from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from twinseal.prognostics.metrics import FAILING_CYCLES
from twinseal.prognostics.windows import Prepared
from twinseal.robustness.trial import FAILING_STRIDE, Trial


def test_the_trial_is_the_test_and_failing_windows_of_the_validation(prepared: Prepared) -> None:
    trial = Trial.of(prepared)
    failing = int((prepared.validation.rul <= FAILING_CYCLES).sum())
    assert len(prepared.test) == trial.tested
    assert len(prepared.test) + -(-failing // FAILING_STRIDE) == len(trial.windows)
    assert bool(trial.failing[trial.tested :].all())
    assert set() == set(prepared.train.unit_names) & set(trial.windows.unit_names)


def test_rmse_is_of_the_test_and_misses_are_of_every_failing_window(prepared: Prepared) -> None:
    trial = Trial.of(prepared)
    estimates = trial.truth.copy()
    estimates[trial.tested :] = 61.0  # beyond the test nothing counts for the RMSE
    expected = float(np.mean((np.arange(len(estimates)) >= trial.tested)[trial.failing]))
    assert {"rmse_cycles": 0.0, "missed_failure_share": expected} == trial.harm(estimates)
    assert 0.0 < expected <= 1.0


def test_harm_between_two_ends_takes_the_further_for_error_and_the_higher_for_misses(prepared: Prepared) -> None:
    trial = Trial.of(prepared)
    harm = trial.harm(trial.truth - 50.0, trial.truth + 40.0)
    assert 50.0 == pytest.approx(harm["rmse_cycles"])
    assert float(np.mean(trial.truth[trial.failing] > 20.0)) == harm["missed_failure_share"]


def test_without_a_failing_window_there_is_no_share_of_misses(prepared: Prepared) -> None:
    healthy = prepared.test.take(prepared.test.rul > FAILING_CYCLES)
    assert ["rmse_cycles"] == list(Trial(healthy, len(healthy)).harm(healthy.rul))


def test_without_a_test_window_there_is_no_trial(prepared: Prepared) -> None:
    with pytest.raises(ValueError, match="expected 1 to"):
        Trial.of(dataclasses.replace(prepared, test=prepared.test.take(np.zeros(0, dtype=np.int64))))
