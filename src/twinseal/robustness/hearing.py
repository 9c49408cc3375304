"""Hearing: one unit as the twin hears it, row by row, with gaps: its guard, its network, and the ledger of its life.

The same parts as in the twin, in the same order. What the guard is not told of, it holds; a gap as long as the window
empties it (`twin.runtime`).
"""

from __future__ import annotations

import copy
from collections import deque
from dataclasses import dataclass

import numpy as np

from twinseal.prognostics.checkpoint import Model
from twinseal.robustness.histories import Doubles


@dataclass(frozen=True)
class Heard:
    """What is said after one row.

    Attributes:
        bare: Without a ledger, cycles; None where there is no answer.
        answer: With it, likewise.
        at_most: What the ledger knows to be left at most, cycles; ∞ for nothing.
    """

    bare: float | None
    answer: float | None
    at_most: float


class Hearing:
    """One unit.

    Args:
        model: The twin's.
        known: Whether somebody vouches for the unit's name; else no answer is above that for an unknown one.
    """

    def __init__(self, model: Model, *, known: bool = True) -> None:
        self._model, self._known, self._ledger = model, known, model.ledger_of()
        self._clear()

    def forget(self) -> None:
        """Lose all that was heard, but not the ledger: the window is lost, and nobody vouches for the unit any more."""
        self._ledger.lose_window([0])
        self._known = False
        self._clear()

    def _clear(self) -> None:
        self._guard = self._model.guard_of(window=self._model.window)
        self._repaired: deque[bool] = deque(maxlen=self._model.window)
        self._age = self._count = 0

    def copy(self) -> Hearing:
        """The same past, and from here on another future."""
        other = copy.copy(self)
        other._guard, other._repaired = self._guard.repeated(1), self._repaired.copy()
        other._ledger = copy.deepcopy(self._ledger)
        return other

    def hear(self, row: Doubles, regime: int, age: int) -> Heard:
        """One more row (C,) in σ, that says it is of this age."""
        bare = self._estimate(row, regime, age) if age > self._age else None
        estimate = 0.0 if bare is None else bare
        if not self._known:
            estimate = min(estimate, self._model.life_bounds["plain"].unknown_cycles)
        stated = np.inf if bare is None else float(self._model.at_most("plain", bare, any(self._repaired)))
        entry = self._ledger.enter([0], [age], [estimate], [stated], [bare is not None])
        answer = None if entry.refused[0] else float(entry.answers[0])
        return Heard(bare, answer, float(entry.at_most[0]))

    def _estimate(self, row: Doubles, regime: int, age: int) -> float | None:
        gap = age - self._age - 1 if self._age else 0
        if gap >= self._model.window:
            self._guard.reset_window()
            self._repaired.clear()
            self._count = gap = 0
        for _ in range(gap):
            self._guard.fill_missing_cycle()
            self._repaired.append(True)
        known, regimes = row[None], np.array([regime])
        readings = self._model.normaliser.restore(known, regimes)
        decision = self._guard.decide(np.array([age]), readings, known, regimes=regimes)
        self._repaired.append(bool(decision.flagged.any()))
        for back in range(1, min(int(decision.rewritten_rows.max()), len(self._repaired) - 1) + 1):
            self._repaired[-1 - back] = True
        self._age, self._count = age, self._count + gap + 1
        if decision.refusals[0]:
            return None
        count = min(self._count, self._model.window)
        repaired, given = (self._guard.window(count, repaired=which)[0] for which in (True, False))
        return self._model.guarded_answer(repaired, given, age)
