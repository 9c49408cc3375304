"""The memory of a twin: what it has seen of a model, from `last_seen.json` and from its own audit log together.

Whoever removes `last_seen.json`, `current` and the TUF cache, but not the log, leaves what the log knows: every release
that was admitted, or offered and refused, and the versions of the metadata that showed it. Of both memories the newer
one counts, part by part. Only a state folder that is removed with its log begins from nothing.

The log is read from its end, back to the newest admission: before that, all is older.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime

from twinseal.errors import AuditError, EvidenceError
from twinseal.trust.audit import Entry, log_of
from twinseal.trust.release.client import NOTHING, MetadataVersions
from twinseal.trust.release.release import Release
from twinseal.twin.journal import versions_in
from twinseal.twin.state import LastSeen, State

_AT_ONCE = 4096  # entries read at once: a multiple of a tile's 256, which are verified together
_REMEDY = "Find out who removed it. Then keep the folder as evidence, pull into a new one, and compare the release."


@dataclass(frozen=True)
class Memory:
    """What a twin remembers of one model.

    Attributes:
        seen: The newest release and time that it has seen; None before the first pull.
        versions: Of the metadata that it has seen.
        admitted: The newest release that it has admitted, as far as its log knows; 0 if none.
    """

    seen: LastSeen | None = None
    versions: MetadataVersions = NOTHING
    admitted: int = 0


def recall(state: State, model: str) -> Memory:
    """All that the twin at `state` remembers of `model`.

    Raises:
        EvidenceError: `last_seen.json` is of another model, is malformed, or is gone beside an installed model of which
            the log knows nothing either.
        AuditError: The log is not the one that its key signed.
    """
    logged, kept = recall_log(state, model), state.last_seen(model)
    if kept is None and logged.seen is None and state.has_current():
        raise EvidenceError(
            f"{state.path}: expected last_seen.json or an audit log beside the installed model, got none",
            remedy=_REMEDY,
        )
    if kept is None or logged.seen is None:
        return replace(logged, seen=kept or logged.seen)
    newest = max(kept, logged.seen, key=lambda seen: seen.version)  # the first one where they are equal
    return replace(logged, seen=replace(newest, time=max(kept.time, logged.seen.time)))


def recall_log(state: State, model: str) -> Memory:
    """What the twin's audit log remembers of `model`, alone.

    Raises:
        AuditError: It is not the log that its key signed.
    """
    known, time, release = Memory(), None, None
    for entry in _newest_first(state):
        if entry.model != model:
            continue
        versions = versions_in(entry)
        known = replace(known, versions=known.versions.newest(versions))
        if not versions.role and entry.event not in ("admitted", "corrected"):
            continue  # a refusal before the offer was known to be newer than what was seen
        time = time or entry.time
        if entry.version and (release is None or entry.version >= release.version):  # of two, what was seen first
            release = entry
        if entry.event == "admitted":
            known = replace(known, admitted=entry.version)
            break
    return replace(known, seen=_last_seen_of(release, time))


def describe_installed(state: State, release: Release) -> str:
    """What a person should know of the installed `release`; empty if it is the newest that the twin has admitted.

    Empty also if the twin itself went back from that one, which its log then says. Else an older one runs after a pull
    that was killed in its last step, or after somebody put an older state back. It was verified like any other, so it
    is not refused: a twin that does not answer helps nobody.
    """
    try:
        admitted = recall_log(state, release.model).admitted
    except (AuditError, OSError) as error:
        return f"the twin's audit log is not sound: {error}"
    if admitted <= release.version or _went_back_from(state, admitted):
        return ""
    return f"release {release.version} is installed, but release {admitted} was admitted before: pull again"


def _went_back_from(state: State, version: int) -> bool:
    wanted = b'"event":"held"'
    found = log_of(state.path).read(wanted=lambda data: wanted in data)
    return any(entry.event == "held" and entry.version == version for _, entry in found)


def _last_seen_of(release: Entry | None, time: datetime | None) -> LastSeen | None:
    if release is None or time is None:
        return None
    return LastSeen(release.model, time, release.version, release.sha256)


def _newest_first(state: State) -> Iterator[Entry]:
    """The entries of the log that may tell something, from its end; none before the first."""
    log = log_of(state.path)
    end = log.head().size if log.has_begun() else 0
    while end > 0:
        start = (end - 1) // _AT_ONCE * _AT_ONCE
        yield from (entry for _, entry in reversed(log.read(start, end, wanted=_may_tell)))
        end = start


def _may_tell(data: bytes) -> bool:
    """Whether an entry may be about what was seen: most refusals in a long log are not, and need no parsing."""
    return b'"event":"refused"' not in data or b'"root":' in data
