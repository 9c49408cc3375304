"""Telemetry from a file, played again at a rate: CSV, Parquet, JSON lines, and files as the plant exports them.

kind: replay
path: telemetry.csv
rows_a_second: 10     # 0, or left out: as fast as they are answered
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from twinseal.config import Settings
from twinseal.errors import ConfigError, DataError
from twinseal.telemetry.mapping import ColumnMapping
from twinseal.twin import telemetry_reader
from twinseal.twin.inputs.source import Item, SourceEvent, Tell, Unreadable, UnsignedRow
from twinseal.twin.rows import in_batches

_AT_ONCE = 1_024  # rows
_TICK_S = 0.05  # rows of so many seconds are delivered together


class ReplaySettings(Settings):
    """A source of this kind.

    Attributes:
        kind: `replay`.
        path: The file, or a folder of the plant's files.
        rows_a_second: How fast; 0: as fast as they are answered.

    Raises:
        ValueError: The rate is none; or the path is the standard input, which is of the kind `lines`.
    """

    kind: Literal["replay"]
    path: str
    rows_a_second: float = 0.0

    def model_post_init(self, _context: Any, /) -> None:
        """Refuse what is no file or no rate."""
        if not 0 <= self.rows_a_second <= 1_000_000:
            raise ValueError(f"rows_a_second: expected 0 to 1000000, got {self.rows_a_second}")
        if self.path in ("", "-"):
            raise ValueError("path: expected a file, got the standard input, which is of the kind lines")


@dataclass(frozen=True)
class Columns:
    """What a model reads, so that files can be read for it.

    Attributes:
        channels: Its channels.
        mapping: Of the plant's files that trained it; None if it was trained on others.
    """

    channels: tuple[str, ...]
    mapping: ColumnMapping | None = None


class ReplaySource:
    """As `Source` says.

    Args:
        name: Its name in the twin's settings.
        settings: Of it.
        tell: Told of the end.
        columns: What the model reads.
    """

    def __init__(self, name: str, settings: ReplaySettings, tell: Tell, columns: Columns) -> None:
        self._name, self._settings, self._tell, self._columns = name, settings, tell, columns

    @property
    def name(self) -> str:
        """As `Source` says."""
        return self._name

    async def deliveries(self) -> AsyncGenerator[Sequence[Item], None]:
        """As `Source` says."""
        aside: list[str] = []
        batches = await asyncio.to_thread(self._open, aside.append)
        self._tell(SourceEvent("connected", self._name))
        rate, origin, given = self._settings.rows_a_second, f"{self._name}, {self._settings.path}", 0
        size = min(_AT_ONCE, max(1, int(rate * _TICK_S))) if rate else _AT_ONCE
        loop = asyncio.get_running_loop()
        begin = loop.time()
        while (batch := await asyncio.to_thread(_next, batches, aside)) is not None:
            while aside:
                yield [Unreadable("malformed", text, origin) for text in _first(aside, _AT_ONCE)]
            for start in range(0, len(batch), size):
                rows = batch[start : start + size]
                if rate:
                    await asyncio.sleep(max(0.0, begin + (given + len(rows)) / rate - loop.time()))
                yield [UnsignedRow(row, origin) for row in rows]
                given += len(rows)
        while aside:
            yield [Unreadable("malformed", text, origin) for text in _first(aside, _AT_ONCE)]
        self._tell(SourceEvent("ended", self._name))

    def _open(self, set_aside: Any) -> Iterator[list[Mapping[str, Any]]]:
        path = Path(self._settings.path)
        try:
            rows = telemetry_reader.read(path, self._columns.channels, set_aside, self._columns.mapping)
        except DataError as error:
            raise ConfigError(f"{self._name}: {error}", remedy=error.remedy) from error
        return in_batches(rows, _AT_ONCE)


def _next(batches: Iterator[list[Mapping[str, Any]]], aside: list[str]) -> list[Mapping[str, Any]] | None:
    """The next rows; None at the end, also where the file is broken from here on, which is said."""
    try:
        return next(batches, None)
    except DataError as error:
        aside.append(str(error))
        return None


def _first(texts: list[str], most: int) -> list[str]:
    """Take the first ones out."""
    found, texts[:] = texts[:most], texts[most:]
    return found
