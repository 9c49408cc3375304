"""The way of a release: reviewers are asked to sign, and once enough have, it is registered.

    request     the signed bundle becomes MLflow's candidate; release.json and the unsigned role are what reviewers sign
    register    k of n have signed: verified from the bytes, published in the repository of record, then in MLflow

The pipeline's stages and the command line call these. Each logs its decision, or its refusal, in the home's audit log
before it takes effect. On a server that reviews (`review_server.py`), the server does both.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from twinseal.digests import sha256_file
from twinseal.errors import AuditError, EvidenceError, TwinsealError
from twinseal.evidence import Statement
from twinseal.registry.describe import describe, terminal_command
from twinseal.registry.register import CHAMPION, mirror_metadata
from twinseal.registry.register import publish as offer
from twinseal.registry.review_server import ReviewServer, review_server
from twinseal.registry.run import RunRecord
from twinseal.registry.store import Store, registry_errors
from twinseal.registry.submit import (
    REGISTERED,
    REJECTED,
    WAITS,
    describe_candidate,
    name_run,
    show_registered,
    show_state,
    show_submitted,
    submit,
)
from twinseal.trust.audit import Entry, log_of
from twinseal.trust.keys.key import KeySigner
from twinseal.trust.keys.passphrases import Passphrase, from_environment
from twinseal.trust.release import approval, repository
from twinseal.trust.release.candidate import builders_of, verify_bundle, verify_release
from twinseal.trust.release.changes import changes_since_release, keep_evidence, require_no_older_policy
from twinseal.trust.release.model_role import ApprovalCount, count_approvals
from twinseal.trust.release.release import Release
from twinseal.trust.release.request import Request
from twinseal.trust.root.home import Home
from twinseal.trust.root.roles import Roles
from twinseal.trust.signing.attestation import read_attestation

APPROVE = "twinseal review show && twinseal approve --as <your name in policy/roles.yaml>"


@dataclass(frozen=True)
class Registration:
    """The state of a release.

    Attributes:
        release: The release.
        count: Who has signed, and who still can.
        status: `pending`, `registered`, or `published` when it had been before.
        mlflow_version: MLflow's own number for it; empty while pending.
    """

    release: Release
    count: ApprovalCount
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
    run: RunRecord,
    roles: Roles,
    now: datetime,
) -> Request:
    """Submit the signed bundle as MLflow's candidate, and stage its release for review.

    Side effects: a run and a candidate in MLflow; an entry in the audit log; then `release.json` and `role.json` in
    `directory`.

    Args:
        store: MLflow.
        home: The deployment; the bundle must satisfy its anchor.
        bundle: What `sign` made.
        directory: Where the request goes.
        model: Name of the model.
        policy_sha256: Digest of all of policy/, as the verdict has it.
        run: How the candidate was made, for people.
        roles: Until when an approval holds.
        now: Aware, UTC.

    Raises:
        RegistryError: MLflow could not be reached, or refused.
        TrustError, EvidenceError, GateRefusedError: The bundle is not one that a twin would admit.
    """
    server = review_server(store)
    if server is not None:
        return _request_from(server, store, home, bundle, directory, model=model, run=run)
    with home.locked():
        version = _next_version(home, model)
        description = _describe_waiting(home, bundle, model, version, APPROVE)
        model_id = submit(store, bundle, model=model, version=version, description_markdown=description, run=run)
        return _stage(
            store, home, bundle, directory, model=model, policy_sha256=policy_sha256, model_id=model_id, roles=roles,
            actor=roles["builder"].holders[0], now=now,
        )  # fmt: skip


def _request_from(
    server: ReviewServer, store: Store, home: Home, bundle: Path, directory: Path, *, model: str, run: RunRecord
) -> Request:
    """Submit the bundle to a server that reviews; what it stages, once that is exactly this bundle."""
    version, experiment = server.releases.get(model, 0) + 1, store.served_experiment(model)
    model_id = submit(store, bundle, model=model, version=version, run=run, experiment=experiment)
    pending = server.stage(model_id)
    release = pending.release
    verify_release(bundle, release, home.anchor())
    if (release.model, release.mlflow_model_id) != (model, model_id):
        raise EvidenceError(
            f"review: expected one of {model}, candidate {model_id}, got {release.model}, {release.mlflow_model_id}"
        )
    pending.write(directory)
    return pending


def open_review(
    store: Store, home: Home, bundle: Path, directory: Path, *, model_id: str, submitted_by: str, now: datetime
) -> Request:
    """Stage the next release of a candidate that MLflow has already, as a server does: who submitted it is elsewhere.

    What the candidate is, and by which policy, its own signed evidence says.

    Side effects: as `request`, but for the candidate.

    Args:
        store: MLflow.
        home: The deployment.
        bundle: The candidate's files.
        directory: Where the request goes.
        model_id: The candidate.
        submitted_by: The account that asks for the review, for the audit log.
        now: Aware, UTC.

    Raises:
        RegistryError: MLflow could not be reached, or refused.
        TrustError, EvidenceError, GateRefusedError: The bundle is not one that a twin would admit.
        ConfigError: The signed policy has no roles.
    """
    verified = verify_bundle(bundle, home.anchor())
    model, roles = verified.model, Roles.of_policy(verified.policy.content)
    with home.locked():
        version = _next_version(home, model)
        description = _describe_waiting(home, bundle, model, version, **_on_server(model_id))
        pending = _stage(
            store, home, bundle, directory, model=model, policy_sha256=verified.policy_sha256, model_id=model_id,
            roles=roles, actor=submitted_by, now=now,
        )  # fmt: skip
        describe_candidate(store, model_id, description, state=WAITS, stages=_record_digests(bundle, home))
        name_run(store, model_id, model, version)
        return pending


def _describe_waiting(
    home: Home, bundle: Path, model: str, version: int, approve_command: str = "", review: str = ""
) -> str:
    state = f"release {version} waits for {home.anchor().roles['reviewer'].threshold} reviewers"
    digests, verdict = _record_digests(bundle, home), _read_verdict(home, bundle)
    return describe(model, verdict, digests, approve_command=approve_command, state=state, review=review)


def _on_server(model_id: str) -> dict[str, str]:
    """How a candidate is approved on a server that reviews; its description is shown on the server itself."""
    command = terminal_command("approve", "<this server>", model_id, "<your name>")
    return {"approve_command": f"# On its review page; or in a terminal:\n{command}", "review": _review_page(model_id)}


def _review_page(model_id: str) -> str:
    return f"/twinseal/review/{model_id}"


def _next_version(home: Home, model: str) -> int:
    published = repository.current_release(home, model)
    return 1 if published is None else published.version + 1


def _stage(
    store: Store,
    home: Home,
    bundle: Path,
    directory: Path,
    *,
    model: str,
    policy_sha256: str,
    model_id: str,
    roles: Roles,
    actor: str,
    now: datetime,
) -> Request:
    version = _next_version(home, model)
    release = Release.describe(
        bundle,
        model=model,
        version=version,
        policy_sha256=policy_sha256,
        mlflow_model_id=model_id,
        parent_version=version - 1 or None,
    )
    audit, attempt = log_of(home.path), Entry.for_release(release, "submitted", actor, now)
    with audit.log_refusal(attempt):
        verify_release(bundle, release, home.anchor())
        role = repository.stage(home, release, expires=roles.expiry("reviewer", now))
        pending = Request(release, role)
        audit.append(attempt)
        pending.write(directory)
        show_submitted(store, model_id, version)
        return pending


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
    has_page: bool = False,
) -> Registration:
    """Register the release that waits in `directory` if enough reviewers have signed it. Again: nothing changes.

    With `has_page`, the descriptions in MLflow link to the candidate's review page on the same server.

    Side effects: an entry in the audit log for each decision that was made on another machine; and once the threshold
    is met, an entry in the audit log; the repository of record, then MLflow's copy of it, its model version, its alias
    `champion` and the candidate's description.

    Raises:
        TrustError, EvidenceError, GateRefusedError: The bundle is not what was signed, or an approval has expired.
        ThresholdError: Enough have signed, but somebody has rejected it; or too few are left without who built it.
        RegistryError: MLflow could not be reached, or refused.
        AuditError: It cannot be logged: nothing was published.
    """
    server = review_server(store)
    if server is not None:
        return _standing_on(server, store, Request.read(directory).release)
    with home.locked():
        pending, audit, registrar_name = Request.read(directory), log_of(home.path), roles["registrar"].holders[0]
        if not audit.path.exists():
            raise AuditError(
                f"{audit.path}: expected the audit log that the first root began, got none",
                remedy="Restore it from its backup: without it, a decision that was taken back could count again.",
            )
        builders = _builders(bundle, home)
        reviews = approval.read_all(approvals, pending, home.anchor(), audit, built_by=builders)
        if reviews.unlogged:
            audit.append(
                *(approval.received_entry(new, pending.release, registrar_name, now) for new in reviews.unlogged)
            )
        if reviews.count.missing or reviews.rejections:
            show_waiting(store, pending, reviews)
        if reviews.count.missing:
            return Registration(pending.release, reviews.count, "pending")
        signers = ", ".join(reviews.count.signed)
        attempt = Entry.for_release(pending.release, "registered", registrar_name, now, approved_by=signers)
        with audit.log_refusal(attempt):
            registrar = home.role_signer(home.anchor().roles["registrar"], passphrase=passphrase)
            return _register(
                store, home, bundle, pending, reviews, attempt, registrar=registrar, roles=roles, now=now,
                review=_review_page(pending.release.mlflow_model_id) if has_page else "",
            )  # fmt: skip


def _standing_on(server: ReviewServer, store: Store, release: Release) -> Registration:
    """Where a release stands on the server that reviews and publishes it."""
    state, count = server.standing(release.mlflow_model_id)
    if state != "registered":
        return Registration(release, count, "pending")
    with registry_errors(f"alias {CHAMPION} of {release.model}"):
        version = store.client.get_model_version_by_alias(release.model, CHAMPION).version
    return Registration(release, count, "published", str(version))


def _register(
    store: Store,
    home: Home,
    bundle: Path,
    pending: Request,
    reviews: approval.Reviews,
    attempt: Entry,
    *,
    registrar: KeySigner,
    roles: Roles,
    now: datetime,
    review: str,
) -> Registration:
    verified, model = verify_release(bundle, pending.release, home.anchor()), pending.release.model
    require_no_older_policy(changes_since_release(home, model, verified.statements))
    # Only now is it certain who built it.
    count = count_approvals(pending.role_bytes, reviews.signatures, home.anchor(), model, built_by=verified.built_by)
    count.require_complete()
    how: Any = {"registrar": registrar, "roles": roles, "now": now, "built_by": verified.built_by}
    published_before = repository.current_release(home, model)
    if published_before is None or published_before.sha256 != pending.release.sha256:  # else nothing changes
        reviews.require_publishable()
        repository.check_publication(home, pending, reviews.signatures, **how)
        log_of(home.path).append(attempt)  # only what can be published now
    published = repository.publish(home, pending, reviews.signatures, **how)
    release = pending.release
    keep_evidence(home, release.model, bundle)
    signed = f"release {release.version}, approved by {', '.join(reviews.count.signed)}"
    verdict, digests = _read_verdict(home, bundle), _record_digests(bundle, home)
    description = describe(release.model, verdict, digests, state=signed, review=review)
    number = offer(
        store,
        home,
        model=release.model,
        version=release.version,
        model_id=release.mlflow_model_id,
        description_markdown=description,
    )
    describe_candidate(store, release.mlflow_model_id, description, state=REGISTERED, stages=digests)
    show_registered(store, release.mlflow_model_id, release.model, release.version)
    return Registration(release, reviews.count, "registered" if published.changed else "published", number)


def renew(
    store: Store, home: Home, *, roles: Roles, now: datetime, passphrase: Passphrase = from_environment
) -> datetime:
    """Confirm that what is published is current, also in MLflow; run from a timer. Until when it is valid.

    Side effects: an entry in the audit log; a new snapshot and timestamp in the repository of record, then MLflow's
    copies of it.

    Raises:
        KeyAccessError: The registrar's key is not here, or not the one that the root names.
        RegistryError: MLflow could not be reached, or refused; call it again.
        RootError: The repository is absent or damaged; or a ceremony holds the home's lock.
    """
    with home.locked():
        role = home.anchor().roles["registrar"]
        registrar, until = home.role_signer(role, passphrase=passphrase), roles.expiry("registrar", now)
        details = {"until": f"{until:%Y-%m-%d}"}
        log_of(home.path).append(Entry(now, "renewed", role.holder_of(registrar.public_key.keyid), details=details))
        expires = repository.renew(home, registrar=registrar, roles=roles, now=now)
        mirror_metadata(store, home)
        return expires


def show_waiting(store: Store, pending: Request, reviews: approval.Reviews) -> None:
    """Say on the candidate's page where its release stands now, while it is not registered."""
    state = REJECTED if reviews.rejections else WAITS
    show_state(store, pending.release.mlflow_model_id, state, _waits_for(pending.release.version, reviews))


def _waits_for(version: int, reviews: approval.Reviews) -> str:
    """Where a release stands that is not registered yet."""
    signed, rejected = ", ".join(reviews.count.signed), ", ".join(item.holder for item in reviews.rejections)
    parts = [f"release {version} waits for {reviews.count.missing} more reviewers"]
    parts += reviews.count.wanting
    parts += [f"approved by {signed}"] if signed else []
    parts += [f"rejected by {rejected}"] if rejected else []
    return "; ".join(parts)


def _builders(bundle: Path, home: Home) -> tuple[str, ...]:
    """Who built the candidate, as far as a bundle says that is not verified yet: only to say who may still approve."""
    with suppress(TwinsealError):
        return builders_of(bundle, home.anchor())
    return ()


def _read_verdict(home: Home, bundle: Path) -> Statement:
    return read_attestation(bundle / "evidence" / "assess.dsse.json", "assess", home.anchor())


def _record_digests(bundle: Path, home: Home) -> dict[str, str]:
    names = [requirement.name for requirement in home.anchor().evidence]
    return {name: sha256_file(bundle / "evidence" / f"{name}.dsse.json") for name in names}
