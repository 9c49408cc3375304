"""Falsified histories: whole histories of units are changed, and estimates are compared without the guard and with it.

First the experiment of Mode, Calyam & Hoque (2020) as published: units that have run long enough, a few sensors wrong
by some percent from one cycle on, for ever or for twenty cycles. Then harder scenarios (`threats.ScenarioThreat`). In
some of them many sensors move together as in a healthier machine: the guard cannot notice these, and the numbers show
it.

With the guard, its repairs are used. Where it abstains, the twin answers 0 (inspect now). An abstention misses no
failure and is not an estimate, so it does not count in the error; abstentions are counted separately.
"""

from __future__ import annotations

import numpy as np

from twinseal.measures.keys import Aim, Name, Size, rate_key, size_key
from twinseal.measures.quantity import Keys
from twinseal.measures.robustness import FalsifiedHistories, FalsifiedHistory
from twinseal.prognostics.checkpoint import Model
from twinseal.prognostics.metrics import FAILING_CYCLES, rmse_cycles
from twinseal.robustness.attack import Attack, Plan, Testbed
from twinseal.robustness.attacks.injection import FORMS, SPANS
from twinseal.robustness.histories import (
    Doubles,
    GuardOutcome,
    Histories,
    answers,
    guard_outcome,
    guard_outcomes,
    guarded_answers,
    towards_health,
    true_alarms,
    worst_answers,
)
from twinseal.robustness.threats import Injection, ScenarioThreat


def run(testbed: Testbed) -> FalsifiedHistories:
    """The experiment of Mode, Calyam & Hoque, and every scenario of the policy."""
    model, histories, threats = testbed.model, testbed.histories, testbed.threats
    injection = threats.asset(model.contract.asset).injection
    return FalsifiedHistories(
        experiment=experiment(model, histories, injection, seed=threats.seed),
        scenarios={
            threat.name: scenario(model, histories, threat, testbed.channels[threat.sensors])
            for threat in threats.scenarios
        },
    )


def keys(plan: Plan) -> Keys:
    """Which signatures, scenarios, aims and sizes its measures have."""
    signatures = frozenset(f"{form}-{span}" for form in FORMS for span in SPANS)
    found = {"experiment": signatures, "scenarios": frozenset(threat.name for threat in plan.threats.scenarios)}
    for threat in plan.threats.scenarios:
        found[f"scenarios/{threat.name}"] = frozenset(threat.aims)
        for aim in threat.aims:
            found[f"scenarios/{threat.name}/{aim}"] = frozenset(key_of(threat, size) for size in threat.sizes)
    return found


def key_of(threat: ScenarioThreat, size: float) -> Size:
    """The key of one size of a scenario; it says in which unit the size is."""
    return rate_key(size) if threat.kind == "drift" else size_key(size)


def experiment(model: Model, histories: Histories, injection: Injection, *, seed: int) -> dict[Name, FalsifiedHistory]:
    """Mode, Calyam & Hoque's experiment: the measures of each signature, by name.

    Returns:
        biased-continuous, biased-interim, random-continuous, random-interim; empty when no unit has run long enough.
    """
    chosen = [i for i, rows in enumerate(histories.rows) if len(rows) >= injection.least_cycles]
    if not chosen:
        return {}
    some, rng = histories.only(chosen), np.random.default_rng([seed, 70])
    low, high = injection.guarded_random_percent or injection.random_percent
    versions: dict[Name, list[Doubles]] = {}
    for form in FORMS:
        drawn = rng.uniform(low, high, (len(chosen), len(injection.sensors)))
        percent = np.full_like(drawn, injection.biased_percent) if form == "biased" else drawn
        for span in SPANS:
            versions[f"{form}-{span}"] = inject_histories(model, some, injection, percent, interim=span == "interim")
    seen = guard_outcomes(model, some, list(versions.values()))
    return {
        name: measure_falsified(model, some, false, injection.from_cycle - 1, one)
        for (name, false), one in zip(versions.items(), seen, strict=True)
    }


def inject_histories(
    model: Model, histories: Histories, injection: Injection, percent: Doubles, *, interim: bool
) -> list[Doubles]:
    """The histories with the injection's sensors too low by `percent` (U, S), from its cycle on, for good or not."""
    at = [model.channels.index(sensor) for sensor in injection.sensors]
    begin = injection.from_cycle - 1
    end = begin + injection.interim_cycles if interim else None
    false = []
    for rows, regimes, share in zip(histories.rows, histories.regimes, percent, strict=True):
        raw = model.normaliser.restore(rows, regimes)
        changed = raw[begin:end, at] * (1 - share / 100)
        raw[begin:end, at] = changed if injection.decimals is None else changed.round(injection.decimals)
        false.append((raw - model.normaliser.mean[regimes]) / model.normaliser.std[regimes])
    return false


def scenario(
    model: Model, histories: Histories, threat: ScenarioThreat, sensors: list[int]
) -> dict[Aim, dict[Size, FalsifiedHistory]]:
    """The measures of one scenario, by aim and size.

    Args:
        model: Under attack.
        histories: Whose last rows are falsified.
        threat: What is done.
        sensors: Channels that the attacker controls, by index.
    """
    versions: list[tuple[Aim, Size, list[Doubles]]] = []
    for aim in threat.aims:
        for size in threat.sizes:
            false = falsify_histories(model, histories, threat, size, sensors)
            if aim == "any":  # knows the network: takes the direction with the larger error
                other = falsify_histories(model, histories, threat, size, sensors, healthier=False)
                errors = [np.abs(answers(model, histories, rows) - histories.truth) for rows in (false, other)]
                false = [b if d > u else a for a, b, u, d in zip(false, other, *errors, strict=True)]
            versions.append((aim, key_of(threat, size), false))
    found: dict[Aim, dict[Size, FalsifiedHistory]] = {aim: {} for aim in threat.aims}
    seen = guard_outcomes(model, histories, [false for _, _, false in versions])
    for (aim, key, false), one in zip(versions, seen, strict=True):
        found[aim][key] = measure_falsified(model, histories, false, -threat.rows, one)
    return found


def falsify_histories(
    model: Model,
    histories: Histories,
    threat: ScenarioThreat,
    size: float,
    sensors: list[int],
    *,
    healthier: bool = True,
) -> list[Doubles]:
    """The histories with their last rows as `threat` has them: towards a healthier machine, or a more worn one."""
    towards = towards_health(histories) if healthier else -towards_health(histories)
    change = np.array([model.contract.all_channels[name].max_change_per_cycle for name in model.channels])
    each = zip(histories.rows, histories.regimes, strict=True)
    return [
        _falsify_rows(rows, threat, size, sensors, towards, change / model.normaliser.std[regimes])
        for rows, regimes in each
    ]


def measure_falsified(
    model: Model, histories: Histories, false: list[Doubles], begin: int, seen: GuardOutcome | None = None
) -> FalsifiedHistory:
    """The estimates of falsified histories, without the guard and with it.

    Args:
        model: Under attack.
        histories: As they were.
        false: As they are reported; rows before `begin` (from the end if negative) are as they were.
        begin: First falsified row.
        seen: What the guard makes of them, where that is known already.
    """
    seen, lengths = seen or guard_outcome(model, histories, false), [len(rows) for rows in false]
    first = [begin if begin >= 0 else max(0, length + begin) for length in lengths]
    alarms = [f | r for f, r in zip(seen.flagged, seen.refused, strict=True)]
    pairs = zip(alarms, true_alarms(model, histories), first, strict=True)
    noticed = [bool((now & ~before)[start:].any()) for now, before, start in pairs]
    silent = np.array([bool(refused[-1]) for refused in seen.refused])
    bare, behind = answers(model, histories, false), guarded_answers(model, histories, seen)
    given = ~silent
    return FalsifiedHistory(
        units=len(lengths),
        failing_units=int((histories.truth <= FAILING_CYCLES).sum()),
        detected_share=float(np.mean(noticed)),
        abstained_share=float(np.mean(silent)),
        guarded_rmse_cycles=rmse_cycles(behind[given], histories.truth[given]) if given.any() else None,
        guarded_missed_failure_share=worst_answers(np.where(silent, 0.0, behind), histories.truth).missed_failure_share,
        **worst_answers(bare, histories.truth).fields(),
    )


def _falsify_rows(
    rows: Doubles, threat: ScenarioThreat, size: float, sensors: list[int], towards: Doubles, change: Doubles
) -> Doubles:
    """One history with its last rows falsified, in σ; `change` (R, C) is how far a reading may move in a cycle, σ."""
    false, count = rows.copy(), min(threat.rows, len(rows) - 1)
    last = false[-count:]
    if threat.kind == "replay":
        last[:, sensors] = np.resize(rows[:count], last.shape)[:, sensors]
    elif threat.kind == "stuck":
        last[:, sensors] = rows[-count - 1, sensors]
    else:
        grown = np.arange(1, count + 1)[:, None]
        move = {"shift": np.ones(grown.shape), "ramp": grown / count, "drift": grown * change[-count:]}[threat.kind]
        last[:, sensors] += (towards * size * move)[:, sensors]
    return false


ATTACKS = (Attack("falsified_histories", run, keys, seconds=9),)
