"""A fleet in blocks of whole units, so that work on it needs memory for one block at a time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from twinseal.telemetry.fleet import Fleet
from twinseal.telemetry.unit_rows import Known, regimes_of

MAX_BLOCKS = 256


@dataclass(frozen=True)
class Block:
    """Whole units that go through the scan together.

    Attributes:
        number: 0, 1, 2, …
        start, stop: Its rows in the fleet.
        units: How many units it has.
    """

    number: int
    start: int
    stop: int
    units: int

    def rows(self, fleet: Fleet) -> pd.DataFrame:
        """Its rows, numbered from 0."""
        return fleet.table.iloc[self.start : self.stop].reset_index(drop=True)


def blocks(fleet: Fleet) -> tuple[Block, ...]:
    """The blocks of a fleet, at most MAX_BLOCKS: one for each unit where there are few."""
    if not len(fleet):
        return ()
    few = len(fleet.starts) <= MAX_BLOCKS
    of_unit = np.arange(len(fleet.starts)) if few else fleet.starts * MAX_BLOCKS // len(fleet)
    first = np.flatnonzero(np.diff(of_unit, prepend=-1))
    bounds = np.append(fleet.starts[first], len(fleet)).tolist()
    units = np.diff(np.append(first, len(fleet.starts))).tolist()
    return tuple(Block(n, bounds[n], bounds[n + 1], count) for n, count in enumerate(units))


def units_by_regime(fleet: Fleet, known: Known) -> npt.NDArray[np.int64]:
    """How many units have a row in each of the contract's regimes, (K,) int64."""
    count = np.zeros(len(known["points"]), dtype=np.int64)
    for part, first in zip(blocks(fleet), _first_units(fleet), strict=True):
        regime = regimes_of(part.rows(fleet), known)
        starts = fleet.starts[first : first + part.units] - part.start
        for k in range(len(count)):
            count[k] += int((np.add.reduceat(regime == k, starts) > 0).sum())
    return count


def rows_by_regime(fleet: Fleet, known: Known) -> npt.NDArray[np.int64]:
    """How many rows are in each of the contract's regimes, (K,) int64; those in none are not counted."""
    count = np.zeros(len(known["points"]), dtype=np.int64)
    for part in blocks(fleet):
        regime = regimes_of(part.rows(fleet), known)
        count += np.bincount(regime[regime >= 0], minlength=len(count))
    return count


def _first_units(fleet: Fleet) -> list[int]:
    """The number of the first unit of each block."""
    return [int(number) for number in np.cumsum([0, *(part.units for part in blocks(fleet))])[:-1]]
