"""Which devices are enrolled at a twin that runs, and its frame gate; read again when a record changes.

Where a record does not count (it was changed, or an older one was put back), nothing in it does: no frame is taken
until commissioners have signed again. The twin goes on, and says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from twinseal.errors import TwinsealError
from twinseal.trust.device_record import DeviceRecord
from twinseal.trust.root.anchor import Anchor
from twinseal.twin.delivered import FrameMark
from twinseal.twin.devices import CurrentDevices
from twinseal.twin.enrolled_lives import CurrentLives
from twinseal.twin.frame_gate import FrameGate, Refused, Taken
from twinseal.twin.frame_memory import read_frame_memory
from twinseal.twin.state import State


class EnrolledDevices:
    """The devices that are enrolled at the twin at `state_dir`.

    Attributes:
        fault: Why their record does not count; empty if it does.
        some: Whether any are enrolled, or were by a record that does not count.
    """

    def __init__(self, state_dir: Path, anchor: Anchor, model: str) -> None:
        self._state_dir = state_dir
        self._devices = CurrentDevices(state_dir, anchor, model)
        self._lives = CurrentLives(state_dir, anchor, model)
        self._gate: FrameGate | None = None
        self._record: DeviceRecord | None = None
        self._owners: dict[str, str] = {}  # by unit
        self.fault, self.some = "", False

    def renew(self, now: datetime) -> None:
        """Know the records as they are now.

        Raises:
            EvidenceError: What the gate remembers is malformed.
        """
        try:
            devices, lives = self._devices.record(now), self._lives.record(now)
        except (TwinsealError, OSError) as error:
            self.fault, self.some = str(error), True
            return
        self.fault, self.some = "", devices is not None
        if devices is not self._record:
            self._record = devices
            self._owners = {unit: item.name for item in devices.devices for unit in item.units} if devices else {}
        if devices is None:
            self._gate = None
        elif self._gate is None:
            self._gate = FrameGate(self._state_dir, devices, lives)
        else:
            self._gate.use(devices, lives)

    def decide(self, message: bytes, now: datetime) -> Taken | Refused:
        """Whether a frame is taken; it must be remembered (`FrameMark`) before its rows are used."""
        if self._gate is None or self.fault:
            why = self.fault or "no device is enrolled here"
            return Refused("unknown device", f"frame: expected an enrolled device, got none that counts: {why}")
        return self._gate.decide(message, now)

    def follow(self, marks: Sequence[FrameMark]) -> None:
        """Know that these frames were taken before the twin started again; it is on the disk when this returns.

        Called before the first `renew`: also where no record counts now, and before acts set counts back that have come
        since then.

        Raises:
            EvidenceError: What is remembered is malformed.
            OSError: It cannot be written.
        """
        if marks:
            state = State(self._state_dir)
            memory = read_frame_memory(state)
            for mark in marks:
                memory.follow(mark.key, mark.sequence, mark.units)
            memory.store(state)

    def deliverer(self, unit: str) -> str:
        """The device that delivers a machine; "" if none does."""
        return self._owners.get(unit, "")

    def keep(self) -> None:
        """Keep on the disk how far the frames have come.

        Raises:
            OSError: It cannot be written.
        """
        if self._gate is not None:
            self._gate.close()
