r"""Delimited text, read strictly: each row has the cells of the header, each number is one, and what is wrong is named.

    separator   one character between two cells
    decimal     of numbers: "." or ","
    encoding    of the bytes, as Python names it; a byte order mark is dropped
    missing     cells, beside empty ones and NaN, that stand for no value

Every cell is text first. pyarrow finds the rows that have more or fewer cells than the header; pandas would take the
first cells of a longer row for an index, and shift all others without a word. A number is digits with at most one
decimal sign, a sign and an exponent: no thousands separators, no units, no words, and none beyond what float64 has.

    >>> table = read_delimited(b"unit;heat\nA;41,5\nA;Bad\n", "a.csv", Form(";", ","), ["unit", "heat"], {"heat"})
    >>> table.frame["heat"].tolist(), str(table.faults[0])
    ([41.5, nan], "line 3, heat: expected a number, got 'Bad'")
"""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv as pa_csv

from twinseal.errors import DataError
from twinseal.telemetry.csv_lines import MAX_CELLS, MAX_COLUMNS, check_csv, csv_lines
from twinseal.telemetry.forms import MISSING, Form

MAX_FAULTS = 1000
_CHUNK = 1 << 20
_NUMBERS = {
    ".": r"^[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?$",
    ",": r"^[+-]?(\d+(,\d*)?|,\d+)([eE][+-]?\d+)?$",
}


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong.

    Attributes:
        row: The record, from 0 for the first below the header.
        line: Where it begins in the file, from 1; 0 where a file has no lines.
        column: The name of the column; "" when it is the whole row.
        expected: What should have been there.
        got: What is there, cut short.
        file: Its name, where there are several.
        unit: The machine that the row is of, where it is known.
    """

    row: int
    line: int
    column: str
    expected: str
    got: str
    file: str = ""
    unit: str = ""

    def __str__(self) -> str:
        row = f"line {self.line}" if self.line else f"row {self.row + 1}"
        place = ", ".join(filter(None, (self.file, row, self.unit and f"unit {self.unit}", self.column)))
        return f"{place}: expected {self.expected}, got {self.got!r}"


@dataclass(frozen=True)
class Delimited:
    """A table, and what was wrong with it.

    Attributes:
        frame: The wanted columns: numbers are float64, NaN where there is none or the cell is at fault; the others are
            text. Rows with another number of cells than the header are not among them.
        faults: In order of the file; at most MAX_FAULTS of each kind.
        bad: Every row of `frame` that has a cell at fault, rising.
    """

    frame: pd.DataFrame
    faults: tuple[Fault, ...] = ()
    bad: npt.NDArray[np.intp] = field(default_factory=lambda: np.empty(0, np.intp))
    _lines: Callable[[], npt.NDArray[np.intp]] = lambda: np.empty(0, np.intp)
    _skipped: npt.NDArray[np.intp] = field(default_factory=lambda: np.empty(0, np.intp))

    @property
    def skipped(self) -> int:
        """How many rows of the file are not in `frame`."""
        return len(self._skipped)

    def line(self, row: int) -> int:
        """Where the row of `frame` begins in the file, from 1; 0 where the file has no lines. Counting takes time."""
        lines = self._lines()
        return int(lines[row]) if len(lines) else 0

    def record(self, row: int) -> int:
        """Which record of the file the row of `frame` is, from 0."""
        before = self._skipped - np.arange(len(self._skipped))  # rows of the frame before each record that is skipped
        return row + int(np.searchsorted(before, row, side="right"))

    def place(self, record: int) -> int | None:
        """Which row of `frame` a record of the file is; None if it is not among them."""
        at = int(np.searchsorted(self._skipped, record))
        is_skipped = at < len(self._skipped) and self._skipped[at] == record
        return None if is_skipped else record - at


def read_header(data: bytes, where: str, form: Form) -> list[str]:
    """The names in the first line that is not blank, without the spaces at their ends.

    Raises:
        DataError: There is none, it is no text of that encoding, or a name goes over two lines.
    """
    head = _to_utf8(data[:_CHUNK], where, form.encoding, is_all=len(data) <= _CHUNK)  # the rest is not read twice
    header, _ = _split_header(head, where, form)
    return header


def read_delimited(data: bytes, where: str, form: Form, columns: Sequence[str], numbers: Collection[str]) -> Delimited:
    """The wanted columns of the file whose bytes are `data`.

    Args:
        data: All of the file.
        where: Its name, for messages.
        form: How it is written.
        columns: Which columns, each once in the header.
        numbers: Those of them that are numbers.

    Raises:
        DataError: It is no text of the encoding, is not delimited text, is longer or wider than `tables` allows, or a
            quote is not closed.
        KeyError: A wanted column is not in the header.
    """
    text = _to_utf8(data, where, form.encoding)
    _check_size(text, where, form.separator.encode())
    header, body = _split_header(text, where, form)
    places = {name: f"c{header.index(name)}" if name in header else _absent(name) for name in columns}
    table, invalid = _parse(body, where, form, [f"c{i}" for i in range(len(header))], list(places.values()))
    taken = np.delete(np.arange(len(table) + len(invalid)), [row.number for row in invalid])
    found: list[tuple[int, str, str, str]] = [
        (row.number, "", f"{row.expected_columns} cells, as in the header", f"{row.actual_columns}: {_short(row.text)}")
        for row in invalid[:MAX_FAULTS]
    ]
    frame, at_fault = {}, [np.empty(0, np.intp)]
    for name, place in places.items():
        column = table.column(place)
        if name in numbers:
            values, bad = _numbers(column, form)
            at_fault.append(bad)
            found += [(int(taken[i]), name, "a number", _short(column[int(i)].as_py())) for i in bad[:MAX_FAULTS]]
            frame[name] = values
        else:
            frame[name] = column.to_pandas()
    count = cache(lambda: _lines(text, form))
    faults = sorted((Fault(row, int(count()[row]), *rest) for row, *rest in found), key=lambda item: item.row)
    skipped = np.array(sorted(row.number for row in invalid), np.intp)
    wrong = np.unique(np.concatenate(at_fault))
    return Delimited(pd.DataFrame(frame), tuple(faults), wrong, lambda: count()[taken], skipped)


def _check_size(text: bytes, where: str, separator: bytes) -> None:
    """As `check_csv`, which looks at each line; first whether that is needed at all, which takes a hundredth of it."""
    ends = np.flatnonzero(np.frombuffer(text, np.uint8) == ord("\n"))
    longest = int(np.diff(ends, prepend=-1, append=len(text)).max())
    is_small = longest <= MAX_COLUMNS and text.count(separator) + len(ends) < MAX_CELLS  # a cell has a byte at least
    if not is_small or b'"' in text:
        check_csv(io.BytesIO(text), where, separators=separator)


def _absent(name: str) -> str:
    raise KeyError(name)


@dataclass(frozen=True)
class _Invalid:
    number: int
    expected_columns: int
    actual_columns: int
    text: str


def _parse(body: bytes, where: str, form: Form, names: list[str], wanted: list[str]) -> tuple[Any, list[_Invalid]]:
    """The wanted columns as text, and the rows that are not as wide as the header, counted from 0."""
    invalid: list[_Invalid] = []

    def keep(row: Any) -> str:
        invalid.append(_Invalid(row.number - 1, row.expected_columns, row.actual_columns, row.text or ""))
        return "skip"

    text = pa.string()
    try:
        table = pa_csv.read_csv(
            io.BytesIO(body),
            read_options=pa_csv.ReadOptions(use_threads=False, column_names=names),  # one thread: it counts the rows
            parse_options=pa_csv.ParseOptions(
                delimiter=form.separator, newlines_in_values=b'"' in body, invalid_row_handler=keep
            ),
            convert_options=pa_csv.ConvertOptions(
                column_types=dict.fromkeys(names, text),
                include_columns=wanted,
                strings_can_be_null=False,
                null_values=[],
            ),
        )
    except pa.ArrowInvalid as error:
        if "Empty CSV" not in str(error):
            raise DataError(f"{where}: expected delimited text, got something else ({str(error)[:120]})") from error
        table = pa.table({name: pa.array([], text) for name in wanted})
    return table, invalid


def _numbers(column: Any, form: Form) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.intp]]:
    """The values, (R,) float64, and the rows whose cell is neither a number nor one of the words for none."""
    cells = pc.utf8_trim_whitespace(column)
    none = pc.is_in(cells, value_set=pa.array([*MISSING, *form.missing]))
    is_number = pc.match_substring_regex(cells, _NUMBERS[form.decimal])
    kept = pc.if_else(pc.and_(is_number, pc.invert(none)), cells, None)
    if form.decimal != ".":
        kept = pc.replace_substring(kept, form.decimal, ".")
    values = pc.cast(kept, pa.float64()).to_numpy(zero_copy_only=False) if len(kept) else np.empty(0)
    values = np.array(values, np.float64)
    beyond = np.isinf(values)
    values[beyond] = np.nan
    bad = ~(np.asarray(none) | np.asarray(is_number)) | beyond
    return values, np.flatnonzero(bad)


def _to_utf8(data: bytes, where: str, encoding: str, *, is_all: bool = True) -> bytes:
    """The same text in UTF-8, without a byte order mark; of a part of a file, what is whole of it."""
    decoder = codecs.getincrementaldecoder(encoding)()
    plain = codecs.lookup(encoding).name == "utf-8"
    pieces, at = [], 0
    try:
        for at in range(0, max(len(data), 1), _CHUNK):
            piece = decoder.decode(data[at : at + _CHUNK], final=is_all and at + _CHUNK >= len(data))
            if not plain:
                pieces.append(piece.encode())
    except (UnicodeError, ValueError) as error:
        line = data.count(b"\n", 0, at + getattr(error, "start", 0)) + 1
        raise DataError(
            f"{where}, line {line}: expected text in {encoding}, got other bytes",
            remedy="Say how the file is written: table.encoding, for example cp1252 or latin-1, in params.yaml",
        ) from error
    return (data if plain else b"".join(pieces)).removeprefix(codecs.BOM_UTF8)


def _split_header(text: bytes, where: str, form: Form) -> tuple[list[str], bytes]:
    """The names in the first line that is not blank, and the bytes below it."""
    at = 0
    for read in csv_lines(io.BytesIO(text), where):
        line = read.partition(b"\r")[0] if b"\r" in read.rstrip(b"\r\n") else read  # lines that end in \r alone
        at += len(line) + (text[at + len(line) : at + len(line) + 1] == b"\r")
        if not line.strip():
            continue
        try:
            (names,) = csv.reader([line.decode().rstrip("\r\n")], delimiter=form.separator, strict=True)
        except (csv.Error, ValueError) as error:
            raise DataError(f"{where}: expected names in the first line, got something else ({error})") from error
        return [name.strip() for name in names], text[at:]
    raise DataError(f"{where}: expected a table, got nothing")


def _lines(text: bytes, form: Form) -> npt.NDArray[np.intp]:
    """The line on which each record below the header begins; records that are blank are none."""
    stream = io.StringIO(text.decode(), newline="")
    reader = csv.reader(stream, delimiter=form.separator)
    return np.array([line for line, record in _numbered(reader) if record][1:], np.intp)


def _numbered(reader: Any) -> Iterator[tuple[int, list[str]]]:
    before = reader.line_num
    for record in reader:
        yield before + 1, record
        before = reader.line_num


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:60]}…"
