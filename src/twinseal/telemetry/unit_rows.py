"""Rows in order of unit and cycle: where each unit begins, the regime of each row, and the row before in its regime."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from twinseal.telemetry.regimes import NOWHERE, regimes

ROWS_AT_ONCE = 1 << 16
Array = npt.NDArray[np.float64]
Places = npt.NDArray[np.intp]
Known = Mapping[str, Sequence[Any]]  # the contract's regimes as plain data: settings, within, points


def starts_of(table: pd.DataFrame) -> Places:
    """The first row of each unit, (U,) intp."""
    units = pa.array(table["unit"].array)  # an object for each of ten million names would be a gigabyte
    units = units.combine_chunks() if isinstance(units, pa.ChunkedArray) else units
    changes = pc.not_equal(units[1:], units[:-1]).to_numpy(zero_copy_only=False)
    return np.flatnonzero(np.concatenate([np.ones(min(1, len(units)), bool), changes]))


def lengths_of(table: pd.DataFrame, starts: Places) -> Places:
    """How many rows each unit has, (U,) intp."""
    return np.diff(np.append(starts, len(table)))


def parts_of(table: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """The rows in parts of whole units, each numbered from 0."""
    starts = starts_of(table)
    cuts = np.unique(
        np.append(starts[np.searchsorted(starts, np.arange(0, len(table), ROWS_AT_ONCE))[:-1]], len(table))
    )
    for start, stop in pairwise([0, *(int(cut) for cut in cuts if cut)]):
        yield table.iloc[start:stop].reset_index(drop=True)


def regimes_of(table: pd.DataFrame, known: Known | None) -> npt.NDArray[np.int64]:
    """The regime of each row, (R,) int64; see `telemetry.regimes`. All zero if the contract knows one regime only."""
    if known is None:
        return np.zeros(len(table), dtype=np.int64)
    points, within = np.array(known["points"], dtype=np.float64), np.array(known["within"], dtype=np.float64)
    settings = table[list(known["settings"])].to_numpy()
    parts = np.array_split(settings, max(1, len(table) // ROWS_AT_ONCE))  # the distances to all points are many
    return np.concatenate([regimes(part, points, within) for part in parts])


def previous(table: pd.DataFrame, regime: npt.NDArray[np.int64]) -> tuple[Places, Array]:
    """The row before each row in its unit and regime, (R,) intp, itself if there is none; and how many cycles before.

    Rows of one cycle, or in the wrong order, count as one cycle apart.
    """
    starts, before = starts_of(table), np.arange(len(table))
    unit = np.repeat(before[: len(starts)], lengths_of(table, starts))
    group = unit * (int(regime.max(initial=0)) + 2) + regime - NOWHERE
    order = np.argsort(group, kind="stable")
    same = group[order[1:]] == group[order[:-1]]
    before[order[1:][same]] = order[:-1][same]
    cycle = table["cycle"].to_numpy(dtype=np.float64)
    return before, np.maximum(cycle - cycle[before], 1.0)


def changes(table: pd.DataFrame, name: str) -> Array:
    """Change from the row before, (R,) float64; NaN in the first row of a unit."""
    values = table[name].to_numpy(dtype=np.float64)
    with np.errstate(invalid="ignore"):  # ∞ - ∞ is NaN; the rule `range` finds the infinities
        change = np.diff(values, prepend=np.nan)
    change[starts_of(table)] = np.nan
    return change
