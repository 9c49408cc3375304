"""One reviewer's decision, as the file `approvals/<holder>.json`; a comment, as `approvals/<holder>.comment-<n>.json`.

A decision is drafted, signed, assembled: the three may happen on three machines. A draft has the exact bytes to sign,
in order; whoever has the key signs them, by one touch if it is a passkey; what is assembled is the file.

It has two signatures. The reviewer's statement (predicate REVIEW) says who decided what, when and why, so the words
beside a name are really that person's. An approval also has the reviewer's signature over the model's TUF role, which
is what twins count.

A role signature is valid for ever, but a decision is not: a reviewer may take it back. So the decisions of one reviewer
about one version of a model form a sequence. Each statement has its number, from 1, and the digest of the statement
before it. Only the newest counts (`reviews.py`). Comments are a sequence of their own, and count for nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

from twinseal.digests import canonical_json, is_sha256, parse_json, sha256
from twinseal.errors import EvidenceError, SignatureError
from twinseal.evidence import REVIEW, Statement, Subject
from twinseal.reading import read_regular
from twinseal.trust.keys.key import NamedSigner
from twinseal.trust.release.model_role import role_text
from twinseal.trust.release.release import target_path
from twinseal.trust.release.request import Request
from twinseal.trust.root.anchor import Anchor
from twinseal.trust.root.metadata import parse_signature
from twinseal.trust.root.pins import RoleKeys
from twinseal.trust.signing.dsse import seal_envelope, signed_text, verify_envelope

MAX_APPROVAL_BYTES = 256 << 10
MAX_COMMENT = 4000
MAX_SEQUENCE = 1_000_000
MAX_COMMENTS = 100  # of one holder about one release
Decision = Literal["approve", "reject", "withdraw", "comment"]
DECISIONS: tuple[Decision, ...] = get_args(Decision)
_COMMENT_FILE = re.compile(r"([a-z][a-z0-9_-]{0,39})\.comment-([1-9][0-9]{0,2})\Z")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\Z", re.ASCII)


@dataclass(frozen=True)
class Said:
    """What a reviewer's statement says: its predicate.

    Attributes:
        holder: The reviewer.
        decision: approve, reject, withdraw (an earlier one) or comment.
        comment: The reviewer's own words.
        time: When, by the reviewer's clock, RFC 3339.
        model: Name of the model.
        version: Of the release.
        role_sha256: Digest of the role that was decided on.
        sequence: The number of this decision among the reviewer's about this version of the model, from 1; of a
            comment, among the comments.
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
        if self.decision not in DECISIONS:
            raise EvidenceError(f"{where}: expected one of {', '.join(DECISIONS)}, got {str(self.decision)[:40]!r}")
        if type(self.version) is not int or not is_sha256(self.role_sha256):
            raise EvidenceError(f"{where}: expected the version of a release and a role's SHA-256, got something else")
        if type(self.sequence) is not int or not 1 <= self.sequence <= MAX_SEQUENCE:
            raise EvidenceError(f"{where}: expected a number from 1 to {MAX_SEQUENCE}, got {str(self.sequence)[:40]}")
        if self.decision == "comment" and self.sequence > MAX_COMMENTS:
            raise EvidenceError(f"{where}: expected at most {MAX_COMMENTS} comments on a release, got {self.sequence}")
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
        signature: The role signature that came with it, not checked yet; None unless it is an approval.
    """

    said: Said
    release_sha256: str
    digest: str
    signature: dict[str, str] | None


@dataclass(frozen=True)
class Draft:
    """A decision that waits for its signatures.

    Attributes:
        said: What is to be said.
        release_sha256: Digest of the release that it is about.
        payloads: The exact bytes to sign, in order: the statement as DSSE encodes it; of an approval, the role's.
    """

    said: Said
    release_sha256: str
    payloads: tuple[bytes, ...]

    @classmethod
    def of(cls, request: Request, said: Said) -> Draft:
        """The draft of a decision on `request`."""
        statement = signed_text(_statement(said, request.release.sha256))
        role = (role_text(request.role_bytes),) if said.decision == "approve" else ()
        return cls(said, request.release.sha256, (statement, *role))


def assemble_review(draft: Draft, signatures: Sequence[Any]) -> dict[str, Any]:
    """The content of the file for a decision.

    Args:
        draft: What was signed.
        signatures: A securesystemslib Signature over each of its payloads, in order, by one key; not verified here.

    Raises:
        SignatureError: They are more or fewer, by several keys, or no hex.
    """
    if len(signatures) != len(draft.payloads) or len({item.keyid for item in signatures}) != 1:
        count = len(draft.payloads)
        raise SignatureError(
            f"review by {draft.said.holder}: expected {count} signatures by one key, got {len(signatures)}"
        )
    statement = _statement(draft.said, draft.release_sha256)
    try:
        envelope = parse_json(seal_envelope(statement, signatures[0]), "review")
    except ValueError as error:
        raise SignatureError(f"review by {draft.said.holder}: expected signatures in hex, got others") from error
    role = signatures[1] if draft.said.decision == "approve" else None
    return {
        **draft.said.to_dict(),
        "release_sha256": draft.release_sha256,
        "review": envelope,
        "signature": None if role is None else {"keyid": role.keyid, "sig": role.signature},
    }


def sign_review(request: Request, reviewer: NamedSigner, said: Said) -> tuple[dict[str, Any], str]:
    """The content of the file for a decision, signed by `reviewer`, and the digest of its statement."""
    draft = Draft.of(request, said)
    value = assemble_review(draft, reviewer.signer.sign_all(draft.payloads))
    return value, sha256(_statement(said, draft.release_sha256))


def file_of(directory: Path, said: Said) -> Path:
    """The file of a decision, or of a comment."""
    comment = f".comment-{said.sequence}" if said.decision == "comment" else ""
    return directory / f"{said.holder}{comment}.json"


def is_comment_file(path: Path) -> bool:
    """Whether a file of approvals/ is named as a comment."""
    return ".comment-" in path.name


def holder_of_file(path: Path) -> str:
    """Whose a file of approvals/ is, by its name."""
    return path.stem.partition(".comment-")[0]


def read_review(path: Path, anchor: Anchor) -> SignedReview:
    """The decision or comment in the file at `path`, authenticated: signed by the reviewer whose name the file has.

    Raises:
        EvidenceError: It is absent or malformed, or says something else than what was signed, or than its name.
        SignatureError, ThresholdError: It is not signed by that reviewer.
    """
    try:
        data = read_regular(path, MAX_APPROVAL_BYTES)
    except OSError as error:
        raise EvidenceError(f"{path.name}: expected a review, got none ({error.strerror})") from error
    value = _checked(parse_json(data, path.name, limit=MAX_APPROVAL_BYTES), path.name)
    named = _COMMENT_FILE.match(path.stem)
    signed = _authenticate(value, path.stem if named is None else named[1], anchor)
    if file_of(path.parent, signed.said) != path:
        raise EvidenceError(f"{path.name}: expected {file_of(path.parent, signed.said).name} to have this, got it here")
    return signed


def parse_review(value: Any, anchor: Anchor) -> SignedReview:
    """The decision that came as a JSON value, authenticated: signed by the reviewer whose name it has.

    Raises:
        EvidenceError: It is malformed or too long, or says something else than what was signed.
        SignatureError, ThresholdError: It is not signed by that reviewer.
    """
    try:
        data = canonical_json(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise EvidenceError(f"review: expected a JSON object, got something else ({str(error)[:80]})") from error
    value = _checked(parse_json(data, "review", limit=MAX_APPROVAL_BYTES), "review")
    holder = str(value["holder"])
    anchor.roles["reviewer"].key_of(holder)  # names the reviewers
    return _authenticate(value, holder, anchor)


def _authenticate(value: dict[str, Any], holder: str, anchor: Anchor) -> SignedReview:
    reviewers = anchor.roles["reviewer"]
    single = RoleKeys(f"reviewer {holder[:60]}", 1, tuple(item for item in reviewers.holders if item.name == holder))
    payload = verify_envelope(canonical_json(value["review"]), single, f"review by {holder[:60]}")
    statement = Statement.from_bytes(payload, f"review by {holder}")
    predicate = statement.predicate
    if statement.predicate_type != REVIEW or set(predicate) != set(SAID):
        raise EvidenceError(f"review by {holder}: expected a {REVIEW}, got {statement.predicate_type}")
    said = Said(**predicate)
    subject = Subject(target_path(said.model), value["release_sha256"])
    if predicate != {name: value[name] for name in SAID} or said.holder != holder or statement.subjects != (subject,):
        raise EvidenceError(f"review by {holder}: expected the file to say what was signed, got something else")
    reviewers.of_model(said.model).key_of(holder)
    if (said.decision == "approve") != (value["signature"] is not None):
        raise EvidenceError(f"review by {holder}: expected approve with a signature, or another decision without one")
    return SignedReview(said, subject.sha256, sha256(payload), value["signature"])


def said_at(time: datetime) -> str:
    """A time as a statement has it: RFC 3339, UTC, whole seconds."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _statement(said: Said, release_sha256: str) -> bytes:
    subject = Subject(target_path(said.model), release_sha256)
    return Statement((subject,), REVIEW, said.to_dict()).to_bytes()


def _checked(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict) or set(value) != _FIELDS:
        raise EvidenceError(f"{where}: expected exactly {', '.join(sorted(_FIELDS))}, got {str(value)[:80]}")
    if value["signature"] is not None:
        parse_signature(value["signature"], where)
    return value
