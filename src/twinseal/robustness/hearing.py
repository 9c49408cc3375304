"""Hearing: units as the twin hears them, row by row: their guard, their network, and the ledger of each life.

The same parts as in the twin, in the same order. `Hearing` is of one unit, with gaps: what the guard is not told of, it
holds; a gap as long as the window empties it (`twin.runtime`). `Together` is of many, of which every row arrives.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from twinseal.prognostics.checkpoint import Model
from twinseal.robustness.histories import Doubles, Flags, Histories, Ints, guard_decisions


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


@dataclass(frozen=True, eq=False)
class HeardTogether:
    """What is said of U units after one cycle; of one that has not begun, nothing.

    Attributes:
        bare: (U,) cycles without a ledger; NaN where there is no answer.
        answers: (U,) with it, likewise.
        at_most: (U,) what the ledger knows to be left at most, cycles; ∞ for nothing.
        alarmed: (U,) whether the guard flags the row or refuses it.
    """

    bare: Doubles
    answers: Doubles
    at_most: Doubles
    alarmed: Flags


class Together:
    """Units that end together, each heard as `Hearing` hears it alone; a shorter one begins later.

    Args:
        model: The twin's.
        histories: Of the units.
    """

    def __init__(self, model: Model, histories: Histories) -> None:
        self._model, self._histories = model, histories
        units = len(histories.rows)
        self._guard, self._ledger = model.guard_of(units, window=model.window), model.ledger_of(units)
        self._repaired = np.zeros((units, model.window), dtype=bool)

    def repeated(self, times: int) -> Together:
        """`times` copies of these units, with the same past: unit u of copy k is k · U + u."""
        other = copy.copy(self)
        other._histories, other._guard = self._histories.repeated(times), self._guard.repeated(times)
        other._ledger, other._repaired = self._ledger.repeated(times), np.concatenate([self._repaired] * times)
        return other

    def is_silent(self, false: list[Doubles], steps: slice, known: Flags) -> Flags:
        """About which units the guard raises no alarm but known ones (U, T), (U,); the guard alone hears, and only it.

        A unit of which it has raised one is not heard any more.

        Args:
            false: As in `hear`.
            steps: Likewise, T cycles.
            known: Alarms that are raised anyway.
        """
        lengths = np.array([len(rows) for rows in self._histories.rows])
        waits, silent = lengths.max() - lengths, np.ones(len(lengths), dtype=bool)
        for at, step in enumerate(np.arange(lengths.max())[steps].tolist()):
            units = np.flatnonzero(silent & (step >= waits))
            rows = step - waits[units]
            told = np.array([false[unit][row] for unit, row in zip(units, rows, strict=True)])
            regimes = np.array([self._histories.regimes[unit][row] for unit, row in zip(units, rows, strict=True)])
            if not len(units):
                continue
            readings = self._model.normaliser.restore(told, regimes)
            seen = self._guard.decide(rows + 1, readings, told, units, regimes)
            alarmed = seen.flagged.any(axis=1) | np.array([bool(why) for why in seen.refusals])
            silent[units[alarmed & ~known[units, at]]] = False
        return silent

    def hear(self, false: list[Doubles], steps: slice) -> Iterator[HeardTogether]:
        """What is said after each of some cycles, of as many as the longest unit has.

        Args:
            false: Of each unit its rows (R, C) in σ, as they are told.
            steps: Which cycles; those before were heard, or there are none.
        """
        lengths = np.array([len(rows) for rows in self._histories.rows])
        waits, cycles = lengths.max() - lengths, np.arange(lengths.max())[steps]
        decisions = guard_decisions(self._guard, self._model, self._histories, false, steps)
        for step, seen in zip(cycles.tolist(), decisions, strict=True):
            units, refused = np.flatnonzero(step >= waits), np.array([bool(why) for why in seen.refusals])
            ages, flagged = step - waits + 1, seen.flagged.any(axis=1)
            self._repaired = np.roll(self._repaired, -1, axis=1)
            self._repaired[:, -1] = flagged
            for unit in np.flatnonzero(seen.rewritten_rows.any(axis=1)):  # rows before this one, as many as there are
                before = min(int(seen.rewritten_rows[unit].max()), int(ages[unit]) - 1)
                self._repaired[unit, max(0, self._model.window - 1 - before) : -1] = True
            bare, asked = np.full(len(waits), np.nan), units[~refused[units]]
            if len(asked):
                bare[asked] = self._estimates(asked, ages[asked])
            stated = self._model.at_most("plain", np.nan_to_num(bare), self._repaired.any(axis=1))
            entry = self._ledger.enter(units, ages[units], bare[units], stated[units], ~np.isnan(bare[units]))
            answers, at_most = bare.copy(), np.full(len(waits), np.inf)
            answers[units], at_most[units] = np.where(entry.refused, np.nan, entry.answers), entry.at_most
            yield HeardTogether(bare, answers, at_most, np.asarray(flagged | refused))

    def _estimates(self, units: Ints, ages: Ints) -> Doubles:
        """What the network says of units of these ages behind their guard: `Model.guarded_answer` of each."""
        window = self._model.window
        told, mended = (self._guard.window(window, units, repaired=which) for which in (False, True))
        counts = np.minimum(ages, window)
        said = self._model.answers(told, counts, ages)
        differs = np.flatnonzero((told != mended).any(axis=(1, 2)))
        if self._model.repairs and len(differs):
            other = self._model.answers(mended[differs], counts[differs], ages[differs])
            said[differs] = np.minimum(said[differs], other)
        return said
