"""The way of a release: requested of the reviewers, then registered once enough of them have signed.

    request     the signed bundle becomes MLflow's candidate; release.json and the unsigned role are what reviewers sign
    register    k of n have signed: verified from the bytes, published in the repository of record, then in MLflow

Both the pipeline's stages and the command line call these two. Each writes into the home's audit log before it takes
effect, and what it refuses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from twinseal.digests import sha256_file
from twinseal.evidence import Statement
from twinseal.registry.describe import describe
from twinseal.registry.register import mirror
from twinseal.registry.register import publish as offer
from twinseal.registry.store import Store
from twinseal.registry.submit import describe_candidate, submit
from twinseal.trust.attestation import read_attestation
from twinseal.trust.audit import Entry, log_of
from twinseal.trust.home import Home
from twinseal.trust.keys.key import KeySigner
from twinseal.trust.keys.passphrases import Passphrase, from_environment
from twinseal.trust.release import approval, repository
from twinseal.trust.release.candidate import verify_release
from twinseal.trust.release.model_role import Count
from twinseal.trust.release.release import Release
from twinseal.trust.release.request import Request
from twinseal.trust.root.roles import Roles

APPROVE = "twinseal review show && twinseal approve --as <your name in policy/roles.yaml>"


@dataclass(frozen=True)
class Registration:
    """How far a release has come.

    Attributes:
        release: The release.
        count: Who has signed, and who may.
        status: `pending`, `registered`, or `published` when it had been before.
        mlflow_version: MLflow's own number for it; empty while pending.
    """

    release: Release
    count: Count
    status: str
    mlflow_version: str = ""


def request(
    store: Store,
    home: Home,
    bundle: Path,
    directory: Path,
    *,
    model: str,
    policy_sha256: str,
    params: Mapping[str, Any],
    metrics: Mapping[str, Any],
    reports: Sequence[Path],
    roles: Roles,
    now: datetime,
) -> Request:
    """Submit the signed bundle as MLflow's candidate, and stage its release for review.

    Side effects: a run and a candidate in MLflow; an entry in the audit log; then `release.json` and `role.json` in
    `directory`.

    Raises:
        RegistryError: MLflow could not be reached, or refused.
        TrustError, EvidenceError, GateRefusedError: The bundle is not one that a twin would admit.
    """
    published = repository.current(home, model)
    version = 1 if published is None else published.version + 1
    verdict = _verdict(home, bundle)
    waiting = f"release {version} waits for {home.anchor().roles['reviewer'].threshold} reviewers"
    description = describe(model, verdict, _records(bundle, home), approve_command=APPROVE, state=waiting)
    model_id = submit(
        store, bundle, model=model, description_markdown=description, params=params, metrics=metrics, reports=reports
    )
    release = Release.describe(
        bundle,
        model=model,
        version=version,
        policy_sha256=policy_sha256,
        mlflow_model_id=model_id,
        parent_version=None if published is None else published.version,
    )
    audit, attempt = log_of(home.path), Entry.about(release, "submitted", roles["builder"].holders[0], now)
    with audit.refusing(attempt):
        verify_release(bundle, release, home.anchor())
        role = repository.stage(home, release, expires=roles.expiry("reviewer", now))
        made = Request(release, release.to_bytes(), role)
        audit.append(attempt)
        made.write(directory)
        return made


def register(
    store: Store,
    home: Home,
    bundle: Path,
    directory: Path,
    approvals: Path,
    *,
    roles: Roles,
    now: datetime,
    passphrase: Passphrase = from_environment,
) -> Registration:
    """Register the release that waits in `directory` if enough reviewers have signed it. Again: nothing changes.

    Side effects, once the threshold is met: an entry in the audit log; the repository of record, then MLflow's copy of
    it, its model version, its alias `champion` and the candidate's description.

    Raises:
        TrustError, EvidenceError, GateRefusedError: The bundle is not what was signed, or an approval has expired.
        RegistryError: MLflow could not be reached, or refused.
        AuditError: It cannot be logged: nothing was published.
    """
    waiting = Request.read(directory)
    tally = approval.read_all(approvals, waiting.role_bytes, home.anchor())
    if tally.count.missing:
        return Registration(waiting.release, tally.count, "pending")
    signers = ", ".join(tally.count.signed)
    attempt = Entry.about(waiting.release, "registered", roles["registrar"].holders[0], now, approved_by=signers)
    with log_of(home.path).refusing(attempt):
        registrar = home.role_signer(home.anchor().roles["registrar"], passphrase=passphrase)
        return _register(store, home, bundle, waiting, tally, attempt, registrar=registrar, roles=roles, now=now)


def _register(
    store: Store,
    home: Home,
    bundle: Path,
    waiting: Request,
    tally: approval.Reviews,
    attempt: Entry,
    *,
    registrar: KeySigner,
    roles: Roles,
    now: datetime,
) -> Registration:
    verify_release(bundle, waiting.release, home.anchor())
    standing = repository.current(home, waiting.release.model)
    if standing is None or standing.sha256 != waiting.release.sha256:  # again: nothing changes, nothing is logged
        log_of(home.path).append(attempt)
    published = repository.publish(
        home,
        waiting.role_bytes,
        tally.signatures,
        waiting.release_bytes,
        registrar=registrar,
        roles=roles,
        now=now,
    )
    release = waiting.release
    signed = f"release {release.version}, approved by {', '.join(tally.count.signed)}"
    description = describe(release.model, _verdict(home, bundle), _records(bundle, home), state=signed)
    number = offer(
        store,
        home,
        model=release.model,
        version=release.version,
        model_id=release.mlflow_model_id,
        description_markdown=description,
    )
    describe_candidate(store, release.mlflow_model_id, description)
    return Registration(release, tally.count, "registered" if published.changed else "published", number)


def renew(
    store: Store, home: Home, *, roles: Roles, now: datetime, passphrase: Passphrase = from_environment
) -> datetime:
    """Say again that what is published is current, also to MLflow; headless, from a timer. Until when that holds.

    Side effects: an entry in the audit log; a new snapshot and timestamp in the repository of record, then MLflow's
    copies of it.

    Raises:
        KeyAccessError: The registrar's key is not here, or not the one that the root names.
        RegistryError: MLflow could not be reached, or refused; call it again.
        RootError: The repository is absent or damaged.
    """
    role = home.anchor().roles["registrar"]
    registrar, until = home.role_signer(role, passphrase=passphrase), roles.expiry("registrar", now)
    attempt = Entry(now, "renewed", role.holder_of(registrar.public_key.keyid), details={"until": f"{until:%Y-%m-%d}"})
    log_of(home.path).append(attempt)
    expires = repository.renew(home, registrar=registrar, roles=roles, now=now)
    mirror(store, home)
    return expires


def _verdict(home: Home, bundle: Path) -> Statement:
    return read_attestation(bundle / "evidence" / "assess.dsse.json", "assess", home.anchor())


def _records(bundle: Path, home: Home) -> dict[str, str]:
    names = [requirement.name for requirement in home.anchor().evidence]
    return {name: sha256_file(bundle / "evidence" / f"{name}.dsse.json") for name in names}
