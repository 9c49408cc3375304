"""The file of a backup: a tar, compressed with gzip, whose first member lists all others.

    manifest.json   what it is of, and the path, length and SHA-256 of every file
    …               the files, in exactly that order, under their paths

What is read was perhaps written by somebody else. The members must be the manifest's, one by one: so there is no link,
no device, no name twice, none that leads elsewhere, and no byte beyond what was said. Any tar program can read it too.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import re
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from twinseal.digests import canonical_json, is_sha256, parse_json, sha256
from twinseal.errors import BackupError, EvidenceError
from twinseal.files import sync_folder
from twinseal.reading import open_regular

SCHEMA = "https://twinseal.dev/backup/v1"
MANIFEST = "manifest.json"
MAX_MANIFEST_BYTES = 512 << 20
MAX_FILES = 4_000_000  # as many as a manifest of that length can list
FOLDERS = (
    "anchor", "trust", "log", "released", "reviews", "proposal", "keys", "mlflow/artifacts", "mlflow/served",
    "mlflow/notices",
)  # fmt: skip
DATABASE, ACCOUNTS, DUMP = "mlflow/mlflow.db", "mlflow/accounts.db", "mlflow/database.dump"
FILES = ("server.yaml", "mlflow/secrets.json", DATABASE, ACCOUNTS, DUMP)
_FIELDS = ("created", "home", "root_sha256", "database", "with_keys")
_CHUNK = 1 << 20
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"')  # in JSON that is known to be valid
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\Z")


@dataclass(frozen=True)
class Item:
    """One file.

    Attributes:
        path: Below the home.
        length: In bytes.
        sha256: Of the bytes.
    """

    path: str
    length: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What a backup has.

    Attributes:
        created: When, RFC 3339.
        home: The folder that it is of: where locations in MLflow's database begin.
        root_sha256: The fingerprint of the anchor.
        database: sqlite, postgresql, or none where nobody has used MLflow yet.
        with_keys: Whether private keys are in it.
        items: Every file.

    Raises:
        BackupError: It says what cannot be.
    """

    created: str
    home: str
    root_sha256: str
    database: str
    with_keys: bool
    items: tuple[Item, ...]

    def __post_init__(self) -> None:
        fits = isinstance(self.created, str) and isinstance(self.home, str) and type(self.with_keys) is bool
        if not fits or not _TIME.match(self.created) or not is_sha256(self.root_sha256):
            raise BackupError("backup: expected a manifest with time, home and fingerprint, got something else")
        if not self.home.startswith("/") or not self.home.isprintable() or len(self.home) > 4096:
            raise BackupError(f"backup: expected the home as an absolute path, got {self.home[:80]!r}")
        if self.database not in ("sqlite", "postgresql", "none"):
            raise BackupError(f"backup: expected a database that is known, got {str(self.database)[:40]!r}")
        _check_items(self.items)

    @property
    def total_bytes(self) -> int:
        """Of all files."""
        return sum(item.length for item in self.items)

    def to_bytes(self) -> bytes:
        """JSON. Brackets in names are escaped: a reader counts brackets before it parses."""
        head = {name: getattr(self, name) for name in _FIELDS}
        rows = [[item.path, item.length, item.sha256] for item in self.items]
        data = canonical_json({"schema": SCHEMA, **head, "files": rows})
        return _STRING.sub(lambda found: found[0].replace(b"[", b"\\u005b").replace(b"{", b"\\u007b"), data)

    @classmethod
    def from_bytes(cls, data: bytes) -> Manifest:
        """The manifest that JSON describes.

        Raises:
            BackupError: It is none.
        """
        try:
            value: Any = parse_json(data, MANIFEST, limit=MAX_MANIFEST_BYTES, nodes=MAX_FILES)
        except EvidenceError as error:
            raise BackupError(f"backup: {error}") from error
        if not isinstance(value, dict) or set(value) != {"schema", "files", *_FIELDS} or value["schema"] != SCHEMA:
            raise BackupError(f"backup: expected a manifest of the form {SCHEMA}, got something else")
        rows = value["files"]
        if not isinstance(rows, list) or not all(isinstance(row, list) and len(row) == 3 for row in rows):
            raise BackupError("backup: expected files with path, length and SHA-256, got something else")
        return cls(**{name: value[name] for name in _FIELDS}, items=tuple(Item(*row) for row in rows))


def _check_items(items: tuple[Item, ...]) -> None:
    paths = set[str]()
    for item in items:
        _check_path(item.path)
        if item.path in paths:
            raise BackupError(f"backup: expected each name once, got {item.path!r} twice")
        if type(item.length) is not int or item.length < 0 or not is_sha256(item.sha256):
            raise BackupError(f"backup: expected length and SHA-256 of {item.path!r}, got something else")
        paths.add(item.path)
    for path in paths:
        above = path.rpartition("/")[0]
        while above:
            if above in paths:
                raise BackupError(f"backup: expected a file or a folder, got {above!r} as both")
            above = above.rpartition("/")[0]


def _check_path(path: object) -> None:
    parts = path.split("/") if isinstance(path, str) else []
    plain = parts and not {"", ".", ".."} & set(parts) and "\0" not in str(path)
    fits = plain and all(len(part.encode("utf-8", "replace")) <= 255 for part in parts)
    if not fits or not (path in FILES or any(str(path).startswith(f"{folder}/") for folder in FOLDERS)):
        raise BackupError(
            f"backup: expected names of files in a home, got {str(path)[:80]!r}",
            remedy="Nothing was written. Who made this file? A backup that is yours: another copy of it.",
        )


def digest_of(path: Path) -> tuple[int, str]:
    """Length and SHA-256 of a regular file, in one reading.

    Raises:
        OSError: It is none.
    """
    with open_regular(path) as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
        return stream.tell(), found


def write_archive(target: Path, manifest: Manifest, place_of: Callable[[str], Path]) -> str:
    """Write a backup, for its owner alone, whole or not at all; the SHA-256 of the file.

    It gets its name once all of it was read back as a restore would: what cannot be restored is no backup.

    Raises:
        BackupError: A file is not what the manifest says any more; or what was written cannot be read back.
        OSError: It cannot be written, or there is a file of that name.
    """
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")  # mode 0600
    try:
        with os.fdopen(descriptor, "wb") as stream:
            with (
                gzip.GzipFile(fileobj=stream, mode="wb", compresslevel=3, mtime=0) as packed,
                tarfile.TarFile(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
            ):
                data = manifest.to_bytes()
                tar.addfile(_member(MANIFEST, len(data)), io.BytesIO(data))
                for item in manifest.items:
                    _add(tar, item, place_of(item.path))
            stream.flush()
            os.fsync(stream.fileno())
        with open_archive(Path(name)) as archive:
            archive.check()
        found = digest_of(Path(name))[1]
        os.link(name, target)  # unlike a rename, never over another backup
        sync_folder(target.parent)
        return found
    finally:
        Path(name).unlink(missing_ok=True)


def _member(name: str, length: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mode = length, 0o600
    return member


def _add(tar: tarfile.TarFile, item: Item, place: Path) -> None:
    with open_regular(place) as stream:
        seen = _Seen(stream)
        with suppress(OSError):  # tarfile's, for a file that is shorter now
            tar.addfile(_member(item.path, item.length), seen)
    if (seen.length, seen.digest.hexdigest()) != (item.length, item.sha256):
        raise BackupError(
            f"{item.path}: expected a file that nobody changes, got one that was changed while it was read",
            remedy="Nothing was written. Run the same command again.",
        )


class _Seen:
    """A stream that notes what was read of it."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self.digest, self.length = stream, hashlib.sha256(), 0

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self.digest.update(data)
        self.length += len(data)
        return data


class _Plain(tarfile.TarInfo):
    """A header of which tarfile believes no map of holes: that could be as long as its writer likes."""

    def _refuse(self, *_words: Any) -> NoReturn:
        raise BackupError("backup: expected plain files, got one with holes")

    _proc_sparse = _proc_gnusparse_00 = _proc_gnusparse_01 = _proc_gnusparse_10 = _refuse


class _Bounded:
    """A stream of which little is read at once: tarfile would read all of what a header claims to be its own."""

    def __init__(self, stream: gzip.GzipFile) -> None:
        self._stream = stream

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _CHUNK:
            raise BackupError(f"backup: expected headers of a few bytes, got one of {size}")
        return self._stream.read(size)

    def seek(self, offset: int) -> int:
        return self._stream.seek(offset)

    def tell(self) -> int:
        return self._stream.tell()


class Archive:
    """A backup that is open for reading. Make it with `open_archive`.

    Attributes:
        manifest: What it has.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self._sha256 = stream, ""
        self.manifest = self._read(None)

    def check(self) -> None:
        """Read all of it, and write nothing.

        Raises:
            BackupError: Something in it is not what its manifest says.
        """
        self._read(lambda _item, chunks: all(True for _ in chunks))

    def extract(self, folder: Path) -> None:
        """Write every file below `folder`, which is new and this user's alone; each is checked again.

        Raises:
            BackupError: As `check`: it was changed since.
            OSError: A file cannot be written.
        """

        def write(item: Item, chunks: Iterator[bytes]) -> None:
            place = folder / item.path
            place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            with os.fdopen(descriptor, "wb") as copy:
                for chunk in chunks:
                    copy.write(chunk)
                copy.flush()
                os.fsync(copy.fileno())

        self._read(write)

    def _read(self, each: Callable[[Item, Iterator[bytes]], Any] | None) -> Manifest:
        self._stream.seek(0)
        try:
            with gzip.GzipFile(fileobj=self._stream, mode="rb") as plain:
                tar = tarfile.TarFile(fileobj=_Bounded(plain), mode="r", tarinfo=_Plain)  # type: ignore[arg-type]  # what it needs
                first = _next(tar, MANIFEST, None)
                if first.size > MAX_MANIFEST_BYTES:
                    raise BackupError(f"backup: expected a manifest of at most {MAX_MANIFEST_BYTES} bytes, got more")
                data = b"".join(_chunks(tar, first))
                if each is None:
                    self._sha256 = sha256(data)
                    return Manifest.from_bytes(data)
                manifest = self.manifest
                if sha256(data) != self._sha256:
                    raise BackupError("backup: expected a file that nobody changes, got one that was changed")
                for item in manifest.items:
                    each(item, _checked(item, _chunks(tar, _next(tar, item.path, item.length))))
                    tar.members = []  # type: ignore[attr-defined]  # else it keeps them all
                if tar.next() is not None:
                    raise BackupError("backup: expected nothing beyond what its manifest lists, got more")
                return manifest
        except (tarfile.TarError, gzip.BadGzipFile, EOFError, ValueError, OverflowError) as error:
            raise BackupError(
                f"backup: expected a tar compressed with gzip, got something else ({str(error)[:120]})",
                remedy="Nothing was written. Is it all of the file? Take another copy of it.",
            ) from error
        except OSError as error:
            raise error if each is not None else BackupError(f"backup: expected a file, got {error}") from error


def _next(tar: tarfile.TarFile, name: str, length: int | None) -> tarfile.TarInfo:
    member = tar.next()
    if member is None:
        raise BackupError(f"backup: expected {name!r}, got the end of the file")
    plain = member.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and not member.issparse() and not member.linkname
    if member.name != name or not plain:
        kind = "a file" if plain else "a link, a folder or something else"
        raise BackupError(f"backup: expected the file {name!r}, got {kind} {member.name[:80]!r}")
    if length is not None and member.size != length:
        raise BackupError(f"backup: {name!r}: expected {length} bytes, as its manifest says, got {member.size}")
    return member


def _chunks(tar: tarfile.TarFile, member: tarfile.TarInfo) -> Iterator[bytes]:
    stream = tar.extractfile(member)
    while stream is not None and (chunk := stream.read(_CHUNK)):
        yield chunk


def _checked(item: Item, chunks: Iterator[bytes]) -> Iterator[bytes]:
    found, length = hashlib.sha256(), 0
    for chunk in chunks:
        found.update(chunk)
        length += len(chunk)
        yield chunk
    if (length, found.hexdigest()) != (item.length, item.sha256):
        raise BackupError(f"backup: {item.path!r}: expected the bytes of its manifest, got others")


@contextmanager
def open_archive(path: Path, expected: str = "") -> Iterator[Archive]:
    """A backup.

    Args:
        path: The file that a person named.
        expected: Its SHA-256 as kept elsewhere; "" to take the file as it is.

    Raises:
        BackupError: It is none, or another.
        OSError: It cannot be read.
    """
    with open_regular(path, follow=True) as stream:
        if expected:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
            if found != expected.lower():
                raise BackupError(
                    f"{path}: expected the backup {expected[:80]}, got another ({found})",
                    remedy="Nothing was written. Somebody changed it, or it is of another day.",
                )
        yield Archive(stream)
