"""Regimes: the operating point of the contract at which a row was taken.

A machine with several operating points (an aircraft engine at several altitudes, speeds and throttles) has other sensor
levels at each of them. The contract names the points, so that the validation of training data, the normaliser and the
twin's guard decide in the same way. A row at none of the points is refused; it is not assigned to the nearest one.
Where no contract names them yet, `find_points` proposes them from the rows of a fleet.

    >>> points, within = np.array([[0.0, 100.0], [35.0, 60.0]]), np.array([0.05, 0.1])
    >>> regimes(np.array([[0.01, 100.0], [35.0, 60.05], [20.0, 80.0]]), points, within).tolist()
    [0, 1, -1]
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from twinseal.telemetry.resolution import recorded_step

NOWHERE = -1

# Of the search for operating points:
LEAST_SHARE = 0.005  # of the rows that a level, or a point, has
LEAST_COVERED = 0.95  # of the rows that are at some point
LEAST_EXPLAINED = 0.2  # of the variance of some sensor
MOST_POINTS, FEW_VALUES = 20, 8


def regimes(
    settings: NDArray[np.floating], points: NDArray[np.float64], within: NDArray[np.float64]
) -> NDArray[np.int64]:
    """The regime of each row, (R,) int64: the number of its operating point, or NOWHERE.

    Args:
        settings: (R, S), each in its unit; a row with a missing setting is at no operating point.
        points: (K, S), the operating points, further apart than twice `within`; without settings there is one regime.
        within: (S,), how far a setting may be from its point.
    """
    near = np.abs(settings.astype(np.float64)[:, None] - points) <= within  # (R, K, S); NaN is near nothing
    here: NDArray[np.bool_] = np.asarray(near.all(axis=2))
    return np.where(here.any(axis=1), np.argmax(here, axis=1), NOWHERE).astype(np.int64)


@dataclass(frozen=True)
class OperatingPoints:
    """Operating points that were found in data.

    Attributes:
        columns: Which of the settings define them, by place.
        within: How far each of these may be from its point, (S,).
        points: The points, (K, S), in the order of their values.
        share: Of the rows, how many are at one of them.
        explained: The largest share of a sensor's variance that lies between the points.
    """

    columns: tuple[int, ...]
    within: tuple[float, ...]
    points: tuple[tuple[float, ...], ...]
    share: float
    explained: float


def find_points(settings: NDArray[np.floating], sensors: NDArray[np.floating]) -> OperatingPoints | None:
    """The operating points of a fleet; None if its rows show none.

    1. Each setting by itself: its levels are where its values are dense, with empty space between. A step of the
       digits that were recorded is no space: noise that is recorded to 0.01 has no levels.
    2. The points are the combinations of levels that occur.
    3. They count only if some sensor depends on them: at another point it has another mean.

    Args:
        settings: (R, S), each in its unit.
        sensors: (R, C), the same rows.
    """
    found = {at: levels for at in range(settings.shape[1]) if (levels := _levels(settings[:, at])) is not None}
    if not found:
        return None
    columns = tuple(found)
    placed = np.column_stack([found[at].place(settings[:, at]) for at in columns])  # (R, S), NOWHERE between levels
    here = (placed != NOWHERE).all(axis=1)
    combinations, which, counts = np.unique(placed[here], axis=0, return_inverse=True, return_counts=True)
    common = np.flatnonzero(counts >= max(2, LEAST_SHARE * len(settings)))
    if not 2 <= len(common) <= MOST_POINTS:
        return None
    at_common = np.isin(which, common)
    rows = np.flatnonzero(here)[at_common]
    explained = _explained(sensors[rows].astype(np.float64), which[at_common])
    if explained < LEAST_EXPLAINED or len(rows) < LEAST_COVERED * len(settings):
        return None
    points = tuple(
        tuple(found[at].centres[level] for at, level in zip(columns, combinations[k], strict=True)) for k in common
    )
    within = tuple(found[at].within for at in columns)
    return OperatingPoints(columns, within, points, len(rows) / len(settings), explained)


def count_levels(values: NDArray[np.floating]) -> int:
    """How many levels the values (R,) of one setting have; 1 if they are not apart."""
    levels = _levels(values)
    return 1 if levels is None else len(levels.centres)


@dataclass(frozen=True)
class _Levels:
    centres: tuple[float, ...]  # rising
    within: float

    def place(self, values: NDArray[np.floating]) -> NDArray[np.int64]:
        """The level of each value, (R,); NOWHERE between levels."""
        return regimes(values[:, None], np.array(self.centres)[:, None], np.array([self.within]))


def _levels(values: NDArray[np.floating]) -> _Levels | None:
    """The levels of one setting; None if it has fewer than two, or they are not apart."""
    known = np.sort(values[np.isfinite(values)].astype(np.float64))
    if len(known) < 20:
        return None
    step = recorded_step(known)
    spans = _dense(known, step) if len(np.unique(known)) > FEW_VALUES else []
    if len(spans) < 2:
        spans = _few_values(known)
    if not 2 <= len(spans) <= MOST_POINTS:
        return None
    middles = [float(np.median(known[first:end])) for first, end in spans]
    gap = float(np.diff(middles).min())
    decimals = max(0, 2 - math.floor(math.log10(gap)))
    centres = tuple(round(middle, decimals) + 0.0 for middle in middles)
    away = max(float(np.abs(known[[a, b - 1]] - c).max()) for c, (a, b) in zip(centres, spans, strict=True))
    most = 0.45 * gap
    if away > most:
        return None
    within = min(most, max(2 * away, 0.02 * gap))
    return _Levels(centres, float(f"{within:.2g}") if float(f"{within:.2g}") >= away else within)


def _dense(known: NDArray[np.float64], step: float) -> list[tuple[int, int]]:
    """The runs (first, end) of sorted values in which each few values are close together."""
    few = max(2, len(known) // 500)
    low, high = np.quantile(known, (0.005, 0.995))
    width = known[few:] - known[:-few]
    narrow = np.concatenate([[False], width <= max((high - low) / 100, 1.5 * step), [False]])
    edges = np.flatnonzero(narrow[1:] != narrow[:-1])
    spans = [(int(first), int(last) + few) for first, last in zip(edges[::2], edges[1::2], strict=True)]
    return [(first, end) for first, end in spans if end - first >= LEAST_SHARE * len(known)]


def _few_values(known: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Each value by itself, if there are only a few that are not rare."""
    _, first, counts = np.unique(known, return_index=True, return_counts=True)
    spans = [(int(a), int(a + n)) for a, n in zip(first, counts, strict=True) if n >= LEAST_SHARE * len(known)]
    return spans if len(spans) <= FEW_VALUES else []


def _explained(sensors: NDArray[np.float64], which: NDArray[np.intp]) -> float:
    """The largest share of the variance of a sensor (R, C) that lies between the groups; wild values are cut off."""
    if not sensors.size:
        return 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a sensor without any value
        low, high = np.nanquantile(sensors, (0.005, 0.995), axis=0)
        values = np.clip(sensors, low, high)
        total = np.nanvar(values, axis=0)
        inside = np.zeros_like(total)
        for k in np.unique(which):
            part = values[which == k]
            inside += np.nan_to_num(np.nanvar(part, axis=0)) * len(part) / len(values)
    moves = total > 1e-12 * np.maximum(1.0, np.abs(high))
    return float(np.max(1 - inside[moves] / total[moves])) if moves.any() else 0.0
