"""Parquet from outside, refused before they take more memory than a table of telemetry can need.

A file says how much it stands for, and a compressed one can stand for a million times its own size. So every bound is
checked on what the file says before it is decoded, and what it says is what the decoder obeys:

    file             at most MAX_FILE_BYTES
    cells            rows × columns, at most MAX_CELLS; at most MAX_COLUMNS columns with names of at most MAX_NAME
    Parquet footer   at most MAX_FOOTER_BYTES, before it is parsed
    Parquet types    numbers, booleans, times and text; no lists, maps, structs, extensions
    Parquet pages    at most MAX_DECODED_BYTES in all, by `parquet_pages`
    text             each value is kept once; all rows together at most MAX_TEXT_BYTES, before they are written out
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from twinseal.errors import DataError
from twinseal.telemetry.csv_lines import MAX_CELLS, MAX_COLUMNS, MAX_FILE_BYTES
from twinseal.telemetry.parquet_pages import decoded_bytes

MAX_NAME = 256
MAX_FOOTER_BYTES = 1 << 20
MAX_DECODED_BYTES = 512 << 20
MAX_TEXT_BYTES = 256 << 20
_MAGIC = b"PAR1"


@dataclass(frozen=True)
class Bounds:
    """What a Parquet file may stand for.

    Attributes:
        file: Bytes of the file.
        cells: Rows × columns.
        decoded: Bytes of the columns' pages, all together.
        text: Bytes of a text column, written out.
    """

    file: int = MAX_FILE_BYTES
    cells: int = MAX_CELLS
    decoded: int = MAX_DECODED_BYTES
    text: int = MAX_TEXT_BYTES


OUTSIDE = Bounds()
FLEET = Bounds(file=4 << 30, cells=500_000_000, decoded=2 << 30, text=1 << 30)
"""Of what an earlier stage wrote: 20 million rows of 21 columns, 2 GB once decoded."""


def read_parquet(
    stream: BinaryIO, where: str, columns: Sequence[str] | None = None, *, bounds: Bounds | None = None
) -> pd.DataFrame:
    """The table in a Parquet file; without pandas' own metadata.

    Args:
        stream: The file, which can be searched.
        where: Its name, for the message.
        columns: Which columns, in this order; all, if None. They exist.
        bounds: What it may stand for; OUTSIDE by default.

    Raises:
        DataError: It is none, or stands for more than the bounds allow.
    """
    try:
        return _read_parquet(stream, where, columns, bounds or OUTSIDE)
    except DataError:
        raise
    except Exception as error:
        # Of broken bytes pyarrow makes OSError, KeyError, TypeError and more, by the byte that is broken.
        reason = " ".join(str(error).split())[:120]
        raise DataError(f"{where}: expected Parquet, got something else ({reason})") from error


def parquet_names(stream: BinaryIO, where: str) -> list[str]:
    """The names of the columns of a Parquet file.

    Raises:
        DataError: As `read_parquet`.
    """
    try:
        return [str(name) for name in _open_parquet(stream, where).schema_arrow.names]
    except DataError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:120]
        raise DataError(f"{where}: expected Parquet, got something else ({reason})") from error


def _read_parquet(stream: BinaryIO, where: str, columns: Sequence[str] | None, bounds: Bounds) -> pd.DataFrame:
    file = _open_parquet(stream, where, bounds)
    names = list(file.schema_arrow.names if columns is None else columns)
    indices = [_column_index(file, name, where) for name in names]
    _check_pages(stream, file.metadata, indices, where, bounds)
    text = [name for name in names if _is_text(file.schema_arrow.field(name).type)]
    # As a dictionary, a text that is repeated in every row takes memory once.
    file = _open_parquet(stream, where, bounds, read_dictionary=text)
    found = {}
    for name in names:  # one after the other: memory for the table, and for one column twice
        column = file.read(columns=[name], use_threads=False, use_pandas_metadata=False).column(0)
        if name in text:
            _check_text(column, f"{where}: {name}", bounds.text)
            column = column.cast(pa.string())
        found[name] = column.to_pandas()
    return pd.DataFrame(found, copy=False)


def _open_parquet(stream: BinaryIO, where: str, bounds: Bounds = OUTSIDE, **options: Any) -> pq.ParquetFile:
    size = stream.seek(0, io.SEEK_END)
    stream.seek(max(0, size - 8))
    tail = stream.read(8)
    footer = int.from_bytes(tail[:4], "little")
    if size > bounds.file or tail[4:] != _MAGIC or footer > min(MAX_FOOTER_BYTES, size):
        raise DataError(
            f"{where}: expected Parquet of at most {bounds.file} bytes with at most {MAX_FOOTER_BYTES} of metadata, "
            f"got something else ({size} bytes, end {tail[4:]!r})"
        )
    stream.seek(0)
    limits = {"thrift_string_size_limit": MAX_FOOTER_BYTES, "thrift_container_size_limit": MAX_FOOTER_BYTES}
    file = pq.ParquetFile(stream, **limits, **options)
    about = file.metadata
    names = file.schema_arrow.names
    if about.num_columns > MAX_COLUMNS or any(len(name) > MAX_NAME for name in names):
        raise DataError(
            f"{where}: expected at most {MAX_COLUMNS} columns with names of at most {MAX_NAME} characters, got more"
        )
    return file


def _column_index(file: pq.ParquetFile, name: str, where: str) -> int:
    """Where a column is among those that are stored; refused unless it is a flat one of numbers, times or text."""
    kind = file.schema_arrow.field(name).type
    found = [i for i in range(file.metadata.num_columns) if file.schema.column(i).path == name]
    if not (_is_text(kind) or _is_number(kind)) or len(found) != 1 or file.schema.column(found[0]).max_repetition_level:
        raise DataError(f"{where}: {name[:60]}: expected a column of numbers, times or text, got {str(kind)[:80]}")
    return found[0]


def _check_pages(stream: BinaryIO, about: Any, indices: list[int], where: str, bounds: Bounds) -> None:
    groups = [about.row_group(number) for number in range(about.num_row_groups)]
    rows = sum(group.num_rows for group in groups)
    if rows != about.num_rows or any(group.num_rows < 0 for group in groups):
        raise DataError(f"{where}: expected {about.num_rows} rows as its metadata says, got {rows}")
    if rows * len(indices) > bounds.cells:
        raise DataError(f"{where}: expected at most {bounds.cells} readings, got {rows} rows of {len(indices)} columns")
    left = bounds.decoded
    for group in groups:
        for index in indices:
            column = group.column(index)
            if column.num_values != group.num_rows:
                raise DataError(f"{where}: expected a value or a gap for each row, got {column.num_values} values")
            try:
                left -= decoded_bytes(stream, column, left)
            except ValueError as error:
                raise DataError(
                    f"{where}: expected columns of at most {bounds.decoded} bytes in all, got others ({error})",
                    remedy="Write the table anew, in plain Parquet: pandas.DataFrame.to_parquet",
                ) from error


def _check_text(column: Any, where: str, most: int) -> None:
    """Refuse a text column whose rows together are longer than `most` bytes when each is written out."""
    total = 0
    for chunk in column.chunks:
        lengths = pc.binary_length(chunk.dictionary) if pa.types.is_dictionary(chunk.type) else pc.binary_length(chunk)
        if pa.types.is_dictionary(chunk.type):
            lengths = lengths.cast(pa.int64()).take(chunk.indices)
        total += pc.sum(lengths.cast(pa.int64())).as_py() or 0
    if total > most:
        raise DataError(f"{where}: expected text of at most {most} bytes in all rows, got {total}")


def _is_text(kind: Any) -> bool:
    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(value) or pa.types.is_large_string(value))


def _is_number(kind: Any) -> bool:
    tests = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_null, pa.types.is_temporal)
    return any(test(kind) for test in tests)
