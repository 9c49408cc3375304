"""One reviewer's decision, as the file `approvals/<holder>.json`.

It has two signatures. The reviewer's statement (predicate REVIEW) says who decided what, when and why, so the words
beside a name are really that person's. An approval also has the reviewer's signature over the model's TUF role, which
is what twins count.

A role signature is valid for ever, but a decision is not: a reviewer may take it back. So the decisions of one reviewer
about one version of a model form a sequence. Each statement has its number, from 1, and the digest of the statement
before it. Only the newest counts (`approval.py`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, get_args

from twinseal.digests import canonical_json, is_sha256, parse_json, sha256
from twinseal.errors import EvidenceError
from twinseal.evidence import REVIEW, Statement, Subject
from twinseal.reading import read_regular
from twinseal.trust.keys.key import NamedSigner
from twinseal.trust.release.model_role import sign_role
from twinseal.trust.release.release import target_path
from twinseal.trust.release.request import Request
from twinseal.trust.root.anchor import Anchor
from twinseal.trust.root.metadata import parse_signature
from twinseal.trust.root.pins import RoleKeys
from twinseal.trust.signing.dsse import sign_envelope, verify_envelope

MAX_APPROVAL_BYTES = 256 << 10
MAX_COMMENT = 4000
MAX_SEQUENCE = 1_000_000
Decision = Literal["approve", "reject"]
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\Z", re.ASCII)


@dataclass(frozen=True)
class Said:
    """What a reviewer's statement says: its predicate.

    Attributes:
        holder: The reviewer.
        decision: approve or reject.
        comment: The reviewer's own words.
        time: When, by the reviewer's clock, RFC 3339.
        model: Name of the model.
        version: Of the release.
        role_sha256: Digest of the role that was decided on.
        sequence: The number of this decision among the reviewer's about this version of the model, from 1.
        previous: Digest of the statement before it; "" for the first.

    Raises:
        EvidenceError: A part does not fit this description.
    """

    holder: str
    decision: Decision
    comment: str
    time: str
    model: str
    version: int
    role_sha256: str
    sequence: int
    previous: str

    def __post_init__(self) -> None:
        where = f"review by {str(self.holder)[:40]}"
        if not all(isinstance(item, str) for item in (self.holder, self.model, self.comment, self.time)):
            raise EvidenceError(f"{where}: expected a comment and a time in words, got something else")
        if len(self.comment) > MAX_COMMENT or not _TIME.match(self.time):
            raise EvidenceError(f"{where}: expected at most {MAX_COMMENT} characters and a time in UTC, got more")
        if self.decision not in get_args(Decision):
            raise EvidenceError(f"{where}: expected approve or reject, got {str(self.decision)[:40]!r}")
        if type(self.version) is not int or not is_sha256(self.role_sha256):
            raise EvidenceError(f"{where}: expected the version of a release and a role's SHA-256, got something else")
        if type(self.sequence) is not int or not 1 <= self.sequence <= MAX_SEQUENCE:
            raise EvidenceError(f"{where}: expected a number from 1 to {MAX_SEQUENCE}, got {str(self.sequence)[:40]}")
        if self.previous != "" and not is_sha256(self.previous):
            raise EvidenceError(f"{where}: expected the digest of the decision before, got {str(self.previous)[:40]!r}")
        if (self.sequence == 1) != (self.previous == ""):
            raise EvidenceError(f"{where}: expected the first decision to name none before it, got {self.sequence}")

    def to_dict(self) -> dict[str, Any]:
        """The predicate as JSON values."""
        return {name: getattr(self, name) for name in SAID}


SAID = tuple(item.name for item in fields(Said))
_FIELDS = frozenset((*SAID, "release_sha256", "review", "signature"))


@dataclass(frozen=True)
class SignedReview:
    """A decision whose statement its reviewer has signed.

    Attributes:
        said: The statement's predicate.
        release_sha256: Digest of the release that it is about.
        digest: SHA-256 of the signed statement.
        signature: The role signature that came with it, not checked yet; None for a rejection.
    """

    said: Said
    release_sha256: str
    digest: str
    signature: dict[str, str] | None


def sign_review(request: Request, reviewer: NamedSigner, said: Said) -> tuple[dict[str, Any], str]:
    """The content of the file for a decision, signed by `reviewer`, and the digest of its statement."""
    release = request.release
    statement = Statement((Subject(release.target, release.sha256),), REVIEW, said.to_dict()).to_bytes()
    value = {
        **said.to_dict(),
        "release_sha256": release.sha256,
        "review": parse_json(sign_envelope(statement, reviewer.signer), "review"),
        "signature": sign_role(request.role_bytes, reviewer.signer) if said.decision == "approve" else None,
    }
    return value, sha256(statement)


def read_review(path: Path, anchor: Anchor) -> SignedReview:
    """The decision in the file at `path`, authenticated: signed by the reviewer whose name the file has.

    Raises:
        EvidenceError: It is absent or malformed, or says something else than what was signed.
        SignatureError, ThresholdError: It is not signed by that reviewer.
    """
    value, holder = _parse(path), path.stem
    reviewers = anchor.roles["reviewer"]
    single = RoleKeys(f"reviewer {holder}", 1, tuple(item for item in reviewers.holders if item.name == holder))
    payload = verify_envelope(canonical_json(value["review"]), single, f"review by {holder}")
    statement = Statement.from_bytes(payload, f"review by {holder}")
    predicate = statement.predicate
    if statement.predicate_type != REVIEW or set(predicate) != set(SAID):
        raise EvidenceError(f"review by {holder}: expected a {REVIEW}, got {statement.predicate_type}")
    said = Said(**predicate)
    subject = Subject(target_path(said.model), value["release_sha256"])
    if predicate != {name: value[name] for name in SAID} or said.holder != holder or statement.subjects != (subject,):
        raise EvidenceError(f"review by {holder}: expected the file to say what was signed, got something else")
    if (said.decision == "approve") != (value["signature"] is not None):
        raise EvidenceError(f"review by {holder}: expected approve with a signature, or reject without one")
    return SignedReview(said, subject.sha256, sha256(payload), value["signature"])


def said_at(time: datetime) -> str:
    """A time as a statement has it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


def _parse(path: Path) -> dict[str, Any]:
    try:
        data = read_regular(path, MAX_APPROVAL_BYTES)
    except OSError as error:
        raise EvidenceError(f"{path.name}: expected a review, got none ({error.strerror})") from error
    value = parse_json(data, path.name, limit=MAX_APPROVAL_BYTES)
    if not isinstance(value, dict) or set(value) != _FIELDS:
        raise EvidenceError(f"{path.name}: expected exactly {', '.join(sorted(_FIELDS))}, got {str(value)[:80]}")
    if value["signature"] is not None:
        parse_signature(value["signature"], path.name)
    return value
