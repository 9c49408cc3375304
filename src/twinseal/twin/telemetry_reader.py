"""The telemetry reader: unchanged rows from a file or a stream, for the runtime and its guard.

.csv                  a header with unit, cycle and the contract's channels
.parquet              the same as columns
.jsonl, .ndjson, -    one JSON object a line; `-` is the standard input, read as it comes

A file, or a folder of files, with the columns of the plant's files that trained the model is read by their mapping
(`plant_reader`). That goes first: a column of the plant may have the name of a channel, in another unit.

Parquet and the plant's files need pandas and pyarrow, which a twin may do without: twinseal[files].
"""

from __future__ import annotations

import importlib.util
import io
import re
import select
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from twinseal.digests import parse_json
from twinseal.errors import ConfigError, DataError, EvidenceError, suggest
from twinseal.reading import open_regular
from twinseal.telemetry.columns import how_to_separate, list_names, nearest
from twinseal.telemetry.csv_lines import MAX_CELLS, MAX_COLUMNS, csv_lines, csv_records
from twinseal.telemetry.mapping import ColumnMapping
from twinseal.twin.rows import Table, in_batches

KEYS = {"unit": "which names the machine", "cycle": "which counts 1, 2, 3 and so on"}
LINES, TABLES = (".jsonl", ".ndjson"), (".csv", ".tsv", ".txt", ".parquet")
MAX_LINE_BYTES = 64 << 10
_READ_BYTES = 64 << 10  # of a stream, at once
_BATCH_CELLS = 2_000_000  # of text at a time; a number takes an eighth of its text
_FILE_ROWS, _STREAM_ROWS = 8_192, 1_024  # at once: as many as make rounds of many units, and take little memory
FORMATS = ".csv, .parquet, .jsonl, .ndjson, or - for the standard input"
_WRITE_AGAIN = (
    "Write it again as CSV with commas, one header line and as many cells in each row, or as Parquet or JSON lines."
)
_ONE_OBJECT = 'Send one JSON object a line, such as {"unit": "pump-1", "cycle": 1, "CHANNEL": 0.5}'

_NUMBER = re.compile(r"\s*[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?\s*", re.ASCII)

Rows = Iterable[Mapping[str, Any]]


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
    if mapping and _may_be_plants(path):
        _require_files_extra(path)
        from twinseal.twin import plant_reader  # noqa: PLC0415  # with pandas

        if plant_reader.is_plants(path, mapping := mapping.only(channels), channels):
            return plant_reader.read(path, mapping, channels, set_aside, note)
        with suggest(_WRITE_AGAIN):
            plant_reader.refuse_unconverted(path, mapping)
    if not path.is_file():
        got = "a folder" if path.is_dir() else "none"
        raise DataError(
            f"{path}: expected a file of telemetry, got {got}",
            remedy=f"Name a file: {FORMATS}. To see what is there: ls {path if path.is_dir() else path.parent}",
        )
    if path.suffix in LINES:
        return _file_lines(path, set_aside)
    with suggest(_WRITE_AGAIN):
        return _table(path, _in_words(channels, mapping))


def read_batches(
    path: Path,
    channels: Sequence[str],
    set_aside: Callable[[str], None] | None,
    mapping: ColumnMapping | None,
    note: Callable[[str], None],
) -> Iterator[list[Mapping[str, Any]]]:
    """As `read`, some rows at a time: of a file many, of a stream those that have come. Arguments as there."""
    if str(path) == "-":
        return lines_at_once(sys.stdin.buffer, "standard input", set_aside)
    return in_batches(read(path, channels, set_aside, mapping, note), _FILE_ROWS)


def lines_at_once(
    stream: BinaryIO, where: str, set_aside: Callable[[str], None] | None = None
) -> Iterator[list[Mapping[str, Any]]]:
    """As `lines`, the rows that have come: the first is never kept waiting for another one. Arguments as there."""
    come, batch = _Lines(stream), list[Mapping[str, Any]]()
    try:
        for row in _rows(come.readline, where, set_aside):
            if row is not None:
                batch.append(row)
            if batch and (len(batch) == _STREAM_ROWS or not come.has_line()):
                yield batch
                batch = []
    except DataError:
        yield batch
        raise
    yield batch


class _Lines:
    """The lines of a stream, as `readline` gives them, and whether one has come."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self._kept, self._at = cast(io.BufferedReader, stream), b"", 0

    def readline(self, limit: int) -> bytes:
        """The next line, or `limit` bytes of it."""
        while self._kept.find(b"\n", self._at, self._at + limit) < 0 and len(self._kept) - self._at < limit:
            if not self._read():
                break
        end = self._kept.find(b"\n", self._at, self._at + limit) + 1
        line = self._kept[self._at : end or self._at + limit]
        self._at += len(line)
        return line

    def has_line(self) -> bool:
        """Whether a whole line can be read without waiting; where that cannot be told, no."""
        while self._kept.find(b"\n", self._at) < 0:
            try:
                come, _, _ = select.select([self._stream], [], [], 0)
            except (OSError, ValueError):  # of what is no file of the system's
                return False
            if not come or len(self._kept) - self._at > MAX_LINE_BYTES or not self._read():
                return False
        return True

    def _read(self) -> bool:
        come = self._stream.read1(_READ_BYTES)
        self._kept, self._at = self._kept[self._at :] + come, 0
        return bool(come)


class Lines(Protocol):
    """What gives lines: an open file, the standard input."""

    def readline(self, size: int, /) -> bytes:
        """The next line with its end, or its first `size` bytes; empty at the end."""
        ...


def lines(stream: Lines, where: str, set_aside: Callable[[str], None] | None = None) -> Iterator[Mapping[str, Any]]:
    """One row for each line of JSON in `stream`, as it comes; blank lines are skipped.

    Args:
        stream: Where the lines come from.
        where: Its name, for messages.
        set_aside: Told of each line that is none, which is then left out: that is the line's trouble, and no unit's.
            Without it, the first such line is refused.

    Raises:
        DataError: A line is longer than MAX_LINE_BYTES, or no JSON object; names the line.
    """
    return (row for row in _rows(stream.readline, where, set_aside) if row is not None)


def _rows(
    readline: Callable[[int], bytes], where: str, set_aside: Callable[[str], None] | None
) -> Iterator[Mapping[str, Any] | None]:
    """As `lines`, and None for each line that is skipped or set aside."""
    number = 0
    while line := readline(MAX_LINE_BYTES + 1):
        number += 1
        rest = line
        while len(rest) > MAX_LINE_BYTES and not rest.endswith(b"\n"):  # the rest of a line that is too long
            rest = readline(MAX_LINE_BYTES + 1)
        if not line.strip():
            yield None
            continue
        try:
            row = parse_json(line, f"{where}, line {number}", limit=MAX_LINE_BYTES)
            if not isinstance(row, dict):
                raise EvidenceError(f"{where}, line {number}: expected a JSON object, got {type(row).__name__}")
        except EvidenceError as error:
            if set_aside is None:
                raise DataError(str(error), remedy=_ONE_OBJECT) from error
            set_aside(str(error))
            yield None
            continue
        yield row


def _file_lines(path: Path, set_aside: Callable[[str], None] | None) -> Iterator[Mapping[str, Any]]:
    with open_regular(path, follow=True) as stream:
        yield from lines(stream, str(path), set_aside)


def _csv(path: Path, beside: str) -> Table:
    """As numbers, cell by cell: one bad cell is one absent reading for the guard, not a column of text."""
    with open_regular(path, follow=True) as stream:
        rows = (row for row in csv_records(_texts(csv_lines(stream, str(path))), str(path)) if row)
        header = next(rows, [])
        if len(header) > MAX_COLUMNS or len(set(header)) != len(header):
            raise DataError(f"{path}: expected at most {MAX_COLUMNS} columns, each name once, got {len(header)} names")
        _require_keys(path, header, beside)
        units, numbers = [], []
        for names, part in _batches(rows, header, path):
            units += names
            numbers.append(part)
    values = np.concatenate(numbers) if numbers else np.zeros((0, len(header)))
    return Table({name: units if name == "unit" else values[:, at] for at, name in enumerate(header)})


def _texts(lines: Iterator[bytes]) -> Iterator[str]:
    """Lines as text; a byte order mark is dropped. A line that ends in a carriage return alone is one too."""
    for number, line in enumerate(lines):
        text = line.decode("utf-8-sig" if number == 0 else "utf-8")
        if "\r" in text[:-2]:
            yield from io.StringIO(text, newline="")
        else:
            yield text


def _batches(
    rows: Iterator[list[str]], header: list[str], path: Path
) -> Iterator[tuple[list[str], NDArray[np.float64]]]:
    """Units and numbers (rows, columns), some rows at a time: text takes eight times the memory of its numbers."""
    size, total, unit = max(1, _BATCH_CELLS // max(1, len(header))), 0, header.index("unit")
    while cells := [_cells(row, len(header), path) for row in islice(rows, size)]:
        total += len(cells) * len(header)
        if total > MAX_CELLS:
            raise DataError(f"{path}: expected at most {MAX_CELLS} readings, got more")
        columns = list(zip(*cells, strict=True))
        numbers = [_numbers(column) if at != unit else np.full(len(cells), np.nan) for at, column in enumerate(columns)]
        yield list(columns[unit]), np.column_stack(numbers)


def _cells(row: list[str], width: int, path: Path) -> list[str]:
    if len(row) > width:
        raise DataError(f"{path}: expected rows of {width} cells, got one of {len(row)}: {','.join(row)[:60]}")
    return row + [""] * (width - len(row))


def _numbers(texts: Sequence[str]) -> NDArray[np.float64]:
    """Each text as a number; NaN where it is none."""
    together = "".join(texts)
    if not together:
        return np.full(len(texts), np.nan)
    if together.isascii() and "_" not in together:  # Python takes 1_0 for a number, and digits of other scripts
        try:
            return np.array([text or "nan" for text in texts], dtype=np.float64)
        except ValueError:
            pass
    return np.array([float(text) if _NUMBER.fullmatch(text) else np.nan for text in texts])


def _may_be_plants(path: Path) -> bool:
    return path.is_dir() or (path.is_file() and path.suffix.lower() in TABLES)


def _require_files_extra(path: Path) -> None:
    if missing := [name for name in ("pandas", "pyarrow") if importlib.util.find_spec(name) is None]:
        raise ConfigError(
            f"{path}: expected {' and '.join(missing)}, with which this file is read, got none",
            remedy="Install them: python -m pip install 'twinseal[files]'. "
            "Or send JSON lines, in the contract's names and units: they need neither.",
        )


def _parquet(path: Path) -> Table:
    """A Parquet file is compressed: a few hundred bytes can stand for gigabytes of one repeated value."""
    _require_files_extra(path)
    from twinseal.twin import plant_reader  # noqa: PLC0415  # with pandas

    return plant_reader.read_parquet_file(path)


def _table(path: Path, beside: str) -> Table:
    readers = {".csv": lambda: _csv(path, beside), ".parquet": lambda: _parquet(path)}
    if path.suffix not in readers:
        lower = path.with_suffix(path.suffix.lower())
        raise DataError(
            f"{path}: expected {FORMATS}, got {path.suffix or 'no suffix'}",
            remedy=f"mv {path} {lower}" if lower.suffix in (*readers, *LINES) else _WRITE_AGAIN,
        )
    try:
        table = readers[path.suffix]()
    except (DataError, ConfigError, PermissionError):
        raise
    except Exception as error:
        # Of broken bytes pandas and pyarrow make OSError, KeyError, TypeError and more, by the byte that is broken.
        raise DataError(
            f"{path}: expected {path.suffix[1:]}, got something else ({' '.join(str(error).split())[:120]})"
        ) from error
    _require_keys(path, list(table.columns), beside)
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
