"""Telemetry by the standard input: JSON lines, each delivered at once, or signed frames after their lengths.

kind: lines
carries: rows         # or frames: what `twinseal gateway` writes
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Literal, Protocol

from twinseal.config import Settings
from twinseal.twin.frame_gate import Refused
from twinseal.twin.frame_stream import FrameBuffer
from twinseal.twin.inputs.json_rows import MAX_ROW_BYTES, row_of
from twinseal.twin.inputs.source import Item, SignedFrame, SourceEvent, Tell, Unreadable

_CHUNK = 64 << 10


class LinesSettings(Settings):
    """A source of this kind.

    Attributes:
        kind: `lines`.
        carries: Signed frames; or rows that nobody has signed.
        plant_columns: Whether rows have the plant's own columns: see `plant_rows`.
    """

    kind: Literal["lines"]
    carries: Literal["frames", "rows"]
    plant_columns: bool = False


class Described(Protocol):
    """What the system has a number for: the standard input, an open file."""

    def fileno(self) -> int:
        """Its number."""
        ...


class LineBuffer:
    """Finds the lines in bytes as they come, and the rows in them.

    Args:
        name: Of the source, for messages.
    """

    def __init__(self, name: str) -> None:
        self._name, self._rest, self._is_long, self._number = name, b"", False, 0

    def feed(self, data: bytes) -> list[Item]:
        """What the lines say that are whole by these bytes."""
        *whole, rest = (self._rest + data).split(b"\n")
        items = [item for line in whole if (item := self._line(line)) is not None]
        if len(rest) > MAX_ROW_BYTES:
            self._is_long, rest = True, rest[:1]
        self._rest = rest
        return items

    def end(self) -> list[Item]:
        """What the last line says, if it has no end."""
        item = self._line(self._rest)
        self._rest = b""
        return [item] if item is not None else []

    def _line(self, line: bytes) -> Item | None:
        self._number += 1
        origin, is_long = f"{self._name}, line {self._number}", self._is_long
        self._is_long = False
        if is_long:
            text = f"{origin}: expected a line of at most {MAX_ROW_BYTES} bytes, got a longer one"
            return Unreadable("too long", text, origin)
        return row_of(line, origin) if line.strip() else None


class _Frames:
    """The same for frames."""

    def __init__(self, name: str) -> None:
        self._name, self._buffer = name, FrameBuffer()

    def feed(self, data: bytes) -> list[Item]:
        return [self._item(one) for one in self._buffer.feed(data)]

    def end(self) -> list[Item]:
        return [self._item(one) for one in self._buffer.end()]

    def _item(self, one: bytes | Refused) -> Item:
        if isinstance(one, Refused):
            return Unreadable(one.reason, f"{self._name}: {one.message}", self._name)
        return SignedFrame(one, self._name)


class LinesSource:
    """As `Source` says.

    Args:
        name: Its name in the twin's settings.
        settings: Of it.
        tell: Told of the end.
        stream: What is read; the standard input by default. It is not closed.
    """

    def __init__(self, name: str, settings: LinesSettings, tell: Tell, stream: Described | None = None) -> None:
        self._name, self._settings, self._tell, self._stream = name, settings, tell, stream

    @property
    def name(self) -> str:
        """As `Source` says."""
        return self._name

    async def deliveries(self) -> AsyncGenerator[Sequence[Item], None]:
        """As `Source` says."""
        found = _Frames(self._name) if self._settings.carries == "frames" else LineBuffer(self._name)
        descriptor = (self._stream or sys.stdin).fileno()
        self._tell(SourceEvent("connected", self._name))
        async with aclosing(_chunks(descriptor)) as chunks:
            async for data in chunks:
                if items := found.feed(data):
                    yield items
        if items := found.end():
            yield items
        self._tell(SourceEvent("ended", self._name))


async def _chunks(descriptor: int) -> AsyncGenerator[bytes, None]:
    """The bytes of a pipe as they come, and of a file; no thread waits for them, so that a twin can end at once."""
    while True:
        await _until_readable(descriptor)
        data = os.read(descriptor, _CHUNK)
        if not data:
            return
        yield data


async def _until_readable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    try:
        loop.add_reader(descriptor, ready.set)
    except PermissionError:  # a file is always ready, and epoll takes none
        await asyncio.sleep(0)
        return
    try:
        await ready.wait()
    finally:
        loop.remove_reader(descriptor)
