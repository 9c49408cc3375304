"""How each row rule is checked: pure functions of rows (sorted by unit and cycle) and of the bounds of the rule.

`screening` calls them for a whole fleet; `scan` counts the same in SQL, and calls them for the units that break a rule.
The meaning of each rule is in `screening`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from twinseal.telemetry.consistency import Agreement
from twinseal.telemetry.copies import Copy, find_copies
from twinseal.telemetry.regimes import NOWHERE
from twinseal.telemetry.stuck import allowed_runs, longest_runs, run_lengths
from twinseal.telemetry.unit_rows import Known, changes, lengths_of, previous, regimes_of, starts_of

OFF_STEP, FLOAT32 = 0.01, 2.0**-23  # of a step, and of a value, by which a reading may be off
Mask = npt.NDArray[np.bool_]
Array = npt.NDArray[np.float64]


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


def _values(table: pd.DataFrame, name: str) -> Array:
    return table[name].to_numpy(dtype=np.float64)


def _unique(table: pd.DataFrame) -> RuleResult:
    broken = table.duplicated(["unit", "cycle"], keep=False).to_numpy()
    return RuleResult(broken, _values(table, "cycle"), broken.astype(np.float64))


def _cycles(table: pd.DataFrame) -> RuleResult:
    starts = starts_of(table)
    place = np.arange(len(table)) - np.repeat(starts, lengths_of(table, starts))
    cycle = _values(table, "cycle")
    away = np.abs(cycle - (place + 1))
    return RuleResult(away != 0, cycle, away)


def _history(table: pd.DataFrame, *, least: int) -> RuleResult:
    starts = starts_of(table)
    lengths = lengths_of(table, starts)
    seen = np.repeat(lengths, lengths).astype(np.float64)
    return RuleResult(seen < least, seen, least - seen)


def _label(table: pd.DataFrame) -> RuleResult:
    starts = starts_of(table)
    lengths = lengths_of(table, starts)
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
    starts = starts_of(table)
    lengths = lengths_of(table, starts)
    seen = np.add.reduceat(absent, starts) / lengths if len(starts) else np.zeros(0)
    shares = np.repeat(seen, lengths)
    first = np.zeros(len(table), dtype=bool)
    first[starts] = True
    broken = absent & ((shares > share) | first)
    return RuleResult(broken, np.full(len(table), np.nan) if share == 0 else shares, shares)


def _range(table: pd.DataFrame, *, channel: str, minimum: float, maximum: float) -> RuleResult:
    values = _values(table, channel)
    return RuleResult((values < minimum) | (values > maximum), values, np.maximum(minimum - values, values - maximum))


def _resolution(table: pd.DataFrame, *, channel: str, step: float) -> RuleResult:
    """A reading is a whole number of steps, but for what float32 and a hundredth of a step leave open."""
    values = _values(table, channel)
    with np.errstate(invalid="ignore", over="ignore"):  # infinities are on no step; the rule `range` finds them
        away = np.abs(values - np.floor(values / step + 0.5) * step)
        broken = np.isfinite(away) & (away > OFF_STEP * step + FLOAT32 * np.abs(values))
    return RuleResult(broken, values, np.where(broken, away, 0.0))


def _regime(table: pd.DataFrame, *, known: Known) -> RuleResult:
    absent = table[list(known["settings"])].isna().any(axis=1).to_numpy()
    broken = (regimes_of(table, known) == NOWHERE) & ~absent
    first = _values(table, known["settings"][0])
    return RuleResult(broken, first, broken.astype(np.float64))


def _change(
    table: pd.DataFrame, *, channel: str, most: float, rounding: float, known: Known | None = None
) -> RuleResult:
    """Compared with the last row of the unit (in its regime); the allowed change applies to each cycle since then."""
    before, gap = previous(table, regimes_of(table, known))
    values = _values(table, channel)
    with np.errstate(invalid="ignore"):  # ∞ - ∞ is NaN; the rule `range` finds the infinities
        change = np.abs(values - values[before])
    change[before == np.arange(len(table))] = np.nan
    return RuleResult(change > most * gap + rounding, change / gap, change / gap)


def _consistency(table: pd.DataFrame, *, channel: str, **bounds: Any) -> RuleResult:
    excess = Agreement.of(table, **bounds).excess_of(table, channel)
    return RuleResult(excess > 1, excess, excess)


def _stuck(table: pd.DataFrame, *, channel: str, most: float | None = None) -> RuleResult:
    most = allowed_runs(longest_runs(table, [channel]), [channel])[channel] if most is None else most
    runs = run_lengths(table, channel)
    return RuleResult(runs > most, runs, runs)


def _copy(
    table: pd.DataFrame,
    *,
    sensors: Sequence[str],
    known: Known | None = None,
    copies: Mapping[str, Copy] | None = None,
) -> RuleResult:
    copies = find_copies(table, sensors, known) if copies is None else copies
    starts = starts_of(table)
    broken, observed = np.zeros(len(table), dtype=bool), np.full(len(table), np.nan)
    for start, unit in zip(starts, table["unit"].iloc[starts] if copies else (), strict=bool(copies)):
        if unit in copies:
            rows = slice(start + copies[unit].first, start + copies[unit].last + 1)
            broken[rows], observed[rows] = True, copies[unit].distance
    return RuleResult(broken, observed, -observed)


CHECKS: dict[str, Callable[..., RuleResult]] = {
    "unique": _unique,
    "cycles": _cycles,
    "history": _history,
    "label": _label,
    "missing": _missing,
    "range": _range,
    "resolution": _resolution,
    "regime": _regime,
    "change": _change,
    "consistency": _consistency,
    "stuck": _stuck,
    "copy": _copy,
}
"""Rule name → its check."""
