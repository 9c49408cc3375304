"""Commissioning: which of the baseline records that commissioners have signed a twin may use.

    commissioned/<sha256 of the unit's name>.dsse.json   the baseline record of a unit (`trust.baseline_record`)
    commissioned/replaced/                               records that were replaced; kept for people, never read
    commissioned.json                                    the newest version seen of each unit: what only grows

A record counts when all of this holds, numbered as in the body of `BaselineVerifier.verify_record`:

1. it is a regular file, of bounded length, in a folder that no one else can write to
2. enough commissioners of the newest root that the twin has have signed it, and their keys are still pinned
3. it is of the unit that its file is named after, of this model, and of this kind of asset
4. it is not older than what was seen of this unit, nor another under the same version
5. it was signed after the last overhaul of the machine, the last sensor replaced, and the last machine of its name, as
   the life record says (`twin.enrolled_lives`), if one was ever signed here
6. it has every column that the model reads, in the contract's units, and its rows are within today's contract

A record that does not count is never used, and is always reported: `baselines` returns it with the reason, and its unit
is answered by the network that needs no baseline. Records are made by `twinseal.twin.commissioner`.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import numpy as np
import structlog
from numpy.typing import NDArray

from twinseal.digests import sha256
from twinseal.errors import (
    AuditError,
    DataError,
    EvidenceError,
    RollbackError,
    TrustError,
    TwinsealError,
)
from twinseal.reading import read_regular
from twinseal.telemetry.contract import Contract
from twinseal.trust import baseline_record
from twinseal.trust.audit import Entry, log_of
from twinseal.trust.audit.entry import truncate
from twinseal.trust.baseline_record import MAX_RECORD_BYTES, BaselineRecord
from twinseal.trust.keys.key import NamedSigner
from twinseal.trust.life_acts import Act
from twinseal.trust.root.anchor import Anchor
from twinseal.trust.root.pins import RoleKeys
from twinseal.twin.admit import VerifiedModel
from twinseal.twin.baseline_rows import contract_violations
from twinseal.twin.commissioners import MAX_LEAP, ROLE, check_commissioner, commissioners_root
from twinseal.twin.enrolled_lives import LIVES, CurrentLives
from twinseal.twin.journal import ACTOR
from twinseal.twin.seen_records import MEMORY, Memory, SeenRecord, read_memory, store_memory
from twinseal.twin.signed_records import record_that_counts
from twinseal.twin.state import State

log = structlog.get_logger()

FOLDER, SUFFIX = "commissioned", ".dsse.json"
_REMEDY = "Find out who changed it. Then commission the machine again, if it is as new: twinseal commission --replace"

EVERY_UNIT = "every unit"  # that has a record: none of them could be verified

Rows = NDArray[np.float64]


@dataclass(frozen=True)
class RefusedRecord:
    """A record that does not count.

    Attributes:
        unit: Its unit; the name of the file where the unit is not known.
        reason: Expected, got, where.
    """

    unit: str
    reason: str


@dataclass(frozen=True, eq=False)
class Baselines(Mapping[str, Rows]):
    """The first cycles of each unit whose record counts: (CYCLES, I) float64, the contract's inputs, raw units.

    Attributes:
        rows: By unit.
        refused: Records that do not count; report each.
    """

    rows: Mapping[str, Rows] = field(default_factory=dict)
    refused: tuple[RefusedRecord, ...] = ()

    def __getitem__(self, unit: str) -> Rows:
        return self.rows[unit]

    def __iter__(self) -> Iterator[str]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)


def baselines(state_dir: Path, anchor: Anchor, verified: VerifiedModel, now: datetime) -> Baselines:
    """The baseline records that the twin at `state_dir` may use, and those that it refuses.

    Side effects: remembers versions that it had not seen, if it may write.

    Args:
        state_dir: The twin's own directory.
        anchor: The root that it was installed with.
        verified: The model that is to read them.
        now: Aware, UTC; if it is before the last time seen, that time is used.

    Raises:
        TrustError: The state is not this user's alone.
    """
    state = State(state_dir)
    with state.read_lock():
        try:
            verifier = BaselineVerifier.of(state, anchor, verified, now)
            found, refused = verifier.verify_folder(state.path / FOLDER)
        except (TwinsealError, OSError) as error:
            log.warning("baselines.refused", reason=str(error))
            return Baselines({}, (RefusedRecord(EVERY_UNIT, str(error)),) if _has_records(state) else ())
    for item in refused:
        log.warning("baseline.refused", unit=item.unit, reason=item.reason)
    new_records = {record.key: SeenRecord.of(record) for record, _ in found.values()}
    if any(verifier.memory.get(key) != remembered for key, remembered in new_records.items()):
        _remember(state, new_records, verified.release.model, now)
    return Baselines({unit: rows for unit, (_, rows) in found.items()}, tuple(refused))


@dataclass(frozen=True, eq=False)
class Signed:
    """What commissioners have signed of the machines, as far as it counts.

    Attributes:
        acts: Each enrolled machine's acts, in order; None where no machine was ever enrolled.
        baselines: As `baselines`.
        refused: Why the life record does not count; "" if it does. Every machine is unknown then.
    """

    acts: Mapping[str, tuple[Act, ...]] | None
    baselines: Baselines
    refused: str = ""


class CurrentSigned:
    """What commissioners have signed, while a twin runs: read again when the life record's file was changed.

    Args:
        state_dir, anchor, verified: As `baselines`.
    """

    def __init__(self, state_dir: Path, anchor: Anchor, verified: VerifiedModel) -> None:
        self._state_dir, self._anchor, self._verified = state_dir, anchor, verified
        self._lives = CurrentLives(state_dir, anchor, verified.release.model)
        self._said: tuple[Mapping[str, tuple[Act, ...]] | None, str] | None = None

    def news(self, now: datetime) -> Signed | None:
        """What is signed; None where it is as when this was called last.

        Raises:
            TrustError: The state is not this user's alone.
        """
        try:
            acts, refused = self._lives.acts(now), ""
        except TwinsealError as error:
            acts, refused = {}, str(error)
        if (self._said is not None and self._said[0] is acts) or self._said == (acts, refused):
            return None
        self._said = acts, refused
        return Signed(acts, baselines(self._state_dir, self._anchor, self._verified, now), refused)


@dataclass(frozen=True)
class BaselineVerifier:
    """What baseline records are verified against.

    Attributes:
        root: The newest that the twin has.
        contract: Of the model that reads the baseline.
        memory: The newest version seen of each unit.
        ended: By unit, the version up to which baseline records do not describe the machine any more.
        now: Aware, UTC; never before the twin last heard of its registry.
    """

    root: Anchor
    contract: Contract
    memory: Memory
    ended: Mapping[str, int]
    now: datetime

    @classmethod
    def of(cls, state: State, anchor: Anchor, verified: VerifiedModel, now: datetime) -> BaselineVerifier:
        """A verifier with what the twin at `state` knows; the caller holds its lock.

        Raises:
            RootError: A root that it has seen does not follow from `anchor`.
            RollbackError: A root that its log knows is gone.
            EvidenceError: What it remembers is malformed, or of another model.
            SignatureError, ThresholdError, EvidenceError, RollbackError: Its life record does not count.
            AuditError: Its log is not the one that its key signed.
        """
        model = verified.release.model
        root, time = commissioners_root(state, anchor, model, now)
        lives = record_that_counts(LIVES, state, root.roles[ROLE], model, LIVES.seen(state))
        ended = {unit: life.baseline for unit, life in lives.lives.items()} if lives else {}
        return cls(root, verified.model.contract, read_memory(state), ended, time)

    @property
    def role(self) -> RoleKeys:
        """The commissioners."""
        return self.root.roles[ROLE]

    def check_signer(self, commissioner: NamedSigner) -> None:
        """Refuse a holder or a key that may not sign now; raises as `check_commissioner`."""
        check_commissioner(self.root, commissioner, self.now)

    def verify_folder(self, path: Path) -> tuple[dict[str, tuple[BaselineRecord, Rows]], list[RefusedRecord]]:
        """The records in the folder at `path` that count, by unit; and those that do not, also those that are gone.

        Raises:
            TrustError, OSError: The folder itself is not to be trusted, or cannot be read.
        """
        if not os.path.lexists(path):
            return {}, [self._missing_record(remembered) for remembered in self.memory.values()]
        found: dict[str, tuple[BaselineRecord, Rows]] = {}
        refused = []
        files = sorted(private_folder(path).glob(f"*{SUFFIX}"))
        for file in files:
            key = file.name.removesuffix(SUFFIX)
            try:
                record, rows = self.verify_record(read_regular(file, MAX_RECORD_BYTES), key, file.name[:24])
            except (TwinsealError, OSError) as error:
                name = self.memory[key].unit if key in self.memory else file.name
                refused.append(RefusedRecord(name, str(error)))
            else:
                found[record.unit] = (record, rows)
        here = {file.name.removesuffix(SUFFIX) for file in files}
        return found, refused + [
            self._missing_record(remembered) for key, remembered in self.memory.items() if key not in here
        ]

    def verify_record(self, data: bytes, key: str, where: str) -> tuple[BaselineRecord, Rows]:
        """The record in an envelope, and what it says of the model's inputs.

        Args:
            data: The envelope, from outside.
            key: What its file is named after: the `unit_key` of the unit that it should be of.
            where: The file, for messages.

        Raises:
            SignatureError, ThresholdError, ExpiredError: 2.
            EvidenceError: 1, 3, 5; or a column is not there (6).
            RollbackError: 4.
            DataError: Rows are not within the contract (6).
        """
        if len(data) > MAX_RECORD_BYTES:  # 1
            raise EvidenceError(f"{where}: expected at most {MAX_RECORD_BYTES} bytes, got more")
        record = baseline_record.verify(data, self.role, where)  # 2
        self.root.check_role(ROLE, self.now)
        if record.key != key:  # 3
            raise EvidenceError(f"{where}: expected the record of the unit that it is named after, got {record.unit!a}")
        self._check_subject(record)
        self._check_memory(record)  # 4
        self._check_life(record)  # 5
        return record, readings(record, self.contract)  # 6

    def _check_subject(self, record: BaselineRecord) -> None:
        expected, got = f"{self.contract.model} of a {self.contract.asset}", f"{record.model} of a {record.asset}"
        if (self.contract.model, self.contract.asset) != (record.model, record.asset):
            raise EvidenceError(f"{record.unit}: expected a baseline record for {expected}, got one for {got}")

    def _check_memory(self, record: BaselineRecord) -> None:
        remembered = self.memory.get(record.key)
        version, digest = (remembered.version, remembered.sha256) if remembered else (0, "")
        if record.version < version:
            raise RollbackError(
                f"{record.unit}: expected a baseline record of version >= {version}, as seen before, "
                f"got {record.version}",
                remedy=_REMEDY,
            )
        if record.version == version and sha256(record.to_bytes()) != digest:
            raise RollbackError(
                f"{record.unit}: expected version {version} as seen before, got another", remedy=_REMEDY
            )
        if record.version > version + MAX_LEAP:
            raise RollbackError(f"{record.unit}: expected a version soon after {version}, got {record.version}")

    def _check_life(self, record: BaselineRecord) -> None:
        ended = self.ended.get(record.unit, 0)
        if record.version <= ended:
            raise EvidenceError(
                f"{record.unit}: expected a baseline record after version {ended}, as the machine was overhauled or "
                f"got a new sensor then, got {record.version}",
                remedy="Sign its first cycles since then: twinseal commission --replace",
            )

    @staticmethod
    def _missing_record(remembered: SeenRecord) -> RefusedRecord:
        return RefusedRecord(
            remembered.unit, f"{FOLDER}: expected version {remembered.version} of its baseline record, got none"
        )


def readings(record: BaselineRecord, contract: Contract) -> Rows:
    """What a record says of the contract's inputs: (CYCLES, I) float64, raw units.

    Raises:
        EvidenceError: A column is absent, or in another unit of measure.
        DataError: The rows are not within the contract.
    """
    places = {column: index for index, column in enumerate(record.columns)}
    wanted = columns_of(contract)
    missing = [f"{name} in {unit}" for name, unit in wanted if (name, unit) not in places]
    if missing:
        raise EvidenceError(f"{record.unit}: expected readings of {', '.join(missing)[:200]}, got none")
    rows = np.array(record.rows, dtype=np.float64)[:, [places[column] for column in wanted]]
    found = contract_violations(rows, contract)
    if found:
        raise DataError(
            f"{record.unit}: expected a baseline record within the contract, got {len(found)} readings outside it "
            f"({found[0]})",
            findings=found,
        )
    return rows


def columns_of(contract: Contract) -> tuple[tuple[str, str], ...]:
    """The I columns that the model reads, each with its unit of measure."""
    return tuple((name, contract.all_channels[name].unit) for name in contract.inputs)


def private_folder(path: Path, *, make: bool = False) -> Path:
    """`path`, once it is a folder of this user that no one else can write to.

    Raises:
        TrustError: It is not.
        OSError: There is none.
    """
    if make:
        path.mkdir(mode=0o700, exist_ok=True)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_mode & 0o022 or found.st_uid not in (os.geteuid(), 0):
        raise TrustError(
            f"{path}: expected a folder of this user that no one else can write to, got "
            f"{stat.filemode(found.st_mode)} of user {found.st_uid}",
            remedy=f"Find out who changed what is in it; then chmod 700 {path}",
        )
    return path


def _has_records(state: State) -> bool:
    return any(os.path.lexists(state.path / name) for name in (FOLDER, MEMORY))


def _remember(state: State, new_records: Memory, model: str, now: datetime) -> None:
    """Remember records that were copied here. Without write access they are used, and not remembered."""
    try:
        with state.write_lock():
            memory = read_memory(state)
            newer = {
                key: seen
                for key, seen in new_records.items()
                if key not in memory or memory[key].version < seen.version
            }
            log_of(state.path).append(*(_entry(seen, model, now) for seen in newer.values()))
            store_memory(state, {**memory, **newer})
    except (AuditError, OSError) as error:
        log.warning("baseline.not_remembered", reason=str(error))


def _entry(seen: SeenRecord, model: str, now: datetime) -> Entry:
    details = {"unit": seen.unit, "version": str(seen.version), "record": seen.sha256, "seen": "was copied here"}
    return Entry(now, "commissioned", ACTOR, model, details={name: truncate(text) for name, text in details.items()})
