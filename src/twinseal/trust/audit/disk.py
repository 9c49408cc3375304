"""The log's files: bounded reads that cannot block, writes that survive a loss of power, one writer at a time.

tlog-scales leaves this to its caller. (Its own `atomic_write` accepts a short write, as a full disk gives first, and
would replace a good checkpoint with half of one.)
"""

from __future__ import annotations

import fcntl
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from twinseal import reading
from twinseal.errors import AuditError
from twinseal.files import sync_folder, write_new, write_whole

LOCK_SECONDS = 30.0


def read(path: Path, limit: int, *, private: bool = False) -> bytes | None:
    """The bytes of a regular file; None when there is none.

    Args:
        path: The file; a link is not followed.
        limit: The most bytes that it may have.
        private: Refuse one that its group or others may read.

    Raises:
        AuditError: It is no regular file, is too long, or is not as private as it must be.
    """
    stream = open_regular(path)
    if stream is None:
        return None
    with stream:
        mode = os.fstat(stream.fileno()).st_mode
        if private and mode & 0o077:
            raise AuditError(
                f"{path}: expected a key that its owner alone can read, got mode {stat.S_IMODE(mode):04o}",
                remedy=f"chmod 600 {path}   (and ask who else has read it)",
            )
        data = stream.read(limit + 1)
    if len(data) > limit:
        raise AuditError(f"{path}: expected at most {limit} bytes, got more")
    return data


def tail(path: Path, most: int) -> bytes:
    """The last bytes of a file, at most `most`; empty when there is no file.

    Raises:
        AuditError: It is no regular file.
    """
    stream = open_regular(path)
    if stream is None:
        return b""
    with stream:
        stream.seek(max(0, os.fstat(stream.fileno()).st_size - most))
        return stream.read(most)


def open_regular(path: Path) -> BinaryIO | None:
    """A regular file, open for reading; None when there is none. A link is not followed.

    Raises:
        AuditError: It is something else.
    """
    try:
        return reading.open_regular(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise AuditError(f"{path}: expected a regular file of the audit log, got none ({error.strerror})") from error


def replace_file(path: Path, data: bytes) -> None:
    """Write a file whole, in place of an older one; it and its name are on the disk when this returns.

    Raises:
        OSError: The old file stands.
    """
    make_folder(path.parent)
    write_whole(path, data, mode=0o600)
    sync_folder(path.parent)


def create_file(path: Path, data: bytes) -> None:
    """As `replace_file`, but never over an older file.

    Raises:
        FileExistsError: There is one.
        OSError: Nothing was written.
    """
    make_folder(path.parent)
    write_new(path, data)
    sync_folder(path.parent)


def append_bytes(path: Path, data: bytes) -> None:
    """Add `data` to the end of a file; on the disk when this returns.

    Raises:
        OSError: Part of it may be there.
    """
    new = not path.exists()
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600), "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    if new:
        sync_folder(path.parent)


def truncate(path: Path, length: int) -> None:
    """Keep the first `length` bytes of a file."""
    with path.open("r+b") as stream:
        os.ftruncate(stream.fileno(), length)
        os.fsync(stream.fileno())


def make_folder(path: Path) -> None:
    """Make a private folder, and those above it; each is on the disk when this returns."""
    if not path.is_dir():
        make_folder(path.parent)
        path.mkdir(mode=0o700, exist_ok=True)
        sync_folder(path.parent)


@contextmanager
def lock(path: Path, *, alone: bool) -> Iterator[None]:
    """Lock the file at `path`, alone to write, or shared with other readers. A copy of a log without one needs no lock.

    Raises:
        AuditError: Others have held it for 30 s.
        OSError: The lock cannot be made or opened.
    """
    if not alone and not path.exists():
        yield
        return
    flags = os.O_RDWR | os.O_CREAT if alone else os.O_RDONLY
    descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_NOFOLLOW, 0o600)
    try:
        _acquire(descriptor, fcntl.LOCK_EX if alone else fcntl.LOCK_SH, path)
        yield
    finally:
        os.close(descriptor)  # and with it the lock


def _acquire(descriptor: int, kind: int, path: Path) -> None:
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise AuditError(
                    f"{path}: expected the audit log to be free within {LOCK_SECONDS:.0f} s, got it held by another",
                    remedy="See who holds it (fuser), then run the same command again.",
                ) from None
            time.sleep(0.002)
