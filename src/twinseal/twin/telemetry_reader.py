"""The telemetry reader: unchanged rows from a file or a stream, for the runtime and its guard.

.csv                  a header with unit, cycle and the contract's channels
.parquet              the same as columns
.jsonl, .ndjson, -    one JSON object a line; `-` is the standard input, read as it comes

A file, or a folder of files, with the columns of the plant's files that trained the model is read by their mapping, as
the training read it: units of measurement, words and time stamps become those of the contract. That goes first: a
column of the plant may have the name of a channel, in another unit.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import pandas as pd

from twinseal.digests import parse_json
from twinseal.errors import DataError, EvidenceError, suggest
from twinseal.reading import open_regular
from twinseal.telemetry.columns import how_to_separate, list_names, nearest
from twinseal.telemetry.delimited import Form
from twinseal.telemetry.mapped_rows import SUFFIXES, join, read_file, to_cycles
from twinseal.telemetry.mapping import ColumnMapping
from twinseal.telemetry.plant_files import file_bytes, file_header, files_below
from twinseal.telemetry.tables import MAX_CELLS, MAX_COLUMNS, csv_lines, csv_records, read_parquet

KEYS = {"unit": "which names the machine", "cycle": "which counts 1, 2, 3 and so on"}
LINES = (".jsonl", ".ndjson")
MAX_LINE_BYTES = 64 << 10
SHOWN = 5  # faults in a message
_BATCH_CELLS = 2_000_000  # of text at a time; a number takes an eighth of its text
FORMATS = ".csv, .parquet, .jsonl, .ndjson, or - for the standard input"
_WRITE_AGAIN = (
    "Write it again as CSV with commas, one header line and as many cells in each row, or as Parquet or JSON lines."
)
_ONE_OBJECT = 'Send one JSON object a line, such as {"unit": "pump-1", "cycle": 1, "CHANNEL": 0.5}'

Rows = Iterable[Mapping[str, Any]] | pd.DataFrame


def read(
    path: Path,
    channels: Sequence[str] = (),
    set_aside: Callable[[str], None] | None = None,
    mapping: ColumnMapping | None = None,
    note: Callable[[str], None] | None = None,
) -> Rows:
    """The rows of the file at `path`; of the standard input when it is `-`.

    Args:
        path: The file; or a folder of the plant's files.
        channels: The columns that the model reads beside `unit` and `cycle`. The message of a refusal names them; a
            table without them is the guard's to refuse.
        set_aside: As for `lines`; also told of each row of the plant's files that has no machine, no time, or other
            cells than the header.
        mapping: Of the plant's files that trained the model.
        note: Told, once for each file, from where cycles are counted, where they come from time stamps.

    Raises:
        DataError: It is absent, of another format, broken, or has no columns `unit` and `cycle`.
    """
    if str(path) == "-":
        return lines(sys.stdin.buffer, "standard input", set_aside)
    if mapping and _is_plants(path, mapping := mapping.only(channels), channels):
        return _mapped(path, mapping, channels, set_aside, note)
    if not path.is_file():
        got = "a folder" if path.is_dir() else "none"
        raise DataError(
            f"{path}: expected a file of telemetry, got {got}",
            remedy=f"Name a file: {FORMATS}. To see what is there: ls {path if path.is_dir() else path.parent}",
        )
    if path.suffix in LINES:
        return _file_lines(path, set_aside)
    with suggest(_WRITE_AGAIN):
        if mapping:
            _refuse_unconverted(path, mapping)
        return _table(path, _in_words(channels, mapping))


def lines(stream: BinaryIO, where: str, set_aside: Callable[[str], None] | None = None) -> Iterator[Mapping[str, Any]]:
    """One row for each line of JSON in `stream`, as it comes; blank lines are skipped.

    Args:
        stream: Where the lines come from.
        where: Its name, for messages.
        set_aside: Told of each line that is none, which is then left out: that is the line's trouble, and no unit's.
            Without it, the first such line is refused.

    Raises:
        DataError: A line is longer than MAX_LINE_BYTES, or no JSON object; names the line.
    """
    number = 0
    while line := stream.readline(MAX_LINE_BYTES + 1):
        number += 1
        rest = line
        while len(rest) > MAX_LINE_BYTES and not rest.endswith(b"\n"):  # the rest of a line that is too long
            rest = stream.readline(MAX_LINE_BYTES + 1)
        if not line.strip():
            continue
        try:
            row = parse_json(line, f"{where}, line {number}", limit=MAX_LINE_BYTES)
            if not isinstance(row, dict):
                raise EvidenceError(f"{where}, line {number}: expected a JSON object, got {type(row).__name__}")
        except EvidenceError as error:
            if set_aside is None:
                raise DataError(str(error), remedy=_ONE_OBJECT) from error
            set_aside(str(error))
            continue
        yield row


def _is_plants(path: Path, mapping: ColumnMapping, channels: Sequence[str]) -> bool:
    """Whether a file has the columns of the mapping, or a folder is there to look for such files in."""
    if path.is_dir():
        return True
    if not path.is_file() or path.suffix.lower() not in SUFFIXES:
        return False
    try:
        names = file_header(path, mapping.form)
    except DataError:
        return False  # then it is no table, and refused as one
    wanted = [mapping.unit, mapping.moment, *_columns(mapping, channels)]
    return all(name in names for name in wanted if name)


def _refuse_unconverted(path: Path, mapping: ColumnMapping) -> None:
    """Refuse a file that is the plant's by its keys, but not read as one: its columns may mean something else.

    Raises:
        DataError: A column has the name of a channel, and the mapping makes another channel or other numbers of it.
    """
    names: list[str] = []
    for form in (mapping.form, Form()):
        try:
            names += file_header(path, form)
        except (DataError, OSError):
            continue  # then it is no table in that form
    converted = {
        column
        for column, channel in mapping.channels.items()
        if column != channel or column in mapping.scale or column in mapping.categories
    }
    odd = sorted(converted & set(mapping.channels.values()) & set(names))
    if odd and mapping.unit in names and mapping.moment in names:
        wanted = [mapping.unit, mapping.moment, *mapping.channels]
        raise DataError(
            f"{path}: expected a file like those that trained the model ({list_names(wanted)}, between them "
            f"{mapping.separator!r}), got one whose column {odd[0]} may be theirs or the channel of that name",
            remedy="Write it as they are; or send the channels as JSON lines, in the contract's units.",
        )


def _columns(mapping: ColumnMapping, channels: Sequence[str]) -> list[str]:
    """The plant's columns; a channel that no column of the telemetry gave in training is one of its own name."""
    return [*mapping.channels, *(set(channels) - set(mapping.channels.values()))]


def _mapped(
    path: Path,
    mapping: ColumnMapping,
    channels: Sequence[str],
    set_aside: Callable[[str], None] | None,
    note: Callable[[str], None] | None,
) -> pd.DataFrame:
    root = path if path.is_dir() else path.parent
    names = files_below(path, mapping.files) if path.is_dir() else (path.name,)
    more = {name: name for name in _columns(mapping, channels) if name not in mapping.channels}
    paths = {name: (root / name).absolute().as_posix() for name in names}
    rows = join([read_file(file_bytes(root / name), name, mapping, more, path=paths[name]) for name in names])
    if mapping.time:
        for text in _begins(rows.table, names) if note else ():
            note(text)  # type: ignore[misc]  # there is one
        rows = to_cycles(rows, names, mapping.time, mapping.sums)
    lost = [fault for fault in rows.faults if fault.column not in (*mapping.channels, *more)]
    if lost and set_aside is None:
        raise DataError("; ".join(map(str, lost[:SHOWN])), remedy=_WRITE_AGAIN)
    for fault in lost if set_aside else ():
        set_aside(str(fault))  # type: ignore[misc]  # there is one
    return rows.table.sort_values(["unit", "cycle"], kind="stable")[["unit", "cycle", *channels]]


def _begins(table: pd.DataFrame, names: Sequence[str]) -> Iterator[str]:
    """For each file in which units begin, from where their cycles are counted: nobody knows how old they were then."""
    first = table.loc[table.groupby("unit")["moment"].idxmin()].sort_values(["moment", "unit"], kind="stable")
    last = table.groupby("unit")["moment"].max()
    by_file: Any = first.groupby("file")
    for file, units in by_file:
        begun = [
            f"{unit} from {moment:%Y-%m-%d %H:%M} UTC ({(last[unit] - moment).total_seconds() / 86_400:.1f} days)"
            for unit, moment in zip(units["unit"][:SHOWN], units["moment"][:SHOWN], strict=True)
        ]
        more = f" and {len(units) - SHOWN} more units" if len(units) > SHOWN else ""
        yield (
            f"{names[file]}: cycles are counted from the first row of each unit, as if it was new then: "
            f"{', '.join(begun)}{more}. If a unit was in use before, give its rows since it was new"
        )


def _file_lines(path: Path, set_aside: Callable[[str], None] | None) -> Iterator[Mapping[str, Any]]:
    with open_regular(path, follow=True) as stream:
        yield from lines(stream, str(path), set_aside)


def _csv(path: Path, beside: str) -> pd.DataFrame:
    """As numbers, cell by cell: one bad cell is one absent reading for the guard, not a column of text.

    Not pandas' own reader: it takes the first cells of a row that is too long for an index, which shifts all others,
    and a row of 800 kB holds it up for minutes.
    """
    with open_regular(path, follow=True) as stream:
        rows = (row for row in csv_records(_texts(csv_lines(stream, str(path))), str(path)) if row)
        header = next(rows, [])
        if len(header) > MAX_COLUMNS or len(set(header)) != len(header):
            raise DataError(f"{path}: expected at most {MAX_COLUMNS} columns, each name once, got {len(header)} names")
        _require_keys(path, header, beside)
        batches = list(_batches(rows, header, path))
    return pd.concat(batches, ignore_index=True) if batches else pd.DataFrame(dict.fromkeys(header, ()))


def _texts(lines: Iterator[bytes]) -> Iterator[str]:
    """Lines as text; a byte order mark is dropped. A line that ends in a carriage return alone is one too."""
    for number, line in enumerate(lines):
        text = line.decode("utf-8-sig" if number == 0 else "utf-8")
        if "\r" in text[:-2]:
            yield from io.StringIO(text, newline="")
        else:
            yield text


def _batches(rows: Iterator[list[str]], header: list[str], path: Path) -> Iterator[pd.DataFrame]:
    """The rows as numbers, some at a time: text takes eight times the memory of the numbers that it stands for."""
    size, total = max(1, _BATCH_CELLS // max(1, len(header))), 0
    while cells := [_cells(row, len(header), path) for row in islice(rows, size)]:
        total += len(cells) * len(header)
        if total > MAX_CELLS:
            raise DataError(f"{path}: expected at most {MAX_CELLS} readings, got more")
        columns = zip(header, zip(*cells, strict=True), strict=True)
        yield pd.DataFrame({name: _column(name, values) for name, values in columns})


def _cells(row: list[str], width: int, path: Path) -> list[str]:
    if len(row) > width:
        raise DataError(f"{path}: expected rows of {width} cells, got one of {len(row)}: {','.join(row)[:60]}")
    return row + [""] * (width - len(row))


def _column(name: str, values: Iterable[str]) -> pd.Series:
    column = pd.Series(values, dtype=str)
    return column if name == "unit" else pd.to_numeric(column, errors="coerce")


def _parquet(path: Path) -> pd.DataFrame:
    """A Parquet file is compressed: a few hundred bytes can stand for gigabytes of one repeated value."""
    with open_regular(path, follow=True) as stream:
        return read_parquet(stream, str(path))


def _table(path: Path, beside: str) -> pd.DataFrame:
    readers = {".csv": lambda: _csv(path, beside), ".parquet": lambda: _parquet(path)}
    if path.suffix not in readers:
        lower = path.with_suffix(path.suffix.lower())
        raise DataError(
            f"{path}: expected {FORMATS}, got {path.suffix or 'no suffix'}",
            remedy=f"mv {path} {lower}" if lower.suffix in (*readers, *LINES) else _WRITE_AGAIN,
        )
    try:
        table = readers[path.suffix]()
    except (DataError, PermissionError):
        raise
    except Exception as error:
        # Of broken bytes pandas and pyarrow make OSError, KeyError, TypeError and more, by the byte that is broken.
        raise DataError(
            f"{path}: expected {path.suffix[1:]}, got something else ({' '.join(str(error).split())[:120]})"
        ) from error
    _require_keys(path, [str(name) for name in table.columns], beside)
    return table


def _in_words(channels: Sequence[str], mapping: ColumnMapping | None) -> str:
    """Which columns there must be beside the keys, or instead, for a message."""
    words = f" beside the channels ({list_names(channels)})" if channels else ""
    if mapping:
        plants = [name for name in (mapping.unit, mapping.moment, *mapping.channels) if name]
        words += f"; or those of the files that trained it ({list_names(plants)})"
    return words


def _require_keys(path: Path, names: Sequence[str], beside: str) -> None:
    missing = [name for name in KEYS if name not in names]
    if not missing:
        return
    raise DataError(
        f"{path}: expected the columns {' and '.join(KEYS)}{beside}, got {list_names(names)}",
        remedy=(path.suffix == ".csv" and how_to_separate(str(path), names)) or _how_to_rename(missing, names),
    )


def _how_to_rename(missing: Sequence[str], names: Sequence[str]) -> str:
    near = nearest(missing, names)
    renamed = [f"'{near[name]}' to '{name}'" for name in missing if name in near]
    added = [f"'{name}', {KEYS[name]}" for name in missing if name not in near]
    steps = [f"Rename in its header {', '.join(renamed)}."] if renamed else []
    steps += [f"Add the column {', and '.join(added)}."] if added else []
    return " ".join((*steps, "Then run the same command again."))
