"""The candidate: what `train` makes of prepared windows: networks, guard, intervals, and the measures of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from twinseal.guard.calibration import Calibration, Restore, calibrate, fit
from twinseal.guard.parameters import GuardParams
from twinseal.guard.relations import History
from twinseal.measures.keys import Mode, bad_units_key, epsilon_key
from twinseal.measures.quantity import NOT_WRITTEN, Keys
from twinseal.measures.training import GuardMeasures, IntervalMeasures, TrainingMeasures
from twinseal.prognostics import conformal
from twinseal.prognostics.bad_units import units_bounds
from twinseal.prognostics.checkpoint import Model
from twinseal.prognostics.ensemble import Networks, networks_of
from twinseal.prognostics.evaluation import CERTIFIED_SIGMA, estimates, evaluate, predictions
from twinseal.prognostics.families import WITH_BASELINE, Family
from twinseal.prognostics.fitting import Epoch, reproducible
from twinseal.prognostics.gradient_boosting import boosting_estimates
from twinseal.prognostics.life_bounds import fit_life_bound
from twinseal.prognostics.metrics import measure
from twinseal.prognostics.normaliser import F64
from twinseal.prognostics.processes import ONE, Workers, processes
from twinseal.prognostics.splitting import seed
from twinseal.prognostics.training import OutOfFold, TrainParams, cross_validate, train
from twinseal.prognostics.whole_lives import measure_lives, whole_lives
from twinseal.prognostics.windows import Prepared
from twinseal.telemetry.contract import Contract
from twinseal.telemetry.over_units import MOST_BAD

MODES: tuple[Mode, ...] = ("plain", "commissioned")
Part = Callable[[Prepared, TrainParams, Contract], Any]


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
    workers: Workers = ONE,
    progress: Callable[[Epoch], None] | None = None,
) -> Candidate:
    """Train the family that the params choose, calibrate its guard and its intervals, and measure all of it.

    Args:
        prepared: The windows.
        params: The recipes.
        contract: Of the asset.
        workers: What fits networks at the same time; the numbers do not depend on it.
        progress: Told of every epoch of the first network.

    Raises:
        DataError: There are too few units, or training did not stay finite.
    """
    tasks = [(part, prepared, params, contract) for part in (_cross_validate, _train, _calibrate, _boost)]
    with processes(workers, 2) as mapped:
        unseen, (networks, history), calibrated, boosting = mapped(_compute, tasks)
    for epoch in history if progress else ():
        progress(epoch)  # type: ignore[misc]  # there is one
    folds, cap = {mode: unseen[mode] for mode in MODES if mode in unseen}, prepared.rul_cap_cycles
    intervals = {str(mode): fit_intervals(fold, cap) for mode, fold in folds.items()}
    model = Model(
        networks.to_inference(),
        contract,
        prepared.normaliser,
        params.family,
        calibrated.params,
        intervals,
        {mode: fit_life_bound(*whole_lives(unseen[mode], cap), cap_cycles=cap) for mode in intervals},
    )
    test = prepared.test
    measures = TrainingMeasures(
        plain=evaluate(networks.plain, prepared),
        commissioned=evaluate(networks.commissioned, prepared) if networks.commissioned else None,
        boosting=measure(boosting, test.rul, test.units),
        cross_validation={mode: measure(fold.estimates, fold.truth, fold.units) for mode, fold in folds.items()},
        intervals={mode: measure_intervals(model, prepared, mode, fold) for mode, fold in folds.items()},
        lives={m: measure_lives(model, prepared, m, fold, seed(prepared.salt, "lives")) for m, fold in folds.items()},
        guard=GuardMeasures(false_alarm_share=model.guard.measured_false_alarm_share),
        units_bound=units_bounds(prepared.learnt(params.windows), calibrated, folds["plain"], model.intervals["plain"]),
    )
    return Candidate(model, measures, history, predictions(networks.plain, test, boosting))


def keys(family: Family) -> Keys:
    """The keys that the measures of a candidate of `family` have."""
    certified = frozenset(map(epsilon_key, CERTIFIED_SIGMA))
    modes = frozenset(MODES if family in WITH_BASELINE else MODES[:1])
    own = {"commissioned/certified": certified} if family in WITH_BASELINE else {"commissioned": NOT_WRITTEN}
    bad = frozenset(bad_units_key(count) for count in range(1, MOST_BAD + 1))
    always = {"units_bound": bad, "cross_validation": modes, "intervals": modes, "lives": modes}
    return {"plain/certified": certified, **always} | own


def _compute(task: tuple[Part, Prepared, TrainParams, Contract]) -> Any:
    """One part of the candidate, in a process of its own: on one thread, as the stage is."""
    part, prepared, params, contract = task
    with reproducible(0):
        return part(prepared, params, contract)


def _cross_validate(prepared: Prepared, params: TrainParams, _contract: Contract) -> dict[str, OutOfFold]:
    return cross_validate(prepared, params)


def _train(prepared: Prepared, params: TrainParams, _contract: Contract) -> tuple[Networks, tuple[Epoch, ...]]:
    return train(prepared, params)


def _calibrate(prepared: Prepared, params: TrainParams, contract: Contract) -> Calibration:
    return calibrate_guard(prepared, contract, params.guard_units)


def _boost(prepared: Prepared, params: TrainParams, _contract: Contract) -> F64:
    return boosting_estimates(prepared.learnt(params.windows), seed=seed(prepared.salt, "boosting"))


def calibrate_guard(prepared: Prepared, contract: Contract, most: int) -> Calibration:
    """The guard, learned from the training units, and how far bad units could have moved it.

    Its false alarms are measured on validation and test units. Where there are more than `most` of either, so many are
    drawn by the salt: of r bad units in all, no more than r are among them.
    """
    return calibrate(*_guard_data(prepared, contract, most), seed=seed(prepared.salt, "guard"))


def fit_guard(prepared: Prepared, contract: Contract, most: int) -> GuardParams:
    """The guard alone, as `calibrate_guard`."""
    return fit(*_guard_data(prepared, contract, most), seed=seed(prepared.salt, "guard"))


def _guard_data(
    prepared: Prepared, contract: Contract, most: int
) -> tuple[Sequence[History], Sequence[History], Contract, Restore]:
    train, *unseen = (
        getattr(prepared, name).histories(most, seed(prepared.salt, "histories") + at)
        for at, name in enumerate(("train", "validation", "test"))
    )
    return train, unseen[0] + unseen[1], contract, prepared.normaliser.restore


def fit_intervals(unseen: OutOfFold, cap_cycles: float) -> conformal.Intervals:
    """The prediction intervals around estimates of units that a network did not see."""
    return conformal.fit(unseen.estimates, unseen.truth, unseen.units, cap_cycles=cap_cycles)


def measure_intervals(model: Model, prepared: Prepared, mode: Mode, unseen: OutOfFold) -> IntervalMeasures:
    """How often the intervals of one ensemble hold: by cross-validation, and on the test windows."""
    test, cap = prepared.test, prepared.rul_cap_cycles
    within = model.intervals[mode].hold(estimates(networks_of(model.inference).modes()[mode], test), test.rul)
    return IntervalMeasures(
        test_coverage_share=float(np.mean(within)),
        test_windows=len(test),
        **conformal.measure_coverage(
            unseen.estimates, unseen.truth, unseen.units, cap_cycles=cap, seed=seed(prepared.salt, "intervals")
        ),
    )
