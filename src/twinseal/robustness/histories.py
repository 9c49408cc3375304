"""Histories: whole lives of units under attack, and what the guard makes of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from twinseal.guard.guard import Guard, GuardDecision
from twinseal.measures.common import WorstCase
from twinseal.prognostics.checkpoint import Model
from twinseal.prognostics.metrics import FAILING_CYCLES, HEALTHY_CYCLES, rmse_cycles
from twinseal.prognostics.normaliser import in_float32
from twinseal.prognostics.windows import Windows

Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

LARGEST = 1_000  # units that a guard hears side by side: more would be slower, for they no longer fit a cache


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

    def repeated(self, times: int) -> Histories:
        """The units again and again."""
        return Histories(
            self.rows * times,
            self.regimes * times,
            np.concatenate([self.baselines] * times),
            np.concatenate([self.truth] * times),
        )


@dataclass(frozen=True, eq=False)
class GuardOutcome:
    """What a guard made of the histories of U units.

    Attributes:
        repaired: Of each unit its newest rows (at most L, C) σ, as the guard leaves them.
        given: The same as they came.
        flagged: Of each unit (R,), the rows in which it flagged a channel.
        refused: Of each unit (R,), the rows about which it abstained.
    """

    repaired: list[Doubles]
    given: list[Doubles]
    flagged: list[Flags]
    refused: list[Flags]


def guard_outcome(model: Model, histories: Histories, false: list[Doubles]) -> GuardOutcome:
    """What the guard makes of `histories` as they are told, `false`: in the twin, row by row."""
    return guard_outcomes(model, histories, [false])[0]


def guard_outcomes(model: Model, histories: Histories, versions: list[list[Doubles]]) -> list[GuardOutcome]:
    """As `guard_outcome` of each of several versions of the same histories.

    Up to the first row in which any version differs, all are heard as one; from there on, side by side.
    """
    begin = min(_first_difference(histories.rows, false) for false in versions)
    guard = model.guard_of(len(histories.rows), window=model.window)
    before = _alarms(guard_decisions(guard, model, histories, histories.rows, slice(begin)))
    several = max(1, LARGEST // len(histories.rows))
    chunks = [versions[at : at + several] for at in range(0, len(versions), several)]
    return [seen for chunk in chunks for seen in _outcomes_from(guard, before, begin, model, histories, chunk)]


def _outcomes_from(
    guard: Guard,
    before: tuple[list[Flags], list[Flags]],
    begin: int,
    model: Model,
    histories: Histories,
    versions: list[list[Doubles]],
) -> list[GuardOutcome]:
    """Of a guard that was alarmed so up to a cycle, how it goes on with each version."""
    units, guard = len(histories.rows), guard.repeated(len(versions))
    told = [rows for false in versions for rows in false]
    lengths, longest = [len(rows) for rows in told], max(map(len, told))
    after = _alarms(guard_decisions(guard, model, histories.repeated(len(versions)), told, slice(begin, None)))
    flagged, refused = (
        np.stack([*(np.tile(row, len(versions)) for row in early), *late], axis=1)  # (V·U, longest)
        for early, late in zip(before, after, strict=True)
    )
    both = (guard.window(model.window, repaired=which) for which in (True, False))
    parts = [[rows[-min(n, model.window) :] for rows, n in zip(w, lengths, strict=True)] for w in both]
    parts += [[rows[longest - n :] for rows, n in zip(kind, lengths, strict=True)] for kind in (flagged, refused)]
    return [GuardOutcome(*(part[at : at + units] for part in parts)) for at in range(0, len(told), units)]


def _alarms(decisions: Iterator[GuardDecision]) -> tuple[list[Flags], list[Flags]]:
    """After each cycle, of which units the guard flags a channel, and about which it abstains, (U,) each."""
    seen = [(np.asarray(d.flagged.any(axis=1)), np.array([bool(why) for why in d.refusals])) for d in decisions]
    return [flagged for flagged, _ in seen], [refused for _, refused in seen]


def _first_difference(true: list[Doubles], false: list[Doubles]) -> int:
    """The first cycle, of as many as the longest unit has, in which a history is told otherwise; all end together."""
    longest, found = max(map(len, true)), []
    for rows, told in zip(true, false, strict=True):
        differs = (rows != told).any(axis=1)
        found.append(longest - len(rows) + (int(differs.argmax()) if differs.any() else len(rows)))
    return min(found)


@lru_cache(maxsize=4)
def true_alarms(model: Model, histories: Histories) -> list[Flags]:
    """Of each unit (R,), the rows that the guard flags or refuses although they are true. Asked often, and kept."""
    seen = guard_outcome(model, histories, histories.rows)
    return [flagged | refused for flagged, refused in zip(seen.flagged, seen.refused, strict=True)]


def guard_decisions(
    guard: Guard, model: Model, histories: Histories, false: list[Doubles], steps: slice = slice(None)
) -> Iterator[GuardDecision]:
    """What a guard makes of each cycle, as it comes. All units end together; a shorter one begins later.

    Args:
        guard: It has seen what comes before.
        model: Whose normaliser is undone.
        histories: As they were.
        false: As they are told.
        steps: Which of as many cycles as the longest unit has.
    """
    lengths = np.array([len(rows) for rows in false])
    chosen = np.arange(int(lengths.max()))[steps]
    waits = lengths.max() - lengths  # (U,)
    known = np.stack([rows[np.maximum(chosen - wait, 0)] for rows, wait in zip(false, waits, strict=True)], axis=1)
    regimes = np.stack(
        [item[np.maximum(chosen - wait, 0)] for item, wait in zip(histories.regimes, waits, strict=True)], axis=1
    )
    readings = model.normaliser.restore(known, regimes)  # (T, U, C)
    for at, step in enumerate(chosen):
        units = np.flatnonzero(step >= waits)
        given = (readings[at, units], known[at, units])
        yield guard.decide(step - waits[units] + 1, *given, units, regimes[at, units]).among(units, len(waits))


def answers(
    model: Model, histories: Histories, rows: list[Doubles], baselines: NDArray[np.float32] | None = None
) -> Doubles:
    """What the twin would say, (U,) cycles, after `rows`, the newest that are told of each of the units.

    Args:
        model: The twin's.
        histories: Of which the units' ages are known.
        rows: Of each unit (at least L, or all; C) σ.
        baselines: (U, C) σ, signed; None where there are none.
    """
    trusted = [None] * len(rows) if baselines is None else baselines
    ages = [len(told) for told in histories.rows]
    return np.array([model.answer(in_float32(r), n, b) for r, n, b in zip(rows, ages, trusted, strict=True)])


def guarded_answers(model: Model, histories: Histories, seen: GuardOutcome) -> Doubles:
    """What the twin would say behind its guard, (U,) cycles, of units without a signed baseline; abstentions aside."""
    ages = [len(told) for told in histories.rows]
    return np.array([model.guarded_answer(r, g, n) for r, g, n in zip(seen.repaired, seen.given, ages, strict=True)])


def worst_answers(answers: Doubles, truth: NDArray[np.float32]) -> WorstCase:
    """The RMSE of answers (U,) in cycles, and the missed failures where a unit is failing."""
    failing = truth <= FAILING_CYCLES
    missed = float(np.mean(answers[failing] > HEALTHY_CYCLES)) if failing.any() else None
    return WorstCase(rmse_cycles=rmse_cycles(answers, truth), missed_failure_share=missed)


def towards_health(histories: Histories) -> Doubles:
    """For each channel (C,) ±1: the way it moves from late in life back to early."""
    early = np.mean([rows[: max(1, len(rows) // 3)].mean(axis=0) for rows in histories.rows], axis=0)
    late = np.mean([rows[-max(1, len(rows) // 5) :].mean(axis=0) for rows in histories.rows], axis=0)
    return np.asarray(np.where(early >= late, 1.0, -1.0))


def informative_channels(windows: Windows) -> list[int]:
    """Channels that tell of wear, those that tell most first: correlated with the remaining life by 0.3 and more."""
    newest, rul = windows.rows[windows.ends - 1].astype(np.float64), windows.rul.astype(np.float64)
    strength = np.abs(_correlation(newest, rul))
    return [int(i) for i in np.argsort(-strength, kind="stable") if strength[i] >= 0.3]


def _correlation(values: Doubles, other: Doubles) -> Doubles:
    spread = np.maximum(values.std(axis=0) * other.std(), 1e-12)
    return np.asarray(((values - values.mean(axis=0)) * (other - other.mean())[:, None]).mean(axis=0) / spread)
