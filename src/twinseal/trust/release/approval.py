"""Approvals: what reviewers decide about one release, and which of their decisions count.

Each reviewer has one file, `approvals/<holder>.json` (`review_file.py`). An approval has the reviewer's signature over
the model's TUF role: that is what counts. A rejection is kept and shown, never counted, and does not stop the other
reviewers.

Anybody can write to the folder. A file about another release is stale; a forged or malformed one is invalid; one that
is older than a decision that the audit log has is superseded: an approval that was taken back does not count again
when its file is put back. Each is reported with the reason; none counts, and none stops the others.

A decision is in the audit log before its file is written; so is the refusal of an attempt. A registrar on another
machine logs each decision when `register` first sees it, before it counts.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Literal

import structlog

from twinseal.digests import sha256
from twinseal.errors import EvidenceError, KeyAccessError, SignatureError, TwinsealError, suggest
from twinseal.files import write_json
from twinseal.trust.audit import Entry, Log
from twinseal.trust.keys.key import NamedSigner, short_fingerprint
from twinseal.trust.release.candidate import verify_release
from twinseal.trust.release.model_role import ApprovalCount, check_release, count_approvals, model_of, parse_role
from twinseal.trust.release.release import Release
from twinseal.trust.release.request import Request
from twinseal.trust.release.review_file import (
    MAX_COMMENT,
    Decision,
    Said,
    SignedReview,
    read_review,
    said_at,
    sign_review,
)
from twinseal.trust.release.terms import LastPublished, check_terms
from twinseal.trust.root.anchor import Anchor
from twinseal.trust.root.roles import Roles

log = structlog.get_logger(__name__)

Standing = Literal["approved", "rejected", "superseded", "stale", "invalid"]
_EVENTS: dict[Decision, Literal["approved", "rejected"]] = {"approve": "approved", "reject": "rejected"}


@dataclass(frozen=True)
class Review:
    """What one file in approvals/ says, and whether it counts.

    Attributes:
        holder: The reviewer; the file's name when it is invalid.
        standing: approved (counts), rejected, superseded (the log has a newer decision), stale (about another release)
            or invalid (forged or malformed).
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
class LoggedDecision:
    """The newest decision of one reviewer about a release that is known here.

    Attributes:
        sequence: Its number; 0 when none is known.
        digest: SHA-256 of its statement; "" when none is known.
    """

    sequence: int = 0
    digest: str = ""


@dataclass(frozen=True)
class Reviews:
    """All of approvals/ about one release.

    Attributes:
        items: One for each file, by holder.
        signatures: Those that count, for `repository.publish`.
        count: How far the approval has come.
        unlogged: Decisions about this version of the model that the audit log does not have yet.
    """

    items: tuple[Review, ...]
    signatures: tuple[dict[str, str], ...]
    count: ApprovalCount
    unlogged: tuple[SignedReview, ...]


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
    roles: Roles,
    last: LastPublished | None,
    audit: Log,
    now: datetime,
    comment: str = "",
) -> RecordedDecision:
    """Verify the bundle as a twin would, and all else that is signed, then sign its release as `reviewer`.

    Side effects: an entry in the audit log, `approved` or `refused`; then `<directory>/<holder>.json`, over an earlier
    decision of the same holder. None when the same approval was given before.

    Args:
        directory: approvals/.
        request: What is to be signed.
        bundle: The directory that the release lists.
        reviewer: Who signs.
        anchor: Who may review.
        roles: policy/roles.yaml: for how long an approval is valid.
        last: What was published last, from `repository.last_published`; None when this machine does not know.
        audit: Where the decision is logged, before it counts.
        now: Aware, UTC.
        comment: The reviewer's own words.

    Raises:
        SignatureError: The holder is no reviewer; or something in the bundle is not signed as it must be.
        KeyAccessError: The key is not the one that the anchor has for the holder.
        DigestMismatchError, EvidenceError, GateRefusedError, ThresholdError: As `candidate.verify_release`.
        EvidenceError, RollbackError, ExpiredError: As `terms.check_terms`; or the comment is too long.
        ExpiredError: What the root says of a role is too old.
        AuditError: The approval cannot be logged: none was given.
    """
    attempt = _audit_entry("approve", request.release, reviewer.holder, now, comment)
    with audit.log_refusal(attempt):
        _check_reviewer(request, reviewer, anchor)
        check_terms(request, anchor=anchor, roles=roles, last=last, now=now)
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
        EvidenceError: No reason is given, or one that is too long.
        SignatureError, KeyAccessError, DigestMismatchError, AuditError: As `approve`.
    """
    if not comment.strip():
        raise EvidenceError(
            "rejection: expected a reason, got none",
            remedy=f"Say why: twinseal reject --as {reviewer.holder} --comment 'WHY'",
        )
    attempt = _audit_entry("reject", request.release, reviewer.holder, now, comment)
    with audit.log_refusal(attempt):
        _check_reviewer(request, reviewer, anchor)
        return _record_decision(directory, request, reviewer, "reject", comment, attempt, anchor=anchor, audit=audit)


def read_all(directory: Path, request: Request, anchor: Anchor, audit: Log) -> Reviews:
    """Every review in `directory`, and how far the approval of this request has come.

    Raises:
        SignatureError: The role itself is malformed, or has signatures of its own. A malformed review is reported in
            its item.
        AuditError: The audit log of this machine was changed: which decisions are the newest is not known.
    """
    model = model_of(request.role_bytes)
    if parse_role(request.role_bytes, model).signatures:
        raise SignatureError(
            f"role {model}: expected one that waits for signatures, got one with signatures: they belong in approvals/",
            remedy="models/release/ was changed since it was submitted. Submit it again: dvc repro --force submit",
        )
    logged = logged_decisions(audit, request.release)
    items, signatures, unlogged = [], [], []
    for path in sorted(directory.glob("*.json")):
        review, signed = _judge_file(path, request, model, anchor, logged)
        items.append(review)
        if signed is not None and signed.said.sequence > logged.get(path.stem, LoggedDecision()).sequence:
            unlogged.append(signed)
        if review.standing == "approved" and signed is not None and signed.signature is not None:
            signatures.append(signed.signature)
    count = count_approvals(request.role_bytes, signatures, anchor, model)
    return Reviews(tuple(items), tuple(signatures), count, tuple(unlogged))


def logged_decisions(audit: Log, release: Release) -> dict[str, LoggedDecision]:
    """The newest decision of each reviewer about this version of the model in the audit log; none without a log.

    It may have been about other bytes under the same version: a candidate that was submitted anew takes the place of
    the one before.

    Raises:
        AuditError: The log is not what was signed.
    """
    found: dict[str, LoggedDecision] = {}
    for _, entry in audit.read() if audit.path.exists() else ():
        holder = entry.details.get("holder", "") if entry.event == "received" else entry.actor
        about = entry.model, entry.version
        if entry.event not in ("approved", "rejected", "received") or about != (release.model, release.version):
            continue
        number = entry.details.get("sequence", "")
        sequence = int(number) if number.isascii() and number.isdigit() else 0
        if sequence > found.get(holder, LoggedDecision()).sequence:
            found[holder] = LoggedDecision(sequence, entry.details.get("review", ""))
    return found


def received_entry(signed: SignedReview, release: Release, registrar: str, now: datetime) -> Entry:
    """The audit entry with which a registrar notes a decision that was made on another machine."""
    said = signed.said
    details = {"holder": said.holder, "decision": said.decision, "comment": said.comment, **_place(said, signed.digest)}
    return Entry.for_release(release, "received", registrar, now, **{k: v for k, v in details.items() if v})


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


def _audit_entry(decision: Decision, release: Release, holder: str, now: datetime, comment: str) -> Entry:
    details = {"comment": comment} if comment else {}
    return Entry.for_release(release, _EVENTS[decision], holder or "nobody", now, **details)


def _place(said: Said, digest: str) -> dict[str, str]:
    """Where a decision stands among its reviewer's, as the log has it."""
    return {"sequence": str(said.sequence), "review": digest}


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
    if len(comment) > MAX_COMMENT:
        raise EvidenceError(
            f"comment: expected at most {MAX_COMMENT} characters, got {len(comment)}",
            remedy=f"Say it in fewer words: twinseal {decision} --as {reviewer.holder} --comment 'WHY'",
        )
    path, holder, release = directory / f"{reviewer.holder}.json", reviewer.holder, request.release
    model, logged = model_of(request.role_bytes), logged_decisions(audit, release)
    before = logged.get(holder, LoggedDecision())
    if path.exists():
        there, _ = _judge_file(path, request, model, anchor, logged)
        if (there.standing, there.comment) == (_EVENTS[decision], comment):
            return RecordedDecision(path, is_new=False)
        with contextlib.suppress(TwinsealError):  # a decision of another machine, which this log does not have
            found = read_review(path, anchor)
            if _is_about(found, release) and found.said.sequence > before.sequence:
                before = LoggedDecision(found.said.sequence, found.digest)
    role, time = sha256(request.role_bytes), said_at(entry.time)
    number, previous = before.sequence + 1, before.digest
    said = Said(holder, decision, comment, time, release.model, release.version, role, number, previous)
    review, digest = sign_review(request, reviewer, said)
    audit.append(replace(entry, details={**entry.details, **_place(said, digest)}))
    write_json(path, review)
    log.info("release.reviewed", decision=decision, holder=holder, model=release.model, version=release.version)
    return RecordedDecision(path, is_new=True)


def _judge_file(
    path: Path, request: Request, model: str, anchor: Anchor, logged: dict[str, LoggedDecision]
) -> tuple[Review, SignedReview | None]:
    """What a file counts for, and its decision, if it is an authentic one about this version of the model."""
    signed: SignedReview | None = None
    try:
        found = read_review(path, anchor)
        about_this = _is_about(found, request.release)
        before = logged.get(path.stem, LoggedDecision()) if about_this else LoggedDecision()
        _check_sequence(found, before)
        standing, reason = _judge_standing(found, request, model, before)
        if standing == "approved" and found.signature is not None:
            signers = count_approvals(request.role_bytes, [found.signature], anchor, model).signed
            if signers != (path.stem,):
                raise SignatureError(f"{path.name}: expected the signature of {path.stem} over the role, got another")
        signed = found if about_this else None
    except TwinsealError as error:
        log.warning("review.invalid", file=path.name, reason=str(error))
        return Review(path.stem, "invalid", "", "", str(error)), None
    return Review(path.stem, standing, found.said.comment, found.said.time, reason), signed


def _is_about(found: SignedReview, release: Release) -> bool:
    """Whether a decision is about this version of the model, if about other bytes: then it is stale, and yet newer."""
    return (found.said.model, found.said.version) == (release.model, release.version)


def _check_sequence(found: SignedReview, newest: LoggedDecision) -> None:
    """Refuse a decision that does not follow from the logged one: then there are two sequences."""
    said = found.said
    other = said.sequence == newest.sequence and found.digest != newest.digest
    if other or (newest.sequence and said.sequence == newest.sequence + 1 and said.previous != newest.digest):
        raise SignatureError(
            f"review by {said.holder}: expected decision {said.sequence} to be, or to follow, that of the audit log "
            f"({newest.digest[:12]}…), got {found.digest[:12]}…; decide again"
        )


def _judge_standing(found: SignedReview, request: Request, model: str, newest: LoggedDecision) -> tuple[Standing, str]:
    said = found.said
    if said.sequence < newest.sequence:
        number = f"decision {said.sequence} of {said.holder} about release {said.version}"
        return "superseded", f"{number}; the audit log has decision {newest.sequence}"
    if said.role_sha256 != sha256(request.role_bytes):
        about = f"version {said.version} of {said.model}"
        return "stale", f"about another release ({about}), or staged anew since; not about this one of {model}"
    if said.decision == "reject":
        return "rejected", "a rejection is shown, never counted"
    return "approved", ""
