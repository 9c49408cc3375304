"""Frames: rows of telemetry, many at once, as a sensor's gateway signs them.

A frame is one map of canonical CBOR (`twinseal.trust.signing.cbor`), signed as a COSE message:

    device     who delivers, as the commissioners enrolled it
    model      for which model the rows are
    sequence   1, 2, 3 … for each key of a device: what is lost, late or played again shows in it
    time       when it was signed, in ms since 1970, UTC
    units      [[name, count] …]: the operating count of each machine, in cycles, after these rows
    channels   names of the C columns
    of         which unit each row is of: R numbers of 2 bytes
    cycles     R numbers of 4 bytes
    bytes      4 or 8, of each reading
    readings   R rows of C floats; NaN: missing

Numbers in `of`, `cycles` and `readings` are little-endian, without heads of their own: 100 rows of 17 channels take
15 kB, and are read without a loop.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinseal.errors import EvidenceError
from twinseal.telemetry.unit_names import unit_name
from twinseal.trust.keys.device_keys import DeviceSigner
from twinseal.trust.signing import cbor, cose
from twinseal.twin.rows import MAX_CYCLE, ReadRows

MAX_ROWS, MAX_UNITS, MAX_CHANNELS, MAX_TEXT = 8192, 2048, 512, 200
MAX_SEQUENCE = (1 << 53) - 1
MAX_TIME_MS = 253_402_300_799_999  # the end of the year 9999
_UNIT, _CYCLE = np.dtype("<u2"), np.dtype("<u4")
_READING: dict[int, np.dtype[Any]] = {4: np.dtype("<f4"), 8: np.dtype("<f8")}
_FIELDS = frozenset(("device", "model", "sequence", "time", "units", "channels", "of", "cycles", "bytes", "readings"))


@dataclass(frozen=True, eq=False)
class Frame:
    """The rows of one frame, and who says so when.

    Law: `Frame.from_bytes(frame.to_bytes()).to_bytes() == frame.to_bytes()`.

    Attributes:
        device: Its name.
        model: Name of the model that the rows are for.
        sequence: From 1.
        time_ms: Since 1970, UTC.
        units: The operating count of each machine, cycles, after these rows; a machine may have no row here.
        channels: C names.
        of: (R,) which unit, as an index into `units`.
        cycles: (R,) from 1; those of one unit rise, up to its operating count.
        readings: (R, C) float32 or float64, the contract's units of measure; NaN where missing.

    Raises:
        EvidenceError: A part does not fit this description.
    """

    device: str
    model: str
    sequence: int
    time_ms: int
    units: Mapping[str, int]
    channels: tuple[str, ...]
    of: NDArray[np.uint16]
    cycles: NDArray[np.uint32]
    readings: NDArray[np.float32] | NDArray[np.float64]

    def __post_init__(self) -> None:
        texts = (self.device, self.model, *self.channels)
        if not all(map(is_name, texts)):
            raise EvidenceError("frame: expected printable names of device, model and channels, got something else")
        if not _within(self.sequence, 1, MAX_SEQUENCE) or not _within(self.time_ms, 0, MAX_TIME_MS):
            raise EvidenceError("frame: expected a sequence from 1 and a time since 1970, got something else")
        if len(self.channels) > MAX_CHANNELS or len(set(self.channels)) != len(self.channels):
            raise EvidenceError(
                f"frame: expected at most {MAX_CHANNELS} channels, each once, got {self.channels}"[:200]
            )
        if len(self.units) > MAX_UNITS or not all(
            isinstance(name, str) and name and unit_name(name) == name and _within(count, 0, MAX_CYCLE)
            for name, count in self.units.items()
        ):
            raise EvidenceError(f"frame: expected at most {MAX_UNITS} names of units with counts, got something else")
        self._check_rows()

    def _check_rows(self) -> None:
        rows = len(self.of)
        if rows > MAX_ROWS or self.cycles.shape != (rows,) or self.readings.shape != (rows, len(self.channels)):
            raise EvidenceError(f"frame: expected at most {MAX_ROWS} rows of equal length, got something else")
        if not rows:
            return
        if int(self.of.max()) >= len(self.units):
            raise EvidenceError(f"frame: expected rows of its {len(self.units)} units, got one of another")
        counts = np.array(list(self.units.values()), dtype=np.int64)[self.of]
        order = np.argsort(self.of, kind="stable")
        of, cycles = self.of[order], self.cycles[order].astype(np.int64)
        rises = (np.diff(cycles) > 0) | (np.diff(of) != 0)
        if cycles.min() < 1 or not rises.all() or (self.cycles > counts).any():
            raise EvidenceError("frame: expected cycles that rise up to each unit's operating count, got others")

    def __len__(self) -> int:
        return len(self.of)

    def rows(self) -> Iterator[dict[str, Any]]:
        """Each row as telemetry has it: unit, cycle, and the channels."""
        names = list(self.units)
        for at, cycle, values in zip(self.of.tolist(), self.cycles.tolist(), self.readings.tolist(), strict=True):
            yield {"unit": names[at], "cycle": cycle, **dict(zip(self.channels, values, strict=True))}

    def read(self, inputs: Sequence[str]) -> ReadRows:
        """Its rows as a model of these inputs reads them: the same as by `rows`."""
        names = list(self.units)
        columns = [self.channels.index(name) if name in self.channels else -1 for name in inputs]
        with np.errstate(invalid="ignore"):  # a NaN that signals
            values = self.readings.astype(np.float64)
        readings = np.where(np.array(columns) >= 0, values[:, columns], np.nan)
        readings[~np.isfinite(readings)] = np.nan
        return ReadRows([names[at] for at in self.of.tolist()], self.cycles.tolist(), readings)

    def first_cycles(self) -> dict[str, int]:
        """Of each unit with rows here, the cycle of its first one."""
        at, first = np.unique(self.of, return_index=True)
        names = list(self.units)
        return {names[unit]: int(self.cycles[row]) for unit, row in zip(at.tolist(), first.tolist(), strict=True)}

    def row_counts(self) -> dict[str, int]:
        """How many rows each unit has here."""
        return dict(zip(self.units, np.bincount(self.of, minlength=len(self.units)).tolist(), strict=True))

    def to_bytes(self) -> bytes:
        """Canonical CBOR: what is signed."""
        size = self.readings.dtype.itemsize
        return cbor.encode(
            {
                "device": self.device,
                "model": self.model,
                "sequence": self.sequence,
                "time": self.time_ms,
                "units": [[name, count] for name, count in self.units.items()],
                "channels": list(self.channels),
                "of": self.of.astype(_UNIT).tobytes(),
                "cycles": self.cycles.astype(_CYCLE).tobytes(),
                "bytes": size,
                "readings": self.readings.astype(_READING[size]).tobytes(),
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes, where: str = "frame") -> Frame:
        """The frame that `data` is the payload of.

        Raises:
            EvidenceError: It is no such payload, or not in canonical form.
        """
        value = cbor.decode(data, where, limit=cose.MAX_MESSAGE_BYTES)
        if not isinstance(value, dict) or set(value) != _FIELDS:
            raise EvidenceError(f"{where}: expected exactly {', '.join(sorted(_FIELDS))}, got something else")
        channels, units, size = value["channels"], value["units"], value["bytes"]
        if not isinstance(channels, list) or not isinstance(units, list) or not isinstance(size, int):
            raise EvidenceError(f"{where}: expected lists of channels and units, got something else")
        if size not in _READING or not all(isinstance(value[name], bytes) for name in ("of", "cycles", "readings")):
            raise EvidenceError(f"{where}: expected readings of 4 or 8 bytes, got something else")
        return cls(
            device=value["device"],
            model=value["model"],
            sequence=value["sequence"],
            time_ms=value["time"],
            units=_counts(units, where),
            channels=tuple(channels),
            of=_numbers(value["of"], _UNIT, 1, where)[:, 0],
            cycles=_numbers(value["cycles"], _CYCLE, 1, where)[:, 0],
            readings=_numbers(value["readings"], _READING[size], len(channels), where),
        )


def is_name(text: object) -> bool:
    """Whether `text` can name a device, a model or a channel: 1 to MAX_TEXT printable characters."""
    return isinstance(text, str) and 0 < len(text) <= MAX_TEXT and text.isprintable()


def sign(frame: Frame, signer: DeviceSigner) -> bytes:
    """The frame as a signed message."""
    return cose.sign(frame.to_bytes(), signer)


def _within(value: object, least: int, most: int) -> bool:
    return type(value) is int and least <= value <= most


def _counts(units: list[Any], where: str) -> dict[str, int]:
    if not all(isinstance(item, list) and len(item) == 2 and isinstance(item[0], str) for item in units):
        raise EvidenceError(f"{where}: expected units as name and count, got something else")
    counts = dict(units)
    if len(counts) != len(units):
        raise EvidenceError(f"{where}: expected each unit once, got one twice")
    return counts


def _numbers(data: bytes, kind: np.dtype[Any], width: int, where: str) -> NDArray[Any]:
    """(R, width) numbers of `kind`, one after the other in `data`."""
    size = kind.itemsize * width
    if not size or len(data) % size:
        raise EvidenceError(
            f"{where}: expected rows of {width} numbers of {kind.itemsize} bytes, got {len(data)} bytes"
        )
    return np.frombuffer(data, dtype=kind).reshape(-1, width)
