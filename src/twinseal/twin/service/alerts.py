"""The alerts of a twin that runs: which hold, which are still to be said; kept on the disk with its other memory."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import structlog

from twinseal.errors import EvidenceError
from twinseal.files import write_whole
from twinseal.reading import read_regular
from twinseal.trust.release.release import Release
from twinseal.twin.answers import Answer
from twinseal.twin.outputs.alert import Alert, Key, Kind, Severity
from twinseal.twin.outputs.alert_book import MAX_BYTES, AlertBook
from twinseal.twin.outputs.output import Message, OutputEvent

log = structlog.get_logger()

FILE = "alerts.json"


class Alerts:
    """What is to be said beside answers.

    Args:
        state_dir: The twin's own directory.
        release: Gives the release that the twin has now.
        clock: The time; aware, UTC.
        say: Told of each alert that is about no machine, when it is raised.
    """

    def __init__(
        self,
        state_dir: Path,
        release: Callable[[], Release],
        clock: Callable[[], datetime],
        say: Callable[[Alert], None],
    ) -> None:
        self._path, self._release, self._now, self._say = state_dir / FILE, release, clock, say
        self._changed = True
        self._waiting: list[Message] = []
        self._book = self._read()

    @property
    def held(self) -> tuple[Alert, ...]:
        """Those that hold now."""
        return self._book.held

    def tell(
        self,
        kind: Kind,
        about: str,
        severity: Severity,
        message: str,
        *,
        unit: str = "",
        detail: str = "",
        remedy: str = "",
    ) -> None:
        """Raise an alert; its parts are those of `Alert`."""
        now, release = self._now(), self._release()
        self._raise(Alert(kind, about, severity, message, release.model, release.version, now, unit, detail, remedy))

    def tell_of_output(self, event: OutputEvent) -> None:
        """Raise the alert of what happened at an output, or end it."""
        release = self._release()
        alert = event.alert(release.model, release.version, self._now())
        if event.kind == "working":
            self.end(alert.key)
        else:
            self._raise(alert)

    def _raise(self, alert: Alert) -> None:
        said = self._book.tell(alert)
        if said is not None:
            log.warning("alert", kind=said.kind, about=said.about, unit=said.unit, message=said.message)
            self._waiting.append(said)
            self._changed = True
            self._say(said)

    def end(self, key: Key, message: str = "") -> None:
        """Say that an alert is over, if it holds."""
        ended = self._book.end(key, self._now(), message)
        if ended is not None:
            log.info("alert.over", kind=key.kind, about=key.about, unit=key.unit)
            self._waiting.append(ended)
            self._changed = True

    def end_quiet(self) -> None:
        """End those that have not happened for a while."""
        ended = self._book.end_quiet(self._now())
        self._waiting += ended
        self._changed |= bool(ended)

    def hear(self, answer: Answer) -> list[Message]:
        """The alerts about a machine, by its newest answer."""
        said = self._book.hear(answer, self._now())
        self._changed |= bool(said)
        return list(said)

    def taken(self) -> list[Message]:
        """What is to be said now, and is not any more."""
        waiting, self._waiting = self._waiting, []
        return waiting

    def save(self) -> None:
        """Keep those that hold on the disk; where it is full, they are said once more after a restart."""
        if self._changed:
            with suppress(OSError):
                write_whole(self._path, self._book.to_bytes(), mode=0o600)
                self._changed = False

    def _read(self) -> AlertBook:
        try:
            return AlertBook.from_bytes(read_regular(self._path, MAX_BYTES), FILE)
        except FileNotFoundError:
            return AlertBook()
        except (EvidenceError, OSError) as error:  # every alert that holds is then said once more
            log.warning("alerts.lost", reason=str(error))
            return AlertBook()
