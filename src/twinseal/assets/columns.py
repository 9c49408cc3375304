"""What each column of an export is: the unit, its cycle or time, the label, a channel, or nothing for a model.

    unit, …   and cycle or time: see `moments`
    rul       falls by one with each cycle, in every unit
    channels  all other numbers

A model that is given a label, an age or a mark of the failure as a reading learns that and nothing else. So columns
that count with the cycles, and columns that change in the last row only, are left out, and it is said.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from twinseal.assets.categories import MOST_ASKED, is_text, words_of
from twinseal.assets.event_files import EventFile, event_files, likely_files
from twinseal.assets.exports import FILE, Export
from twinseal.assets.moments import Choices, Moment, is_called, ordered_rows, unit_and_moment
from twinseal.assets.names import channel_names
from twinseal.assets.plans import Kind
from twinseal.errors import ConfigError, DataError
from twinseal.escaping import visible
from twinseal.telemetry.columns import list_names, nearest
from twinseal.telemetry.forms import MISSING
from twinseal.telemetry.time_params import TimeParams

MAX_CHANNELS = 512
Words = tuple[tuple[str, ...], str]  # of a column of text, and why they are no state
MOST_MISSING = 0.5


@dataclass(frozen=True)
class LeftOut:
    """A column that no model reads, and why."""

    column: str
    why: str


@dataclass(frozen=True)
class Columns:
    """What the columns are.

    Attributes:
        unit: Of the machine; FILE where the names of files have it.
        cycle: Of the cycles; or
        time: how time stamps become cycles.
        rul: Of the remaining cycles; None if there is none.
        ends_in_failure: Whether every history ends with the failure.
        events: Tables of failures and replacements, by kind.
        channels: Column → channel, of all that is read.
        words: Column → its words in the order of their numbers, of those that are words.
        settings: The columns among them that were called settings, or are by their name.
        asked: The columns whose kind a person said.
        left_out: The others.
        said: What was found out or assumed.
    """

    unit: str
    cycle: str | None
    time: TimeParams | None
    rul: str | None
    ends_in_failure: bool
    events: dict[str, EventFile]
    channels: dict[str, str]
    words: dict[str, tuple[str, ...]]
    settings: frozenset[str]
    asked: frozenset[str]
    left_out: tuple[LeftOut, ...]
    said: tuple[str, ...]


def tell_columns(export: Export, choices: Choices) -> Columns:
    """What the columns of an export are.

    Raises:
        ConfigError: A named column is not there; or two columns could be the unit, or two forms a time stamp has; or
            nobody said how histories end.
        DataError: There is no unit, no cycle and no time; one unit only; no channel; or too many.
    """
    named = [choices.unit, choices.cycle, choices.time, choices.rul, *choices.ignored]
    pairs = (*choices.settings, *choices.sensors, *choices.measured, *choices.scaled)
    given = [*filter(None, named), *(str(pair[0]) for pair in pairs)]
    _require_columns(export, given)
    unit, moment = unit_and_moment(export, choices)
    said = list(moment.said)
    if unit == FILE:
        said.append(f"each file is a machine, named by {visible(export.unit_in_name)}")
    order = ordered_rows(export, unit, moment)
    _require_units(export, unit, order)
    events = event_files(export, choices, unit, moment)
    rul, ends = _end(export, choices, order, unit, moment)
    if rul and rul != choices.rul:
        said.append(f"{visible(rul)!r} falls by one with each cycle: it counts the remaining cycles")
    asked_settings = {column for column, _ in choices.settings}
    asked = frozenset((*asked_settings, *(column for column, _ in choices.sensors)))
    kept = [name for name in export.texts.columns if name not in (unit, moment.column, rul, FILE, *choices.ignored)]
    texts = {name: words_of(export, name, order, is_asked=name in asked) for name in kept if is_text(export, name)}
    channels, left_out = _channels(export, choices, order, kept, texts)
    numbers = [column for column in channels if column not in texts]
    odd = [str(pair[0]) for pair in (*choices.measured, *choices.scaled) if pair[0] not in numbers]
    if odd:
        raise ConfigError(
            f"--measured, --scale: expected columns of numbers that are read, got {visible(', '.join(odd))}",
            remedy=f"Columns of numbers that are read: {visible(', '.join(numbers))}",
        )
    settings = {column for column in channels if column not in asked and is_called(column, "setting")}
    return Columns(
        unit=unit,
        cycle=None if moment.time else moment.column,
        time=moment.time,
        rul=rul,
        ends_in_failure=ends,
        events=events,
        channels=channels,
        words={column: words for column, (words, _) in texts.items() if words},
        settings=frozenset(asked_settings | settings),
        asked=asked,
        left_out=tuple(left_out),
        said=tuple(said),
    )


def _require_columns(export: Export, given: Iterable[str]) -> None:
    for column in given:
        if column not in export.texts.columns:
            near = nearest([column], list(map(visible, export.texts.columns))).get(column)
            raise ConfigError(
                f"{export.path}: expected a column {column!r}, got {visible(list_names(export.texts.columns))}",
                remedy=f"Did you mean {near!r}? Write the name as it stands in the header."
                if near
                else "Write the name of the column as it stands in the header.",
            )


def _require_units(export: Export, unit: str, order: pd.DataFrame) -> None:
    count = order["unit"].nunique()
    if count < 2:
        raise DataError(
            f"{export.path}: {visible(unit)}: expected histories of two machines or more, got {count or 'none'}",
            remedy="Bring the histories of more machines: what is normal shows in many. Or name another column: --unit",
        )
    if order.groupby("unit").size().max() < 2:
        raise DataError(
            f"{export.path}: {visible(unit)}: expected histories, got one row of each machine",
            remedy="Export whole histories: a row for each machine and cycle.",
        )


def _end(export: Export, choices: Choices, order: pd.DataFrame, unit: str, moment: Moment) -> tuple[str | None, bool]:
    """The column of the label, or that histories end in the failure; neither only where a person said so."""
    asked = [bool(choices.rul), choices.ends_in_failure, choices.end_unknown, bool(choices.failures)]
    if sum(asked) > 1:
        raise ConfigError("expected one of --failures, --rul, --ends-in-failure and --end-unknown, got several")
    if any(asked):
        return choices.rul, choices.ends_in_failure
    taken = {unit, moment.column}
    found = [c for c in export.texts.columns if c not in taken and _falls_by_one(export, c, order)]
    if len(found) == 1:
        return found[0], False
    got = f"several columns that fall by one a cycle: {visible(', '.join(found))}" if found else "no such column"
    tables = likely_files(export, unit, moment)
    if tables:
        got += f", and beside the telemetry machines with times in {visible(', '.join(tables))}"
    first = visible(tables[0]) if tables else "FILE"
    raise ConfigError(
        f"{export.path}: expected to know how the histories end, got {got}",
        remedy=f'--failures "{first}" if that table says which machine failed, and when; --ends-in-failure if each '
        "history ends with the failure; --rul COLUMN if a column counts the remaining cycles; --end-unknown if nobody "
        "knows: then bounds can be proposed, and nothing can be trained.",
    )


def _in_order(export: Export, column: str, order: pd.DataFrame) -> Any:
    return export.numbers[column].to_numpy()[order["row"].to_numpy()]


def _falls_by_one(export: Export, column: str, order: pd.DataFrame) -> bool:
    total = _in_order(export, column, order) + order["cycle"].to_numpy()
    if not np.isfinite(total).all() or _in_order(export, column, order).min() < 0:
        return False
    groups = pd.Series(total).groupby(order["unit"].to_numpy())
    return bool(((groups.max() - groups.min()) < 1e-6).all())


def _channels(
    export: Export, choices: Choices, order: pd.DataFrame, kept: Sequence[str], texts: Mapping[str, Words]
) -> tuple[dict[str, str], list[LeftOut]]:
    asked = dict((*choices.settings, *choices.sensors))
    found, left_out = [], [LeftOut(name, why) for name, why in _unusable(export)]
    left_out += [LeftOut(name, "so it was asked") for name in choices.ignored]
    for column in kept:
        words, text = texts.get(column, ((), ""))
        why = "" if words else text
        if why and column in asked:
            raise ConfigError(
                f"{export.path}: {visible(column)}: expected numbers or up to {MOST_ASKED} words, got {why}",
                remedy=f'Leave it out: --ignore "{visible(column)}"',
            )
        if column not in asked and not why:
            why = _why_no_channel(export, column, order, is_text=bool(words))
        if why:
            left_out.append(LeftOut(column, why))
        else:
            found.append(column)
    if not found:
        raise DataError(
            f"{export.path}: expected columns of readings, got none: "
            + visible("; ".join(f"{item.column}: {item.why}" for item in left_out[:5])),
            remedy="Say which columns are readings: --sensor COLUMN",
        )
    if len(found) > MAX_CHANNELS:
        raise DataError(
            f"{export.path}: expected at most {MAX_CHANNELS} channels, got {len(found)}",
            remedy="Leave columns out of the export, or by --ignore COLUMN.",
        )
    named = channel_names(column for column in found if not asked.get(column))
    channels = {column: asked.get(column) or named[column] for column in found}
    return channels, left_out


def _unusable(export: Export) -> list[tuple[str, str]]:
    header = list(export.header)
    twice = sorted({name for name in header if name and header.count(name) > 1})
    unseen = [("(no name)", "a column without a name")] if "" in header else []
    unread = [name for name in dict.fromkeys(header) if name and name not in twice and name not in export.texts.columns]
    return [
        *unseen,
        *((name, "its name is there twice") for name in twice),
        *((name, "neither numbers nor text") for name in unread),
    ]


def _why_no_channel(export: Export, column: str, order: pd.DataFrame, *, is_text: bool) -> str:
    """Why a column is no channel; "" if it may be one."""
    if not column.isprintable():
        return "its name has characters that cannot be seen"
    if is_text:
        return ""
    cells = export.texts[column]
    missing = cells.isin((*MISSING, *(export.form.missing if export.form else ())))
    if missing.all():
        return "no value in any row"
    if missing.mean() > MOST_MISSING:
        return f"no value in {missing.mean():.0%} of the rows"
    return _why_no_reading(export, column, order)


def _why_no_reading(export: Export, column: str, order: pd.DataFrame) -> str:
    """Why a column of numbers is the label or the age rather than a reading; "" if it may be one."""
    values = _in_order(export, column, order)
    if _falls_by_one(export, column, order) or _counts_with_cycles(values, order):
        return "it counts with the cycles: a model would read the age, or the label, from it"
    if _describes_units(values, order):
        return "it is the same in all rows of each unit: it says which unit it is, not how it is"
    if _marks_the_end(values, order):
        return "it changes in the last row of histories only: it marks the end"
    return ""


def _counts_with_cycles(values: Any, order: pd.DataFrame) -> bool:
    """Whether in every unit the value is a straight line over the cycles, with one slope."""
    steps = pd.DataFrame({"v": values, "c": order["cycle"]}).groupby(order["unit"]).diff()
    slope = (steps["v"] / steps["c"]).dropna().to_numpy()
    return bool(len(slope) > 2 and slope[0] != 0 and np.allclose(slope, slope[0], rtol=1e-6, atol=0))


def _describes_units(values: Any, order: pd.DataFrame) -> bool:
    """Whether the value never changes within a unit, and differs between units."""
    groups = pd.Series(values).groupby(order["unit"].to_numpy())
    low, high = groups.min(), groups.max()
    return bool((low == high).all() and low.nunique() > 1)


def _marks_the_end(values: Any, order: pd.DataFrame) -> bool:
    """Whether the value changes in last rows, and nowhere else."""
    if len(np.unique(values[np.isfinite(values)])) != 2:
        return False
    unit = order["unit"].to_numpy()
    is_last = np.append(unit[1:] != unit[:-1], True)
    inside = values[~is_last]
    return bool(len(inside) and (inside == inside[0]).all() and (values[is_last] != inside[0]).any())


def kinds_of(columns: Columns, levelled: Sequence[str]) -> dict[str, Kind]:
    """Column → setting or sensor. Where no name says setting, the columns with levels that follow no life are some.

    Words are what somebody sets, or what the machine is at: settings, if a column of numbers is left to be measured.
    """
    settings = columns.settings or frozenset(column for column in levelled if column not in columns.asked)
    words = frozenset(columns.words) - columns.asked
    settings |= words if set(columns.channels) - settings - words else frozenset()
    return {column: "setting" if column in settings else "sensor" for column in columns.channels}
