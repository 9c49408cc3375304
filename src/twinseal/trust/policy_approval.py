"""The approval of the policy: its owners, k of n, sign every file of policy/ as it is, and what it replaces.

    approvals/policy/proposed.dsse.json   while owners are still missing
    approvals/policy/approved.dsse.json   signed by enough of them; `sign` puts it into the bundle, for the twin to see

A candidate is judged by files that an engineer can edit: gates, threats, contracts. Whoever removes a gate passes any
model. So a release must carry the owners' signatures over exactly the policy that its verdict names; reviewers and
twins refuse all else (`release.candidate`). The statement holds the content of the files, not only their digests: what
changed from one release to the next can then be shown in words (`twinseal.policy_changes`).

Each approval has the number after the one that it replaces. A release may not go back to an earlier number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from twinseal.digests import sha256
from twinseal.errors import ConfigError, EvidenceError, KeyAccessError, PolicyError, SignatureError
from twinseal.evidence import POLICY_APPROVAL, Statement, Subject
from twinseal.files import write_whole
from twinseal.policy_changes import policy_changes
from twinseal.policy_entries import FOLDER
from twinseal.policy_files import Policy
from twinseal.reading import read_regular
from twinseal.trust.audit import Entry, Log, log_of
from twinseal.trust.keys.key import NamedSigner, short_fingerprint
from twinseal.trust.root.anchor import Anchor
from twinseal.trust.root.home import Home
from twinseal.trust.root.pins import RoleKeys
from twinseal.trust.signing.dsse import (
    MAX_ENVELOPE_BYTES,
    add_signature,
    envelope_keyids,
    sign_envelope,
    verify_envelope,
)

APPROVED, PROPOSED = "approved.dsse.json", "proposed.dsse.json"
ROLE = "owner"
MAX_NUMBER = 2**31
_FIELDS = frozenset(("number", "replaces", "time", "content"))


@dataclass(frozen=True)
class Approval:
    """What owners have signed.

    Attributes:
        number: 1 for the first; then one more each time.
        replaces: SHA-256 of the statement that it replaces; "" for the first.
        time: When the first owner signed, RFC 3339, UTC.
        files: The files, named `policy/…`, and the digest of all of them, named `policy`.
        content: The value of each file, by its name.
        sha256: Of the signed statement.
    """

    number: int
    replaces: str
    time: str
    files: tuple[Subject, ...]
    content: Mapping[str, Any]
    sha256: str

    @classmethod
    def of(cls, statement: Statement, where: str = "policy approval") -> Approval:
        """What a verified statement says.

        Raises:
            EvidenceError: It is no approval of a policy, or names no digest of the whole.
        """
        value = statement.predicate
        if statement.predicate_type != POLICY_APPROVAL or set(value) != _FIELDS:
            raise EvidenceError(f"{where}: expected the approval of a policy, got {statement.predicate_type}")
        number, replaces, time, content = (value[name] for name in ("number", "replaces", "time", "content"))
        if type(number) is not int or not 1 <= number <= MAX_NUMBER:
            raise EvidenceError(f"{where}: number: expected 1 to {MAX_NUMBER}, got {str(number)[:40]}")
        if not isinstance(content, dict) or not isinstance(replaces, str) or not isinstance(time, str):
            raise EvidenceError(f"{where}: expected the content of each file, got {str(content)[:80]}")
        names = {subject.name for subject in statement.subjects}
        if names != {FOLDER, *(f"{FOLDER}/{name}" for name in content)}:
            raise EvidenceError(f"{where}: expected a digest for each file and for all of them, got {sorted(names)}")
        return cls(number, replaces, time, statement.subjects, content, sha256(statement.to_bytes()))

    def is_of(self, policy: Policy) -> bool:
        """Whether it is the approval of exactly `policy`: its files, and what it says that is in them.

        Evidence is compared with the content (`policy_entries.part_subjects`): an owner must not add a signature to
        other content beside the right digests.
        """
        return set(self.files) == set(policy.subjects) and self.content == policy.content

    @property
    def digest(self) -> str:
        """That of the whole policy, as a verdict and a release name it."""
        return next(subject.sha256 for subject in self.files if subject.name == FOLDER)


@dataclass(frozen=True)
class PolicyState:
    """Where the policy in hand stands.

    Attributes:
        policy: As it is now.
        approved: The newest approval that enough owners signed; None before the first.
        signed: Owners who have signed the policy in hand.
        missing: How many more must.
        can_sign: Owners who have not.
    """

    policy: Policy
    approved: Approval | None
    signed: tuple[str, ...]
    missing: int
    can_sign: tuple[str, ...]

    @property
    def is_approved(self) -> bool:
        """Whether the policy in hand is the approved one."""
        return self.approved is not None and self.approved.is_of(self.policy)


def policy_state(folder: Path, approvals: Path, anchor: Anchor) -> PolicyState:
    """The policy in `folder`, its approval in `approvals`, and who is missing.

    Raises:
        ConfigError, EvidenceError: A file of the policy is none.
    """
    policy, owners = Policy.read(folder), anchor.roles[ROLE]
    approved = _read(approvals / APPROVED, owners)
    proposed = _read(approvals / PROPOSED, replace(owners, threshold=1))
    for path, found in ((APPROVED, approved), (PROPOSED, proposed)):
        if found is not None and found.is_of(policy):
            keyids = envelope_keyids(read_regular(approvals / path, MAX_ENVELOPE_BYTES), path)
            signed = tuple(holder.name for holder in owners.holders if holder.key.keyid in keyids)
            others = tuple(holder.name for holder in owners.holders if holder.name not in signed)
            return PolicyState(policy, approved, signed, max(0, owners.threshold - len(signed)), others)
    return PolicyState(policy, approved, (), owners.threshold, tuple(holder.name for holder in owners.holders))


def approve_policy(
    folder: Path,
    approvals: Path,
    owner: NamedSigner,
    *,
    anchor: Anchor,
    audit: Log,
    now: datetime,
    at_least: int = 0,
    shown: Policy | None = None,
) -> PolicyState:
    """Sign the policy in `folder` as it is, as `owner`. Again: nothing changes.

    Side effects: an entry in the audit log, `policy` or `refused`; then `proposed.dsse.json`, which becomes
    `approved.dsse.json` once enough owners have signed.

    Args:
        folder: policy/.
        approvals: approvals/policy/.
        owner: Who signs.
        anchor: Who owns the policy.
        audit: Where it is logged, before it counts.
        now: Aware, UTC.
        at_least: The number of the approval in the last release; the next is higher.
        shown: What the owner has read; nothing else is signed.

    Raises:
        SignatureError: The holder is no owner.
        KeyAccessError: The key is not the one that the anchor has for the holder.
        ExpiredError: The owners' keys are pinned no longer.
        PolicyError: The policy is not the one that was shown.
        AuditError: It cannot be logged: nothing was signed.
    """
    state = policy_state(folder, approvals, anchor)
    digest = state.policy.digest.sha256
    attempt = Entry(now, "policy", owner.holder or "nobody", details={"policy_sha256": digest})
    with audit.log_refusal(attempt):
        _check_owner(owner, anchor)
        anchor.check_role(ROLE, now)
        if shown is not None and shown != state.policy:
            raise PolicyError(
                f"{folder}: expected the policy that was shown, got another one since",
                remedy="Nothing was signed. Read it again: twinseal policy show",
            )
        if owner.holder in state.signed:
            return state
        data = _signed_by_one_more(approvals, state, owner, now, at_least)
        audit.append(attempt)
        write_whole(approvals / PROPOSED, data)
        if len(envelope_keyids(data, PROPOSED)) >= anchor.roles[ROLE].threshold:
            (approvals / PROPOSED).replace(approvals / APPROVED)
    return policy_state(folder, approvals, anchor)


def approve_with_all(home: Home, folder: Path, approvals: Path, now: datetime) -> None:
    """Sign the policy in `folder` as every owner whose key is in the home: for a demo, whose keys are all there.

    Raises:
        KeyAccessError: A key cannot be opened.
    """
    anchor = home.anchor()
    for holder in anchor.roles[ROLE].holders:
        owner = NamedSigner(holder.name, home.signer(holder.name))
        approve_policy(folder, approvals, owner, anchor=anchor, audit=log_of(home.path), now=now)


def require_approved(folder: Path, approvals: Path, anchor: Anchor) -> tuple[Approval, bytes]:
    """The approval of exactly the policy in `folder`, and its bytes for the bundle.

    Raises:
        PolicyError: The owners have not approved this policy; says what changed since the one that they did approve.
    """
    state = policy_state(folder, approvals, anchor)
    if state.approved is not None and state.is_approved:
        return state.approved, read_regular(approvals / APPROVED, MAX_ENVELOPE_BYTES)
    changes = policy_changes(state.approved.content, state.policy.content) if state.approved else ()
    shown = "; ".join(map(str, changes[:5])) + ("; …" if len(changes) > 5 else "")
    since = f"changed since they did: {shown or 'comments only'}" if state.approved else "they have approved none yet"
    owners = anchor.roles[ROLE]
    raise PolicyError(
        f"{folder}: expected the policy that {owners.threshold} of its owners approved, got another ({since})",
        remedy=f"Undo the change, or ask the owners ({', '.join(state.can_sign)}) to look at it and sign: "
        "twinseal policy show && twinseal policy approve --as NAME",
    )


def _read(path: Path, owners: RoleKeys) -> Approval | None:
    """The approval in a file; None where there is none that enough of `owners` signed: then it is as good as absent."""
    try:
        data = read_regular(path, MAX_ENVELOPE_BYTES)
        statement = Statement.from_bytes(verify_envelope(data, owners, path.name), path.name)
        return Approval.of(statement, path.name)
    except (OSError, SignatureError, EvidenceError):
        return None


def _check_owner(owner: NamedSigner, anchor: Anchor) -> None:
    key = anchor.roles[ROLE].key_of(owner.holder)
    if owner.signer.public_key.keyid != key.keyid:
        raise KeyAccessError(
            f"{owner.holder}: expected the key {short_fingerprint(key)}… that the anchor has, "
            f"got {short_fingerprint(owner.signer.public_key)}…",
            remedy=f"Sign with the key of {owner.holder}: --key URI. All keys: twinseal trust show",
        )


def _signed_by_one_more(approvals: Path, state: PolicyState, owner: NamedSigner, now: datetime, at_least: int) -> bytes:
    if state.signed:  # others signed it already: in which of the two files, `policy_state` has looked in this order
        name = APPROVED if state.is_approved else PROPOSED
        return add_signature(read_regular(approvals / name, MAX_ENVELOPE_BYTES), owner.signer, name)
    before = state.approved
    predicate = {
        "number": max(before.number if before else 0, at_least) + 1,
        "replaces": before.sha256 if before else "",
        "time": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "content": dict(state.policy.content),
    }
    statement = Statement(tuple(sorted(state.policy.subjects)), POLICY_APPROVAL, predicate)
    try:
        return sign_envelope(statement.to_bytes(), owner.signer)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"policy: expected values that JSON has a form for, got {error}") from error
