"""An entry: one decision. Its bytes are canonical JSON, so what is hashed and what is read cannot differ.

No secret belongs here. Text from outside is cut to 500 characters; user and password are taken out of addresses.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal, get_args

from twinseal.digests import canonical_json, is_sha256, parse_json
from twinseal.errors import AuditError, EvidenceError
from twinseal.trust.release.release import MAX_VERSION, Release

SCHEMA = "https://twinseal.dev/audit/v1"
MAX_ENTRY_BYTES = 16 << 10
MAX_TEXT, MAX_NAME, MAX_DETAILS = 500, 100, 12

Event = Literal[
    "anchored",
    "submitted",
    "approved",
    "rejected",
    "withdrawn",
    "commented",
    "received",
    "registered",
    "renewed",
    "admitted",
    "commissioned",
    "enrolled",
    "lives",
    "corrected",
    "refused",
    "rotated",
    "revoked",
    "policy",
    "remembered",
    "held",
    "replaced",
]
EVENTS = get_args(Event)
_FIELDS = frozenset(("schema", "time", "event", "actor", "model", "version", "sha256", "details"))
_DETAIL = re.compile(r"[a-z][a-z0-9_]{0,39}\Z")
_USERINFO = re.compile(r"://[^/@\s]*@")
_TIME = "%Y-%m-%dT%H:%M:%SZ"  # RFC 3339, UTC, whole seconds: the order of entries is their index, not their time


@dataclass(frozen=True)
class Entry:
    """One decision, as the log keeps it.

    Law: `Entry.from_bytes(entry.to_bytes()) == entry`.

    Attributes:
        time: When, by the clock of the machine that decided; aware; kept in UTC and whole seconds.
        event: What was decided.
        actor: Who: a holder of policy/roles.yaml, or "twin".
        model: The model; "" when the decision is about none, as for a rotated key.
        version: Of the release; 0 when there is none, or it is not known.
        sha256: Digest of its release.json; "" when there is none, or it is not known.
        details: More, by name; texts of at most 500 characters.

    Raises:
        AuditError: A part does not fit this description.
    """

    time: datetime
    event: Event
    actor: str
    model: str = ""
    version: int = 0
    sha256: str = ""
    details: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.time, datetime) or self.time.tzinfo is None:
            raise AuditError(f"audit entry: expected a time with its zone, got {self.time!r:.60}")
        object.__setattr__(self, "time", self.time.astimezone(UTC).replace(microsecond=0))
        if self.event not in EVENTS:
            raise AuditError(f"audit entry: expected one of {', '.join(EVENTS)}, got {self.event!r:.60}")
        if not _is_text(self.actor, MAX_NAME) or not self.actor or not _is_text(self.model, MAX_NAME):
            raise AuditError(f"audit entry: expected names of an actor and a model, got {self.actor!r:.60}")
        if type(self.version) is not int or not 0 <= self.version <= MAX_VERSION:
            raise AuditError(f"audit entry: expected a version from 0 to {MAX_VERSION}, got {self.version!r:.60}")
        if self.sha256 != "" and not is_sha256(self.sha256):
            raise AuditError(f"audit entry: expected a SHA-256 or none, got {self.sha256!r:.60}")
        _check_details(self.details)

    @classmethod
    def for_release(cls, release: Release, event: Event, actor: str, now: datetime, **details: object) -> Entry:
        """The entry of a decision about `release`; actor and details are shortened where they are too long."""
        return cls(
            now,
            event,
            truncate(actor, MAX_NAME),
            release.model,
            release.version,
            release.sha256,
            _truncate_details(details),
        )

    def as_refusal(self, error: Exception) -> Entry:
        """The entry for a refusal of this decision, with the error's kind and message."""
        refusal = {"attempted": self.event, "error": type(error).__name__, "message": error}
        return replace(self, event="refused", details=_truncate_details({**refusal, **dict(self.details), **refusal}))

    def to_bytes(self) -> bytes:
        """Canonical JSON.

        Raises:
            AuditError: It is longer than an entry may be.
        """
        value = {name: getattr(self, name) for name in _FIELDS - {"schema", "time", "details"}}
        stamp = {"schema": SCHEMA, "time": _write_time(self.time), "details": dict(self.details)}
        data = canonical_json(value | stamp)
        if len(data) > MAX_ENTRY_BYTES:
            raise AuditError(f"audit entry: expected at most {MAX_ENTRY_BYTES} bytes, got {len(data)}")
        return data

    @classmethod
    def from_bytes(cls, data: bytes, where: str = "audit entry") -> Entry:
        """The entry that `data` stands for.

        Raises:
            AuditError: It is no entry, has a field that is unknown or missing, or is not canonical.
        """
        try:
            value: Any = parse_json(data, where, limit=MAX_ENTRY_BYTES)
        except EvidenceError as error:
            raise AuditError(str(error)) from error
        if not isinstance(value, dict) or set(value) != _FIELDS or value["schema"] != SCHEMA:
            raise AuditError(f"{where}: expected exactly {', '.join(sorted(_FIELDS))}, got {str(value)[:80]}")
        fields = {name: value[name] for name in _FIELDS - {"schema", "time"}}
        entry = cls(time=_read_time(value["time"], where), **fields)
        if entry.to_bytes() != data:
            raise AuditError(f"{where}: expected canonical JSON, got another form of it")
        return entry


def truncate(text: object, most: int = MAX_TEXT) -> str:
    """`text` for an entry: Unicode, at most `most` characters, without the password of an address."""
    clean = _USERINFO.sub("://", str(text)).encode("utf-8", "replace").decode("utf-8")
    return clean if len(clean) <= most else clean[: most - 1] + "…"


def _truncate_details(details: Mapping[str, object]) -> dict[str, str]:
    return {name: truncate(text) for name, text in list(details.items())[:MAX_DETAILS]}


def _check_details(details: object) -> None:
    if not isinstance(details, Mapping) or len(details) > MAX_DETAILS:
        raise AuditError(f"audit entry: expected at most {MAX_DETAILS} details, got {str(details)[:60]}")
    for name, text in details.items():
        if not isinstance(name, str) or not _DETAIL.match(name) or not _is_text(text, MAX_TEXT):
            raise AuditError(f"audit entry: expected details in words, got {name!r:.60}: {text!r:.60}")


def _is_text(value: object, most: int) -> bool:
    """Whether it is text that has a UTF-8 form; a lone surrogate has none."""
    if not isinstance(value, str) or len(value) > most:
        return False
    return not any("\ud800" <= character <= "\udfff" for character in value)


def _write_time(time: datetime) -> str:
    return f"{time.year:04d}{time.strftime('-%m-%dT%H:%M:%SZ')}"


def _read_time(text: object, where: str) -> datetime:
    try:
        if not isinstance(text, str) or len(text) != len("2026-03-01T12:00:00Z"):
            raise ValueError("not of that form")
        return datetime.strptime(text, _TIME).replace(tzinfo=UTC)
    except ValueError as error:
        raise AuditError(f"{where}: expected a time as 2026-03-01T12:00:00Z, got {str(text)[:60]!r}") from error
