"""Pulling: from what a registry offers to the model that runs, or to a refusal that changes nothing.

Numbered as in the body of `pull`; 4 to 6 are `twinseal.twin.admit`'s:

0. the pinned root, installed out of band, and the clock, never earlier than last seen
1. TUF refresh: signatures, thresholds, expiry, rollback; the model's role once more against the pinned reviewers
2. release.json: of the model asked for, not older than last seen; from here on it is what was last seen
3. bytes streamed to a private directory under signed lengths, hashed on the way; no links, no `..`
4. – 6. admission
7. installed, made current in one step, last

A refusal says expected, got, where; leaves the model that was running in place; and is logged.

Example:
    with RestSource(url, "pump-rul") as source:
        admitted = pull(source, Anchor.read(folder), "pump-rul", Path("twin"), datetime.now(UTC))
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import structlog

from twinseal.errors import DigestMismatchError, RegistryError, TwinsealError
from twinseal.files import FileRecord, write_whole
from twinseal.trust.anchor import Anchor
from twinseal.trust.client import anchors, refresh
from twinseal.trust.release import Release
from twinseal.twin.admit import VerifiedModel, admit, readmit
from twinseal.twin.sources import Source
from twinseal.twin.state import BUNDLE, RELEASE, ROLE, ROOTS, Seen, State

log = structlog.get_logger()


@dataclass(frozen=True)
class Admitted:
    """What a pull led to.

    Attributes:
        model: The model that is current now.
        changed: Whether it was installed by this pull; False when it was current before, whole and verified again.
    """

    model: VerifiedModel
    changed: bool


def pull(
    source: Source, anchor: Anchor, model: str, state_dir: Path, now: datetime, *, fetch_again: bool = False
) -> Admitted:
    """Fetch the current release of `model`, admit it, and make it the twin's.

    Side effects: writes below `state_dir`, nowhere else.

    Args:
        source: Where from; not trusted.
        anchor: What is trusted, pinned beforehand.
        model: Name of the model.
        state_dir: The twin's own directory, one for each model.
        now: Aware, UTC.
        fetch_again: Fetch the files also when this release is installed and whole.

    Raises:
        TrustError, EvidenceError, GateRefusedError: What is offered is refused; the model that was current stays.
        RegistryError: The source failed, took too long, or has no such model; likewise.
        OSError: The state cannot be written; likewise.
    """
    state = State(state_dir)
    try:
        with state.locked():
            return _pull(source, anchor, model, state, now, fetch_again)
    except TwinsealError as error:
        log.warning("pull.refused", model=model, kind=type(error).__name__, reason=str(error))
        raise


def _pull(source: Source, anchor: Anchor, model: str, state: State, now: datetime, fetch_again: bool) -> Admitted:
    seen = state.seen(model)
    if seen is not None:
        seen.check_clock(now)  # 0
    release = refresh(anchor, state.metadata, source.open, model, now)  # 1
    pinned = anchors(anchor, state.metadata)
    if seen is not None:
        seen.check_release(release)  # 2
    state.remember(Seen(model, now, release.version, release.sha256))
    if not fetch_again:
        standing = _standing(state, release, anchor)
        if standing is not None:
            return Admitted(standing, changed=False)
    folder = state.new_folder()
    records = tuple(_fetch(source, release, record, folder / BUNDLE) for record in release.files)  # 3
    admitted = admit(folder / BUNDLE, release, pinned[-1], records)  # 4, 5, 6
    write_whole(folder / RELEASE, release.to_bytes(), mode=0o600)
    write_whole(folder / ROLE, (state.metadata / f"{model}.json").read_bytes(), mode=0o600)
    for newer in pinned[1:]:
        write_whole(folder / ROOTS / f"{newer.version}.root.json", newer.root, mode=0o600)
    state.install(folder, release.sha256)  # 7
    log.info("release.installed", model=model, version=release.version, files=len(records))
    return Admitted(admitted, changed=True)


def _standing(state: State, release: Release, anchor: Anchor) -> VerifiedModel | None:
    """The model that is current, if it is `release` and still whole; a damaged one is fetched again."""
    try:
        if not state.points() or state.current()[0] != release.sha256:
            return None
        return readmit(state, anchor, release.model)
    except (TwinsealError, OSError) as error:
        log.warning("release.damaged", model=release.model, version=release.version, reason=str(error))
        return None


def _fetch(source: Source, release: Release, record: FileRecord, bundle: Path) -> FileRecord:
    """Stream one file into the private bundle; its record as it came.

    The path is the signed record's, which cannot name another place (`files.check_path`).

    Raises:
        DigestMismatchError: The bytes are not those of the record.
        RegistryError: There is no such file in the registry.
    """
    target = bundle / record.path
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    digest, length = hashlib.sha256(), 0
    try:
        chunks = source.open(f"candidates/{release.mlflow_model_id}/{record.path}", record.length)
    except FileNotFoundError as error:
        raise RegistryError(f"{record.path}: expected this file of release {release.version}, got none") from error
    with target.open("xb") as stream:
        for chunk in chunks:
            digest.update(chunk)
            length += len(chunk)
            if length > record.length:
                break  # a source that does not keep to its limit; the comparison below refuses it
            stream.write(chunk)
        stream.flush()
        os.fsync(stream.fileno())
    got = FileRecord(record.path, length, digest.hexdigest())
    if got != record:
        raise DigestMismatchError(
            f"{record.path}: expected sha256 {record.sha256[:12]}… ({record.length} bytes) as signed, "
            f"got {got.sha256[:12]}… ({got.length} bytes), release {release.version} of {release.model}",
            remedy="The registry's copy was changed, or the way to it is not sound. Nothing was installed.",
        )
    return got
