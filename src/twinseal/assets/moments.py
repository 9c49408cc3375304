"""Which columns of an export name its rows: the unit, and its cycle or time.

    unit      a column whose values repeat, so that with the cycle or the time each row is there once
    cycle     whole numbers that run 1, 2, 3, … in every unit
    time      text that is a time in one form; day and month are told apart, or it is asked

What a column is called decides only between those that could be it by their values.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from twinseal.assets.exports import FILE, Export
from twinseal.assets.names import channel_name
from twinseal.config import parse
from twinseal.errors import ConfigError, DataError
from twinseal.escaping import visible
from twinseal.telemetry.columns import list_names
from twinseal.telemetry.forms import MISSING
from twinseal.telemetry.time_params import TimeParams
from twinseal.telemetry.time_stamps import read_stamps
from twinseal.telemetry.unit_names import unit_name

LOOKED_AT = 2_000  # cells for the form of a time stamp
MAX_CANDIDATES = 20

_CALLED = {
    "unit": r"unit|machine|asset|engine|device|equipment|serial|id|trafo|transformer|pump|motor|turbine|maschine|"
    r"anlage|geraet|einheit|vehicle|truck|name|nr|no",
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
        unit_in_name: Where the names of files name the machines, as in the mapping.
        time_format, zone, cycle_length, gather: Of the time stamps; see `sources.time_stamps`.
        ends_in_failure: Every history ends with the failure.
        end_unknown: Nobody knows: bounds can be measured, and nothing can be trained.
        settings, sensors: Column → channel; "" for a name from the header.
        ignored: Columns that are left out.
        measured: Column, the unit in which it is written, and the one that the contract shall have; "" for the same.
        scaled: Column, factor and offset.
        failures, replacements: Tables of events, as FILE or FILE:UNIT:TIME; see `event_files`.
    """

    unit: str | None = None
    cycle: str | None = None
    time: str | None = None
    rul: str | None = None
    unit_in_name: str = ""
    time_format: str | None = None
    zone: str | None = None
    cycle_length: str | None = None
    gather: str | None = None
    ends_in_failure: bool = False
    end_unknown: bool = False
    settings: tuple[tuple[str, str], ...] = ()
    sensors: tuple[tuple[str, str], ...] = ()
    ignored: tuple[str, ...] = ()
    measured: tuple[tuple[str, str, str], ...] = ()
    scaled: tuple[tuple[str, float, float], ...] = ()
    failures: str | None = None
    replacements: str | None = None

    @property
    def event_paths(self) -> tuple[str, ...]:
        """What the tables of events may be called: as they were named, and without the columns."""
        given = [text for text in (self.failures, self.replacements) if text]
        return tuple(dict.fromkeys(name for text in given for name in (text, text.rsplit(":", 2)[0])))


@dataclass(frozen=True)
class Moment:
    """What orders the rows of a unit.

    Attributes:
        column: Of cycles or time stamps.
        time: How time stamps become cycles; None for cycles.
        said: What was found out or assumed.
    """

    column: str
    time: TimeParams | None = None
    said: tuple[str, ...] = ()


def cycle_in_words(time: TimeParams | None) -> str:
    """What one cycle is.

    >>> cycle_in_words(TimeParams(column="Zeit", cycle="7d", gather="mean"))
    '7 days, the mean of their readings'
    >>> cycle_in_words(TimeParams(column="Zeit", cycle="1h", gather="last")), cycle_in_words(None)
    ('1 hour, the last of its readings', 'One row of the export')
    """
    match = re.fullmatch(r"(\d+)([a-z]+)", time.cycle) if time else None
    if time is None or match is None:
        return "One row of the export"
    unit = {"s": "second", "min": "minute", "h": "hour", "d": "day"}[match[2]]
    one = match[1] == "1"
    of = f", the {time.gather} of {'its' if one else 'their'} readings" if time.gather else ""
    return f"{match[1]} {unit}{'' if one else 's'}{of}"


def is_called(column: str, kind: str) -> bool:
    """Whether a word in the name of a column means this kind."""
    words = channel_name(column).split("_")
    return any(re.fullmatch(_CALLED[kind], word) for word in (*words, "".join(words)))


def unit_and_moment(export: Export, choices: Choices) -> tuple[str, Moment]:
    """The column that names the machine, and what orders its rows.

    Raises:
        ConfigError: Two columns could be the unit, or two forms a time stamp has; or what was asked does not fit.
        DataError: There is no unit, or no cycle and no time.
    """
    moments = _moments(export, choices)
    units = [choices.unit] if choices.unit else [FILE] if choices.unit_in_name else _unit_candidates(export)
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
    others = sorted({unit for _, unit, _ in best})
    if len(others) > 1 and not _divide_alike(export, others):
        raise ConfigError(
            f"{export.path}: expected one column that names the machine, got {len(others)} that could: "
            f"{visible(', '.join(others))}",
            remedy="Name the one that it is: --unit COLUMN",
        )
    _, unit, moment = best[0]
    if moment.time is not None and "%d" in moment.time.format and not choices.time_format:
        _require_one_order(export, moment.time)
    return unit, moment


def _divide_alike(export: Export, columns: list[str]) -> bool:
    """Whether all these columns divide the rows into the same units."""
    first, *others = (export.texts[column] for column in columns)
    pairs = (pd.DataFrame({"a": first, "b": other}).drop_duplicates() for other in others)
    return all(len(pair) == first.nunique() == pair["b"].nunique() for pair in pairs)


def _moments(export: Export, choices: Choices) -> list[Moment]:
    if choices.cycle and choices.time:
        raise ConfigError("expected --cycle or --time, got both")
    if choices.cycle:
        return [Moment(choices.cycle)]
    columns = [choices.time] if choices.time else [name for name in export.texts.columns if name != FILE]
    times = [moment for column in columns if (moment := _time(export, column, choices)) is not None]
    if choices.time:
        if not times:
            raise ConfigError(
                f"{export.path}: expected times in {choices.time!r}, got {export.texts[choices.time].iloc[0][:40]!r}",
                remedy='Say how they are written: --time-format "%d.%m.%Y %H:%M"',
            )
        return times
    whole = [column for column in columns if column != choices.unit and _counts(export.numbers[column])]
    return [*map(Moment, whole[:MAX_CANDIDATES]), *times[:MAX_CANDIDATES]]


def _counts(values: pd.Series[Any]) -> bool:
    number = values.to_numpy()
    return bool(len(number) and np.isfinite(number).all() and (number == np.floor(number)).all() and number.min() == 1)


def _time(export: Export, column: str, choices: Choices) -> Moment | None:
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
            each = "each row is a cycle" if params.seconds is None else f"cycles of {params.cycle}"
            return Moment(column, params, (f"time stamps in {visible(column)!r} {how}{assumed}; {each}",))
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


def _score(export: Export, unit: str, moment: Moment) -> float:
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
    return score + many + (0.5 * is_called(unit, "unit") if unit != FILE else -0.25) + 0.25 * called


def ordered_rows(export: Export, unit: str, moment: Moment) -> pd.DataFrame:
    """The rows in order: unit, cycle and the row of the export, sorted."""
    names = export.texts[unit].map(unit_name)
    if moment.time is None:
        cycle = export.numbers[moment.column]
    else:
        stamps, _ = read_stamps(export.texts[moment.column], moment.time)
        known = stamps.notna()
        cycle = pd.Series(np.nan, index=names.index)
        cycle[known] = stamps[known].groupby(names[known]).rank(method="first")
    order = pd.DataFrame({"unit": names, "cycle": cycle, "row": np.arange(len(names))}).dropna()
    return order.sort_values(["unit", "cycle"], kind="stable", ignore_index=True)
