"""The files of an export as they are: how they are written, and a first look at their cells.

What is found out: the encoding, what separates two cells, the decimal sign, words that stand for no value, the header.
The cells are read by `telemetry.delimited` and `telemetry.tables`, as the source will read them: what is a number here
is one there. At most MAX_LOOK bytes of CSV are looked at; the source reads all of it.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from twinseal.assets.export_files import export_files, name_pattern
from twinseal.errors import ConfigError, DataError
from twinseal.escaping import visible
from twinseal.reading import open_regular
from twinseal.telemetry.csv_lines import MAX_COLUMNS, MAX_FILE_BYTES, MAX_LINE_BYTES
from twinseal.telemetry.delimited import read_delimited, read_header
from twinseal.telemetry.forms import MISSING, Form, is_encoding
from twinseal.telemetry.mapping import ColumnMapping
from twinseal.telemetry.plant_files import files_below
from twinseal.telemetry.tables import parquet_names, read_parquet
from twinseal.telemetry.unit_names import unit_name

MAX_LOOK = 64 << 20
SEPARATORS = (";", "\t", "|", ",")
LINES = 200  # that are looked at for the separator
FILE = "(name of the file)"
_COMMA, _POINT = re.compile(r"[+-]?\d+,\d+([eE][+-]?\d+)?"), re.compile(r"[+-]?\d*\.\d+([eE][+-]?\d+)?")
_NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?")
_WORD = re.compile(r"[^\W\d]|^[-–—?.*#/\\ ]+$")
MOST_WORDS = 10  # different words in one column; more are categories


@dataclass(frozen=True)
class Asked:
    """How a file is written, where a person says so; None: it is found out."""

    separator: str | None = None
    decimal: str | None = None
    encoding: str | None = None
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Export:
    """An export, looked at.

    Attributes:
        path: What the source will be given: a file, or a folder.
        files: Which files of the folder; () for all of them.
        unit_in_name: Where the names of its files name the machine; "" if they do not.
        form: How CSV is written; None for Parquet.
        header: The names of the columns, as they stand there.
        texts: The cells as text; only columns whose name is there once. Of several files, FILE has what differs in
            their names.
        numbers: The same cells as numbers, NaN where a cell is none.
        is_whole: Whether all rows were looked at.
        said: What was found out, one sentence each.
        root: The folder of the files.
        others: Files below it that are not telemetry.
        file_units: The machines that the names of all its files name.
    """

    path: Path
    files: tuple[str, ...]
    unit_in_name: str
    form: Form | None
    header: tuple[str, ...]
    texts: pd.DataFrame
    numbers: pd.DataFrame
    is_whole: bool
    said: tuple[str, ...]
    root: Path
    others: tuple[str, ...] = ()
    file_units: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Look:
    form: Form | None
    header: tuple[str, ...]
    texts: pd.DataFrame
    numbers: pd.DataFrame
    is_whole: bool
    said: tuple[str, ...] = ()


def look_at(
    paths: Sequence[Path], patterns: Sequence[str], unit_in_name: str, asked: Asked, beside: Sequence[str] = ()
) -> Export:
    """The export in the files or the folder at `paths`.

    Args:
        paths: Files, or one folder.
        patterns: Which files of a folder; none means all of them.
        unit_in_name: As in the mapping; "" to find out.
        asked: How the files are written.
        beside: Files below the folder that hold events.

    Raises:
        ConfigError: There is no such file, or it is no CSV and no Parquet; or what was asked for cannot be.
        DataError: It is empty, has no header, or is no table.
        OSError: It cannot be read.
    """
    files = export_files(paths, patterns, beside)
    looks: list[_Look] = []
    left, form = MAX_LOOK, None
    for name in files.names:
        if left <= 0:
            break
        found = _look(files.root / name, asked, left, form)
        form, left = form or found.form, left - (files.root / name).stat().st_size
        looks.append(found)
    pattern = unit_in_name or name_pattern(files.names)
    mapping = ColumnMapping(unit_in_name=pattern or "{unit}", cycle="-", settings={}, sensors={})
    texts = [look.texts for look in looks]
    units = [mapping.unit_of(name) or "" for name in files.names]
    if len(files.names) > 1 or unit_in_name:
        texts = [part.assign(**{FILE: unit}) for part, unit in zip(texts, units, strict=False)]
    numbers = pd.concat([look.numbers for look in looks], ignore_index=True)
    whole = len(looks) == len(files.names) and all(look.is_whole for look in looks)
    words = tuple(sorted({word for look in looks if look.form for word in look.form.missing}))
    said = [*files.said, *(looks[0].said)]
    said += [f"words for no value: {', '.join(map(visible, words))}"] if words else []
    if not whole:
        said.append(f"the first {MAX_LOOK >> 20} MB were looked at to tell the columns; bounds come from all rows")
    return Export(
        path=files.path,
        files=files.patterns,
        unit_in_name=pattern,
        form=replace(looks[0].form, missing=words) if looks[0].form else None,
        header=looks[0].header,
        texts=pd.concat(texts, ignore_index=True),
        numbers=numbers.assign(**{FILE: np.nan}) if FILE in texts[0] else numbers,
        is_whole=whole,
        said=tuple(said),
        root=files.root,
        others=_others(paths, files.names),
        file_units=tuple(map(unit_name, units)),
    )


def _others(paths: Sequence[Path], names: Sequence[str]) -> tuple[str, ...]:
    """The files of the folder that are not telemetry."""
    if len(paths) > 1 or not paths[0].is_dir():
        return ()
    return tuple(sorted(set(files_below(paths[0])) - set(names)))


def _look(path: Path, asked: Asked, limit: int, form: Form | None) -> _Look:
    with open_regular(path, follow=True) as stream:
        if path.suffix.lower() == ".parquet":
            return _parquet(path, stream.read(MAX_FILE_BYTES + 1))
        data = stream.read(limit + 1)
    is_whole = len(data) <= limit
    if not is_whole:
        data = data[: data.rfind(b"\n") + 1] or data
    if form is not None:  # the files of an export are written in one way
        asked = Asked(form.separator, form.decimal, form.encoding, asked.missing)
    return _delimited(path, data, asked, is_whole=is_whole)


def _parquet(path: Path, data: bytes) -> _Look:
    header = tuple(parquet_names(io.BytesIO(data), path.name))
    said, columns = ["Parquet"], {}
    for name in _once(header):
        try:
            columns[name] = read_parquet(io.BytesIO(data), path.name, [name])[name]
        except DataError as error:
            said.append(str(error))
    frame = pd.DataFrame(columns)
    _require_rows(path, len(frame))
    return _Look(None, header, *cells_of(frame), True, tuple(said))


def cells_of(frame: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The cells of a table that has types, as text and as numbers: as `Export` has them."""
    texts = frame.astype("string").fillna("").astype(str)
    return texts, pd.DataFrame({name: _as_numbers(frame[name]) for name in frame})


def _as_numbers(column: pd.Series[Any]) -> pd.Series[float]:
    if pd.api.types.is_datetime64_any_dtype(column):
        return pd.Series(np.nan, index=column.index)
    return pd.to_numeric(column, errors="coerce").astype("float64")


def _delimited(path: Path, data: bytes, asked: Asked, *, is_whole: bool) -> _Look:
    if not data.strip():
        raise DataError(
            f"{path}: expected a table, got an empty file", remedy="Export it again, and look into the file."
        )
    encoding = asked.encoding or _encoding(data, is_whole=is_whole)
    text = _head(data, encoding, path)
    separator = asked.separator or _separator(text, path)
    try:
        form = Form(separator, asked.decimal or _decimal(text, separator), encoding, asked.missing)
    except ValueError as error:
        raise ConfigError(f"--from: {error}") from error
    header = tuple(read_header(data, path.name, form))
    _require_header(path, header)
    wanted = _once(header)
    texts = read_delimited(data, path.name, form, wanted, ()).frame.astype(str)
    _require_rows(path, len(texts))
    texts = texts.apply(lambda column: column.str.strip())
    numbers = read_delimited(data, path.name, form, wanted, wanted).frame
    form = replace(form, missing=tuple(sorted({*form.missing, *_words_for_none(texts, numbers)})))
    names = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
    said = f"CSV in {encoding}, separated by {names.get(separator, repr(separator))}, decimal sign {form.decimal!r}"
    return _Look(form, header, texts, numbers, is_whole, (said,))


def _once(header: Sequence[str]) -> list[str]:
    counts = Counter(header)
    return [name for name in header if name and counts[name] == 1]


def _require_header(path: Path, header: Sequence[str]) -> None:
    if len(header) > MAX_COLUMNS:
        raise DataError(f"{path}: expected at most {MAX_COLUMNS} columns, got {len(header)}")
    if all(_NUMBER.fullmatch(name) for name in header if name):
        raise DataError(
            f"{path}: expected names of columns in the first line, got numbers: {', '.join(header[:5])}",
            remedy="Put a line with the names of the columns above the numbers.",
        )
    if not _once(header):
        raise DataError(f"{path}: expected columns with names, each once, got {', '.join(map(visible, header[:5]))}")


def _require_rows(path: Path, rows: int) -> None:
    if rows < 2:
        raise DataError(
            f"{path}: expected rows of several machines, got {rows or 'none'}",
            remedy="Export whole histories: a row for each machine and time.",
        )


def _encoding(data: bytes, *, is_whole: bool) -> str:
    """UTF-16 by its mark; UTF-8 if it is; else what spreadsheets of Western Europe write."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    try:
        codecs.getincrementaldecoder("utf-8")().decode(data, final=is_whole)
    except UnicodeDecodeError:
        try:
            data.decode("cp1252")
        except UnicodeDecodeError:
            return "latin-1"
        return "cp1252"
    return "utf-8"


def _head(data: bytes, encoding: str, path: Path) -> list[str]:
    """The first lines that are not blank."""
    if not is_encoding(encoding):
        raise ConfigError(f"{path}: --encoding: expected one such as utf-8 or cp1252, got {encoding[:40]!r}")
    text = codecs.getincrementaldecoder(encoding)("replace").decode(data[: 4 * MAX_LINE_BYTES]).lstrip("\ufeff")
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[: LINES + 1] if len(lines) > 1 else lines


def _separator(lines: list[str], path: Path) -> str:
    """What stands as often in the lines as in the header.

    Raises:
        DataError: Nothing does.
    """
    best = (0.0, 0, "")
    for separator in SEPARATORS:
        widths = [len(record) for record in _records(lines[:-1] or lines, separator)]
        if widths and widths[0] > 1:
            alike = sum(width == widths[0] for width in widths) / len(widths)
            best = max(best, (alike, widths[0], separator))
    if not best[2]:
        raise DataError(
            f"{path}: expected a header with columns, got one: {visible(lines[0][:80])!r}",
            remedy="If lines above the header describe the export, delete them; or name what separates two cells: "
            "--separator",
        )
    return best[2]


def _records(lines: list[str], separator: str) -> list[list[str]]:
    try:
        return list(csv.reader(lines, delimiter=separator))
    except csv.Error:
        return []


def _decimal(lines: list[str], separator: str) -> str:
    """The sign that more cells with a fraction have."""
    cells = [cell.strip() for record in _records(lines[1:], separator) for cell in record]
    commas = sum(_COMMA.fullmatch(cell) is not None for cell in cells)
    points = sum(_POINT.fullmatch(cell) is not None for cell in cells)
    return "," if commas > points and separator != "," else "."


def _words_for_none(texts: pd.DataFrame, numbers: pd.DataFrame) -> set[str]:
    """Words in columns of numbers: a few different ones without digits. A word with digits is a cell gone wrong."""
    found: set[str] = set()
    for name in texts.columns:
        cells = texts[name]
        is_none = cells.isin(MISSING)
        known = int((~is_none).sum())
        odd = cells[~is_none & numbers[name].isna()]
        if known and 0 < len(odd) < 0.5 * known and odd.nunique() <= MOST_WORDS:
            found |= {word for word in odd.unique() if _WORD.search(word) and not any(map(str.isdigit, word))}
    return {word for word in found if len(word) <= 64 and word.isprintable()}
