"""Raw rows: the readings of training units, before any step that depends on other units.

A certificate against poisoned units is made from these, see `training.in_own_units`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from twinseal.prognostics.normaliser import F64, I64
from twinseal.prognostics.tensors import pieces


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


def _has_infinity(rows: F64) -> bool:
    return any(bool(np.isinf(piece).any()) for piece in pieces(rows))
