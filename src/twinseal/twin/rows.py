"""Rows from a table or from lines of JSON: how a cycle and a reading are read, and what is not one.

>>> cycle_of(3.0), cycle_of("3"), number_of(True)
(3, 0, nan)
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd

MAX_CYCLE = 2**31 - 1


def records(rows: Iterable[Mapping[str, Any]] | pd.DataFrame) -> Iterable[Mapping[str, Any]]:
    """The rows of a table, or rows."""
    if not isinstance(rows, pd.DataFrame):
        return rows
    names = [str(name) for name in rows.columns]
    return (dict(zip(names, values, strict=True)) for values in rows.itertuples(index=False, name=None))


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
