"""Alerts: what somebody must act on, or know. A line of JSON each, as an answer is.

    alert         its id: the same when it is sent again, and another for its end
    state         raised; or over: what was raised with the same kind, about, detail and unit no longer holds
    kind, about   what it is about, in the words of `ABOUT`
    severity      note, warning, or critical
    unit          the machine; null where it is about none
    detail        which of its kind: a reason of refusal, a source, an output, a device; "" if there is one alone
    message       expected, got, where
    remedy        what a person can do, and who; "" where nothing is to be done
    since, time   when it was raised, and when this was said; UTC
    model, release  what answers now; 0: no release does

A field is never left out, and a new one is added at the end.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal, get_args

from twinseal.digests import canonical_json, sha256
from twinseal.escaping import visible

Kind = Literal["machine", "telemetry", "trust", "model", "output"]
Severity = Literal["note", "warning", "critical"]
AlertState = Literal["raised", "over"]

ABOUT: dict[Kind, tuple[str, ...]] = {
    "machine": ("inspect now", "maintain now"),
    "telemetry": ("frames refused", "rows refused", "rows lost", "frames lost", "source lost", "late"),
    "trust": ("ends soon", "ended", "unknown"),
    "model": ("swapped", "fell back", "revoked", "verification failed", "no release", "registry lost"),
    "output": ("failing", "dropped"),
}
SEVERITIES: tuple[Severity, ...] = get_args(Severity)
MAX_TEXT = 400
_MAX_DETAIL = 80


@dataclass(frozen=True)
class Key:
    """What makes two alerts the same one.

    Attributes:
        kind, about: As in Alert.
        unit: "" for none.
        detail: As in Alert.
    """

    kind: Kind
    about: str
    unit: str = ""
    detail: str = ""


@dataclass(frozen=True)
class Alert:
    """One alert; the attributes are explained in the module's text.

    Law: `Alert.from_dict(alert.to_dict()) == alert`.

    Raises:
        ValueError: Kind and about, severity or state are none of these; a time has no zone.
    """

    kind: Kind
    about: str
    severity: Severity
    message: str
    model: str
    release: int
    time: datetime
    unit: str = ""
    detail: str = ""
    remedy: str = ""
    since: datetime | None = None
    state: AlertState = "raised"

    def __post_init__(self) -> None:
        if self.about not in ABOUT.get(self.kind, ()):
            raise ValueError(f"alert: expected about one of {ABOUT.get(self.kind, ())}, got {self.kind}: {self.about}")
        if self.severity not in SEVERITIES or self.state not in get_args(AlertState):
            raise ValueError(f"alert: expected severity {SEVERITIES} and a state, got {self.severity}, {self.state}")
        if self.time.tzinfo is None or (self.since and self.since.tzinfo is None):
            raise ValueError("alert: expected times with a zone, got one without")
        for name, most in (("message", MAX_TEXT), ("remedy", MAX_TEXT), ("detail", _MAX_DETAIL), ("unit", _MAX_DETAIL)):
            object.__setattr__(self, name, " ".join(visible(getattr(self, name)).split())[:most].rstrip())
        object.__setattr__(self, "since", _in_ms(self.since or self.time))
        object.__setattr__(self, "time", _in_ms(self.time))

    @property
    def key(self) -> Key:
        """What makes it the same alert as another."""
        return Key(self.kind, self.about, self.unit, self.detail)

    @property
    def begin(self) -> datetime:
        """When it was raised: `since`, which is `time` where none was given."""
        return self.since or self.time

    @property
    def id(self) -> str:
        """The same for one alert, whenever it is sent, and after a restart."""
        about = [self.model, self.kind, self.about, self.unit, self.detail, self.severity]
        about += [_stamp(self.begin), self.state]
        return f"msg_{sha256(canonical_json(about))[:32]}"

    def over(self, now: datetime, message: str = "") -> Alert:
        """The same alert when it no longer holds."""
        said = message or f"over: {self.message}"
        return replace(self, state="over", since=self.begin, time=now, message=said, severity="note", remedy="")

    def to_dict(self) -> dict[str, Any]:
        """Plain data, in the order of the module's text."""
        return {
            "alert": self.id,
            "state": self.state,
            "kind": self.kind,
            "about": self.about,
            "severity": self.severity,
            "unit": self.unit or None,
            "detail": self.detail,
            "message": self.message,
            "remedy": self.remedy,
            "since": _stamp(self.begin),
            "time": _stamp(self.time),
            "model": self.model,
            "release": self.release,
        }

    def to_json(self) -> str:
        """One line of JSON, with its end."""
        return json.dumps(self.to_dict(), ensure_ascii=False) + "\n"

    @classmethod
    def from_dict(cls, value: Any) -> Alert:
        """The alert of `to_dict`.

        Raises:
            ValueError: It is none.
        """
        try:
            texts = {name: item for name, item in value.items() if name not in ("alert", "unit", "release")}
            times: dict[str, Any] = {name: datetime.fromisoformat(texts.pop(name)) for name in ("since", "time")}
            unit, release = value["unit"] or "", value["release"]
            if not all(isinstance(item, str) for item in (unit, *texts.values())) or type(release) is not int:
                raise ValueError("alert: expected texts and the number of a release, got something else")
            return cls(**texts, **times, unit=unit, release=release)
        except (AttributeError, KeyError, TypeError, OverflowError) as error:
            raise ValueError(f"alert: expected one, got {str(value)[:80]}") from error


def _in_ms(moment: datetime) -> datetime:
    """In whole milliseconds, as it is written."""
    return moment.astimezone(UTC).replace(microsecond=moment.microsecond // 1000 * 1000)


def _stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
