"""Sensors that say the same value for too long: for longer than sensors of this fleet usually do.

How long a sensor repeats a value depends on its resolution: a speed in whole revolutions does, a temperature in
hundredths of a kelvin does not. So the bound is measured: FACTOR times the longest run of the fleet, of which the runs
of a few units are left out (`over_units`), and LEAST rows at least. What is constant by its nature is never stuck.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from twinseal.telemetry.over_units import largest, tolerated
from twinseal.telemetry.unit_rows import starts_of

FACTOR, LEAST = 3, 20
Array = npt.NDArray[np.float64]


def run_lengths(table: pd.DataFrame, channel: str) -> Array:
    """How many rows in a row have the value of each row, in its unit, (R,) float64; 1 where a value is missing."""
    values = table[channel].to_numpy()
    new = np.concatenate([np.ones(min(1, len(values)), bool), ~(values[1:] == values[:-1])])
    new[starts_of(table)] = True
    begins = np.flatnonzero(new)
    lengths = np.diff(np.append(begins, len(values)))
    return np.repeat(lengths, lengths).astype(np.float64)


def longest_runs(table: pd.DataFrame, channels: Sequence[str]) -> Array:
    """The longest run of each unit, (U, C)."""
    starts = starts_of(table)
    return np.stack([np.maximum.reduceat(run_lengths(table, name), starts) for name in channels], axis=1)


def allowed_runs(longest: Array, channels: Sequence[str]) -> Mapping[str, float]:
    """How long a run may be, by channel, from the longest of each unit (U, C)."""
    bounds = np.maximum(LEAST, FACTOR * largest(longest, max(1, tolerated(len(longest)))))
    return {name: float(bound) for name, bound in zip(channels, bounds, strict=True)}
