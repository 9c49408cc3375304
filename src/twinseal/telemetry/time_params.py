"""How time stamps become cycles: what the params say of it. `time_stamps` reads them.

A module of its own, and light: a mapping is part of what a twin verifies before it reads any file.

>>> TimeParams(column="Time", cycle="10min").seconds
600
"""

from __future__ import annotations

import re
import zoneinfo
from datetime import UTC, datetime
from typing import Any, Literal

from twinseal.config import Settings

SAMPLE, START = "sample", "start"
MAX_FORMAT = 100  # letters
MAX_NAME = 200  # of a column
_SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86_400}
MAX_SECONDS = 36_525 * 86_400  # of a cycle: pandas counts nanoseconds in 64 bits
_LENGTH = re.compile(r"([1-9][0-9]{0,5})(s|min|h|d)\Z")
_DIRECTIVES = "aAbBdfGHIjmMpSuUVwWyYz%"  # that pandas, which reads the stamps, knows


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
        if (self.seconds or 0) > MAX_SECONDS:
            raise ValueError(f"cycle: expected a length of at most a century, got {self.cycle}")
        if bool(self.running) != (self.cycle == START):
            raise ValueError("running: expected the column that tells whether the machine runs, for cycle: start alone")
        if self.cycle == SAMPLE and self.gather:
            raise ValueError("gather: expected a length as cycle, got 'sample', where each row is a cycle")

    @property
    def seconds(self) -> int | None:
        """How long a cycle lasts; None where each row, or each run, is one."""
        found = _LENGTH.match(self.cycle)
        return int(found[1]) * _SECONDS[found[2]] if found else None


def _check_format(form: str) -> None:
    if form and ("%" not in form or len(form) > MAX_FORMAT):  # pandas has words of its own: with `mixed` it guesses
        raise ValueError(f"format: expected one such as %d.%m.%Y of at most {MAX_FORMAT} letters, got {form[:60]!r}")
    if "%Z" in form:
        raise ValueError("format: expected %z for an offset such as +01:00, or `zone` for all stamps, got %Z")
    try:
        if form:  # a directive that is none, or that needs another, is refused by both
            datetime.strptime(datetime(2026, 1, 31, 6, tzinfo=UTC).strftime(form), form)
    except ValueError as error:
        raise ValueError(f"format: expected one as Python's strptime has it, got {form[:60]!r} ({error})") from error
    odd = set(re.findall("%(.)", form, re.DOTALL)) - set(_DIRECTIVES)
    if odd:
        raise ValueError(f"format: expected directives %{', %'.join(_DIRECTIVES)}, got %{min(odd)}")
