"""Reviews: which candidates wait on this server, what reviewers have decided, and what follows from it.

    <home>/reviews/<candidate>/release.json, role.json   what reviewers sign
    <home>/reviews/<candidate>/submitted.json            which account asked for the review, and when
    <home>/reviews/<candidate>/approvals/                one file for each reviewer's decision, and each comment

The server holds no reviewer's key. A decision comes signed, by a passkey or from a terminal; it is verified, logged,
written, in that order (`trust.release.decisions`), so a server that is killed has it whole or not at all. When enough
have signed, the registrar's key, which is this machine's, publishes the release.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import structlog

from twinseal.errors import EvidenceError, RegistryError, SignatureError, TwinsealError
from twinseal.files import write_json
from twinseal.reading import read_regular
from twinseal.registry import registration
from twinseal.registry.store import Store, check_model_id, connect, is_absent, registry_errors
from twinseal.server.counters import growing_counter
from twinseal.server.people import Person
from twinseal.server.places import candidate_folder
from twinseal.trust.audit import log_of
from twinseal.trust.release import repository
from twinseal.trust.release.candidate import VerifiedBundle, verify_release
from twinseal.trust.release.decisions import (
    RecordedDecision,
    check_decision,
    draft_decision,
    receive_review,
)
from twinseal.trust.release.request import RELEASE_FILE, Request
from twinseal.trust.release.review_file import MAX_APPROVAL_BYTES, Decision, Draft, parse_review
from twinseal.trust.release.reviews import Reviews, newest_decision, read_all
from twinseal.trust.release.terms import check_terms
from twinseal.trust.root.home import Home
from twinseal.trust.root.roles import Roles

log = structlog.get_logger(__name__)

State = Literal["waits", "approved", "rejected", "registered", "replaced"]
SUBMITTED = "submitted.json"
MAX_SUBMITTED_BYTES = 4096


@dataclass(frozen=True)
class Case:
    """One candidate that reviewers were asked about.

    Attributes:
        model_id: The candidate.
        request: What they sign.
        reviews: What they have decided.
        submitted_by: The account that asked.
        submitted_at: When, RFC 3339.
        state: waits (for signatures), approved (enough, not published yet), rejected, registered (this is the current
            release), replaced (a later one is, or another candidate became this one).
        bundle: The candidate, verified just now; None when it does not verify.
        passed: The steps of that verification that passed, in words.
        fault: Why it does not verify; "" when it does.
    """

    model_id: str
    request: Request
    reviews: Reviews
    submitted_by: str
    submitted_at: str
    state: State
    bundle: VerifiedBundle | None
    passed: tuple[str, ...]
    fault: str


class Desk:
    """The reviews of one deployment.

    Args:
        home: The deployment.
        database: The address of MLflow's database.
    """

    def __init__(self, home: Home, database: str) -> None:
        self._home, self._database = home, database
        self.told: Callable[[], None] = lambda: None  # called when something was decided, before it is answered
        self.folder = home.path / "reviews"

    @property
    def home(self) -> Home:
        """The deployment."""
        return self._home

    def open(self, model_id: str, person: Person, now: datetime) -> Request:
        """Ask for a review of the candidate: its next release is staged. Again while it waits: nothing changes.

        Side effects: as `registration.open_review`; then the folder of the review.

        Raises:
            RegistryError: MLflow has no such candidate, or it is not complete.
            TrustError, EvidenceError, GateRefusedError, ConfigError: As `registration.open_review`.
        """
        folder, store = self._folder(model_id), self._store()
        bundle = self._bundle_folder(store, model_id, ready=True)
        if (folder / RELEASE_FILE).exists():
            waiting = Request.read(folder)
            published = repository.current_release(self._home, waiting.release.model)
            if waiting.release.version == (0 if published is None else published.version) + 1 and self._in_time(
                waiting, bundle, now
            ):
                return waiting
        request = registration.open_review(
            store, self._home, bundle, folder, model_id=model_id, submitted_by=person.name, now=now
        )
        time = now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        write_json(folder / SUBMITTED, {"account": person.name, "time": time})
        log.info("review.opened", model_id=model_id, model=request.release.model, version=request.release.version)
        self.told()
        return request

    def current_releases(self) -> dict[str, int]:
        """The version of the current release of each model; 0 before the first."""
        found = {model: repository.current_release(self._home, model) for model in self._home.anchor().models}
        return {model: 0 if release is None else release.version for model, release in found.items()}

    def all(self) -> Iterator[Case]:
        """Every case, those that wait first, then by model and the newest first. One that is damaged is left out."""
        found = []
        for path in sorted(self.folder.glob(f"m-*/{RELEASE_FILE}")):
            try:
                found.append(self.find(path.parent.name))
            except TwinsealError as error:
                log.warning("review.unreadable", model_id=path.parent.name, error=str(error))
        waiting = ("waits", "approved", "rejected")
        found.sort(key=lambda case: case.submitted_at, reverse=True)
        yield from sorted(found, key=lambda case: (case.state not in waiting, case.request.release.model))

    def find(self, model_id: str) -> Case:
        """The case of a candidate, verified now.

        Raises:
            RegistryError: Nobody asked for its review.
            SignatureError, EvidenceError, AuditError: The request, or the log, is damaged.
        """
        folder = self._folder(model_id)
        if not (folder / RELEASE_FILE).exists():
            raise RegistryError(
                f"review: expected a candidate that waits here, got {model_id}",
                remedy="Its engineer submits it: dvc repro, with MLFLOW_TRACKING_URI as this server's address.",
            )
        request, bundle, fault, passed = Request.read(folder), None, "", list[str]()
        try:
            place, anchor = self.bundle_folder(model_id), self._home.anchor()
            bundle = verify_release(place, request.release, anchor, passed=lambda _step, what: passed.append(what))
        except (TwinsealError, OSError) as error:
            fault = f"{error} {getattr(error, 'remedy', '')}".strip()
        audit = log_of(self._home.path)
        built_by = () if bundle is None else bundle.built_by
        reviews = read_all(folder / "approvals", request, self._home.anchor(), audit, built_by=built_by)
        account, time = _read_submitted(folder / SUBMITTED)
        state = self._state(request, reviews)
        return Case(model_id, request, reviews, account, time, state, bundle, tuple(passed), fault)

    def holder_of(self, person: Person) -> str:
        """The reviewer that an account is, by its name or one of the accounts that custodians have signed; "" if none.

        A key decides whose signature it is: this only says whose decisions a page offers.
        """
        reviewers = self._home.anchor().roles["reviewer"]
        names = [holder.name for holder in reviewers.holders]
        if person.name in names:
            return person.name
        known = {name.casefold(): holder for holder, accounts in reviewers.quorum.accounts for name in accounts}
        return known.get(person.name.casefold(), "")

    def draft(self, model_id: str, holder: str, decision: Decision, comment: str, now: datetime) -> Draft:
        """What `holder` is asked to sign, once it is certain that the decision would be taken.

        Raises:
            TrustError, EvidenceError, GateRefusedError: As `decisions.check_decision`.
        """
        folder, case = self._folder(model_id), self.find(model_id)
        request, anchor, audit = case.request, self._home.anchor(), log_of(self._home.path)
        known = newest_decision(
            folder / "approvals", holder, request.release, anchor, audit, comment=decision == "comment"
        )
        self._require_waiting(case)
        self._require_not_submitter(case, holder, decision)
        check_decision(
            request,
            holder,
            decision,
            comment,
            known=known,
            anchor=anchor,
            now=now,
            bundle=self.bundle_folder(model_id),
            roles=self._roles(case),
            last=repository.last_published(self._home, request.release.model),
        )
        return draft_decision(request, holder, decision, comment, anchor=anchor, known=known, now=now)

    def receive(self, model_id: str, value: Any, person: Person, now: datetime) -> RecordedDecision:
        """Take a signed decision of the reviewer who sends it: verified, logged, then written.

        Raises:
            SignatureError: It is another's than the account's, or not validly signed.
            TrustError, EvidenceError, GateRefusedError, AuditError: As `decisions.receive_review`.
        """
        case, holder = self.find(model_id), self.holder_of(person)
        said = value.get("holder") if isinstance(value, Mapping) else None
        if not holder or said != holder:
            raise SignatureError(
                f"review: expected one of {holder or 'a reviewer'}, whose account sends it, got {str(said)[:60]}",
                remedy="Sign in with your own account.",
            )
        self._require_waiting(case)
        if isinstance(value, Mapping) and value.get("decision") == "approve":
            self._require_not_submitter(case, holder, "approve")
        bundle, approvals = self.bundle_folder(model_id), self._folder(model_id) / "approvals"
        with self._home.locked():  # of two that follow the same decision, the second must see the first
            anchor, audit, approvals = (
                self._home.anchor(),
                log_of(self._home.path),
                self._folder(model_id) / "approvals",
            )
            signed, release = parse_review(value, anchor), case.request.release
            known = newest_decision(
                approvals, holder, release, anchor, audit, comment=signed.said.decision == "comment"
            )
            is_known = signed.digest == known.digest  # sent again: then its counter is no news
            with nullcontext() if is_known else growing_counter(self.folder, value, anchor):
                recorded = receive_review(
                    approvals,
                    value,
                    case.request,
                    bundle,
                    anchor=anchor,
                    roles=self._roles(case),
                    last=repository.last_published(self._home, release.model),
                    audit=audit,
                    now=now,
                )
        self.told()
        return recorded

    def publish(self, model_id: str, now: datetime) -> registration.Registration:
        """Register the release, if enough have signed and nobody has rejected it; else say that it is pending.

        Raises:
            KeyAccessError: The registrar's key is not on this machine.
            TrustError, EvidenceError, RegistryError, AuditError: As `registration.register`.
        """
        folder, case = self._folder(model_id), self.find(model_id)
        registered = registration.register(
            self._store(),
            self._home,
            self.bundle_folder(model_id),
            folder,
            folder / "approvals",
            roles=self._roles(case),
            now=now,
        )
        self.told()
        return registered

    def review_files(self, model_id: str) -> dict[str, Any]:
        """Every review of the candidate as it was signed, by the name of its file; what is no JSON is left out."""
        found = {}
        for path in sorted((self._folder(model_id) / "approvals").glob("*.json")):
            with suppress(OSError, ValueError):
                found[path.name] = json.loads(read_regular(path, MAX_APPROVAL_BYTES))
        return found

    def bundle_folder(self, model_id: str) -> Path:
        """The folder of a candidate's files on this machine.

        Raises:
            RegistryError: MLflow has no such candidate.
        """
        return self._bundle_folder(self._store(), model_id)

    def report_folder(self, model_id: str) -> Path:
        """The folder on this machine in which the candidate's run has `reports/`; it need not exist.

        Raises:
            RegistryError: MLflow has no such candidate, or no run for it.
        """
        store = self._store()
        with registry_errors(f"candidate {model_id}"):
            run = store.client.get_logged_model(model_id).source_run_id
            if not run:
                raise RegistryError(f"candidate {model_id}: expected a run with its reports, got none")
            return candidate_folder(self._home, str(store.client.get_run(run).info.artifact_uri))

    def _store(self) -> Store:
        return connect(self._home, self._database)

    def _folder(self, model_id: str) -> Path:
        check_model_id(model_id)
        return self.folder / model_id

    def _bundle_folder(self, store: Store, model_id: str, *, ready: bool = False) -> Path:
        check_model_id(model_id)
        with registry_errors(f"candidate {model_id}"):
            try:
                found = store.client.get_logged_model(model_id)
            except Exception as error:
                if is_absent(error):
                    raise RegistryError(f"candidate: expected one that MLflow has, got {model_id}") from error
                raise
        if ready and str(found.status) != "READY":
            raise RegistryError(
                f"candidate {model_id}: expected one that is complete (READY), got {str(found.status)[:40]}"
            )
        return candidate_folder(self._home, str(found.artifact_location))

    def _in_time(self, request: Request, bundle: Path, now: datetime) -> bool:
        """Whether a request can still be signed."""
        try:
            verified = verify_release(bundle, request.release, self._home.anchor())
            roles = Roles.of_policy(verified.policy.content)
            last = repository.last_published(self._home, request.release.model)
            check_terms(request, anchor=self._home.anchor(), roles=roles, last=last, now=now)
        except TwinsealError:
            return False
        return True

    def _roles(self, case: Case) -> Roles:
        """The roles of the policy that owners have signed and the candidate was judged by.

        Raises:
            EvidenceError: The candidate does not verify.
        """
        if case.bundle is None:
            raise EvidenceError(f"candidate {case.model_id}: expected one that verifies, got: {case.fault}")
        return Roles.of_policy(case.bundle.policy.content)

    def _state(self, request: Request, reviews: Reviews) -> State:
        release = request.release
        published = repository.current_release(self._home, release.model)
        if published is not None and published.version >= release.version:
            return "registered" if published.sha256 == release.sha256 else "replaced"
        if reviews.rejections:
            return "rejected"
        return "waits" if reviews.count.missing or reviews.count.wanting else "approved"

    def _require_waiting(self, case: Case) -> None:
        if case.state in ("registered", "replaced"):
            raise EvidenceError(
                f"release {case.request.release.version} of {case.request.release.model}: expected one that waits for "
                f"a decision, got one that is {case.state}"
            )

    def _require_not_submitter(self, case: Case, holder: str, decision: Decision) -> None:
        """Refuse an approval by whoever submitted the candidate; the signed evidence says it of whoever built it."""
        quorum = self._home.anchor().roles["reviewer"].quorum
        if decision == "approve" and quorum.is_among(holder, (case.submitted_by,)):
            raise EvidenceError(
                f"approval: expected a reviewer who did not submit the candidate, got {holder} "
                f"(submitted by {case.submitted_by})",
                remedy="Another reviewer must approve it.",
            )


def _read_submitted(path: Path) -> tuple[str, str]:
    try:
        value = json.loads(read_regular(path, MAX_SUBMITTED_BYTES))
        return str(value["account"]), str(value["time"])
    except (OSError, ValueError, KeyError, TypeError):  # a server that was killed in between
        return "", ""
