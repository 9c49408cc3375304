"""The clock of a twin: a way out, after it was ahead during a pull.

A twin refuses a clock that is earlier than the latest time at which it has pulled: set back, it would make expired
metadata valid again. So a clock that was ahead once blocks updates until that time has come. A person who has looked at
another clock can say that this one is right now. That sets back the remembered time and nothing else: releases, roles
and roots that are older than what was seen are still refused, and so is what has expired by the clock as it is now.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path

from twinseal.twin.journal import Journal
from twinseal.twin.memory import recall
from twinseal.twin.state import State


def remembered_time(state_dir: Path, model: str) -> datetime | None:
    """The latest time at which the twin has pulled `model`; None before its first pull.

    Raises:
        EvidenceError, AuditError: As `memory.recall`.
    """
    seen = recall(State(state_dir), model).seen
    return None if seen is None else seen.time


def correct(state_dir: Path, model: str, now: datetime) -> bool:
    """Take `now` for the latest time that the twin has seen, because a person says that the clock is right now.

    Side effects: an entry `corrected` in the twin's audit log, then `last_seen.json`.

    Args:
        state_dir: The twin's own directory.
        model: Name of the model.
        now: Aware, UTC.

    Returns:
        Whether there was anything to correct: False if the clock is not behind what was seen.

    Raises:
        BusyError: A pull is running.
        AuditError: It cannot be logged: nothing was changed.
        EvidenceError: As `memory.recall`.
        OSError: It cannot be written.
    """
    state = State(state_dir)
    if not state.path.exists():
        return False
    with state.pull_lock(now):
        seen = recall(state, model).seen
        if seen is None or now >= seen.time:
            return False
        Journal(state_dir, model, now).log_clock(seen.time)
        state.remember(replace(seen, time=now))
        return True
