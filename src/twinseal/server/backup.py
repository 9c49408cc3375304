"""Backup: one file with all that a deployment is, taken while its server runs.

Decisions, publications and ceremonies wait (the home's lock) while these are copied, in this order, so that nothing in
the copy is older than what refers to it:

1. MLflow's database and its accounts
2. reviews, evidence of releases, the repository of record, the anchor
3. the audit log, under its own lock: it has every decision that the others show

Artifacts are written once: they are read after that, without the lock, from where they are. Private keys are left out
unless asked for. The log's own key and MLflow's secrets are in it: without them a restored server could go on with
neither. So the file is for its owner alone.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from twinseal.errors import ConfigError, TwinsealError
from twinseal.reading import open_regular
from twinseal.registry.store import sqlite_uri
from twinseal.server.archive import ACCOUNTS, DATABASE, DUMP, Item, Manifest, digest_of, write_archive
from twinseal.server.artifact_store import STAGING
from twinseal.server.databases import copy_sqlite, dump_postgresql, sqlite_path
from twinseal.server.restore import check_releases
from twinseal.server.settings import FILE as SETTINGS
from twinseal.server.settings import ServerSettings
from twinseal.trust.audit import disk, log_of
from twinseal.trust.audit import verify as verify_log
from twinseal.trust.audit.log import LOCK
from twinseal.trust.release.review_file import said_at
from twinseal.trust.root.home import Home

BEFORE_THE_LOG = ("reviews", "released", "proposal", "trust", "anchor", "mlflow/notices")
ARTIFACTS = ("mlflow/artifacts", "mlflow/served")
SECRETS = "mlflow/secrets.json"
_UNFINISHED = re.compile(r"\.artifact\.uploading\.|\.[0-9a-f]{16}\.part\Z")  # on its way: MLflow's, and ours
_LOCK = re.compile(r"(.*\.)?lock\Z")


@dataclass(frozen=True)
class Backup:
    """A backup that was written.

    Attributes:
        manifest: What is in it.
        sha256: Of the file: keep it elsewhere.
        log_size: Entries of the audit log.
        notes: Releases that do not verify.
    """

    manifest: Manifest
    sha256: str
    log_size: int
    notes: tuple[str, ...]


def back_up(home: Home, settings: ServerSettings, target: Path, now: datetime, *, with_keys: bool = False) -> Backup:
    """Write a backup of the deployment at `home`.

    Args:
        home: Whose.
        settings: Where its database is.
        target: The new file.
        now: Aware, UTC.
        with_keys: Private keys too.

    Raises:
        ConfigError: There is a file of that name, it would lie in the home, or the database cannot be copied.
        BackupError: A file changed while it was read.
        RootError: Another ceremony or publication holds the home.
        AuditError: The audit log does not verify: a backup of it would be worth nothing.
        OSError: Something cannot be read or written.
    """
    _check_target(home, target)
    staging = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))  # mode 0700
    try:
        with home.locked():
            kind = _copy_databases(home, settings, staging)  # 1
            _copy_home(home, staging, with_keys=with_keys)  # 2, 3
            root = home.anchor().fingerprint
        size, notes = verify_log(log_of(staging).path).size, _faults(home)
        items = [*_items(staging), *(item for folder in ARTIFACTS for item in _items(home.path, folder))]
        old = str(home.path.absolute())
        manifest = Manifest(said_at(now), old, root, kind, with_keys, tuple(sorted(items, key=lambda item: item.path)))

        def place_of(path: str) -> Path:
            return (home.path if path.startswith(ARTIFACTS) else staging) / path

        try:
            return Backup(manifest, write_archive(target, manifest, place_of), size, notes)
        except FileExistsError as error:
            raise _taken(target) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _faults(home: Home) -> tuple[str, ...]:
    """Which releases do not verify: better known now than when the backup is needed."""
    try:
        return tuple(line for line, good in check_releases(home) if not good)
    except TwinsealError as error:
        return (f"the current release: {error}; a backup with it is not restored",)


def _check_target(home: Home, target: Path) -> None:
    if os.path.lexists(target):
        raise _taken(target)
    if not target.parent.is_dir():
        raise ConfigError(f"{target.parent}: expected a folder for the backup, got none", remedy="Make it: mkdir -p")
    if target.parent.resolve().is_relative_to(home.path.resolve()):
        raise ConfigError(
            f"{target}: expected a file outside of the home, got one in it",
            remedy="What destroys the home would destroy its backup. Name another folder, best on another machine.",
        )


def _taken(target: Path) -> ConfigError:
    return ConfigError(
        f"{target}: expected a new name, got one that is taken",
        remedy="A backup never replaces another: twinseal backup backup-$(date +%F-%H%M).tar.gz",
    )


def _copy_databases(home: Home, settings: ServerSettings, staging: Path) -> str:
    uri = settings.database_uri(home)
    if uri.startswith("postgresql"):
        dump_postgresql(uri, staging / DUMP)
        return "postgresql"
    accounts = home.path / ACCOUNTS
    if accounts.exists():
        copy_sqlite(accounts, staging / ACCOUNTS)
    if not sqlite_path(uri).exists():
        if uri != sqlite_uri(home.path):
            raise ConfigError(f"database: expected a file, got none ({sqlite_path(uri)})")
        return "none"
    copy_sqlite(sqlite_path(uri), staging / DATABASE)
    return "sqlite"


def _copy_home(home: Home, staging: Path, *, with_keys: bool) -> None:
    for name in (SETTINGS, SECRETS):
        if (home.path / name).exists():
            _copy(home.path / name, staging / name)
    for path in _files(home.path, "keys"):
        if with_keys or path.suffix == ".pub":
            _copy(path, staging / path.relative_to(home.path))
    for folder in BEFORE_THE_LOG:
        _copy_folder(home.path, folder, staging)
    audit = log_of(home.path).path
    with disk.lock(audit / LOCK, alone=False):
        _copy_folder(home.path, audit.relative_to(home.path).as_posix(), staging)


def _copy_folder(home: Path, folder: str, staging: Path) -> None:
    for path in _files(home, folder):
        try:
            _copy(path, staging / path.relative_to(home))
        except FileNotFoundError:
            if folder != "mlflow/notices":  # one that was sent just now
                raise


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with open_regular(source) as stream:
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as copy:
            shutil.copyfileobj(stream, copy, 1 << 20)


def _files(home: Path, folder: str) -> Iterator[Path]:
    """Every regular file below a folder of the home, sorted; not what is on its way, and no lock.

    Raises:
        ConfigError: There is a link or a device.
        OSError: A folder cannot be read.
    """
    for place, folders, names in os.walk(home / folder, onerror=_raise_but_absent):
        folders.sort()
        if folder in ARTIFACTS and Path(place) == home / folder and STAGING in folders:
            folders.remove(STAGING)
        for name in sorted([*names, *(name for name in folders if Path(place, name).is_symlink())]):
            path = Path(place, name)
            if (_UNFINISHED if folder in ARTIFACTS else _LOCK).match(name):
                continue
            try:
                mode = path.lstat().st_mode
            except FileNotFoundError:
                continue  # it was on its way
            if not stat.S_ISREG(mode):
                raise ConfigError(
                    f"{path}: expected files and folders in a home, got a link or something else",
                    remedy="Who put it there? Look at it, and move it away: then run the same command again.",
                )
            yield path


def _raise_but_absent(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def _items(top: Path, folder: str = "") -> Iterator[Item]:
    for path in _files(top, folder):
        name = path.relative_to(top).as_posix()
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise ConfigError(f"{name!r}: expected a name in UTF-8, got other bytes", remedy="Rename it.") from error
        yield Item(name, *digest_of(path))
