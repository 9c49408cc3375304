"""Scenarios: whole histories falsified, and what becomes of the estimate without the guard and with it.

The experiment of Mode, Calyam & Hoque (2020) as the authors have it: units that have run long enough, a few sensors
off by a percentage from some cycle on, for good or for twenty cycles. Beside it harder ones
(`threats.ScenarioThreat`), among them those in which many sensors move together as they would in a healthier machine:
there the guard is blind, and the numbers say so.

With the guard, what it replaces is replaced, and where it abstains the twin answers 0, inspect now: an abstention
misses no failure, and is no estimate, so it is left out of the error and counted by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinseal.prognostics.checkpoint import Model
from twinseal.prognostics.metrics import FAILING_CYCLES, HEALTHY_CYCLES, rmse_cycles
from twinseal.prognostics.windows import Windows
from twinseal.robustness.histories import Doubles, Histories, Watched, answers, anyway, guarded, watched_all
from twinseal.robustness.threats import Injection, ScenarioThreat


def experiment(model: Model, histories: Histories, injection: Injection, *, seed: int) -> dict[str, dict[str, float]]:
    """Mode, Calyam & Hoque's experiment: the measures of each signature, by name.

    Returns:
        biased-continuous, biased-interim, random-continuous, random-interim: as `measured`; empty when no unit has run
        long enough.
    """
    chosen = [i for i, rows in enumerate(histories.rows) if len(rows) >= injection.least_cycles]
    if not chosen:
        return {}
    some, rng = histories.only(chosen), np.random.default_rng([seed, 70])
    low, high = injection.guarded_random_percent or injection.random_percent
    told = {}
    for form in ("biased", "random"):
        drawn = rng.uniform(low, high, (len(chosen), len(injection.sensors)))
        percent = np.full_like(drawn, injection.biased_percent) if form == "biased" else drawn
        for span in ("continuous", "interim"):
            told[f"{form}-{span}"] = injected(model, some, injection, percent, interim=span == "interim")
    watched = watched_all(model, some, list(told.values()))
    return {
        name: measured(model, some, false, injection.from_cycle - 1, seen)
        for (name, false), seen in zip(told.items(), watched, strict=True)
    }


def injected(
    model: Model, histories: Histories, injection: Injection, percent: Doubles, *, interim: bool
) -> list[Doubles]:
    """The histories with the injection's sensors too low by `percent` (U, S), from its cycle on, for good or not."""
    at = [model.channels.index(sensor) for sensor in injection.sensors]
    begin = injection.from_cycle - 1
    end = begin + injection.interim_cycles if interim else None
    false = []
    for rows, regimes, share in zip(histories.rows, histories.regimes, percent, strict=True):
        raw = model.normaliser.restore(rows, regimes)
        told = raw[begin:end, at] * (1 - share / 100)
        raw[begin:end, at] = told if injection.decimals is None else told.round(injection.decimals)
        false.append((raw - model.normaliser.mean[regimes]) / model.normaliser.std[regimes])
    return false


def scenario(
    model: Model, histories: Histories, threat: ScenarioThreat, sensors: list[int]
) -> Iterator[dict[str, Any]]:
    """The measures of one scenario for each of its aims, at each of its sizes.

    Args:
        model: Under attack.
        histories: Whose last rows are falsified.
        threat: What is done.
        sensors: Channels that are held, by index.

    Returns:
        aim, size, and all of `measured`.
    """
    told = []
    for aim in threat.aims:
        for size in threat.sizes:
            false = falsified(model, histories, threat, size, sensors)
            if aim == "any":  # whoever knows the network goes where each estimate ends further from the truth
                other = falsified(model, histories, threat, size, sensors, healthier=False)
                errors = [np.abs(answers(model, histories, told) - histories.truth) for told in (false, other)]
                false = [b if d > u else a for a, b, u, d in zip(false, other, *errors, strict=True)]
            told.append((aim, size, false))
    watched = watched_all(model, histories, [false for _, _, false in told])
    for (aim, size, false), seen in zip(told, watched, strict=True):
        yield {"aim": aim, "size": size} | measured(model, histories, false, -threat.rows, seen)


def falsified(
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
        _falsified(rows, threat, size, sensors, towards, change / model.normaliser.std[regimes])
        for rows, regimes in each
    ]


def informative(windows: Windows) -> list[int]:
    """Channels that tell of wear, those that tell most first: correlated with the remaining life by 0.3 and more."""
    newest, rul = windows.rows[windows.ends - 1].astype(np.float64), windows.rul.astype(np.float64)
    told = np.abs(_correlation(newest, rul))
    return [int(i) for i in np.argsort(-told, kind="stable") if told[i] >= 0.3]


def towards_health(histories: Histories) -> Doubles:
    """For each channel (C,) ±1: the way it moves from late in life back to early."""
    early = np.mean([rows[: max(1, len(rows) // 3)].mean(axis=0) for rows in histories.rows], axis=0)
    late = np.mean([rows[-max(1, len(rows) // 5) :].mean(axis=0) for rows in histories.rows], axis=0)
    return np.asarray(np.where(early >= late, 1.0, -1.0))


def measured(
    model: Model, histories: Histories, false: list[Doubles], begin: int, watched: Watched | None = None
) -> dict[str, float]:
    """What falsified histories come to.

    Args:
        model: Under attack.
        histories: As they were.
        false: As they are told; rows before `begin` (from the end if negative) are as they were.
        begin: First falsified row.
        watched: What the guard makes of them, where that is known already.

    Returns:
        rmse_cycles and missed_failure_share as they would be without the guard; the same with it, guarded_…;
        detected_share, of units flagged or refused in a falsified row of which the guard says nothing when it is true;
        abstained_share, of the last rows.
    """
    seen, lengths = watched or watched_all(model, histories, [false])[0], [len(rows) for rows in false]
    first = [begin if begin >= 0 else max(0, length + begin) for length in lengths]
    heard = [f | r for f, r in zip(seen.flagged, seen.refused, strict=True)]
    pairs = zip(heard, anyway(model, histories), first, strict=True)
    noticed = [bool((now & ~before)[start:].any()) for now, before, start in pairs]
    silent = np.array([bool(refused[-1]) for refused in seen.refused])
    bare, behind = answers(model, histories, false), guarded(model, histories, seen)
    found = {"units": float(len(lengths)), "detected_share": float(np.mean(noticed))}
    found |= {"abstained_share": float(np.mean(silent))} | harm(bare, histories.truth)
    if not silent.all():
        found["guarded_rmse_cycles"] = rmse_cycles(behind[~silent], histories.truth[~silent])
    missed = harm(np.where(silent, 0.0, behind), histories.truth).get("missed_failure_share")
    return found | ({} if missed is None else {"guarded_missed_failure_share": missed})


def harm(said: Doubles, truth: NDArray[np.float32]) -> dict[str, float]:
    """rmse_cycles of answers (U,), and missed_failure_share where a unit is failing."""
    failing = truth <= FAILING_CYCLES
    missed = {"missed_failure_share": float(np.mean(said[failing] > HEALTHY_CYCLES))} if failing.any() else {}
    return {"rmse_cycles": rmse_cycles(said, truth)} | missed


def _falsified(
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


def _correlation(values: Doubles, other: Doubles) -> Doubles:
    spread = np.maximum(values.std(axis=0) * other.std(), 1e-12)
    return np.asarray(((values - values.mean(axis=0)) * (other - other.mean())[:, None]).mean(axis=0) / spread)
