"""The twin's journal: what it admitted and what it refused, in an audit log of its own (`<state>/log/`).

Admission is logged before the model becomes current: a model whose admission cannot be logged does not run. A refusal
is logged as well; if that fails, the model is refused all the same, and the error says so.

An entry about an offer that is not older than what was seen also has the versions of its metadata; a refusal has at
least the version of a root that it brought. So the log is a second memory against rollback (`twinseal.twin.memory`).
"""

from __future__ import annotations

import re
from dataclasses import fields
from datetime import datetime
from pathlib import Path

from twinseal.trust.audit import Entry, log_of
from twinseal.trust.audit.entry import MAX_NAME, truncate
from twinseal.trust.release.client import MetadataVersions
from twinseal.trust.release.release import Release

ACTOR = "twin"
_VERSION = re.compile(r"[0-9]{1,12}")


class Journal:
    """What one pull writes into the twin's audit log.

    Args:
        state_dir: The twin's own directory.
        model: Which model it asks for.
        now: Aware, UTC.
    """

    def __init__(self, state_dir: Path, model: str, now: datetime) -> None:
        self._log, self._model, self._now = log_of(state_dir), model, now
        self._offered: Release | None = None
        self._versions: dict[str, str] = {}

    def remember_offer(self, release: Release) -> None:
        """Remember what the registry offers, authenticated: a refusal from here on is about this release."""
        self._offered = release

    def remember_versions(self, versions: MetadataVersions) -> None:
        """Remember the metadata of the offer, once it is not older than what was seen."""
        self._versions = {name: str(version) for name, version in vars(versions).items()}

    def remember_root(self, version: int) -> None:
        """Remember a newer root: it counts from now on, also if the offer is refused."""
        self._versions = {"root": str(version)}

    def log_admission(self, release: Release) -> None:
        """Log that `release` is about to become the model that runs.

        Raises:
            AuditError: It cannot be logged, and must not become it.
        """
        details = {"mlflow_model_id": release.mlflow_model_id, **self._versions}
        self._log.append(Entry.for_release(release, "admitted", ACTOR, self._now, **details))

    def log_root(self) -> None:
        """Log that a newer root counts from now on, where no admission says so.

        Raises:
            AuditError: It cannot be logged.
        """
        self._log.append(Entry(self._now, "anchored", ACTOR, self._model, details=self._versions))

    def log_fallback(self, release: Release, why: str) -> None:
        """Log that a twin that runs is about to go back from `release` to the one before, and not to adopt it again.

        Raises:
            AuditError: It cannot be logged, and must not be done.
        """
        self._log.append(Entry.for_release(release, "held", ACTOR, self._now, why=why))

    def log_clock(self, before: datetime) -> None:
        """Log that a person says that the clock is right now; `before` is the time that was remembered until then.

        Raises:
            AuditError: It cannot be logged, and must not be done.
        """
        details = {"clock_was": f"{before:%Y-%m-%d %H:%M:%S} UTC", "clock_is": f"{self._now:%Y-%m-%d %H:%M:%S} UTC"}
        self._log.append(Entry(self._now, "corrected", ACTOR, self._model, details=details))

    def log_refusal(self, error: Exception) -> None:
        """Log a refusal. Never raises; when it cannot be logged, the error says so."""
        attempt = Entry(self._now, "admitted", ACTOR, truncate(self._model, MAX_NAME), details=self._versions)
        if self._offered is not None:
            attempt = Entry.for_release(self._offered, "admitted", ACTOR, self._now, **self._versions)
        self._log.append_refusal(attempt, error)


def versions_in(entry: Entry) -> MetadataVersions:
    """The versions of the metadata that an entry is about; 0 where it does not say so."""
    texts = {item.name: entry.details.get(item.name, "") for item in fields(MetadataVersions)}
    return MetadataVersions(**{name: int(text) for name, text in texts.items() if _VERSION.fullmatch(text)})
