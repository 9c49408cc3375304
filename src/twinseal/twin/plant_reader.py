"""Files as the plant exports them, by the mapping that is signed with the model; and Parquet. Needs pandas.

They are read as training read them: units of measurement, words and time stamps become those of the contract.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from twinseal.errors import DataError
from twinseal.reading import open_regular
from twinseal.telemetry.columns import list_names
from twinseal.telemetry.forms import Form
from twinseal.telemetry.mapped_rows import SUFFIXES, join, read_file, to_cycles
from twinseal.telemetry.mapping import ColumnMapping
from twinseal.telemetry.plant_files import file_bytes, file_header, files_below
from twinseal.telemetry.tables import read_parquet
from twinseal.twin.rows import Table

SHOWN = 5  # faults in a message
_REPAIR = "Repair these rows in the file, or take them out, and run the same command again."


def is_plants(path: Path, mapping: ColumnMapping, channels: Sequence[str]) -> bool:
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


def refuse_unconverted(path: Path, mapping: ColumnMapping) -> None:
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


def read(
    path: Path,
    mapping: ColumnMapping,
    channels: Sequence[str],
    set_aside: Callable[[str], None] | None,
    note: Callable[[str], None] | None,
) -> Table:
    """The rows of the plant's files at `path`, a file or a folder; arguments as of `telemetry_reader.read`.

    Raises:
        DataError: A file is broken; or a row has no machine or no time, and nobody is told.
    """
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
        raise DataError("; ".join(map(str, lost[:SHOWN])), remedy=_REPAIR)
    for fault in lost if set_aside else ():
        set_aside(str(fault))  # type: ignore[misc]  # there is one
    return _as_table(rows.table.sort_values(["unit", "cycle"], kind="stable")[["unit", "cycle", *channels]])


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


def read_parquet_file(path: Path) -> Table:
    """The columns of a Parquet file.

    Raises:
        DataError: It is none, or stands for more than `tables` allows.
    """
    with open_regular(path, follow=True) as stream:
        return _as_table(read_parquet(stream, str(path)))


def _as_table(frame: pd.DataFrame) -> Table:
    return Table({str(name): frame[name].to_numpy() for name in frame.columns})
