"""Prediction intervals: a range that contains the true remaining life in nine cases of ten, for any network.

Split conformal prediction (Lei et al., Distribution-Free Predictive Inference for Regression, 2018) with the residuals
of networks that had not seen the unit (cross-conformal: Vovk 2015; Barber et al., Predictive Inference with the
Jackknife+, 2021). The error depends on the estimate: a failing machine is read more surely than a healthy one. So the
estimates are divided into bins, each with a usual error; one factor for all of them, the conformal
quantile of the errors in those units, makes intervals of them (normalised residuals: Papadopoulos et al. 2002).

Windows of one unit are not exchangeable, units are: every unit counts the same, and the level is corrected for so many
units. So r bad units of n move a quantile by at most r/n of its level: what is wider or narrower than the others' own
intervals by no more than `reach` says. The bins are parts of the cap, so no unit chooses them. The networks behind the
residuals learned from fewer units, and stand alone where several are averaged in what is shipped: intervals are a
little too wide rather than too narrow.

    >>> intervals = Intervals(coverage=0.9, edges=(50.0,), below=(5.0, 20.0), above=(5.0, 10.0), cap_cycles=125.0)
    >>> low, high = intervals.of(np.array([10.0, 120.0]))
    >>> low.tolist(), high.tolist()
    ([5.0, 100.0], [15.0, 125.0])
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from twinseal.config import Settings
from twinseal.errors import DataError

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

COVERAGE = 0.9
BINS = 6
LEAST_UNITS = 5
FOLDS = 5
USUAL_LEVEL = 0.75  # of the errors of a bin: far enough from 1 that few units of a bin hardly move it


class Intervals(Settings):
    """How far the truth lies from an estimate.

    Attributes:
        coverage: Share of windows whose truth is within.
        edges: Of the estimate, rising, cycles; between them lie the bins.
        below: By bin, cycles from the estimate down to the low end.
        above: By bin, cycles from the estimate up to the high end.
        cap_cycles: The longest life that is ever stated.

    Raises:
        ValueError: The bins are not rising, or as many numbers as bins are not there, or one is below 0.
    """

    coverage: float
    edges: tuple[float, ...]
    below: tuple[float, ...]
    above: tuple[float, ...]
    cap_cycles: float

    def model_post_init(self, _context: Any, /) -> None:
        """Refuse intervals that would hold nothing."""
        rising = all(a < b for a, b in pairwise(self.edges))
        if not (len(self.edges) + 1 == len(self.below) == len(self.above) <= 64 and rising):
            raise ValueError("intervals: expected rising edges, and one number a bin below and above")
        if not 0 < self.coverage < 1 or min((*self.below, *self.above)) < 0 or not 0 < self.cap_cycles <= 1e6:
            raise ValueError("intervals: expected a coverage in (0, 1), widths of 0 or more, and a cap")

    def of(self, estimate: npt.ArrayLike, widen: npt.ArrayLike = 1.0) -> tuple[F64, F64]:
        """Low and high end around estimates (N,), cycles, within 0 and the cap; `widen` times as far."""
        values = np.clip(np.asarray(estimate, dtype=np.float64), 0.0, self.cap_cycles)
        at = np.searchsorted(np.array(self.edges), values, side="right")
        low = values - np.asarray(widen) * np.array(self.below)[at]
        high = values + np.asarray(widen) * np.array(self.above)[at]
        return np.clip(low, 0.0, self.cap_cycles), np.clip(high, 0.0, self.cap_cycles)

    def hold(self, estimate: npt.ArrayLike, truth: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Whether each truth is within its interval, (N,)."""
        low, high = self.of(estimate)
        known = np.asarray(truth, dtype=np.float64)
        return np.asarray((low <= known) & (known <= high))


def fit(
    estimate: npt.ArrayLike, truth: npt.ArrayLike, units: I64, *, cap_cycles: float, coverage: float = COVERAGE
) -> Intervals:
    """Intervals from what was said of windows by networks that did not know their units.

    Args:
        estimate: (N,) cycles.
        truth: (N,) cycles, capped.
        units: (N,) the unit of each.
        cap_cycles: The cap.
        coverage: Share of windows to be held.

    Raises:
        DataError: Too few units.
    """
    errors = _Errors.of(estimate, truth, units, cap_cycles)
    if errors.names < LEAST_UNITS:
        raise DataError(f"intervals: expected at least {LEAST_UNITS} units, got {errors.names}")
    widths = errors.usual()
    return errors.intervals(widths, errors.factor(widths, coverage), coverage, cap_cycles)


def reach(
    estimate: npt.ArrayLike,
    truth: npt.ArrayLike,
    units: I64,
    *,
    cap_cycles: float,
    bad: int,
    coverage: float = COVERAGE,
) -> tuple[Intervals, Intervals]:
    """The narrowest and the widest intervals that `fit` could have made with `bad` of the units replaced by anything.

    A width is a factor times a usual error u. If bad units move u to u', low ≤ u' ≤ high, the factor is no larger than
    the one that is asked for when all usual errors are low, and no smaller than when all are high. A level moves by
    the share of the bad units, also in a bin in which these are and those that they replace were not: of h honest and
    b bad units, the honest mass below a quantile λ is between λ(h + b) - b and λ(h + b).

    Args:
        estimate: As in `fit`; what networks said, whoever trained them.
        truth: As in `fit`.
        units: As in `fit`.
        cap_cycles: As in `fit`.
        bad: How many.
        coverage: As in `fit`.
    """
    errors = _Errors.of(estimate, truth, units, cap_cycles)
    low, high = errors.usual(-bad), errors.usual(bad)
    least, most = errors.factor(high, coverage, -bad), errors.factor(low, coverage, bad)
    return errors.intervals(low, least, coverage, cap_cycles), errors.intervals(high, most, coverage, cap_cycles)


@dataclass(frozen=True, eq=False)
class _Errors:
    """How far estimates (N,) missed, in which of the bins each is, and of which unit."""

    missed: F64
    bins: I64
    units: I64
    edges: F64

    @classmethod
    def of(cls, estimate: npt.ArrayLike, truth: npt.ArrayLike, units: I64, cap_cycles: float) -> _Errors:
        said = np.clip(np.asarray(estimate, dtype=np.float64), 0.0, cap_cycles)
        edges = (cap_cycles * np.arange(1, BINS) / BINS).round(1)
        missed = np.abs(said - np.asarray(truth, dtype=np.float64))
        return cls(missed, np.searchsorted(edges, said, side="right"), units, edges)

    @property
    def names(self) -> int:
        """How many units there are."""
        return len(np.unique(self.units))

    def usual(self, bad: int = 0) -> F64:
        """The usual error in each bin, (BINS,); with so many bad units on one side."""
        return np.array([self._usual(self.bins == place, bad) for place in range(BINS)])

    def _usual(self, mine: npt.NDArray[np.bool_], bad: int) -> float:
        """At least a tenth of a cycle, so that there is something to scale; of all bins where one has few units."""
        chosen = mine if len(np.unique(self.units[mine])) >= LEAST_UNITS else np.ones(len(mine), dtype=bool)
        units = self.units[chosen]
        return max(0.1, _quantile(self.missed[chosen], units, USUAL_LEVEL + bad / len(np.unique(units))))

    def factor(self, usual: F64, coverage: float, bad: int = 0) -> float:
        """By how much usual errors (BINS,) are multiplied; with so many bad units on one side."""
        score = self.missed / usual[self.bins]  # beyond the factor: outside
        level = min(1.0, coverage * (self.names + 1) / self.names)
        return max(0.0, _quantile(score, self.units, level + bad / self.names))

    def intervals(self, usual: F64, factor: float, coverage: float, cap_cycles: float) -> Intervals:
        """Intervals so many times as wide as the usual errors (BINS,); wider than twice the cap is as wide."""
        widths = tuple(np.minimum(factor * usual, 2 * cap_cycles).tolist())
        edges = tuple(self.edges.tolist())
        return Intervals(coverage=coverage, edges=edges, below=widths, above=widths, cap_cycles=cap_cycles)


def measure_coverage(
    estimate: npt.ArrayLike, truth: npt.ArrayLike, units: I64, *, cap_cycles: float, seed: int = 0
) -> dict[str, float]:
    """What intervals hold on units that did not set them: fitted on four folds of the units, counted on the fifth.

    Returns:
        coverage_share, the mean over units; standard_error, of that mean; width_cycles, the mean width.
    """
    said, known = np.asarray(estimate, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    names = np.random.default_rng(seed).permutation(np.unique(units))
    held, widths = [], []
    for fold in range(FOLDS):
        mine = np.isin(units, names[fold::FOLDS])
        intervals = fit(said[~mine], known[~mine], units[~mine], cap_cycles=cap_cycles)
        within, (low, high) = intervals.hold(said[mine], known[mine]), intervals.of(said[mine])
        held += [float(np.mean(part)) for part in by_unit(within, units[mine])]
        widths += [float(np.mean(part)) for part in by_unit(high - low, units[mine])]
    error = float(np.std(held, ddof=1) / np.sqrt(len(held)))
    return {"coverage_share": float(np.mean(held)), "standard_error": error, "width_cycles": float(np.mean(widths))}


def by_unit(values: npt.NDArray[Any], units: I64) -> list[npt.NDArray[Any]]:
    """The values (N,) of each unit, by its number, in their order."""
    order = np.argsort(units, kind="stable")
    return np.split(values[order], np.flatnonzero(np.diff(units[order])) + 1)


def _quantile(values: F64, units: I64, level: float) -> float:
    """The value that a share `level` stays below, each unit counting the same; ±∞ where no value is."""
    if not 0 < level <= 1 + 1e-12:
        return float(np.copysign(np.inf, level))
    names, number = np.unique(units, return_inverse=True)
    weights = 1.0 / np.bincount(number)[number]
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order]) / len(names)
    at = int(np.searchsorted(reached, level - 1e-12))
    return float(values[order][min(at, len(values) - 1)])
