"""Approvals: one file for each reviewer, `approvals/<holder>.json`, over the release being decided.

An approval carries the reviewer's signature over the model's TUF role: that is what counts. Approval and rejection
alike carry a signed statement (predicate REVIEW) of the decision and the comment, so that what is shown beside a name
is that person's. A rejection is kept and shown, never counted, and does not stand in the way of the others.

The folder is anybody's to write to. A file that is about another release is stale; one that is forged or malformed is
invalid. Both are reported with the reason; neither counts, and neither stops the rest.

A decision is in the audit log before its file is written, and a refusal to let somebody decide is there, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import structlog

from twinseal.digests import canonical_json, parse_json, sha256
from twinseal.errors import EvidenceError, KeyAccessError, SignatureError, TwinsealError
from twinseal.evidence import REVIEW, Statement, Subject
from twinseal.files import write_json
from twinseal.trust.audit import Entry, Log
from twinseal.trust.audit.entry import MAX_NAME, fit
from twinseal.trust.dsse import sign_envelope, verify_envelope
from twinseal.trust.keys.key import KeySigner
from twinseal.trust.metadata import signature
from twinseal.trust.release.candidate import verify_release
from twinseal.trust.release.model_role import Count, check_expiry, check_release, count, model_of, parse_role, sign_role
from twinseal.trust.release.release import Release, target_path
from twinseal.trust.root.anchor import Anchor
from twinseal.trust.root.pins import RoleKeys

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
        holder: Who; the file's name when it is invalid.
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
    count: Count


def approve(
    directory: Path,
    role_bytes: bytes,
    release_bytes: bytes,
    bundle: Path,
    *,
    anchor: Anchor,
    holder: str,
    signer: KeySigner,
    now: datetime,
    audit: Log,
    comment: str = "",
) -> Path:
    """Verify the bundle as a twin would, then sign its release as `holder`.

    Side effects: an entry in the audit log, `approved` or `refused`; then `<directory>/<holder>.json`, over an earlier
    decision of the same holder.

    Args:
        directory: approvals/.
        role_bytes: What `repository.stage` gave.
        release_bytes: The exact release.json.
        bundle: The directory that the release lists.
        anchor: Who may review.
        holder: The reviewer's name.
        signer: The reviewer's key.
        now: Aware, UTC.
        audit: Where the decision is logged, before it counts.
        comment: The reviewer's own words.

    Returns:
        The file written.

    Raises:
        SignatureError: `holder` is no reviewer; or something in the bundle is not signed as it must be.
        KeyAccessError: The key is not the one that the anchor has for `holder`.
        DigestMismatchError, EvidenceError, GateRefusedError, ThresholdError: As `candidate.verify_release`.
        ExpiredError: What was staged, or what the root says of a role, is too old.
        AuditError: The approval cannot be logged: none was given.
    """
    attempt = _attempt("approved", release_bytes, holder, now, comment)
    with audit.refusing(attempt):
        release = _open(role_bytes, release_bytes, anchor, holder, signer)
        check_expiry(parse_role(role_bytes, release.model), now, f"staged role of {release.model}")
        anchor.check_current(now)
        verify_release(bundle, release, anchor)
        value = _signed(holder, "approve", comment, release, role_bytes, signer=signer, now=now)
        audit.append(attempt)
        return _write(directory / f"{holder}.json", value)


def reject(
    directory: Path,
    role_bytes: bytes,
    release_bytes: bytes,
    *,
    anchor: Anchor,
    holder: str,
    signer: KeySigner,
    now: datetime,
    audit: Log,
    comment: str,
) -> Path:
    """Say no, with a reason, as `holder`. The bundle need not verify: that may be the reason.

    Side effects: an entry in the audit log, `rejected` or `refused`; then `<directory>/<holder>.json`, over an earlier
    approval, which no longer counts then.

    Raises:
        EvidenceError: No reason is given; or the release is malformed.
        SignatureError, KeyAccessError, DigestMismatchError, AuditError: As `approve`.
    """
    if not comment.strip():
        raise EvidenceError("rejection: expected a reason, got none", remedy="Say why: twinseal reject --comment '…'")
    attempt = _attempt("rejected", release_bytes, holder, now, comment)
    with audit.refusing(attempt):
        release = _open(role_bytes, release_bytes, anchor, holder, signer)
        value = _signed(holder, "reject", comment, release, role_bytes, signer=signer, now=now)
        audit.append(attempt)
        return _write(directory / f"{holder}.json", value)


def read_all(directory: Path, role_bytes: bytes, anchor: Anchor) -> Reviews:
    """Every review in `directory`, and how far the approval of this role has come.

    Raises:
        SignatureError: The role itself is malformed. A malformed review is reported in its item.
    """
    model = model_of(role_bytes)
    items, signatures = [], []
    for path in sorted(directory.glob("*.json")) if directory.is_dir() else []:
        review, made = _read(path, role_bytes, model, anchor)
        items.append(review)
        signatures += [made] if made else []
    return Reviews(tuple(items), tuple(signatures), count(role_bytes, signatures, anchor, model))


def is_decided(
    directory: Path, role_bytes: bytes, anchor: Anchor, *, holder: str, decision: Decision, comment: str
) -> bool:
    """Whether a valid review of `holder` says this already of exactly this role: the same decision and comment.

    Raises:
        SignatureError: `holder` is no reviewer; or the role is malformed.
    """
    anchor.roles["reviewer"].key_of(holder)
    path = directory / f"{holder}.json"
    if not path.exists():
        return False
    review, _ = _read(path, role_bytes, model_of(role_bytes), anchor)
    standing = "approved" if decision == "approve" else "rejected"
    return (review.standing, review.comment) == (standing, comment[:MAX_COMMENT])


def _open(role_bytes: bytes, release_bytes: bytes, anchor: Anchor, holder: str, signer: KeySigner) -> Release:
    """The release in question, once the role lists it and the key is the reviewer's."""
    key = anchor.roles["reviewer"].key_of(holder)
    if signer.public_key.keyid != key.keyid:
        raise KeyAccessError(f"{holder}: expected the key {key.keyid[:12]}… that the anchor has, got {signer!r}")
    model = model_of(role_bytes)
    check_release(parse_role(role_bytes, model), release_bytes, model)
    release = Release.from_bytes(release_bytes)
    if release.model != model:
        raise EvidenceError(f"release: expected one of {model}, whose role lists it, got {release.model}")
    return release


def _attempt(
    event: Literal["approved", "rejected"], release_bytes: bytes, holder: str, now: datetime, comment: str
) -> Entry:
    """What the audit log will say of it. The release may be malformed: that will be the refusal."""
    said = {"comment": comment} if comment else {}
    try:
        return Entry.about(Release.from_bytes(release_bytes), event, holder, now, **said)
    except TwinsealError:
        return Entry(now, event, fit(holder, MAX_NAME) or "nobody", sha256=sha256(release_bytes))


def _signed(
    holder: str,
    decision: Decision,
    comment: str,
    release: Release,
    role_bytes: bytes,
    *,
    signer: KeySigner,
    now: datetime,
) -> dict[str, Any]:
    said = {
        "decision": decision,
        "holder": holder,
        "comment": comment[:MAX_COMMENT],
        "time": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "model": release.model,
        "version": release.version,
        "role_sha256": sha256(role_bytes),
    }
    statement = Statement((Subject(release.target, release.sha256),), REVIEW, said)
    return {
        **said,
        "release_sha256": release.sha256,
        "review": parse_json(sign_envelope(statement.to_bytes(), signer), "review"),
        "signature": sign_role(role_bytes, signer) if decision == "approve" else None,
    }


def _write(path: Path, value: dict[str, Any]) -> Path:
    write_json(path, value)
    log.info("release.reviewed", **{name: value[name] for name in ("decision", "holder", "model", "version")})
    return path


def _read(path: Path, role_bytes: bytes, model: str, anchor: Anchor) -> tuple[Review, dict[str, str] | None]:
    try:
        value = _parse(path)
        said = _authentic(value, path.stem, anchor)
        standing, reason = _standing(said, value, role_bytes, model)
        if standing == "approved" and not count(role_bytes, [value["signature"]], anchor, model).signed == (path.stem,):
            raise SignatureError(f"{path.name}: expected the signature of {path.stem} over the role, got another")
    except TwinsealError as error:
        log.warning("review.invalid", file=path.name, reason=str(error))
        return Review(path.stem, "invalid", "", "", str(error)), None
    review = Review(path.stem, standing, said["comment"], said["time"], reason)
    return review, value["signature"] if standing == "approved" else None


def _parse(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_APPROVAL_BYTES + 1)
    except OSError as error:
        raise EvidenceError(f"{path.name}: expected a review, got none ({error.strerror})") from error
    value = parse_json(data, path.name, limit=MAX_APPROVAL_BYTES)
    if not isinstance(value, dict) or set(value) != _FIELDS:
        raise EvidenceError(f"{path.name}: expected exactly {', '.join(sorted(_FIELDS))}, got {str(value)[:80]}")
    if value["signature"] is not None:
        signature(value["signature"], path.name)
    return value


def _authentic(value: dict[str, Any], holder: str, anchor: Anchor) -> dict[str, Any]:
    """What the reviewer signed; everything readable in the file must say the same."""
    reviewers = anchor.roles["reviewer"]
    single = RoleKeys(f"reviewer {holder}", 1, tuple(item for item in reviewers.holders if item.name == holder))
    payload = verify_envelope(canonical_json(value["review"]), single, f"review by {holder}")
    statement = Statement.from_bytes(payload, f"review by {holder}")
    said = statement.predicate
    shown = {name: value[name] for name in said if name in value}
    if statement.predicate_type != REVIEW or set(said) != _FIELDS - {"release_sha256", "review", "signature"}:
        raise EvidenceError(f"review by {holder}: expected a {REVIEW}, got {statement.predicate_type}")
    subject = Subject(target_path(str(said["model"])), value["release_sha256"])
    if said != shown or said["holder"] != holder or statement.subjects != (subject,):
        raise EvidenceError(f"review by {holder}: expected the file to say what was signed, got something else")
    if not isinstance(said["comment"], str) or not isinstance(said["time"], str):
        raise EvidenceError(f"review by {holder}: expected a comment and a time in words, got something else")
    return said


def _standing(said: dict[str, Any], value: dict[str, Any], role_bytes: bytes, model: str) -> tuple[Standing, str]:
    if said["role_sha256"] != sha256(role_bytes):
        about = f"version {said['version']} of {said['model']}"
        return "stale", f"about another release ({about}), or staged anew since; not about this one of {model}"
    if said["decision"] == "reject":
        return "rejected", "a rejection is shown, never counted"
    if said["decision"] != "approve" or value["signature"] is None:
        raise EvidenceError(f"review: expected approve with a signature, got {str(said['decision'])[:40]!r}")
    return "approved", ""
