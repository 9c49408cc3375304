"""A delivery as the journal keeps it: the rows that were taken together, and the frames that they came in."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from twinseal.digests import is_sha256, parse_json
from twinseal.errors import EvidenceError
from twinseal.prognostics.normaliser import F64
from twinseal.telemetry.unit_names import unit_name
from twinseal.twin.row_journal import MAX_PAYLOAD_BYTES
from twinseal.twin.rows import ReadRows
from twinseal.twin.runtime import as_sent

_FIELDS = frozenset(("units", "cycles", "frames", "channels"))
_MAX_CYCLE_TEXT = 80


@dataclass(frozen=True)
class FrameMark:
    """How far a device's sequence has come with a frame that was taken.

    Attributes:
        key: Fingerprint of the device's key.
        sequence: The frame's number.
        units: The operating count of each of its machines.
    """

    key: str
    sequence: int
    units: Mapping[str, int]


@dataclass(frozen=True, eq=False)
class Delivered:
    """R rows that were taken together.

    Law: a runtime says the same of `Delivered.from_bytes(item.to_bytes()).rows(inputs)` as of the rows themselves.

    Attributes:
        units: R, as the rows had them; None for what is no name.
        cycles: R, likewise; None for what is neither a number nor a text.
        channels: I names.
        readings: (R, I), in each channel's unit; NaN where it is missing.
        frames: Those that the rows came in, as far as they were signed.
    """

    units: tuple[str | int | float | None, ...]
    cycles: tuple[Any, ...]
    channels: tuple[str, ...]
    readings: F64
    frames: tuple[FrameMark, ...] = ()

    @classmethod
    def of(cls, rows: ReadRows, channels: Sequence[str], frames: Sequence[FrameMark] = ()) -> Delivered:
        """Rows that were read for a model whose inputs are these channels."""
        units, cycles = tuple(map(_sent, rows.units)), tuple(map(_cycle, rows.cycles))
        return cls(units, cycles, tuple(channels), rows.readings, tuple(frames))

    def rows(self, inputs: Sequence[str]) -> ReadRows:
        """The rows, for a model of these inputs.

        Raises:
            EvidenceError: They were read for others.
        """
        if self.channels != tuple(inputs):
            raise EvidenceError(f"journal: expected rows of {', '.join(inputs)}, got others"[:200])
        return ReadRows(self.units, self.cycles, self.readings)

    def to_bytes(self) -> bytes:
        """A line of JSON, then the readings, 8 bytes each, row by row."""
        frames = [[item.key, item.sequence, dict(item.units)] for item in self.frames]
        told = {"units": self.units, "cycles": self.cycles, "channels": self.channels, "frames": frames}
        return json.dumps(told, separators=(",", ":")).encode() + b"\n" + self.readings.astype("<f8").tobytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> Delivered:
        """The value that `to_bytes` gave.

        Raises:
            EvidenceError: It is no such value.
        """
        head, _, rest = data.partition(b"\n")
        told: Any = parse_json(head, "journal", limit=MAX_PAYLOAD_BYTES, nodes=MAX_PAYLOAD_BYTES)
        if not isinstance(told, dict) or set(told) != _FIELDS:
            raise EvidenceError(f"journal: expected {', '.join(sorted(_FIELDS))}, got {str(told)[:80]}")
        try:
            frames = tuple(_mark(*item) for item in told["frames"])
            readings = np.frombuffer(rest, dtype="<f8").reshape(len(told["units"]), len(told["channels"]))
            readings = np.where(np.isfinite(readings), readings, np.nan)
            if len(told["cycles"]) != len(readings) or not all(isinstance(name, str) for name in told["channels"]):
                raise ValueError("rows of another number, or channels without a name")
        except (TypeError, ValueError) as error:
            raise EvidenceError(f"journal: expected rows and frames, got {error}"[:200]) from error
        return cls(tuple(told["units"]), tuple(told["cycles"]), tuple(told["channels"]), readings, frames)


def _mark(key: Any, sequence: Any, units: Any) -> FrameMark:
    if not is_sha256(key) or type(sequence) is not int or not isinstance(units, dict):
        raise TypeError("a frame without a key, a number or units")
    if not all(type(count) is int for count in units.values()):
        raise TypeError("a count that is no number")
    return FrameMark(key, sequence, units)


def _sent(value: Any) -> str | int | float | None:
    sent = as_sent(value)
    return sent if unit_name(sent) == unit_name(value) else unit_name(value)


def _cycle(value: Any) -> Any:
    """A cycle, so that it reads the same from JSON."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, str):
        return as_sent(value[:_MAX_CYCLE_TEXT])
    return value if isinstance(value, bool) or as_sent(value) is not None else None
