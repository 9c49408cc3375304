"""Custody: the next root and the next delegation, proposed, signed by custodians one after the other, published.

    <home>/proposal/    root.json, targets.json: what waits for signatures; carried from custodian to custodian

Every change of the keys or roles goes this one way: the first ceremony, a renewal, a rotation, a revocation.
Publication, numbered as in the body of `publish`:

1. enough custodians of the old root and of the new one have signed (TUF 1.0, 5.3.4), and enough sign the delegation
2. the proposal is the next after what is published, and has not expired
3. the decision is in the audit log: what cannot be logged does not happen
4. the delegation, the root, then snapshot and timestamp by the registrar whom the new root names
5. the anchor, from which new twins are installed, last: without it the publication is simply done again
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import structlog
from tuf.api.metadata import (  # type: ignore[attr-defined]  # tuf re-exports these without saying so
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Targets,
)

from twinseal.errors import AuditError, KeyAccessError, RollbackError, RootError, ThresholdError
from twinseal.files import write_whole
from twinseal.reading import read_regular
from twinseal.trust.audit import Entry, log_of, set_aside
from twinseal.trust.audit.entry import MAX_TEXT
from twinseal.trust.keys.key import Key, KeySigner, fingerprint, fingerprints
from twinseal.trust.release.model_role import check_expiry
from twinseal.trust.release.release import target_path
from twinseal.trust.release.repository import sign_snapshot_and_timestamp, snapshot, timestamp
from twinseal.trust.root.anchor import ROOT, Anchor, verified_successor
from twinseal.trust.root.home import Home
from twinseal.trust.root.metadata import MAX_METADATA_BYTES, keys_that_signed, parse, signed_bytes
from twinseal.trust.root.pins import FIELD, REQUIRED, Holder, Pins, Requirement, RoleKeys
from twinseal.trust.root.roles import NAMES, PINNED_UNTIL, TUF_ROLES, Roles

log = structlog.get_logger(__name__)

TARGETS = "targets.json"
_RECOVER = (
    "Put the log back from its backup, then: twinseal trust sign. If there is none, find out how it was lost; then "
    "begin another, which says so in its first entry: twinseal trust sign --new-log"
)


@dataclass(frozen=True)
class Proposal:
    """A root and a delegation that wait for signatures, or have enough.

    Attributes:
        root: TUF root metadata.
        targets: TUF targets metadata that delegates each model to its reviewers.
    """

    root: bytes
    targets: bytes

    @classmethod
    def read(cls, directory: Path) -> Proposal:
        """The proposal in `directory`.

        Raises:
            RootError: There is none.
        """
        try:
            parts = []
            for name in (ROOT, TARGETS):
                parts.append(read_regular(directory / name, MAX_METADATA_BYTES))
        except OSError as error:
            raise RootError(
                f"{directory}: expected a proposal that waits for custodians, got none ({error.strerror})",
                remedy="Make one: twinseal trust renew, or twinseal keys rotate|revoke NAME",
            ) from error
        return cls(*parts)

    def write(self, directory: Path) -> None:
        """Leave it in `directory`.

        Raises:
            OSError: It cannot be written.
        """
        write_whole(directory / TARGETS, self.targets)
        write_whole(directory / ROOT, self.root)

    @property
    def pins(self) -> Pins:
        """What the root would pin.

        Raises:
            RootError, SignatureError: It is malformed.
        """
        return Pins.from_dict(parse(Root, self.root, ROOT).signed.unrecognized_fields.get(FIELD))


@dataclass(frozen=True)
class Waiting:
    """A count of signatures that a proposal does not reach yet.

    Attributes:
        what: What is to be signed.
        threshold: How many custodians it takes.
        signed: Who has signed.
        others: Who has not, and can.
    """

    what: str
    threshold: int
    signed: tuple[str, ...]
    others: tuple[str, ...]

    def __str__(self) -> str:
        count, names = f"{len(self.signed)} of {self.threshold}", ", ".join(self.signed) or "nobody"
        return f"{self.what}: {count} custodians have signed ({names}); can still sign: {', '.join(self.others)}"

    @property
    def refusal(self) -> str:
        """The same as the message of an error."""
        names = ", ".join(self.signed) or "nobody"
        return f"{self.what}: expected {self.threshold} custodians to sign, got {len(self.signed)} ({names})"


def pins_of(
    roles: Roles,
    keys: Mapping[str, Key],
    now: datetime,
    *,
    evidence: tuple[Requirement, ...] = REQUIRED,
    revoked: Iterable[str] = (),
    demo: bool = False,
) -> Pins:
    """The pins that policy asks for, with the keys of its holders.

    Args:
        roles: policy/roles.yaml.
        keys: The public key of every holder in `roles`, by name.
        now: Aware, UTC.
        evidence: What a release must carry.
        revoked: Fingerprints of keys that never count again.
        demo: Throw-away keys.

    Raises:
        KeyAccessError: A key is missing.
        RootError: A key is revoked, or keys that policy keeps apart are one.
    """
    missing = [holder for holder in roles.holders if holder not in keys]
    if missing:
        raise KeyAccessError(f"keys: expected a public key of every holder, got none for {', '.join(missing)}")
    table = {}
    for name in NAMES:
        holders = tuple(Holder(holder, keys[holder]) for holder in roles[name].holders)
        until = roles.expiry(name, now) if name in PINNED_UNTIL else None
        table[name] = RoleKeys(name, roles[name].threshold, holders, until, roles[name].quorum)
    return Pins(roles.models, table, evidence, tuple(sorted(set(revoked))), demo)


def propose(home: Home, pins: Pins, roles: Roles, now: datetime) -> Proposal:
    """The next root and delegation, without signatures.

    Args:
        home: Its anchor is succeeded; without one this is the first root.
        pins: The keys of each role, from now on.
        roles: For how long root and delegation hold.
        now: Aware, UTC.

    Raises:
        RootError: The anchor or the repository is damaged.
    """
    first = not home.anchor_dir.exists()
    root = compose_root(pins, 1 if first else home.anchor().version + 1, roles.expiry("root", now))
    version = 1 if first else snapshot(home).meta[TARGETS].version + 1
    return Proposal(root, compose_targets(pins, version, roles.expiry("targets", now)))


def compose_root(pins: Pins, version: int, expires: datetime) -> bytes:
    """The unsigned root that has these pins, and nothing else."""
    root = Root(version=version, expires=expires, consistent_snapshot=True)
    for tuf_role, ours in TUF_ROLES.items():
        for holder in pins.roles[ours].holders:
            root.add_key(holder.key, tuf_role)
        root.roles[tuf_role].threshold = pins.roles[ours].threshold
    root.unrecognized_fields[FIELD] = pins.to_dict()
    return Metadata(root).to_bytes()


def compose_targets(pins: Pins, version: int, expires: datetime) -> bytes:
    """The unsigned delegation of each model to the reviewers of these pins, and nothing else."""
    return Metadata(Targets(version=version, expires=expires, delegations=_delegations(pins))).to_bytes()


def sign(proposal: Proposal, here: Iterable[KeySigner], before: Anchor | None) -> Proposal:
    """The proposal with the signatures of those of `here` whom it concerns; others sign nothing.

    Raises:
        SignatureError, RootError: The proposal is malformed.
    """
    root, targets = parse(Root, proposal.root, ROOT), parse(Targets, proposal.targets, TARGETS)
    pins = proposal.pins
    of_root = set(pins.roles["root"].keys) | (set(before.roles["root"].keys) if before else set())
    for signer in here:
        if signer.public_key.keyid in of_root:
            root.sign(signer, append=True)
        if signer.public_key.keyid in pins.roles["targets"].keys:
            targets.sign(signer, append=True)
    return Proposal(root.to_bytes(), targets.to_bytes())


def missing_signatures(proposal: Proposal, before: Anchor | None) -> tuple[Waiting, ...]:
    """Whose signatures a proposal still waits for, one item for each count that is not met; () when it is complete.

    Raises:
        SignatureError, RootError: The proposal is malformed.
    """
    pins = proposal.pins
    root, targets = parse(Root, proposal.root, ROOT), parse(Targets, proposal.targets, TARGETS)
    counts: list[tuple[str, Metadata[Any], RoleKeys]] = [
        ("the new root", root, pins.roles["root"]),
        ("the delegation", targets, pins.roles["targets"]),
    ]
    if before is not None:
        counts.insert(0, ("the old root", root, before.roles["root"]))
    found = (_signatures(what, metadata, role) for what, metadata, role in counts)
    return tuple(item for item in found if len(item.signed) < item.threshold)


def publish(
    home: Home,
    proposal: Proposal,
    *,
    registrar: KeySigner | None,
    roles: Roles,
    now: datetime,
    new_log: bool = False,
) -> Anchor:
    """Make a proposal that enough custodians have signed the root of trust.

    Side effects: an entry in the audit log, after the old log was set aside if `new_log` asks for it; writes
    `home.repository`, then `home.anchor_dir`; removes `home.proposal_dir`.

    Args:
        home: Where.
        proposal: Signed.
        registrar: Signs snapshot and timestamp.
        roles: For how long those hold.
        now: Aware, UTC.
        new_log: Set aside the audit log, which was changed or lost, and begin another.

    Raises:
        ThresholdError: Too few custodians have signed; names who can still sign.
        RollbackError: It is not the next.
        ExpiredError: It is too old.
        KeyAccessError: The registrar's key is not the one that the new root names.
        AuditError: It cannot be logged, or the log is sound and `new_log` would replace it: nothing was published.
        RootError, SignatureError: It, or what is there, is malformed.
    """
    before = home.anchor() if home.anchor_dir.exists() else None
    waits = missing_signatures(proposal, before)  # 1
    if waits:
        others = ", ".join(dict.fromkeys(name for item in waits for name in item.others))
        raise ThresholdError(
            "; ".join(item.refusal for item in waits),
            remedy=f"Carry the proposal to those who can still sign ({others}), and there: twinseal trust sign",
        )
    anchor = Anchor(proposal.root) if before is None else verified_successor(before, proposal.root)
    targets = parse(Targets, proposal.targets, TARGETS)
    if targets.signed.targets or targets.signed.delegations != _delegations(anchor.pins):
        raise RootError(
            f"proposal {TARGETS}: expected a delegation to the reviewers whom {ROOT} pins, and no more, got another",
            remedy="The two files are from different proposals: delete both, and propose again.",
        )
    published = {} if before is None else dict(snapshot(home).meta)
    _check_next(targets, published.get(TARGETS), proposal.targets)  # 2
    for name, metadata in ((ROOT, parse(Root, proposal.root, ROOT)), (TARGETS, targets)):
        check_expiry(metadata, now, f"proposal {name}")
    if registrar is None or registrar.public_key.keyid not in anchor.roles["registrar"].keys:
        raise KeyAccessError(
            f"registrar: expected the key {fingerprints(anchor.roles['registrar'].keys.values())} that the new root "
            f"names, got {fingerprints(registrar and [registrar.public_key])}",
            remedy="Sign where the registrar's key is: twinseal trust sign",
        )
    _log(home, before, anchor, _names_of_signers(proposal, anchor), now, new_log)  # 3
    metadata_dir = home.repository / "metadata"
    write_whole(metadata_dir / f"{targets.signed.version}.{TARGETS}", proposal.targets)  # 4
    write_whole(metadata_dir / f"{anchor.version}.{ROOT}", proposal.root)
    listed = MetaFile.from_data(targets.signed.version, proposal.targets, ["sha256"])
    version = 1 if before is None else timestamp(home).version + 1
    sign_snapshot_and_timestamp(
        home, published | {TARGETS: listed}, version=version, registrar=registrar, roles=roles, now=now
    )
    anchor.write(home.anchor_dir)  # 5
    shutil.rmtree(home.proposal_dir, ignore_errors=True)
    log.info("anchor.published", version=anchor.version, demo=anchor.demo, fingerprint=anchor.fingerprint[:12])
    return anchor


def _log(home: Home, before: Anchor | None, after: Anchor, actor: str, now: datetime, new_log: bool) -> None:
    """Log this root, in another log if that was asked for.

    Raises:
        AuditError: The log was changed or lost, or cannot be written; or it is sound, and another was asked for.
    """
    log_here, entries = log_of(home.path), _audit_entries(before, after, actor, now)
    if new_log and before is not None:
        log_here.append(set_aside(home.path, actor, now), *entries)
        return
    if before is not None and not log_here.path.is_dir():
        raise AuditError(
            f"{log_here.path}: expected the audit log that the first root began, got none", remedy=_RECOVER
        )
    try:
        log_here.append(*entries)
    except AuditError as error:
        if not isinstance(error.__cause__, OSError):  # else the disk or the rights are to be mended
            error.remedy = f"{error.remedy} {_RECOVER}".strip()
        raise


def _audit_entries(before: Anchor | None, after: Anchor, actor: str, now: datetime) -> list[Entry]:
    """The audit entries for this root: the first one, keys that count no longer, or a renewal."""
    details = {"root": f"version {after.version}", "fingerprint": after.fingerprint}
    if before is None:
        return [Entry(now, "anchored", actor, details=details)]
    newly_revoked = set(after.pins.revoked) - set(before.pins.revoked)
    holders = {h.name: fingerprint(h.key) for role in before.roles.values() for h in role.holders}
    left = {h.name for role in after.roles.values() for h in role.holders}
    entries = [
        Entry(now, "rotated" if name in left else "revoked", actor, details=details | {"holder": name, "key": value})
        for name, value in holders.items()
        if value in newly_revoked
    ]
    return entries or [Entry(now, "renewed", actor, details=details | _changes(before, after))]


def _changes(before: Anchor, after: Anchor) -> dict[str, str]:
    """What a renewal changed, by role: new holders, removed holders, other keys, another threshold."""
    details = {}
    for name, role in after.roles.items():
        old = before.roles[name]
        keys, known = ({h.name: fingerprint(h.key)[:16] for h in r.holders} for r in (role, old))
        parts = [f"{holder} {key}" for holder, key in keys.items() if known.get(holder) != key]
        parts += [f"without {holder}" for holder in known if holder not in keys]
        parts += [f"threshold {role.threshold}"] if role.threshold != old.threshold else []
        parts += role.quorum.lines() or ["threshold alone"] if role.quorum != old.quorum else []
        if parts:
            details[name] = "; ".join(parts)[:MAX_TEXT]
    return details


def _names_of_signers(proposal: Proposal, anchor: Anchor) -> str:
    metadata = parse(Root, proposal.root, ROOT)
    role = anchor.roles["root"]
    keys = keys_that_signed(role.keys.values(), metadata.signatures, signed_bytes(metadata, ROOT))
    return ", ".join(role.holder_of(key.keyid) for key in keys)


def _delegations(pins: Pins) -> Delegations:
    """Each model to its reviewers: one path, terminating, so that no other role can list it."""
    all_reviewers, delegated = pins.roles["reviewer"], {}
    for model in pins.models:
        reviewers, paths = all_reviewers.of_model(model), [target_path(model)]
        delegated[model] = DelegatedRole(
            model, list(reviewers.keys), reviewers.threshold, terminating=True, paths=paths
        )
    return Delegations(all_reviewers.keys, delegated)


def _signatures(what: str, metadata: Metadata[Any], role: RoleKeys) -> Waiting:
    found = keys_that_signed(role.keys.values(), metadata.signatures, signed_bytes(metadata, what))
    names = tuple(role.holder_of(key.keyid) for key in found)
    others = tuple(holder.name for holder in role.holders if holder.name not in names)
    return Waiting(what, role.threshold, names, others)


def _check_next(targets: Metadata[Targets], published: MetaFile | None, data: bytes) -> None:
    version = 0 if published is None else published.version
    if targets.signed.version == version + 1:
        return
    if (
        published is not None
        and targets.signed.version == version
        and published == MetaFile.from_data(version, data, ["sha256"])
    ):
        return  # an interrupted publication, done again
    raise RollbackError(
        f"delegation: expected version {version + 1}, the next, got {targets.signed.version}",
        remedy="Something was published since it was proposed: delete the proposal, and make it again.",
    )
