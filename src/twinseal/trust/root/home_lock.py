"""The lock over a home: one ceremony or publication at a time, by as many processes as there are.

    lock    held with flock(2) while something is decided; it says by whom: the process and its command

The kernel frees it when its process ends, however it ends. Reading needs no lock: each file is replaced whole, and the
anchor last.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from twinseal.errors import BusyError, RootError
from twinseal.trust.root.private_folders import make_private

LOCK = "lock"
LOCK_SECONDS = 10.0
MAX_HOLDER = 200
_WORD = re.compile(r"[a-z][a-z-]*\Z")


@contextmanager
def locked(home: Path) -> Iterator[None]:
    """Hold the lock of the home at `home` for the length of the block. Not to be held twice by one process.

    Raises:
        BusyError: Another process has held it for ten seconds; names it.
        RootError: The lock cannot be made.
    """
    path = home / LOCK
    try:
        make_private(home)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise RootError(f"{path}: expected to lock the home, got {error.strerror or error}") from error
    try:
        _acquire(descriptor, path)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()}: {_command()}".encode()[:MAX_HOLDER], 0)
        yield
    finally:
        os.close(descriptor)  # and with it the lock


def _command() -> str:
    """The command of this process, without its options and files: they may hold a password."""
    words = itertools.takewhile(_WORD.match, sys.argv[1:3])
    return " ".join((Path(sys.argv[0]).name, *words))


def _acquire(descriptor: int, path: Path) -> None:
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                holder = os.pread(descriptor, MAX_HOLDER, 0).decode("utf-8", "replace") or "another process"
                raise BusyError(
                    f"{path}: expected nobody else to be changing this home, got {holder}",
                    remedy="Nothing was changed. Wait until that has ended, then run the same command again.",
                ) from None
            time.sleep(0.05)
