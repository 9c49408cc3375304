"""What a twin remembers of frames: how far each device's sequence has come, and each machine's operating count.

Of each machine it also remembers how many acts of commissioners (`trust.life_record`) that count already obeys, so that
an act makes a count fall once.

One file in the twin's state, `frames.json`, whole or not at all. It is written before the rows of a frame are used, so
that no frame is taken twice, whenever the twin is killed: rows may be lost then, and their cycles are missing.

A sequence belongs to a key: a device that gets a new key begins anew. Beside the last number, the numbers that were
passed over are remembered, as the window of RFC 4303 section 3.4.3 does: so that a frame that is late and one that is
played again have different names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from twinseal.digests import canonical_json, is_sha256, parse_json
from twinseal.errors import EvidenceError
from twinseal.files import sync_folder, write_whole
from twinseal.reading import read_regular
from twinseal.trust.baseline_record import check_unit
from twinseal.trust.life_record import MAX_ACTS, LifeRecord
from twinseal.trust.release.release import MAX_VERSION
from twinseal.twin.frames import MAX_SEQUENCE
from twinseal.twin.rows import MAX_CYCLE
from twinseal.twin.state import State

FILE = "frames.json"
MAX_MEMORY_BYTES = 16 << 20
MAX_MISSING = 256  # of a device, the newest
_OLD_FIELDS = frozenset(("devices", "units", "counts"))  # before there were acts
_FIELDS = _OLD_FIELDS | {"begun", "acts"}
_REMEDY = (
    f"Somebody changed the twin's state, or a disk failed. Find out who; then remove {FILE}: the first frame of each "
    "device is then taken as it comes."
)


@dataclass(frozen=True)
class Sequence:
    """How far the frames under one key have come.

    Attributes:
        last: The greatest number; from 1.
        missing: Numbers below it that have not come, the newest MAX_MISSING.
    """

    last: int
    missing: tuple[int, ...] = ()

    def after(self, number: int) -> Sequence:
        """Once frame `number`, which is greater than the last, has come."""
        passed = range(max(self.last + 1, number - MAX_MISSING), number)
        return Sequence(number, (*self.missing, *passed)[-MAX_MISSING:])


@dataclass
class FrameMemory:
    """All that is remembered; the gate changes it.

    Law: `FrameMemory.from_bytes(memory.to_bytes()) == memory`.

    Attributes:
        devices: By the fingerprint of the key.
        units: The operating count of each machine, in cycles.
        counts: How many frames and rows were taken, lost, and refused for which reason, by name.
        begun: With which version the life record began whose acts are counted; 0: none was seen yet.
        acts: How many acts of each machine its count obeys.
    """

    devices: dict[str, Sequence] = field(default_factory=dict)
    units: dict[str, int] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    begun: int = 0
    acts: dict[str, int] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """Canonical JSON."""
        devices = {name: [item.last, list(item.missing)] for name, item in self.devices.items()}
        seen = {"devices": devices, "units": self.units, "counts": dict(self.counts)}
        return canonical_json(seen | {"begun": self.begun, "acts": self.acts})

    def follow(self, key: str, sequence: int, units: Mapping[str, int]) -> None:
        """Know that a frame was taken; nothing changes if that is known.

        Args:
            key: Fingerprint of the device's key.
            sequence: The frame's number.
            units: The operating count of each of its machines.
        """
        seen = self.devices.get(key)
        if seen is None or sequence > seen.last:
            self.devices[key] = seen.after(sequence) if seen else Sequence(sequence)
            self.units |= units

    def obey(self, record: LifeRecord) -> None:
        """Let the acts of a life record that are new set the counts of their machines.

        A new machine under the name of a retired one, and a counter that was replaced, begin at their own count. Where
        no act was known before, the machine that was counted is the one that was enrolled: its count does not fall.
        """
        if record.begun != self.begun:
            self.begun, self.acts = record.begun, {}
        for unit, acts in record.acts.items():
            done = self.acts.get(unit, 0)
            for act in acts[done:]:
                if act is acts[0]:
                    self.units[unit] = max(self.units.get(unit, 0), act.cycle)
                elif act.kind in ("new machine", "counter replaced"):
                    self.units[unit] = act.cycle
            self.acts[unit] = max(done, len(acts))

    @classmethod
    def from_bytes(cls, data: bytes) -> FrameMemory:
        """The value that `to_bytes` gave.

        Raises:
            EvidenceError: It is not such a value.
        """
        value = parse_json(data, FILE, limit=MAX_MEMORY_BYTES)
        if isinstance(value, dict) and set(value) == _OLD_FIELDS:
            value |= {"begun": 0, "acts": {}}
        if not isinstance(value, dict) or set(value) != _FIELDS:
            raise EvidenceError(f"{FILE}: expected what was seen of frames, got {str(value)[:80]}", remedy=_REMEDY)
        begun = value.pop("begun")
        if not all(isinstance(part, dict) for part in value.values()):
            raise EvidenceError(f"{FILE}: expected what was seen of frames, got {str(value)[:80]}", remedy=_REMEDY)
        devices = {name: _sequence(name, item) for name, item in value["devices"].items()}
        for unit in (*value["units"], *value["acts"]):
            check_unit(unit)
        _check_numbers(value["units"], MAX_CYCLE)
        _check_numbers(value["counts"], MAX_SEQUENCE)
        _check_numbers(value["acts"], MAX_ACTS)
        _check_numbers({"the life record": begun}, MAX_VERSION)
        return cls(devices, value["units"], Counter(value["counts"]), begun, value["acts"])

    def store(self, state: State) -> None:
        """Keep it, whole or not at all, also through a loss of power.

        Raises:
            OSError: It cannot be written; what was kept before stands.
        """
        with state.write_lock():
            write_whole(state.path / FILE, self.to_bytes(), mode=0o600)
            sync_folder(state.path)


def read_frame_memory(state: State) -> FrameMemory:
    """What the twin remembers of frames; nothing before the first.

    Raises:
        EvidenceError: The file is malformed.
        OSError: It is no regular file.
    """
    try:
        return FrameMemory.from_bytes(read_regular(state.path / FILE, MAX_MEMORY_BYTES))
    except FileNotFoundError:
        return FrameMemory()


def _sequence(name: str, value: object) -> Sequence:
    if not is_sha256(name) or not isinstance(value, list) or len(value) != 2 or not isinstance(value[1], list):
        raise EvidenceError(f"{FILE}: expected a sequence of each key, got {str(value)[:80]}", remedy=_REMEDY)
    last, missing = value
    numbers = [*missing, last]
    rising = all(type(number) is int for number in numbers) and numbers == sorted(set(numbers))
    if not rising or not 1 <= numbers[0] <= last <= MAX_SEQUENCE or len(missing) > MAX_MISSING:
        raise EvidenceError(f"{FILE}: expected numbers of frames that rise, got {str(value)[:80]}", remedy=_REMEDY)
    return Sequence(last, tuple(missing))


def _check_numbers(values: Mapping[str, object], most: int) -> None:
    for name, value in values.items():
        if type(value) is not int or not 0 <= value <= most:
            raise EvidenceError(f"{FILE}: expected a number for {name!a:.80}, got {value!r:.40}", remedy=_REMEDY)
