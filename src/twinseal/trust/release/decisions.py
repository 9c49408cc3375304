"""Decisions: what a reviewer may decide, what is signed for it, and how it is kept; not who signs it, nor where.

A decision is drafted (`draft_decision`), signed by whoever has the key, assembled (`review_file.assemble_review`), and
received (`receive_review`): checked, logged, written. `approval.py` does all of it with a key on this machine.

A server asks for a touch only after `check_decision`, which says whether it would be taken.

Example:
    known = newest_decision(directory, "alice", request.release, anchor, audit)
    draft = draft_decision(request, "alice", "approve", "report read", anchor=anchor, known=known, now=now)
    value = assemble_review(draft, signer.sign_all(draft.payloads))
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import structlog

from twinseal.digests import sha256
from twinseal.errors import EvidenceError, TwinsealError, suggest
from twinseal.files import write_json
from twinseal.trust.audit import Entry, Log
from twinseal.trust.release.candidate import VerifiedBundle, require_release, verify_release
from twinseal.trust.release.model_role import check_release, model_of, parse_role
from twinseal.trust.release.release import Release
from twinseal.trust.release.request import Request
from twinseal.trust.release.review_file import (
    DECISIONS,
    MAX_COMMENT,
    MAX_COMMENTS,
    Decision,
    Draft,
    Said,
    SignedReview,
    file_of,
    parse_review,
    read_review,
    said_at,
)
from twinseal.trust.release.reviews import (
    EVENTS,
    LoggedDecision,
    check_role_signature,
    judge_file,
    logged_decisions,
    newest_decision,
    place_of,
)
from twinseal.trust.release.terms import SLACK, LastPublished, check_terms
from twinseal.trust.root.anchor import Anchor
from twinseal.trust.root.roles import Roles

log = structlog.get_logger(__name__)

_NEEDS_WORDS: dict[Decision, tuple[str, str, str]] = {
    "reject": ("rejection", "a reason", "Say why"),
    "withdraw": ("withdrawal", "a reason", "Say why"),
    "comment": ("comment", "words", "Say something"),
}


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


def draft_decision(
    request: Request,
    holder: str,
    decision: Decision,
    comment: str,
    *,
    anchor: Anchor,
    known: LoggedDecision,
    now: datetime,
) -> Draft:
    """What is to be signed for a decision. Whether it may be decided, `check_decision` says, and `receive_review`.

    Args:
        request: What is decided on.
        holder: The reviewer.
        decision: What is decided.
        comment: The reviewer's own words.
        anchor: Who may review.
        known: The holder's newest decision; of a comment, the newest comment (`newest_decision`).
        now: Aware, UTC.

    Raises:
        SignatureError: The holder is no reviewer of the model.
        EvidenceError: A reason is missing or too long; there is nothing to take back; or there are too many comments.
        DigestMismatchError: The role lists another release.
    """
    model = _check_request(request)
    anchor.roles["reviewer"].of_model(model).key_of(holder)
    check_words(holder, decision, comment)
    _check_known(holder, decision, known)
    role, number = sha256(request.role_bytes), known.sequence + 1
    version = request.release.version
    return Draft.of(request, Said(holder, decision, comment, said_at(now), model, version, role, number, known.digest))


def receive_review(
    directory: Path,
    value: Any,
    request: Request,
    bundle: Path | VerifiedBundle | None,
    *,
    anchor: Anchor,
    roles: Roles | None,
    last: LastPublished | None,
    audit: Log,
    now: datetime,
) -> RecordedDecision:
    """Take a review that was signed elsewhere: from a browser, or another machine.

    Side effects: as `approve`, `reject`, `withdraw` or `comment`. None when the same decision stands already.

    Args:
        directory: approvals/.
        value: The content of its file (`assemble_review`); not trusted.
        request: What must have been decided on.
        bundle: The directory that the release lists; or what came of its verification. Only an approval needs it.
        anchor: Who may review.
        roles: policy/roles.yaml. Only an approval needs it.
        last: What was published last; None when this machine does not know.
        audit: Where the decision is logged, before it counts.
        now: Aware, UTC.

    Raises:
        EvidenceError: It is malformed, about something else than `request`, or does not follow the newest decision.
        SignatureError, ThresholdError: It is not signed by the reviewer whose name it has.
        TrustError, EvidenceError, GateRefusedError: As the decision's own function.
        AuditError: It cannot be logged: it was not taken.
    """
    with audit.log_refusal(_attempt_of(value, request.release, now)):
        audit.complete()
        signed = parse_review(value, anchor)
        said = signed.said
        _check_about(signed, request, now)
        if said.decision == "approve":
            check_role_signature(signed, request, anchor, f"review by {said.holder}")
        known = newest_decision(
            directory, said.holder, request.release, anchor, audit, comment=said.decision == "comment"
        )
        if signed.digest == known.digest:
            return _written_again(directory, value, signed, anchor)
        same = standing_file(directory, request, said.holder, said.decision, said.comment, anchor=anchor, audit=audit)
        if same is not None:
            return RecordedDecision(same, is_new=False)
        if (said.sequence, said.previous) != (known.sequence + 1, known.digest):
            raise EvidenceError(
                f"review by {said.holder}: expected decision {known.sequence + 1}, which follows the newest one, "
                f"got {said.sequence}",
                remedy="Something was decided since it was drafted. Look at it, and decide again.",
            )
        check_decision(
            request,
            said.holder,
            said.decision,
            said.comment,
            known=known,
            anchor=anchor,
            now=now,
            bundle=bundle,
            roles=roles,
            last=last,
        )
        return record(directory, value, signed, request.release, audit, now)


def check_decision(
    request: Request,
    holder: str,
    decision: Decision,
    comment: str,
    *,
    known: LoggedDecision,
    anchor: Anchor,
    now: datetime,
    bundle: Path | VerifiedBundle | None = None,
    roles: Roles | None = None,
    last: LastPublished | None = None,
) -> None:
    """Refuse what this reviewer may not decide. An approval needs `bundle` and `roles`; arguments as of `approve`.

    A bundle that the caller has verified for this very request is not read again; it must be all of the release.

    Raises:
        ValueError: An approval without a bundle, or without a policy: the caller's mistake.
        SignatureError: The holder is no reviewer of the model; or something in the bundle is not signed as it must be.
        EvidenceError: As `draft_decision`; or the holder built the candidate.
        DigestMismatchError, EvidenceError, GateRefusedError, ThresholdError: As `candidate.verify_release`.
        EvidenceError, RollbackError, ExpiredError: As `terms.check_terms`.
        ExpiredError: What the root says of a role is too old.
    """
    model = _check_request(request)
    reviewers = anchor.roles["reviewer"].of_model(model)
    reviewers.key_of(holder)
    check_words(holder, decision, comment)
    _check_known(holder, decision, known)
    if decision != "approve":
        return
    if bundle is None or roles is None:
        raise ValueError("check_decision: an approval needs a bundle and a policy")
    check_terms(request, anchor=anchor, roles=roles, last=last, now=now)
    anchor.check_current(now)
    verified = (
        require_release(bundle, request.release)
        if isinstance(bundle, VerifiedBundle)
        else verify_release(bundle, request.release, anchor)
    )
    if reviewers.quorum.is_among(holder, verified.built_by):
        others = [
            item.name for item in reviewers.holders if not reviewers.quorum.is_among(item.name, verified.built_by)
        ]
        raise EvidenceError(
            f"approval of {model}: expected a reviewer who did not build the candidate, got {holder} "
            f"(built by {', '.join(verified.built_by)})",
            remedy=f"Another reviewer must approve it: {', '.join(others) or 'nobody is left'}",
        )


def check_words(holder: str, decision: Decision, comment: str) -> None:
    """Refuse a decision without the words that it needs, or with too many.

    Raises:
        EvidenceError: It is one.
    """
    if decision in _NEEDS_WORDS and not comment.strip():
        what, expected, say = _NEEDS_WORDS[decision]
        raise EvidenceError(
            f"{what}: expected {expected}, got none",
            remedy=f"{say}: twinseal {decision} --as {holder} --comment 'WHY'",
        )
    if len(comment) > MAX_COMMENT:
        raise EvidenceError(
            f"comment: expected at most {MAX_COMMENT} characters, got {len(comment)}",
            remedy=f"Say it in fewer words: twinseal {decision} --as {holder} --comment 'WHY'",
        )


def standing_file(
    directory: Path, request: Request, holder: str, decision: Decision, comment: str, *, anchor: Anchor, audit: Log
) -> Path | None:
    """The file in which the same decision stands already, in the same words; None when none does.

    Raises:
        AuditError: The log is not what was signed.
    """
    model, path = model_of(request.role_bytes), directory / f"{holder}.json"
    logged = logged_decisions(audit, request.release)
    if decision == "comment":
        newest = newest_decision(directory, holder, request.release, anchor, audit, comment=True)
        path, logged = directory / f"{holder}.comment-{newest.sequence}.json", {}
    if not path.exists():
        return None
    there, _ = judge_file(path, request, model, anchor, logged)
    return path if (there.standing, there.comment) == (EVENTS[decision], comment) else None


def record(
    directory: Path, value: Any, signed: SignedReview, release: Release, audit: Log, now: datetime
) -> RecordedDecision:
    """Log a decision that was checked, then write its file.

    Raises:
        AuditError: It cannot be logged: it was not written.
        OSError: It cannot be written.
    """
    said = signed.said
    entry = audit_entry(said.decision, release, said.holder, now, said.comment)
    audit.append(replace(entry, details={**entry.details, **place_of(signed)}))
    path = file_of(directory, said)
    write_json(path, value)
    log.info(
        "release.reviewed", decision=said.decision, holder=said.holder, model=release.model, version=release.version
    )
    return RecordedDecision(path, is_new=True)


def audit_entry(decision: Decision, release: Release, holder: str, now: datetime, comment: str) -> Entry:
    """The audit entry for a decision, or for the attempt."""
    details = {"comment": comment} if comment else {}
    return Entry.for_release(release, EVENTS[decision], holder or "nobody", now, **details)


def _attempt_of(value: Any, release: Release, now: datetime) -> Entry:
    """The audit entry for what came, as far as it can be read: it may be anything."""
    fields = value if isinstance(value, dict) else {}
    words = {name: item if isinstance(item := fields.get(name), str) else "" for name in ("holder", "comment")}
    decision: Decision = next((item for item in DECISIONS if item == fields.get("decision")), "approve")
    return audit_entry(decision, release, words["holder"], now, words["comment"])


def _written_again(directory: Path, value: Any, signed: SignedReview, anchor: Anchor) -> RecordedDecision:
    """A decision that is known: its file is written only if it is not there, as after a process that was killed."""
    path = file_of(directory, signed.said)
    try:
        there = read_review(path, anchor).digest == signed.digest
    except TwinsealError:
        there = False
    if not there:
        write_json(path, value)
    return RecordedDecision(path, is_new=False)


def _check_known(holder: str, decision: Decision, known: LoggedDecision) -> None:
    """Refuse to take back nothing, and a comment too many."""
    if decision == "withdraw" and known.decision in ("", "withdraw"):
        raise EvidenceError(
            f"withdrawal: expected an earlier decision of {holder} about this release, got none",
            remedy=f"There is nothing to take back. To reject it: twinseal reject --as {holder} --comment 'WHY'",
        )
    if decision == "comment" and known.sequence >= MAX_COMMENTS:
        raise EvidenceError(
            f"comment: expected at most {MAX_COMMENTS} of {holder} on this release, got one more",
            remedy="Say the rest in the comment of a decision, or elsewhere.",
        )


def _check_request(request: Request) -> str:
    """Refuse a role that does not list exactly this release; the model."""
    with suggest("models/release/ was changed since it was submitted. Submit it again: dvc repro --force submit"):
        model = model_of(request.role_bytes)
        check_release(parse_role(request.role_bytes, model), request.release_bytes, model)
    if request.release.model != model:
        raise EvidenceError(f"release: expected one of {model}, whose role lists it, got {request.release.model}")
    return model


def _check_about(signed: SignedReview, request: Request, now: datetime) -> None:
    """Refuse a review of something else, or one from the future."""
    said, release = signed.said, request.release
    expected = (release.model, release.version, sha256(request.role_bytes), release.sha256)
    if (said.model, said.version, said.role_sha256, signed.release_sha256) != expected:
        raise EvidenceError(
            f"review by {said.holder}: expected one of release {release.version} of {release.model} as it waits now, "
            f"got one of another (version {said.version} of {said.model}, or staged anew since)",
            remedy="Look at the release that waits, and decide again.",
        )
    if said.time > said_at(now + SLACK):
        raise EvidenceError(
            f"review by {said.holder}: expected a time up to {said_at(now)}, got {said.time}",
            remedy="Set the clock of the machine that drafted it.",
        )
