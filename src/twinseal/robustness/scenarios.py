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
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from twinseal.guard.guard import Guard
from twinseal.prognostics.checkpoint import Model
from twinseal.prognostics.metrics import FAILING_CYCLES, HEALTHY_CYCLES, rmse_cycles
from twinseal.prognostics.normaliser import in_float32
from twinseal.prognostics.windows import Windows
from twinseal.robustness.threats import Injection, ScenarioThreat

Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Histories:
    """The units under attack, each up to its newest row.

    Attributes:
        rows: Of each unit (R, C) float64 in σ.
        regimes: Of each unit (R,).
        baselines: (U, C) float32 in σ.
        truth: (U,) cycles.
    """

    rows: list[Doubles]
    regimes: list[Ints]
    baselines: NDArray[np.float32]
    truth: NDArray[np.float32]

    @classmethod
    def of(cls, windows: Windows) -> Histories:
        """Those of windows; the truth is that of each unit's newest window."""
        units = np.unique(windows.units)
        newest = [np.flatnonzero(windows.units == u)[np.argmax(windows.ends[windows.units == u])] for u in units]
        told = windows.histories()
        return cls([r for r, _ in told], [k for _, k in told], windows.baselines[units], windows.rul[newest])

    def only(self, chosen: list[int]) -> Histories:
        """Some of the units."""
        rows, regimes = [self.rows[i] for i in chosen], [self.regimes[i] for i in chosen]
        return Histories(rows, regimes, self.baselines[chosen], self.truth[chosen])


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
    at = [model.channels.index(sensor) for sensor in injection.sensors]
    low, high = injection.guarded_random_percent or injection.random_percent
    found = {}
    for form in ("biased", "random"):
        drawn = rng.uniform(low, high, (len(chosen), len(at)))
        percent = np.full_like(drawn, injection.biased_percent) if form == "biased" else drawn
        for span in ("continuous", "interim"):
            begin = injection.from_cycle - 1
            end = None if span == "continuous" else begin + injection.interim_cycles
            false = []
            for unit, (rows, regimes) in enumerate(zip(some.rows, some.regimes, strict=True)):
                raw = model.normaliser.restore(rows, regimes)
                told = raw[begin:end, at] * (1 - percent[unit] / 100)
                raw[begin:end, at] = told if injection.decimals is None else told.round(injection.decimals)
                false.append((raw - model.normaliser.mean[regimes]) / model.normaliser.std[regimes])
            found[f"{form}-{span}"] = measured(model, some, false, begin)
    return found


def scenario(
    model: Model, histories: Histories, threat: ScenarioThreat, sensors: list[int]
) -> Iterator[dict[str, float]]:
    """The measures of one scenario at each of its sizes.

    Args:
        model: Under attack.
        histories: Whose last rows are falsified.
        threat: What is done.
        sensors: Channels that are held, by index; the sign of `healthier` says which way is healthier.
    """
    towards = healthier(histories)
    for size in threat.sizes:
        false = [
            _falsified(rows, regimes, threat, size, sensors, towards, model)
            for rows, regimes in zip(histories.rows, histories.regimes, strict=True)
        ]
        yield {"size": size} | measured(model, histories, false, -threat.rows)


def informative(windows: Windows) -> list[int]:
    """Channels that tell of wear, those that tell most first: correlated with the remaining life by 0.3 and more."""
    newest, rul = windows.rows[windows.ends - 1].astype(np.float64), windows.rul.astype(np.float64)
    told = np.abs(_correlation(newest, rul))
    return [int(i) for i in np.argsort(-told, kind="stable") if told[i] >= 0.3]


def healthier(histories: Histories) -> Doubles:
    """For each channel (C,) ±1: the way it moves from late in life back to early."""
    early = np.mean([rows[: max(1, len(rows) // 3)].mean(axis=0) for rows in histories.rows], axis=0)
    late = np.mean([rows[-max(1, len(rows) // 5) :].mean(axis=0) for rows in histories.rows], axis=0)
    return np.asarray(np.where(early >= late, 1.0, -1.0))


def measured(model: Model, histories: Histories, false: list[Doubles], begin: int) -> dict[str, float]:
    """What falsified histories come to.

    Args:
        model: Under attack.
        histories: As they were.
        false: As they are told; rows before `begin` (from the end if negative) are as they were.
        begin: First falsified row.

    Returns:
        rmse_cycles and missed_failure_share as they would be without the guard; the same with it, guarded_…;
        detected_share, of units that were flagged or refused in a falsified row; abstained_share, of the last rows.
    """
    repaired, flagged, refused = watched(model, histories, false)
    lengths = [len(rows) for rows in false]
    first = [begin if begin >= 0 else max(0, length + begin) for length in lengths]
    noticed = [
        bool((f | r)[start:length].any()) for f, r, start, length in zip(flagged, refused, first, lengths, strict=True)
    ]
    silent = np.array([bool(r[length - 1]) for r, length in zip(refused, lengths, strict=True)])
    bare, guarded = (_answers(model, rows) for rows in (false, repaired))
    answers = {"units": float(len(lengths)), "detected_share": float(np.mean(noticed))}
    answers |= {"abstained_share": float(np.mean(silent))} | _harm(bare, histories.truth)
    if not silent.all():
        answers["guarded_rmse_cycles"] = rmse_cycles(guarded[~silent], histories.truth[~silent])
    missed = _harm(np.where(silent, 0.0, guarded), histories.truth).get("missed_failure_share")
    return answers | ({} if missed is None else {"guarded_missed_failure_share": missed})


def watched(
    model: Model, histories: Histories, false: list[Doubles]
) -> tuple[list[Doubles], list[NDArray[np.bool_]], list[NDArray[np.bool_]]]:
    """The rows of each unit as its guard leaves them, which rows it flagged, and about which it abstained."""
    lengths = np.array([len(rows) for rows in false])
    guard = Guard(model.guard, model.contract, len(false), window=int(lengths.max()))
    flagged, refused = (np.zeros((len(false), lengths.max()), dtype=bool) for _ in range(2))
    for cycle in range(lengths.max()):
        here, at = cycle < lengths, np.minimum(cycle, lengths - 1)
        known = np.stack([rows[i] for rows, i in zip(false, at, strict=True)])
        regimes = np.array([regime[i] for regime, i in zip(histories.regimes, at, strict=True)])
        readings = model.normaliser.restore(known, regimes)
        look = guard.look(np.full(len(false), cycle + 1), readings, known, here, regimes)
        flagged[:, cycle] = look.flagged.any(axis=1) & here
        refused[:, cycle] = (np.array(look.refusals) != "") & here
    kept = guard.window(int(lengths.max()))
    return [kept[i, lengths.max() - n :] for i, n in enumerate(lengths)], list(flagged), list(refused)


def _answers(model: Model, rows: list[Doubles]) -> Doubles:
    """What the twin would say, (U,) cycles, of units without a signed baseline."""
    return np.array([model.answer(in_float32(item), len(item)) for item in rows])


def _harm(answers: Doubles, truth: NDArray[np.float32]) -> dict[str, float]:
    failing = truth <= FAILING_CYCLES
    numbers = {"rmse_cycles": rmse_cycles(answers, truth)}
    return numbers | (
        {"missed_failure_share": float(np.mean(answers[failing] > HEALTHY_CYCLES))} if failing.any() else {}
    )


def _falsified(
    rows: Doubles,
    regimes: Ints,
    threat: ScenarioThreat,
    size: float,
    sensors: list[int],
    towards: Doubles,
    model: Model,
) -> Doubles:
    """One history with its last rows falsified, in σ."""
    false, count = rows.copy(), min(threat.rows, len(rows) - 1)
    last = false[-count:]
    if threat.kind == "replay":
        last[:, sensors] = np.resize(rows[:count], last.shape)[:, sensors]
    elif threat.kind == "stuck":
        last[:, sensors] = rows[-count - 1, sensors]
    else:
        grown = np.arange(1, count + 1)[:, None]
        if threat.kind == "drift":
            change = np.array([model.contract.all_channels[name].max_change_per_cycle for name in model.channels])
            move = grown * size * (change / model.normaliser.std[regimes[-count:]])
        else:
            move = size * (grown / count if threat.kind == "ramp" else np.ones(grown.shape))
        last[:, sensors] += (towards * move)[:, sensors]
    return false


def _correlation(values: Doubles, other: Doubles) -> Doubles:
    spread = np.maximum(values.std(axis=0) * other.std(), 1e-12)
    return np.asarray(((values - values.mean(axis=0)) * (other - other.mean())[:, None]).mean(axis=0) / spread)
