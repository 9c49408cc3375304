"""What a twin answers to programs: one record for each row of telemetry, as a line of JSON or of CSV.

    unit             as it came in the row; null if the row named none
    cycle            after which cycle; null if the row named none
    rul_cycles       remaining useful life; null where there is no estimate: inspect the machine now
    low_cycles, high_cycles  the ends of the 90 % interval; null likewise
    more             true: the estimate is at the model's cap, and the life may be longer
    readings         ok, degraded, or refused
    flagged          channels of this row that the guard replaced
    commissioned     whether the answer rests on the unit's signed baseline
    advice           for people
    model, release   what answers
    trust            valid, ends soon, ended, or unknown (see `trust_ends`)
    time             of the answer, UTC
    signed           true: the row came in a frame that an enrolled device signed; false: devices are enrolled at this
                     twin, and the row came without; null: none are enrolled

A field is never left out, and a new one is added at the end.
"""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from twinseal.twin.runtime import Prediction
from twinseal.twin.trust_ends import Trust

_ENCODER = json.JSONEncoder(ensure_ascii=False)


@dataclass(frozen=True)
class Answer:
    """One record; the attributes are explained in the module's text."""

    unit: str | int | float | None
    cycle: int | None
    rul_cycles: float | None
    low_cycles: float | None
    high_cycles: float | None
    more: bool | None
    readings: str
    flagged: tuple[str, ...]
    commissioned: bool
    advice: str
    model: str
    release: int
    trust: Trust
    time: str
    signed: bool | None

    @classmethod
    def of(
        cls, item: Prediction, model: str, release: int, trust: Trust, now: datetime, signed: bool | None = None
    ) -> Answer:
        """The record of a prediction by `release` of `model`, from a row that was `signed`."""
        none = item.readings == "refused"
        return cls(
            unit=item.sent_unit,
            cycle=item.cycle or None,
            rul_cycles=None if none else item.rul_cycles,
            low_cycles=None if none else item.low_cycles,
            high_cycles=None if none else item.high_cycles,
            more=None if none else item.more,
            readings=item.readings,
            flagged=item.flagged,
            commissioned=item.commissioned,
            advice=item.advice,
            model=model,
            release=release,
            trust=trust,
            time=_stamp(now),
            signed=signed,
        )

    def to_json(self) -> str:
        """One line of JSON, with its end."""
        return _ENCODER.encode(vars(self)) + "\n"  # `asdict` copies deeply: three times as slow

    def to_csv(self) -> str:
        """One line of CSV, with its end; null is an empty cell."""
        return _csv_line([_cell(getattr(self, field.name)) for field in fields(self)])


@lru_cache(maxsize=2)
def _stamp(now: datetime) -> str:
    """All answers of a delivery have one time."""
    return now.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def csv_header() -> str:
    """The names of the fields, as a line of CSV."""
    return _csv_line([field.name for field in fields(Answer)])


def _cell(value: Any) -> str:
    if isinstance(value, tuple):
        return " ".join(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


def _csv_line(cells: list[str]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(cells)
    return line.getvalue()
