"""The gateway: makes signed frames of rows, where the sensors are.

A frame is made of so many rows, or of those that came in so many seconds, whichever is first. Rows of one frame have
the same channels; a row with others begins a new frame. What cannot be a row of a life that goes on is set aside and
said: no unit, no cycle, or a cycle that is not after the unit's last. So a counter that begins anew, and a machine that
is told to be younger, stop here; the twin checks the same again. Where a counter was truly replaced, whoever stands
there says so once (`set_count`), and a commissioner at the twin.

What was signed last is in a file, written before the frame is sent: a number is never used twice, whenever the gateway
is killed. A frame that was numbered and not sent shows as a gap at the twin.

Rows that cannot be sent now are kept as they are (`Cut`) and signed when they can be: a frame counts for a short time
only. The same rows may be signed again, under a new number: at most one of these frames is taken, since counts rise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from twinseal.digests import canonical_json, is_sha256, parse_json
from twinseal.errors import DataError, EvidenceError
from twinseal.files import sync_folder, write_whole
from twinseal.reading import read_regular
from twinseal.telemetry.columns import list_names
from twinseal.telemetry.unit_names import unit_name
from twinseal.trust.keys.device_keys import DeviceSigner
from twinseal.twin import frames
from twinseal.twin.frames import MAX_CHANNELS, MAX_ROWS, MAX_SEQUENCE, Frame, is_name
from twinseal.twin.rows import MAX_CYCLE, cycle_of, number_of

MAX_MEMORY_BYTES = 4 << 20
_KEYS = ("unit", "cycle")
_MAX_BYTES, _MAX_UNITS = 512 << 10, 1024  # of readings in a frame, and of names: so no frame is too long


@dataclass(frozen=True)
class SignedUntil:
    """What a gateway has signed.

    Law: `SignedUntil.from_bytes(value.to_bytes(), "") == value`.

    Attributes:
        key: Fingerprint of the device's key.
        sequence: The number of the last frame; 0: none yet.
        units: The operating count of each machine, cycles.
    """

    key: str
    sequence: int = 0
    units: Mapping[str, int] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """Canonical JSON."""
        return canonical_json({"key": self.key, "sequence": self.sequence, "units": dict(self.units)})

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> SignedUntil:
        """The value that `to_bytes` gave.

        Raises:
            EvidenceError: It is not such a value.
        """
        value = parse_json(data, where, limit=MAX_MEMORY_BYTES)
        names = {"key": str, "sequence": int, "units": dict}
        right = isinstance(value, dict) and {name: type(item) for name, item in value.items()} == names
        if not right or not is_sha256(value["key"]) or not 0 <= value["sequence"] <= MAX_SEQUENCE:
            raise EvidenceError(f"{where}: expected what this gateway has signed, got {str(value)[:80]}")
        if not all(type(count) is int and 0 <= count <= MAX_CYCLE for count in value["units"].values()):
            raise EvidenceError(f"{where}: expected a count of each unit, got {str(value)[:80]}")
        return cls(**value)


@dataclass(frozen=True)
class Cut:
    """The rows of one frame that is not signed yet.

    Attributes:
        channels: C names.
        rows: Of each row its unit, cycle, and C readings.
        counts: The operating count of each unit of these, after them.
    """

    channels: tuple[str, ...]
    rows: tuple[tuple[str, int, list[float]], ...]
    counts: Mapping[str, int]


class Gateway:
    """Signs the rows of one device; one at a time with one memory.

    Args:
        device: Its name, as it is enrolled.
        model: Name of the model that the rows are for.
        signer: With the device's key.
        memory: The file that remembers what was signed.
        rows: At most so many in a frame.
        wait_s: At most so long until a row is signed.
        single: Readings as float32: half as long, and the twin's answers then differ in the last digits.
        set_aside: Told of each row that is not signed, and why.

    Raises:
        EvidenceError: The memory is malformed, or of another key.
        DataError: No frame has so many rows, or a name is none.
    """

    def __init__(
        self,
        device: str,
        model: str,
        signer: DeviceSigner,
        memory: Path,
        *,
        rows: int = 100,
        wait_s: float = 1.0,
        single: bool = False,
        set_aside: Callable[[str], None] | None = None,
    ) -> None:
        if not 1 <= rows <= MAX_ROWS:
            raise DataError(f"gateway: expected frames of 1 to {MAX_ROWS} rows, got {rows}")
        if not is_name(device) or not is_name(model):
            raise DataError(f"gateway: expected printable names of device and model, got {device!a:.60}, {model!a:.60}")
        self._device, self._model, self._signer, self._path = device, model, signer, memory
        self._most, self._wait_s, self._kind = rows, wait_s, np.dtype(np.float32 if single else np.float64)
        self._tell = set_aside
        self._signed = _read(memory, signer.key.fingerprint)
        self._counts = dict(self._signed.units)  # with the rows that wait
        self._channels: tuple[str, ...] = ()
        self._waiting: list[tuple[str, int, list[float]]] = []
        self._units: dict[str, int] = {}  # of the rows that wait, each with its count
        self._since: datetime | None = None

    def due_in(self, now: datetime) -> float | None:
        """In how many seconds the rows that wait must be signed; None if none waits."""
        return None if self._since is None else max(0.0, self._wait_s - (now - self._since).total_seconds())

    def add(self, row: Mapping[str, Any], now: datetime) -> list[bytes]:
        """Add a row; the frames that are full by it, signed.

        Raises:
            OSError: What was signed cannot be remembered: nothing may be sent.
        """
        return [self.sign(cut, now) for cut in self.take(row, now)]

    def take(self, row: Mapping[str, Any], now: datetime) -> list[Cut]:
        """Add a row; the rows of the frames that are full by it, to be signed in this order."""
        unit, cycle = unit_name(row.get("unit")), cycle_of(row.get("cycle"))
        channels = tuple(name for name in row if name not in _KEYS)
        if why := self._fault(row, unit, cycle, channels):
            if self._tell is not None:
                self._tell(why)
            return []
        done = []
        if channels != self._channels or (len(self._units) == _MAX_UNITS and unit not in self._units):
            done += self.cut()
            self._channels = channels
        self._waiting.append((unit, cycle, [number_of(row[name]) for name in channels]))
        self._counts[unit] = self._units[unit] = cycle
        self._since = self._since or now
        most = min(self._most, _MAX_BYTES // (self._kind.itemsize * len(channels)))
        return done + (self.cut() if len(self._waiting) >= most else [])

    def _fault(self, row: Mapping[str, Any], unit: str, cycle: int, channels: tuple[str, ...]) -> str:
        last = self._counts.get(unit, 0)
        if not unit or cycle <= last:
            got = f"cycle {row.get('cycle')!r:.20} of {row.get('unit')!a:.40}"
            return f"row: expected a unit and a cycle after {last}, got {got}"
        if channels and channels == self._channels:  # as in the row before
            return ""
        if not 1 <= len(channels) <= MAX_CHANNELS or not all(map(is_name, channels)):
            return f"row of {unit}: expected 1 to {MAX_CHANNELS} printable names of channels, got {str(channels)!a:.80}"
        return ""

    def flush(self, now: datetime) -> list[bytes]:
        """The rows that wait, as one signed frame; none if no row waits.

        Raises:
            OSError: As `add`.
        """
        return [self.sign(cut, now) for cut in self.cut()]

    def cut(self) -> list[Cut]:
        """The rows that wait, to be signed; none if no row waits."""
        if not self._waiting:
            return []
        cut = Cut(self._channels, tuple(self._waiting), self._units)
        self._waiting, self._units, self._since = [], {}, None
        return [cut]

    def sign(self, cut: Cut, now: datetime) -> bytes:
        """Rows as a signed frame, with the next number; after those that were cut before, or once more.

        Raises:
            OSError: As `add`.
        """
        places = {name: at for at, name in enumerate(cut.counts)}
        frame = Frame(
            device=self._device,
            model=self._model,
            sequence=self._signed.sequence + 1,
            time_ms=int(now.timestamp() * 1000),
            units=cut.counts,
            channels=cut.channels,
            of=np.array([places[unit] for unit, _, _ in cut.rows], dtype=np.uint16),
            cycles=np.array([cycle for _, cycle, _ in cut.rows], dtype=np.uint32),
            readings=np.array([values for _, _, values in cut.rows], dtype=self._kind),
        )
        message = frames.sign(frame, self._signer)
        self._signed = SignedUntil(self._signed.key, frame.sequence, {**self._signed.units, **cut.counts})
        write_whole(self._path, self._signed.to_bytes(), mode=0o600)
        sync_folder(self._path.parent)
        return message


def set_count(memory: Path, unit: str, cycle: int) -> int:
    """Let a machine's count go on from another number: its counter was replaced, or another machine has its name.

    Args:
        memory: The file that remembers what was signed; no gateway uses it meanwhile.
        unit: The machine.
        cycle: Its new count: the next row has a greater one.

    Returns:
        The count before.

    Raises:
        EvidenceError: The memory is malformed, or not there, or knows no such machine.
        DataError: The count is none.
        OSError: It cannot be written.
    """
    if not 0 <= cycle <= MAX_CYCLE:
        raise DataError(f"gateway: expected a count from 0 to {MAX_CYCLE}, got {cycle}")
    try:
        signed = SignedUntil.from_bytes(read_regular(memory, MAX_MEMORY_BYTES), str(memory))
    except FileNotFoundError:
        raise EvidenceError(
            f"{memory}: expected what this gateway has signed, got none", remedy="Name its file: --memory FILE.json"
        ) from None
    if unit not in signed.units:
        raise EvidenceError(f"{memory}: expected {list_names(tuple(signed.units))}, got {unit!a:.80}")
    changed = replace(signed, units={**signed.units, unit: cycle})
    write_whole(memory, changed.to_bytes(), mode=0o600)
    sync_folder(memory.parent)
    return signed.units[unit]


def _read(path: Path, key: str) -> SignedUntil:
    try:
        found = SignedUntil.from_bytes(read_regular(path, MAX_MEMORY_BYTES), str(path))
    except FileNotFoundError:
        return SignedUntil(key)
    if found.key != key:
        raise EvidenceError(
            f"{path}: expected what the key {key[:16]}… has signed, got that of {found.key[:16]}…",
            remedy="Give each key a file of its own: --memory FILE.json",
        )
    return found
