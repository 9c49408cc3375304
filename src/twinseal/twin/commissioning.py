"""Commissioning: which of the first cycles that commissioners have signed a twin may build on.

    commissioned/<sha256 of the unit's name>.dsse.json   the record of a unit (`twinseal.trust.baseline_record`)
    commissioned/replaced/                               records that were replaced; kept for people, never read
    commissioned.json                                    the newest version seen of each unit: what only grows

A record counts when all of this holds, numbered as in the body of `BaselineVerifier.judge`:

1. it is a regular file, of bounded length, in a folder that nobody else may write to
2. enough commissioners of the newest root that the twin has have signed it, and their keys are still pinned
3. it is of the unit that its file is named after, of this model, and of this kind of asset
4. it is not older than what was seen of this unit, nor another under the same version
5. it has every column that the model reads, in the contract's units, and rows that keep the contract as it is today

A record that does not count is never used and never passed over in silence: `baselines` gives it back with the reason,
and its unit is left to the network that needs no baseline. Records are made by `twinseal.twin.commissioner`.
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

from twinseal.digests import canonical_json, is_sha256, parse_json, sha256
from twinseal.errors import (
    DataError,
    EvidenceError,
    KeyAccessError,
    RollbackError,
    TrustError,
    TwinsealError,
)
from twinseal.files import read_regular, sync_folder, write_whole
from twinseal.telemetry.contract import Contract
from twinseal.trust import baseline_record
from twinseal.trust.baseline_record import MAX_RECORD_BYTES, BaselineRecord, check_unit, unit_key
from twinseal.trust.keys.key import KeySigner
from twinseal.trust.release.client import anchors
from twinseal.trust.release.release import MAX_VERSION
from twinseal.trust.root.anchor import Anchor, chain
from twinseal.trust.root.pins import RoleKeys
from twinseal.twin.admit import VerifiedModel
from twinseal.twin.baseline_rows import breaches
from twinseal.twin.state import ROOTS, State

log = structlog.get_logger()

ROLE = "commissioner"
FOLDER, MEMORY, SUFFIX = "commissioned", "commissioned.json", ".dsse.json"
MAX_MEMORY_BYTES = 16 << 20
# Versions grow by one. A thief who signs version 2³¹ must not make the twin deaf to the honest next one.
MAX_LEAP = 1000
_REMEDY = "Find out who changed it. Then commission the machine again, if it is as new: twinseal commission --replace"

EVERY_UNIT = "every unit"  # that has a record: none of them could be judged

Rows = NDArray[np.float64]


@dataclass(frozen=True)
class Kept:
    """What the twin has seen of one unit, and will not go back behind.

    Attributes:
        unit: Its name.
        version: Of its newest record.
        sha256: Of what is signed in it.

    Raises:
        EvidenceError: Some of it is none of that.
    """

    unit: str
    version: int
    sha256: str

    def __post_init__(self) -> None:
        check_unit(self.unit)
        if type(self.version) is not int or not 1 <= self.version <= MAX_VERSION or not is_sha256(self.sha256):
            raise EvidenceError(f"{MEMORY}: expected a version and a SHA-256 of each unit, got {self}"[:300])

    @classmethod
    def of(cls, first: BaselineRecord) -> Kept:
        """What is to be remembered of a record."""
        return cls(first.unit, first.version, sha256(first.to_bytes()))


Memory = Mapping[str, Kept]
"""By `unit_key`."""


@dataclass(frozen=True)
class Refused:
    """A record that does not count.

    Attributes:
        unit: Whose it would be; the file's name when nobody can say.
        reason: Expected, got, where.
    """

    unit: str
    reason: str


@dataclass(frozen=True, eq=False)
class Baselines(Mapping[str, Rows]):
    """The first cycles of each unit whose record counts: (CYCLES, I) float64, the contract's inputs, raw units.

    Attributes:
        rows: By unit.
        refused: Records that do not count, each to be said.
    """

    rows: Mapping[str, Rows] = field(default_factory=dict)
    refused: tuple[Refused, ...] = ()

    def __getitem__(self, unit: str) -> Rows:
        return self.rows[unit]

    def __iter__(self) -> Iterator[str]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)


def newest(state: State, anchor: Anchor) -> Anchor:
    """The newest root that the twin has: in its cache of metadata, or beside the model that it runs.

    Raises:
        RootError: A root there does not follow from `anchor`.
    """
    found = anchors(anchor, state.metadata)
    if state.points():
        found = max(found, chain(anchor, state.current()[1] / ROOTS), key=len)
    return found[-1]


def baselines(state_dir: Path, anchor: Anchor, verified: VerifiedModel, now: datetime) -> Baselines:
    """The first cycles that the twin at `state_dir` may build on, and what it found that it may not.

    Side effects: remembers versions that it had not seen, if it may write.

    Args:
        state_dir: The twin's own directory.
        anchor: The root that it was installed with.
        verified: The model that is to read them.
        now: Aware, UTC; a clock that runs behind what the twin has seen does not count.

    Raises:
        TrustError: The state is not this user's alone.
    """
    state = State(state_dir)
    with state.shared():
        try:
            court = BaselineVerifier.of(state, anchor, verified, now)
            found, refused = court.all_of(state.path / FOLDER)
        except (TwinsealError, OSError) as error:
            log.warning("baselines.refused", reason=str(error))
            return Baselines({}, (Refused(EVERY_UNIT, str(error)),) if _any(state) else ())
    for item in refused:
        log.warning("baseline.refused", unit=item.unit, reason=item.reason)
    news = {first.key: Kept.of(first) for first, _ in found.values()}
    if any(court.memory.get(key) != kept for key, kept in news.items()):
        _learn(state, news)
    return Baselines({unit: rows for unit, (_, rows) in found.items()}, tuple(refused))


@dataclass(frozen=True)
class BaselineVerifier:
    """What records are judged by.

    Attributes:
        root: The newest that the twin has.
        contract: Of the model that is to read the first cycles.
        memory: The newest version seen of each unit.
        now: Aware, UTC; never before the twin last heard of its registry.
    """

    root: Anchor
    contract: Contract
    memory: Memory
    now: datetime

    @classmethod
    def of(cls, state: State, anchor: Anchor, verified: VerifiedModel, now: datetime) -> BaselineVerifier:
        """By what the twin at `state` knows; the caller holds its lock.

        Raises:
            RootError: A root that it has seen does not follow from `anchor`.
            EvidenceError: What it remembers is malformed, or of another model.
        """
        seen = state.seen(verified.release.model)
        time = now if seen is None else max(now, seen.time)
        return cls(newest(state, anchor), verified.model.contract, read_memory(state), time)

    @property
    def role(self) -> RoleKeys:
        """The commissioners."""
        return self.root.roles[ROLE]

    def check_signer(self, holder: str, signer: KeySigner) -> None:
        """Refuse whoever may not sign first cycles now.

        Raises:
            SignatureError: `holder` is no commissioner.
            KeyAccessError: The key is another than the root has.
            ExpiredError: The commissioners' keys are pinned no longer.
        """
        key = self.role.key_of(holder)
        if signer.public_key.keyid != key.keyid:
            raise KeyAccessError(f"{holder}: expected the key {key.keyid[:12]}… that the root has, got {signer!r}")
        self.root.check_role(ROLE, self.now)

    def all_of(self, path: Path) -> tuple[dict[str, tuple[BaselineRecord, Rows]], list[Refused]]:
        """The records in the folder at `path` that count, by unit; and those that do not, also those that are gone.

        Raises:
            TrustError, OSError: The folder itself is not to be trusted, or cannot be read.
        """
        if not os.path.lexists(path):
            return {}, [self._gone(kept) for kept in self.memory.values()]
        found: dict[str, tuple[BaselineRecord, Rows]] = {}
        refused = []
        files = sorted(private_folder(path).glob(f"*{SUFFIX}"))
        for file in files:
            key = file.name.removesuffix(SUFFIX)
            try:
                first, rows = self.judge(read_regular(file, MAX_RECORD_BYTES), key, file.name[:24])
            except (TwinsealError, OSError) as error:
                name = self.memory[key].unit if key in self.memory else file.name
                refused.append(Refused(name, str(error)))
            else:
                found[first.unit] = (first, rows)
        here = {file.name.removesuffix(SUFFIX) for file in files}
        return found, refused + [self._gone(kept) for key, kept in self.memory.items() if key not in here]

    def judge(self, data: bytes, key: str, where: str) -> tuple[BaselineRecord, Rows]:
        """The record in an envelope, and what it says of the model's inputs.

        Args:
            data: The envelope, from outside.
            key: What its file is named after: the `unit_key` of the unit that it should be of.
            where: The file, for messages.

        Raises:
            SignatureError, ThresholdError, ExpiredError: 2.
            EvidenceError: 1, 3; or a column is not there (5).
            RollbackError: 4.
            DataError: Rows do not keep the contract (5).
        """
        if len(data) > MAX_RECORD_BYTES:  # 1
            raise EvidenceError(f"{where}: expected at most {MAX_RECORD_BYTES} bytes, got more")
        first = baseline_record.verify(data, self.role, where)  # 2
        self.root.check_role(ROLE, self.now)
        if first.key != key:  # 3
            raise EvidenceError(f"{where}: expected the record of the unit that it is named after, got {first.unit!a}")
        self._check_subject(first)
        self._check_memory(first)  # 4
        return first, readings(first, self.contract)  # 5

    def _check_subject(self, first: BaselineRecord) -> None:
        expected, got = (self.contract.model, self.contract.asset), (first.model, first.asset)
        if expected != got:
            raise EvidenceError(
                f"{first.unit}: expected first cycles for {' of a '.join(expected)}, got some for {' of a '.join(got)}"
            )

    def _check_memory(self, first: BaselineRecord) -> None:
        kept = self.memory.get(first.key)
        version, digest = (kept.version, kept.sha256) if kept else (0, "")
        if first.version < version:
            raise RollbackError(
                f"{first.unit}: expected first cycles of version >= {version}, as seen before, got {first.version}",
                remedy=_REMEDY,
            )
        if first.version == version and sha256(first.to_bytes()) != digest:
            raise RollbackError(f"{first.unit}: expected version {version} as seen before, got another", remedy=_REMEDY)
        if first.version > version + MAX_LEAP:
            raise RollbackError(f"{first.unit}: expected a version soon after {version}, got {first.version}")

    @staticmethod
    def _gone(kept: Kept) -> Refused:
        return Refused(kept.unit, f"{FOLDER}: expected version {kept.version} of its first cycles, got no record")


def readings(first: BaselineRecord, contract: Contract) -> Rows:
    """What a record says of the contract's inputs: (CYCLES, I) float64, raw units.

    Raises:
        EvidenceError: A column is absent, or in another unit of measure.
        DataError: The rows do not keep the contract.
    """
    places = {column: index for index, column in enumerate(first.columns)}
    wanted = columns_of(contract)
    missing = [f"{name} in {unit}" for name, unit in wanted if (name, unit) not in places]
    if missing:
        raise EvidenceError(f"{first.unit}: expected readings of {', '.join(missing)[:200]}, got none")
    rows = np.array(first.rows, dtype=np.float64)[:, [places[column] for column in wanted]]
    found = breaches(rows, contract)
    if found:
        raise DataError(
            f"{first.unit}: expected first cycles that keep the contract, got {len(found)} readings that do not "
            f"({found[0]})",
            findings=found,
        )
    return rows


def columns_of(contract: Contract) -> tuple[tuple[str, str], ...]:
    """The I columns that the model reads, each with its unit of measure."""
    return tuple((name, contract.all_channels[name].unit) for name in contract.inputs)


def read_memory(state: State) -> dict[str, Kept]:
    """What the twin has seen of each unit; nothing before the first was commissioned.

    Raises:
        EvidenceError: It is malformed.
    """
    try:
        return parse_memory(read_regular(state.path / MEMORY, MAX_MEMORY_BYTES))
    except FileNotFoundError:
        return {}


def parse_memory(data: bytes) -> dict[str, Kept]:
    """The memory in the bytes of its file.

    Raises:
        EvidenceError: It is malformed.
    """
    value = parse_json(data, MEMORY, limit=MAX_MEMORY_BYTES)
    try:
        kept = [Kept(**item) for item in value]
    except TypeError as error:
        raise EvidenceError(f"{MEMORY}: expected what was seen of each unit, got {str(value)[:80]}") from error
    found = {unit_key(item.unit): item for item in kept}
    if len(found) != len(kept):
        raise EvidenceError(f"{MEMORY}: expected each unit once, got one twice")
    return found


def write_memory(memory: Memory) -> bytes:
    """Law: `parse_memory(write_memory(memory)) == memory`."""
    return canonical_json([vars(memory[key]) for key in sorted(memory)])


def keep_memory(state: State, memory: Memory) -> None:
    """Remember, whole or not at all; the caller holds the lock.

    Raises:
        OSError: It cannot be written; what was remembered stands.
    """
    write_whole(state.path / MEMORY, write_memory(memory), mode=0o600)
    sync_folder(state.path)


def private_folder(path: Path, *, make: bool = False) -> Path:
    """`path`, once it is a folder of this user's that nobody else may write to.

    Raises:
        TrustError: It is not.
        OSError: There is none.
    """
    if make:
        path.mkdir(mode=0o700, exist_ok=True)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_mode & 0o022 or found.st_uid not in (os.geteuid(), 0):
        raise TrustError(
            f"{path}: expected a folder of this user's that nobody else may write to, got "
            f"{stat.filemode(found.st_mode)} of user {found.st_uid}",
            remedy=f"Find out who changed what is in it; then chmod 700 {path}",
        )
    return path


def _any(state: State) -> bool:
    return any(os.path.lexists(state.path / name) for name in (FOLDER, MEMORY))


def _learn(state: State, news: Memory) -> None:
    """Remember records that were carried here. Who may not write cannot remember, and can use them all the same."""
    try:
        with state.locked():
            memory = read_memory(state)
            for key, kept in news.items():
                if key not in memory or memory[key].version < kept.version:
                    memory[key] = kept
            keep_memory(state, memory)
    except OSError as error:
        log.warning("baseline.not_remembered", reason=str(error))
