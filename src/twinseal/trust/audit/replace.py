"""Another log in the place of one that was changed or lost, so that custodians can revoke and renew all the same.

Nothing is repaired and nothing is deleted: the old folder is kept as `log.tampered-<time>`, as evidence. The new log
has a key of its own, and its first entry says what it replaces, up to which checkpoint the old one was sound, and which
key had signed that: whoever keeps checkpoints elsewhere can compare. Only a ceremony does this, when its custodians ask
for it (`--new-log`), and never for a log that is sound.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from itertools import chain, count
from pathlib import Path

import structlog

from twinseal.errors import AuditError
from twinseal.files import sync_folder
from twinseal.trust.audit import note
from twinseal.trust.audit.entry import MAX_NAME, MAX_TEXT, Entry, truncate
from twinseal.trust.audit.log import log_of
from twinseal.trust.audit.verify import last_sound_checkpoint, verify

logger = structlog.get_logger(__name__)

ASIDE = "log.tampered-"


def set_aside(folder: Path, actor: str, now: datetime) -> Entry:
    """Move the log of a home out of the way, because it does not verify; the first entry for the log that follows.

    Side effects: the folder `log`, if there is one, is now `log.tampered-<time>`.

    Args:
        folder: The home.
        actor: Who asks for it.
        now: Aware, UTC.

    Raises:
        AuditError: The log is sound; or it cannot be moved.
    """
    path = log_of(folder).path
    if not os.path.lexists(path):
        return _entry(actor, now, _names_of_old_logs(folder), "expected the log that the first root began, got none")
    try:
        verify(path)
        note.open_key(path)  # without it nothing can be logged either
    except AuditError as fault:
        reason = str(fault)
    else:
        raise AuditError(
            f"{path}: expected a log that does not verify, got one that does",
            remedy="Run the same command without --new-log: nothing is wrong with the log.",
        )
    sound = _sound_part(path)
    names = (
        f"{ASIDE}{now.astimezone(UTC):%Y%m%dT%H%M%SZ}{again}" for again in chain([""], map("-{}".format, count(2)))
    )
    aside = next(folder / name for name in names if not (folder / name).exists())
    try:
        path.rename(aside)
        sync_folder(folder)
    except OSError as error:
        raise AuditError(f"{path}: expected to move it to {aside.name}, got {error.strerror}") from error
    logger.warning("audit.set_aside", folder=str(aside), why=reason)
    return _entry(actor, now, _names_of_old_logs(folder), reason, **sound)


def _names_of_old_logs(folder: Path) -> str:
    """The names of all logs that were set aside here, the newest last."""
    return ", ".join(sorted(path.name for path in folder.glob(f"{ASIDE}*"))) or "none"


def _sound_part(path: Path) -> dict[str, str]:
    """Up to where the old log is what its key signed, as details of an entry."""
    try:
        vkey, sound = note.read_vkey(path), last_sound_checkpoint(path)
    except (AuditError, OSError):
        return {}
    details = {} if vkey is None else {"key": note.vkey_text(vkey)}
    if sound is not None:
        details |= {"sound_entries": str(sound.size), "sound_root": sound.root_hash.hex()}
    return details


def _entry(actor: str, now: datetime, kept: str, reason: str, **sound: str) -> Entry:
    details = {"kept": truncate(kept, MAX_TEXT), "reason": truncate(reason, MAX_TEXT), "sound_entries": "0"} | sound
    return Entry(now, "replaced", truncate(actor, MAX_NAME), details=details)
