"""The alert book: an alert that repeats is said once, until it ends; then its end is said.

What lasts (a source that is lost) is ended by who raised it. What a machine needs ends with an answer that says
otherwise, but not within a minute of the last one that said so: whoever could make readings good and bad in turn would
otherwise send an alert with each. What happens again and again (frames refused, rows lost) ends when it has not
happened for a while. What happens at a moment (a model was swapped) is always said, and never ends.

The book's content is kept with the twin's other memory: after a restart, nothing that still holds is said again, and
what has ended meanwhile is said to be over. At most `MAX_HELD` are held; beyond, alerts are said each time rather than
not at all.

    >>> book, now = AlertBook(), datetime(2026, 3, 1, tzinfo=UTC)
    >>> lost = Alert("telemetry", "source lost", "critical", "expected the broker, got none", "pump-rul", 1, now)
    >>> book.tell(lost) is None, book.tell(lost) is None
    (False, True)
    >>> book.end(lost.key, now).state
    'over'
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from twinseal.digests import canonical_json, parse_json
from twinseal.errors import EvidenceError
from twinseal.telemetry.unit_names import unit_name
from twinseal.twin.answers import Answer
from twinseal.twin.outputs.alert import SEVERITIES, Alert, Key

MAX_HELD = 22_000  # two for each of a full fleet's machines, and some
MAX_BYTES = 96 << 20  # of a full book, at its longest texts in any alphabet
QUIET = timedelta(seconds=60)
MAINTAIN_NOW_CYCLES = 1.0  # as the runtime's advice: the lower end of the interval is below one cycle
_REPEATING = {"frames refused", "rows refused", "rows lost", "frames lost", "late", "dropped"}
_MOMENTS = {"swapped", "fell back", "revoked"}


@dataclass(frozen=True)
class _Held:
    """An alert that was said, when it last held, and how often it was raised."""

    alert: Alert
    last: datetime
    times: int = 1


class AlertBook:
    """Says each alert once.

    Law: `AlertBook.from_bytes(book.to_bytes(), "").held == book.held`.
    """

    def __init__(self) -> None:
        self._held: dict[Key, _Held] = {}

    @property
    def held(self) -> tuple[Alert, ...]:
        """What holds now."""
        return tuple(item.alert for item in self._held.values())

    def tell(self, alert: Alert) -> Alert | None:
        """The alert to say; None if it was said before, at this severity, and still holds."""
        if alert.about in _MOMENTS:
            return alert
        held = self._held.get(alert.key)
        if held is None:
            if len(self._held) < MAX_HELD:
                self._held[alert.key] = _Held(alert, alert.time)
            return alert
        worse = SEVERITIES.index(alert.severity) > SEVERITIES.index(held.alert.severity)
        said = replace(alert, since=held.alert.begin) if worse else held.alert
        self._held[alert.key] = _Held(said, max(held.last, alert.time), held.times + 1)
        return said if worse else None

    def end(self, key: Key, now: datetime, message: str = "") -> Alert | None:
        """The end to say of an alert; None if it does not hold."""
        held = self._held.pop(key, None)
        if held is None:
            return None
        often = f" ({held.times} times)" if held.times > 1 else ""
        return held.alert.over(now, message or f"over{often}: {held.alert.message}")

    def end_quiet(self, now: datetime, after: timedelta = QUIET) -> list[Alert]:
        """The ends of what repeats, and has not for so long."""
        repeating = [key for key in self._held if key.about in _REPEATING]
        return [ended for key in repeating if (ended := self._end_if_quiet(key, now, after))]

    def hear(self, answer: Answer, now: datetime) -> list[Alert]:
        """The alerts to say about a machine, by its newest answer.

        A machine that cannot be estimated does not end an earlier "maintain now": nothing says that it got better.
        """
        about, unit = _about(answer), unit_name(answer.unit)
        if not unit or (about is None and not self._held):
            return []  # of no machine: the twin counts such rows as refused; or nothing that could end
        found = list(self._heard(unit, about, answer, now))
        return [alert for alert in found if alert is not None]

    def _heard(self, unit: str, about: str | None, answer: Answer, now: datetime) -> Iterator[Alert | None]:
        if about != "inspect now":
            yield self._end_if_quiet(Key("machine", "inspect now", unit), now, QUIET)
        if about is None:
            yield self._end_if_quiet(Key("machine", "maintain now", unit), now, QUIET)
            return
        message = f"{unit}, cycle {'unknown' if answer.cycle is None else answer.cycle}: {answer.advice}"
        remedy = "Inspect the machine and its sensors." if about == "inspect now" else "Stop and maintain the machine."
        yield self.tell(
            Alert("machine", about, "critical", message, answer.model, answer.release, now, unit=unit, remedy=remedy)
        )

    def _end_if_quiet(self, key: Key, now: datetime, after: timedelta) -> Alert | None:
        held = self._held.get(key)
        if held is None:
            return None
        if now < held.last:  # the clock was set back: count anew, or it would hold until the clock is there again
            self._held[key] = replace(held, last=now)
            return None
        return self.end(key, now) if now - held.last >= after else None

    def to_bytes(self) -> bytes:
        """Canonical JSON."""
        items = [
            {"alert": item.alert.to_dict(), "last": item.last.astimezone(UTC).isoformat(), "times": item.times}
            for item in self._held.values()
        ]
        return canonical_json({"alerts": items})

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> AlertBook:
        """The book that `to_bytes` gave.

        Raises:
            EvidenceError: It is none.
        """
        value, book = parse_json(data, where, limit=MAX_BYTES, nodes=MAX_HELD * 3), cls()
        try:
            for item in value["alerts"]:
                last, times = datetime.fromisoformat(item["last"]), item["times"]
                if last.tzinfo is None or type(times) is not int or times < 1 or len(item) != 3:
                    raise ValueError("expected when an alert last held, and how often it was raised")
                alert = Alert.from_dict(item["alert"])
                book._held[alert.key] = _Held(alert, last.astimezone(UTC), times)
            if len(value) != 1 or len(value["alerts"]) > MAX_HELD:
                raise ValueError(f"expected at most {MAX_HELD} alerts and nothing else")
        except (KeyError, TypeError, ValueError, OverflowError) as error:  # the year 1 in another time zone
            raise EvidenceError(f"{where}: expected alerts as they were kept, got something else ({error})") from error
        return book


def _about(answer: Answer) -> str | None:
    """What must be done now, by an answer; None: nothing."""
    if answer.readings == "refused" or answer.low_cycles is None:
        return "inspect now"
    return "maintain now" if answer.low_cycles < MAINTAIN_NOW_CYCLES and not answer.more else None
