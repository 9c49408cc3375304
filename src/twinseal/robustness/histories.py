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


@dataclass(frozen=True, eq=False)
class Watched:
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


def watched(model: Model, histories: Histories, false: list[Doubles]) -> Watched:
    """What the guard makes of `histories` as they are told, `false`: in the twin, row by row."""
    lengths = [len(rows) for rows in false]
    guard, longest = model.guard_of(len(false), window=model.window), max(lengths)
    seen = list(guard_decisions(guard, model, histories, false))
    flagged = np.stack([look.flagged.any(axis=1) for look in seen], axis=1)  # (U, longest)
    refused = np.stack([np.array(look.refusals) != "" for look in seen], axis=1)
    both = (guard.window(model.window, repaired=which) for which in (True, False))
    repaired, given = ([rows[-min(n, model.window) :] for rows, n in zip(w, lengths, strict=True)] for w in both)
    return Watched(
        repaired,
        given,
        [rows[longest - n :] for rows, n in zip(flagged, lengths, strict=True)],
        [rows[longest - n :] for rows, n in zip(refused, lengths, strict=True)],
    )


@lru_cache(maxsize=4)
def true_alarms(model: Model, histories: Histories) -> list[Flags]:
    """Of each unit (R,), the rows that the guard flags or refuses although they are true. Asked often, and kept."""
    seen = watched(model, histories, histories.rows)
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
    longest = int(lengths.max())
    for step in range(longest)[steps]:
        at = np.maximum(step - (longest - lengths), 0)
        known = np.stack([rows[i] for rows, i in zip(false, at, strict=True)])
        regimes = np.array([regime[i] for regime, i in zip(histories.regimes, at, strict=True)])
        here = step >= longest - lengths
        yield guard.decide(at + 1, model.normaliser.restore(known, regimes), known, here, regimes)


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


def guarded(model: Model, histories: Histories, seen: Watched) -> Doubles:
    """What the twin would say behind its guard, (U,) cycles, of units without a signed baseline; abstentions aside."""
    ages = [len(told) for told in histories.rows]
    return np.array([model.guarded(r, g, n) for r, g, n in zip(seen.repaired, seen.given, ages, strict=True)])


def worst_answers(answers: Doubles, truth: NDArray[np.float32]) -> WorstCase:
    """The RMSE of answers (U,) in cycles, and the missed failures where a unit is failing."""
    failing = truth <= FAILING_CYCLES
    missed = float(np.mean(answers[failing] > HEALTHY_CYCLES)) if failing.any() else None
    return WorstCase(rmse_cycles=rmse_cycles(answers, truth), missed_failure_share=missed)


def informative_channels(windows: Windows) -> list[int]:
    """Channels that tell of wear, those that tell most first: correlated with the remaining life by 0.3 and more."""
    newest, rul = windows.rows[windows.ends - 1].astype(np.float64), windows.rul.astype(np.float64)
    strength = np.abs(_correlation(newest, rul))
    return [int(i) for i in np.argsort(-strength, kind="stable") if strength[i] >= 0.3]


def _correlation(values: Doubles, other: Doubles) -> Doubles:
    spread = np.maximum(values.std(axis=0) * other.std(), 1e-12)
    return np.asarray(((values - values.mean(axis=0)) * (other - other.mean())[:, None]).mean(axis=0) / spread)
