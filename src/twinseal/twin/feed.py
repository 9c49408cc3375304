"""The feed: rows of telemetry from a file or a stream, as they came, for the runtime and its guard to judge.

.csv                  a header with unit, cycle and the contract's channels
.parquet              the same as columns
.jsonl, .ndjson, -    one JSON object a line; `-` is the standard input, read as it comes
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import pandas as pd
import pyarrow as pa

from twinseal.digests import parse_json
from twinseal.errors import DataError, EvidenceError

MAX_LINE_BYTES = 64 << 10
FORMATS = ".csv, .parquet, .jsonl, .ndjson, or - for the standard input"

Rows = Iterable[Mapping[str, Any]] | pd.DataFrame


def read(path: Path) -> Rows:
    """The rows of the file at `path`; of the standard input when it is `-`.

    Raises:
        DataError: It is absent, of another format, broken, or has no columns `unit` and `cycle`.
    """
    if str(path) == "-":
        return lines(sys.stdin.buffer, "standard input")
    if not path.is_file():
        raise DataError(f"{path}: expected a file of telemetry, got none", remedy=f"Formats: {FORMATS}")
    if path.suffix in {".jsonl", ".ndjson"}:
        return _file_lines(path)
    return _table(path)


def lines(stream: BinaryIO, where: str) -> Iterator[Mapping[str, Any]]:
    """One row for each line of JSON in `stream`, as it comes; blank lines are passed over.

    Raises:
        DataError: A line is longer than MAX_LINE_BYTES, or no JSON object; names the line.
    """
    number = 0
    while line := stream.readline(MAX_LINE_BYTES + 1):
        number += 1
        if not line.strip():
            continue
        try:
            row = parse_json(line, f"{where}, line {number}", limit=MAX_LINE_BYTES)
        except EvidenceError as error:
            raise DataError(str(error)) from error
        if not isinstance(row, dict):
            raise DataError(f"{where}, line {number}: expected a JSON object, got {type(row).__name__}")
        yield row


def _file_lines(path: Path) -> Iterator[Mapping[str, Any]]:
    with path.open("rb") as stream:
        yield from lines(stream, str(path))


def _csv(path: Path) -> pd.DataFrame:
    """As numbers, cell by cell: one bad cell is one absent reading for the guard, not a column of text."""
    table = pd.read_csv(path, dtype=str)
    numbers = [name for name in table.columns if name != "unit"]
    return table.assign(**{name: pd.to_numeric(table[name], errors="coerce") for name in numbers})


def _table(path: Path) -> pd.DataFrame:
    readers = {".csv": lambda: _csv(path), ".parquet": lambda: pd.read_parquet(path)}
    if path.suffix not in readers:
        raise DataError(f"{path}: expected {FORMATS}, got {path.suffix or 'no suffix'}")
    try:
        table = readers[path.suffix]()
    except (ValueError, pa.ArrowException) as error:  # pandas' parser errors are ValueErrors
        raise DataError(
            f"{path}: expected {path.suffix[1:]}, got something else ({' '.join(str(error).split())[:120]})"
        ) from error
    missing = [name for name in ("unit", "cycle") if name not in table.columns]
    if missing:
        raise DataError(f"{path}: expected the columns unit and cycle, got none called {' or '.join(missing)}")
    return table
