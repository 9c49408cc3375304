"""Seen records: the newest baseline record that a twin has seen of each unit, so that an older one is refused.

One file, `commissioned.json`, in the twin's state. It only grows. What was signed or first seen here is in the twin's
audit log too: of both the newer one counts, so that removing the file, or putting an older one back, changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

from twinseal.digests import canonical_json, is_sha256, parse_json, sha256
from twinseal.errors import EvidenceError, TwinsealError
from twinseal.files import sync_folder, write_whole
from twinseal.reading import read_regular
from twinseal.trust.audit import log_of
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
        EvidenceError: The file is malformed.
        AuditError: The log is not the one that its key signed.
    """
    try:
        memory = parse_memory(read_regular(state.path / MEMORY, MAX_MEMORY_BYTES))
    except FileNotFoundError:
        memory = {}
    for seen in _logged_records(state):
        key = unit_key(seen.unit)
        if key not in memory or memory[key].version < seen.version:
            memory[key] = seen
    return memory


def _logged_records(state: State) -> Iterator[SeenRecord]:
    """What the twin's audit log says of baseline records, oldest first."""
    log = log_of(state.path)
    if not log.has_begun():
        return
    for _, entry in log.read(wanted=lambda data: b'"event":"commissioned"' in data):
        version = entry.details.get("version", "")
        if entry.event == "commissioned" and version.isascii() and version.isdigit():
            with suppress(TwinsealError):  # of a unit with another kind of name, by an older version of this code
                yield SeenRecord(entry.details.get("unit", ""), int(version), entry.details.get("record", ""))


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
