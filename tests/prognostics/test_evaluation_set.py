from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from twinseal.prognostics.evaluation_set import FAILING_STRIDE, EvaluationSet
from twinseal.prognostics.metrics import FAILING_CYCLES
from twinseal.prognostics.windows import Prepared


def test_the_trial_is_the_test_and_failing_windows_of_the_validation(toy_prepared: Prepared) -> None:
    evaluation_set = EvaluationSet.of(toy_prepared)
    failing = int((toy_prepared.validation.rul <= FAILING_CYCLES).sum())
    assert len(toy_prepared.test) == evaluation_set.tested
    assert len(toy_prepared.test) + -(-failing // FAILING_STRIDE) == len(evaluation_set.windows)
    assert bool(evaluation_set.failing[evaluation_set.tested :].all())
    assert set() == set(toy_prepared.train.unit_names) & set(evaluation_set.windows.unit_names)


def test_rmse_is_of_the_test_and_misses_are_of_every_failing_window(toy_prepared: Prepared) -> None:
    evaluation_set = EvaluationSet.of(toy_prepared)
    estimates = evaluation_set.truth.copy()
    estimates[evaluation_set.tested :] = 61.0  # beyond the test nothing counts for the RMSE
    expected = float(np.mean((np.arange(len(estimates)) >= evaluation_set.tested)[evaluation_set.failing]))
    assert {"rmse_cycles": 0.0, "missed_failure_share": expected} == evaluation_set.worst_case(estimates).to_dict()
    assert 0.0 < expected <= 1.0


def test_harm_between_two_ends_takes_the_further_for_error_and_the_higher_for_misses(toy_prepared: Prepared) -> None:
    evaluation_set = EvaluationSet.of(toy_prepared)
    harm = evaluation_set.worst_case(evaluation_set.truth - 50.0, evaluation_set.truth + 40.0)
    assert 50.0 == pytest.approx(harm.rmse_cycles)
    assert float(np.mean(evaluation_set.truth[evaluation_set.failing] > 20.0)) == harm.missed_failure_share


def test_clean_accuracy_counts_windows_of_the_test_and_failing_machines_of_the_whole_set(
    toy_prepared: Prepared,
) -> None:
    evaluation_set, test = EvaluationSet.of(toy_prepared), toy_prepared.test
    found = evaluation_set.clean(evaluation_set.truth + np.float32(1.0))
    assert (1.0, 1.0) == (found.rmse_cycles, found.late_share)
    assert (len(test), len(np.unique(test.units))) == (found.windows, found.units)
    failing = evaluation_set.windows.take(evaluation_set.failing)
    names = {failing.unit_names[unit] for unit in failing.units}
    assert (len(failing), len(names)) == (found.failing_windows, found.failing_units)
    of_test = {test.unit_names[unit] for unit in test.units[test.rul <= FAILING_CYCLES]}
    assert of_test < names, "the validation brings machines of its own"


def test_without_a_failing_window_there_is_no_share_of_misses(toy_prepared: Prepared) -> None:
    healthy = toy_prepared.test.take(toy_prepared.test.rul > FAILING_CYCLES)
    assert ["rmse_cycles"] == list(EvaluationSet(healthy, len(healthy)).worst_case(healthy.rul).to_dict())


def test_without_a_test_window_there_is_no_trial(toy_prepared: Prepared) -> None:
    with pytest.raises(ValueError, match="expected 1 to"):
        EvaluationSet.of(dataclasses.replace(toy_prepared, test=toy_prepared.test.take(np.zeros(0, dtype=np.int64))))
