"""Life bounds: what an estimate states of a whole life: "over after so many more cycles at the latest".

A statement about a unit at age t is h = r + m(r): the estimate r and a margin. An estimate above two thirds of the cap
states nothing: early in life the end is anybody's guess, and labels are capped. The twin keeps the earliest end that
was ever stated (`ledger`), so one statement that is too early is one too many in a life: margins are set over whole
lives, not over windows. A life that ends at age T is *locked too early* if any of its statements ends more than
SLACK_CYCLES before T. Margins are set for SET_SLACK_CYCLES: set for twice as much they cost FD001 up to 0.36 cycles of
RMSE, these 0.11, and what is shipped may differ from what set them. Estimates are in bins, each with a usual shortfall
s: of what lives exceed an estimate in the bin by, each at its worst row, nine of ten are below s. The score of a life
is the least factor f, the same for all bins, at which margins f · s do not call it over too early:

    score = max over its rows t of (T - t - SET_SLACK_CYCLES - r_t) / s(r_t),  at least 0; rows that state nothing aside

If the lives that set the factor and a new one are exchangeable, the k-th smallest of n scores is exceeded by a new
life's with a probability of at most 1 - k / (n + 1) (Vovk, Gammerman & Shafer 2005; one score a life, so what its rows
have in common does not matter). For a share of FALSE_LOCKS k is ⌈(n + 1) · (1 - FALSE_LOCKS)⌉. With fewer than 99 lives
that is more than n: then the largest score is taken, and what is reached is 1 / (n + 1), which `false_lock_share` says.

What is assumed, and measured on unseen lives: that s, which the same lives set, is as good as given; and that networks
which did not see a unit, and learned from fewer, miss by no less than what is shipped.

A unit whose age nobody can vouch for gets no answer above `unknown_cycles`: nine of ten rows of the fleet's lives have
as many cycles left, every life counting the same.

    >>> bound = LifeBound(edges=(20.0, 60.0), margins=(5.0, 15.0), lives=99, false_lock_share=0.01, unknown_cycles=20.0)
    >>> bound.at_most([10.0, 40.0, 60.0]).tolist()
    [15.0, 55.0, inf]
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from twinseal.config import Settings
from twinseal.errors import DataError
from twinseal.prognostics.conformal import BINS, F64, I64, LEAST_UNITS, by_unit

SLACK_CYCLES = 20.0  # a life that is called over more cycles before it is, is locked too early
SET_SLACK_CYCLES = 10.0  # and margins are set so that it is not by more than these
FALSE_LOCKS = 0.01  # share of lives that may be locked earlier
STATED_BINS = 4  # of as many as intervals have: two thirds of the cap
USUAL_LEVEL = 0.9  # of the lives: far enough from 1 that few of them hardly move it
UNKNOWN_LEVEL = 0.1  # share of the fleet's rows with fewer cycles left than an unknown unit is given


class LifeBound(Settings):
    """What the estimates of one ensemble state of whole lives.

    Attributes:
        edges: Upper ends of the bins of estimates, rising, cycles; an estimate from the last one on states nothing.
        margins: By bin, cycles.
        lives: How many lives set them.
        false_lock_share: The most of new lives that are called over more than SET_SLACK_CYCLES before they are, in the
            mean over sets of lives.
        unknown_cycles: The highest answer for a unit whose age nobody vouches for.

    Raises:
        ValueError: The bins are not rising, or not as many as margins; a number is not one that it can be.
    """

    edges: tuple[float, ...]
    margins: tuple[float, ...]
    lives: int
    false_lock_share: float
    unknown_cycles: float

    def model_post_init(self, _context: Any, /) -> None:
        """Refuse a bound that binds nothing."""
        rising = all(a < b for a, b in pairwise((0.0, *self.edges)))
        if not (1 <= len(self.edges) == len(self.margins) <= 64 and rising and self.edges[-1] <= 1e6):
            raise ValueError("life bound: expected rising edges above 0, and one margin a bin")
        if not all(0 <= margin <= 1e6 for margin in self.margins):
            raise ValueError("life bound: expected margins of 0 to 1e6 cycles")
        if not (1 <= self.lives <= 10**9 and 0 < self.false_lock_share < 1 and 0 <= self.unknown_cycles <= 1e6):
            raise ValueError("life bound: expected at least one life, a share in (0, 1), and unknown_cycles from 0 on")

    def at_most(self, estimate: npt.ArrayLike, widen: npt.ArrayLike = 1.0) -> F64:
        """The cycles that estimates (N,) state at most, (N,); ∞ where an estimate is too high to state any.

        Args:
            estimate: Cycles, finite.
            widen: (N,) or one; margins are so many times as large: where readings were repaired.
        """
        said = np.maximum(np.asarray(estimate, dtype=np.float64), 0.0)
        at = np.searchsorted(np.array(self.edges), said, side="right")
        return np.asarray(said + np.asarray(widen) * np.array([*self.margins, np.inf])[at])


def fit_life_bound(estimate: npt.ArrayLike, left: npt.ArrayLike, units: I64, *, cap_cycles: float) -> LifeBound:
    """The bound from what was said over whole lives by networks that did not know them.

    Args:
        estimate: (N,) cycles.
        left: (N,) the true remaining cycles, not capped.
        units: (N,) the unit of each; windows of one unit in any order.
        cap_cycles: The cap.

    Raises:
        DataError: Too few lives.
    """
    edges = (cap_cycles * np.arange(1, STATED_BINS + 1) / BINS).round(1)
    short, known = _shortfalls(estimate, left, units, edges), by_unit(np.asarray(left, dtype=np.float64), units)
    if len(known) < LEAST_UNITS:
        raise DataError(f"life bound: expected at least {LEAST_UNITS} lives, got {len(known)}")
    usual = np.array([_usual(part[np.isfinite(part)]) for part in short.T])  # (bins,)
    usual = np.where(np.isnan(usual), np.nanmax(np.append(usual, 1.0)), usual)
    scores = np.sort(np.maximum(0.0, (short - SET_SLACK_CYCLES) / usual).max(axis=1))
    rank = min(len(scores), math.ceil((len(scores) + 1) * (1 - FALSE_LOCKS) - 1e-9))
    return LifeBound(
        edges=tuple(edges.tolist()),
        margins=tuple((scores[rank - 1] * usual).tolist()),
        lives=len(scores),
        false_lock_share=1 - rank / (len(scores) + 1),
        unknown_cycles=min(cap_cycles, float(np.mean([np.quantile(part, UNKNOWN_LEVEL) for part in known]))),
    )


def locked_early(bound: LifeBound, estimate: npt.ArrayLike, left: npt.ArrayLike, units: I64) -> npt.NDArray[np.bool_]:
    """Which units (U,), by their numbers, are called over more than SLACK_CYCLES before they are, by any row."""
    short = _shortfalls(estimate, left, units, np.array(bound.edges))
    return np.asarray((short - SLACK_CYCLES > np.array(bound.margins)).any(axis=1))


def _shortfalls(estimate: npt.ArrayLike, left: npt.ArrayLike, units: I64, edges: F64) -> F64:
    """Of each unit and each bin, the most that a life exceeds an estimate by, (U, bins); -∞ where there is none."""
    said = np.maximum(np.asarray(estimate, dtype=np.float64), 0.0)
    short, at = np.asarray(left, dtype=np.float64) - said, np.searchsorted(edges, said, side="right")
    names, number = np.unique(units, return_inverse=True)
    found = np.full((len(names), len(edges) + 1), -np.inf)
    np.maximum.at(found, (number, at), short)
    return found[:, :-1]


def _usual(short: F64) -> float:
    """At least a cycle, so that there is something to scale; NaN of few lives."""
    return max(1.0, float(np.quantile(short, USUAL_LEVEL))) if len(short) >= LEAST_UNITS else math.nan


def uncapped(truth: npt.ArrayLike, cycles: I64, units: I64, cap_cycles: float) -> F64:
    """The true remaining cycles (N,) of units that ran to failure, from labels that were capped.

    A unit's end is the age plus the label of any window below the cap; one without such a window keeps its labels.
    """
    capped, found = np.asarray(truth, dtype=np.float64), np.asarray(truth, dtype=np.float64).copy()
    for unit in np.unique(units):
        mine = units == unit
        known = mine & (capped < cap_cycles)
        if known.any():
            found[mine] = (cycles[known] + capped[known]).max() - cycles[mine]
    return found
