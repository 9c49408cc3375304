"""The TUF repository of record: the registrar grows it, one approved release at a time.

    metadata/   <n>.root.json  <n>.targets.json  <n>.<model>.json  <n>.snapshot.json  timestamp.json
    targets/    <model>/<sha256>.release.json

`timestamp.json` is the state: files that it does not lead to do not count. All other files are written first, under
names that nothing refers to yet, so an interrupted publication changes nothing: run it again.

Custodians decide who is trusted (`twinseal.trust.ceremonies.custody`); `publish` only counts signatures.
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
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    Targets,
    Timestamp,
)

from twinseal.errors import KeyAccessError, RollbackError, RootError, ThresholdError
from twinseal.files import write_whole
from twinseal.reading import read_regular
from twinseal.trust.keys.key import KeySigner, fingerprints
from twinseal.trust.release.counters import check_counters
from twinseal.trust.release.model_role import (
    ApprovalCount,
    assemble_signed_role,
    check_expiry,
    check_release,
    compose_role,
    count_approvals,
    model_of,
    parse_role,
)
from twinseal.trust.release.release import Release, target_path
from twinseal.trust.release.request import Request
from twinseal.trust.release.terms import LastPublished, check_terms
from twinseal.trust.root.home import Home
from twinseal.trust.root.metadata import MAX_METADATA_BYTES, parse, signed_bytes
from twinseal.trust.root.roles import Roles

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Publication:
    """What a publication did.

    Attributes:
        release: The release that is current now.
        role_version: The version of the model's role.
        changed: False when it had been published before.
    """

    release: Release
    role_version: int
    changed: bool


def current_release(home: Home, model: str) -> Release | None:
    """The release of `model` that the repository has published; None before the first.

    Raises:
        RootError: The repository is absent or damaged.
    """
    role = role_of(home, model)
    return None if role is None else _release_of(home, role, model)


def last_published(home: Home, model: str) -> LastPublished | None:
    """The versions that the repository has published last for `model`; None when this home has no repository.

    Raises:
        RootError: The repository is damaged.
    """
    if not home.repository.is_dir():
        return None
    role = role_of(home, model)
    return (
        LastPublished() if role is None else LastPublished(_release_of(home, role, model).version, role.signed.version)
    )


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
    role = role_of(home, release.model)
    if role is not None:
        _check_newer(release, _release_of(home, role, release.model))
    return compose_role(release, version=1 if role is None else role.signed.version + 1, expires=expires)


def publish(
    home: Home,
    request: Request,
    signatures: Iterable[Mapping[str, str]],
    *,
    registrar: KeySigner,
    roles: Roles,
    now: datetime,
    built_by: Iterable[str] = (),
) -> Publication:
    """Publish an approved release. Doing it again changes nothing.

    Side effects: writes targets/, then metadata/, `timestamp.json` last.

    Args and errors: as of `check_publication`.
    """
    release = request.release
    approved = check_publication(
        home, request, signatures, registrar=registrar, roles=roles, now=now, built_by=built_by
    )
    model = model_of(request.role_bytes)
    version = parse_role(request.role_bytes, model).signed.version
    if approved is None:
        return Publication(release, version, changed=False)
    target = home.repository / "targets" / model / f"{release.sha256}.release.json"
    write_whole(target, request.release_bytes)
    write_whole(home.repository / "metadata" / f"{version}.{model}.json", approved)
    meta = dict(snapshot(home).meta) | {f"{model}.json": MetaFile.from_data(version, approved, ["sha256"])}
    sign_snapshot_and_timestamp(
        home, meta, version=timestamp(home).version + 1, registrar=registrar, roles=roles, now=now
    )
    log.info("release.published", model=model, version=release.version, role_version=version)
    return Publication(release, version, changed=True)


def check_publication(
    home: Home,
    request: Request,
    signatures: Iterable[Mapping[str, str]],
    *,
    registrar: KeySigner,
    roles: Roles,
    now: datetime,
    built_by: Iterable[str] = (),
) -> bytes | None:
    """The signed role that publishing an approved release would write; None when it is published already.

    Args:
        home: Where the repository of record is.
        request: What the reviewers have signed.
        signatures: The reviewers', as `sign_role` gave them.
        registrar: Signs snapshot and timestamp.
        roles: For how long those hold.
        now: Aware, UTC.
        built_by: Who built the candidate, from its verified verdict: they are not counted. Twins look again.

    Raises:
        DigestMismatchError: The release is not the one that the role lists.
        ThresholdError: Too few reviewers have signed; names who can still sign.
        ExpiredError: The approval, or what the root says of a role, is too old.
        RollbackError: The role, or the release, is not the next.
        KeyAccessError: The registrar's key is not the one that the root names.
        SignatureError, EvidenceError: Something is malformed, the counter of a passkey has not grown, or the terms are
            not those of policy (`check_terms`).
        RootError: The repository is absent or damaged.
    """
    release, role_bytes = request.release, request.role_bytes
    model = model_of(role_bytes)
    role = parse_role(role_bytes, model)
    check_release(role, request.release_bytes, model)
    before = role_of(home, model)
    if before is not None and signed_bytes(before, model) == signed_bytes(role, model):
        return None
    check_expiry(role, now, f"approval of {model}")
    home.anchor().check_current(now)
    approved = assemble_signed_role(role_bytes, signatures, home.anchor(), model, built_by=built_by)
    check_counters(before, parse_role(approved, model), home.anchor(), model)
    if before is not None:
        _check_newer(release, _release_of(home, before, model))
    _check_next(role.signed.version, 0 if before is None else before.signed.version, model)
    check_terms(request, anchor=home.anchor(), roles=roles, last=last_published(home, model), now=now)
    _check_delegation(home, approved, model)
    _require_registrar(home, registrar)
    return approved


def renew(home: Home, *, registrar: KeySigner, roles: Roles, now: datetime) -> datetime:
    """Confirm that what is published is current: a new snapshot and timestamp. Run it from a timer, before they expire.

    Returns:
        When the new timestamp expires.

    Raises:
        KeyAccessError: The registrar's key is not the one that the root names.
        RootError: The repository is absent or damaged.
    """
    meta, version = dict(snapshot(home).meta), timestamp(home).version + 1
    sign_snapshot_and_timestamp(home, meta, version=version, registrar=registrar, roles=roles, now=now)
    log.info("repository.renewed", version=version)
    return roles.expiry("registrar", now)


def sign_snapshot_and_timestamp(
    home: Home, meta: dict[str, MetaFile], *, version: int, registrar: KeySigner | None, roles: Roles, now: datetime
) -> None:
    """Write snapshot and timestamp of one version over `meta`. Their versions run together: one key signs both.

    Raises:
        KeyAccessError: The registrar's key is not the one that the newest root names.
    """
    registrar = _require_registrar(home, registrar)
    expires = roles.expiry("registrar", now)
    listing = sign_metadata(Snapshot(version=version, expires=expires, meta=meta), [registrar])
    listed = MetaFile.from_data(version, listing, ["sha256"])
    metadata = home.repository / "metadata"
    write_whole(metadata / f"{version}.snapshot.json", listing)
    # The switch: before this write the old state is current, after it the new one.
    stamp = sign_metadata(Timestamp(version=version, expires=expires, snapshot_meta=listed), [registrar])
    write_whole(metadata / "timestamp.json", stamp)


def _require_registrar(home: Home, registrar: KeySigner | None) -> KeySigner:
    root = _current_root(home)
    if registrar is None or registrar.public_key.keyid not in root.roles["timestamp"].keyids:
        expected = fingerprints(root.get_key(keyid) for keyid in root.roles["timestamp"].keyids)
        raise KeyAccessError(
            f"registrar: expected the key {expected} that the root names, "
            f"got {fingerprints(registrar and [registrar.public_key])}",
            remedy="Use the registrar's key, in $TWINSEAL_REGISTRAR_KEY or keys/registrar.pem of the home.",
        )
    return registrar


def _current_root(home: Home) -> Root:
    """The newest root: custodians add `2.root.json` and so on, as clients look for them, one by one."""
    version = 1
    while (home.repository / "metadata" / f"{version + 1}.root.json").exists():
        version += 1
    return parse(Root, _read(home, f"{version}.root.json"), f"{version}.root.json").signed


def sign_metadata(payload: Any, signers: list[KeySigner]) -> bytes:
    """Metadata over `payload`, signed by all of `signers`."""
    metadata = Metadata(payload)
    for signer in signers:
        metadata.sign(signer, append=True)
    return metadata.to_bytes()


def timestamp(home: Home) -> Timestamp:
    """The current timestamp.

    Raises:
        RootError: The repository is absent or damaged.
    """
    return parse(Timestamp, _read(home, "timestamp.json"), "timestamp.json").signed


def snapshot(home: Home) -> Snapshot:
    """The current snapshot.

    Raises:
        RootError: The repository is absent or damaged.
    """
    name = f"{timestamp(home).snapshot_meta.version}.snapshot.json"
    return parse(Snapshot, _read(home, name), name).signed


def delegation(home: Home) -> Targets:
    """The current delegation to the reviewers.

    Raises:
        RootError: The repository is absent or damaged.
    """
    name = f"{snapshot(home).meta['targets.json'].version}.targets.json"
    return parse(Targets, _read(home, name), name).signed


def role_of(home: Home, model: str) -> Metadata[Targets] | None:
    """The published role of `model`; None before its first release.

    Raises:
        RootError: The repository is absent or damaged.
    """
    listed = snapshot(home).meta.get(f"{model}.json")
    return None if listed is None else parse_role(_read(home, f"{listed.version}.{model}.json"), model)


def approvals_of(home: Home, model: str) -> ApprovalCount | None:
    """Which reviewers' approvals of the current release count today; None before the first release.

    Raises:
        RootError: The repository is absent or damaged.
    """
    role = role_of(home, model)
    return None if role is None else count_approvals(role.to_bytes(), (), home.anchor(), model)


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


def _check_delegation(home: Home, signed: bytes, model: str) -> None:
    """Refuse here what every twin would refuse: the custodians delegate to other reviewers than the anchor pins."""
    targets = delegation(home)
    role = parse_role(signed, model)
    try:
        targets.verify_delegate(model, signed_bytes(role, model), role.signatures)
    except (RepositoryError, ValueError) as error:
        raise ThresholdError(f"role {model}: expected the reviewers whom targets delegates to ({error})") from error


def _read(home: Home, name: str) -> bytes:
    return _read_file(home.repository / "metadata" / name)


def _read_file(path: Path) -> bytes:
    try:
        return read_regular(path, MAX_METADATA_BYTES)
    except OSError as error:
        raise RootError(
            f"{path}: expected the repository of record, got none ({error.strerror})",
            remedy="Restore it from its backup, or make a new home: twinseal init",
        ) from error
