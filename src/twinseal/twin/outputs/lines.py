"""Lines of JSON, to standard output or to a file: one for each answer and each alert.

A file is opened to append, and made for its owner and group alone. It may be moved away at any time (logrotate), and is
then made anew; SIGHUP of the service does the same by `reopen`. With `max_mib` it is moved by the twin itself, to
FILE.1, FILE.2, and so on.

A line is whole or not there: what could not be written whole (a full disk) is cut off again, and a part of a line that
a loss of power left is closed by a line end, and never continued.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import select
import stat
import sys
from collections.abc import Sequence
from pathlib import Path

from twinseal.errors import ConfigError
from twinseal.twin.answers import Answer
from twinseal.twin.outputs.output import Message, OutputError, Tell
from twinseal.twin.outputs.settings import LinesSettings

STALLED_MS = 5_000
_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class LinesOutput:
    """One file, or standard output.

    Args:
        name: Its name in the twin's settings.
        settings: Where, and of what.
    """

    def __init__(self, name: str, settings: LinesSettings) -> None:
        self._name, self._settings = name, settings
        self._path = None if settings.path == "-" else Path(settings.path)
        self._descriptor, self._anew = -1, False
        self._rest = b""  # of a line that standard output has a part of

    @property
    def name(self) -> str:
        """As Output says."""
        return self._name

    def takes(self, message: Message) -> bool:
        """As Output says."""
        return self._settings.messages in ("all", "answers" if isinstance(message, Answer) else "alerts")

    async def open(self, _tell: Tell) -> None:
        """As Output says."""
        if self._path is None:
            self._descriptor = os.dup(sys.stdout.fileno())
            return
        try:
            self._open(self._path)
        except OSError as error:
            raise ConfigError(
                f"{self._path}: expected a file that can be written to, got {error.strerror}",
                remedy=f"Make the folder {self._path.parent} for the user of the twin, or name another file.",
            ) from error

    def reopen(self) -> None:
        """As Output says."""
        self._anew = self._path is not None

    async def publish(self, messages: Sequence[Message]) -> None:
        """As Output says."""
        data = "".join(message.to_json() for message in messages).encode("utf-8", "replace")
        try:
            await asyncio.to_thread(self._write, data)
        except OSError as error:
            raise OutputError(f"{self.name}: expected {len(data)} bytes to be written, got {error.strerror}") from error

    async def close(self) -> None:
        """As Output says."""
        self._shut()

    def _write(self, data: bytes) -> None:
        if self._path is None:
            self._write_to_stdout(data)
            return
        if self._anew or self._descriptor < 0 or not self._is_in_place(self._path):
            self._anew = False
            self._shut()
            self._open(self._path)
        size = os.fstat(self._descriptor).st_size
        if self._settings.max_mib and size and size + len(data) > self._settings.max_mib << 20:
            self._rotate(self._path)
            size = 0
        try:
            _write_all(self._descriptor, data)
            if self._settings.sync:
                os.fdatasync(self._descriptor)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, size)
            raise

    def _write_to_stdout(self, data: bytes) -> None:
        """Wait for room, not for ever: whoever reads may have stopped. A line that was begun is finished first."""
        data, begun, done = self._rest + data, len(self._rest), 0
        ready = select.poll()
        ready.register(self._descriptor, select.POLLOUT)
        try:
            while done < len(data):
                if not ready.poll(STALLED_MS):
                    raise OSError(errno.EAGAIN, f"a reader that took nothing in {STALLED_MS // 1000} s")
                done += os.write(self._descriptor, data[done : done + select.PIPE_BUF])  # so much never waits
        except OSError:
            is_inside = done < begun or data[done - 1 : done] not in (b"", b"\n")
            self._rest = data[done : data.index(b"\n", done) + 1] if is_inside else b""
            raise
        self._rest = b""

    def _open(self, path: Path) -> None:
        descriptor = os.open(path, _FLAGS, 0o640)
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise OSError(errno.EINVAL, "no regular file")
            if found.st_size and os.pread(descriptor, 1, found.st_size - 1) != b"\n":
                _write_all(descriptor, b"\n")
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor

    def _is_in_place(self, path: Path) -> bool:
        """Whether the name still is that of the open file."""
        try:
            named, opened = path.lstat(), os.fstat(self._descriptor)
        except FileNotFoundError:
            return False
        return (named.st_dev, named.st_ino) == (opened.st_dev, opened.st_ino)

    def _rotate(self, path: Path) -> None:
        kept = self._settings.keep
        for number in range(kept - 1, 0, -1):
            with contextlib.suppress(FileNotFoundError):
                path.with_name(f"{path.name}.{number}").replace(path.with_name(f"{path.name}.{number + 1}"))
        path.replace(path.with_name(f"{path.name}.1"))
        self._shut()
        self._open(path)

    def _shut(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _write_all(descriptor: int, data: bytes) -> None:
    done = 0
    while done < len(data):
        done += os.write(descriptor, data[done:])
