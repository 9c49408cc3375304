"""Pulling: from a registry's offer to the model that runs, or to a refusal that changes nothing.

Numbered as in the body of `pull`; 4 to 6 are `twinseal.twin.admit`'s:

0. the pinned root, installed out of band, and the clock, never earlier than last seen; what was seen is in the state
   and in the twin's own log (`twinseal.twin.memory`)
1. TUF refresh: signatures, thresholds, expiry, rollback; the model's role once more against the pinned reviewers
2. release.json: of the model asked for, not older than last seen; from here on it is what was last seen
3. bytes streamed to a private directory under signed lengths, hashed on the way; no links, no `..`
4. – 6. admission
7. installed, made current in one step, last

While the registry is asked, nothing is locked that a start of the twin needs (`twinseal.twin.locks`).

A refusal says what was expected, what was got, and where; the model that was running stays; the refusal is in the
twin's audit log. An admission is logged before step 7: a model whose admission cannot be logged is not installed.

Example:
    with RestSource(url, "pump-rul") as source:
        admitted = pull(source, Anchor.read(folder), "pump-rul", Path("twin"), datetime.now(UTC))
"""

from __future__ import annotations

from collections.abc import Container
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import structlog

from twinseal.errors import RootError, TwinsealError, suggest
from twinseal.files import write_whole
from twinseal.reading import read_regular
from twinseal.trust.release.client import known_anchors, refresh, versions_of
from twinseal.trust.release.release import Release
from twinseal.trust.root.anchor import Anchor
from twinseal.trust.root.metadata import MAX_METADATA_BYTES
from twinseal.twin.admit import VerifiedModel, admit, admit_installed
from twinseal.twin.byte_sources import Source
from twinseal.twin.fetch import fetch
from twinseal.twin.journal import Journal
from twinseal.twin.memory import recall
from twinseal.twin.state import BUNDLE, RELEASE, ROLE, ROOTS, LastSeen, State

log = structlog.get_logger()

_REMEDY = (
    "Nothing was installed; the twin keeps its model. Ask whoever runs the registry what it offers, and who changed it."
)


@dataclass(frozen=True)
class PullResult:
    """The result of a pull.

    Attributes:
        model: The model that is current now.
        changed: Whether this pull installed it; False when it was current before, and all files were verified again.
        since_last: Time since the last pull that reached step 2, by this machine's clock; None for the first.
    """

    model: VerifiedModel
    changed: bool
    since_last: timedelta | None = None


def pull(
    source: Source,
    anchor: Anchor,
    model: str,
    state_dir: Path,
    now: datetime,
    *,
    fetch_again: bool = False,
    skip: Container[str] = (),
) -> PullResult:
    """Fetch the current release of `model`, admit it, and make it the twin's.

    Side effects: writes below `state_dir`, nowhere else.

    Args:
        source: Where from; not trusted.
        anchor: What is trusted, pinned beforehand.
        model: Name of the model.
        state_dir: The twin's own directory, one for each model.
        now: Aware, UTC.
        fetch_again: Fetch the files also when this release is installed and whole.
        skip: Digests of releases that are seen, and not installed: the model that is current stays.

    Raises:
        TrustError, EvidenceError, GateRefusedError: What is offered is refused; the model that was current stays.
        RegistryError: The source failed, took too long, or has no such model; likewise.
        BusyError: Another pull into this directory is running; likewise.
        OSError: The state cannot be written; likewise.
    """
    state, journal = State(state_dir), Journal(state_dir, model, now)
    try:
        with suggest(_REMEDY), state.pull_lock(now):
            return _pull(source, anchor, model, state, now, fetch_again, journal, skip)
    except (TwinsealError, OSError) as error:
        log.warning("pull.refused", model=model, kind=type(error).__name__, reason=str(error))
        journal.log_refusal(error)
        raise


def _pull(
    source: Source,
    anchor: Anchor,
    model: str,
    state: State,
    now: datetime,
    fetch_again: bool,
    journal: Journal,
    skip: Container[str],
) -> PullResult:
    memory = recall(state, model)
    seen = memory.seen
    if seen is not None:
        seen.check_clock(now)  # 0
    try:
        release = refresh(
            anchor, state.metadata, source.open, model, now, known=memory.versions, storing=state.write_lock
        )  # 1
    except TwinsealError:
        with suppress(RootError):
            newest = known_anchors(anchor, state.metadata)[-1].version
            if newest > max(memory.versions.root, anchor.version):
                journal.remember_root(newest)
        raise
    journal.remember_offer(release)
    if seen is not None:
        seen.check_release(release)  # 2
    versions = versions_of(anchor, state.metadata, model)
    journal.remember_versions(versions)
    state.remember(LastSeen(model, now, release.version, release.sha256))
    since = None if seen is None else now - seen.time
    if release.sha256 in skip:
        return PullResult(admit_installed(state, anchor, model), False, since)
    if not fetch_again:
        installed = _installed_model(state, release, anchor)
        if installed is not None:
            if versions.root > memory.versions.root:
                journal.log_root()
            return PullResult(installed, False, since)
    admitted = _install(source, anchor, release, state, journal)
    return PullResult(admitted, True, since)


def _install(source: Source, anchor: Anchor, release: Release, state: State, journal: Journal) -> VerifiedModel:
    """Steps 3 to 7 for a release that is authenticated."""
    pinned = known_anchors(anchor, state.metadata)
    folder = state.new_folder()
    records = tuple(fetch(source, release, record, folder / BUNDLE) for record in release.files)  # 3
    role = read_regular(state.metadata / f"{release.model}.json", MAX_METADATA_BYTES)
    admitted = admit(folder / BUNDLE, release, role, pinned[-1], records)  # 4, 5, 6
    write_whole(folder / RELEASE, release.to_bytes(), mode=0o600)
    write_whole(folder / ROLE, role, mode=0o600)
    for newer in pinned[1:]:
        write_whole(folder / ROOTS / f"{newer.version}.root.json", newer.root, mode=0o600)
    journal.log_admission(release)
    state.install(folder, release.sha256)  # 7
    log.info("release.installed", model=release.model, version=release.version, files=len(records))
    return admitted


def _installed_model(state: State, release: Release, anchor: Anchor) -> VerifiedModel | None:
    """The model that is current, if it is `release` and all its files verify; a damaged one is fetched again."""
    try:
        if not state.has_current() or state.current()[0] != release.sha256:
            return None
        return admit_installed(state, anchor, release.model)
    except (TwinsealError, OSError) as error:
        log.warning("release.damaged", model=release.model, version=release.version, reason=str(error))
        return None
