"""What a guard remembers of each of B units: its newest rows, in three versions, and what it thinks of its channels.

    repaired   with replaced channels
    received   as received, except readings that broke a rule
    own        each channel from its own readings only

Each unit has an end of its own: a row costs the same whoever else has none. Rows are appended in place; when a unit's
room is used up, its newest rows move to the beginning. All is float64: a unit among thousands has the same rows as
alone, to the last bit. Memory of one unit: `Guard.unit_bytes`. For the engines of C-MAPSS FD001 (14 channels, a window
of 100) that is 45 kB, and 10,000 units take 450 MB.

    >>> memory = RowMemory(units=2, rows=3, channels=1)
    >>> memory.append(np.array([1]), [np.array([[7.0]])] * 3, np.array([False]))
    >>> memory.runs(REPAIRED, np.array([1, 0]), 2)[:, :, 0].tolist()
    [[0.0, 7.0], [0.0, 0.0]]
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from twinseal.errors import EvidenceError
from twinseal.guard.saved_arrays import Arrays, check, give_back, taken

Doubles = NDArray[np.float64]
Flags = NDArray[np.bool_]
Counts = NDArray[np.int64]
Names = NDArray[np.str_]

REPAIRED, RECEIVED, OWN = VERSIONS = (0, 1, 2)
_OWN = ("_differs", "_ends")
_LEAST_ROOM = 32  # rows that are appended before the kept ones move


class RowMemory:
    """The newest rows of B units; zeros before the first.

    Args:
        units: B.
        rows: R, how many are kept.
        channels: C.
    """

    def __init__(self, units: int, rows: int, channels: int) -> None:
        self.rows, self._room = rows, rows + max(_LEAST_ROOM, rows // 4)
        # σ, each version (B, rows, C); pages that no unit has used take no memory.
        self._versions = [np.zeros((units, self._room, channels)) for _ in VERSIONS]
        self._differs = np.zeros((units, self._room), dtype=bool)  # in which rows repaired and own are not the same
        self._ends = np.full(units, rows)

    @property
    def unit_bytes(self) -> int:
        """Memory of one unit, bytes."""
        arrays = [*self._versions, self._differs, self._ends]
        return sum(array.nbytes for array in arrays) // len(self._ends)

    def of(self, version: int, unit: int) -> Doubles:
        """(R, C) σ, the rows of one unit, the newest last: a view."""
        end = self._ends[unit]
        return self._versions[version][unit, end - self.rows : end]

    def newest(self, version: int, units: Counts) -> Doubles:
        """(B', C) σ, the newest row of each of `units`: a copy."""
        return np.asarray(self._versions[version][units, self._ends[units] - 1])

    def runs(self, version: int, units: Counts, rows: int, before: int = 0) -> Doubles:
        """(B', rows, C) σ, rows in a run, up to the newest but `before`, of each of `units`: a copy."""
        array = self._versions[version]
        (count, room, channels), (unit, row, cell) = array.shape, array.strides
        # Every run of so many rows, without a copy.
        every = np.ndarray((count, room - rows + 1, rows, channels), np.float64, array, strides=(unit, row, row, cell))
        return np.asarray(every[units, self._ends[units] - before - rows])

    def differs(self, units: Counts) -> Flags:
        """(B', R), in which of the rows of `units` repaired and own are not the same; the newest last."""
        return np.asarray(self._differs[units[:, None], self._ends[units][:, None] + np.arange(-self.rows, 0)])

    def append(self, units: Counts, versions: Sequence[Doubles], differs: Flags) -> None:
        """Append a row to each of `units`, in its three versions (B', C), and whether repaired and own differ (B',)."""
        ends = self._ends[units]
        full = units[ends == self._room]
        if len(full):
            kept = slice(self._room - self.rows, self._room)
            for array in self._versions:
                array[full, : self.rows] = array[full, kept]
            self._differs[full, : self.rows], self._ends[full] = self._differs[full, kept], self.rows
            ends = self._ends[units]
        for array, rows in zip(self._versions, versions, strict=True):
            array[units, ends] = rows
        self._differs[units, ends], self._ends[units] = differs, ends + 1

    def compare(self, unit: int) -> None:
        """Find in which rows of a unit repaired and own differ, after rows were rewritten."""
        end = self._ends[unit]
        differs = (self.of(REPAIRED, unit) != self.of(OWN, unit)).any(axis=1)
        self._differs[unit, end - self.rows : end] = differs

    def clear(self, units: Counts) -> None:
        """Forget the rows of `units`."""
        for array in self._versions:
            array[units] = 0.0
        self._differs[units] = False

    def grow(self, units: int) -> None:
        """Make room for more units."""
        for version, old in enumerate(self._versions):  # one after the other: only one of them is there twice
            new = np.zeros((len(old) + units, *old.shape[1:]))
            new[: len(old)] = old
            self._versions[version] = new
            del old
        self._differs = np.concatenate([self._differs, np.zeros((units, self._room), dtype=bool)])
        self._ends = np.concatenate([self._ends, np.full(units, self.rows)])

    def saved(self, units: int) -> Arrays:
        """What is kept of the first `units` units."""
        versions = {f"version{number}": array[:units] for number, array in enumerate(self._versions)}
        return versions | taken(self, _OWN, units=units)

    def restore(self, arrays: Arrays, units: int) -> None:
        """Go on from what `saved` gave.

        Raises:
            EvidenceError: It is of another guard.
        """
        check(self, _OWN, arrays, units=units)
        for number, array in enumerate(self._versions):
            found = arrays.get(f"version{number}")
            if found is None or found.dtype != array.dtype or found.shape != (units, *array.shape[1:]):
                raise EvidenceError(f"rows of the guard: expected {units} units of {array.shape[1:]}, got others")
            array[:units] = found
        if not ((self.rows <= arrays["_ends"]) & (arrays["_ends"] <= self._room)).all():
            raise EvidenceError("rows of the guard: expected an end within the memory, got another")
        give_back(self, _OWN, arrays, units=units)

    def repeated(self, times: int) -> RowMemory:
        """The rows of `times` copies of these units: unit u of copy k is k · B + u."""
        copied = copy.copy(self)
        copied._versions = [np.concatenate([array] * times) for array in self._versions]
        copied._differs = np.concatenate([self._differs] * times)
        copied._ends = np.concatenate([self._ends] * times)
        return copied


@dataclass(eq=False)
class UnitState:
    """What is known of the channels of B units, an entry for each.

    Attributes:
        last_good: (B, K, C), the last good reading in each regime, in the channel's unit; NaN before the first.
        last_good_cycle: (B, K, C), its cycle.
        last_reading: (B, C), the last reading, good or not.
        repeats: (B, C), how often it came in a row.
        distrusted: (B, C), which channels an average implicated.
        rows_agreed: (B, C), for how many rows such a channel has agreed again.
        cycles_replaced: (B, C), for how many cycles it has been replaced.
        rows_abstained: (B,), how many rows ago the guard began to abstain; -1: it does not.
        rows_in_agreement: (B,), for how many rows all channels have agreed since.
        row_count: (B,), how many rows there have been.
    """

    last_good: Doubles
    last_good_cycle: Doubles
    last_reading: Doubles
    repeats: Counts
    distrusted: Flags
    rows_agreed: Counts
    cycles_replaced: Counts
    rows_abstained: Counts
    rows_in_agreement: Counts
    row_count: Counts

    @classmethod
    def fresh(cls, units: int, regimes: int, channels: int) -> UnitState:
        """Of units of which nothing was heard yet."""
        shape = (units, channels)
        return cls(
            last_good=np.full((units, regimes, channels), np.nan),
            last_good_cycle=np.zeros((units, regimes, channels)),
            last_reading=np.full(shape, np.nan),
            repeats=np.ones(shape, dtype=np.int64),
            distrusted=np.zeros(shape, dtype=bool),
            rows_agreed=np.zeros(shape, dtype=np.int64),
            cycles_replaced=np.zeros(shape, dtype=np.int64),
            rows_abstained=np.full(units, -1),
            rows_in_agreement=np.zeros(units, dtype=np.int64),
            row_count=np.zeros(units, dtype=np.int64),
        )

    @property
    def nbytes(self) -> int:
        """Memory of all units, bytes."""
        return sum(getattr(self, field.name).nbytes for field in fields(self))

    def grow(self, units: int) -> None:
        """Know so many more units, of which nothing was heard yet."""
        fresh = UnitState.fresh(units, *self.last_good.shape[1:])
        for field in fields(self):
            setattr(self, field.name, np.concatenate([getattr(self, field.name), getattr(fresh, field.name)]))

    def forget(self, units: Counts) -> None:
        """Nothing was heard yet of `units`."""
        fresh = UnitState.fresh(1, *self.last_good.shape[1:])
        for field in fields(self):
            getattr(self, field.name)[units] = getattr(fresh, field.name)

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Of its arrays."""
        return tuple(field.name for field in fields(cls))

    def repeated(self, times: int) -> UnitState:
        """Of `times` copies of these units: unit u of copy k is k · B + u."""
        return UnitState(*(np.concatenate([getattr(self, field.name)] * times) for field in fields(self)))
