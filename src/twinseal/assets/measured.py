"""What a fleet showed: of each channel, by unit; and which units are so far from the others that they set no bound.

A faulty or poisoned unit in an export must not set a bound in silence. So of each number (the largest and smallest
value, the largest change, the share of missing values, the length) the extreme of every unit is compared with those of
the others: the t largest left out (`over_units.tolerated`). A unit that is beyond them by more than FAR of their range,
or of their change, is far away. The t farthest set no bound; further ones do, and are named too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from twinseal.telemetry.fleet import Fleet
from twinseal.telemetry.over_units import largest, tolerated, winsorised_mean
from twinseal.telemetry.regimes import NOWHERE, regimes
from twinseal.telemetry.resolution import recorded_step
from twinseal.telemetry.rules import CHECKS

Array = npt.NDArray[np.float64]
Known = Mapping[str, Sequence[Any]]

FAR_RANGE, FAR_CHANGE, FAR_SHARE, FAR_LENGTH, FAR_SIGMA = 0.4, 2.0, 0.1, 2.0, 2.0
MIN_WATCHED = 5  # with fewer units nobody can say which of them is odd
MIN_ROWS_OF_TREND = 10


@dataclass(frozen=True)
class Extremes:
    """What each of the U units showed of one channel at each of K operating points; NaN where it showed nothing.

    Rows at no operating point are not among them: validation refuses them.

    Attributes:
        lows, highs: Its smallest and largest value at each point, (K, U).
        change: Its largest change per cycle, within one regime, (U,).
        missing: The share of its rows without a value, (U,).
        starts_missing: Whether its first row has none, (U,) bool.
        step: In which the values were recorded.
        trend: How well the value follows the life, 0 to 1; chance taken off.
    """

    lows: Array
    highs: Array
    change: Array
    missing: Array
    starts_missing: npt.NDArray[np.bool_]
    step: float
    trend: float

    @property
    def low(self) -> Array:
        """The smallest value of each unit, (U,)."""
        return np.asarray(np.fmin.reduce(self.lows, axis=0))

    @property
    def high(self) -> Array:
        """The largest value of each unit, (U,)."""
        return np.asarray(np.fmax.reduce(self.highs, axis=0))

    def span(self, counted: npt.NDArray[np.bool_]) -> float:
        """The largest range that the `counted` units, (U,) bool, showed at one operating point."""
        lows, highs = np.fmin.reduce(self.lows[:, counted], axis=1), np.fmax.reduce(self.highs[:, counted], axis=1)
        known = [pair for pair in zip(lows, highs, strict=True) if np.isfinite(pair).all()]
        return max((as_recorded(high) - as_recorded(low) for low, high in known), default=0.0)

    @property
    def is_constant(self) -> bool:
        """Whether it never moved, in any unit."""
        return bool(np.nanmin(self.low) == np.nanmax(self.high))


@dataclass(frozen=True)
class Odd:
    """A unit that is far from the others.

    Attributes:
        unit: Its name.
        channel: Where; "" for the length of its history.
        what: What it showed, and what the others did, in words.
        times: How far: 1 is the limit.
        is_left_out: Whether it set no bound.
    """

    unit: str
    channel: str
    what: str
    times: float
    is_left_out: bool = False

    def __str__(self) -> str:
        """One line for people."""
        place = f"{self.unit}, {self.channel}" if self.channel else self.unit
        return f"{place}: {self.what}"


def as_recorded(value: float) -> float:
    """The shortest decimal number that is the same float32: 21.61, not 21.610001."""
    return float(np.format_float_positional(np.float32(value), unique=True))


def extremes(fleet: Fleet, channel: str, known: Known | None) -> Extremes:
    """What each unit of the fleet showed of a channel."""
    values = fleet.table[channel].to_numpy()
    wide, starts = values.astype(np.float64), fleet.starts
    absent = np.isnan(wide)
    where = np.zeros(len(wide), dtype=np.int64) if known is None else regime_of(fleet.table, known)
    at_points = [np.where(where == k, wide, np.nan) for k in np.unique(where[where != NOWHERE])]
    change = CHECKS["change"](fleet.table, channel=channel, most=np.inf, rounding=0.0, known=known).observed
    return Extremes(
        lows=np.array([np.fmin.reduceat(part, starts) for part in at_points]),
        highs=np.array([np.fmax.reduceat(part, starts) for part in at_points]),
        change=np.nan_to_num(np.fmax.reduceat(change, starts)),
        missing=np.add.reduceat(absent, starts) / fleet.lengths,
        starts_missing=absent[starts],
        step=recorded_step(values),
        trend=trend(fleet, level(fleet.table, wide, known)),
    )


def level(table: pd.DataFrame, values: Array, known: Known | None) -> Array:
    """The values (R,) less the mean of their regime, in its standard deviations: without the operating point."""
    where = np.zeros(len(table), dtype=np.int64) if known is None else regime_of(table, known)
    found = np.zeros_like(values)
    for k in np.unique(where):
        mine = where == k
        part = values[mine]
        part = part[np.isfinite(part)]
        if len(part):
            sigma = float(part.std())
            found[mine] = (values[mine] - part.mean()) / (
                sigma if sigma > 1e-9 * max(1.0, abs(part.mean())) else np.inf
            )
    return np.asarray(np.where(np.isnan(values), np.nan, found))


def sigma_within(table: pd.DataFrame, values: Array, known: Known | None) -> float:
    """The standard deviation of values (R,) about the mean of their regime; 0 if there are none."""
    where = np.zeros(len(table), dtype=np.int64) if known is None else regime_of(table, known)
    finite = np.isfinite(values)
    parts = [values[finite & (where == k)] for k in np.unique(where[finite])]
    return float(np.sqrt(sum(len(part) * float(part.var()) for part in parts) / max(1, int(finite.sum()))))


def regime_of(table: pd.DataFrame, known: Known) -> npt.NDArray[np.int64]:
    """The regime of each row, (R,) int64."""
    settings = table[list(known["settings"])].to_numpy(dtype=np.float64)
    return regimes(settings, np.array(known["points"]), np.array(known["within"]))


def trend(fleet: Fleet, values: Array) -> float:
    """How well values (R,) follow the cycles of their unit: the root mean square correlation, chance taken off.

    The square of each unit counts, not its sign: with two kinds of failure a sensor rises in one and falls in the
    other. Chance alone gives 1 / (n - 1) for n rows.
    """
    known = np.isfinite(values)
    unit = np.repeat(np.arange(len(fleet.starts)), fleet.lengths)[known]
    count = np.bincount(unit, minlength=len(fleet.starts)).astype(np.float64)
    x, y = fleet.table["cycle"].to_numpy(dtype=np.float64)[known], values[known]
    x, y = (part - (np.bincount(unit, part, len(count)) / np.maximum(count, 1))[unit] for part in (x, y))
    xx, yy, xy = (np.bincount(unit, part, len(count)) for part in (x * x, y * y, x * y))
    told = (count >= MIN_ROWS_OF_TREND) & (xx > 0)
    if not told.any():
        return 0.0
    square = np.where(yy > 1e-12 * count, xy**2 / np.where(xx * yy > 0, xx * yy, 1.0), 0.0)
    excess = square[told] - 1 / (count[told] - 1)
    return float(np.sqrt(max(0.0, float(winsorised_mean(excess)))))


def odd_units(
    units: Sequence[str], lengths: Array, channels: Mapping[str, Extremes], sigma: Mapping[str, Array]
) -> tuple[Odd, ...]:
    """The units that are far from the others, the farthest first; those that set no bound are marked.

    Args:
        units: Names of the U units.
        lengths: Rows of each, (U,).
        channels: What each showed, by channel.
        sigma: Of each sensor, the largest disagreement with the others in each unit, in σ; see `rules`.
    """
    if len(units) < MIN_WATCHED:
        return ()
    left_out = tolerated(len(units))
    watched = max(1, left_out)
    found: dict[int, Odd] = {}
    for channel, times, words in _comparisons(lengths, channels, sigma, watched):
        for at in map(int, np.flatnonzero(times > 1)):
            if at not in found or times[at] > found[at].times:
                found[at] = Odd(units[at], channel, words(at), float(times[at]))
    ordered = sorted(found.values(), key=lambda odd: (-odd.times, odd.unit))
    return tuple(Odd(odd.unit, odd.channel, odd.what, odd.times, place < left_out) for place, odd in enumerate(ordered))


def _comparisons(lengths: Array, channels: Mapping[str, Extremes], sigma: Mapping[str, Array], watched: int) -> Any:
    """Channel, how far each unit is from the others (U,), and words for one: of every number that becomes a bound."""
    shortest = -float(largest(-lengths, watched))
    yield "", shortest / (FAR_LENGTH * lengths), lambda at: f"{lengths[at]:.0f} rows, others {shortest:.0f} or more"
    for name, seen in channels.items():
        change = max(float(_largest(seen.change, watched)), 2 * seen.step)
        missing = float(_largest(seen.missing, watched))
        yield name, seen.change / (FAR_CHANGE * change), _words("a change per cycle of", seen.change, change)
        yield name, (seen.missing - missing) / FAR_SHARE, _words("a missing share of", seen.missing, missing)
        place = "" if len(seen.lows) == 1 else "at an operating point "
        for lows, highs in zip(seen.lows, seen.highs, strict=True):
            if np.isfinite(highs).sum() < MIN_WATCHED:
                continue
            high, low = float(_largest(highs, watched)), -float(_largest(-lows, watched))
            reach = FAR_RANGE * max(high - low, 8 * seen.step)
            yield name, np.nan_to_num((highs - high) / reach), _words(f"{place}up to", highs, high)
            yield name, np.nan_to_num((low - lows) / reach), _words(f"{place}down to", lows, low)
    for name, values in sigma.items():
        most = max(float(_largest(values, watched)), 8.0)
        yield name, values / (FAR_SIGMA * most), _words("against the other sensors, σ:", values, most)


def _largest(values: Array, watched: int) -> Array:
    return largest(np.nan_to_num(values, nan=-np.inf), watched)


def _words(what: str, values: Array, others: float) -> Any:
    return lambda at: f"{what} {values[at]:.4g}, others {others:.4g}"
