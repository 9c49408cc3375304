"""Signed records: what commissioners say of one twin, in one file, k of n signatures, the newest version alone.

A kind of record (`RecordKind`) says what is special about it; `devices` and `lives` are two. Of each there is

    <name>.dsse.json            the record, an in-toto Statement in a DSSE envelope
    <name>.proposed.dsse.json   one that not enough commissioners have signed yet; never used

A record counts when all of this holds, numbered as in the body of `record_that_counts` and `read_record`:

1. it is a regular file, of bounded length, in the twin's own folder
2. enough commissioners of the newest root that the twin has have signed it
3. it is for this model
4. it is not older than what the twin's log knows, nor another under the same version

If it does not, an error says why, and nothing takes its place. Whether the commissioners' keys are pinned still is not
asked here, only when they sign (`record_enroller`): a twin that cannot reach its registry goes on, and says that its
trust has ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from twinseal.digests import is_sha256, sha256
from twinseal.errors import AuditError, EvidenceError, RollbackError, TwinsealError
from twinseal.reading import read_regular
from twinseal.trust.audit import Entry, log_of
from twinseal.trust.audit.entry import Event
from twinseal.trust.root.anchor import Anchor
from twinseal.trust.root.pins import RoleKeys
from twinseal.trust.signing.dsse import verify_envelope
from twinseal.twin.commissioners import MAX_LEAP, ROLE, commissioners_root
from twinseal.twin.journal import ACTOR
from twinseal.twin.state import State


class SignedRecord(Protocol):
    """What every kind of record has."""

    @property
    def model(self) -> str:
        """Name of the model that the twin runs."""
        ...

    @property
    def version(self) -> int:
        """From 1; the record with the greater version counts."""
        ...

    @property
    def time(self) -> datetime:
        """When it was signed: for people."""
        ...

    def to_bytes(self) -> bytes:
        """The canonical bytes of the statement: what is signed."""
        ...


R = TypeVar("R", bound=SignedRecord)


@dataclass(frozen=True)
class RecordKind(Generic[R]):
    """What is special about one kind of record.

    Attributes:
        name: What it is of, in messages, and in the names of its files: `devices`.
        command: What makes one, for people: `twinseal device`.
        remedy: What to do about one that does not count.
        event: What an entry of the log calls a record that was signed; of no other kind.
        limit: The most bytes of a file.
        read: The record in a statement's bytes; the second argument says where they are, for messages.
        empty: A record that says nothing yet: of a model, a version, and a time.
        dated: The record under another version and time.
        check_follows: Refuses a record (the second) that cannot follow another (the first).
        counted: What an entry of the log says of a record beside its version and digest.
    """

    name: str
    command: str
    remedy: str
    event: Event
    limit: int
    read: Callable[[bytes, str], R]
    empty: Callable[[str, int, datetime], R]
    dated: Callable[[R, int, datetime], R]
    check_follows: Callable[[R, R], None]
    counted: Callable[[R], Mapping[str, str]]

    @property
    def file(self) -> str:
        """Name of its file in the twin's state."""
        return f"{self.name}.dsse.json"

    @property
    def proposal(self) -> str:
        """Name of the file of one that is not signed by enough."""
        return f"{self.name}.proposed.dsse.json"

    def verify(self, data: bytes, role: RoleKeys, where: str) -> R:
        """The record in an envelope, once enough of `role`, and nobody else, have signed it.

        Raises:
            SignatureError, ThresholdError: As `dsse.verify_envelope`.
            EvidenceError: What they have signed is no such record.
        """
        return self.read(verify_envelope(data, role, where), where)

    def entry(self, record: R, actor: str, now: datetime, **details: str) -> Entry:
        """The entry of the log that remembers `record`."""
        said = {"number": str(record.version), "record": sha256(record.to_bytes())}
        return Entry(now, self.event, actor, record.model, details={**self.counted(record), **said, **details})

    def seen(self, state: State) -> SeenVersion:
        """What the twin's log says of such records.

        Raises:
            AuditError: It is not the log that its key signed.
        """
        found = SeenVersion()
        for version, digest in self._logged(state):
            if version > found.version:
                found = SeenVersion(version, digest)
        return found

    def _logged(self, state: State) -> Iterator[tuple[int, str]]:
        audit, mark = log_of(state.path), f'"event":"{self.event}"'.encode()
        if not audit.has_begun():
            return
        for _, entry in audit.read(wanted=lambda data: mark in data):
            version, digest = entry.details.get("number", ""), entry.details.get("record", "")
            if entry.event == self.event and version.isascii() and version.isdigit() and is_sha256(digest):
                yield int(version), digest


@dataclass(frozen=True)
class SeenVersion:
    """The newest record of a kind that the twin has seen.

    Attributes:
        version: 0: none yet.
        sha256: Of what is signed in it.
    """

    version: int = 0
    sha256: str = ""

    def check(self, record: SignedRecord, where: str, remedy: str) -> None:
        """Refuse a record that is older, another of the same version, or far ahead.

        Raises:
            RollbackError: It is.
        """
        if record.version < self.version:
            raise RollbackError(
                f"{where}: expected version >= {self.version}, as seen before, got {record.version}", remedy=remedy
            )
        if record.version == self.version and sha256(record.to_bytes()) != self.sha256:
            raise RollbackError(f"{where}: expected version {self.version} as seen before, got another", remedy=remedy)
        if record.version > self.version + MAX_LEAP:
            raise RollbackError(f"{where}: expected a version soon after {self.version}, got {record.version}")


def current_record(kind: RecordKind[R], state_dir: Path, anchor: Anchor, model: str, now: datetime) -> R | None:
    """The record that counts; None where none was ever signed.

    Side effects: an entry in the twin's log, if the record was copied here and is new to it.

    Raises:
        SignatureError, ThresholdError: 2.
        EvidenceError: 1 or 3; or there is none, and the log knows one.
        RollbackError: 4.
        RootError, AuditError: As `commissioners.commissioners_root`.
    """
    state = State(state_dir)
    with state.read_lock():
        root, now = commissioners_root(state, anchor, model, now)
        seen = kind.seen(state)
        record = record_that_counts(kind, state, root.roles[ROLE], model, seen)
    if record is not None and record.version > seen.version:
        with suppress(AuditError, OSError), state.write_lock():  # without write access it is used, and not remembered
            log_of(state.path).append(kind.entry(record, ACTOR, now, seen="was copied here"))
    return record


class CurrentRecord(Generic[R]):
    """The record that counts, while a twin runs: read again when its file was changed.

    Args:
        kind: Which kind.
        state_dir, anchor, model: As `current_record`.
    """

    def __init__(self, kind: RecordKind[R], state_dir: Path, anchor: Anchor, model: str) -> None:
        self._kind, self._state_dir, self._anchor, self._model = kind, state_dir, anchor, model
        self._file: tuple[int, ...] | None = None
        self._record: R | None = None

    def record(self, now: datetime) -> R | None:
        """As `current_record`; raises what it raises.

        Raises:
            EvidenceError: It does not follow from the one before it.
        """
        file = self._stat()
        if self._file is None or file != self._file:
            found = current_record(self._kind, self._state_dir, self._anchor, self._model, now)
            if found is not None and self._record is not None:
                self._kind.check_follows(self._record, found)
            self._record, self._file = found, file
        return self._record

    def _stat(self) -> tuple[int, ...]:
        try:
            found = (self._state_dir / self._kind.file).lstat()
        except OSError:
            return ()
        return (found.st_ino, found.st_mtime_ns, found.st_size)


def record_that_counts(kind: RecordKind[R], state: State, role: RoleKeys, model: str, seen: SeenVersion) -> R | None:
    """The record in the state, not older than `seen`; None if there is none and none was seen.

    A process that was killed between its log and the file leaves the record beside the old one, as a proposal with all
    signatures: what the log knows counts.

    Raises:
        As `current_record`.
    """
    record = read_record(kind, state, role, model, kind.file)
    if record is None or record.version < seen.version:
        with suppress(TwinsealError):
            logged = read_record(kind, state, role, model, kind.proposal)
            if logged is not None and sha256(logged.to_bytes()) == seen.sha256:
                return logged
    if record is not None:
        seen.check(record, kind.file, kind.remedy)  # 4
    elif seen.version:
        raise EvidenceError(
            f"{kind.file}: expected version {seen.version}, as seen before, got none", remedy=kind.remedy
        )
    return record


def read_record(kind: RecordKind[R], state: State, role: RoleKeys, model: str, name: str) -> R | None:
    """The record in a file of the state, signed by enough of `role`; None if there is no file.

    Raises:
        SignatureError, ThresholdError, EvidenceError: As `current_record`.
    """
    try:
        data = read_regular(state.path / name, kind.limit)  # 1
    except FileNotFoundError:
        return None
    except OSError as error:
        raise EvidenceError(
            f"{name}: expected a regular file, got none ({error.strerror})", remedy=kind.remedy
        ) from error
    if len(data) > kind.limit:
        raise EvidenceError(f"{name}: expected at most {kind.limit} bytes, got more", remedy=kind.remedy)
    record = kind.verify(data, role, name)  # 2
    if record.model != model:  # 3
        raise EvidenceError(
            f"{name}: expected the {kind.name} of {model}, got those of {record.model}", remedy=kind.remedy
        )
    return record
