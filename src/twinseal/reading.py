"""Reading: the one way to open a file that somebody else may have put there.

A name in a folder that others write to (approvals, keys, a registry's disk, a twin's state) can be a link to another
place, a fifo or a device, which make a reader wait for ever or read without end. Every module that reads such a file
opens it here; `tests/test_careful_reader.py` lists the few that do not, each with its reason.

    open_regular    a regular file, as a stream
    read_regular    its bytes, up to a limit
    open_beneath    as open_regular, where no folder on the way may be a link either

Nothing here waits, and nothing is opened for writing.

    >>> read_regular(Path("/dev/zero"), 10)
    Traceback (most recent call last):
    OSError: [Errno 22] no regular file: '/dev/zero'
"""

from __future__ import annotations

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path

_FOLDER = os.O_RDONLY | os.O_DIRECTORY
_FILE = os.O_RDONLY | os.O_NONBLOCK  # NONBLOCK: to open a fifo must not wait for whoever writes to it


def open_regular(path: Path, *, follow: bool = False) -> BufferedReader:
    """The regular file at `path`, open for reading.

    Args:
        path: Which.
        follow: Follow a link in the last part of the path: only for a path that the person at the terminal named.

    Raises:
        OSError: There is no file, or it is a link, a fifo, a folder or a device.
    """
    return _regular(os.open(path, _FILE if follow else _FILE | os.O_NOFOLLOW), path)


def read_regular(path: Path, limit: int, *, follow: bool = False) -> bytes:
    """The bytes of the regular file at `path`, at most `limit` + 1, so that the caller sees that a file is too long.

    Raises:
        OSError: As `open_regular`.
    """
    with open_regular(path, follow=follow) as stream:
        return stream.read(limit + 1)


def open_beneath(folder: Path, relative: str) -> BufferedReader:
    """The regular file `relative` below `folder`, open for reading. No part of `relative` may be a link.

    Args:
        folder: Where to begin. It may be reached by links.
        relative: POSIX path without `..`, as `files.check_path` admits it.

    Raises:
        OSError: There is no such file, a part of the way is a link, or it is no regular file.
    """
    *folders, name = relative.split("/")
    here = os.open(folder, _FOLDER)
    try:
        for part in folders:
            below = os.open(part, _FOLDER | os.O_NOFOLLOW, dir_fd=here)
            os.close(here)
            here = below
        return _regular(os.open(name, _FILE | os.O_NOFOLLOW, dir_fd=here), folder / relative)
    finally:
        os.close(here)


def require_folder(path: Path) -> Path:
    """`path`, if it is a folder and no link to one.

    Raises:
        OSError: It is a link, something else, or absent.
    """
    if not stat.S_ISDIR(path.lstat().st_mode):
        raise NotADirectoryError(errno.ENOTDIR, "no folder", str(path))
    return path


def _regular(descriptor: int, path: Path) -> BufferedReader:
    if stat.S_ISREG(os.fstat(descriptor).st_mode):  # of the open file, not of its name
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    raise OSError(errno.EINVAL, "no regular file", str(path))
