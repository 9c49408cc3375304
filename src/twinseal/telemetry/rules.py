"""How each row rule is checked: pure functions of rows (sorted by unit and cycle) and of the bounds of the rule.

`screening` calls them directly; `expectations` calls them from inside Great Expectations, for the rules that Great
Expectations does not have itself. The meaning of each rule is in `screening`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from twinseal.telemetry.over_units import clipped_weights, winsorised_mean
from twinseal.telemetry.regimes import NOWHERE, regimes

Mask = npt.NDArray[np.bool_]
Array = npt.NDArray[np.float64]
Known = Mapping[str, Sequence[Any]]  # the contract's regimes as plain data: settings, within, points


@dataclass(frozen=True)
class RuleResult:
    """The result of a rule for every row.

    Attributes:
        broken: Which rows break it, (R,) bool.
        observed: The value to report for each row, (R,) float64.
        excess: How far each row is beyond the bound, (R,) float64; the worst row is reported.
    """

    broken: Mask
    observed: Array
    excess: Array


def _starts(table: pd.DataFrame) -> npt.NDArray[np.intp]:
    units = table["unit"].to_numpy(dtype=object)
    return np.flatnonzero(np.concatenate([np.ones(min(1, len(units)), bool), units[1:] != units[:-1]]))


def _lengths(table: pd.DataFrame, starts: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    return np.diff(np.append(starts, len(table)))


def _values(table: pd.DataFrame, name: str) -> Array:
    return table[name].to_numpy(dtype=np.float64)


def changes(table: pd.DataFrame, name: str) -> Array:
    """Change from the row before, (R,) float64; NaN in the first row of a unit."""
    values = _values(table, name)
    with np.errstate(invalid="ignore"):  # ∞ - ∞ is NaN; the rule `range` finds the infinities
        change = np.diff(values, prepend=np.nan)
    change[_starts(table)] = np.nan
    return change


def regimes_of(table: pd.DataFrame, known: Known) -> npt.NDArray[np.int64]:
    """The regime of each row, (R,) int64; see `telemetry.regimes`."""
    settings = table[list(known["settings"])].to_numpy(dtype=np.float64)
    return regimes(settings, np.array(known["points"], dtype=np.float64), np.array(known["within"], dtype=np.float64))


def _unique(table: pd.DataFrame) -> RuleResult:
    broken = table.duplicated(["unit", "cycle"], keep=False).to_numpy()
    return RuleResult(broken, _values(table, "cycle"), broken.astype(np.float64))


def _cycles(table: pd.DataFrame) -> RuleResult:
    starts = _starts(table)
    place = np.arange(len(table)) - np.repeat(starts, _lengths(table, starts))
    cycle = _values(table, "cycle")
    away = np.abs(cycle - (place + 1))
    return RuleResult(away != 0, cycle, away)


def _history(table: pd.DataFrame, *, least: int) -> RuleResult:
    starts = _starts(table)
    lengths = _lengths(table, starts)
    seen = np.repeat(lengths, lengths).astype(np.float64)
    return RuleResult(seen < least, seen, least - seen)


def _label(table: pd.DataFrame) -> RuleResult:
    starts = _starts(table)
    lengths = _lengths(table, starts)
    last = starts + lengths - 1
    rul, censored = _values(table, "rul"), table["censored"].to_numpy()
    unknown = np.isnan(rul)
    known_somewhere = np.repeat(np.add.reduceat(~unknown, starts) > 0, lengths) if len(starts) else unknown
    fall = changes(table, "rul") + changes(table, "cycle")  # 0 if one cycle later one less remains; NaN if unknown
    end = np.zeros(len(table), dtype=bool)
    end[last] = np.where(censored[last], rul[last] <= 0, rul[last] != 0)
    broken = (
        (np.isinf(rul) | (rul < 0))
        | (unknown & (known_somewhere | ~censored))
        | (np.abs(fall) > 1e-3)
        | (censored != np.repeat(censored[last], lengths))
        | end
    )
    return RuleResult(broken, rul, np.nan_to_num(np.abs(fall), nan=0.0, posinf=np.inf))


def _missing(table: pd.DataFrame, *, channel: str, share: float) -> RuleResult:
    absent = np.isnan(_values(table, channel))
    starts = _starts(table)
    lengths = _lengths(table, starts)
    seen = np.add.reduceat(absent, starts) / lengths if len(starts) else np.zeros(0)
    shares = np.repeat(seen, lengths)
    first = np.zeros(len(table), dtype=bool)
    first[starts] = True
    broken = absent & ((shares > share) | first)
    return RuleResult(broken, np.full(len(table), np.nan) if share == 0 else shares, shares)


def _range(table: pd.DataFrame, *, channel: str, minimum: float, maximum: float) -> RuleResult:
    column = table[channel].to_numpy()
    # Compared as float32, the type of the column: a bound of 0.1 is met by the reading 0.1.
    kind = column.dtype.type
    broken = (column < kind(minimum)) | (column > kind(maximum))
    values = column.astype(np.float64)
    return RuleResult(broken, values, np.maximum(minimum - values, values - maximum))


def _regime(table: pd.DataFrame, *, known: Known) -> RuleResult:
    absent = table[list(known["settings"])].isna().any(axis=1).to_numpy()
    broken = (regimes_of(table, known) == NOWHERE) & ~absent
    first = _values(table, known["settings"][0])
    return RuleResult(broken, first, broken.astype(np.float64))


def _change(table: pd.DataFrame, *, channel: str, most: float, known: Known | None = None) -> RuleResult:
    if known is None:
        change = np.abs(changes(table, channel))
        return RuleResult(change > most, change, change)
    # Compared with the last row of the same regime; the allowed change applies to each cycle since then.
    groups = table[["unit", "cycle", channel]].groupby([table["unit"], regimes_of(table, known)])
    gap = np.maximum(groups["cycle"].diff().to_numpy(dtype=np.float64), 1.0)
    with np.errstate(invalid="ignore"):  # ∞ - ∞ is NaN; the rule `range` finds the infinities
        change = np.abs(groups[channel].diff().to_numpy(dtype=np.float64)) / gap
    return RuleResult(change > most, change, change)


def _consistency(
    table: pd.DataFrame,
    *,
    channel: str,
    ranges: Mapping[str, list[float]],
    cycles: int,
    most_window: float,
    most_unit: float,
    least_correlation: float,
    known: Known | None = None,
) -> RuleResult:
    """The residual of a sensor from its linear prediction by the other channels, in units of its usual spread.

    1. Fit mean and spread (of each regime) and covariance on the rows within the contract's ranges, so that wild
       values have no influence; each unit counts the same, and the most extreme few as the next ones do
       (`over_units`), so that what is searched for has little say in what is usual.
    2. The residual is (P z)_i / P_ii, P the inverse of the covariance of the z-scores plus 0.02·I: the distance from
       the conditional mean of a Gaussian (Lauritzen, Graphical Models, 1996, appendix C), shrunk.
    3. Its mean over the last `cycles` rows, and its median over the unit, each in robust standard deviations (1.4826 ×
       median absolute deviation) from the median over the fleet. Reported as a share of its bound; above 1 is broken.
    """
    zeros = np.zeros(len(table))
    regime = np.zeros(len(table), dtype=np.int64) if known is None else regimes_of(table, known)
    residual = _residual(table, channel, ranges, least_correlation, regime)
    if residual is None:
        return RuleResult(np.zeros(len(table), dtype=bool), zeros, zeros)
    starts = _starts(table)
    lengths = _lengths(table, starts)
    of_unit = np.repeat(np.arange(len(starts)), lengths)
    spread = float(np.sqrt(winsorised_mean(_by_unit((residual**2)[:, None], of_unit))[0]))
    window = _rolling_mean(residual, starts, lengths, cycles)
    unit = np.array([np.median(part) for part in np.split(residual, starts[1:])])
    excess = np.maximum(
        np.nan_to_num(_robust_z(window, floor=0.1 * spread)) / most_window,
        np.repeat(_robust_z(unit, floor=0.1 * spread), lengths) / most_unit,
    )
    return RuleResult(excess > 1, excess, excess)


def _residual(
    table: pd.DataFrame,
    channel: str,
    ranges: Mapping[str, list[float]],
    least_correlation: float,
    regime: npt.NDArray[np.int64],
) -> Array | None:
    """The residual of `channel`, (R,) float64, 0 where a value is missing; None if the others cannot predict it."""
    names, starts = list(ranges), _starts(table)
    values = table[names].to_numpy(dtype=np.float64)  # (R, C)
    low, high = np.array([ranges[name] for name in names], dtype=np.float64).T
    usual = ((values >= low) & (values <= high)).all(axis=1) & (regime != NOWHERE)
    at = names.index(channel)
    smallest_regime = min((int((usual & (regime == k)).sum()) for k in np.unique(regime[usual])), default=0)
    if smallest_regime < 10 * len(names):
        return None
    unit = np.repeat(np.arange(len(starts)), _lengths(table, starts)) if len(starts) else np.zeros(0, dtype=np.int64)
    scores, moving = np.zeros_like(values), np.ones(len(names), dtype=bool)
    for k in np.unique(regime[usual]):
        mine = regime == k
        mean = winsorised_mean(_by_unit(values[usual & mine], unit[usual & mine]))
        sigma = np.sqrt(winsorised_mean(_by_unit((values[usual & mine] - mean) ** 2, unit[usual & mine])))
        moving &= sigma > 1e-9 * np.maximum(1.0, np.abs(mean))
        scores[mine] = (np.clip(values[mine], low, high) - mean) / np.where(sigma > 0, sigma, 1.0)
    scores = scores[:, moving]
    covariance = _covariance(scores[usual], unit[usual])
    if not moving[at]:
        return None
    place = int(moving[:at].sum())
    others = np.delete(covariance[place], place)
    if not len(others) or np.abs(others).max() < least_correlation:
        return None
    precision = np.linalg.inv(covariance + 0.02 * np.eye(len(covariance)))
    residual: Array = np.nan_to_num(scores @ precision[place] / precision[place, place], nan=0.0)
    return residual


def _covariance(scores: Array, unit: npt.NDArray[np.int64]) -> Array:
    """The covariance (C, C) of scores (R, C), each unit bounded in what it adds."""
    parts = np.split(scores, np.flatnonzero(np.diff(unit)) + 1)
    moments = np.stack([part.T @ part / len(part) for part in parts])  # (U, C, C)
    weights = clipped_weights(np.trace(moments, axis1=1, axis2=2))
    return np.asarray(np.tensordot(weights, moments, axes=1) / len(parts))


def _by_unit(values: Array, unit: npt.NDArray[np.int64]) -> Array:
    """The mean of values (R, C) over the rows of each unit, (U, C); which one each row is of, rising."""
    begins = np.flatnonzero(np.diff(unit, prepend=-1))
    return np.asarray(np.add.reduceat(values, begins, axis=0) / np.diff(np.append(begins, len(values)))[:, None])


def _rolling_mean(values: Array, starts: npt.NDArray[np.intp], lengths: npt.NDArray[np.intp], cycles: int) -> Array:
    """Mean over the last `cycles` rows of the same unit, (R,) float64; NaN if there are fewer rows."""
    total = np.concatenate([[0.0], np.cumsum(values)])
    row = np.arange(len(values))
    means: Array = (total[row + 1] - total[np.maximum(row + 1 - cycles, 0)]) / cycles
    means[row - np.repeat(starts, lengths) < cycles - 1] = np.nan
    return means


def _robust_z(values: Array, *, floor: float) -> Array:
    if np.isnan(values).all():
        return np.zeros_like(values)
    middle = np.nanmedian(values)
    away: Array = np.abs(values - middle)
    scaled: Array = away / max(1.4826 * float(np.nanmedian(away)), floor, np.finfo(np.float64).tiny)
    return scaled


CHECKS: dict[str, Callable[..., RuleResult]] = {
    "unique": _unique,
    "cycles": _cycles,
    "history": _history,
    "label": _label,
    "missing": _missing,
    "range": _range,
    "regime": _regime,
    "change": _change,
    "consistency": _consistency,
}
"""Rule name → its check."""
