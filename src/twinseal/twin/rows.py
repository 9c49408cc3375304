"""Rows from a table or from lines of JSON: how a cycle and a reading are read, and what is not one.

>>> cycle_of(3.0), cycle_of("3"), number_of(True)
(3, 0, nan)
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_CYCLE = 2**31 - 1
_AT_ONCE = 4096  # rows


@dataclass(frozen=True, eq=False)
class Table:
    """Rows as columns of equal length.

    Attributes:
        columns: Name → values.
    """

    columns: Mapping[str, list[Any] | NDArray[Any]]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        for start in range(0, len(self), _AT_ONCE):
            parts: Iterator[Any] = (values[start : start + _AT_ONCE] for values in self.columns.values())
            for row in zip(*(part if isinstance(part, list) else part.tolist() for part in parts), strict=True):
                yield dict(zip(self.columns, row, strict=True))


def records(rows: Iterable[Mapping[str, Any]]) -> Iterable[Mapping[str, Any]]:
    """The rows; also of a pandas DataFrame, which by itself gives the names of its columns."""
    frame: Any = rows
    if not hasattr(frame, "itertuples"):
        return rows
    names = [str(name) for name in frame.columns]
    return (dict(zip(names, values, strict=True)) for values in frame.itertuples(index=False, name=None))


def cycle_of(value: Any) -> int:
    """The cycle, from 1; 0 for a value that is no cycle. A whole number may be a float, as from CSV with gaps."""
    number = number_of(value)
    return int(number) if 1 <= number <= MAX_CYCLE and number.is_integer() else 0


def number_of(value: Any) -> float:
    """A float; NaN for a value that is missing, infinite, or no number. Booleans are no numbers here."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, Real):
        return math.nan
    try:
        number = float(value)
    except (OverflowError, ValueError):
        return math.nan
    return number if math.isfinite(number) else math.nan
