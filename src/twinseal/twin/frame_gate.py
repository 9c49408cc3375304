"""The frame gate: which signed frames a twin takes, and what it says of those that it does not.

A frame is taken when all of this holds, in this order, numbered as in the body of `FrameGate._verified`:

1. it is not too long, and a message in its one form (`trust.signing.cose`)
2. its key is that of an enrolled device; a revoked key and an unknown one are told apart
3. the device has signed it; nothing in it is looked at before
4. it is a frame in its one form (`twin.frames`), of this device and this model
5. its number is after the last one of its key: else it is played again, or late
6. its time is within the policy's seconds of the twin's clock, either way
7. its units and channels are those that the device may deliver
8. its operating counts do not fall, and every row is after the counts that were known: a life goes on. Only an act that
   commissioners signed since then (a counter replaced, a new machine under a retired name) sets a count back
9. the device is within its rate: a frame of many rows counts as so many of ROWS_OF_ONE; what it did not sign does not

Each refusal has a name, and is counted by it; a refused frame changes nothing else. A gap in the numbers is counted as
frames lost, and a gap in a unit's operating count as rows lost: the rows that did come are used. Where machines are
enrolled (`twin.enrolled_lives`), rows of others are taken and counted: the runtime answers them as unknown machines.

The memory is written before rows are given out: `frame_memory` says why.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from twinseal.errors import EvidenceError, SignatureError
from twinseal.trust.device_record import Device, DeviceRecord
from twinseal.trust.life_record import LifeRecord
from twinseal.trust.signing import cose
from twinseal.twin.frame_memory import FrameMemory, Sequence, read_frame_memory
from twinseal.twin.frames import Frame
from twinseal.twin.state import State

Reason = Literal[
    "too long",
    "cut off",
    "malformed",
    "unknown device",
    "revoked device",
    "forged",
    "of another model",
    "played again",
    "late",
    "too old",
    "from the future",
    "another device's unit",
    "another device's channel",
    "a count that fell",
    "too many",
]
UNKNOWN_ROWS = "rows of unknown machines"
_TAKEN = ("taken", "rows", "lost frames", "lost rows", UNKNOWN_ROWS)
BURST_S = 10  # a device may send what it may in so many seconds at once, after a pause
ROWS_OF_ONE = 100  # rows that count as one frame towards its rate


@dataclass(frozen=True, eq=False)
class Taken:
    """A frame that was taken.

    Attributes:
        frame: Its rows, which its device has signed.
        key: Fingerprint of the device's key.
        lost_frames: How many numbers were passed over since the device's last frame.
        lost_rows: Of each unit, how many cycles were passed over since its last row; none where all came.
        unknown: Units of the frame that are not enrolled, where machines are.
        first: Whether it is the first frame of its key that this twin remembers: what came before is not known.
    """

    frame: Frame
    key: str
    lost_frames: int
    lost_rows: Mapping[str, int]
    unknown: tuple[str, ...]
    first: bool


@dataclass(frozen=True)
class Refused:
    """A frame that was not taken.

    Attributes:
        reason: Its name, as it is counted.
        message: Expected, got, where.
        device: Who signed it; "" where that is not known.
    """

    reason: Reason
    message: str
    device: str = ""


class _NotTakenError(Exception):
    def __init__(self, reason: Reason, message: str, device: str = "") -> None:
        super().__init__(message)
        self.refused = Refused(reason, message, device)


class FrameGate:
    """Stands between frames and the runtime, for as long as the twin runs; one at a time in one state.

    Args:
        state_dir: The twin's own directory.
        record: The devices that count, from `devices.enrolled_devices`.
        lives: The machines that count, from `enrolled_lives.enrolled_lives`; None where none was ever enrolled.

    Raises:
        EvidenceError: What it remembers is malformed.
    """

    def __init__(self, state_dir: Path, record: DeviceRecord, lives: LifeRecord | None = None) -> None:
        self._state = State(state_dir)
        self._memory: FrameMemory = read_frame_memory(self._state)
        self._rates: dict[str, _Rate] = {}
        self._lives: LifeRecord | None = None
        self.use(record, lives)

    def use(self, record: DeviceRecord, lives: LifeRecord | None) -> None:
        """Take frames by these records from now on."""
        self._record, self._devices = record, record.by_key
        if lives is not None and lives is not self._lives:
            self._memory.obey(lives)
        self._lives = lives

    @property
    def counts(self) -> Mapping[str, int]:
        """How many frames and rows were taken and lost, and how many frames refused, by reason; since the first."""
        return self._memory.counts

    def take(self, batch: Iterable[bytes | Refused], now: datetime) -> list[Taken | Refused]:
        """What becomes of each frame, in their order; what was taken is on the disk when this returns.

        Refusals alone are only counted: a flood of them must not write to the disk each time. `close` keeps them.

        Args:
            batch: The frames as they came; or what the reader of a stream could not make a frame of.
            now: Aware, UTC.

        Raises:
            OSError: It cannot be remembered: no row of these may be used.
        """
        done = [self.decide(item, now) for item in batch]
        if any(isinstance(item, Taken) for item in done):
            self._memory.store(self._state)
        return done

    def close(self) -> None:
        """Keep the counts of refusals, too.

        Raises:
            OSError: They cannot be written.
        """
        self._memory.store(self._state)

    def decide(self, item: bytes | Refused, now: datetime) -> Taken | Refused:
        """What becomes of one frame. The caller keeps it on the disk before it uses its rows."""
        try:
            if isinstance(item, Refused):
                raise _NotTakenError(item.reason, item.message)
            key, frame = self._verified(item, now)
        except _NotTakenError as error:
            self._memory.counts[error.refused.reason] += 1
            return error.refused
        return self._remember(key, frame)

    def _verified(self, data: bytes, now: datetime) -> tuple[str, Frame]:
        if len(data) > cose.MAX_MESSAGE_BYTES:  # 1
            raise _NotTakenError("too long", f"frame: expected at most {cose.MAX_MESSAGE_BYTES} bytes, got {len(data)}")
        try:
            message = cose.parse(data)
        except EvidenceError as error:
            raise _NotTakenError("malformed", str(error)) from error
        device = self._device_of(message.fingerprint)  # 2
        try:
            payload = message.verify(device.key)  # 3
        except SignatureError as error:
            raise _NotTakenError("forged", f"frame of {device.name}: {error}") from error
        try:
            frame = Frame.from_bytes(payload, f"frame of {device.name}")  # 4
        except EvidenceError as error:
            raise _NotTakenError("malformed", str(error), device.name) from error
        self._check_subject(frame, device)
        self._check_sequence(frame, device, message.fingerprint)  # 5
        self._check_time(frame, device, now)  # 6
        self._check_rights(frame, device)  # 7
        self._check_counts(frame, device)  # 8
        most = device.frames_per_second
        rate, cost = self._rates.setdefault(message.fingerprint, _Rate()), max(1.0, len(frame) / ROWS_OF_ONE)
        if not rate.allows(now.timestamp(), most, cost):  # 9
            raise _NotTakenError(
                "too many",
                f"frame of {device.name}: expected at most {most} of {ROWS_OF_ONE} rows a second, got more",
                device.name,
            )
        return message.fingerprint, frame

    def _device_of(self, fingerprint: str) -> Device:
        if fingerprint in self._devices:
            return self._devices[fingerprint]
        if fingerprint in self._record.revoked:
            raise _NotTakenError("revoked device", f"frame: expected a key that counts, got {fingerprint[:16]}…")
        raise _NotTakenError("unknown device", f"frame: expected an enrolled key, got {fingerprint[:16]}…")

    def _check_subject(self, frame: Frame, device: Device) -> None:
        if frame.device != device.name:
            raise _NotTakenError(
                "malformed", f"frame of {device.name}: expected its own name, got {frame.device!a:.80}", device.name
            )
        if frame.model != self._record.model:
            raise _NotTakenError(
                "of another model",
                f"frame of {device.name}: expected rows for {self._record.model}, got {frame.model!a:.80}",
                device.name,
            )

    def _check_sequence(self, frame: Frame, device: Device, key: str) -> None:
        seen = self._memory.devices.get(key)
        if seen is None or frame.sequence > seen.last:
            return
        late = frame.sequence in seen.missing
        got = "one that was passed over" if late else "one again"
        raise _NotTakenError(
            "late" if late else "played again",
            f"frame {frame.sequence} of {device.name}: expected a number after {seen.last}, got {got}",
            device.name,
        )

    def _check_time(self, frame: Frame, device: Device, now: datetime) -> None:
        age, most = now.timestamp() - frame.time_ms / 1000, self._record.max_age_s
        if abs(age) <= most:
            return
        reason: Reason = "too old" if age > 0 else "from the future"
        where, got = f"frame {frame.sequence} of {device.name}", f"{age:.0f} s {'before' if age > 0 else 'after'}"
        raise _NotTakenError(
            reason,
            f"{where}: expected a time within {most} s of this clock, got {got.replace('-', '')} it",
            device.name,
        )

    def _check_rights(self, frame: Frame, device: Device) -> None:
        for what, names, own in (("unit", frame.units, device.units), ("channel", frame.channels, device.channels)):
            other = next((name for name in names if name not in own), None)
            if other is not None:
                reason: Reason = "another device's unit" if what == "unit" else "another device's channel"
                raise _NotTakenError(
                    reason, f"frame of {device.name}: expected a {what} of its own, got {other!a:.80}", device.name
                )

    def _check_counts(self, frame: Frame, device: Device) -> None:
        first = frame.first_cycles()
        for unit, count in frame.units.items():
            known = self._memory.units.get(unit, 0)
            if count < known or first.get(unit, known + 1) <= known:
                raise _NotTakenError(
                    "a count that fell",
                    f"frame {frame.sequence} of {device.name}: expected {unit} to go on after cycle {known}, "
                    f"got {min(count, first.get(unit, count))}",
                    device.name,
                )

    def _remember(self, key: str, frame: Frame) -> Taken:
        memory = self._memory
        seen = memory.devices.get(key)
        lost = frame.sequence - seen.last - 1 if seen else 0
        memory.devices[key] = seen.after(frame.sequence) if seen else Sequence(frame.sequence)
        rows = frame.row_counts()
        lost_rows = {
            unit: count - memory.units[unit] - rows[unit]
            for unit, count in frame.units.items()
            if count - memory.units.get(unit, count) - rows[unit] > 0
        }
        memory.units |= frame.units
        unknown = tuple(unit for unit in frame.units if self._lives is not None and not self._lives.knows(unit))
        memory.counts.update(
            {"taken": 1, "rows": len(frame), "lost frames": lost, "lost rows": sum(lost_rows.values())}
        )
        memory.counts.update({UNKNOWN_ROWS: sum(rows[unit] for unit in unknown)})
        return Taken(frame, key, lost, lost_rows, unknown, seen is None)


class _Rate:
    """So many frames a second in the long run, and BURST_S seconds' worth at once; one that costs more is owed."""

    def __init__(self) -> None:
        self._left, self._at = math.inf, math.inf  # the first time, all that may be saved up

    def allows(self, seconds: float, per_second: int, cost: float) -> bool:
        passed = max(0.0, seconds - self._at)  # a clock that is set back gives nothing
        self._at = seconds
        self._left = min(BURST_S * per_second, self._left + passed * per_second)
        if self._left < 1:
            return False
        self._left -= cost
        return True


def counted_words(counts: Mapping[str, int]) -> Iterator[str]:
    """Counts for people, one phrase each, none of zero: `taken 12`; refusals after the others."""
    for name in (*_TAKEN, *sorted(set(counts) - set(_TAKEN))):
        if counts.get(name):
            yield f"{name} {counts[name]}"
