"""Files: the exact content of a directory, and writes that are complete or do not happen.

An inventory lists regular files only. A link, a fifo, a device, or a name that could lead to another place is refused,
not skipped: an attacker would add exactly what the list leaves out.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> write_whole(folder / "a.txt", b"abc")
    >>> [(record.path, record.length) for record in inventory(folder)]
    [('a.txt', 3)]
"""

from __future__ import annotations

import json
import os
import re
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from twinseal.digests import canonical_json, is_sha256, sha256, sha256_file
from twinseal.errors import DigestMismatchError, EvidenceError
from twinseal.reading import require_folder

# Names that mean the same on every file system: plain ASCII, no look-alike letters, no hidden files.
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,127}\Z")
MAX_FILE_BYTES = 8 << 30


@dataclass(frozen=True, order=True)
class FileRecord:
    """One file of a directory: its path, length and digest.

    Attributes:
        path: Relative POSIX path; every part is plain ASCII and not hidden.
        length: In bytes.
        sha256: SHA-256 of the bytes, hexadecimal.

    Raises:
        EvidenceError: The path could lead to another place, the length is out of range, or the digest is malformed.
    """

    path: str
    length: int
    sha256: str

    def __post_init__(self) -> None:
        check_path(self.path)
        if type(self.length) is not int or not 0 <= self.length <= MAX_FILE_BYTES:
            got = str(self.length)[:40]
            raise EvidenceError(f"{self.path}: expected a length of 0 to {MAX_FILE_BYTES} bytes, got {got}")
        if not is_sha256(self.sha256):
            raise EvidenceError(f"{self.path}: expected a SHA-256, got {str(self.sha256)[:80]!r}")

    def to_dict(self) -> dict[str, Any]:
        """Law: `FileRecord.from_dict(record.to_dict()) == record`."""
        return {"path": self.path, "length": self.length, "sha256": self.sha256}

    @classmethod
    def from_dict(cls, value: Any) -> FileRecord:
        """The record that a JSON object describes.

        Raises:
            EvidenceError: It is not an object with exactly path, length and sha256.
        """
        if not isinstance(value, dict) or set(value) != {"path", "length", "sha256"}:
            raise EvidenceError(f"file record: expected path, length and sha256, got {str(value)[:80]}")
        return cls(value["path"], value["length"], value["sha256"])


def check_path(path: object) -> None:
    """Refuse a relative path that could lead to another place than it seems to.

    Raises:
        EvidenceError: Not a string; absolute; empty; a part that is `..`, hidden, not plain ASCII, or over 128 long.
    """
    if not isinstance(path, str) or not path or len(path) > 512 or not all(map(_PLAIN_NAME.match, path.split("/"))):
        raise EvidenceError(f"file name: expected a plain relative path, got {str(path)[:80]!r}")


def inventory(directory: Path) -> tuple[FileRecord, ...]:
    """Every file below `directory`, sorted by path. Empty directories are ignored.

    Raises:
        DigestMismatchError: An entry is neither a regular file nor a directory, a name is not plain, or two names
            differ only in case.
        OSError: The directory cannot be read, or is a link to another.
    """
    records = []
    require_folder(directory)
    for folder, folders, names in os.walk(directory, onerror=_raise):
        for name in sorted(folders + names):
            path = Path(folder, name)
            mode = path.lstat().st_mode
            relative = path.relative_to(directory).as_posix()
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                raise DigestMismatchError(
                    f"{relative}: expected a regular file, got {_kind_of_file(mode)} ({directory})"
                )
            if stat.S_ISREG(mode):
                records.append(_record(path, relative, directory))
    refuse_case_folds(tuple(records))
    return tuple(sorted(records))


def refuse_case_folds(records: tuple[FileRecord, ...]) -> None:
    """Refuse names that are equal or differ only in case: on some file systems the second replaces the first.

    Raises:
        DigestMismatchError: Two records have the same name.
    """
    seen: dict[str, str] = {}
    for record in records:
        other = seen.setdefault(record.path.casefold(), record.path)
        if other is not record.path:
            raise DigestMismatchError(f"{record.path}: expected one file of this name, got {other} too")


def tree_digest(records: tuple[FileRecord, ...]) -> str:
    """One digest for a set of files: SHA-256 of the canonical JSON of its records, sorted by path."""
    return sha256(canonical_json([record.to_dict() for record in sorted(records)]))


@contextmanager
def writing_whole(path: Path, *, mode: int = 0o644) -> Iterator[BinaryIO]:
    """A stream whose bytes take the place of `path` when the block has ended well; as `write_whole`, in pieces.

    Side effects: creates missing parent folders, and a temporary file beside `path` while it writes.

    Raises:
        OSError: The file cannot be written; the old file is unchanged.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        Path(name).chmod(mode)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_whole(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Write `data` to `path` so that readers see the old bytes or the new ones, never a part, even after a crash.

    Side effects and errors: as `writing_whole`.
    """
    with writing_whole(path, mode=mode) as stream:
        stream.write(data)


def write_new(path: Path, data: bytes) -> None:
    """Write a new file, complete, flushed, mode 0600. It never replaces a file: a rename would, a hard link does not.

    Raises:
        FileExistsError: The file exists.
        OSError: The file cannot be written; nothing is left behind.
    """
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mkstemp sets mode 0600
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.link(name, path)
    finally:
        Path(name).unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Flush the names in a folder to disk: without this, a flushed file can lose its name in a power failure.

    Raises:
        OSError: The folder cannot be flushed.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON value for people and programs: sorted, indented, complete or not at all.

    Raises:
        ValueError, TypeError: As `canonical_json`.
        OSError: As `write_whole`.
    """
    canonical_json(value)  # refuses what JSON cannot express
    write_whole(path, (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode())


def relative_names(records: tuple[FileRecord, ...], folder: str) -> tuple[FileRecord, ...]:
    """The records below `folder`, with paths relative to it."""
    prefix = f"{folder}/"
    return tuple(
        FileRecord(str(PurePosixPath(record.path).relative_to(folder)), record.length, record.sha256)
        for record in records
        if record.path.startswith(prefix)
    )


def _record(path: Path, relative: str, directory: Path) -> FileRecord:
    try:
        return FileRecord(relative, path.stat().st_size, sha256_file(path))
    except EvidenceError as error:
        raise DigestMismatchError(f"{error} ({directory})") from error


def _raise(error: OSError) -> None:
    raise error


def _kind_of_file(mode: int) -> str:
    return "a link" if stat.S_ISLNK(mode) else "a special file"
