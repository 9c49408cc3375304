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

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from twinseal.telemetry.time_params import START, TimeParams

MAX_STAMP = 200  # letters
_OFFSET = r"(?:Z|[+-]\d\d:?\d\d|[T ]\d\d:?\d\d\S*\s?[+-]\d\d)\s*$"
_PLAIN = r"^\d[^T ]*(?:[T ][^+-]*)?$"  # without an offset; no word either: to pandas `now` is a time
_EPOCH = pd.Timestamp(0, tz="UTC")


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
    if params.seconds is None:
        return moments.groupby(units).rank(method="first").astype(np.int64)
    return ((moments - moments.groupby(units).transform("min")) // pd.Timedelta(seconds=params.seconds) + 1).astype(
        np.int64
    )


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
