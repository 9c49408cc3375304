"""Answers and alerts for tests of outputs; and what an output tells."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from twinseal.twin.answers import Answer
from twinseal.twin.outputs.alert import Alert
from twinseal.twin.outputs.output import OutputEvent

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def answer(unit: Any = "pump-001", cycle: int | None = 7, low: float | None = 30.0, **changes: Any) -> Answer:
    """What a twin says of a machine; `low` None: there is no estimate."""
    refused = low is None
    values: dict[str, Any] = {
        "unit": unit, "cycle": cycle, "rul_cycles": None if refused else low + 20, "low_cycles": low,
        "high_cycles": None if refused else low + 40, "more": None if refused else False,
        "readings": "refused" if refused else "ok", "flagged": (), "commissioned": False, "advice": "as it is",
        "model": "pump-rul", "release": 3, "trust": "valid", "time": "2026-03-01T12:00:00.000Z", "signed": True,
    }  # fmt: skip
    return Answer(**{**values, **changes})


def alert(about: str = "source lost", severity: Any = "critical", detail: str = "", **changes: Any) -> Alert:
    """An alert about telemetry."""
    values: dict[str, Any] = {"kind": "telemetry", "message": "expected a broker, got none", "remedy": "Look at it."}
    values |= {"model": "pump-rul", "release": 3, "time": NOW, "detail": detail}
    return Alert(about=about, severity=severity, **{**values, **changes})


@dataclass
class Told:
    """Keeps what an output tells."""

    events: list[OutputEvent] = field(default_factory=list)

    def __call__(self, event: OutputEvent) -> None:
        self.events.append(event)

    @property
    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]
