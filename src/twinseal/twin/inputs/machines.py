"""Rows of machines whose readings come one by one: the newest of each channel, and a row when the cycle changes.

So come Sparkplug and OPC UA: a reading that did not change is not sent again, and stays as it is.

    cycle: {of: Cycle}                                   # a reading that counts 1, 2, 3, …
    cycle: {length_s: 3600, since: {pump-1: "2026-01-01T00:00:00Z"}}    # hours since the machine was new

A cycle that a reading counts gives its row when the count comes: with what came before it, or together with it. A cycle
by the clock gives its row when something comes of a later one: with what was last in it. Clocks are those of the
senders. Nothing is counted here: a count of ours would begin anew with each start, and make old machines young.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from twinseal.config import Field, Settings
from twinseal.twin.inputs.source import Item, Unreadable, UnsignedRow
from twinseal.twin.rows import cycle_of

COUNT = ""  # among readings: that which counts the cycles


class CycleSettings(Settings):
    """What a cycle is.

    Attributes:
        of: The reading that counts; or else
        length_s: How long a cycle lasts, and
        since: Unit → when it was new, ISO 8601 with an offset.

    Raises:
        ValueError: Both are given, or none, or a time is none.
    """

    of: str = ""
    length_s: int = 0
    since: dict[str, str] = Field(default_factory=dict)

    def model_post_init(self, _context: Any, /) -> None:
        """Refuse two meanings."""
        if bool(self.of) == bool(self.length_s) or bool(self.since) != bool(self.length_s):
            raise ValueError("cycle: expected `of` (what counts), or `length_s` and `since`, one of both")
        if not 0 <= self.length_s <= 366 * 86_400:
            raise ValueError(f"cycle: length_s: expected 1 to {366 * 86_400}, got {self.length_s}")
        for unit in self.since:
            self.begin_ms(unit)

    def begin_ms(self, unit: str) -> int | None:
        """When a unit was new, milliseconds since 1970; None if that is not said."""
        text = self.since.get(unit)
        if text is None:
            return None
        try:
            time = datetime.fromisoformat(text)
        except ValueError as error:
            raise ValueError(f"cycle: since: {unit}: expected a time such as 2026-01-01T00:00:00Z") from error
        if time.tzinfo is None:
            raise ValueError(f"cycle: since: {unit}: expected a time with its offset, such as Z, got {text!r:.40}")
        return int(time.astimezone(UTC).timestamp() * 1000)


class Machine:
    """The newest readings of one machine.

    Args:
        unit: Its name.
        cycle: What a cycle is.
        origin: For messages.

    Attributes:
        unit: Its name.
    """

    def __init__(self, unit: str, cycle: CycleSettings, origin: str) -> None:
        self.unit, self._cycle, self._origin = unit, cycle, origin
        self._begin_ms = cycle.begin_ms(unit)
        self._readings: dict[str, float] = {}
        self._last = 0  # of cycles: that of the last row, or by the clock that of the last reading

    def take(self, come: Mapping[str, Any], time_ms: int | None) -> Sequence[Item]:
        """What follows from readings that came together.

        Args:
            come: Channel → reading; None where there is none now, which was said. COUNT → the one that counts.
            time_ms: When they were taken, milliseconds since 1970, UTC.
        """
        items: list[Item] = []
        cycle = self._by_clock(time_ms, items) if self._cycle.length_s else 0
        if cycle and self._last and cycle != self._last:
            items.append(self._row(self._last))
        for channel, value in come.items():
            if channel != COUNT:
                self._take_reading(channel, value, items)
        if self._cycle.length_s:
            self._last = cycle or self._last
        elif come.get(COUNT) is not None:
            self._take_count(come[COUNT], items)
        return items

    def _take_count(self, count: Any, items: list[Item]) -> None:
        cycle = cycle_of(count)
        if not cycle:
            items.append(self._unreadable("no cycle", f"{self._cycle.of}: expected a cycle from 1, got {count!r:.40}"))
        elif cycle != self._last:
            self._last = cycle
            items.append(self._row(cycle))

    def _take_reading(self, channel: str, value: Any, items: list[Item]) -> None:
        fault = ""
        if value is None:
            self._readings.pop(channel, None)
            return
        if isinstance(value, bool) or not isinstance(value, int | float):
            fault, got = "wrong datatype", type(value).__name__
        elif not math.isfinite(value):
            fault, got = "not a number", str(value)
        if fault:
            self._readings.pop(channel, None)  # the one before is not the newest any more
            items.append(self._unreadable(fault, f"{channel}: expected a number, got {got}"))
        else:
            self._readings[channel] = float(value)

    def _by_clock(self, time_ms: int | None, items: list[Item]) -> int:
        if self._begin_ms is None or time_ms is None or time_ms < self._begin_ms:
            expected = "a time of the readings, after that in cycle.since of the settings"
            items.append(self._unreadable("no cycle", f"{self.unit}: expected {expected}, got {time_ms}"))
            return 0
        return (time_ms - self._begin_ms) // (self._cycle.length_s * 1000) + 1

    def _row(self, cycle: int) -> UnsignedRow:
        return UnsignedRow({"unit": self.unit, "cycle": cycle, **self._readings}, self._origin)

    def _unreadable(self, reason: str, text: str) -> Unreadable:
        return Unreadable(reason, f"{self._origin}: {text}", self._origin)
