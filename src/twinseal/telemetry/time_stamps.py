"""Time stamps instead of cycles: read in the form and the zone that the params name, and counted into cycles.

    time:
      column: Timestamp
      format: "%d.%m.%Y %H:%M"      # as Python's strptime; left out: ISO 8601
      zone: Europe/Berlin           # of stamps that name no offset themselves
      cycle: 1h                     # sample: each row is one cycle; a length in s, min, h or d; or start
      gather: mean                  # of the rows in one cycle: mean, last or first
      running: Speed                # for cycle: start. The machine runs in rows where this column
      above: 100                    # is above this number; a cycle is one run, and other rows are not read

A stamp that the zone has twice or never (daylight saving) is at fault; so are two rows of a unit at one time, where
each row is a cycle. Cycles of a fixed length are counted from the first row of each unit; one without any row is a gap,
which validation judges.
"""

from __future__ import annotations

import re
import zoneinfo
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd

from twinseal.config import Settings

SAMPLE, START = "sample", "start"
MAX_FORMAT, MAX_STAMP = 100, 200  # letters
MAX_NAME = 200  # of a column
_SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86_400}
MAX_SECONDS = 36_525 * 86_400  # of a cycle: pandas counts nanoseconds in 64 bits
_LENGTH = re.compile(r"([1-9][0-9]{0,5})(s|min|h|d)\Z")
_OFFSET = r"(?:Z|[+-]\d\d:?\d\d|[T ]\d\d:?\d\d\S*\s?[+-]\d\d)\s*$"
_PLAIN = r"^\d[^T ]*(?:[T ][^+-]*)?$"  # without an offset; no word either: to pandas `now` is a time
_EPOCH = pd.Timestamp(0, tz="UTC")


class TimeParams(Settings):
    """How time stamps become cycles.

    Attributes:
        column: Of the time stamps.
        format: Of a stamp, as strptime has it; "" for ISO 8601.
        zone: Of stamps without an offset of their own, e.g. Europe/Berlin.
        cycle: `sample`; how long a cycle lasts, e.g. 10min, 1h, 1d; or `start`: each run of the machine is a cycle.
        gather: What the readings of several rows in one cycle become; "" where there must be one.
        running: Column that tells whether the machine runs, where a cycle is a run.
        above: It runs where that column is above this number.

    Raises:
        ValueError: There is no such zone, the format or the length is none, `gather` is given for single samples, or
            `running` without `start` or the other way round.
    """

    column: str
    format: str = ""
    zone: str = "UTC"
    cycle: str = SAMPLE
    gather: Literal["", "mean", "last", "first"] = ""
    running: str = ""
    above: float = 0.0

    def model_post_init(self, _context: Any, /) -> None:
        """Refuse a zone or a length that is none."""
        try:
            zoneinfo.ZoneInfo(self.zone)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError(f"zone: expected a name such as Europe/Berlin or UTC, got {self.zone[:60]!r}") from error
        _check_format(self.format)
        if max(len(self.column), len(self.running)) > MAX_NAME:
            raise ValueError(f"column, running: expected names of at most {MAX_NAME} letters, got longer ones")
        if self.cycle not in (SAMPLE, START) and not _LENGTH.match(self.cycle):
            raise ValueError(
                f"cycle: expected 'sample', 'start' or a length such as 10min, 1h or 1d, got {self.cycle[:40]!r}"
            )
        length = _LENGTH.match(self.cycle)
        if length and int(length[1]) * _SECONDS[length[2]] > MAX_SECONDS:
            raise ValueError(f"cycle: expected a length of at most a century, got {self.cycle}")
        if bool(self.running) != (self.cycle == START):
            raise ValueError("running: expected the column that tells whether the machine runs, for cycle: start alone")
        if self.cycle == SAMPLE and self.gather:
            raise ValueError("gather: expected a length as cycle, got 'sample', where each row is a cycle")

    @property
    def length(self) -> pd.Timedelta | None:
        """How long a cycle lasts; None where each row, or each run, is one."""
        return None if self.cycle in (SAMPLE, START) else pd.Timedelta(self.cycle.replace("d", "D"))


def _check_format(form: str) -> None:
    if form and ("%" not in form or len(form) > MAX_FORMAT):  # pandas has words of its own: with `mixed` it guesses
        raise ValueError(f"format: expected one such as %d.%m.%Y of at most {MAX_FORMAT} letters, got {form[:60]!r}")
    if "%Z" in form:
        raise ValueError("format: expected %z for an offset such as +01:00, or `zone` for all stamps, got %Z")
    try:
        pd.to_datetime("", format=form or None, errors="coerce")
    except ValueError as error:
        raise ValueError(f"format: expected one as Python's strptime has it, got {form[:60]!r} ({error})") from error


def read_stamps(texts: Any, params: TimeParams) -> tuple[Any, str]:
    """The moments, in UTC; NaT where a text is no stamp of the form or the zone. And what a stamp must be, in words."""
    given = params.format if not pd.api.types.is_datetime64_any_dtype(texts) else ""  # Parquet has moments of its own
    form: Any = given or "ISO8601"
    text = texts.astype(str).str.strip()
    text = text.where(text.str.len() <= MAX_STAMP, "")  # a long cell is no stamp, and would take long to find that out
    with_offset = text.str.contains(_OFFSET) if not given else text.notna() & ("%z" in given)
    expected = f"a time like {params.format or '2026-01-31T06:00:00'} that {params.zone} has once"
    own = pd.to_datetime(text.where(with_offset), format=form, errors="coerce", utc=True)
    plain = ~with_offset & (text.str.contains(_PLAIN) if not given else True)
    naive = pd.to_datetime(text.where(plain), format=form, errors="coerce")
    local = naive.dt.tz_localize(params.zone, ambiguous="NaT", nonexistent="NaT").dt.tz_convert("UTC")
    return own.fillna(local), expected


def count_cycles(units: Any, moments: Any, params: TimeParams, running: Any = None) -> Any:
    """The cycle of each row, from 1, within its unit, (R,) int64; 0 in rows in which the machine does not run.

    Args:
        units: Of each row, (R,).
        moments: Of each row, (R,).
        params: Whether a cycle is a row, a length of time from the unit's first row, or a run.
        running: The column that tells whether it runs, (R,), where a cycle is a run.
    """
    if params.cycle == START:
        rows: Any = pd.DataFrame({"unit": units, "moment": moments, "runs": running > params.above})
        rows = rows.sort_values(["unit", "moment"], kind="stable")
        begins = rows["runs"] & ~rows.groupby("unit")["runs"].shift(fill_value=False)
        return (begins.groupby(rows["unit"]).cumsum() * rows["runs"]).reindex(moments.index).astype(np.int64)
    length = params.length
    if length is None:
        return moments.groupby(units).rank(method="first").astype(np.int64)
    return ((moments - moments.groupby(units).transform("min")) // length + 1).astype(np.int64)


def gather(table: pd.DataFrame, how: str, sums: Sequence[str] = ()) -> pd.DataFrame:
    """One row for each unit and cycle: the mean, last or first of its readings by time; NaN counts as none.

    Args:
        table: The columns unit, cycle, moment, and numbers; of other columns the first value is kept.
        how: `mean`, `last` or `first`.
        sums: Columns that add up instead.
    """
    groups = table.sort_values("moment", kind="stable").groupby(["unit", "cycle"], sort=True)
    names = [name for name in table.columns if name not in ("unit", "cycle", "moment")]
    ways: dict[str, Any] = {name: how if table[name].dtype.kind == "f" else "first" for name in names}
    found: pd.DataFrame = groups.agg({**ways, **dict.fromkeys(sums, "sum"), "moment": "first"}).reset_index()
    return found


def remarks(units: Any, moments: Any) -> tuple[str, ...]:
    """What a person should know of the stamps: some before 1970, the usual step and the largest gap."""
    found = []
    early = int((moments < _EPOCH).sum())
    if early:
        found.append(f"{early} time stamps are before 1970: is the clock of the recorder right?")
    order: Any = pd.DataFrame({"unit": units, "moment": moments}).sort_values(["unit", "moment"])
    steps = order.groupby("unit")["moment"].diff()
    usual, largest = steps.median(), steps.max()
    if pd.notna(usual) and largest > 3 * usual:
        unit = order.loc[steps.idxmax(), "unit"]
        found.append(f"the usual step is {usual}, the largest {largest} (unit {unit})")
    return tuple(found)
