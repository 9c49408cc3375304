"""Closed: the candidates and runs of MLflow that only this server still changes.

    <home>/reviews/<candidate>/    a review of it was asked for
    <home>/reviews/runs/<run>      the run of such a candidate, or one from which twins fetch the metadata; empty

The plugins of MLflow (`tracking_store.py`, `artifact_store.py`) look here for each change, so it is one look at the
disk. The server itself changes MLflow through a plain store, which does not look.
"""

from __future__ import annotations

import re
from pathlib import Path

_CANDIDATE = re.compile(r"m-[0-9a-f]{32}\Z")
_RUN = re.compile(r"[0-9a-f]{32}\Z")


class Closed:
    """What is closed in one deployment. An id that MLflow would not have made is none, whatever path it would be.

    Args:
        home: The deployment's folder.
    """

    def __init__(self, home: Path) -> None:
        self._reviews = home / "reviews"

    def has_candidate(self, model_id: object) -> bool:
        """Whether a review of the candidate was asked for."""
        return isinstance(model_id, str) and bool(_CANDIDATE.match(model_id)) and (self._reviews / model_id).exists()

    def has_run(self, run_id: object) -> bool:
        """Whether the run is closed."""
        return isinstance(run_id, str) and bool(_RUN.match(run_id)) and (self._reviews / "runs" / run_id).exists()

    def add_run(self, run_id: str) -> bool:
        """Close a run; whether it was open before. Not an id that MLflow would have made: nothing has it."""
        if not _RUN.match(run_id) or self.has_run(run_id):
            return False
        path = self._reviews / "runs" / run_id
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)
        return True

    def open_run(self, run_id: str) -> None:
        """Open a run again that was closed for a review that did not come about."""
        if _RUN.match(run_id):
            (self._reviews / "runs" / run_id).unlink(missing_ok=True)
