"""The baseline record: the readings of a unit's first cycles, signed by commissioners; to bytes and from bytes.

When a machine is commissioned it is healthy, and people stand beside it. Its readings are signed then, so that a model
can compare with them later: whoever controls the telemetry of later days cannot change them. A baseline record is an
in-toto Statement in a DSSE envelope. It binds everything by which two records could be confused: the unit, the kind of
asset, the model, each column with its unit of measure, the rows themselves, and a version that only grows.

The rows are signed, not their means: each model normalises them in its own way, and its next release may do it in
another.

This module does not know which values a machine can have: `twinseal.twin.commissioning` compares with the contract.

The signed format keeps its first name: the predicate type `https://twinseal.dev/first-cycles/v1` and the subject
`first-cycles` are under signatures that exist, so they do not follow the names in the code.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from twinseal.digests import canonical_json, sha256
from twinseal.errors import EvidenceError
from twinseal.evidence import BASELINE_RECORD, Statement, Subject
from twinseal.trust.keys.key import ListSigner
from twinseal.trust.release.release import MAX_VERSION
from twinseal.trust.root.pins import RoleKeys
from twinseal.trust.signing.dsse import sign_envelope, verify_envelope

CYCLES = 20
MAX_RECORD_BYTES = 1 << 20  # 20 rows of 512 channels take a third of it
MAX_UNIT = 200  # characters; the runtime looks at no more
_MAX_COLUMNS = 1024
_SUBJECT = "first-cycles"  # signed format: not renamed, see above
_FIELDS = frozenset(("unit", "asset", "model", "version", "columns", "rows", "time"))
_TIME = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True)
class BaselineRecord:
    """The signed first cycles of one unit.

    Law: `BaselineRecord.from_bytes(record.to_bytes()) == record`.

    Attributes:
        unit: Its name, as telemetry has it.
        asset: What kind of machine it is, as the contract names it.
        model: Name of the model that the rows are for.
        version: From 1; of two records of one unit the one with the greater version counts.
        columns: I names, each with its unit of measure, as the contract has them.
        rows: CYCLES rows of I finite readings, cycle 1 first, each in its column's unit.
        time: When they were signed, by the clock of whoever did; aware, UTC, whole seconds. For people.

    Raises:
        EvidenceError: A part does not fit this description.
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
                f"baseline record: expected an asset and a model, got {self.asset!r:.60}, {self.model!r:.60}"
            )
        if type(self.version) is not int or not 1 <= self.version <= MAX_VERSION:
            raise EvidenceError(
                f"baseline record: expected a version from 1 to {MAX_VERSION}, got {self.version!r:.40}"
            )
        names = [name for name, _ in self.columns]
        if not 1 <= len(names) <= _MAX_COLUMNS or len(set(names)) != len(names):
            raise EvidenceError(f"baseline record: expected columns of one name each, got {str(names)[:80]}")
        if len(self.rows) != CYCLES or any(len(row) != len(names) for row in self.rows):
            raise EvidenceError(
                f"baseline record: expected {CYCLES} rows of {len(names)} readings, got {len(self.rows)} of "
                f"{sorted({len(row) for row in self.rows})}"
            )
        if not all(type(value) is float and math.isfinite(value) for row in self.rows for value in row):
            raise EvidenceError("baseline record: expected finite readings, got something else")
        if self.time.tzinfo != UTC or self.time.microsecond:
            raise EvidenceError(f"baseline record: expected a time in UTC and whole seconds, got {self.time!r}")

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
            "time": write_time(self.time),
        }
        return Statement((_subject(predicate["rows"]),), BASELINE_RECORD, predicate).to_bytes()

    @classmethod
    def from_bytes(cls, data: bytes, where: str = "baseline record") -> BaselineRecord:
        """The record that `data` is the statement of.

        Raises:
            EvidenceError: It is no such statement, or not in canonical form.
        """
        statement = Statement.from_bytes(data, where)
        predicate = statement.predicate
        if statement.predicate_type != BASELINE_RECORD:
            raise EvidenceError(f"{where}: expected {BASELINE_RECORD}, got {statement.predicate_type}")
        if set(predicate) != _FIELDS:
            raise EvidenceError(f"{where}: expected exactly {', '.join(sorted(_FIELDS))}, got {str(predicate)[:80]}")
        columns, rows = _table(predicate["columns"], where), _table(predicate["rows"], where)
        if not all(len(column) == 2 and all(isinstance(text, str) for text in column) for column in columns):
            raise EvidenceError(f"{where}: expected columns of name and unit, got {str(columns)[:80]}")
        record = cls(**{**predicate, "columns": columns, "rows": rows, "time": read_time(predicate["time"], where)})
        if record.to_bytes() != data:  # also: the subject is the digest of the rows
            raise EvidenceError(f"{where}: expected a baseline record in its canonical form, got another")
        return record


def check_unit(unit: object) -> str:
    """The name of a unit, if it can be printed and told apart from others.

    Raises:
        EvidenceError: Not text, empty, longer than MAX_UNIT, with blanks around it, or not printable.
    """
    if not isinstance(unit, str) or not 0 < len(unit) <= MAX_UNIT or unit != unit.strip() or not unit.isprintable():
        raise EvidenceError(f"unit: expected a name of 1 to {MAX_UNIT} printable characters, got {unit!a:.80}")
    return unit


def unit_key(unit: str) -> str:
    """A file name for a unit: the SHA-256 of its name. It cannot hide a path, a case or a look-alike letter."""
    return sha256(check_unit(unit).encode())


def sign(record: BaselineRecord, signer: ListSigner) -> bytes:
    """The envelope of `record` with one signature."""
    return sign_envelope(record.to_bytes(), signer)


def verify(data: bytes, role: RoleKeys, where: str = "baseline record") -> BaselineRecord:
    """The record in an envelope, once enough commissioners, and nobody else, have signed it.

    Raises:
        SignatureError, ThresholdError: As `dsse.verify_envelope`.
        EvidenceError: What they have signed is no baseline record.
    """
    return BaselineRecord.from_bytes(verify_envelope(data, role, where), where)


def _subject(rows: Any) -> Subject:
    return Subject(_SUBJECT, sha256(canonical_json(rows)))


def _table(value: Any, where: str) -> tuple[tuple[Any, ...], ...]:
    if not isinstance(value, list) or not all(isinstance(item, list) for item in value):
        raise EvidenceError(f"{where}: expected a list of lists, got {str(value)[:80]}")
    return tuple(map(tuple, value))


def write_time(time: datetime) -> str:
    """A time in UTC and whole seconds, as signed records have it."""
    return f"{time.year:04d}{time.strftime('-%m-%dT%H:%M:%SZ')}"


def read_time(text: object, where: str) -> datetime:
    """The time that `write_time` wrote.

    Raises:
        EvidenceError: It is none.
    """
    try:
        if not isinstance(text, str):
            raise TypeError("not text")
        return datetime.strptime(text, _TIME).replace(tzinfo=UTC)
    except (TypeError, ValueError) as error:
        raise EvidenceError(f"{where}: expected a time as 2026-03-01T12:00:00Z, got {str(text)[:60]!r}") from error
