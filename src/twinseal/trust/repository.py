"""The TUF repository of record: made once by the custodians, grown by the registrar, one approved release at a time.

    metadata/   1.root.json  1.targets.json  <n>.<model>.json  <n>.snapshot.json  timestamp.json
    targets/    <model>/<sha256>.release.json

`timestamp.json` is the state: what it does not lead to does not exist. Everything else is written first, under names
that nothing refers to yet, so that an interrupted publication changes nothing and is simply run again.

Nothing here decides who is trusted: `create` writes down what policy says, and `publish` only counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import structlog
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import (  # type: ignore[attr-defined]  # tuf re-exports these without saying so
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    Targets,
    Timestamp,
)

from twinseal.digests import sha256
from twinseal.errors import KeyAccessError, RollbackError, RootError, ThresholdError
from twinseal.files import write_whole
from twinseal.trust.anchor import DEMO_FIELD, Anchor, Holder, RoleKeys
from twinseal.trust.home import Home
from twinseal.trust.keys import Key, KeySigner
from twinseal.trust.metadata import MAX_METADATA_BYTES, parse, signed_bytes
from twinseal.trust.release import Release, target_path
from twinseal.trust.role import assemble, check_expiry, check_release, compose, model_of, parse_role
from twinseal.trust.roles import SEPARATE, Roles

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Published:
    """What a publication did.

    Attributes:
        release: The release that is current now.
        role_version: The version of the model's role.
        changed: False when it had been published before.
    """

    release: Release
    role_version: int
    changed: bool


def create(
    home: Home, roles: Roles, keys: Mapping[str, Key], signers: Mapping[str, KeySigner], now: datetime, *, demo: bool
) -> Anchor:
    """Write the first metadata of a repository, and the anchor that leads to it.

    Side effects: writes `home.repository` and, last, `home.anchor_dir`.

    Args:
        home: Where; must not hold an anchor yet.
        roles: Who holds what.
        keys: The public key of every holder in `roles`, by name.
        signers: At least as many custodians as root and targets demand, and the registrar.
        now: Aware, UTC.
        demo: Say in the root and in the anchor that the keys are throw-away.

    Raises:
        RootError: There is an anchor already; or keys that policy keeps apart are one.
        KeyAccessError: A public key, or the registrar's signer, is missing.
        ThresholdError: Too few custodians sign.
    """
    if home.anchor_dir.exists():
        raise RootError(
            f"{home.anchor_dir}: expected no anchor yet, found one",
            remedy="It is never overwritten: move the old home away if you mean it.",
        )
    missing = [holder for holder in roles.holders if holder not in keys]
    if missing:
        raise KeyAccessError(f"init: expected a public key of every holder, got none for {', '.join(missing)}")
    root = _signed(_root(roles, keys, now, demo), _custodians("root", roles, signers))
    targets = _signed(_targets(roles, keys, now), _custodians("targets", roles, signers))
    anchor = Anchor(root, roles.models, {name: _role_keys(name, roles, keys) for name in SEPARATE}, demo=demo)
    metadata = home.repository / "metadata"
    write_whole(metadata / "1.root.json", root)
    write_whole(metadata / "1.targets.json", targets)
    meta = {"targets.json": MetaFile.from_data(1, targets, ["sha256"])}
    registrar = signers.get(roles["registrar"].holders[0])
    _refresh(home, meta, version=1, registrar=registrar, roles=roles, now=now)
    anchor.write(home.anchor_dir)
    log.info("anchor.created", demo=demo, fingerprint=anchor.fingerprint[:12], models=list(roles.models))
    return anchor


def current(home: Home, model: str) -> Release | None:
    """The release of `model` that the repository has published; None before the first.

    Raises:
        RootError: The repository is absent or damaged.
    """
    role = _current_role(home, model)
    return None if role is None else _release_of(home, role, model)


def stage(home: Home, release: Release, *, expires: datetime) -> bytes:
    """The unsigned next version of the model's role, listing `release`: what reviewers will sign.

    Args:
        home: Where the repository of record is.
        release: The release to be decided on.
        expires: Until when an approval holds, aware, UTC; `Roles.expiry("reviewer", now)`.

    Raises:
        RollbackError: The release is not newer than the one published.
        RootError: The repository is absent or damaged, or knows no such model.
    """
    role = _current_role(home, release.model)
    if role is not None:
        _check_newer(release, _release_of(home, role, release.model))
    return compose(release, version=1 if role is None else role.signed.version + 1, expires=expires)


def publish(
    home: Home,
    role_bytes: bytes,
    signatures: Iterable[Mapping[str, str]],
    release_bytes: bytes,
    *,
    registrar: KeySigner,
    roles: Roles,
    now: datetime,
) -> Published:
    """Publish an approved release. Doing it again changes nothing.

    Side effects: writes targets/, then metadata/, `timestamp.json` last.

    Args:
        home: Where the repository of record is.
        role_bytes: What `stage` gave.
        signatures: The reviewers', as `sign_role` gave them.
        release_bytes: The exact release.json.
        registrar: Signs snapshot and timestamp.
        roles: For how long those hold.
        now: Aware, UTC.

    Raises:
        DigestMismatchError: The release is not the one that the role lists.
        ThresholdError: Too few reviewers have signed; names who may.
        ExpiredError: The approval is too old.
        RollbackError: The role, or the release, is not the next.
        KeyAccessError: The registrar's key is not the one that the root names.
        SignatureError, EvidenceError: Something is malformed.
        RootError: The repository is absent or damaged.
    """
    model = model_of(role_bytes)
    role = parse_role(role_bytes, model)
    check_release(role, release_bytes, model)
    release = Release.from_bytes(release_bytes)
    before = _current_role(home, model)
    if before is not None and signed_bytes(before, model) == signed_bytes(role, model):
        return Published(release, role.signed.version, changed=False)
    check_expiry(role, now, f"approval of {model}")
    signed = assemble(role_bytes, signatures, home.anchor(), model)
    if before is not None:
        _check_newer(release, _release_of(home, before, model))
    _check_next(role.signed.version, 0 if before is None else before.signed.version, model)
    _check_delegated(home, signed, model)
    target = home.repository / "targets" / model / f"{sha256(release_bytes)}.release.json"
    write_whole(target, release_bytes)
    write_whole(home.repository / "metadata" / f"{role.signed.version}.{model}.json", signed)
    meta = dict(_snapshot(home).meta) | {f"{model}.json": MetaFile.from_data(role.signed.version, signed, ["sha256"])}
    _refresh(home, meta, version=_timestamp(home).version + 1, registrar=registrar, roles=roles, now=now)
    log.info("release.published", model=model, version=release.version, role_version=role.signed.version)
    return Published(release, role.signed.version, changed=True)


def renew(home: Home, *, registrar: KeySigner, roles: Roles, now: datetime) -> datetime:
    """Say again that what is published is current: a new snapshot and timestamp. Headless; run it before they expire.

    Returns:
        When the new timestamp expires.

    Raises:
        KeyAccessError: The registrar's key is not the one that the root names.
        RootError: The repository is absent or damaged.
    """
    meta, version = dict(_snapshot(home).meta), _timestamp(home).version + 1
    _refresh(home, meta, version=version, registrar=registrar, roles=roles, now=now)
    log.info("repository.renewed", version=version)
    return roles.expiry("registrar", now)


def _root(roles: Roles, keys: Mapping[str, Key], now: datetime, demo: bool) -> Root:
    root = Root(expires=roles.expiry("root", now), consistent_snapshot=True)
    held = {"root": "root", "targets": "targets", "snapshot": "registrar", "timestamp": "registrar"}
    for tuf_role, ours in held.items():
        for holder in roles[ours].holders:
            root.add_key(keys[holder], tuf_role)
        root.roles[tuf_role].threshold = roles[ours].threshold
    if demo:
        root.unrecognized_fields[DEMO_FIELD] = True
    return root


def _targets(roles: Roles, keys: Mapping[str, Key], now: datetime) -> Targets:
    """Delegates each model to the reviewers: one path, terminating, so that no other role can list it."""
    reviewers = {keys[holder].keyid: keys[holder] for holder in roles["reviewer"].holders}
    threshold = roles["reviewer"].threshold
    delegated = {
        model: DelegatedRole(model, list(reviewers), threshold, terminating=True, paths=[target_path(model)])
        for model in roles.models
    }
    return Targets(expires=roles.expiry("targets", now), delegations=Delegations(reviewers, delegated))


def _role_keys(name: str, roles: Roles, keys: Mapping[str, Key]) -> RoleKeys:
    return RoleKeys(name, roles[name].threshold, tuple(Holder(holder, keys[holder]) for holder in roles[name].holders))


def _custodians(name: str, roles: Roles, signers: Mapping[str, KeySigner]) -> list[KeySigner]:
    here = [signers[holder] for holder in roles[name].holders if holder in signers]
    if len(here) < roles[name].threshold:
        absent = ", ".join(holder for holder in roles[name].holders if holder not in signers)
        raise ThresholdError(
            f"{name}: expected {roles[name].threshold} custodians to sign, got {len(here)}; absent: {absent}"
        )
    return here


def _signed(payload: Any, signers: list[KeySigner]) -> bytes:
    metadata = Metadata(payload)
    for signer in signers:
        metadata.sign(signer, append=True)
    return metadata.to_bytes()


def _refresh(
    home: Home, meta: dict[str, MetaFile], *, version: int, registrar: KeySigner | None, roles: Roles, now: datetime
) -> None:
    """Write snapshot and timestamp of one version over `meta`. Their versions run together: one key signs both."""
    root = _current_root(home)
    if registrar is None or registrar.public_key.keyid not in root.roles["timestamp"].keyids:
        raise KeyAccessError(f"registrar: expected the key that the root names, got {registrar!r}")
    expires = roles.expiry("registrar", now)
    snapshot = _signed(Snapshot(version=version, expires=expires, meta=meta), [registrar])
    listed = MetaFile.from_data(version, snapshot, ["sha256"])
    metadata = home.repository / "metadata"
    write_whole(metadata / f"{version}.snapshot.json", snapshot)
    # The switch: before this write the old state is current, after it the new one.
    timestamp = _signed(Timestamp(version=version, expires=expires, snapshot_meta=listed), [registrar])
    write_whole(metadata / "timestamp.json", timestamp)


def _current_root(home: Home) -> Root:
    """The newest root: custodians add `2.root.json` and so on, as clients look for them, one by one."""
    version = 1
    while (home.repository / "metadata" / f"{version + 1}.root.json").exists():
        version += 1
    return parse(Root, _read(home, f"{version}.root.json"), f"{version}.root.json").signed


def _timestamp(home: Home) -> Timestamp:
    return parse(Timestamp, _read(home, "timestamp.json"), "timestamp.json").signed


def _snapshot(home: Home) -> Snapshot:
    name = f"{_timestamp(home).snapshot_meta.version}.snapshot.json"
    return parse(Snapshot, _read(home, name), name).signed


def _current_role(home: Home, model: str) -> Metadata[Targets] | None:
    listed = _snapshot(home).meta.get(f"{model}.json")
    return None if listed is None else parse_role(_read(home, f"{listed.version}.{model}.json"), model)


def _release_of(home: Home, role: Metadata[Targets], model: str) -> Release:
    digest = role.signed.targets[target_path(model)].hashes["sha256"]
    path = home.repository / "targets" / model / f"{digest}.release.json"
    data = _read_file(path)
    check_release(role, data, model)
    return Release.from_bytes(data, str(path))


def _check_newer(release: Release, published: Release) -> None:
    if release.version <= published.version:
        raise RollbackError(
            f"release version: expected > {published.version}, got {release.version} ({release.model})",
            remedy="Submit the candidate again: dvc repro submit",
        )


def _check_next(version: int, published: int, model: str) -> None:
    if version != published + 1:
        raise RollbackError(
            f"role {model}: expected version {published + 1}, the next, got {version}",
            remedy="Something was published since it was staged. Submit it again, and have it reviewed again.",
        )


def _check_delegated(home: Home, signed: bytes, model: str) -> None:
    """Refuse here what every twin would refuse: the custodians delegate to other reviewers than the anchor pins."""
    name = f"{_snapshot(home).meta['targets.json'].version}.targets.json"
    targets = parse(Targets, _read(home, name), name).signed
    role = parse_role(signed, model)
    try:
        targets.verify_delegate(model, signed_bytes(role, model), role.signatures)
    except (RepositoryError, ValueError) as error:
        raise ThresholdError(f"role {model}: expected the reviewers whom targets delegates to ({error})") from error


def _read(home: Home, name: str) -> bytes:
    return _read_file(home.repository / "metadata" / name)


def _read_file(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(MAX_METADATA_BYTES + 1)
    except OSError as error:
        raise RootError(
            f"{path}: expected the repository of record, got none ({error.strerror})",
            remedy="Restore it from its backup, or make a new home: twinseal init",
        ) from error
