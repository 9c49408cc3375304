"""Whole lives: what the ledger makes of a network's estimates, cycle by cycle, and the measures of that.

Without a guard and without an attack, so it is fast: `robustness.attacks.spent_life` measures behind the guard.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from twinseal.measures.training import LifeMeasures
from twinseal.prognostics.checkpoint import Model
from twinseal.prognostics.conformal import F64, FOLDS, I64
from twinseal.prognostics.ensemble import networks_of
from twinseal.prognostics.evaluation import estimates
from twinseal.prognostics.life_bounds import fit_life_bound, locked_early, uncapped
from twinseal.prognostics.metrics import FAILING_CYCLES, rmse_cycles
from twinseal.prognostics.normaliser import F32
from twinseal.prognostics.training import OutOfFold
from twinseal.prognostics.windows import Prepared, Windows


@dataclass(frozen=True, eq=False)
class Lives:
    """Units over all their cycles.

    Attributes:
        estimates: (N,) cycles, unit after unit, each from its first cycle on.
        left: (N,) the true remaining cycles, not capped; at least as many where the newest label was at the cap.
        cycles: (N,) ages.
        units: (N,) the unit of each.
    """

    estimates: F64
    left: F64
    cycles: I64
    units: I64


def whole_lives(unseen: OutOfFold, cap_cycles: float) -> tuple[F32, F64, I64]:
    """Of lives that networks did not see: estimates (N,), true remaining cycles (N,) without the cap, units (N,)."""
    left = uncapped(unseen.truth, unseen.cycles, unseen.units, cap_cycles)
    return unseen.estimates, left, unseen.units


def lives_of(model: Model, mode: str, windows: Windows) -> Lives:
    """What an ensemble says at each cycle of the units of windows, up to the newest window of each."""
    every = every_cycle(windows)
    said = np.clip(estimates(networks_of(model.inference).modes()[mode], every), 0.0, model.rul_cap_cycles)
    return Lives(said.astype(np.float64), every.rul.astype(np.float64), every.cycles, every.units)


def every_cycle(windows: Windows) -> Windows:
    """One window a cycle of each unit that has windows, from its first cycle up to its newest window.

    Labels count down to that of the newest window, and are not capped but for it: where it is at the cap, they are what
    is left at least.
    """
    order = np.lexsort((windows.ends, windows.units))
    last = order[np.append(np.diff(windows.units[order]) > 0, True)] if len(order) else order  # by unit
    counts = windows.cycles[last]
    back = np.repeat(np.cumsum(counts), counts) - np.arange(counts.sum()) - 1
    newest = np.repeat(last, counts)
    return replace(
        windows,
        ends=windows.ends[newest] - back,
        rul=(windows.rul[newest] + back).astype(np.float32),
        cycles=windows.cycles[newest] - back,
        units=windows.units[newest],
    )


def spent(model: Model, mode: str, lives: Lives) -> F64:
    """The answers (N,) with a ledger for each unit, every row heard."""
    answers, names = np.zeros(len(lives.estimates)), np.unique(lives.units)
    ledger, stated = model.ledger_of(len(names)), model.at_most(mode, lives.estimates)
    place = np.searchsorted(names, lives.units)
    for age in np.unique(lives.cycles):
        here = np.flatnonzero(lives.cycles == age)
        entry = ledger.enter(place[here], lives.cycles[here], lives.estimates[here], stated[here])
        answers[here] = entry.answers
    return answers


def false_locks(unseen: OutOfFold, cap_cycles: float, seed: int) -> float:
    """The share of lives that are locked too early by a factor that others set: four folds set it for the fifth."""
    estimate, left, units = whole_lives(unseen, cap_cycles)
    names, locked = np.random.default_rng(seed).permutation(np.unique(units)), 0
    for fold in range(FOLDS):
        mine = np.isin(units, names[fold::FOLDS])
        bound = fit_life_bound(estimate[~mine], left[~mine], units[~mine], cap_cycles=cap_cycles)
        locked += int(locked_early(bound, estimate[mine], left[mine], units[mine]).sum())
    return locked / len(names)


def measure_lives(model: Model, prepared: Prepared, mode: str, unseen: OutOfFold, seed: int) -> LifeMeasures:
    """What a ledger does to lives that are told honestly: out of fold, and of validation and test units."""
    bound, test = model.life_bounds[mode], prepared.test
    parts = [lives_of(model, mode, windows) for windows in (prepared.validation, test)]
    locked = [locked_early(bound, lives.estimates, lives.left, lives.units) for lives in parts]
    told = parts[-1]
    at = {(unit, cycle): place for place, (unit, cycle) in enumerate(zip(told.units, told.cycles, strict=True))}
    asked = np.array([at[key] for key in zip(test.units, test.cycles, strict=True)], dtype=np.int64)
    bare, held = told.estimates[asked], spent(model, mode, told)[asked]
    found, failing = np.concatenate(locked), min(FAILING_CYCLES, bound.edges[-1] / 2)
    return LifeMeasures(
        lives=bound.lives,
        false_lock_most_share=bound.false_lock_share,
        failing_margin_cycles=float(bound.at_most(failing)) - failing,
        unknown_cycles=bound.unknown_cycles,
        out_of_fold_false_lock_share=false_locks(unseen, model.rul_cap_cycles, seed),
        unseen_lives=len(found),
        false_lock_share=float(np.mean(found)),
        rmse_cycles=rmse_cycles(held, test.rul),
        bare_rmse_cycles=rmse_cycles(bare, test.rul),
        rise_cycles=rmse_cycles(held, test.rul) - rmse_cycles(bare, test.rul),
    )
