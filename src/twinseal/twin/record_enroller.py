"""The record enroller: commissioners sign a record of a kind, and store it where the twin reads it.

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
from typing import Generic

from twinseal.digests import sha256
from twinseal.errors import EvidenceError, TrustError, TwinsealError
from twinseal.files import sync_folder, write_whole
from twinseal.reading import read_regular
from twinseal.trust.audit import Entry, log_of
from twinseal.trust.audit.entry import MAX_NAME, truncate
from twinseal.trust.keys.key import NamedSigner
from twinseal.trust.root.anchor import Anchor
from twinseal.trust.root.pins import RoleKeys
from twinseal.trust.signing import dsse
from twinseal.twin import locks
from twinseal.twin.commissioners import ROLE, check_commissioner, commissioners_root
from twinseal.twin.signed_records import R, RecordKind, SeenVersion, record_that_counts
from twinseal.twin.state import State


@dataclass(frozen=True)
class Enrolment(Generic[R]):
    """What was done.

    Attributes:
        record: As it was signed.
        missing: How many commissioners must still sign before it counts; 0: it counts.
    """

    record: R
    missing: int


def enroll(
    kind: RecordKind[R],
    state_dir: Path,
    anchor: Anchor,
    model: str,
    change: Callable[[R], R],
    commissioner: NamedSigner,
    *,
    now: datetime,
    anew: bool = False,
    renewing: bool = False,
) -> Enrolment[R]:
    """Sign the record as `change` makes it from the one that counts, and store it.

    Side effects: an entry in the twin's log, the kind's event or `refused`; then the record, or the proposal.

    Args:
        kind: Which kind of record.
        state_dir: The twin's own directory.
        anchor: The root that it was installed with.
        model: Which model the twin runs.
        change: What is to be different; its first argument is the kind's empty record where none was signed yet.
        commissioner: Who signs.
        now: Aware, UTC.
        anew: Begin with the empty record: the one before does not count any more.
        renewing: Begin with what the log knows, as `record_to_renew`.

    Raises:
        SignatureError, KeyAccessError, ExpiredError: As `commissioners.check_commissioner`.
        SignatureError, ThresholdError, EvidenceError, RollbackError: The record before does not count; or `change`
            makes none from it, or none that can follow.
        AuditError: It cannot be logged: nothing was signed.
        BusyError: Another commissioner is at work here.
        OSError: It cannot be written.
    """
    state, audit = State(state_dir), log_of(state_dir)
    actor = truncate(commissioner.holder, MAX_NAME)
    with audit.log_refusal(Entry(now, kind.event, actor, model)):
        with state.read_lock():  # there is a twin here, and it is this user's alone
            pass
        with locks.only_one(state.path / "commission.lock", kind.command, now):
            with state.read_lock():
                seen, role = _verified(kind, state, anchor, model, commissioner, now)
                if renewing:
                    found: R | None = _logged_record(kind, state, seen)
                else:
                    found = None if anew else record_that_counts(kind, state, role, model, seen)
            version, time = seen.version + 1, now.replace(microsecond=0)
            record = kind.dated(change(found or kind.empty(model, version, time)), version, time)
            if found is not None:
                kind.check_follows(found, record)
            record, data = _signed(kind, state, role, record, commissioner)
            missing = max(0, role.threshold - len(dsse.envelope_keyids(data)))
            with state.write_lock():
                newest, _ = _verified(kind, state, anchor, model, commissioner, now)
                if newest != seen:
                    raise TrustError(
                        f"{kind.name}: expected no other record meanwhile, got one",
                        remedy=f"Look at it: {kind.command} show. Then run the same command again.",
                    )
                entry = kind.entry(record, actor, now)
                _store(kind, state, data, None if missing else lambda: audit.append(entry))
    return Enrolment(record, missing)


def record_to_renew(kind: RecordKind[R], state_dir: Path, anchor: Anchor, model: str, now: datetime) -> R:
    """The record that counted here last, as the twin's log knows it, also if its signatures do not count any more.

    After a commissioner's key was replaced, what it signed ends. A person looks at it again, and signs it.

    Raises:
        EvidenceError: None counted here, or it is gone.
        RootError, RollbackError, AuditError: As `commissioners.commissioners_root`.
    """
    state = State(state_dir)
    with state.read_lock():
        commissioners_root(state, anchor, model, now)
        return _logged_record(kind, state, kind.seen(state))


def _logged_record(kind: RecordKind[R], state: State, seen: SeenVersion) -> R:
    for name in (kind.file, kind.proposal):
        with suppress(TwinsealError, OSError):
            payload = dsse.unverified_payload(read_regular(state.path / name, kind.limit), name)
            if sha256(payload) == seen.sha256:  # a chain of hashes that this twin's key signed knows it
                return kind.read(payload, name)
    raise EvidenceError(
        f"{kind.file}: expected version {seen.version}, which this twin's log knows, got none", remedy=kind.remedy
    )


def _verified(
    kind: RecordKind[R], state: State, anchor: Anchor, model: str, commissioner: NamedSigner, now: datetime
) -> tuple[SeenVersion, RoleKeys]:
    """What was seen, and the commissioners, of whom `commissioner` is one now."""
    root, time = commissioners_root(state, anchor, model, now)
    check_commissioner(root, commissioner, time)
    return kind.seen(state), root.roles[ROLE]


def _signed(kind: RecordKind[R], state: State, role: RoleKeys, record: R, commissioner: NamedSigner) -> tuple[R, bytes]:
    """The record and its envelope: what others proposed with one signature more, if it is the same but for its time."""
    with suppress(TwinsealError, OSError):
        data = read_regular(state.path / kind.proposal, kind.limit)
        proposed = kind.verify(data, replace(role, threshold=1), kind.proposal)
        if proposed == kind.dated(record, record.version, proposed.time):
            if commissioner.signer.public_key.keyid in dsse.envelope_keyids(data):
                return proposed, data
            return proposed, dsse.add_signature(data, commissioner.signer, kind.proposal)
    payload = record.to_bytes()
    if kind.read(payload, f"the new {kind.file}") != record:  # nothing is signed that could not be read again
        raise EvidenceError(f"{kind.file}: expected a record that reads back as itself, got {sha256(payload)[:12]}…")
    data = dsse.sign_envelope(payload, commissioner.signer)
    if len(data) > kind.limit:
        raise EvidenceError(f"{kind.file}: expected at most {kind.limit} bytes, got {len(data)}")
    return record, data


def _store(kind: RecordKind[R], state: State, data: bytes, remember: Callable[[], object] | None) -> None:
    """Write the proposal; if it counts, log it, then move it into its place. The caller holds the lock."""
    write_whole(state.path / kind.proposal, data, mode=0o600)
    sync_folder(state.path)
    if remember is not None:
        remember()
        (state.path / kind.proposal).replace(state.path / kind.file)
        sync_folder(state.path)
