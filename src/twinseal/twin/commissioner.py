"""The commissioner: signs the first cycles of units, and keeps them where the twin reads them.

What may be signed, what may be replaced, and what is left as it is, is decided for all units before anything is
written; a decision is in the twin's audit log before it takes effect. Nothing is ever overwritten: a record that is
replaced is moved aside first, so whoever is killed in between leaves the unit without a baseline, which the twin says.

A role of more than one signature is met one after the other: each commissioner signs on the same command and the same
telemetry, and every one after the first signs what the first has signed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import structlog

from twinseal.digests import sha256
from twinseal.errors import TrustError, TwinsealError
from twinseal.files import read_regular, sync_folder, write_new, write_whole
from twinseal.telemetry.contract import Contract
from twinseal.trust import baseline_record, dsse
from twinseal.trust.audit import Entry, log_of
from twinseal.trust.audit.entry import MAX_NAME, truncate
from twinseal.trust.baseline_record import MAX_RECORD_BYTES, BaselineRecord
from twinseal.trust.keys.key import KeySigner
from twinseal.trust.root.anchor import Anchor
from twinseal.twin.admit import VerifiedModel
from twinseal.twin.commissioning import (
    FOLDER,
    MAX_LEAP,
    SUFFIX,
    BaselineVerifier,
    Kept,
    Rows,
    columns_of,
    keep_memory,
    private_folder,
    readings,
)
from twinseal.twin.state import State

log = structlog.get_logger()

REPLACED = "replaced"


@dataclass(frozen=True)
class Signed:
    """What became of one unit.

    Attributes:
        first: Its record.
        news: `signed`; `countersigned`: one signature more under what others had signed; or `stands`: it is there.
        missing: How many commissioners must still sign before it counts.
        replaced: Where the record before it was put; None when there was none.
    """

    first: BaselineRecord
    news: str
    missing: int
    replaced: Path | None = None


def commission(
    state_dir: Path,
    anchor: Anchor,
    verified: VerifiedModel,
    found: Mapping[str, Rows],
    *,
    holder: str,
    signer: KeySigner,
    now: datetime,
    replacing: bool = False,
) -> tuple[Signed, ...]:
    """Sign the first cycles of units, as `holder`, and keep them where the twin reads them.

    All units or none are begun with: whatever is wrong with one is found before anything is signed. A record that
    others have signed, and that says the same, gets one signature more; one that has all it needs is left as it is.

    Side effects: entries in the twin's audit log, `commissioned` or `refused`; then `commissioned/` and its memory.

    Args:
        state_dir: The twin's own directory, with a model installed.
        anchor: The root that it was installed with.
        verified: That model.
        found: As `first_rows.take` gave them, by unit.
        holder: Who signs.
        signer: With which key.
        now: Aware, UTC.
        replacing: Also where there is a record already, that says something else.

    Raises:
        SignatureError: `holder` is no commissioner by the newest root that the twin has.
        KeyAccessError: The key is not the one that the root has for `holder`.
        ExpiredError: The commissioners' keys are pinned no longer.
        TrustError: A unit has a record already; or the folder is not this user's alone.
        DataError: Rows do not keep the contract.
        AuditError: It cannot be logged: nothing was signed.
        OSError: It cannot be written.
    """
    state, audit = State(state_dir), log_of(state_dir)
    units = ", ".join(found)
    attempt = Entry(
        now, "commissioned", truncate(holder, MAX_NAME), verified.release.model, details={"units": truncate(units)}
    )
    with audit.refusing(attempt), state.locked():
        court = BaselineVerifier.of(state, anchor, verified, now)
        court.check_signer(holder, signer)
        folder = private_folder(state.path / FOLDER, make=True)
        drafts = [
            _draft(court, folder, _record(unit, rows, verified.model.contract, now), signer, replacing)
            for unit, rows in found.items()
        ]
        audit.append(*(_entry(attempt, draft) for draft in drafts if draft.data))
        done = tuple(draft.write() for draft in drafts)
        keep_memory(state, {**court.memory, **{item.first.key: Kept.of(item.first) for item in done}})
    log.info("units.commissioned", units=len(done), holder=holder)
    return done


@dataclass(frozen=True)
class _Draft:
    """What is about to be written for one unit; `data` is None when all of it is there."""

    path: Path
    first: BaselineRecord
    data: bytes | None
    news: str
    missing: int
    replaces: int = 0  # the version that it replaces; 0: none

    def write(self) -> Signed:
        if self.data is None:
            return Signed(self.first, self.news, self.missing)
        if self.news == "countersigned":
            write_whole(self.path, self.data, mode=0o600)
            return Signed(self.first, self.news, self.missing)
        aside = _put_aside(self.path) if os.path.lexists(self.path) else None
        write_new(self.path, self.data)
        sync_folder(self.path.parent)
        return Signed(self.first, self.news, self.missing, aside)


def _draft(court: BaselineVerifier, folder: Path, first: BaselineRecord, signer: KeySigner, replacing: bool) -> _Draft:
    path, threshold = folder / f"{first.key}{SUFFIX}", court.role.threshold
    kept, standing = court.memory.get(first.key), _standing(court, path)
    if standing is not None:
        data, old = standing
        same = replace(first, version=old.version, time=old.time) == old
        if same and (kept is None or kept == Kept.of(old)):
            keys = dsse.envelope_keys(data)
            if signer.public_key.keyid in keys or len(keys) >= threshold:
                return _Draft(path, old, None, "stands", max(0, threshold - len(keys)))
            more = dsse.countersign_envelope(data, signer)
            return _Draft(path, old, more, "countersigned", threshold - len(keys) - 1)
    before = kept.version if kept else 0
    if standing is not None and standing[1].version <= before + MAX_LEAP:
        before = max(before, standing[1].version)
    if (before or os.path.lexists(path)) and not replacing:
        what = f"version {before}" if before else "a record that does not count"
        raise TrustError(
            f"{first.unit}: expected no first cycles signed before, got {what}",
            remedy="A worn machine that is commissioned again would pass for new. If this one is as new: --replace",
        )
    first = replace(first, version=before + 1)
    return _Draft(path, first, baseline_record.sign(first, signer), "signed", threshold - 1, before)


def _standing(court: BaselineVerifier, path: Path) -> tuple[bytes, BaselineRecord] | None:
    """The record that lies at `path`, if commissioners have signed it, be they too few; None for anything else."""
    with suppress(TwinsealError, OSError):
        data = read_regular(path, MAX_RECORD_BYTES)
        first = baseline_record.verify(data, replace(court.role, threshold=1), path.name)
        if f"{first.key}{SUFFIX}" == path.name:
            return data, first
    return None


def _record(unit: str, rows: Rows, contract: Contract, now: datetime) -> BaselineRecord:
    said = tuple(tuple(map(float, row)) for row in rows)
    time = now.replace(microsecond=0)
    first = BaselineRecord(unit, contract.asset, contract.model, 1, columns_of(contract), said, time)
    readings(first, contract)
    return first


def _entry(attempt: Entry, draft: _Draft) -> Entry:
    said = {"unit": draft.first.unit, "version": str(draft.first.version), "record": sha256(draft.first.to_bytes())}
    said |= {"replaces": f"version {draft.replaces}"} if draft.replaces else {}
    return replace(attempt, details={name: truncate(text) for name, text in said.items()})


def _put_aside(path: Path) -> Path:
    """Move what lies at `path` to the replaced ones, under a name of its own."""
    folder = private_folder(path.parent / REPLACED, make=True)
    stem, number = path.name.removesuffix(SUFFIX), 1
    while os.path.lexists(aside := folder / f"{stem}.{number}{SUFFIX}"):
        number += 1
    return path.rename(aside)
