"""Seen records: the newest baseline record that a twin has seen of each unit, so that an older one is refused.

One file, `commissioned.json`, in the twin's state. It only grows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from twinseal.digests import canonical_json, is_sha256, parse_json, sha256
from twinseal.errors import EvidenceError
from twinseal.files import read_regular, sync_folder, write_whole
from twinseal.trust.baseline_record import BaselineRecord, check_unit, unit_key
from twinseal.trust.release.release import MAX_VERSION
from twinseal.twin.state import State

MEMORY = "commissioned.json"
MAX_MEMORY_BYTES = 16 << 20


@dataclass(frozen=True)
class SeenRecord:
    """The newest baseline record that the twin has seen of one unit; an older one is refused.

    Attributes:
        unit: Its name.
        version: Of its newest record.
        sha256: Of what is signed in it.

    Raises:
        EvidenceError: A part does not fit this description.
    """

    unit: str
    version: int
    sha256: str

    def __post_init__(self) -> None:
        check_unit(self.unit)
        if type(self.version) is not int or not 1 <= self.version <= MAX_VERSION or not is_sha256(self.sha256):
            raise EvidenceError(f"{MEMORY}: expected a version and a SHA-256 of each unit, got {self}"[:300])

    @classmethod
    def of(cls, record: BaselineRecord) -> SeenRecord:
        """What the twin remembers of a record."""
        return cls(record.unit, record.version, sha256(record.to_bytes()))


Memory = Mapping[str, SeenRecord]
"""By `unit_key`."""


def read_memory(state: State) -> dict[str, SeenRecord]:
    """What the twin has seen of each unit; nothing before the first was commissioned.

    Raises:
        EvidenceError: It is malformed.
    """
    try:
        return parse_memory(read_regular(state.path / MEMORY, MAX_MEMORY_BYTES))
    except FileNotFoundError:
        return {}


def parse_memory(data: bytes) -> dict[str, SeenRecord]:
    """The memory in the bytes of its file.

    Raises:
        EvidenceError: It is malformed.
    """
    value = parse_json(data, MEMORY, limit=MAX_MEMORY_BYTES)
    try:
        remembered = [SeenRecord(**item) for item in value]
    except TypeError as error:
        raise EvidenceError(f"{MEMORY}: expected what was seen of each unit, got {str(value)[:80]}") from error
    found = {unit_key(item.unit): item for item in remembered}
    if len(found) != len(remembered):
        raise EvidenceError(f"{MEMORY}: expected each unit once, got one twice")
    return found


def write_memory(memory: Memory) -> bytes:
    """Law: `parse_memory(write_memory(memory)) == memory`."""
    return canonical_json([vars(memory[key]) for key in sorted(memory)])


def store_memory(state: State, memory: Memory) -> None:
    """Remember, whole or not at all; the caller holds the lock.

    Raises:
        OSError: It cannot be written; what was remembered stands.
    """
    write_whole(state.path / MEMORY, write_memory(memory), mode=0o600)
    sync_folder(state.path)
