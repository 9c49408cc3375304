"""Enrolling devices: commissioners sign who may deliver what, and store it where the twin reads it.

Where the role needs more than one signature, commissioners run the same command one after the other: the first
proposes, each adds a signature, and with the last one the record takes the place of the one before. Until then that one
counts. A decision is in the twin's log before it takes effect; if the process is killed in between, the record that the
log knows is beside the old one, and is the one that counts.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from twinseal.errors import TrustError, TwinsealError
from twinseal.files import sync_folder, write_whole
from twinseal.reading import read_regular
from twinseal.trust import device_record
from twinseal.trust.audit import Entry, log_of
from twinseal.trust.audit.entry import MAX_NAME, truncate
from twinseal.trust.device_record import AGE_S, MAX_RECORD_BYTES, DeviceRecord
from twinseal.trust.keys.key import NamedSigner
from twinseal.trust.root.anchor import Anchor
from twinseal.trust.root.pins import RoleKeys
from twinseal.trust.signing import dsse
from twinseal.twin import locks
from twinseal.twin.commissioning import ROLE, check_commissioner, commissioners_root
from twinseal.twin.devices import FILE, PROPOSED, SeenDevices, entry_of, record_that_counts, seen_devices
from twinseal.twin.state import State

Change = Callable[[DeviceRecord], DeviceRecord]


@dataclass(frozen=True)
class Enrolment:
    """What was done.

    Attributes:
        record: As it was signed.
        missing: How many commissioners must still sign before it counts; 0: it counts.
    """

    record: DeviceRecord
    missing: int


def enroll(
    state_dir: Path,
    anchor: Anchor,
    model: str,
    change: Change,
    commissioner: NamedSigner,
    *,
    now: datetime,
    anew: bool = False,
) -> Enrolment:
    """Sign the device record as `change` makes it from the one that counts, and store it.

    Side effects: an entry in the twin's log, `enrolled` or `refused`; then the record, or the proposal.

    Args:
        state_dir: The twin's own directory.
        anchor: The root that it was installed with.
        model: Which model reads the telemetry.
        change: What is to be different; its first argument has no device where none was enrolled yet.
        commissioner: Who signs.
        now: Aware, UTC.
        anew: Begin without a device: the record before does not count any more.

    Raises:
        SignatureError, KeyAccessError, ExpiredError: As `commissioning.check_commissioner`.
        SignatureError, ThresholdError, EvidenceError, RollbackError: The record before does not count; or `change`
            makes none from it.
        AuditError: It cannot be logged: nothing was signed.
        BusyError: Another commissioner is at work here.
        OSError: It cannot be written.
    """
    state, audit = State(state_dir), log_of(state_dir)
    actor = truncate(commissioner.holder, MAX_NAME)
    with audit.log_refusal(Entry(now, "enrolled", actor, model)):
        with state.read_lock():  # there is a twin here, and it is this user's alone
            pass
        with locks.only_one(state.path / "commission.lock", "twinseal device", now):
            with state.read_lock():
                seen, role = _verified(state, anchor, model, commissioner, now)
                before = _before(state, role, model, seen, now, anew=anew)
            record = replace(change(before), version=seen.version + 1, time=now.replace(microsecond=0))
            record, data = _signed(state, role, record, commissioner)
            missing = max(0, role.threshold - len(dsse.envelope_keyids(data)))
            with state.write_lock():
                newest, _ = _verified(state, anchor, model, commissioner, now)
                if newest != seen:
                    raise TrustError(
                        "devices: expected no other record meanwhile, got one",
                        remedy="Look at it: twinseal device show. Then run the same command again.",
                    )
                _store(state, data, record if not missing else None, lambda: audit.append(entry_of(record, actor, now)))
    return Enrolment(record, missing)


def _verified(
    state: State, anchor: Anchor, model: str, commissioner: NamedSigner, now: datetime
) -> tuple[SeenDevices, RoleKeys]:
    """What was seen, and the commissioners, of whom `commissioner` is one now."""
    root, time = commissioners_root(state, anchor, model, now)
    check_commissioner(root, commissioner, time)
    return seen_devices(state), root.roles[ROLE]


def _before(state: State, role: RoleKeys, model: str, seen: SeenDevices, now: datetime, *, anew: bool) -> DeviceRecord:
    found = None if anew else record_that_counts(state, role, model, seen)
    return found or DeviceRecord(model, 1, AGE_S, (), (), now.replace(microsecond=0))


def _signed(
    state: State, role: RoleKeys, record: DeviceRecord, commissioner: NamedSigner
) -> tuple[DeviceRecord, bytes]:
    """The record and its envelope: what others proposed with one signature more, if it is the same but for its time."""
    with suppress(TwinsealError, OSError):
        data = read_regular(state.path / PROPOSED, MAX_RECORD_BYTES)
        proposed = device_record.verify(data, replace(role, threshold=1), PROPOSED)
        if proposed == replace(record, time=proposed.time):
            if commissioner.signer.public_key.keyid in dsse.envelope_keyids(data):
                return proposed, data
            return proposed, dsse.add_signature(data, commissioner.signer, PROPOSED)
    return record, device_record.sign(record, commissioner.signer)


def _store(state: State, data: bytes, counts: DeviceRecord | None, remember: Callable[[], object]) -> None:
    """Write the proposal; once it counts, log it, then move it into its place. The caller holds the lock."""
    write_whole(state.path / PROPOSED, data, mode=0o600)
    sync_folder(state.path)
    if counts is not None:
        remember()
        (state.path / PROPOSED).replace(state.path / FILE)
        sync_folder(state.path)
