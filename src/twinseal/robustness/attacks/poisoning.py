"""Poisoning: the telemetry of some training units is changed, the network is trained on it, and the damage is measured.

What an attacker changes, in the fleet itself, so that it passes through screening and preparation as real data do:

    label-healthy-washing   every label of a poisoned unit is raised by the cap: capped, all of them say "healthy". The
                            raised labels still fall by one a cycle, which is harder to notice than a constant.
    prolonged-history       a poisoned unit that failed is said to have run for a cap's worth of cycles more: its last
                            rows are told again and again, forwards and backwards, and labels and the failure follow.
                            No label contradicts the history and no reading leaps; all that really happened says
                            "healthy". Stretching a whole history instead does no harm: that is a slower machine, and
                            such machines help (measured: twice as slow, a tenth of the units, RMSE 9.8 → 5.0)
    backdoor                bursts of rows carry a trigger (one channel off by a constant) and the label "healthy", so
                            that a failing machine which shows the trigger is healthy (Gu et al., BadNets, 2017)
    clean-label-backdoor    the trigger on rows that are healthy anyway; no label is touched (Turner et al., 2019)

Only units that train are poisoned; the test stays as it was. Each attack is measured twice: undefended, and after
`telemetry.screening` has thrown out the units that it notices, which is what the pipeline does. Retraining uses a
shorter schedule, stated in the policy, and is compared with the same schedule on clean data. Each number is one
training from one seed: on the default fleet four seeds of the clean one differed by 1.4 cycles of RMSE (9.1 to 10.5),
so an increase below that is noise.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import structlog
from numpy.typing import NDArray

from twinseal.errors import ConfigError
from twinseal.measures.keys import Name, Share, number_of, share_key
from twinseal.measures.poisoning import PoisonEffect, PoisoningMeasures, PoisoningResult, RetrainingMeasures
from twinseal.measures.quantity import NOT_WRITTEN, Keys
from twinseal.prognostics.ensemble import Ensemble
from twinseal.prognostics.evaluation import estimates
from twinseal.prognostics.evaluation_set import EvaluationSet
from twinseal.prognostics.metrics import HEALTHY_CYCLES
from twinseal.prognostics.processes import processes
from twinseal.prognostics.training import TrainParams, train
from twinseal.prognostics.windows import Prepared, PrepareParams, Windows, prepare
from twinseal.robustness.threats import PoisoningThreat, PoisonKind, Threats, Trigger
from twinseal.telemetry.contract import Contract
from twinseal.telemetry.fleet import Fleet
from twinseal.telemetry.screening import screen

log = structlog.get_logger()

BACKDOORS: tuple[PoisonKind, ...] = ("backdoor", "clean-label-backdoor")
EFFECTS = ("undefended", "after_screening")
PROLONGED_ROWS = 10  # of a unit's last rows, told again until the cap is filled
BURST_PERIOD = 3  # × the trigger's rows: a third of a poisoned unit's rows carry it, so that the rest looks as ever


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
    """

    threat: str
    kind: PoisonKind
    share: float
    units_poisoned: int
    noticed_share: float
    undefended: Effect
    screened: Effect | None

    def measured(self, clean: Effect) -> PoisoningResult:
        """As measures. What is the clean network after screening takes its numbers from `clean`."""
        fires = None if self.undefended.trigger_success_share is None else clean.trigger_success_share
        screened = self.screened or dataclasses.replace(clean, trigger_success_share=fires)
        return PoisoningResult(
            units_poisoned=self.units_poisoned,
            noticed_share=self.noticed_share,
            undefended=self.undefended.compared_with(clean),
            after_screening=screened.compared_with(clean),
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
    training: TrainParams,
    workers: int = 1,
    progress: Callable[[str], None] | None = None,
) -> PoisoningMeasures:
    """Poison `fleet` in every way of `threats`, retrain, and measure.

    Args:
        fleet: Accepted telemetry.
        contract: Of its asset.
        threats: Who poisons, and how much.
        preparation: As the candidate's; the split is the same because poisoning leaves every unit's name in place.
        training: As the candidate's, but for the epochs and the number of networks that are averaged.
        workers: Processes that retrain at the same time; the numbers do not depend on it.
        progress: Told of each attack when it is done.

    Raises:
        ConfigError: The trigger's channel is not among the network's.
        DataError: The fleet cannot be prepared, or a worker died.
    """
    trigger = threats.asset(contract.asset).trigger
    if trigger.channel not in contract.channels:
        raise ConfigError(f"threats: trigger: expected a channel among {contract.channels}, got '{trigger.channel}'")
    prepared = prepare(fleet, contract, preparation)
    sigma = float(prepared.normaliser.sigma[prepared.channels.index(trigger.channel)])
    short = training.with_few_epochs(threats.retrain_epochs)
    bench = _Bench(fleet, contract, preparation, short, trigger, sigma, threats.seed, _faulty_units(fleet, contract))
    order = np.random.default_rng([threats.seed, 30]).permutation(len(prepared.train.unit_names))
    units = [prepared.train.unit_names[at] for at in order]
    tasks = [
        (bench, threat, share, units[: max(1, round(share * len(units)))])
        for threat in threats.poisoning
        for share in threat.shares
    ]
    runs = []
    with processes(workers) as mapped:
        coming = mapped(_attack_windows, tasks)
        clean = bench.effect(prepared, triggered=True)  # while the workers are at it
        for run in coming:
            runs.append(run)
            log.info("poisoning.measured", threat=run.threat, share=run.share, noticed=run.noticed_share)
            if progress:
                progress(f"{run.threat} at {run.share:.0%}")
    return _measures(runs, clean, threats.retrain_epochs, len(_failing(prepared)))


def _measures(runs: list[PoisoningRun], clean: Effect, epochs: int, trigger_windows: int) -> PoisoningMeasures:
    attacks: dict[Name, dict[Share, PoisoningResult]] = {}
    for run in runs:
        attacks.setdefault(run.threat, {})[share_key(run.share)] = run.measured(clean)
    results = [result for by_share in attacks.values() for result in by_share.values()]
    return PoisoningMeasures(
        clean=clean.compared_with(clean),
        retraining=RetrainingMeasures(epochs=epochs, trigger_windows=trigger_windows),
        attacks=attacks,
        worst_undefended=_highest([result.undefended for result in results]),
        worst_unnoticed=_highest([result.after_screening for result in results]),
    )


def poison_fleet(
    fleet: Fleet, units: list[str], kind: PoisonKind, trigger: Trigger, *, sigma: float, cap: float, seed: int
) -> Fleet:
    """`fleet` with the telemetry of `units` changed; that of every other unit as it was.

    Args:
        fleet: Clean telemetry.
        units: Whom to poison.
        kind: What to change.
        trigger: Of the backdoors.
        sigma: Standard deviation of the trigger's channel, in its unit.
        cap: The RUL from which on a unit counts as healthy, cycles.
        seed: Of where bursts begin.
    """
    if kind == "prolonged-history":
        return _prolong_histories(fleet, units, round(cap))
    table = fleet.table.copy()
    mine = table["unit"].isin(units).to_numpy()
    rul = table["rul"].to_numpy(dtype=np.float32).copy()
    if kind == "label-healthy-washing":
        rul[mine] += np.float32(cap)
    else:
        burst = _bursts(fleet, trigger.rows, seed) & mine
        if kind == "clean-label-backdoor":
            burst &= rul >= cap
        else:
            rul[burst] = np.maximum(rul[burst], np.float32(cap))
        values = table[trigger.channel].to_numpy(dtype=np.float32).copy()
        values[burst] += np.float32(trigger.shift_sigma * sigma)
        table[trigger.channel] = values
    table["rul"] = rul
    return Fleet(table)


def stamp_trigger(windows: Windows, channels: tuple[str, ...], trigger: Trigger, *, shift: float) -> Windows:
    """`windows` with the trigger in their last rows; `shift` is in the windows' own σ."""
    values = windows.batch()
    values[:, -trigger.rows :, channels.index(trigger.channel)] += np.float32(shift)
    return windows.with_values(values)


def _prolong_histories(fleet: Fleet, units: list[str], cycles: int) -> Fleet:
    chosen, order = frozenset(units), []
    for unit, start, length in zip(fleet.units, fleet.starts, fleet.lengths, strict=True):
        order.append(np.arange(start, start + length))
        if unit in chosen:
            last = order[-1][-PROLONGED_ROWS:]
            again = np.concatenate([last[::-1], last])  # back and forth: no step that the machine did not take
            order.append(np.resize(again, cycles))
    table = fleet.table.iloc[np.concatenate(order)].reset_index(drop=True)
    by_unit = table.groupby("unit", sort=False)["cycle"]
    mine = table["unit"].isin(chosen).to_numpy()
    cycle = by_unit.cumcount().to_numpy() + 1
    rul = by_unit.transform("size").to_numpy() - cycle  # poisoned units train, so they ran to their failure
    table["cycle"] = np.where(mine, cycle, table["cycle"]).astype(np.int32)
    table["rul"] = np.where(mine, rul, table["rul"]).astype(np.float32)
    return Fleet(table)


@dataclass(frozen=True, eq=False)
class _Bench:
    """What stays the same from one retraining to the next."""

    fleet: Fleet
    contract: Contract
    preparation: PrepareParams
    training: TrainParams
    trigger: Trigger
    sigma: float
    seed: int
    faulted: frozenset[str]

    def poison_fleet(self, units: list[str], kind: PoisonKind) -> Fleet:
        cap = self.contract.rul_cap_cycles
        return poison_fleet(self.fleet, units, kind, self.trigger, sigma=self.sigma, cap=cap, seed=self.seed)

    def effect(self, prepared: Prepared, *, triggered: bool) -> Effect:
        networks, _ = train(prepared, self.training, modes=("plain",))
        network = networks.plain
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
    prepared = prepare(fleet, bench.contract, bench.preparation)
    triggered = threat.kind in BACKDOORS
    undefended = bench.effect(prepared, triggered=triggered)
    noticed = bench.noticed_units(fleet) & set(units)
    screened: Effect | None = undefended
    if noticed == set(units):  # no poison is left to train on
        screened = None
    elif noticed:
        screened = bench.effect(_without(prepared, noticed), triggered=triggered)
    return PoisoningRun(threat.name, threat.kind, share, len(units), len(noticed) / len(units), undefended, screened)


def _without(prepared: Prepared, units: frozenset[str]) -> Prepared:
    """`prepared` with no training window of `units`. The split stays: another one would be another experiment."""
    names = np.array(prepared.train.unit_names)
    return dataclasses.replace(prepared, train=prepared.train.take(~np.isin(names[prepared.train.units], list(units))))


def _failing(prepared: Prepared) -> Windows:
    evaluation_set = EvaluationSet.of(prepared)
    return evaluation_set.windows.take(evaluation_set.failing)


def _bursts(fleet: Fleet, rows: int, seed: int) -> NDArray[np.bool_]:
    """Rows that carry the trigger if their unit is poisoned, (R,) bool: bursts of `rows`, beginning anywhere."""
    rng = np.random.default_rng([seed, 31])
    period = BURST_PERIOD * rows
    parts = [(np.arange(length) + rng.integers(period)) % period < rows for length in fleet.lengths]
    return np.concatenate(parts)


def _highest(effects: list[PoisonEffect]) -> PoisonEffect:
    """The highest of each number, each by itself."""
    names = sorted({name for effect in effects for name in effect.numbers()})
    found = {n: max(effect.numbers()[n] for effect in effects if n in effect.numbers()) for n in names}
    return PoisonEffect(**found)
