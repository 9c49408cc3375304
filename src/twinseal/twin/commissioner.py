"""The commissioner: signs baseline records of units, and stores them where the twin reads them.

For all units it is decided first whether to sign, to replace, or to leave the record as it is; then the files are
written. While a key signs, which a token may do slowly, nothing is locked that a start of the twin needs. A decision is
in the twin's audit log before it takes effect. Nothing is overwritten: a record that is replaced is moved aside first.
If the process is killed in between, the unit has no baseline record, and the twin reports that.

Where the role needs more than one signature, commissioners sign one after the other: each runs the same command on the
same telemetry, and adds a signature to what the first one signed.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import structlog

from twinseal.digests import sha256
from twinseal.errors import TrustError, TwinsealError
from twinseal.files import sync_folder, write_new, write_whole
from twinseal.reading import read_regular
from twinseal.telemetry.contract import Contract
from twinseal.trust import baseline_record
from twinseal.trust.audit import Entry, log_of
from twinseal.trust.audit.entry import MAX_NAME, truncate
from twinseal.trust.baseline_record import MAX_RECORD_BYTES, BaselineRecord
from twinseal.trust.keys.key import ListSigner, NamedSigner
from twinseal.trust.root.anchor import Anchor
from twinseal.trust.signing import dsse
from twinseal.twin import locks
from twinseal.twin.admit import VerifiedModel
from twinseal.twin.commissioners import MAX_LEAP
from twinseal.twin.commissioning import (
    FOLDER,
    SUFFIX,
    BaselineVerifier,
    Rows,
    columns_of,
    private_folder,
    readings,
)
from twinseal.twin.seen_records import SeenRecord, store_memory
from twinseal.twin.state import State

log = structlog.get_logger()

REPLACED = "replaced"


@dataclass(frozen=True)
class CommissioningResult:
    """What was done for one unit.

    Attributes:
        record: Its baseline record.
        outcome: `signed`; `countersigned`: a signature was added to the record of others; `stands`: nothing to do.
        missing: How many commissioners must still sign before it counts.
        replaced: Where the record before it was put; None when there was none.
    """

    record: BaselineRecord
    outcome: str
    missing: int
    replaced: Path | None = None


def commission(
    state_dir: Path,
    anchor: Anchor,
    verified: VerifiedModel,
    found: Mapping[str, Rows],
    commissioner: NamedSigner,
    *,
    now: datetime,
    replacing: bool = False,
) -> tuple[CommissioningResult, ...]:
    """Sign the baseline records of units, and store them where the twin reads them.

    If something is wrong with one unit, nothing is signed for any. A record with the same content that others have
    signed gets one more signature; a record with enough signatures is left as it is.

    Side effects: entries in the twin's audit log, `commissioned` or `refused`; then `commissioned/` and its memory.

    Args:
        state_dir: The twin's own directory, with a model installed.
        anchor: The root that it was installed with.
        verified: That model.
        found: As `baseline_rows.take_first_rows` gave them, by unit.
        commissioner: Who signs.
        now: Aware, UTC.
        replacing: Replace records that are there already and have other content.

    Raises:
        SignatureError: The holder is no commissioner by the newest root that the twin has.
        KeyAccessError: The key is not the one that the root has for the holder.
        ExpiredError: The commissioners' keys are pinned no longer.
        TrustError: A unit has a record already; or the folder is not this user's alone.
        DataError: Rows are not within the contract.
        AuditError: It cannot be logged: nothing was signed.
        BusyError: Another commissioner is at work here.
        OSError: It cannot be written.
    """
    state, audit = State(state_dir), log_of(state_dir)
    units = ", ".join(found)
    attempt = Entry(
        now,
        "commissioned",
        truncate(commissioner.holder, MAX_NAME),
        verified.release.model,
        details={"units": truncate(units)},
    )
    with audit.log_refusal(attempt), _one_commissioner(state, now):
        with state.read_lock():
            verifier = BaselineVerifier.of(state, anchor, verified, now)
            verifier.check_signer(commissioner)
            folder = private_folder(state.path / FOLDER, make=True)
        drafts = [
            _draft(verifier, folder, _record(unit, rows, verified.model.contract, now), commissioner.signer, replacing)
            for unit, rows in found.items()
        ]
        with state.write_lock():
            newest = BaselineVerifier.of(state, anchor, verified, now)
            newest.check_signer(commissioner)  # a pull may have brought a root that revokes the key
            _check_unchanged(verifier, newest, drafts)
            audit.append(*(_entry(attempt, draft) for draft in drafts if draft.data))
            done = tuple(draft.write() for draft in drafts)
            store_memory(state, {**newest.memory, **{item.record.key: SeenRecord.of(item.record) for item in done}})
    log.info("units.commissioned", units=len(done), holder=commissioner.holder)
    return done


@contextmanager
def _one_commissioner(state: State, now: datetime) -> Iterator[None]:
    with state.read_lock():  # there is a twin here, and it is this user's alone
        pass
    with locks.only_one(state.path / "commission.lock", "twinseal commission", now):
        yield


def _check_unchanged(before: BaselineVerifier, newest: BaselineVerifier, drafts: Iterable[_Draft]) -> None:
    """Refuse if a record of these units came in while the key signed: it was not compared with that one."""
    for draft in drafts:
        if before.memory.get(draft.record.key) != newest.memory.get(draft.record.key):
            raise TrustError(
                f"{draft.record.unit}: expected no other baseline record meanwhile, got one",
                remedy="A record of this unit was copied here just now. Look at it, then run the same command again.",
            )


@dataclass(frozen=True)
class _Draft:
    """What is to be written for one unit; `data` is None when nothing is."""

    path: Path
    record: BaselineRecord
    data: bytes | None
    outcome: str
    missing: int
    replaces: int = 0  # the version that it replaces; 0: none

    def write(self) -> CommissioningResult:
        if self.data is None:
            return CommissioningResult(self.record, self.outcome, self.missing)
        if self.outcome == "countersigned":
            write_whole(self.path, self.data, mode=0o600)
            return CommissioningResult(self.record, self.outcome, self.missing)
        aside = _move_aside(self.path) if os.path.lexists(self.path) else None
        write_new(self.path, self.data)
        sync_folder(self.path.parent)
        return CommissioningResult(self.record, self.outcome, self.missing, aside)


def _draft(
    verifier: BaselineVerifier, folder: Path, record: BaselineRecord, signer: ListSigner, replacing: bool
) -> _Draft:
    path, threshold = folder / f"{record.key}{SUFFIX}", verifier.role.threshold
    remembered, existing = verifier.memory.get(record.key), _existing_record(verifier, path)
    if existing is not None:
        data, old = existing
        same = replace(record, version=old.version, time=old.time) == old
        if same and (remembered is None or remembered == SeenRecord.of(old)):
            keys = dsse.envelope_keyids(data)
            if signer.public_key.keyid in keys or len(keys) >= threshold:
                return _Draft(path, old, None, "stands", max(0, threshold - len(keys)))
            more = dsse.add_signature(data, signer)
            return _Draft(path, old, more, "countersigned", threshold - len(keys) - 1)
    before = remembered.version if remembered else 0
    if existing is not None and existing[1].version <= before + MAX_LEAP:
        before = max(before, existing[1].version)
    if (before or os.path.lexists(path)) and not replacing:
        what = f"version {before}" if before else "a record that does not count"
        raise TrustError(
            f"{record.unit}: expected no earlier baseline record, got {what}",
            remedy="A worn machine that is commissioned again would pass for new. If this one is as new: --replace",
        )
    record = replace(record, version=before + 1)
    return _Draft(path, record, baseline_record.sign(record, signer), "signed", threshold - 1, before)


def _existing_record(verifier: BaselineVerifier, path: Path) -> tuple[bytes, BaselineRecord] | None:
    """The record at `path`, if at least one commissioner has signed it; None otherwise."""
    with suppress(TwinsealError, OSError):
        data = read_regular(path, MAX_RECORD_BYTES)
        record = baseline_record.verify(data, replace(verifier.role, threshold=1), path.name)
        if f"{record.key}{SUFFIX}" == path.name:
            return data, record
    return None


def _record(unit: str, rows: Rows, contract: Contract, now: datetime) -> BaselineRecord:
    values = tuple(tuple(map(float, row)) for row in rows)
    time = now.replace(microsecond=0)
    record = BaselineRecord(unit, contract.asset, contract.model, 1, columns_of(contract), values, time)
    readings(record, contract)
    return record


def _entry(attempt: Entry, draft: _Draft) -> Entry:
    details = {
        "unit": draft.record.unit,
        "version": str(draft.record.version),
        "record": sha256(draft.record.to_bytes()),
    }
    details |= {"replaces": f"version {draft.replaces}"} if draft.replaces else {}
    return replace(attempt, details={name: truncate(text) for name, text in details.items()})


def _move_aside(path: Path) -> Path:
    """Move the file at `path` to `replaced/`, under a new name."""
    folder = private_folder(path.parent / REPLACED, make=True)
    stem, number = path.name.removesuffix(SUFFIX), 1
    while os.path.lexists(aside := folder / f"{stem}.{number}{SUFFIX}"):
        number += 1
    return path.rename(aside)
