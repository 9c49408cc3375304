"""Whether the sensors of a unit agree with each other, as they do in the rest of the fleet; within each regime.

The residual of a sensor from its linear prediction by the other channels, in units of its usual spread:

1. Fit mean and spread (of each regime) and covariance on the rows within the contract's ranges, so that wild values
   have no influence; each unit counts the same, and the most extreme few as the next ones do (`over_units`), so that
   what is searched for has little say in what is usual.
2. The residual is (P z)_i / P_ii, P the inverse of the covariance of the z-scores plus 0.02·I: the distance from the
   conditional mean of a Gaussian (Lauritzen, Graphical Models, 1996, appendix C), shrunk.
3. Its mean over the last `cycles` rows, and its median over the unit, each in robust standard deviations (1.4826 ×
   median absolute deviation) from the median over the fleet. Reported as a share of its bound; above 1 is broken.

What is usual (`Agreement.of`) is measured on every k-th unit of a large fleet, MAX_ROWS at most: more rows would not
make it more certain. Then each unit can be judged by itself (`Agreement.excess`), so a fleet needs little memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from twinseal.telemetry.over_units import clipped_weights, winsorised_mean
from twinseal.telemetry.regimes import NOWHERE
from twinseal.telemetry.unit_rows import Known, lengths_of, regimes_of, starts_of

MAX_ROWS = 200_000
COLUMNS_AT_ONCE = 1024
Mask = npt.NDArray[np.bool_]
Array = npt.NDArray[np.float64]
Places = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Agreement:
    """How the C channels of a fleet usually agree, in each of K regimes.

    Attributes:
        names: The channels.
        low, high: (C,), the contract's bounds; readings beyond count as these.
        known: The contract's regimes.
        cycles: Rows of a window.
        mean, sigma: (K, C), usual level and spread; NaN in a regime where no row of the fleet is usual.
        weights: (C, C), from scores to residuals; a column of zeros for a channel that is not compared.
        window, unit: (2, C), middle and scale of the mean residual over a window, and of the median over a unit. The
            scale contains the bound: 1 is reached at the bound.
    """

    names: tuple[str, ...]
    low: Array
    high: Array
    known: Known | None
    cycles: int
    mean: Array
    sigma: Array
    weights: Array
    window: Array
    unit: Array

    @classmethod
    def of(
        cls,
        table: pd.DataFrame,
        *,
        ranges: Mapping[str, Sequence[float]],
        cycles: int,
        most_window: float,
        most_unit: float,
        least_correlation: float,
        known: Known | None = None,
    ) -> Agreement:
        """What is usual in a fleet, by its rows in order of unit and cycle."""
        table = _every_kth_unit(table)
        names, starts = tuple(ranges), starts_of(table)
        low, high = np.array([ranges[name] for name in names], dtype=np.float64).T
        values, regime = _values(table, names), regimes_of(table, known)
        usual = ((values >= low[:, None]) & (values <= high[:, None])).all(axis=0) & (regime != NOWHERE)
        unit = np.repeat(np.arange(len(starts)), lengths_of(table, starts))
        mean, sigma = _levels(values, usual, unit, regime, len(known["points"]) if known else 1)
        moving = _moving(mean, sigma)
        empty = np.zeros((len(names), len(names)))
        bare = cls(names, low, high, known, cycles, mean, sigma, empty, empty[:2], empty[:2] + 1)
        smallest = min((int((usual & (regime == k)).sum()) for k in np.unique(regime[usual])), default=0)
        if smallest < 10 * len(names) or not moving.any():
            return bare
        scores = bare._scores(values, regime)
        weights = _weights(_covariance(scores[moving][:, usual].T, unit[usual]), moving, least_correlation)
        residual = _residual(scores, weights)
        spread = np.sqrt(winsorised_mean(_by_unit(residual.T**2, unit)))
        window, full = _window_means(residual, starts, cycles)
        return cls(
            *(names, low, high, known, cycles, mean, sigma, weights),
            window=_middle_and_scale(window[:, full], 0.1 * spread, most_window),
            unit=_middle_and_scale(_unit_medians(residual, starts), 0.1 * spread, most_unit),
        )

    def excess_of(self, table: pd.DataFrame, channel: str) -> Array:
        """How far one sensor is from agreement, (R,); see `excess`."""
        return np.asarray(self.excess(table)[:, self.names.index(channel)])

    def excess(self, table: pd.DataFrame) -> Array:
        """How far each sensor is from agreement, as a share of the bound, (R, C) float64; 0 where it is not compared.

        Args:
            table: The rows of whole units, in order of cycle; any units of the fleet.
        """
        if not self.weights.any() or not len(table):
            return np.zeros((len(table), len(self.names)))
        starts = starts_of(table)
        residual = _residual(self._scores(_values(table, self.names), regimes_of(table, self.known)), self.weights)
        window, full = _window_means(residual, starts, self.cycles)
        by_unit = np.abs(_unit_medians(residual, starts) - self.unit[0][:, None]) / self.unit[1][:, None]
        excess = np.abs(window - self.window[0][:, None])
        excess /= self.window[1][:, None]
        excess[:, ~full] = 0.0
        np.maximum(excess, np.repeat(by_unit, lengths_of(table, starts), axis=1), out=excess)
        excess[~self.weights.any(axis=0)] = 0.0
        # The last bits depend on which units are judged together, and a finding must not.
        return np.asarray(excess.astype(np.float32).astype(np.float64).T)

    def _scores(self, values: Array, regime: npt.NDArray[np.int64]) -> Array:
        """(C, R); 0 where the fleet is in a regime of which nothing is known."""
        scores = np.clip(values, self.low[:, None], self.high[:, None])
        mean, sigma = self.mean.T, np.where(self.sigma > 0, self.sigma, 1.0).T  # (C, K)
        scores -= mean[:, regime] if mean.shape[1] > 1 else mean
        scores /= sigma[:, regime] if sigma.shape[1] > 1 else sigma
        unknown = np.asarray(np.isnan(self.mean).any(axis=1))  # (K,)
        scores[:, (regime == NOWHERE) | unknown[regime]] = 0.0
        return scores


def _values(table: pd.DataFrame, names: Sequence[str]) -> Array:
    """(C, R): a channel is one piece of memory."""
    return np.array([table[name].to_numpy() for name in names], dtype=np.float64)


def _every_kth_unit(table: pd.DataFrame) -> pd.DataFrame:
    step = -(-len(table) // MAX_ROWS)
    if step <= 1:
        return table
    starts = starts_of(table)
    chosen = np.repeat(np.arange(len(starts)) % step == 0, lengths_of(table, starts))
    return table[chosen].reset_index(drop=True)


def _levels(
    values: Array, usual: Mask, unit: Places, regime: npt.NDArray[np.int64], regimes: int
) -> tuple[Array, Array]:
    mean, sigma = np.full((2, regimes, len(values)), np.nan)
    for k in np.unique(regime[usual]):
        mine, of_unit = values[:, usual & (regime == k)].T, unit[usual & (regime == k)]
        mean[k] = winsorised_mean(_by_unit(mine, of_unit))
        sigma[k] = np.sqrt(winsorised_mean(_by_unit((mine - mean[k]) ** 2, of_unit)))
    return mean, sigma


def _moving(mean: Array, sigma: Array) -> Mask:
    """Which channels vary in every regime that the fleet was in, (C,)."""
    seen = ~np.isnan(mean).any(axis=1)
    return np.asarray((sigma[seen] > 1e-9 * np.maximum(1.0, np.abs(mean[seen]))).all(axis=0))


def _weights(covariance: Array, moving: Mask, least_correlation: float) -> Array:
    """From scores (R, C) to residuals (R, C); zeros for a channel that the others cannot predict."""
    others = np.abs(covariance - np.diag(np.diag(covariance)))
    compared = others.max(axis=0, initial=0.0) >= least_correlation
    precision = np.linalg.inv(covariance + 0.02 * np.eye(len(covariance)))
    weights = np.zeros((len(moving), len(moving)))
    weights[np.ix_(moving, moving)] = np.where(compared, precision / np.diag(precision), 0.0)
    return weights


def _residual(scores: Array, weights: Array) -> Array:
    """(C, R); 0 in rows where a value that is read is missing."""
    read = weights.any(axis=1)
    residual, of_read = np.empty_like(scores), weights[read].T
    for start in range(0, scores.shape[1], COLUMNS_AT_ONCE):  # in the cache, and too few to be shared out to threads
        part = slice(start, start + COLUMNS_AT_ONCE)
        residual[:, part] = of_read @ scores[read, part]
    residual[:, np.isnan(residual[read]).any(axis=0)] = 0.0
    return residual


def _covariance(scores: Array, unit: Places) -> Array:
    """The covariance (C, C) of scores (R, C), each unit bounded in what it adds."""
    parts = np.split(scores, np.flatnonzero(np.diff(unit)) + 1)
    moments = np.stack([part.T @ part / len(part) for part in parts])  # (U, C, C)
    weights = clipped_weights(np.trace(moments, axis1=1, axis2=2))
    return np.asarray(np.tensordot(weights, moments, axes=1) / len(parts))


def _by_unit(values: Array, unit: Places) -> Array:
    """The mean of values (R, C) over the rows of each unit, (U, C); which one each row is of, rising."""
    begins = np.flatnonzero(np.diff(unit, prepend=-1))
    return np.asarray(np.add.reduceat(values, begins, axis=0) / np.diff(np.append(begins, len(values)))[:, None])


def _window_means(values: Array, starts: Places, cycles: int) -> tuple[Array, Mask]:
    """Mean of values (C, R) over the last `cycles` rows, (C, R), and which rows have as many in their unit, (R,).

    The sums are of two halves, of four quarters and so on, so that they do not depend on the rows before the window.
    """
    rows = values.shape[1]
    total, power, reach, span = np.zeros_like(values), values, 0, 1
    while True:
        if cycles & span:
            total[:, reach:] += power[:, : max(0, rows - reach)]
            reach += span
        if reach == cycles:
            break
        longer = power.copy()
        longer[:, span:] += power[:, : max(0, rows - span)]
        power, span = longer, 2 * span
    place = np.arange(rows) - np.repeat(starts, np.diff(np.append(starts, rows)))
    total /= cycles
    return total, place >= cycles - 1


def _unit_medians(values: Array, starts: Places) -> Array:
    """The median of values (C, R) over the rows of each unit, (C, U)."""
    lengths = np.diff(np.append(starts, values.shape[1]))
    medians = np.empty((len(values), len(starts)))
    for length in np.unique(lengths):  # units of one length are one array
        alike = np.flatnonzero(lengths == length)
        rows = (starts[alike][:, None] + np.arange(length)).ravel()
        whole = len(rows) == values.shape[1]
        ordered = np.sort((values if whole else values[:, rows]).reshape(len(values), -1, length), axis=2)
        medians[:, alike] = (ordered[:, :, (length - 1) // 2] + ordered[:, :, length // 2]) / 2
    return medians


def _middle_and_scale(values: Array, floor: Array, most: float) -> Array:
    if not values.shape[1]:
        return np.vstack([np.zeros_like(floor), np.full_like(floor, np.inf)])
    middle = np.median(values, axis=1)
    scale = 1.4826 * np.median(np.abs(values - middle[:, None]), axis=1)
    return np.vstack([middle, most * np.maximum(np.maximum(scale, floor), np.finfo(np.float64).tiny)])
