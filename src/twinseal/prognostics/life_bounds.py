"""Life bounds: what an estimate states of a whole life: "over after so many more cycles at the latest".

A statement about unit u at age t is h = r + m(r): the estimate r, and a margin m that is a factor times the upper width
of the prediction interval at r (`conformal`). An estimate near the cap states nothing. The twin keeps the earliest end
that was ever stated (`ledger`), so one statement that is too early is one too many in a life: the factor is set over
whole lives, not over windows. A life that ends after T cycles is *locked too early* if any of its statements ends more
than SLACK_CYCLES before T. The score of a life is the least factor at which none of them is:

    s = max over its rows t of (T - t - SLACK_CYCLES - r_t) / above(r_t),  at least 0; rows near the cap aside

If the lives that set the factor and a new one are exchangeable, the k-th smallest of n scores is exceeded by a new
life's with a probability of at most 1 - k / (n + 1) (Vovk, Gammerman & Shafer 2005; one score a life, so what its rows
have in common does not matter). For a share of FALSE_LOCKS k is ⌈(n + 1) · (1 - FALSE_LOCKS)⌉. With fewer than 99 lives
that is more than n: then the largest score is taken, and what is reached is 1 / (n + 1), which `false_lock_share` says.
The estimates are those of networks that did not see the unit; these learned from fewer units than what is shipped, and
that it is no worse is an assumption, measured on unseen lives.

A unit whose age nobody can vouch for gets no answer above `unknown_cycles`: nine of ten rows of the fleet's lives have
as many cycles left, every life counting the same.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from twinseal.config import Settings
from twinseal.errors import DataError
from twinseal.prognostics.conformal import F64, I64, LEAST_UNITS, Intervals, by_unit

SLACK_CYCLES = 20.0  # a life may be called over so many cycles before it is
FALSE_LOCKS = 0.01  # share of lives that may be locked earlier
CAPPED_SHARE = 0.95  # from this share of the cap on, an estimate does not tell how much longer a life is
UNKNOWN_LEVEL = 0.1  # share of the fleet's rows with fewer cycles left than an unknown unit is given
MAX_FACTOR = 1_000.0


class LifeBound(Settings):
    """What the estimates of one ensemble state of whole lives.

    Attributes:
        factor: A margin is so many times the upper width of the interval.
        lives: How many lives set it.
        false_lock_share: The most of new lives that are locked too early, in the mean over sets of lives.
        unknown_cycles: The highest answer for a unit whose age nobody vouches for.

    Raises:
        ValueError: The factor is below 0 or too large, there are no lives, the share is none, or an end is negative.
    """

    factor: float
    lives: int
    false_lock_share: float
    unknown_cycles: float

    def model_post_init(self, _context: Any, /) -> None:
        """Refuse a bound that binds nothing."""
        if not (0 <= self.factor <= MAX_FACTOR and 1 <= self.lives <= 10**9):
            raise ValueError(f"life bound: expected a factor of 0 to {MAX_FACTOR:g} and at least one life")
        if not (0 < self.false_lock_share < 1 and 0 <= self.unknown_cycles <= 1e6):
            raise ValueError("life bound: expected a share of false locks in (0, 1), and unknown_cycles of 0 or more")

    def at_most(self, intervals: Intervals, estimate: npt.ArrayLike, widen: npt.ArrayLike = 1.0) -> F64:
        """The cycles that estimates (N,) state at most, (N,); ∞ where an estimate is too near the cap to state any.

        Args:
            intervals: Of the same ensemble.
            estimate: Cycles, finite.
            widen: (N,) or one; margins are so many times as large: where readings were repaired.
        """
        said = np.clip(np.asarray(estimate, dtype=np.float64), 0.0, intervals.cap_cycles)
        stated = said + self.factor * np.asarray(widen) * intervals.width_above(said)
        return np.where(is_capped(said, intervals.cap_cycles), np.inf, stated)


def is_capped(estimate: npt.ArrayLike, cap_cycles: float) -> npt.NDArray[np.bool_]:
    """Whether estimates (N,) are so near the cap that they do not tell how much longer a life is."""
    return np.asarray(np.asarray(estimate) >= CAPPED_SHARE * cap_cycles)


def fit_life_bound(intervals: Intervals, estimate: npt.ArrayLike, left: npt.ArrayLike, units: I64) -> LifeBound:
    """The bound from what was said over whole lives by networks that did not know them.

    Args:
        intervals: Of the same ensemble.
        estimate: (N,) cycles.
        left: (N,) the true remaining cycles, not capped.
        units: (N,) the unit of each; windows of one unit in any order.

    Raises:
        DataError: Too few lives.
    """
    scores, true = lock_scores(intervals, estimate, left, units), by_unit(np.asarray(left, dtype=np.float64), units)
    if len(scores) < LEAST_UNITS:
        raise DataError(f"life bound: expected at least {LEAST_UNITS} lives, got {len(scores)}")
    rank = min(len(scores), math.ceil((len(scores) + 1) * (1 - FALSE_LOCKS) - 1e-9))
    return LifeBound(
        factor=min(MAX_FACTOR, float(np.sort(scores)[rank - 1])),
        lives=len(scores),
        false_lock_share=1 - rank / (len(scores) + 1),
        unknown_cycles=min(intervals.cap_cycles, float(np.mean([np.quantile(part, UNKNOWN_LEVEL) for part in true]))),
    )


def lock_scores(intervals: Intervals, estimate: npt.ArrayLike, left: npt.ArrayLike, units: I64) -> F64:
    """Of each unit, the least factor at which none of its statements ends its life too early, (U,), by its number."""
    said = np.clip(np.asarray(estimate, dtype=np.float64), 0.0, intervals.cap_cycles)
    short = np.asarray(left, dtype=np.float64) - SLACK_CYCLES - said
    needed = np.where(short > 0, short / np.maximum(intervals.width_above(said), 1e-6), 0.0)
    stated = np.where(is_capped(said, intervals.cap_cycles), 0.0, needed)
    return np.array([part.max() for part in by_unit(stated, units)])


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
