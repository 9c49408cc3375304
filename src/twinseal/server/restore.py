"""Restore: a backup becomes the home of another server, once all of it was verified.

1. the file is the one that was kept elsewhere, if its digest was given
2. every file in it is what its manifest says; nothing is written before
3. the anchor is one, and has the fingerprint that the manifest says
4. the audit log has one history, signed at every size
5. the current release of every model: bytes, signatures and evidence of its candidate, approved by enough of today's
   reviewers; older ones are verified too, and it is said which do not
6. locations in MLflow's database are those of the new home

All is written to a folder beside the new home, which then gets its name: it is there whole, or not at all.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from twinseal.errors import BackupError, ConfigError, EvidenceError, RootError, TwinsealError
from twinseal.files import sync_folder
from twinseal.reading import read_regular
from twinseal.server.archive import DATABASE, DUMP, Archive, open_archive
from twinseal.server.databases import move_sqlite, require_empty_postgresql, restore_postgresql
from twinseal.trust.audit import VerifiedLog, log_of
from twinseal.trust.audit import verify as verify_log
from twinseal.trust.release import repository
from twinseal.trust.release.candidate import verify_release
from twinseal.trust.release.release import MAX_RELEASE_BYTES, Release
from twinseal.trust.root.home import Home
from twinseal.trust.root.private_folders import fault_of

_ROOM_BYTES = 64 << 20


@dataclass(frozen=True)
class Restored:
    """A home that was restored.

    Attributes:
        archive: The backup's manifest is in it.
        log: The verified audit log.
        releases: One line for each published release that verifies.
        notes: Releases before the current one that do not verify, and why.
    """

    archive: Archive
    log: VerifiedLog
    releases: tuple[str, ...]
    notes: tuple[str, ...]


def restore(path: Path, target: Path, *, database: str = "", sha256: str = "") -> Restored:
    """Restore the backup at `path` as the home `target`.

    Args:
        path: The file.
        target: A new or empty folder.
        database: The address of an empty PostgreSQL database, for a backup of one.
        sha256: The digest of the file as kept elsewhere.

    Raises:
        BackupError: The file is no backup, or not what it says: nothing was written.
        ConfigError: The folder or the database is not empty, or there is no room.
        RootError, AuditError, TrustError, EvidenceError: What is in it does not verify: nothing is left of it.
        OSError: Something cannot be read or written.
    """
    target = Path(os.path.abspath(target))  # noqa: PTH100 - as MLflow will write it
    _check_target(target)
    with open_archive(path, sha256) as archive:  # 1
        manifest = archive.manifest
        _check_room(target, manifest.total_bytes)
        if (manifest.database == "postgresql") != bool(database):
            raise ConfigError(
                f"database: expected --database for a backup of PostgreSQL, and for no other, got one of "
                f"{manifest.database}",
                remedy="twinseal restore FILE --home DIR --database postgresql://USER@HOST/EMPTY",
            )
        if database:
            require_empty_postgresql(database)
        archive.check()  # 2
        staging = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.restoring-"))  # mode 0700
        try:
            archive.extract(staging)
            log, releases, notes = _verify(Home(staging), manifest.root_sha256)  # 3, 4, 5
            _move_locations(staging, manifest.home, target, database)  # 6
            staging.replace(target)
            sync_folder(target.parent)
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise
        return Restored(archive, log, releases, notes)


def _check_target(target: Path) -> None:
    if os.path.lexists(target) and (target.is_symlink() or not target.is_dir() or any(target.iterdir())):
        raise ConfigError(
            f"{target}: expected a new or an empty folder, got another",
            remedy="Nothing was written. A home is never overwritten: name another folder.",
        )
    if not target.parent.is_dir():
        raise ConfigError(f"{target.parent}: expected a folder for the new home, got none", remedy="Make it: mkdir -p")
    fault = fault_of(target)
    if fault:
        raise RootError(
            f"{target}: expected a folder that only its owner may write to, got {fault}",
            remedy="Nothing was written. Others could change what is in it: name another place.",
        )


def _check_room(target: Path, needed: int) -> None:
    free = shutil.disk_usage(target.parent).free
    if free < needed + _ROOM_BYTES:
        raise ConfigError(
            f"{target.parent}: expected room for {needed >> 20} MiB, got {free >> 20} MiB",
            remedy="Nothing was written. Make room, or name another disk.",
        )


def _verify(home: Home, root: str) -> tuple[VerifiedLog, tuple[str, ...], tuple[str, ...]]:
    anchor = home.anchor()
    if anchor.fingerprint != root:
        raise BackupError(f"backup: expected the anchor {root}, got another ({anchor.fingerprint})")
    log = verify_log(log_of(home.path).path)
    found = list(check_releases(home))
    return log, tuple(line for line, good in found if good), tuple(line for line, good in found if not good)


def check_releases(home: Home) -> Iterator[tuple[str, bool]]:
    """A line for each release that was published, and whether it verifies.

    Raises:
        TrustError, EvidenceError, GateRefusedError: The current one of a model does not verify. An older one need not:
            keys of then may count no longer, its files may be deleted, and no twin goes back to it.
    """
    anchor = home.anchor()
    for model in anchor.models:
        current = repository.current_release(home, model)
        if current is None:
            continue
        count = repository.approvals_of(home, model)
        if count is not None:
            count.require_complete()
        for release in _published(home, model):
            if release.version > current.version:
                continue  # one whose publication was interrupted
            words = f"{model} release {release.version}"
            try:
                verify_release(_candidate(home, release), release, anchor)
            except TwinsealError as error:
                if release.sha256 == current.sha256:
                    raise
                yield f"{words}: {error}", False
            else:
                yield words, True


def _published(home: Home, model: str) -> list[Release]:
    folder = home.repository / "targets" / model
    found = [
        Release.from_bytes(read_regular(path, MAX_RELEASE_BYTES), path.name)
        for path in sorted(folder.glob("*.release.json"))
    ]
    return sorted(found, key=lambda release: release.version)


def _candidate(home: Home, release: Release) -> Path:
    """The folder of a release's files, where MLflow lays those of a candidate."""
    name = release.mlflow_model_id
    for root in ("artifacts", "served"):
        for found in sorted((home.path / "mlflow" / root).glob(f"**/models/{name}/artifacts")):
            return found
    raise EvidenceError(
        f"{release.model} release {release.version}: expected the files of its candidate {name}, got none",
        remedy="They were kept outside of the home, or had been deleted before the backup. Take an older backup.",
    )


def _move_locations(staging: Path, old: str, target: Path, database: str) -> None:
    if (staging / DATABASE).exists():
        move_sqlite(staging / DATABASE, old, str(target))
    if (staging / DUMP).exists():
        restore_postgresql(database, staging / DUMP, old, str(target))
        (staging / DUMP).unlink()
