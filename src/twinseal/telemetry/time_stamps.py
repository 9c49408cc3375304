"""Time stamps instead of cycles: read in the form and the zone that the params name, and counted into cycles.

    time:
      column: Timestamp
      format: "%d.%m.%Y %H:%M"      # as Python's strptime; left out: ISO 8601
      zone: Europe/Berlin           # of stamps that name no offset themselves
      cycle: 1h                     # sample: each row is one cycle; or a length in s, min, h or d
      gather: mean                  # of the rows in one cycle: mean, last or first

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

SAMPLE = "sample"
_LENGTH = re.compile(r"([1-9][0-9]{0,5})(s|min|h|d)\Z")
_OFFSET = r"(?:Z|[+-]\d\d:?\d\d)\s*$"
_EPOCH = pd.Timestamp(0, tz="UTC")


class TimeParams(Settings):
    """How time stamps become cycles.

    Attributes:
        column: Of the time stamps.
        format: Of a stamp, as strptime has it; "" for ISO 8601.
        zone: Of stamps without an offset of their own, e.g. Europe/Berlin.
        cycle: `sample`, or how long a cycle lasts, e.g. 10min, 1h, 1d.
        gather: What the readings of several rows in one cycle become; "" where there must be one.

    Raises:
        ValueError: There is no such zone, the length is none, or `gather` is given for single samples.
    """

    column: str
    format: str = ""
    zone: str = "UTC"
    cycle: str = SAMPLE
    gather: Literal["", "mean", "last", "first"] = ""

    def model_post_init(self, _context: Any, /) -> None:
        """Refuse a zone or a length that is none."""
        try:
            zoneinfo.ZoneInfo(self.zone)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError(f"zone: expected a name such as Europe/Berlin or UTC, got {self.zone[:60]!r}") from error
        if self.cycle != SAMPLE and not _LENGTH.match(self.cycle):
            raise ValueError(f"cycle: expected 'sample' or a length such as 10min, 1h or 1d, got {self.cycle[:40]!r}")
        if self.cycle == SAMPLE and self.gather:
            raise ValueError("gather: expected a length as cycle, got 'sample', where each row is a cycle")

    @property
    def length(self) -> pd.Timedelta | None:
        """How long a cycle lasts; None where each row is one."""
        return None if self.cycle == SAMPLE else pd.Timedelta(self.cycle.replace("d", "D"))


def read_stamps(texts: Any, params: TimeParams) -> tuple[Any, str]:
    """The moments, in UTC; NaT where a text is no stamp of the form or the zone. And what a stamp must be, in words."""
    given = params.format if not pd.api.types.is_datetime64_any_dtype(texts) else ""  # Parquet has moments of its own
    form: Any = given or "ISO8601"
    text = texts.astype(str).str.strip()
    with_offset = text.str.contains(_OFFSET) if not given else text.notna() & ("%z" in given)
    expected = f"a time like {params.format or '2026-01-31T06:00:00'} that {params.zone} has once"
    own = pd.to_datetime(text.where(with_offset), format=form, errors="coerce", utc=True)
    naive = pd.to_datetime(text.mask(with_offset), format=form, errors="coerce")
    local = naive.dt.tz_localize(params.zone, ambiguous="NaT", nonexistent="NaT").dt.tz_convert("UTC")
    return own.fillna(local), expected


def count_cycles(units: Any, moments: Any, length: pd.Timedelta | None) -> Any:
    """The cycle of each row, from 1, within its unit, (R,) int64: by order of time, or by `length` from its first."""
    if length is None:
        return moments.groupby(units).rank(method="first").astype(np.int64)
    return ((moments - moments.groupby(units).transform("min")) // length + 1).astype(np.int64)


def gather(table: pd.DataFrame, how: str, sums: Sequence[str] = ()) -> pd.DataFrame:
    """One row for each unit and cycle: the mean, last or first of its readings by time; NaN counts as none.

    Args:
        table: The columns unit, cycle, moment, and numbers (float64); of other columns the first value is kept.
        how: `mean`, `last` or `first`.
        sums: Columns that add up instead.
    """
    groups = table.sort_values("moment", kind="stable").groupby(["unit", "cycle"], sort=True)
    names = [name for name in table.columns if name not in ("unit", "cycle", "moment")]
    ways: dict[str, Any] = {name: how if table[name].dtype == np.float64 else "first" for name in names}
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
