"""Export: the model that a twin has admitted, laid out for another server, which verifies nothing itself.

    <folder>/bundle/         the release as it was approved: model/, model.sig.json, evidence/
    <folder>/verified.json   what was verified, when, and under which root; written last

A server reads `bundle/model`, and only while `verified.json` is there: it is removed first when another release takes
the place of an earlier one, and written when all of the new one is on the disk. All is read-only. `twinseal verify
<folder>/bundle` verifies it once more.

Each byte is hashed as it is copied, and compared with what the reviewers have signed: what is laid out is what was
verified, also if the twin's disk changes meanwhile.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import structlog

from twinseal.digests import canonical_json, parse_json
from twinseal.errors import ConfigError, DigestMismatchError, EvidenceError, RollbackError
from twinseal.files import FileRecord, inventory, sync_folder, write_whole
from twinseal.reading import open_beneath, read_regular
from twinseal.trust.release.client import known_anchors
from twinseal.trust.release.release import MAX_RELEASE_BYTES, Release
from twinseal.trust.root.anchor import Anchor
from twinseal.twin import locks
from twinseal.twin.admit import VerifiedModel, admit_installed
from twinseal.twin.byte_sources import Source
from twinseal.twin.connection import CHUNK
from twinseal.twin.pull import pull
from twinseal.twin.state import BUNDLE, State
from twinseal.twin.trust_ends import trust_ends

log = structlog.get_logger()

VERIFIED, SCHEMA = "verified.json", "https://twinseal.dev/verified/v1"
_LOCK = ".twinseal-export.lock"
_OWN = {BUNDLE, VERIFIED, _LOCK}
_WORK = ".twinseal-new."  # what a killed export leaves begins so


@dataclass(frozen=True)
class Exported:
    """What lies in the folder now.

    Attributes:
        release: The release.
        changed: False when it lay there before, whole.
        demo: Whether the anchor is of throw-away keys.
    """

    release: Release
    changed: bool
    demo: bool


def fetch_and_export(
    source: Source,
    anchor: Anchor,
    model: str,
    folder: Path,
    now: datetime,
    *,
    state_dir: Path | None = None,
    at_least: int = 0,
) -> Exported:
    """Pull the current release, and lay it out.

    Side effects: as `export`. Without `state_dir`, the pull's files are below `folder` meanwhile, and so are all
    temporary files of this process: a container whose root is read-only may have no other place.

    Args:
        source: Where from; not trusted.
        anchor: What is trusted.
        model: Name of the model.
        folder: As `export`.
        now: Aware, UTC.
        state_dir: A twin's own directory, whose memory counts; None: this time has no memory.
        at_least: As `export`.

    Raises:
        ConfigError, RollbackError, TwinsealError, OSError: As `export` and `pull`.
    """
    with _workplace(folder, now) as work:
        place = state_dir or work / "state"
        with _temporary_files_in(work):
            pull(source, anchor, model, place, now)
        return _export(State(place), anchor, model, folder, now, at_least)


def export(state_dir: Path, anchor: Anchor, model: str, folder: Path, now: datetime, *, at_least: int = 0) -> Exported:
    """Lay out the model that the twin at `state_dir` has installed, verified once more.

    Side effects: writes below `folder`, which is made if it is not there.

    Args:
        state_dir: The twin's own directory, after a pull.
        anchor: What is trusted.
        model: Name of the model.
        folder: Where to; new, empty, or with an earlier export.
        now: Aware, UTC.
        at_least: The oldest release that is laid out.

    Raises:
        ConfigError: The folder has other files, or is none.
        RollbackError: The release is older than `at_least`, or than the one that lies there.
        TrustError, EvidenceError, GateRefusedError: As `runtime.current_model`.
        BusyError: Another export writes there.
        OSError: It cannot be written. There is no `verified.json` then, or the earlier export is whole.
    """
    with _workplace(folder, now):
        return _export(State(state_dir), anchor, model, folder, now, at_least)


def _export(state: State, anchor: Anchor, model: str, folder: Path, now: datetime, at_least: int) -> Exported:
    with state.read_lock():
        verified = admit_installed(state, anchor, model)
        _check_age(folder, verified.release, at_least)
        if _is_there(folder, verified.release):
            return Exported(verified.release, False, verified.demo)
        _, installed = state.current()
        _lay_out(folder, installed / BUNDLE, verified.release)
        write_whole(folder / VERIFIED, _record_of(verified, state, anchor, now), mode=0o444)
        sync_folder(folder)
    log.info("release.exported", model=model, version=verified.release.version)
    return Exported(verified.release, True, verified.demo)


@contextmanager
def _workplace(folder: Path, now: datetime) -> Iterator[Path]:
    """A private folder below `folder`, for one export at a time; what a killed one left is removed first."""
    _require_place(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with locks.only_one(folder / _LOCK, "twinseal export", now):
        for left in folder.glob(f"{_WORK}*"):
            _remove(left)
        work = Path(tempfile.mkdtemp(dir=folder, prefix=_WORK))
        try:
            yield work
        finally:
            _remove(work)


@contextmanager
def _temporary_files_in(folder: Path) -> Iterator[None]:
    before, tempfile.tempdir = tempfile.tempdir, str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before


def _require_place(folder: Path) -> None:
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise ConfigError(f"{folder}: expected a folder, got a file or a link", remedy="Name another folder.")
    names = {path.name for path in folder.iterdir()} if folder.exists() else set()
    own = _OWN if _LOCK in names else set()  # a folder without it was never ours
    strangers = {name for name in names - own if not name.startswith(_WORK)} - {"lost+found"}  # of a mounted disk
    if strangers:
        raise ConfigError(
            f"{folder}: expected an empty folder, or an earlier export, got one with {', '.join(sorted(strangers))}",
            remedy="Name a new folder. Nothing was written.",
        )


def _check_age(folder: Path, release: Release, at_least: int) -> None:
    if release.version < at_least:
        raise RollbackError(
            f"release version: expected >= {at_least}, got {release.version} ({release.model})",
            remedy="The registry offers an older release than this place wants: ask who runs it.",
        )
    before = _earlier(folder)
    if before is not None and before.model == release.model and before.version > release.version:
        raise RollbackError(
            f"release version: expected >= {before.version}, as {folder / VERIFIED} has it, got {release.version}",
            remedy="The registry offers an older release than before: ask who runs it. The newer one still lies there.",
        )


def _earlier(folder: Path) -> Release | None:
    """The release that an earlier export laid out; None if there is none that can be read."""
    try:
        value = parse_json(read_regular(folder / VERIFIED, MAX_RELEASE_BYTES), VERIFIED, limit=MAX_RELEASE_BYTES)
        return Release.from_bytes(canonical_json(value["release"]))
    except (OSError, EvidenceError, KeyError, TypeError, ValueError):
        return None


def _is_there(folder: Path, release: Release) -> bool:
    """Whether exactly this release lies there, by every byte."""
    if _earlier(folder) != release:
        return False
    try:
        return inventory(folder / BUNDLE) == release.files
    except (DigestMismatchError, OSError):
        return False


def _lay_out(folder: Path, bundle: Path, release: Release) -> None:
    new = Path(tempfile.mkdtemp(dir=folder, prefix=_WORK))
    try:
        for record in release.files:
            _copy(bundle, record, new)
        for inner, _, _ in os.walk(new, topdown=False):
            Path(inner).chmod(0o555)
            sync_folder(Path(inner))
        (folder / VERIFIED).unlink(missing_ok=True)
        sync_folder(folder)
        old = new.with_name(f"{new.name}.old")
        if (folder / BUNDLE).exists():
            (folder / BUNDLE).replace(old)
        new.replace(folder / BUNDLE)
        sync_folder(folder)
        _remove(old)
    except BaseException:
        _remove(new)
        raise


def _copy(bundle: Path, record: FileRecord, new: Path) -> None:
    target, digest, length = new / record.path, hashlib.sha256(), 0
    target.parent.mkdir(parents=True, exist_ok=True)
    with open_beneath(bundle, record.path) as source, target.open("xb") as stream:
        while length <= record.length and (chunk := source.read(CHUNK)):
            digest.update(chunk)
            length += len(chunk)
            stream.write(chunk)
        stream.flush()
        os.fchmod(stream.fileno(), 0o444)
        os.fsync(stream.fileno())
    if (length, digest.hexdigest()) != (record.length, record.sha256):
        raise DigestMismatchError(
            f"{record.path}: expected sha256 {record.sha256[:12]}… ({record.length} bytes) as signed, got other bytes",
            remedy="Somebody changed the twin's state while it was copied. Find out who; then pull again.",
        )


def _record_of(verified: VerifiedModel, state: State, anchor: Anchor, now: datetime) -> bytes:
    newest = known_anchors(anchor, state.metadata)[-1]
    ends = [item.expires for item in trust_ends(state, anchor, verified.release.model).expiries]
    return canonical_json(
        {
            "schema": SCHEMA,
            "release": parse_json(verified.release.to_bytes(), "release.json", limit=MAX_RELEASE_BYTES),
            "release_sha256": verified.release.sha256,
            "root": {"version": newest.version, "sha256": newest.fingerprint},
            "time": now.astimezone(UTC).isoformat(timespec="seconds"),
            "trust_ends": min(ends).astimezone(UTC).isoformat(timespec="seconds") if ends else None,
            "demo": verified.demo,
        }
    )


def _remove(folder: Path) -> None:
    """Remove a folder whose parts are read-only."""
    if folder.is_dir() and not folder.is_symlink():
        for inner, _, _ in os.walk(folder):
            Path(inner).chmod(0o700)
        shutil.rmtree(folder, ignore_errors=True)
    else:
        folder.unlink(missing_ok=True)
