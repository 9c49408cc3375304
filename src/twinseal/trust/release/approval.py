"""Approvals: what reviewers decide about one release, with a key on this machine.

Which decisions count, and what stands against a release: `reviews.py`. What may be decided, and what is signed
elsewhere and received here: `decisions.py`. Both are given on from here: a newcomer imports this module.

A decision is in the audit log before its file is written; so is the refusal of an attempt. A registrar on another
machine logs each decision when `register` first sees it, before it counts.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from twinseal.errors import KeyAccessError
from twinseal.trust.audit import Log
from twinseal.trust.keys.key import NamedSigner, short_fingerprint
from twinseal.trust.release.decisions import (
    RecordedDecision,
    audit_entry,
    check_decision,
    check_words,
    draft_decision,
    receive_review,
    record,
    standing_file,
)
from twinseal.trust.release.request import Request
from twinseal.trust.release.review_file import Decision, Draft, assemble_review, parse_review
from twinseal.trust.release.reviews import (
    LoggedDecision,
    Rejection,
    Review,
    Reviews,
    check_role_signature,
    logged_decisions,
    newest_decision,
    read_all,
    received_entry,
)
from twinseal.trust.release.terms import LastPublished
from twinseal.trust.root.anchor import Anchor
from twinseal.trust.root.roles import Roles

__all__ = [
    "Decision",
    "Draft",
    "LoggedDecision",
    "RecordedDecision",
    "Rejection",
    "Review",
    "Reviews",
    "approve",
    "assemble_review",
    "check_decision",
    "comment",
    "draft_decision",
    "logged_decisions",
    "newest_decision",
    "read_all",
    "receive_review",
    "received_entry",
    "reject",
    "withdraw",
]


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
        EvidenceError: The holder built the candidate.
        DigestMismatchError, EvidenceError, GateRefusedError, ThresholdError: As `candidate.verify_release`.
        EvidenceError, RollbackError, ExpiredError: As `terms.check_terms`; or the comment is too long.
        ExpiredError: What the root says of a role is too old.
        AuditError: The approval cannot be logged: none was given.
    """
    return _decide(
        directory,
        request,
        reviewer,
        "approve",
        comment,
        anchor=anchor,
        audit=audit,
        now=now,
        bundle=bundle,
        roles=roles,
        last=last,
    )


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

    Nothing is published while the rejection stands: until the reviewer approves, or withdraws it.

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
    return _decide(directory, request, reviewer, "reject", comment, anchor=anchor, audit=audit, now=now)


def withdraw(
    directory: Path,
    request: Request,
    reviewer: NamedSigner,
    *,
    anchor: Anchor,
    audit: Log,
    now: datetime,
    comment: str,
) -> RecordedDecision:
    """Take back one's own approval or rejection of the release, with a reason; arguments as of `reject`.

    Side effects: as `reject`; the entry is `withdrawn`.

    Raises:
        EvidenceError: There is no decision to take back; or as `reject`.
        SignatureError, KeyAccessError, DigestMismatchError, AuditError: As `approve`.
    """
    return _decide(directory, request, reviewer, "withdraw", comment, anchor=anchor, audit=audit, now=now)


def comment(
    directory: Path,
    request: Request,
    reviewer: NamedSigner,
    *,
    anchor: Anchor,
    audit: Log,
    now: datetime,
    comment: str,
) -> RecordedDecision:
    """Say something about the release, signed; it changes no decision. Arguments as of `reject`.

    Side effects: an entry in the audit log, `commented` or `refused`; then `<directory>/<holder>.comment-<n>.json`.
    None when the reviewer's last comment was the same.

    Raises:
        EvidenceError: Nothing is said, or too much; or there are 100 comments already.
        SignatureError, KeyAccessError, DigestMismatchError, AuditError: As `approve`.
    """
    return _decide(directory, request, reviewer, "comment", comment, anchor=anchor, audit=audit, now=now)


def _decide(
    directory: Path,
    request: Request,
    reviewer: NamedSigner,
    decision: Decision,
    words: str,
    *,
    anchor: Anchor,
    audit: Log,
    now: datetime,
    bundle: Path | None = None,
    roles: Roles | None = None,
    last: LastPublished | None = None,
) -> RecordedDecision:
    """A decision with a key that is here: checked, then drafted, signed, assembled and recorded."""
    holder = reviewer.holder
    if decision != "approve":
        check_words(holder, decision, words)
    with audit.log_refusal(audit_entry(decision, request.release, holder, now, words)):
        audit.complete()
        _check_key(reviewer, anchor)
        known = newest_decision(directory, holder, request.release, anchor, audit, comment=decision == "comment")
        same = standing_file(directory, request, holder, decision, words, anchor=anchor, audit=audit)
        if same is None or decision == "approve":
            check_decision(
                request,
                holder,
                decision,
                words,
                known=known,
                anchor=anchor,
                now=now,
                bundle=bundle,
                roles=roles,
                last=last,
            )
        if same is not None:
            return RecordedDecision(same, is_new=False)
        draft = draft_decision(request, holder, decision, words, anchor=anchor, known=known, now=now)
        value = assemble_review(draft, reviewer.signer.sign_all(draft.payloads))
        signed = parse_review(value, anchor)  # a passkey may have been touched for something else
        if decision == "approve":
            check_role_signature(signed, request, anchor, f"review by {holder}")
        return record(directory, value, signed, request.release, audit, now)


def _check_key(reviewer: NamedSigner, anchor: Anchor) -> None:
    """Refuse a key that is not the reviewer's."""
    key = anchor.roles["reviewer"].key_of(reviewer.holder)
    if reviewer.signer.public_key.keyid != key.keyid:
        raise KeyAccessError(
            f"{reviewer.holder}: expected the key {short_fingerprint(key)}… that the anchor has, "
            f"got {short_fingerprint(reviewer.signer.public_key)}…",
            remedy=f"Sign with the key of {reviewer.holder}: --key URI. All keys: twinseal trust show",
        )
