"""A delivery between its verification and its answer."""

from __future__ import annotations

from dataclasses import dataclass

from twinseal.twin.delivered import FrameMark
from twinseal.twin.frame_gate import Refused, Taken
from twinseal.twin.frames import MAX_ROWS, MAX_UNITS
from twinseal.twin.inputs.source import Unreadable
from twinseal.twin.rows import ReadRows

MAX_PART = MAX_ROWS + MAX_UNITS  # rows, and units of frames, that are kept together: as many as one frame has


@dataclass(frozen=True, eq=False)
class Heard:
    """A delivery that was verified, and not yet remembered or answered.

    Attributes:
        rows: Those that are taken, in order.
        signed: Of each, whether a device signed it; None where no device is enrolled.
        marks: The frames that they came in.
        items: What was taken, refused or unreadable, in order; rows that were taken as such are not among them.
        parts: How many rows, and how many marks, are kept together on the disk; a frame is in one part.
    """

    rows: ReadRows
    signed: tuple[bool | None, ...]
    marks: tuple[FrameMark, ...]
    items: tuple[Taken | Refused | Unreadable, ...]
    parts: tuple[tuple[int, int], ...]


class Parts:
    """Cuts a delivery, so that each part of it fits into a record of the journal, and each frame is in one part."""

    def __init__(self) -> None:
        self.ended: list[tuple[int, int]] = []
        self._size = 0

    def add(self, rows: int, units: int | None = None) -> None:
        """Add a frame of so many rows and units, or rows without a frame."""
        size = rows + (units or 0)
        if not self.ended or self._size + size > MAX_PART:
            self.ended.append((0, 0))
            self._size = 0
        before = self.ended[-1]
        self.ended[-1] = before[0] + rows, before[1] + (units is not None)
        self._size += size
