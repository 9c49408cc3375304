"""What each column of an export is: the unit, its cycle or time, the label, a channel, or nothing for a model.

    unit      a column whose values repeat, so that with the cycle or the time each row is there once
    cycle     whole numbers that run 1, 2, 3, … in every unit
    time      text that is a time in one form; day and month are told apart, or it is asked
    rul       falls by one with each cycle, in every unit
    channels  all other numbers

A model that is given a label, an age or a mark of the failure as a reading learns that and nothing else. So columns
that count with the cycles, and columns that change in the last row only, are left out, and it is said.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from twinseal.assets.exports import Export
from twinseal.assets.names import channel_name, channel_names, description, unit_of_measure
from twinseal.config import parse
from twinseal.errors import ConfigError, DataError
from twinseal.escaping import visible
from twinseal.sources.time_stamps import TimeParams, count_cycles, read_stamps
from twinseal.telemetry.columns import list_names, nearest
from twinseal.telemetry.delimited import MISSING
from twinseal.telemetry.unit_names import unit_name

MAX_CHANNELS = 512
MOST_MISSING = 0.5
LOOKED_AT = 2_000  # cells for the form of a time stamp
MAX_CANDIDATES = 20

_CALLED = {
    "unit": r"unit|machine|asset|engine|device|equipment|serial|id|trafo|transformer|pump|motor|turbine|maschine|anlage|"
    r"geraet|einheit|vehicle|truck|name|nr|no",
    "cycle": r"cycles?|zyklus|day|tag|step|index|seq|mission|flight|flug|woche|week|lauf|hour|stunde",
    "time": r"time|timestamp|stamp|date|datetime|datum|zeit|zeitstempel|ts|when",
    "rul": r"rul|remaining|rest|restlebensdauer|ttf|left",
    "setting": r"settings?\d*|setpoint|set|sp|demand|command|cmd|soll|sollwert|vorgabe|load|last|ambient|umgebung|"
    r"throttle|altitude|mach|opcond|operating|condition|mode|modus|regime|os\d+|reference|ref",
}
_FORMS = (
    "", "%d.%m.%Y %H:%M:%S", "%d.%m.%Y %H:%M", "%d.%m.%Y", "%d.%m.%y %H:%M", "%Y/%m/%d %H:%M:%S", "%Y/%m/%d %H:%M",
    "%Y/%m/%d", "%d-%m-%Y %H:%M:%S", "%d-%m-%Y %H:%M", "%d.%m.%Y %H:%M:%S.%f",
)  # fmt: skip
_EITHER = ("{}/{}/%Y %H:%M:%S", "{}/{}/%Y %H:%M", "{}/{}/%Y", "{}/{}/%Y %I:%M:%S %p", "{}/{}/%Y %I:%M %p")


@dataclass(frozen=True)
class Choices:
    """What a person says of the columns; what is None or empty is found out.

    Attributes:
        unit, cycle, time, rul: Names of columns.
        time_format, zone, cycle_length, gather: Of the time stamps; see `sources.time_stamps`.
        ends_in_failure: Every history ends with the failure.
        end_unknown: Nobody knows: bounds can be measured, and nothing can be trained.
        settings, sensors: Column → channel; "" for a name from the header.
        ignored: Columns that are left out.
    """

    unit: str | None = None
    cycle: str | None = None
    time: str | None = None
    rul: str | None = None
    time_format: str | None = None
    zone: str | None = None
    cycle_length: str | None = None
    gather: str | None = None
    ends_in_failure: bool = False
    end_unknown: bool = False
    settings: tuple[tuple[str, str], ...] = ()
    sensors: tuple[tuple[str, str], ...] = ()
    ignored: tuple[str, ...] = ()


@dataclass(frozen=True)
class LeftOut:
    """A column that no model reads, and why."""

    column: str
    why: str


@dataclass(frozen=True)
class Columns:
    """What the columns are.

    Attributes:
        unit: Of the machine.
        cycle: Of the cycles; or
        time: how time stamps become cycles.
        rul: Of the remaining cycles; None if there is none.
        ends_in_failure: Whether every history ends with the failure.
        channels: Column → channel, of all that is read.
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
    channels: dict[str, str]
    settings: frozenset[str]
    asked: frozenset[str]
    left_out: tuple[LeftOut, ...]
    said: tuple[str, ...]


def is_called(column: str, kind: str) -> bool:
    """Whether a word in the name of a column means this kind."""
    words = channel_name(column).split("_")
    return any(re.fullmatch(_CALLED[kind], word) for word in (*words, "".join(words)))


def tell_columns(export: Export, choices: Choices) -> Columns:
    """What the columns of an export are.

    Raises:
        ConfigError: A named column is not there; or two columns could be the unit, or two forms a time stamp has; or
            nobody said how histories end.
        DataError: There is no unit, no cycle and no time; one unit only; no channel; or too many.
    """
    named = [choices.unit, choices.cycle, choices.time, choices.rul, *choices.ignored]
    given = [*filter(None, named), *(column for column, _ in (*choices.settings, *choices.sensors))]
    _require_columns(export, given)
    unit, moment = _unit_and_moment(export, choices)
    said = list(moment.said)
    order = _order(export, unit, moment)
    _require_units(export, unit, order)
    rul, ends = _end(export, choices, order, {unit, moment.column})
    channels, left_out = _channels(export, choices, order, {unit, moment.column, rul})
    asked_settings = {column for column, _ in choices.settings}
    asked = frozenset((*asked_settings, *(column for column, _ in choices.sensors)))
    settings = {column for column in channels if column not in asked and is_called(column, "setting")}
    return Columns(
        unit=unit,
        cycle=None if moment.time else moment.column,
        time=moment.time,
        rul=rul,
        ends_in_failure=ends,
        channels=channels,
        settings=frozenset(asked_settings | settings),
        asked=asked,
        left_out=tuple(left_out),
        said=tuple(said),
    )


def measure(column: str) -> tuple[str, str]:
    """The unit of measure of a column, and what it says beside it."""
    return unit_of_measure(column), description(column)


@dataclass(frozen=True)
class _Moment:
    column: str
    time: TimeParams | None = None
    said: tuple[str, ...] = ()


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


def _unit_and_moment(export: Export, choices: Choices) -> tuple[str, _Moment]:
    moments = _moments(export, choices)
    units = [choices.unit] if choices.unit else _unit_candidates(export)
    scored = sorted(
        ((score, unit, moment) for moment in moments for unit in units if (score := _score(export, unit, moment))),
        key=lambda item: -item[0],
    )
    if not scored:
        columns = visible(list_names(export.texts.columns))
        what = "cycles 1, 2, 3, … or time stamps" if not moments else "a column that names the machine"
        raise DataError(
            f"{export.path}: expected {what}, got none that is told: {columns}",
            remedy="Name them: --unit COLUMN, and --cycle COLUMN or --time COLUMN",
        )
    best = [item for item in scored if item[0] == scored[0][0]]
    others = {unit for _, unit, _ in best}
    if len(others) > 1:
        raise ConfigError(
            f"{export.path}: expected one column that names the machine, got {len(others)} that could: "
            f"{visible(', '.join(sorted(others)))}",
            remedy="Name the one that it is: --unit COLUMN",
        )
    _, unit, moment = best[0]
    if moment.time is not None and "%d" in moment.time.format and not choices.time_format:
        _require_one_order(export, moment.time)
    return unit, moment


def _moments(export: Export, choices: Choices) -> list[_Moment]:
    if choices.cycle and choices.time:
        raise ConfigError("expected --cycle or --time, got both")
    if choices.cycle:
        return [_Moment(choices.cycle)]
    columns = [choices.time] if choices.time else list(export.texts.columns)
    times = [moment for column in columns if (moment := _time(export, column, choices)) is not None]
    if choices.time:
        if not times:
            raise ConfigError(
                f"{export.path}: expected times in {choices.time!r}, got {export.texts[choices.time].iloc[0][:40]!r}",
                remedy='Say how they are written: --time-format "%d.%m.%Y %H:%M"',
            )
        return times
    whole = [column for column in columns if column != choices.unit and _counts(export.numbers[column])]
    return [*map(_Moment, whole[:MAX_CANDIDATES]), *times[:MAX_CANDIDATES]]


def _counts(values: pd.Series[Any]) -> bool:
    number = values.to_numpy()
    return bool(len(number) and np.isfinite(number).all() and (number == np.floor(number)).all() and number.min() == 1)


def _time(export: Export, column: str, choices: Choices) -> _Moment | None:
    cells = export.texts[column]
    cells = cells[~cells.isin(MISSING)]
    if not len(cells) or (export.numbers[column].notna().mean() > 0.5 and not choices.time_format):
        return None
    looked_at = cells.iloc[:: max(1, len(cells) // LOOKED_AT)]
    forms = (choices.time_format,) if choices.time_format else (*_FORMS, *_either("%d", "%m"), *_either("%m", "%d"))
    zone = choices.zone or "UTC"
    for form in forms:
        params = _time_params(column, form, zone, choices)
        if read_stamps(looked_at, params)[0].notna().mean() >= 0.99:
            how = f"in the form {form}" if form else "in ISO 8601"
            offset = "%z" in form or (not form and looked_at.str.contains(r"(?:Z|[+-]\d\d:?\d\d)$").all())
            assumed = "" if offset else f", in {zone}" + ("" if choices.zone else " (assumed: --zone if it is another)")
            each = "each row is a cycle" if params.length is None else f"cycles of {params.cycle}"
            return _Moment(column, params, (f"time stamps in {visible(column)!r} {how}{assumed}; {each}",))
    return None


def _time_params(column: str, form: str, zone: str, choices: Choices) -> TimeParams:
    value = {"column": column, "format": form, "zone": zone}
    value |= {"cycle": choices.cycle_length} if choices.cycle_length else {}
    value |= {"gather": choices.gather} if choices.gather else {}
    return parse(TimeParams, value, "--time")


def _either(first: str, second: str) -> list[str]:
    return [form.format(first, second) for form in _EITHER]


def _require_one_order(export: Export, time: TimeParams) -> None:
    """Refuse dates of which nobody can say which number is the month."""
    if "/" not in time.format or not time.format.startswith(("%d/%m", "%m/%d")):
        return
    swapped = time.format.translate(str.maketrans("dm", "md"))
    other = time.model_copy(update={"format": swapped})
    if read_stamps(export.texts[time.column], other)[0].notna().all():
        raise ConfigError(
            f"{export.path}: {visible(time.column)}: expected days and months that can be told apart, got "
            f"{export.texts[time.column].iloc[0][:20]!r} and others that fit both orders",
            remedy=f'Say which it is: --time-format "{time.format}" or --time-format "{swapped}"',
        )


def _unit_candidates(export: Export) -> list[str]:
    found = []
    for column in export.texts.columns:
        cells = export.texts[column]
        number = export.numbers[column].to_numpy()
        is_fraction = np.isfinite(number).all() and (number != np.floor(number)).any()
        if not is_fraction and (cells != "").all() and cells.nunique() <= max(1, len(cells) // 2):
            found.append(column)
    return sorted(found, key=lambda column: not is_called(column, "unit"))[:MAX_CANDIDATES]


def _score(export: Export, unit: str, moment: _Moment) -> float:
    """How well two columns name each row once; 0 if they do not."""
    if unit == moment.column:
        return 0.0
    names = export.texts[unit]
    if moment.time is None:
        cycle = export.numbers[moment.column]
        groups = cycle.groupby(names)
        runs = not pd.DataFrame({"u": names, "c": cycle}).duplicated().any()
        runs = runs and bool((groups.min() == 1).all() and (groups.max() == groups.count()).all())
        called = is_called(moment.column, "cycle")
        if not runs and not (export.is_whole is False or called):
            return 0.0
        score = 4.0 if runs else 1.0
        many = 0.5 if names.nunique() > 1 else 0.0
    else:
        twice = pd.DataFrame({"u": names, "t": export.texts[moment.column]}).duplicated().mean()
        if twice > 0.5:
            return 0.0
        called, score, many = is_called(moment.column, "time"), 3.0 if not twice else 1.0, 0.0
        many = 0.5 if names.nunique() > 1 else 0.0
    return score + many + 0.5 * is_called(unit, "unit") + 0.25 * called


def _order(export: Export, unit: str, moment: _Moment) -> pd.DataFrame:
    """The rows in order: unit, cycle and the row of the export, sorted."""
    names = export.texts[unit].map(unit_name)
    if moment.time is None:
        cycle = export.numbers[moment.column]
    else:
        stamps, _ = read_stamps(export.texts[moment.column], moment.time)
        known = stamps.notna()
        cycle = pd.Series(np.nan, index=names.index)
        cycle[known] = count_cycles(names[known], stamps[known], None).astype(float)
    order = pd.DataFrame({"unit": names, "cycle": cycle, "row": np.arange(len(names))}).dropna()
    return order.sort_values(["unit", "cycle"], kind="stable", ignore_index=True)


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


def _end(export: Export, choices: Choices, order: pd.DataFrame, taken: set[str]) -> tuple[str | None, bool]:
    """The column of the label, or that histories end in the failure; neither only where a person said so."""
    asked = [bool(choices.rul), choices.ends_in_failure, choices.end_unknown]
    if sum(asked) > 1:
        raise ConfigError("expected one of --rul, --ends-in-failure and --end-unknown, got several")
    if any(asked):
        return choices.rul, choices.ends_in_failure
    found = [c for c in export.texts.columns if c not in taken and _falls_by_one(export, c, order)]
    if len(found) == 1:
        return found[0], False
    raise ConfigError(
        f"{export.path}: expected to know how the histories end, got "
        + (f"several columns that fall by one a cycle: {visible(', '.join(found))}" if found else "no such column"),
        remedy="--ends-in-failure if each history ends with the failure; --rul COLUMN if a column counts the remaining "
        "cycles; --end-unknown if nobody knows: then bounds can be proposed, and nothing can be trained.",
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
    export: Export, choices: Choices, order: pd.DataFrame, taken: set[str | None]
) -> tuple[dict[str, str], list[LeftOut]]:
    asked = dict((*choices.settings, *choices.sensors))
    found, left_out = [], [LeftOut(name, why) for name, why in _unusable(export)]
    for column in export.texts.columns:
        if column in taken:
            continue
        why = "so it was asked" if column in choices.ignored else ""
        why = why or ("" if column in asked else _why_no_channel(export, column, order))
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


def _why_no_channel(export: Export, column: str, order: pd.DataFrame) -> str:
    """Why a column is no channel; "" if it may be one."""
    if not column.isprintable():
        return "its name has characters that cannot be seen"
    cells, number = export.texts[column], export.numbers[column]
    missing = cells.isin((*MISSING, *(export.form.missing if export.form else ())))
    if missing.all():
        return "no value in any row"
    if number.notna().sum() < 0.5 * (~missing).sum():
        kinds = cells[~missing].nunique()
        return f"text: {kinds:,} different, such as {cells[~missing].iloc[0][:30]!r}"
    if missing.mean() > MOST_MISSING:
        return f"no value in {missing.mean():.0%} of the rows"
    values = _in_order(export, column, order)
    if _falls_by_one(export, column, order) or _counts_with_cycles(values, order):
        return "it counts with the cycles: a model would read the age, or the label, from it"
    if _marks_the_end(values, order):
        return "it changes in the last row of histories only: it marks the end"
    return ""


def _counts_with_cycles(values: Any, order: pd.DataFrame) -> bool:
    """Whether in every unit the value is a straight line over the cycles, with one slope."""
    steps = pd.DataFrame({"v": values, "c": order["cycle"]}).groupby(order["unit"]).diff()
    slope = (steps["v"] / steps["c"]).dropna().to_numpy()
    return bool(len(slope) > 2 and slope[0] != 0 and np.allclose(slope, slope[0], rtol=1e-6, atol=0))


def _marks_the_end(values: Any, order: pd.DataFrame) -> bool:
    """Whether the value changes in last rows, and nowhere else."""
    if len(np.unique(values[np.isfinite(values)])) != 2:
        return False
    unit = order["unit"].to_numpy()
    is_last = np.append(unit[1:] != unit[:-1], True)
    inside = values[~is_last]
    return bool(len(inside) and (inside == inside[0]).all() and (values[is_last] != inside[0]).any())


def kinds_of(columns: Columns, levelled: Sequence[str]) -> dict[str, str]:
    """Column → setting or sensor. Where no name says setting, the columns with levels that follow no life are some."""
    settings = columns.settings or frozenset(column for column in levelled if column not in columns.asked)
    return {column: "setting" if column in settings else "sensor" for column in columns.channels}
