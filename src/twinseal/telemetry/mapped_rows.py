"""The rows of a plant's files, by their mapping: names of units, numbers and moments, and what was wrong with each row.

    read_file   one file, CSV or Parquet: its rows under the names of the contract, and its faults
    as_rows     the same for a table that is read already
    join        many files as one table; what a person should know of the names and numbers in it
    to_cycles   time stamps become cycles

Nothing is decided here. Whoever reads says which faults are borne: the training by policy (`max_unreadable_share`), the
twin row by row. A row whose machine or moment is unknown, that has more or fewer cells than the header, or that comes
twice, is set aside as a whole; another cell at fault is a missing reading.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from twinseal.errors import DataError
from twinseal.telemetry.columns import list_names, nearest, separator_in
from twinseal.telemetry.delimited import Delimited, Fault, read_delimited, read_header
from twinseal.telemetry.forms import MISSING, Form
from twinseal.telemetry.mapping import ColumnMapping
from twinseal.telemetry.tables import parquet_names, read_parquet
from twinseal.telemetry.time_params import SAMPLE, TimeParams
from twinseal.telemetry.time_stamps import count_cycles, gather, read_stamps
from twinseal.telemetry.time_stamps import remarks as time_remarks
from twinseal.telemetry.unit_names import alike, unit_name

MAX_FAULTS = 1000  # of one kind in one file that are named
EXACT = 1 << 24  # float32 holds every whole number up to here
SUFFIXES = (".csv", ".txt", ".tsv", ".parquet")
RUNNING = "running"
_LARGEST_CYCLE = np.iinfo(np.int32).max


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows under the names of the contract.

    Attributes:
        table: `unit`, `moment` (UTC) or `cycle`, labels, channels (float32); `file` and `row` say where each is from.
            Rows that are set aside are not among them.
        faults: What was wrong, by file and row; at most MAX_FAULTS of each kind.
        total: How many rows the files have.
        rows_at_fault: How many rows have a fault, or are one: all of them, also those that `faults` does not name.
        remarks: What a person should know, one sentence each.
        line: Where a row is in its file; see `Delimited.line`.
        inexact: Channel → how many whole numbers float32, in which readings are kept, does not have.
        lost: Unit → how many of its rows were set aside as a whole; "": of rows that name none.
    """

    table: pd.DataFrame
    faults: tuple[Fault, ...]
    total: int
    rows_at_fault: int = 0
    remarks: tuple[str, ...] = ()
    line: Callable[[int, int], int] = lambda _file, _row: 0
    inexact: Mapping[str, int] = field(default_factory=dict)
    lost: Mapping[str, int] = field(default_factory=dict)


def read_file(
    data: bytes, where: str, mapping: ColumnMapping, labels: Mapping[str, str] | None = None, *, path: str = ""
) -> Rows:
    """The rows of one file.

    Args:
        data: Its bytes.
        where: Its name, for messages; the suffix tells Parquet from delimited text.
        mapping: Which column holds what.
        labels: More columns of numbers, and their names.
        path: Of the file, if the name of the machine is in it.

    Raises:
        DataError: It is no such file, has not the columns of the mapping once each, or is not named as units are.
    """
    keys = [name for name in (mapping.unit, mapping.moment) if name]
    texts = {name for name in (mapping.unit, mapping.moment if mapping.time else "", *mapping.categories) if name}
    wanted = list(dict.fromkeys((*keys, *mapping.channels, *(labels or ()), *mapping.running)))
    return as_rows(read_columns(data, where, mapping.form, wanted, texts), where, mapping, labels, path=path)


def as_rows(
    read: Delimited, where: str, mapping: ColumnMapping, labels: Mapping[str, str] | None = None, *, path: str = ""
) -> Rows:
    """The rows of a table that has been read under the names of its own columns; see `read_file`."""
    columns, frame, inexact = {**mapping.channels, **(labels or {})}, read.frame, dict[str, int]()
    faults = [replace(fault, file=where) for fault in read.faults]
    units, nameless = _units(frame, where, mapping, path)
    bad = nameless.copy()
    bad[read.bad] = True
    faults += _faults(read, where, nameless, mapping.unit, "the name of a machine", frame.get(mapping.unit))
    table = {"unit": units, "spelled": frame[mapping.unit].astype(str) if mapping.unit else units}
    if mapping.time:
        moments, expected = read_stamps(frame[mapping.moment], mapping.time)
        lost = moments.isna().to_numpy()
        faults += _faults(read, where, lost, mapping.moment, expected, frame[mapping.moment])
        table["moment"] = moments
    else:
        cycles, lost = _cycles(frame[mapping.moment])
        known = {fault.row for fault in faults if fault.column == mapping.moment}
        found = _faults(read, where, lost, mapping.moment, "a whole number", frame[mapping.moment])
        faults += [fault for fault in found if fault.row not in known]
        table["cycle"] = cycles
    for name, channel in columns.items():
        table[channel], wrong = readings(frame[name], mapping.categories.get(name), mapping.form)
        bad |= wrong
        if name in mapping.scale:
            factor, offset = mapping.scale[name]
            table[channel] = factor * table[channel] + offset
        inexact[channel] = _inexact(table[channel])
        with np.errstate(over="ignore"):  # a value beyond float32 becomes infinite, and validation finds it
            table[channel] = table[channel].astype(np.float32)
        faults += _faults(read, where, wrong, name, _expected(name, mapping), frame[name])
    for name in mapping.running:
        table[RUNNING], wrong = readings(frame[name], mapping.categories.get(name), mapping.form)
        bad |= wrong
        faults += _faults(read, where, wrong, name, "a number", frame[name]) if name not in columns else []
    kept = ~(nameless | lost)
    named = pd.Series(units)
    faults = [replace(fault, unit=_unit_at(named, read, fault)) for fault in faults]
    whole = pd.DataFrame(table).assign(file=np.int32(0), row=np.arange(len(frame), dtype=np.int32))
    total, at_fault = len(frame) + read.skipped, int((bad | lost).sum()) + read.skipped
    rows = whole if kept.all() else whole[kept]
    gone = Counter(map(str, named[~kept])) + Counter({"": read.skipped})
    return Rows(rows, tuple(faults), total, at_fault, (), lambda _file, row: read.line(row), inexact, gone)


def join(files: Sequence[Rows]) -> Rows:
    """The rows of all files as one table, and what looks odd in it.

    Raises:
        ValueError: There is no file.
    """
    tables = [rows.table.assign(file=np.int32(at)) for at, rows in enumerate(files)]
    table = pd.concat(tables, ignore_index=True)
    spelled = table.groupby("unit")["spelled"].nunique()
    said = [f"unit {name}: written in {n} ways, read as one" for name, n in spelled[spelled > 1].items()]
    said += [f"units {a} and {b}: alike, read as two" for a, b in alike(spelled.index)]
    inexact, gone = Counter[str](), Counter[str]()
    for rows in files:
        inexact.update(rows.inexact)
        gone.update(rows.lost)
    said += [
        f"{name}: {lost:,} whole numbers beyond {EXACT:,} lose their last digits: readings are float32"
        for name, lost in inexact.items()
        if lost
    ]
    return Rows(
        table.drop(columns="spelled"),
        tuple(fault for rows in files for fault in rows.faults),
        sum(rows.total for rows in files),
        sum(rows.rows_at_fault for rows in files),
        tuple(said),
        lambda file, row: files[file].line(0, row),
        lost=gone,
    )


def to_cycles(rows: Rows, names: Sequence[str], time: TimeParams, sums: Sequence[str] = ()) -> Rows:
    """The rows with cycles in place of moments; several in one cycle become one, if the params say how.

    Args:
        rows: As `join` gives them.
        names: Of the files.
        time: How time stamps become cycles.
        sums: Columns of counts, which add up.
    """
    units, moments = rows.table["unit"], rows.table["moment"]
    table = rows.table.assign(cycle=count_cycles(units, moments, time, rows.table.get(RUNNING)))
    said = list(time_remarks(units, moments))
    if time.running:
        still = table["cycle"] == 0
        table = _carried(table, still, sums)[~still].drop(columns=RUNNING)
        idle = sorted(set(units) - set(table["unit"]))
        if idle:
            said.append(f"{len(idle):,} units run in no row, and were left out: {list_names(idle)}")
        said += [f"{int(still.sum()):,} rows in which the machine does not run were left out"] if still.any() else []
    by_row = time.cycle == SAMPLE
    twice = table.duplicated(["unit", "moment" if by_row else "cycle"]).to_numpy()
    faults: list[Fault] = []
    at_fault = rows.rows_at_fault
    if twice.any() and time.gather:
        said.append(f"{int(twice.sum()):,} rows were gathered into cycles of {time.cycle}: {time.gather}")
        table = gather(table.drop(columns=["file", "row"]), time.gather, sums)
    elif twice.any():
        what = "one row for each unit and time" if by_row else "one row in a cycle, or `gather`"
        for at in np.flatnonzero(twice)[:MAX_FAULTS]:
            file, row, unit = (table[name].iloc[at] for name in ("file", "row", "unit"))
            line = rows.line(int(file), int(row))
            faults.append(Fault(int(row), line, time.column, what, "another", str(names[file]), str(unit)))
        at_fault += int(twice.sum())
        table = table[~twice]
        if by_row:
            table = table.assign(cycle=count_cycles(table["unit"], table["moment"], time))
    said = [*rows.remarks, *said]
    return replace(rows, table=table, faults=(*rows.faults, *faults), rows_at_fault=at_fault, remarks=tuple(said))


def _carried(table: pd.DataFrame, dropped: Any, sums: Sequence[str]) -> pd.DataFrame:
    """The table where what was counted in rows that are dropped is in the next row of the unit, or else in its last."""
    ordered = table.sort_values(["unit", "moment"], kind="stable")
    gone = dropped.reindex(ordered.index)
    kept: Any = pd.Series(np.arange(len(ordered), dtype=np.float64), ordered.index).mask(gone)
    by_unit = kept.groupby(ordered["unit"])
    places = by_unit.bfill().fillna(by_unit.ffill())
    for name in sums if gone.any() else ():
        moved = ordered[name].where(gone).groupby(places).sum()
        own = ordered[name].to_numpy(dtype=np.float64, copy=True)
        own[moved.index.to_numpy(dtype=np.intp)] += moved.to_numpy()
        ordered[name] = own
    return ordered.reindex(table.index)


def read_columns(data: bytes, where: str, form: Form, wanted: list[str], texts: Collection[str]) -> Delimited:
    """Some columns of a file, by its suffix Parquet or delimited text.

    Args:
        data: Its bytes.
        where: Its name.
        form: How delimited text is written.
        wanted: The names of the columns.
        texts: Those of them that are not read as numbers.

    Raises:
        DataError: It is no such file, or has not these columns once each.
    """
    if where.lower().endswith(".parquet"):
        require_columns(where, wanted, parquet_names(io.BytesIO(data), where))
        return Delimited(read_parquet(io.BytesIO(data), where, wanted))
    require_columns(where, wanted, read_header(data, where, form))
    return read_delimited(data, where, form, wanted, set(wanted) - set(texts))


def readings(column: Any, words: Mapping[str, float] | None, form: Form) -> tuple[Any, NDArray[np.bool_]]:
    """The readings of a column, (R,) float64, NaN where there is none; and the cells that are none of them, (R,) bool.

    Args:
        column: As `read_columns` gives it.
        words: What each word stands for, if it is a column of words.
        form: Its words for no value.
    """
    if words is not None:
        cells = column.astype(str).str.strip()
        empty = column.isna() | (cells.isin([*MISSING, *form.missing]) & ~cells.isin(list(words)))
        values = cells.map(words).astype(np.float64)
        return values.to_numpy(), (values.isna() & ~empty).to_numpy()
    wrong = np.zeros(len(column), dtype=bool)
    if _is_time(column):
        return np.full(len(column), np.nan), ~wrong
    if not pd.api.types.is_numeric_dtype(column):
        numbers = pd.to_numeric(column, errors="coerce")
        wrong = (numbers.isna() & column.notna()).to_numpy()
        column = numbers
    return column.to_numpy(dtype=np.float64, na_value=np.nan), wrong


def require_columns(where: str, wanted: list[str], header: list[str]) -> None:
    """Refuse a table that has not each wanted column once.

    Raises:
        DataError: One is missing or there twice; says what the header has, and what probably is meant.
    """
    missing, twice = [n for n in wanted if n not in header], [n for n in wanted if header.count(n) > 1]
    if missing or twice:
        raise DataError(
            f"{where}: expected the columns {list_names(wanted)} once, missing {missing}, twice {twice}, "
            f"got {list_names(header)}",
            remedy=_how_to_map(missing, header),
        )


def _how_to_map(missing: list[str], header: list[str]) -> str:
    separator = separator_in(header)
    if separator:
        decimal = ', and decimal: "," if its numbers have commas' if separator == ";" else ""
        return f"Set separator in the mapping in params.yaml to {separator!r}{decimal}; then: dvc repro"
    meant = "; ".join(f"for '{column}' it has '{near}'" for column, near in nearest(missing, header).items())
    return f"Name its columns in the mapping in params.yaml{f' ({meant})' if meant else ''}; then: dvc repro"


def _units(frame: pd.DataFrame, where: str, mapping: ColumnMapping, path: str) -> tuple[Any, NDArray[np.bool_]]:
    """The name of the machine of each row; and where there is none."""
    if mapping.unit:
        units = frame[mapping.unit].map(unit_name, na_action="ignore").fillna("").astype(str)
        return units, (units == "").to_numpy()
    name = unit_name(mapping.unit_of(path or where) or "")
    if not name:
        raise DataError(
            f"{where}: expected a file named as {mapping.unit_in_name}, got another name",
            remedy="Correct unit_in_name in params.yaml, or say which files to read: files: ['…'].",
        )
    return pd.Series([name] * len(frame), index=frame.index, dtype=str), np.zeros(len(frame), dtype=bool)


def _is_time(column: Any) -> bool:
    """Whether a column has moments or durations, which pandas would count in units that nobody wrote."""
    return bool(pd.api.types.is_datetime64_any_dtype(column) or pd.api.types.is_timedelta64_dtype(column))


def _cycles(column: Any) -> tuple[Any, NDArray[np.bool_]]:
    """The cycles, float64; and where there is no whole number that a cycle can be."""
    if _is_time(column):
        return np.full(len(column), np.nan), np.ones(len(column), dtype=bool)
    values = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    with np.errstate(invalid="ignore"):
        lost = ~(values == np.floor(values)) | (np.abs(values) > _LARGEST_CYCLE)
    return values, lost


def _expected(name: str, mapping: ColumnMapping) -> str:
    return f"one of {', '.join(list(mapping.categories[name])[:8])}" if name in mapping.categories else "a number"


def _faults(
    read: Delimited, where: str, wrong: NDArray[np.bool_], column: str, expected: str, cells: Any
) -> list[Fault]:
    return [
        Fault(read.record(int(at)), read.line(int(at)), column, expected, str(cells.iloc[at])[:60], where)
        for at in np.flatnonzero(wrong)[:MAX_FAULTS]
    ]


def _unit_at(units: pd.Series[Any], read: Delimited, fault: Fault) -> str:
    if not fault.column:
        return ""
    at = read.place(fault.row)
    return "" if at is None else str(units.iloc[at])


def _inexact(values: NDArray[np.float64]) -> int:
    """How many whole numbers float32 does not have."""
    with np.errstate(invalid="ignore", over="ignore"):
        whole = (np.abs(values) > EXACT) & (values == np.floor(values))
        return int((whole & (values.astype(np.float32) != values)).sum())
