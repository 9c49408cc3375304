"""The twin's journal: what it admitted and what it refused, in an audit log of its own (`<state>/log/`).

Admission is logged before the model becomes current: a model whose admission cannot be logged does not run. A refusal
is logged as well; if that fails, the model is refused all the same, and the error says so.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from twinseal.trust.audit import Entry, log_of
from twinseal.trust.audit.entry import MAX_NAME, truncate
from twinseal.trust.release.release import Release

ACTOR = "twin"


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

    def remember_offer(self, release: Release) -> None:
        """Remember what the registry offers, authenticated: a refusal from here on is about this release."""
        self._offered = release

    def log_admission(self, release: Release) -> None:
        """Log that `release` is about to become the model that runs.

        Raises:
            AuditError: It cannot be logged, and must not become it.
        """
        self._log.append(
            Entry.for_release(release, "admitted", ACTOR, self._now, mlflow_model_id=release.mlflow_model_id)
        )

    def log_refusal(self, error: Exception) -> None:
        """Log a refusal. Never raises; when it cannot be logged, the error says so."""
        attempt = Entry(self._now, "admitted", ACTOR, truncate(self._model, MAX_NAME))
        if self._offered is not None:
            attempt = Entry.for_release(self._offered, "admitted", ACTOR, self._now)
        self._log.append_refusal(attempt, error)
