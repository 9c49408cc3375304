"""Reviews: which of the reviewers' decisions about one release count, and what stands against it.

Each reviewer has one file for decisions, `approvals/<holder>.json`, and one for each comment (`review_file.py`). An
approval has the reviewer's signature over the model's TUF role: that is what counts. A rejection stops the publication
until that reviewer approves or withdraws it. Comments are kept and shown, and count for nothing.

Anybody can write to the folder. A file about another release is stale; a forged or malformed one is invalid; one that
is older than a decision that the audit log has is superseded: an approval that was taken back does not count again
when its file is put back, and a rejection stands also when its file is removed. Each is reported with the reason; none
counts, and none stops the others.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

import structlog

from twinseal.digests import canonical_json, sha256
from twinseal.errors import SignatureError, ThresholdError, TwinsealError
from twinseal.trust.audit import Entry, Log
from twinseal.trust.release.model_role import ApprovalCount, count_approvals, model_of, parse_role
from twinseal.trust.release.release import Release
from twinseal.trust.release.request import Request
from twinseal.trust.release.review_file import (
    MAX_COMMENTS,
    Decision,
    SignedReview,
    holder_of_file,
    is_comment_file,
    read_review,
)
from twinseal.trust.root.anchor import Anchor

log = structlog.get_logger(__name__)

Standing = Literal["approved", "rejected", "withdrawn", "commented", "builder", "superseded", "stale", "invalid"]
EVENTS: dict[Decision, Literal["approved", "rejected", "withdrawn", "commented"]] = {
    "approve": "approved",
    "reject": "rejected",
    "withdraw": "withdrawn",
    "comment": "commented",
}
_DECISIONS: dict[str, Decision] = {event: decision for decision, event in EVENTS.items()}
_WHY_NOT: dict[Decision, str] = {
    "approve": "",
    "reject": "a rejection is never counted; no release is published while it stands",
    "withdraw": "taken back by the reviewer",
    "comment": "a comment is shown, never counted",
}


@dataclass(frozen=True)
class Review:
    """What one file in approvals/ says, and whether it counts.

    Attributes:
        holder: The reviewer; by the file's name when it is invalid.
        standing: approved (counts), rejected (stops the publication), withdrawn, commented, builder (approved by who
            built the candidate: does not count), superseded (the log has a newer decision), stale (about another
            release) or invalid (forged or malformed).
        comment: The reviewer's own words; "" when invalid.
        time: When, by the reviewer's clock, RFC 3339.
        reason: Why it does not count; "" when it does.
        version: Of the release that it is about; 0 when invalid.
    """

    holder: str
    standing: Standing
    comment: str
    time: str
    reason: str
    version: int = 0


@dataclass(frozen=True)
class LoggedDecision:
    """The newest decision, or comment, of one reviewer about a release that is known here.

    Attributes:
        sequence: Its number; 0 when none is known.
        digest: SHA-256 of its statement; "" when none is known.
        decision: What it was; "" when none is known.
        comment: The reviewer's words, as far as the log keeps them.
        release_sha256: Digest of the release that it was about.
    """

    sequence: int = 0
    digest: str = ""
    decision: Decision | Literal[""] = ""
    comment: str = ""
    release_sha256: str = ""


NONE = LoggedDecision()


@dataclass(frozen=True)
class Rejection:
    """Someone who has rejected a release, and stands by it.

    Attributes:
        holder: The reviewer.
        comment: Why.
    """

    holder: str
    comment: str


@dataclass(frozen=True)
class Reviews:
    """All of approvals/ about one release.

    Attributes:
        items: One for each file with a decision, by holder.
        signatures: Those that count, for `repository.publish`.
        count: How far the approval has come.
        unlogged: Decisions and comments about this version of the model that the audit log does not have yet.
        comments: One for each file with a comment, by holder and number.
        rejections: Rejections that stand, by holder: from the files, or from the log where a file is gone.
    """

    items: tuple[Review, ...]
    signatures: tuple[dict[str, str], ...]
    count: ApprovalCount
    unlogged: tuple[SignedReview, ...]
    comments: tuple[Review, ...] = ()
    rejections: tuple[Rejection, ...] = ()

    def require_publishable(self) -> None:
        """Refuse a release that too few have approved, or that somebody has rejected.

        Raises:
            ThresholdError: It is one; names who can still sign, or who rejected it, and why.
        """
        self.count.require_complete()
        if self.rejections:
            said = "; ".join(f"{item.holder}: {item.comment}" for item in self.rejections)
            holder = self.rejections[0].holder
            raise ThresholdError(
                f"release of {self.count.model}: expected no rejection, got one by {said}",
                remedy=f"It stands until {holder} approves the release, or takes it back: "
                f"twinseal withdraw --as {holder} --comment WHY. Or make another candidate.",
            )


def read_all(directory: Path, request: Request, anchor: Anchor, audit: Log, *, built_by: Iterable[str] = ()) -> Reviews:
    """Every review in `directory`, and how far the approval of this request has come.

    Args:
        directory: approvals/.
        request: What is reviewed.
        anchor: Who may review.
        audit: Where decisions are logged: the memory of which is the newest.
        built_by: Who built the candidate (`candidate.builders_of`): reviewers of these names do not count.

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
    builders = count_approvals(request.role_bytes, (), anchor, model, built_by=built_by).builders
    noted, this = _noted(audit, request.release), request.release.sha256
    logged, commented, newest = _newest(noted), _newest(noted, comments=True), _newest(noted, about=this)
    items: list[Review] = []
    comments: list[Review] = []
    signatures, unlogged = [], []
    for path in sorted(directory.glob("*.json")):
        is_comment, holder = is_comment_file(path), holder_of_file(path)
        review, signed = judge_file(path, request, model, anchor, {} if is_comment else logged, builders)
        (comments if is_comment else items).append(review)
        known = (commented if is_comment else logged).get(holder, NONE).sequence
        if signed is not None and signed.said.sequence > known:
            unlogged.append(signed)
        if signed is not None and not is_comment and signed.said.sequence > newest.get(holder, NONE).sequence:
            newest |= {holder: _as_logged(signed)} if signed.release_sha256 == this else {}
        if review.standing == "approved" and signed is not None and signed.signature is not None:
            signatures.append(signed.signature)
    count = count_approvals(request.role_bytes, signatures, anchor, model, built_by=built_by)
    return Reviews(
        tuple(items),
        tuple(signatures),
        count,
        tuple(sorted(unlogged, key=lambda item: (item.said.holder, item.said.sequence))),
        tuple(comments),
        tuple(_rejections(newest, request, anchor)),
    )


def logged_decisions(audit: Log, release: Release) -> dict[str, LoggedDecision]:
    """The newest decision of each reviewer about this version of the model in the audit log; none without a log.

    It may have been about other bytes under the same version: a candidate that was submitted anew takes the place of
    the one before.

    Raises:
        AuditError: The log is not what was signed.
    """
    return _newest(_noted(audit, release))


def logged_comments(audit: Log, release: Release) -> dict[str, LoggedDecision]:
    """The same of comments."""
    return _newest(_noted(audit, release), comments=True)


def newest_decision(
    directory: Path, holder: str, release: Release, anchor: Anchor, audit: Log, *, comment: bool = False
) -> LoggedDecision:
    """The newest decision of `holder` that is known here: from the log, or from a file of another machine.

    Args:
        directory: approvals/.
        holder: The reviewer.
        release: What was decided on.
        anchor: Who may review.
        audit: Where decisions are logged.
        comment: The newest comment instead.

    Raises:
        AuditError: The log is not what was signed.
    """
    newest = _newest(_noted(audit, release), comments=comment).get(holder, NONE)
    names = [f"{holder}.comment-{number}.json" for number in range(1, MAX_COMMENTS + 1)] if comment else []
    for name in names or [f"{holder}.json"]:
        with contextlib.suppress(TwinsealError):
            found = read_review(directory / name, anchor) if (directory / name).exists() else None
            if found is not None and is_about(found, release) and found.said.sequence > newest.sequence:
                newest = _as_logged(found)
    return newest


def received_entry(signed: SignedReview, release: Release, registrar: str, now: datetime) -> Entry:
    """The audit entry with which a registrar notes a decision that was made on another machine."""
    said = signed.said
    details = {"holder": said.holder, "decision": said.decision, "comment": said.comment, **place_of(signed)}
    if signed.release_sha256 != release.sha256:
        details["release"] = signed.release_sha256
    return Entry.for_release(release, "received", registrar, now, **{k: v for k, v in details.items() if v})


def place_of(signed: SignedReview) -> dict[str, str]:
    """Where a decision stands among its reviewer's, as the log has it."""
    return {"sequence": str(signed.said.sequence), "review": signed.digest}


def is_about(found: SignedReview, release: Release) -> bool:
    """Whether a decision is about this version of the model, if about other bytes: then it is stale, and yet newer."""
    return (found.said.model, found.said.version) == (release.model, release.version)


def judge_file(
    path: Path,
    request: Request,
    model: str,
    anchor: Anchor,
    logged: dict[str, LoggedDecision],
    builders: Iterable[str] = (),
) -> tuple[Review, SignedReview | None]:
    """What a file counts for, and its decision, if it is an authentic one about this version of the model."""
    signed: SignedReview | None = None
    holder = holder_of_file(path)
    try:
        found = read_review(path, anchor)
        about_this = is_about(found, request.release)
        before = logged.get(holder, NONE) if about_this else NONE
        check_sequence(found, before)
        standing, reason = _judge_standing(found, request, model, before)
        if standing == "approved":
            check_role_signature(found, request, anchor, path.name)
        if standing == "approved" and holder in builders:
            standing, reason = "builder", "built the candidate: another reviewer must approve it"
        signed = found if about_this else None
    except TwinsealError as error:
        log.warning("review.invalid", file=path.name, reason=str(error))
        return Review(holder, "invalid", "", "", str(error)), None
    return Review(holder, standing, found.said.comment, found.said.time, reason, found.said.version), signed


def check_role_signature(found: SignedReview, request: Request, anchor: Anchor, where: str) -> None:
    """Refuse an approval without its reviewer's signature over the role.

    Raises:
        SignatureError: It is one.
    """
    holder, model = found.said.holder, model_of(request.role_bytes)
    signatures = [] if found.signature is None else [found.signature]
    if count_approvals(request.role_bytes, signatures, anchor, model).signed != (holder,):
        raise SignatureError(f"{where}: expected the signature of {holder} over the role, got another")


def check_sequence(found: SignedReview, newest: LoggedDecision) -> None:
    """Refuse a decision that does not follow from the logged one: then there are two sequences.

    Raises:
        SignatureError: It is one.
    """
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
    # A rejection is of the release. That it was staged anew, with another expiry, does not answer it.
    same = found.release_sha256 == request.release.sha256 and said.decision == "reject"
    if said.role_sha256 != sha256(request.role_bytes) and not same:
        about = f"version {said.version} of {said.model}"
        return "stale", f"about another release ({about}), or staged anew since; not about this one of {model}"
    return EVENTS[said.decision], _WHY_NOT[said.decision]


def _rejections(newest: dict[str, LoggedDecision], request: Request, anchor: Anchor) -> Iterable[Rejection]:
    for holder in anchor.roles["reviewer"].of_model(request.release.model).holders:
        found = newest.get(holder.name, NONE)
        if found.decision == "reject" and found.release_sha256 == request.release.sha256:
            yield Rejection(holder.name, found.comment)


def _as_logged(signed: SignedReview) -> LoggedDecision:
    said = signed.said
    return LoggedDecision(said.sequence, signed.digest, said.decision, said.comment, signed.release_sha256)


def _noted(audit: Log, release: Release) -> list[tuple[str, LoggedDecision]]:
    """Every decision and comment about this version of the model in the audit log, with its holder, in order."""
    found = []
    for _, entry in audit.read(wanted=_may_be_about(release)) if audit.path.exists() else ():
        decision = _decision_of(entry)
        if decision is None or (entry.model, entry.version) != (release.model, release.version):
            continue
        details = entry.details
        holder = details.get("holder", "") if entry.event == "received" else entry.actor
        number = details.get("sequence", "")
        sequence = int(number) if number.isascii() and number.isdigit() else 0
        about = details.get("release", entry.sha256)
        words = details.get("comment", "")
        found.append((holder, LoggedDecision(sequence, details.get("review", ""), decision, words, about)))
    return found


def _may_be_about(release: Release) -> Callable[[bytes], bool]:
    """Whether the bytes of an entry, which are canonical JSON, have a model and a version: few others are parsed."""
    model = canonical_json({"model": release.model})[1:-1]
    version = re.compile(re.escape(canonical_json({"version": release.version})[1:-1]) + rb"[,}]")
    return lambda leaf: model in leaf and version.search(leaf) is not None


def _newest(
    noted: list[tuple[str, LoggedDecision]], *, comments: bool = False, about: str = ""
) -> dict[str, LoggedDecision]:
    """The newest decision, or comment, of each holder; with `about`, of those about exactly this release."""
    found: dict[str, LoggedDecision] = {}
    for holder, item in noted:
        wanted = (item.decision == "comment") == comments and about in ("", item.release_sha256)
        if wanted and item.sequence > found.get(holder, NONE).sequence:
            found[holder] = item
    return found


def _decision_of(entry: Entry) -> Decision | None:
    if entry.event == "received":
        named = entry.details.get("decision", "")
        return next((decision for decision in EVENTS if decision == named), None)
    return _DECISIONS.get(entry.event)
