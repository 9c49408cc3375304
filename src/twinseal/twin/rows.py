"""Rows from a table or from lines of JSON: how a cycle and a reading are read, and what is not one.

>>> cycle_of(3.0), cycle_of("3"), number_of(True)
(3, 0, nan)
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
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


@dataclass(frozen=True, eq=False)
class ReadRows:
    """R rows, as a model reads them.

    Attributes:
        units: R units as the rows had them: anything.
        cycles: R cycles, likewise.
        readings: (R, I), the model's inputs, each in its unit; NaN where one is missing.
    """

    units: Sequence[Any]
    cycles: Sequence[Any]
    readings: NDArray[np.float64]

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, Any]], inputs: Sequence[str]) -> ReadRows:
        """Rows with `unit`, `cycle` and channels by name; what is no row has none of them."""
        some = [row if isinstance(row, Mapping) else {} for row in rows]  # a line of JSON may be anything
        units, cycles = [row.get("unit") for row in some], [row.get("cycle") for row in some]
        return cls(units, cycles, readings_of(some, inputs))

    def __len__(self) -> int:
        return len(self.readings)

    def part(self, start: int, end: int) -> ReadRows:
        """The rows from `start` on, before `end`."""
        return ReadRows(self.units[start:end], self.cycles[start:end], self.readings[start:end])

    @classmethod
    def joined(cls, parts: Sequence[ReadRows], inputs: int) -> ReadRows:
        """The rows of all parts, one after the other; of so many inputs."""
        units = [unit for part in parts for unit in part.units]
        cycles = [cycle for part in parts for cycle in part.cycles]
        return cls(units, cycles, np.concatenate([np.empty((0, inputs)), *(part.readings for part in parts)]))


def records(rows: Iterable[Mapping[str, Any]]) -> Iterable[Mapping[str, Any]]:
    """The rows; also of a pandas DataFrame, which by itself gives the names of its columns."""
    frame: Any = rows
    if not hasattr(frame, "itertuples"):
        return rows
    names = [str(name) for name in frame.columns]
    return (dict(zip(names, values, strict=True)) for values in frame.itertuples(index=False, name=None))


def in_batches(rows: Iterable[Mapping[str, Any]], most: int) -> Iterator[list[Mapping[str, Any]]]:
    """So many rows at a time. Where the rows end in an exception, it is raised after the last of them.

    >>> list(in_batches([{"unit": 1}, {"unit": 2}, {"unit": 3}], 2))
    [[{'unit': 1}, {'unit': 2}], [{'unit': 3}]]
    """
    batch: list[Mapping[str, Any]] = []
    try:
        for row in rows:
            batch.append(row)
            if len(batch) == most:
                yield batch
                batch = []
    except Exception:
        yield batch
        raise
    yield batch


def readings_of(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> NDArray[np.float64]:
    """The cells of some columns of rows, each by `number_of`, (R, I); every NaN is the same one."""
    cells = [row.get(name) for row in rows for name in names]
    try:
        plain = set(map(type, cells)) <= {float, int}
        values = np.array(cells if plain else [number_of(cell) for cell in cells], dtype=np.float64)
    except OverflowError:  # a whole number that no float holds
        values = np.array([number_of(cell) for cell in cells], dtype=np.float64)
    values[~np.isfinite(values)] = math.nan
    return values.reshape(len(rows), len(names))


def cycle_of(value: Any) -> int:
    """The cycle, from 1; 0 for a value that is no cycle. A whole number may be a float, as from CSV with gaps."""
    if type(value) is int:
        return value if 1 <= value <= MAX_CYCLE else 0
    number = number_of(value)
    return int(number) if 1 <= number <= MAX_CYCLE and number.is_integer() else 0


def number_of(value: Any) -> float:
    """A float; NaN for a value that is missing, infinite, or no number. Booleans are no numbers here."""
    if type(value) is float:  # most are
        return value if math.isfinite(value) else math.nan
    if isinstance(value, bool | np.bool_) or not isinstance(value, Real):
        return math.nan
    try:
        number = float(value)
    except (OverflowError, ValueError):
        return math.nan
    return number if math.isfinite(number) else math.nan
