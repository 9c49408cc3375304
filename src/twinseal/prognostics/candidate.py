"""The candidate: what `train` makes of prepared windows: networks, guard, intervals, and the measures of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from twinseal.guard import calibration
from twinseal.guard.parameters import GuardParams
from twinseal.measures.keys import Mode
from twinseal.measures.training import GuardMeasures, IntervalMeasures, TrainingMeasures
from twinseal.prognostics import conformal
from twinseal.prognostics.checkpoint import Model
from twinseal.prognostics.evaluation import estimates, evaluate, predictions
from twinseal.prognostics.fitting import Epoch
from twinseal.prognostics.gradient_boosting import boosting_estimates
from twinseal.prognostics.metrics import measure
from twinseal.prognostics.training import OutOfFold, TrainParams, cross_validate, train
from twinseal.prognostics.windows import Prepared
from twinseal.telemetry.contract import Contract

MODES: tuple[Mode, ...] = ("plain", "commissioned")


@dataclass(frozen=True, eq=False)
class Candidate:
    """A model, and what is known of it.

    Attributes:
        model: To be shipped.
        measures: For the evidence.
        history: Of the training of its first network.
        predictions: One row for each test window, to draw; see `evaluation.predictions`.
    """

    model: Model
    measures: TrainingMeasures
    history: tuple[Epoch, ...]
    predictions: list[dict[str, Any]]


def build_candidate(
    prepared: Prepared,
    params: TrainParams,
    contract: Contract,
    *,
    workers: int = 1,
    progress: Callable[[Epoch], None] | None = None,
) -> Candidate:
    """Train the family that the params choose, calibrate its guard and its intervals, and measure all of it.

    Args:
        prepared: The windows.
        params: The recipes.
        contract: Of the asset.
        workers: Processes that fit networks at the same time; the numbers do not depend on it.
        progress: Told of every epoch of the first network.

    Raises:
        DataError: There are too few units, or training did not stay finite.
    """
    networks, history = train(prepared, params, workers=workers, progress=progress)
    boosting = boosting_estimates(prepared, seed=params.seed)
    unseen = cross_validate(prepared, params, workers=workers)
    folds = {mode: unseen[mode] for mode in MODES if mode in unseen}
    model = Model(
        networks,
        contract,
        prepared.normaliser,
        params.family,
        calibrate_guard(prepared, contract),
        {str(mode): fit_intervals(fold, prepared.rul_cap_cycles) for mode, fold in folds.items()},
    )
    test = prepared.test
    measures = TrainingMeasures(
        plain=evaluate(networks.plain, prepared),
        commissioned=evaluate(networks.commissioned, prepared) if networks.commissioned else None,
        boosting=measure(boosting, test.rul, test.units),
        cross_validation={mode: measure(fold.estimates, fold.truth, fold.units) for mode, fold in folds.items()},
        intervals={mode: measure_intervals(model, prepared, mode, fold) for mode, fold in folds.items()},
        guard=GuardMeasures(false_alarm_share=model.guard.measured_false_alarm_share),
    )
    return Candidate(model, measures, history, predictions(networks.plain, test, boosting))


def calibrate_guard(prepared: Prepared, contract: Contract) -> GuardParams:
    """The guard, learned from the training units; its false alarms are measured on validation and test units."""
    unseen = prepared.validation.histories() + prepared.test.histories()
    return calibration.fit(prepared.train.histories(), unseen, contract, prepared.normaliser.restore)


def fit_intervals(unseen: OutOfFold, cap_cycles: float) -> conformal.Intervals:
    """The prediction intervals around estimates of units that a network did not see."""
    return conformal.fit(unseen.estimates, unseen.truth, unseen.units, cap_cycles=cap_cycles)


def measure_intervals(model: Model, prepared: Prepared, mode: Mode, unseen: OutOfFold) -> IntervalMeasures:
    """How often the intervals of one ensemble hold: by cross-validation, and on the test windows."""
    test, cap = prepared.test, prepared.rul_cap_cycles
    within = model.intervals[mode].hold(estimates(model.networks.modes()[mode], test), test.rul)
    return IntervalMeasures(
        test_coverage_share=float(np.mean(within)),
        test_windows=len(test),
        **conformal.measure_coverage(unseen.estimates, unseen.truth, unseen.units, cap_cycles=cap),
    )
