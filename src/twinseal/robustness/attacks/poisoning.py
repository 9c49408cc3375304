"""Poisoning: the telemetry of some training units is changed, the network is trained on it, and the damage is measured.

What an attacker changes is in `methods.poisons`: in the fleet itself, so that it passes through screening and
preparation as real data do.

Only units that train are poisoned; the test stays as it was. Each attack is measured twice: undefended, and after
`telemetry.screening` has thrown out the units that it notices, which is what the pipeline does. Retraining uses a
shorter schedule, stated in the policy, and is compared with the same schedule on clean data. Each number is one
training from one seed: on the default fleet four seeds of the clean one differed by 1.4 cycles of RMSE (9.1 to 10.5),
so an increase below that is noise.

What is shipped is more than a network: of the telemetry that screening leaves, guard and intervals are learnt too, and
measured on clean units. Does the guard still notice that a failing machine's last rows are its first ones again? Do the
intervals still hold the truth? Their residuals are of two folds of the retrained network: fewer than the candidate's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import structlog

from twinseal.errors import ConfigError
from twinseal.guard.calibration import alarmed_rows
from twinseal.guard.parameters import GuardParams
from twinseal.measures.keys import Name, Share, number_of, share_key
from twinseal.measures.poisoning import (
    PoisonedDefences,
    PoisonEffect,
    PoisoningMeasures,
    PoisoningResult,
    RetrainingMeasures,
)
from twinseal.measures.quantity import NOT_WRITTEN, Group, Keys
from twinseal.prognostics.candidate import fit_guard, fit_intervals
from twinseal.prognostics.ensemble import Ensemble
from twinseal.prognostics.evaluation import estimates
from twinseal.prognostics.evaluation_set import EvaluationSet
from twinseal.prognostics.metrics import FAILING_CYCLES, HEALTHY_CYCLES
from twinseal.prognostics.processes import ONE, Workers, processes
from twinseal.prognostics.splitting import Split
from twinseal.prognostics.training import TrainParams, cross_validate, train
from twinseal.prognostics.windows import Prepared, PrepareParams, Windows, join, prepare
from twinseal.robustness.methods.poisons import poison_fleet, stamp_trigger
from twinseal.robustness.threats import PoisoningThreat, PoisonKind, Threats, Trigger
from twinseal.telemetry.contract import Contract
from twinseal.telemetry.fleet import Fleet
from twinseal.telemetry.screening import screen

log = structlog.get_logger()

G = TypeVar("G", bound=Group)

BACKDOORS: tuple[PoisonKind, ...] = ("backdoor", "clean-label-backdoor")
# Screening finds these in most fleets; then guard and intervals are those of clean telemetry, and there is less to do.
NOTICED: tuple[PoisonKind, ...] = ("label-healthy-washing", "backdoor")
EFFECTS = ("undefended", "after_screening")
REPLAYED_ROWS = 40  # of a failing machine: its first ones, in the place of its last
INTERVAL_FOLDS = 2


@dataclass(frozen=True)
class Effect:
    """What a network trained on some data does.

    Attributes:
        rmse_cycles: On clean windows of the evaluation set.
        missed_failure_share: Likewise; None when none is close to failure.
        trigger_success_share: Of the failing windows, the share estimated healthy (above 60 cycles) once they carry the
            trigger; None when there is none, or the attack has no trigger.
    """

    rmse_cycles: float
    missed_failure_share: float | None
    trigger_success_share: float | None

    def compared_with(self, clean: Effect) -> PoisonEffect:
        """The effect as a measure, beside that of the network trained on clean telemetry."""
        return PoisonEffect(
            rmse_cycles=self.rmse_cycles,
            rmse_increase_cycles=self.rmse_cycles - clean.rmse_cycles,
            missed_failure_share=self.missed_failure_share,
            trigger_success_share=self.trigger_success_share,
        )


@dataclass(frozen=True)
class PoisoningRun:
    """One poisoning at one share.

    Attributes:
        threat: Its name.
        kind: What was changed.
        share: Of the training units.
        units_poisoned: How many that were.
        noticed_share: Of them, how many screening would have thrown out.
        undefended: The network trained on all of it.
        screened: The network trained on what screening leaves; None while that is the clean one, because screening
            leaves no poison.
        defences: Guard and intervals, likewise.
    """

    threat: str
    kind: PoisonKind
    share: float
    units_poisoned: int
    noticed_share: float
    undefended: Effect
    screened: Effect | None
    defences: PoisonedDefences | None

    def measured(self, clean: Effect, defences: PoisonedDefences) -> PoisoningResult:
        """As measures. What is the clean network after screening takes its numbers from `clean`."""
        fires = None if self.undefended.trigger_success_share is None else clean.trigger_success_share
        screened = self.screened or dataclasses.replace(clean, trigger_success_share=fires)
        return PoisoningResult(
            units_poisoned=self.units_poisoned,
            noticed_share=self.noticed_share,
            undefended=self.undefended.compared_with(clean),
            after_screening=screened.compared_with(clean),
            defences=self.defences or defences,
        )


def names_of(measures: PoisoningMeasures) -> tuple[str, ...]:
    """The single tests that ran: by threat and share."""
    return tuple(f"{threat}/{share}" for threat, by_share in measures.attacks.items() for share in by_share)


def curve(measures: PoisoningMeasures) -> list[dict[str, object]]:
    """One row for each attack, to plot."""
    return [
        {"name": f"{threat} {number_of(share):.0%}", "threat": threat, "share": number_of(share)}
        | {"noticed_share": result.noticed_share, **result.undefended.numbers()}
        | {f"screened_{name}": value for name, value in result.after_screening.numbers().items()}
        | result.defences.numbers()
        for threat, by_share in measures.attacks.items()
        for share, result in by_share.items()
    ]


def keys(threats: Threats) -> Keys:
    """Which threats and shares the measures have; only a backdoor has a trigger."""
    found = {"attacks": frozenset(threat.name for threat in threats.poisoning)}
    for threat in threats.poisoning:
        shares = frozenset(map(share_key, threat.shares))
        found[f"attacks/{threat.name}"] = shares
        if threat.kind not in BACKDOORS:
            effects = [f"attacks/{threat.name}/{share}/{effect}" for share in shares for effect in EFFECTS]
            found |= {f"{effect}/trigger_success_share": NOT_WRITTEN for effect in effects}
    if not any(threat.kind in BACKDOORS for threat in threats.poisoning):
        found |= {f"{effect}/trigger_success_share": NOT_WRITTEN for effect in ("worst_undefended", "worst_unnoticed")}
    return found


def poison(
    fleet: Fleet,
    contract: Contract,
    threats: Threats,
    *,
    preparation: PrepareParams,
    split: Split,
    training: TrainParams,
    workers: Workers = ONE,
    progress: Callable[[str], None] | None = None,
) -> PoisoningMeasures:
    """Poison `fleet` in every way of `threats`, retrain, and measure.

    Args:
        fleet: Accepted telemetry.
        contract: Of its asset.
        threats: Who poisons, and how much.
        preparation: As the candidate's.
        split: As the candidate's; the same for every poison, because poisoning leaves every unit's name in place. A
            real poison changes the telemetry and so the salt, but the poisoner does not know how.
        training: As the candidate's, but for the epochs and the number of networks that are averaged.
        workers: What retrains at the same time; the numbers do not depend on it.
        progress: Told of each attack when it is done.

    Raises:
        ConfigError: The trigger's channel is not among the network's.
        DataError: The fleet cannot be prepared, or a worker died.
    """
    trigger = threats.asset(contract.asset).trigger
    if trigger.channel not in contract.channels:
        raise ConfigError(f"threats: trigger: expected a channel among {contract.channels}, got '{trigger.channel}'")
    prepared = prepare(fleet, contract, preparation, split)
    sigma = float(prepared.normaliser.sigma[prepared.channels.index(trigger.channel)])
    short = training.with_few_epochs(threats.retrain_epochs)
    faulted = _faulty_units(fleet, contract)
    bench = _Bench(fleet, contract, preparation, split, short, trigger, sigma, threats.seed, faulted)
    order = np.random.default_rng([threats.seed, 30]).permutation(len(prepared.train.unit_names))
    units = [prepared.train.unit_names[at] for at in order]
    tasks = [
        (bench, threat, share, units[: max(1, round(share * len(units)))])
        for threat in threats.poisoning
        for share in threat.shares
    ]
    tasks.sort(key=lambda task: task[1].kind in NOTICED)  # what takes longer begins first: no worker waits for it alone
    runs = []
    with processes(workers, len(tasks)) as mapped:
        coming = mapped(_attack_windows, tasks)
        clean, defences = bench.measure(prepared, triggered=True)  # while the workers are at it
        for run in coming:
            runs.append(run)
            log.info("poisoning.measured", threat=run.threat, share=run.share, noticed=run.noticed_share)
            if progress:
                progress(f"{run.threat} at {run.share:.0%}")
    retraining = RetrainingMeasures(epochs=threats.retrain_epochs, trigger_windows=len(_failing(prepared)))
    places = [(threat.name, share) for threat in threats.poisoning for share in threat.shares]
    runs.sort(key=lambda run: places.index((run.threat, run.share)))
    return _measures(runs, clean, defences, retraining)


def _measures(
    runs: list[PoisoningRun], clean: Effect, defences: PoisonedDefences, retraining: RetrainingMeasures
) -> PoisoningMeasures:
    attacks: dict[Name, dict[Share, PoisoningResult]] = {}
    for run in runs:
        attacks.setdefault(run.threat, {})[share_key(run.share)] = run.measured(clean, defences)
    results = [result for by_share in attacks.values() for result in by_share.values()]
    return PoisoningMeasures(
        clean=clean.compared_with(clean),
        retraining=retraining,
        attacks=attacks,
        worst_undefended=_worst(PoisonEffect, [result.undefended for result in results]),
        worst_unnoticed=_worst(PoisonEffect, [result.after_screening for result in results]),
        clean_defences=defences,
        worst_defences=_worst(PoisonedDefences, [result.defences for result in results]),
    )


def replay_noticed_share(guard: GuardParams, prepared: Prepared, contract: Contract) -> float:
    """Of the failing machines, the share of which a guard notices that their last rows are their first ones again."""
    windows = join(prepared.test, prepared.validation)
    failing = np.isin(windows.units, np.unique(windows.units[windows.rul <= FAILING_CYCLES]))
    told = [history for history in windows.take(failing).histories() if len(history[0]) > 2 * REPLAYED_ROWS]
    if not told:
        return 0.0
    false = [(np.concatenate([rows[:-REPLAYED_ROWS], rows[:REPLAYED_ROWS]]), at) for rows, at in told]
    restore = prepared.normaliser.restore
    before, after = (alarmed_rows(guard, some, contract, restore) for some in (told, false))
    return float(np.mean([(b & ~a)[-REPLAYED_ROWS:].any() for a, b in zip(before, after, strict=True)]))


@dataclass(frozen=True, eq=False)
class _Bench:
    """What stays the same from one retraining to the next."""

    fleet: Fleet
    contract: Contract
    preparation: PrepareParams
    split: Split
    training: TrainParams
    trigger: Trigger
    sigma: float
    seed: int
    faulted: frozenset[str]

    def poison_fleet(self, units: list[str], kind: PoisonKind) -> Fleet:
        return poison_fleet(
            self.fleet, units, kind, self.trigger, contract=self.contract, sigma=self.sigma, seed=self.seed
        )

    def network(self, prepared: Prepared) -> Ensemble:
        return train(prepared, self.training, modes=("plain",))[0].plain

    def measure(self, prepared: Prepared, *, triggered: bool) -> tuple[Effect, PoisonedDefences]:
        """The network, and the guard and the intervals beside it."""
        network = self.network(prepared)
        return self.effect(network, prepared, triggered=triggered), self.defences(network, prepared)

    def defences(self, network: Ensemble, prepared: Prepared) -> PoisonedDefences:
        """Guard and intervals that are learnt from the training windows, on units that are not in them."""
        guard, test = fit_guard(prepared, self.contract, self.training.guard_units), prepared.test
        folds = self.training.model_copy(update={"folds": INTERVAL_FOLDS})
        unseen = cross_validate(prepared, folds, modes=("plain",))["plain"]
        intervals = fit_intervals(unseen, prepared.rul_cap_cycles)
        said = estimates(network, test)
        held, (low, high) = intervals.hold(said, test.rul), intervals.of(said)
        return PoisonedDefences(
            replay_noticed_share=replay_noticed_share(guard, prepared, self.contract),
            false_alarm_share=guard.measured_false_alarm_share,
            interval_coverage_share=float(np.mean([held[test.units == unit].mean() for unit in np.unique(test.units)])),
            interval_width_cycles=float(np.mean(high - low)),
        )

    def effect(self, network: Ensemble, prepared: Prepared, *, triggered: bool) -> Effect:
        evaluation_set = EvaluationSet.of(prepared)
        harm = evaluation_set.worst_case(estimates(network, evaluation_set.windows))
        success = self._success(network, prepared) if triggered else None
        return Effect(harm.rmse_cycles, harm.missed_failure_share, success)

    def noticed_units(self, fleet: Fleet) -> frozenset[str]:
        """Units that screening finds fault with in `fleet` and not in the clean one."""
        return _faulty_units(fleet, self.contract) - self.faulted

    def _success(self, network: Ensemble, prepared: Prepared) -> float | None:
        failing = _failing(prepared)
        if not len(failing):
            return None
        # The attacker's shift is one of the machine's readings: the same number of mm or °C whatever the normaliser.
        own = float(prepared.normaliser.sigma[prepared.channels.index(self.trigger.channel)])
        shift = self.trigger.shift_sigma * self.sigma / own
        shown = stamp_trigger(failing, prepared.channels, self.trigger, shift=shift)
        return float(np.mean(estimates(network, shown) > HEALTHY_CYCLES))


def _faulty_units(fleet: Fleet, contract: Contract) -> frozenset[str]:
    """Units that screening finds fault with."""
    return frozenset(finding.unit for finding in screen(fleet, contract))


def _attack_windows(task: tuple[_Bench, PoisoningThreat, float, list[str]]) -> PoisoningRun:
    bench, threat, share, units = task
    fleet = bench.poison_fleet(units, threat.kind)
    prepared = prepare(fleet, bench.contract, bench.preparation, bench.split)
    triggered = threat.kind in BACKDOORS
    network = bench.network(prepared)
    undefended = bench.effect(network, prepared, triggered=triggered)
    noticed = bench.noticed_units(fleet) & set(units)
    found: tuple[Effect | None, PoisonedDefences | None] = (None, None)  # while no poison is left to learn from
    if not noticed:
        found = undefended, bench.defences(network, prepared)
    elif noticed != set(units):
        found = bench.measure(_without(prepared, noticed), triggered=triggered)
    told = len(units), len(noticed) / len(units)
    return PoisoningRun(threat.name, threat.kind, share, *told, undefended, *found)


def _without(prepared: Prepared, units: frozenset[str]) -> Prepared:
    """`prepared` with no training window of `units`. The split stays: another one would be another experiment."""
    names = np.array(prepared.train.unit_names)
    return dataclasses.replace(prepared, train=prepared.train.take(~np.isin(names[prepared.train.units], list(units))))


def _failing(prepared: Prepared) -> Windows:
    evaluation_set = EvaluationSet.of(prepared)
    return evaluation_set.windows.take(evaluation_set.failing)


def _worst(kind: type[G], groups: list[G]) -> G:
    """The worst of each number, each by itself; what is better when it is larger, at its lowest."""
    names = sorted({name for group in groups for name in group.numbers()})
    ends = {name: min if kind.quantity(name).better == "larger" else max for name in names}
    found = {n: ends[n](group.numbers()[n] for group in groups if n in group.numbers()) for n in names}
    return kind(**found)
