"""A fleet: the telemetry of many machines in one long table, one row for each machine and cycle.

    unit      str      which machine
    cycle     int32    1, 2, 3, … without gaps
    censored  bool     True: the history ends before the machine fails (a test unit)
    rul       float32  true remaining cycles at this row; NaN if unknown
    …         float32  settings, then sensors, in the order of the contract

A fleet guarantees the form (columns, types, order of rows) and nothing about the content: a raw fleet holds whatever
the plant sent, and `twinseal.telemetry.expectations` finds what is wrong with it. The same table always gives the same
bytes of Parquet.

    >>> fleet = Fleet.of({"unit": ["b", "a"], "cycle": [1, 1], "censored": False, "rul": 0.0, "heat": [1.0, 2.0]})
    >>> fleet.units, fleet.channels
    (('a', 'b'), ('heat',))
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from twinseal.errors import DataError
from twinseal.files import writing_whole
from twinseal.reading import open_regular
from twinseal.telemetry.contract import KEYS, Contract
from twinseal.telemetry.tables import FLEET, read_parquet

ROWS_OF_A_GROUP = 1 << 20  # written, and held as Parquet, at a time
_KEY_TYPES = {"unit": "str", "cycle": "int32", "censored": "bool", "rul": "float32"}


@dataclass(frozen=True)
class Trajectory:
    """The rows of one unit, in order of cycle.

    Attributes:
        unit: Its name.
        frame: Its rows in the table of the fleet, all columns.
    """

    unit: str
    frame: pd.DataFrame

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def censored(self) -> bool:
        """Whether the history ends before the machine fails."""
        return bool(self.frame["censored"].iloc[-1])

    @property
    def cycles(self) -> npt.NDArray[np.int32]:
        """Cycle numbers, (L,) int32."""
        return self.frame["cycle"].to_numpy()

    @property
    def rul_cycles(self) -> npt.NDArray[np.float32]:
        """True remaining cycles, (L,) float32; NaN if unknown."""
        return self.frame["rul"].to_numpy()

    def rows(self, channels: Collection[str]) -> npt.NDArray[np.float32]:
        """The values of `channels`, (L, C) float32, raw units."""
        return self.frame[list(channels)].to_numpy(dtype=np.float32)


@dataclass(frozen=True, eq=False)
class Fleet:
    """Telemetry in the long form.

    Attributes:
        table: The rows, sorted by unit and cycle, index 0 … R-1. Treat it as read-only.

    Raises:
        DataError: The columns, their types, or the order of the rows do not fit the long form.
    """

    table: pd.DataFrame
    _starts: npt.NDArray[np.intp] = field(init=False, repr=False)
    _file: FleetFile | None = field(init=False, repr=False, default=None)

    def __post_init__(self) -> None:
        _check_columns(self.table)
        changes = _changes(self.table)
        if changes is None:
            raise DataError("fleet: expected rows sorted by unit and cycle, got another order")
        starts = np.flatnonzero(np.concatenate([np.ones(min(1, len(self.table)), bool), changes]))
        object.__setattr__(self, "_starts", starts)

    @classmethod
    def of(cls, columns: pd.DataFrame | Mapping[str, Any]) -> Fleet:
        """The fleet with these columns, in the long form: types set, rows sorted (stable), keys first.

        Raises:
            DataError: A key column is missing, or a value does not fit the type of its column.
        """
        table = pd.DataFrame(columns)
        missing = [name for name in KEYS if name not in table.columns]
        if missing:
            raise DataError(f"fleet: expected columns {', '.join(missing)}, got none of that name")
        table = table[[*KEYS, *(name for name in table.columns if name not in KEYS)]]
        table = pd.DataFrame({name: _cast(table[name], str(name)) for name in table.columns}, copy=False)
        if _changes(table) is None:  # to sort is to copy
            table = table.sort_values(["unit", "cycle"], kind="stable")
        return cls(table.reset_index(drop=True))

    @classmethod
    def read(cls, path: Path, contract: Contract) -> Fleet:
        """The fleet in the Parquet file at `path`.

        Raises:
            DataError: It is not Parquet, stands for more than `tables` allows, or has other columns than the contract.
            OSError: The file cannot be read.
        """
        with open_regular(path) as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
            table = read_parquet(stream, str(path), bounds=FLEET)
        if tuple(table.columns) != contract.columns:
            raise DataError(
                f"{path}: expected the columns of the contract for '{contract.asset}' {contract.columns}, "
                f"got {tuple(map(str, table.columns))}",
                remedy="The contract has changed, or the file belongs to another asset: run `dvc repro ingest`.",
            )
        fleet = cls(table)
        object.__setattr__(fleet, "_file", FleetFile(path.resolve(), digest, contract))
        return fleet

    def __reduce_ex__(self, protocol: Any) -> Any:
        """To another process as the file that it was read from, and its digest; by value if it never was."""
        return super().__reduce_ex__(protocol) if self._file is None else (FleetFile.read, (self._file,))

    def write(self, path: Path) -> None:
        """Write the fleet as Parquet: the same table, the same bytes.

        Raises:
            OSError: The file cannot be written.
        """
        # No pandas metadata: it holds versions of libraries, and the bytes must depend on the data only.
        kinds = [(name, pa.from_numpy_dtype(self.table[name].dtype)) for name in self.table.columns[1:]]
        schema = pa.schema([("unit", pa.string()), *kinds])
        with (
            writing_whole(path) as stream,
            pq.ParquetWriter(stream, schema, compression="zstd", version="2.6") as writer,
        ):
            for start in range(0, max(1, len(self.table)), ROWS_OF_A_GROUP):
                part = self.table.iloc[start : start + ROWS_OF_A_GROUP]
                arrays = {name: pa.array(part[name].to_numpy(), from_pandas=False) for name in part.columns[1:]}
                table = pa.table({"unit": _text(part["unit"]).cast(pa.string())} | arrays, schema=schema)
                writer.write_table(table, row_group_size=ROWS_OF_A_GROUP)

    def __len__(self) -> int:
        return len(self.table)

    @property
    def units(self) -> tuple[str, ...]:
        """Names of the units, sorted."""
        return tuple(self.table["unit"].iloc[self._starts].tolist())

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the settings and sensors, in order."""
        return tuple(map(str, self.table.columns[len(KEYS) :]))

    @property
    def starts(self) -> npt.NDArray[np.intp]:
        """The first row of each unit, (units,) intp."""
        return self._starts

    @property
    def lengths(self) -> npt.NDArray[np.intp]:
        """Number of rows of each unit, (units,) intp."""
        return np.diff(np.append(self._starts, len(self.table)))

    def trajectories(self) -> Iterator[Trajectory]:
        """The rows of each unit, in order of name."""
        for unit, start, length in zip(self.units, self._starts, self.lengths, strict=True):
            yield Trajectory(unit, self.table.iloc[start : start + length])

    def trajectory(self, unit: str) -> Trajectory:
        """The rows of `unit`.

        Raises:
            KeyError: No unit has that name.
        """
        units = self.units
        if unit not in units:
            raise KeyError(unit)
        at = units.index(unit)
        return Trajectory(unit, self.table.iloc[self._starts[at] : self._starts[at] + self.lengths[at]])

    def select(self, units: Collection[str]) -> Fleet:
        """The part of the fleet with these units."""
        chosen = frozenset(units)
        return Fleet(self.table[self.table["unit"].isin(chosen)].reset_index(drop=True))

    def without(self, units: Collection[str]) -> Fleet:
        """The part of the fleet without these units."""
        return self.select(frozenset(self.units) - frozenset(units))


@dataclass(frozen=True)
class FleetFile:
    """A fleet as its file: the path, its SHA-256, and the contract that it is read with."""

    path: Path
    digest: str
    contract: Contract

    def read(self) -> Fleet:
        """The fleet, also in another process.

        Raises:
            DataError: The file holds other bytes, or no fleet of the contract.
            OSError: It cannot be read.
        """
        fleet = Fleet.read(self.path, self.contract)
        if fleet._file != self:
            raise DataError(
                f"{self.path}: expected the fleet that the stage began with, got another",
                remedy="Nothing may write there while a stage runs; a worker on another machine needs the same folder.",
            )
        return fleet


def _changes(table: pd.DataFrame) -> npt.NDArray[np.bool_] | None:
    """Whether each row but the first (R - 1,) is of another unit than the row before; None: the rows are not sorted."""
    # In Arrow: an object for each of ten million names would be a gigabyte. UTF-8 has the order of the characters.
    units, cycles = _text(table["unit"]), table["cycle"].to_numpy()
    before, after = units[:-1], units[1:]
    changes = pc.not_equal(before, after).to_numpy(zero_copy_only=False)
    falls = pc.less(after, before).to_numpy(zero_copy_only=False)
    return None if np.any(falls | ((cycles[1:] < cycles[:-1]) & ~changes)) else changes


def _text(column: pd.Series[Any]) -> pa.Array:
    found = pa.array(column.array)
    return found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found


def _check_columns(table: pd.DataFrame) -> None:
    names = [str(name) for name in table.columns]
    if tuple(names[: len(KEYS)]) != KEYS or len(set(names)) != len(names) or len(names) == len(KEYS):
        raise DataError(f"fleet: expected the columns {', '.join(KEYS)} and then channels, each once, got {names}")
    for name in names:
        expected, got = _KEY_TYPES.get(name, "float32"), str(table[name].dtype)
        if got != expected:
            raise DataError(f"fleet: {name}: expected {expected}, got {got}")
    if table["unit"].isna().any():
        raise DataError("fleet: unit: expected a name in every row, got none in some")
    odd = [name for name in table["unit"].unique() if not (0 < len(name) <= 64 and name.isprintable())]
    if odd:
        raise DataError(f"fleet: unit: expected names of 1 to 64 printable characters, got {odd[0][:80]!r}")
    if not isinstance(table.index, pd.RangeIndex) or table.index.start != 0 or table.index.step != 1:
        raise DataError("fleet: expected rows numbered from 0")


def _cast(column: pd.Series[Any], name: str) -> pd.Series[Any]:
    kind = _KEY_TYPES.get(name, "float32")
    try:
        if column.isna().any() and kind != "float32":
            raise ValueError("a value is missing")
        if name == "cycle":
            _refuse_fractions(column)
        with np.errstate(over="ignore"):  # a value beyond float32 becomes infinite, and validation finds it
            return column.astype(kind)  # type: ignore[call-overload, no-any-return]
    except (ValueError, TypeError, OverflowError) as error:
        raise DataError(f"fleet: {name}: expected {kind}, got something else ({str(error)[:120]})") from error


def _refuse_fractions(cycle: pd.Series[Any]) -> None:
    # astype would turn 1.5 into 1, and 2**32 + 1 into 1, without a word.
    number = pd.to_numeric(cycle).to_numpy(dtype=np.float64)
    if np.any(number != np.floor(number)) or np.any(np.abs(number) > np.iinfo(np.int32).max):
        raise ValueError("a cycle is not a whole number below 2**31")
