"""First cycles: what a unit's sensors said in its first cycles, as commissioners have signed it. Bytes, and back.

When a machine is commissioned it is healthy, and people stand beside it. What it says then is signed, so that a model
may later compare with it: whoever controls today's telemetry cannot move it. A record is an in-toto Statement (twinseal
first cycles v1) in a DSSE envelope, and binds all that it could be mistaken for: the unit, the kind of asset, the
model, each column with its unit of measure, the rows themselves, and a version that only grows.

The rows are signed and not their means: what a model makes of them (which it normalises, by regimes or not) is its own,
and another release of it may make something else.

Nothing here is about what a machine can show: the contract is the twin's to ask (`twinseal.twin.commissioning`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from twinseal.digests import canonical_json, sha256
from twinseal.errors import EvidenceError
from twinseal.evidence import BASELINE_RECORD, Statement, Subject
from twinseal.trust.dsse import sign_envelope, verify_envelope
from twinseal.trust.keys.key import KeySigner
from twinseal.trust.release.release import MAX_VERSION
from twinseal.trust.root.pins import RoleKeys

CYCLES = 20
MAX_RECORD_BYTES = 1 << 20  # 20 rows of 512 channels take a third of it
MAX_UNIT = 200  # characters; the runtime looks at no more
_MAX_COLUMNS = 1024
_SUBJECT = "first-cycles"
_FIELDS = frozenset(("unit", "asset", "model", "version", "columns", "rows", "time"))
_TIME = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True)
class BaselineRecord:
    """The first cycles of one unit.

    Law: `BaselineRecord.from_bytes(first.to_bytes()) == first`.

    Attributes:
        unit: Its name, as telemetry has it.
        asset: What kind of machine it is, as the contract names it.
        model: Name of the model that they are for.
        version: From 1; of two records of one unit the greater counts.
        columns: I names, each with its unit of measure, as the contract has them.
        rows: CYCLES rows of I finite readings, cycle 1 first, each in its column's unit.
        time: When they were signed, by the clock of whoever did; aware, UTC, whole seconds. For people.

    Raises:
        EvidenceError: Some of it is none of that.
    """

    unit: str
    asset: str
    model: str
    version: int
    columns: tuple[tuple[str, str], ...]
    rows: tuple[tuple[float, ...], ...]
    time: datetime

    def __post_init__(self) -> None:
        check_unit(self.unit)
        if not all(isinstance(name, str) and 0 < len(name) <= MAX_UNIT for name in (self.asset, self.model)):
            raise EvidenceError(
                f"first cycles: expected an asset and a model, got {self.asset!r:.60}, {self.model!r:.60}"
            )
        if type(self.version) is not int or not 1 <= self.version <= MAX_VERSION:
            raise EvidenceError(f"first cycles: expected a version from 1 to {MAX_VERSION}, got {self.version!r:.40}")
        names = [name for name, _ in self.columns]
        if not 1 <= len(names) <= _MAX_COLUMNS or len(set(names)) != len(names):
            raise EvidenceError(f"first cycles: expected columns of one name each, got {str(names)[:80]}")
        if len(self.rows) != CYCLES or any(len(row) != len(names) for row in self.rows):
            raise EvidenceError(
                f"first cycles: expected {CYCLES} rows of {len(names)} readings, got {len(self.rows)} of "
                f"{sorted({len(row) for row in self.rows})}"
            )
        if not all(type(value) is float and math.isfinite(value) for row in self.rows for value in row):
            raise EvidenceError("first cycles: expected finite readings, got something else")
        if self.time.tzinfo != UTC or self.time.microsecond:
            raise EvidenceError(f"first cycles: expected a time in UTC and whole seconds, got {self.time!r}")

    @property
    def key(self) -> str:
        """The unit's name as a file may be called; see `unit_key`."""
        return unit_key(self.unit)

    def to_bytes(self) -> bytes:
        """The canonical bytes of the statement: what is signed."""
        predicate = {
            "unit": self.unit,
            "asset": self.asset,
            "model": self.model,
            "version": self.version,
            "columns": [list(column) for column in self.columns],
            "rows": [list(row) for row in self.rows],
            "time": _write_time(self.time),
        }
        return Statement((_subject(predicate["rows"]),), BASELINE_RECORD, predicate).to_bytes()

    @classmethod
    def from_bytes(cls, data: bytes, where: str = "first cycles") -> BaselineRecord:
        """The record whose statement `data` is.

        Raises:
            EvidenceError: It is no such statement, or another spelling of one.
        """
        statement = Statement.from_bytes(data, where)
        said = statement.predicate
        if statement.predicate_type != BASELINE_RECORD:
            raise EvidenceError(f"{where}: expected {BASELINE_RECORD}, got {statement.predicate_type}")
        if set(said) != _FIELDS:
            raise EvidenceError(f"{where}: expected exactly {', '.join(sorted(_FIELDS))}, got {str(said)[:80]}")
        columns, rows = _table(said["columns"], where), _table(said["rows"], where)
        if not all(len(column) == 2 and all(isinstance(text, str) for text in column) for column in columns):
            raise EvidenceError(f"{where}: expected columns of name and unit, got {str(columns)[:80]}")
        made = cls(**{**said, "columns": columns, "rows": rows, "time": _read_time(said["time"], where)})
        if made.to_bytes() != data:  # also: the subject is the digest of the rows
            raise EvidenceError(f"{where}: expected a record of first cycles in its one spelling, got another")
        return made


def check_unit(unit: object) -> str:
    """The name of a unit, if a person can read it and tell it from others.

    Raises:
        EvidenceError: No text, empty, longer than MAX_UNIT, with blanks around it or something that does not print.
    """
    if not isinstance(unit, str) or not 0 < len(unit) <= MAX_UNIT or unit != unit.strip() or not unit.isprintable():
        raise EvidenceError(f"unit: expected a name of 1 to {MAX_UNIT} printable characters, got {unit!a:.80}")
    return unit


def unit_key(unit: str) -> str:
    """One file name for each name of a unit: its SHA-256. No path, no case, no look-alike can be hidden in it."""
    return sha256(check_unit(unit).encode())


def sign(first: BaselineRecord, signer: KeySigner) -> bytes:
    """The envelope of `first` under one signature."""
    return sign_envelope(first.to_bytes(), signer)


def verify(data: bytes, role: RoleKeys, where: str = "first cycles") -> BaselineRecord:
    """The record in an envelope, once enough commissioners, and nobody else, have signed it.

    Raises:
        SignatureError, ThresholdError: As `dsse.verify_envelope`.
        EvidenceError: What they have signed is no record of first cycles.
    """
    return BaselineRecord.from_bytes(verify_envelope(data, role, where), where)


def _subject(rows: Any) -> Subject:
    return Subject(_SUBJECT, sha256(canonical_json(rows)))


def _table(value: Any, where: str) -> tuple[tuple[Any, ...], ...]:
    if not isinstance(value, list) or not all(isinstance(item, list) for item in value):
        raise EvidenceError(f"{where}: expected a list of lists, got {str(value)[:80]}")
    return tuple(map(tuple, value))


def _write_time(time: datetime) -> str:
    return f"{time.year:04d}{time.strftime('-%m-%dT%H:%M:%SZ')}"


def _read_time(text: object, where: str) -> datetime:
    try:
        if not isinstance(text, str):
            raise TypeError("not text")
        return datetime.strptime(text, _TIME).replace(tzinfo=UTC)
    except (TypeError, ValueError) as error:
        raise EvidenceError(f"{where}: expected a time as 2026-03-01T12:00:00Z, got {str(text)[:60]!r}") from error
