"""Approvals: one file for each reviewer, `approvals/<holder>.json`, over the release being decided.

An approval has the reviewer's signature over the model's TUF role: that is what counts. Approval and rejection both
have a signed statement (predicate REVIEW) of the decision and the comment, so the words beside a name are really that
person's. A rejection is kept and shown, never counted, and does not stop the other reviewers.

Anybody can write to the folder. A file about another release is stale; a forged or malformed one is invalid. Both are
reported with the reason; neither counts, and neither stops the others.

A decision is in the audit log before its file is written; so is the refusal of an attempt.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import structlog

from twinseal.digests import canonical_json, parse_json, sha256
from twinseal.errors import EvidenceError, KeyAccessError, SignatureError, TwinsealError, suggest
from twinseal.evidence import REVIEW, Statement, Subject
from twinseal.files import read_regular, write_json
from twinseal.trust.audit import Entry, Log
from twinseal.trust.keys.key import NamedSigner, short_fingerprint
from twinseal.trust.release.candidate import verify_release
from twinseal.trust.release.model_role import (
    ApprovalCount,
    check_expiry,
    check_release,
    count_approvals,
    model_of,
    parse_role,
    sign_role,
)
from twinseal.trust.release.release import Release, target_path
from twinseal.trust.release.request import Request
from twinseal.trust.root.anchor import Anchor
from twinseal.trust.root.metadata import parse_signature
from twinseal.trust.root.pins import RoleKeys
from twinseal.trust.signing.dsse import sign_envelope, verify_envelope

log = structlog.get_logger(__name__)

MAX_APPROVAL_BYTES = 256 << 10
MAX_COMMENT = 4000
Decision = Literal["approve", "reject"]
Standing = Literal["approved", "rejected", "stale", "invalid"]
_FIELDS = frozenset(
    (
        "holder",
        "decision",
        "comment",
        "time",
        "model",
        "version",
        "release_sha256",
        "role_sha256",
        "review",
        "signature",
    )
)


@dataclass(frozen=True)
class Review:
    """What one file in approvals/ says, and whether it counts.

    Attributes:
        holder: The reviewer; the file's name when it is invalid.
        standing: approved (counts), rejected, stale (about another release) or invalid (forged or malformed).
        comment: The reviewer's own words; "" when invalid.
        time: When, by the reviewer's clock, RFC 3339.
        reason: Why it does not count; "" when it does.
    """

    holder: str
    standing: Standing
    comment: str
    time: str
    reason: str


@dataclass(frozen=True)
class Reviews:
    """All of approvals/ about one release.

    Attributes:
        items: One for each file, by holder.
        signatures: Those that count, for `repository.publish`.
        count: How far the approval has come.
    """

    items: tuple[Review, ...]
    signatures: tuple[dict[str, str], ...]
    count: ApprovalCount


@dataclass(frozen=True)
class RecordedDecision:
    """A reviewer's decision, as it is on disk now.

    Attributes:
        path: Its file.
        is_new: Whether this call wrote it; False when the same decision about the same release, with the same comment,
            was there already: then nothing was written and nothing logged.
    """

    path: Path
    is_new: bool


def approve(
    directory: Path,
    request: Request,
    bundle: Path,
    reviewer: NamedSigner,
    *,
    anchor: Anchor,
    audit: Log,
    now: datetime,
    comment: str = "",
) -> RecordedDecision:
    """Verify the bundle as a twin would, then sign its release as `reviewer`.

    Side effects: an entry in the audit log, `approved` or `refused`; then `<directory>/<holder>.json`, over an earlier
    decision of the same holder. None when the same approval was given before.

    Args:
        directory: approvals/.
        request: What is to be signed.
        bundle: The directory that the release lists.
        reviewer: Who signs.
        anchor: Who may review.
        audit: Where the decision is logged, before it counts.
        now: Aware, UTC.
        comment: The reviewer's own words.

    Raises:
        SignatureError: The holder is no reviewer; or something in the bundle is not signed as it must be.
        KeyAccessError: The key is not the one that the anchor has for the holder.
        DigestMismatchError, EvidenceError, GateRefusedError, ThresholdError: As `candidate.verify_release`.
        ExpiredError: The staged role, or what the root says of a role, is too old.
        AuditError: The approval cannot be logged: none was given.
    """
    attempt = _audit_entry("approved", request.release, reviewer.holder, now, comment)
    with audit.log_refusal(attempt):
        _check_reviewer(request, reviewer, anchor)
        model = request.release.model
        check_expiry(parse_role(request.role_bytes, model), now, f"staged role of {model}")
        anchor.check_current(now)
        verify_release(bundle, request.release, anchor)
        return _record_decision(directory, request, reviewer, "approve", comment, attempt, anchor=anchor, audit=audit)


def reject(
    directory: Path,
    request: Request,
    reviewer: NamedSigner,
    *,
    anchor: Anchor,
    audit: Log,
    now: datetime,
    comment: str,
) -> RecordedDecision:
    """Reject the release, with a reason, as `reviewer`. The bundle need not verify: that may be the reason.

    Side effects: an entry in the audit log, `rejected` or `refused`; then `<directory>/<holder>.json`, over an earlier
    approval, which no longer counts then. None when the same rejection was given before.

    Args:
        directory: approvals/.
        request: What is rejected.
        reviewer: Who signs.
        anchor: Who may review.
        audit: Where the decision is logged, before it is written.
        now: Aware, UTC.
        comment: The reason.

    Raises:
        EvidenceError: No reason is given.
        SignatureError, KeyAccessError, DigestMismatchError, AuditError: As `approve`.
    """
    if not comment.strip():
        raise EvidenceError(
            "rejection: expected a reason, got none",
            remedy=f"Say why: twinseal reject --as {reviewer.holder} --comment 'WHY'",
        )
    attempt = _audit_entry("rejected", request.release, reviewer.holder, now, comment)
    with audit.log_refusal(attempt):
        _check_reviewer(request, reviewer, anchor)
        return _record_decision(directory, request, reviewer, "reject", comment, attempt, anchor=anchor, audit=audit)


def read_all(directory: Path, request: Request, anchor: Anchor) -> Reviews:
    """Every review in `directory`, and how far the approval of this request has come.

    Raises:
        SignatureError: The role itself is malformed. A malformed review is reported in its item.
    """
    model = model_of(request.role_bytes)
    items, signatures = [], []
    for path in sorted(directory.glob("*.json")):
        review, counted = _read_review(path, request.role_bytes, model, anchor)
        items.append(review)
        signatures += [counted] if counted else []
    return Reviews(tuple(items), tuple(signatures), count_approvals(request.role_bytes, signatures, anchor, model))


def is_decided(
    directory: Path, request: Request, anchor: Anchor, *, holder: str, decision: Decision, comment: str
) -> bool:
    """Whether a valid review of `holder` is there with the same decision and comment, about exactly this request.

    Raises:
        SignatureError: `holder` is no reviewer; or the role is malformed.
    """
    anchor.roles["reviewer"].key_of(holder)
    path = directory / f"{holder}.json"
    if not path.exists():
        return False
    review, _ = _read_review(path, request.role_bytes, model_of(request.role_bytes), anchor)
    standing = "approved" if decision == "approve" else "rejected"
    return (review.standing, review.comment) == (standing, comment[:MAX_COMMENT])


def _check_reviewer(request: Request, reviewer: NamedSigner, anchor: Anchor) -> None:
    """Refuse a key that is not the reviewer's, and a role that does not list exactly this release."""
    key = anchor.roles["reviewer"].key_of(reviewer.holder)
    if reviewer.signer.public_key.keyid != key.keyid:
        raise KeyAccessError(
            f"{reviewer.holder}: expected the key {short_fingerprint(key)}… that the anchor has, "
            f"got {short_fingerprint(reviewer.signer.public_key)}…",
            remedy=f"Sign with the key of {reviewer.holder}: --key URI. All keys: twinseal trust show",
        )
    with suggest("models/release/ was changed since it was submitted. Submit it again: dvc repro --force submit"):
        model = model_of(request.role_bytes)
        check_release(parse_role(request.role_bytes, model), request.release_bytes, model)
    if request.release.model != model:
        raise EvidenceError(f"release: expected one of {model}, whose role lists it, got {request.release.model}")


def _audit_entry(
    event: Literal["approved", "rejected"], release: Release, holder: str, now: datetime, comment: str
) -> Entry:
    details = {"comment": comment} if comment else {}
    return Entry.for_release(release, event, holder or "nobody", now, **details)


def _record_decision(
    directory: Path,
    request: Request,
    reviewer: NamedSigner,
    decision: Decision,
    comment: str,
    entry: Entry,
    *,
    anchor: Anchor,
    audit: Log,
) -> RecordedDecision:
    path = directory / f"{reviewer.holder}.json"
    if is_decided(directory, request, anchor, holder=reviewer.holder, decision=decision, comment=comment):
        return RecordedDecision(path, is_new=False)
    review = _sign_review(request, reviewer, decision, comment, entry.time)
    audit.append(entry)
    write_json(path, review)
    log.info("release.reviewed", **{name: review[name] for name in ("decision", "holder", "model", "version")})
    return RecordedDecision(path, is_new=True)


def _sign_review(
    request: Request, reviewer: NamedSigner, decision: Decision, comment: str, time: datetime
) -> dict[str, Any]:
    release = request.release
    predicate = {
        "decision": decision,
        "holder": reviewer.holder,
        "comment": comment[:MAX_COMMENT],
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "model": release.model,
        "version": release.version,
        "role_sha256": sha256(request.role_bytes),
    }
    statement = Statement((Subject(release.target, release.sha256),), REVIEW, predicate)
    return {
        **predicate,
        "release_sha256": release.sha256,
        "review": parse_json(sign_envelope(statement.to_bytes(), reviewer.signer), "review"),
        "signature": sign_role(request.role_bytes, reviewer.signer) if decision == "approve" else None,
    }


def _read_review(path: Path, role_bytes: bytes, model: str, anchor: Anchor) -> tuple[Review, dict[str, str] | None]:
    try:
        value = _parse_review(path)
        predicate = _authenticate(value, path.stem, anchor)
        standing, reason = _judge_standing(predicate, value, role_bytes, model)
        if standing == "approved" and not count_approvals(role_bytes, [value["signature"]], anchor, model).signed == (
            path.stem,
        ):
            raise SignatureError(f"{path.name}: expected the signature of {path.stem} over the role, got another")
    except TwinsealError as error:
        log.warning("review.invalid", file=path.name, reason=str(error))
        return Review(path.stem, "invalid", "", "", str(error)), None
    review = Review(path.stem, standing, predicate["comment"], predicate["time"], reason)
    return review, value["signature"] if standing == "approved" else None


def _parse_review(path: Path) -> dict[str, Any]:
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


def _authenticate(value: dict[str, Any], holder: str, anchor: Anchor) -> dict[str, Any]:
    """What the reviewer signed; every readable field of the file must agree with it."""
    reviewers = anchor.roles["reviewer"]
    single = RoleKeys(f"reviewer {holder}", 1, tuple(item for item in reviewers.holders if item.name == holder))
    payload = verify_envelope(canonical_json(value["review"]), single, f"review by {holder}")
    statement = Statement.from_bytes(payload, f"review by {holder}")
    predicate = statement.predicate
    shown = {name: value[name] for name in predicate if name in value}
    if statement.predicate_type != REVIEW or set(predicate) != _FIELDS - {"release_sha256", "review", "signature"}:
        raise EvidenceError(f"review by {holder}: expected a {REVIEW}, got {statement.predicate_type}")
    subject = Subject(target_path(str(predicate["model"])), value["release_sha256"])
    if predicate != shown or predicate["holder"] != holder or statement.subjects != (subject,):
        raise EvidenceError(f"review by {holder}: expected the file to say what was signed, got something else")
    if not isinstance(predicate["comment"], str) or not isinstance(predicate["time"], str):
        raise EvidenceError(f"review by {holder}: expected a comment and a time in words, got something else")
    return predicate


def _judge_standing(
    predicate: dict[str, Any], value: dict[str, Any], role_bytes: bytes, model: str
) -> tuple[Standing, str]:
    if predicate["role_sha256"] != sha256(role_bytes):
        about = f"version {predicate['version']} of {predicate['model']}"
        return "stale", f"about another release ({about}), or staged anew since; not about this one of {model}"
    if predicate["decision"] == "reject":
        return "rejected", "a rejection is shown, never counted"
    if predicate["decision"] != "approve" or value["signature"] is None:
        raise EvidenceError(f"review: expected approve with a signature, got {str(predicate['decision'])[:40]!r}")
    return "approved", ""
