"""Devices: which gateways a twin takes telemetry from, as the commissioners have signed it.

    devices.dsse.json            the device record (`trust.device_record`)
    devices.proposed.dsse.json   one that not enough commissioners have signed yet; never used

A record counts when all of this holds, numbered as in the body of `enrolled_devices`:

1. it is a regular file, of bounded length, in the twin's own folder
2. enough commissioners of the newest root that the twin has have signed it
3. it is for this model
4. it is not older than what the twin's log knows, nor another under the same version

If it does not, no frame is taken: `enrolled_devices` raises. Whether the commissioners' keys are pinned still is not
asked here, only when they sign: a twin that cannot reach its registry goes on, and says that its trust has ended.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import structlog

from twinseal.digests import is_sha256, sha256
from twinseal.errors import AuditError, EvidenceError, RollbackError, TwinsealError
from twinseal.reading import read_regular
from twinseal.trust import device_record
from twinseal.trust.audit import Entry, log_of
from twinseal.trust.device_record import MAX_RECORD_BYTES, DeviceRecord
from twinseal.trust.root.anchor import Anchor
from twinseal.trust.root.pins import RoleKeys
from twinseal.twin.commissioning import MAX_LEAP, ROLE, commissioners_root
from twinseal.twin.journal import ACTOR
from twinseal.twin.state import State

log = structlog.get_logger()

FILE, PROPOSED = "devices.dsse.json", "devices.proposed.dsse.json"
_REMEDY = "Find out who changed it. Then enroll the devices again: twinseal device enroll --anew"


@dataclass(frozen=True)
class SeenDevices:
    """The newest device record that the twin has seen.

    Attributes:
        version: 0: none yet.
        sha256: Of what is signed in it.
    """

    version: int = 0
    sha256: str = ""

    def check(self, record: DeviceRecord) -> None:
        """Refuse a record that is older, another of the same version, or far ahead.

        Raises:
            RollbackError: It is.
        """
        if record.version < self.version:
            raise RollbackError(
                f"{FILE}: expected version >= {self.version}, as seen before, got {record.version}", remedy=_REMEDY
            )
        if record.version == self.version and sha256(record.to_bytes()) != self.sha256:
            raise RollbackError(f"{FILE}: expected version {self.version} as seen before, got another", remedy=_REMEDY)
        if record.version > self.version + MAX_LEAP:
            raise RollbackError(f"{FILE}: expected a version soon after {self.version}, got {record.version}")


def enrolled_devices(state_dir: Path, anchor: Anchor, model: str, now: datetime) -> DeviceRecord | None:
    """The device record that counts; None where no device was ever enrolled.

    Side effects: an entry in the twin's log, if the record was copied here and is new to it.

    Raises:
        SignatureError, ThresholdError: 2.
        EvidenceError: 1 or 3; or there is none, and the log knows one.
        RollbackError: 4.
        RootError, AuditError: As `commissioning.commissioners_root`.
    """
    state = State(state_dir)
    with state.read_lock():
        root, now = commissioners_root(state, anchor, model, now)
        seen = seen_devices(state)
        record = record_that_counts(state, root.roles[ROLE], model, seen)
    if record is not None and record.version > seen.version:
        with suppress(AuditError, OSError), state.write_lock():  # without write access it is used, and not remembered
            log_of(state.path).append(entry_of(record, ACTOR, now, seen="was copied here"))
    return record


class CurrentDevices:
    """The device record that counts, while a twin runs: read again when its file was changed.

    Args:
        state_dir, anchor, model: As `enrolled_devices`.
    """

    def __init__(self, state_dir: Path, anchor: Anchor, model: str) -> None:
        self._state_dir, self._anchor, self._model = state_dir, anchor, model
        self._file: tuple[int, ...] | None = None
        self._record: DeviceRecord | None = None

    def record(self, now: datetime) -> DeviceRecord | None:
        """As `enrolled_devices`; raises what it raises."""
        file = self._stat()
        if self._file is None or file != self._file:
            self._record = enrolled_devices(self._state_dir, self._anchor, self._model, now)
            self._file = file
        return self._record

    def _stat(self) -> tuple[int, ...]:
        try:
            found = (self._state_dir / FILE).lstat()
        except OSError:
            return ()
        return (found.st_ino, found.st_mtime_ns, found.st_size)


def record_that_counts(state: State, role: RoleKeys, model: str, seen: SeenDevices) -> DeviceRecord | None:
    """The record in the state, not older than `seen`; None if there is none and none was seen.

    A process that was killed between its log and the file leaves the record beside the old one, as a proposal with all
    signatures: what the log knows counts.

    Raises:
        As `enrolled_devices`.
    """
    record = read_record(state, role, model)
    if record is None or record.version < seen.version:
        with suppress(TwinsealError):
            logged = read_record(state, role, model, PROPOSED)
            if logged is not None and sha256(logged.to_bytes()) == seen.sha256:
                return logged
    if record is not None:
        seen.check(record)  # 4
    elif seen.version:
        raise EvidenceError(f"{FILE}: expected version {seen.version}, as seen before, got none", remedy=_REMEDY)
    return record


def read_record(state: State, role: RoleKeys, model: str, name: str = FILE) -> DeviceRecord | None:
    """The record in a file of the state, signed by enough of `role`; None if there is no file.

    Raises:
        SignatureError, ThresholdError, EvidenceError: As `enrolled_devices`.
    """
    try:
        data = read_regular(state.path / name, MAX_RECORD_BYTES)  # 1
    except FileNotFoundError:
        return None
    except OSError as error:
        raise EvidenceError(f"{name}: expected a regular file, got none ({error.strerror})", remedy=_REMEDY) from error
    if len(data) > MAX_RECORD_BYTES:
        raise EvidenceError(f"{name}: expected at most {MAX_RECORD_BYTES} bytes, got more", remedy=_REMEDY)
    record = device_record.verify(data, role, name)  # 2
    if record.model != model:  # 3
        raise EvidenceError(f"{name}: expected the devices of {model}, got those of {record.model}", remedy=_REMEDY)
    return record


def seen_devices(state: State) -> SeenDevices:
    """What the twin's log says of device records.

    Raises:
        AuditError: It is not the log that its key signed.
    """
    found = SeenDevices()
    for version, digest in _logged(state):
        if version > found.version:
            found = SeenDevices(version, digest)
    return found


def entry_of(record: DeviceRecord, actor: str, now: datetime, **details: str) -> Entry:
    """The entry of the log that remembers `record`."""
    said = {"devices": str(len(record.devices)), "number": str(record.version), "record": sha256(record.to_bytes())}
    return Entry(now, "enrolled", actor, record.model, details=said | details)


def _logged(state: State) -> Iterator[tuple[int, str]]:
    audit = log_of(state.path)
    if not audit.has_begun():
        return
    for _, entry in audit.read(wanted=lambda data: b'"event":"enrolled"' in data):
        version, digest = entry.details.get("number", ""), entry.details.get("record", "")
        if entry.event == "enrolled" and version.isascii() and version.isdigit() and is_sha256(digest):
            yield int(version), digest
