"""Locks: what may happen at the same time in the twin's folder.

    pull.lock         one pull at a time; held while it asks a registry
    commission.lock   one commissioner at a time; held while a key signs, which may be on a token
    frames.lock       one reader of signed frames at a time: two would not know each other's numbers
    lock              writers alone, a start of the twin shares it

Rule: who holds `lock` alone waits for this machine's disk and for nothing else. So a registry that answers slowly, or
never, delays no start of the model that is installed. The system frees a lock when its process ends, however it ends.
"""

from __future__ import annotations

import fcntl
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from twinseal.errors import BusyError, TrustError

_HOLDER = re.compile(rb"([0-9]{1,10}) ([0-9T:Z-]{20})\n")


@contextmanager
def shared(path: Path, *, make: bool = False) -> Iterator[None]:
    """Lock with other readers; waits for a writer, who is short.

    Args:
        path: The lock's file.
        make: Make the file if there is none.

    Raises:
        TrustError: Something else is in its place.
        OSError: It cannot be opened.
    """
    with _locked(path, (os.O_RDWR | os.O_CREAT) if make else os.O_RDONLY, fcntl.LOCK_SH):
        yield


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Lock against all others; waits for them. Inside, wait for nothing but the disk.

    Raises:
        TrustError: Something else is in its place.
        OSError: It cannot be made or opened.
    """
    with _locked(path, os.O_RDWR | os.O_CREAT, fcntl.LOCK_EX):
        yield


@contextmanager
def only_one(path: Path, what: str, now: datetime) -> Iterator[None]:
    """Lock against a second process that does `what`: it is refused at once, and told who has the lock since when.

    Args:
        path: The lock's file. The holder's process and time are written into it; for the message, nothing trusts it.
        what: The command, for the message.
        now: Aware.

    Raises:
        BusyError: Another process has it.
        TrustError: Something else is in its place.
        OSError: It cannot be made or opened.
    """
    try:
        with _locked(path, os.O_RDWR | os.O_CREAT, fcntl.LOCK_EX | fcntl.LOCK_NB) as descriptor:
            text = f"{os.getpid()} {now.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}\n".encode()
            os.ftruncate(descriptor, os.pwrite(descriptor, text, 0))
            yield
    except BlockingIOError:
        raise _busy_error(path, what) from None


@contextmanager
def _locked(path: Path, flags: int, kind: int) -> Iterator[int]:
    descriptor = _open(path, flags)
    try:
        fcntl.flock(descriptor, kind)
        yield descriptor
    finally:
        os.close(descriptor)  # and with it the lock


def _open(path: Path, flags: int) -> int:
    """The lock's file; a link is not followed, and a fifo does not block."""
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise TrustError(
            f"{path}: expected a lock, got no regular file", remedy=f"Find out who made it; then rm {path}"
        )
    return descriptor


def _busy_error(path: Path, what: str) -> BusyError:
    descriptor = _open(path, os.O_RDONLY)
    try:
        holder = _HOLDER.fullmatch(os.pread(descriptor, 64, 0))
    finally:
        os.close(descriptor)
    remedy = "Wait until it has ended. The model that is installed can be started meanwhile."
    if holder is None:  # it has just begun, or something else was written there
        return BusyError(f"{path.parent}: expected no other {what} at the same time, got one", remedy=remedy)
    process, since = (part.decode() for part in holder.groups())
    return BusyError(
        f"{path.parent}: expected no other {what} at the same time, got one that is running "
        f"(process {process}, since {since})",
        remedy=f"{remedy} If it hangs, end it: kill {process}",
    )
