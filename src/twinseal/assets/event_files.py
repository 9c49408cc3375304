"""Tables of failures and replacements beside the telemetry: which file, and which of its columns.

Of a table of events it is told which column names machines of the telemetry, and which has times in the form of the
telemetry's (or cycles, where that has cycles). Two columns that could be it are asked for.

    --failures failures.csv
    --failures failures.csv:Trafo:Ausfall     the columns by name
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd

from twinseal.assets.exports import FILE, Export
from twinseal.assets.moments import Choices, Moment, is_called
from twinseal.errors import ConfigError, DataError
from twinseal.escaping import visible
from twinseal.telemetry.columns import list_names
from twinseal.telemetry.forms import MISSING, Form
from twinseal.telemetry.mapped_rows import read_columns
from twinseal.telemetry.mapping import check_paths
from twinseal.telemetry.plant_files import file_bytes, file_header
from twinseal.telemetry.time_stamps import read_stamps
from twinseal.telemetry.unit_names import unit_name

KINDS = ("failures", "replacements")
MOST_LOOKED_AT = 20  # files beside the telemetry
MAX_BYTES = 16 << 20  # of one of them
KNOWN, ENOUGH = 0.5, 0.99  # of the cells: machines of the telemetry, and times


@dataclass(frozen=True)
class EventFile:
    """A table of events.

    Attributes:
        path: Below the folder of the export.
        unit: Column that names the machine.
        time: Column of times or cycles.
    """

    path: str
    unit: str
    time: str


def event_files(export: Export, choices: Choices, unit: str, moment: Moment) -> dict[str, EventFile]:
    """The tables that a person named, by kind.

    Raises:
        ConfigError: There is no such file, or nobody can tell its columns.
        DataError: It is no table.
        OSError: It cannot be read.
    """
    asked = {kind: getattr(choices, kind) for kind in KINDS}
    if asked["replacements"] and not asked["failures"]:
        raise ConfigError(
            "--replacements: expected --failures beside it, got none",
            remedy="A life that no failure ended has no label: name the table of failures as well.",
        )
    return {kind: _file_that_was_named(export, kind, text, unit, moment) for kind, text in asked.items() if text}


def likely_files(export: Export, unit: str, moment: Moment) -> tuple[str, ...]:
    """The files beside the telemetry that have machines of it and times."""
    found = []
    for name in export.others[:MOST_LOOKED_AT]:
        try:
            if (export.root / name).stat().st_size <= MAX_BYTES:
                units, times = _candidates(export, name, unit, moment)
                found += [name] if units and set(times) - set(units) else []
        except (DataError, OSError):
            continue  # it is no table in the form of the telemetry
    return tuple(found)


def _file_that_was_named(export: Export, kind: str, text: str, unit: str, moment: Moment) -> EventFile:
    path, given = _parts(export, kind, text)
    header = file_header(export.root / path, export.form or Form())
    for name in given:
        if name not in header:
            raise ConfigError(
                f"--{kind}: {path}: expected a column {name!r}, got {visible(list_names(header))}",
                remedy="Write the name as it stands in the header.",
            )
    if given:
        return EventFile(path, *given)
    units, times = _candidates(export, path, unit, moment)
    one = _one(path, kind, "names machines of the telemetry", units, header)
    like = f"has times like {moment.time.format or '2026-01-31T06:00'}" if moment.time else "has cycles"
    return EventFile(path, one, _one(path, kind, like, [name for name in times if name != one], header))


def _parts(export: Export, kind: str, text: str) -> tuple[str, tuple[str, ...]]:
    """The path and the columns in FILE or FILE:UNIT:TIME."""
    parts = (text, *text.rsplit(":", 2)[:1])
    for path in parts:
        try:
            check_paths([path])
        except ValueError as error:
            raise ConfigError(
                f"--{kind}: expected a file below {export.root}, got {visible(path[:80])!r}",
                remedy="Give --from the folder that has both the telemetry and this table.",
            ) from error
        if (export.root / path).is_file():
            return path, tuple(text[len(path) + 1 :].split(":")) if path != text else ()
    raise ConfigError(
        f"--{kind}: expected a file below {export.root}, got none at {visible(text[:80])!r}",
        remedy=f"Name it as it is called below that folder: --{kind} FILE, or FILE:UNIT_COLUMN:TIME_COLUMN",
    )


def _one(path: str, kind: str, what: str, found: list[str], header: list[str]) -> str:
    if len(found) != 1:
        got = f"{len(found)} that could: {visible(', '.join(found))}" if found else visible(list_names(header))
        raise ConfigError(
            f"--{kind}: {path}: expected one column that {what}, got {got}",
            remedy=f'Name the columns: --{kind} "{path}:UNIT_COLUMN:TIME_COLUMN"',
        )
    return found[0]


def _candidates(export: Export, path: str, unit: str, moment: Moment) -> tuple[list[str], list[str]]:
    """The columns that could name the machine, and those that could be the time; one called so alone, if there is."""
    known = set(export.texts[unit].map(unit_name)) | (set(export.file_units) if unit == FILE else set())
    units, times = [], []
    for name, cells in _columns(export, path):
        if cells.map(unit_name, na_action="ignore").isin(known).mean() >= KNOWN:
            units.append(name)
        if _is_time(cells, moment):
            times.append(name)
    same = [name for name in units if name == unit] or [name for name in units if is_called(name, "unit")]
    called = [name for name in times if name == moment.column] or [name for name in times if is_called(name, "time")]
    return same if len(same) == 1 else units, called if len(called) == 1 else times


def _columns(export: Export, path: str) -> Iterator[tuple[str, Any]]:
    """Each column of a table of events with a name of its own, and its cells that have a value."""
    form = export.form or Form()
    header = file_header(export.root / path, form)
    wanted = [name for name in header if name and header.count(name) == 1]
    frame = read_columns(file_bytes(export.root / path), path, form, wanted, wanted).frame
    for name in wanted:
        cells = frame[name].dropna()
        text = cells.astype(str).str.strip()
        cells = cells[~text.isin((*MISSING, *form.missing))]
        if len(cells):
            yield name, cells


def _is_time(cells: Any, moment: Moment) -> bool:
    if moment.time:
        if pd.api.types.is_numeric_dtype(cells):
            return False
        return bool(read_stamps(cells, moment.time)[0].notna().mean() >= ENOUGH)
    number = pd.to_numeric(cells, errors="coerce")
    return bool(((number >= 0) & (number % 1 == 0)).mean() >= ENOUGH)
