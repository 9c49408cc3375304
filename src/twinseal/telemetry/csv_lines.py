"""CSV from outside, line by line, refused before it takes more memory than a table of telemetry can need.

file      at most MAX_FILE_BYTES
cells     rows × columns, at most MAX_CELLS; at most MAX_COLUMNS columns
lines     a line has at most MAX_LINE_BYTES, a record goes over at most MAX_LINES lines

>>> from io import BytesIO
>>> check_csv(BytesIO(b"unit,cycle" + b"0" * 70000), "a.csv")
Traceback (most recent call last):
twinseal.errors.DataError: a.csv, line 1: expected at most 65536 bytes in a line, got more
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import BinaryIO

from twinseal.errors import DataError

MAX_FILE_BYTES = 1 << 30
MAX_CELLS = 50_000_000  # 400 MB of numbers
MAX_COLUMNS = 2048  # a contract has 512 channels at most
MAX_LINE_BYTES, MAX_LINES = 64 << 10, 1000


def check_csv(stream: BinaryIO, where: str, *, separators: bytes = b",") -> None:
    """Refuse a CSV file, before it is parsed, that no table of telemetry is like.

    Args:
        stream: The file, from its beginning.
        where: Its name, for the message.
        separators: Each of them stands between two cells.

    Raises:
        DataError: A line or a record is too long, or there are too many cells.
    """
    cells, quoted = 0, False
    for line in csv_lines(stream, where):
        found = sum(map(line.count, separators)) + 1
        cells, quoted = cells + found, quoted or b'"' in line
        if found > MAX_COLUMNS or cells > MAX_CELLS:
            raise DataError(f"{where}: expected at most {MAX_COLUMNS} cells in a line and {MAX_CELLS} in all, got more")
    if quoted:  # then a cell can go over many lines
        stream.seek(0)
        _check_records(stream, where, separators.decode() if len(separators) == 1 else ",")


def csv_lines(stream: BinaryIO, where: str) -> Iterator[bytes]:
    """The lines of a file, each of at most MAX_LINE_BYTES, their ends included.

    Raises:
        DataError: One is longer; or all together have more than MAX_FILE_BYTES.
    """
    total = 0
    for number, line in enumerate(iter(lambda: stream.readline(MAX_LINE_BYTES + 1), b""), 1):
        total += len(line)
        if len(line) > MAX_LINE_BYTES:
            raise DataError(f"{where}, line {number}: expected at most {MAX_LINE_BYTES} bytes in a line, got more")
        if total > MAX_FILE_BYTES:
            raise DataError(f"{where}: expected at most {MAX_FILE_BYTES} bytes, got more")
        yield line


def csv_records(lines: Iterator[str], where: str, separator: str = ",") -> Iterator[list[str]]:
    """The records of CSV, each from at most MAX_LINES lines.

    Raises:
        DataError: One goes over more.
        csv.Error: A cell has more than 131,072 characters, or a quote stands where none may.
    """
    taken = 0

    def count() -> Iterator[str]:
        nonlocal taken
        for line in lines:
            taken += 1
            if taken > MAX_LINES:
                raise DataError(f"{where}: expected a record on at most {MAX_LINES} lines, got more: a quote is open")
            yield line

    for record in csv.reader(count(), delimiter=separator, strict=True):
        taken = 0
        yield record


def _check_records(stream: BinaryIO, where: str, separator: str) -> None:
    lines = (line.decode("utf-8", "replace") for line in csv_lines(stream, where))
    try:
        for _ in csv_records(lines, where, separator):
            pass
    except csv.Error as error:
        raise DataError(f"{where}: expected CSV, got something else ({error})") from error
