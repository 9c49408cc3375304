"""Raw rows: the readings of training units, before any step that depends on other units.

A certificate against poisoned units is made from these, see `in_own_units`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from twinseal.prognostics.normaliser import F64, I64, Normaliser, pad
from twinseal.prognostics.tensors import pieces

if TYPE_CHECKING:
    from twinseal.prognostics.windows import Windows


@dataclass(frozen=True, eq=False)
class RawRows:
    """Rows of units as they were read.

    Attributes:
        rows: (R, I) float64, the contract's inputs, each in its unit, unit after unit; NaN where one is missing.
        lengths: (U,) int64, rows of each unit.

    Raises:
        ValueError: The lengths are not those of the rows.
    """

    rows: F64
    lengths: I64

    def __post_init__(self) -> None:
        if self.rows.ndim != 2 or self.rows.dtype != np.float64 or self.lengths.ndim != 1:
            raise ValueError("raw rows: expected float64 rows (R, I) and a length a unit")
        if self.lengths.min(initial=1) < 1 or self.lengths.sum() != len(self.rows) or _has_infinity(self.rows):
            raise ValueError("raw rows: expected finite rows, as many as the lengths say")

    def units(self) -> list[F64]:
        """Of each unit its rows (L, I)."""
        return np.split(self.rows, np.cumsum(self.lengths)[:-1])


def in_own_units(raw: RawRows, windows: Windows) -> tuple[Windows, Normaliser]:
    """Windows of some training units as if there were no others: their rows in σ of these units alone.

    Nothing of another unit is in them: that is what a certificate against poisoned units rests on.
    """
    kept, told, lengths = np.unique(windows.units), raw.units(), raw.lengths + windows.window - 1
    # All rows as of one unit: whoever has one of these units has their member's vote anyway, and none is left out.
    normaliser = Normaliser.fit(np.concatenate([told[unit] for unit in kept]))
    rows = np.concatenate([pad(normaliser.apply(told[unit]), windows.window) for unit in kept])
    left_out = np.cumsum(lengths)  # rows before the end of each unit that are not kept
    left_out[kept] -= np.cumsum(lengths[kept])
    regimes = np.zeros(len(rows), dtype=np.int64)
    return replace(windows, rows=rows, regimes=regimes, ends=windows.ends - left_out[windows.units]), normaliser


def _has_infinity(rows: F64) -> bool:
    return any(bool(np.isinf(piece).any()) for piece in pieces(rows))
