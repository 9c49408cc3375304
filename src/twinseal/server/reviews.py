"""Reviews: which candidates wait on this server, what reviewers have decided, and what follows from it.

    <home>/reviews/<candidate>/release.json, role.json   what reviewers sign
    <home>/reviews/<candidate>/submitted.json            which account asked for the review, and when
    <home>/reviews/<candidate>/offered.json              its publication is done, in MLflow too
    <home>/reviews/<candidate>/approvals/                one file for each reviewer's decision, and each comment
    <home>/reviews/counters.json                         how far the counter of each passkey has come (`counters.py`)
    <home>/reviews/runs/<run>                            only this server changes this run in MLflow (`closed.py`)

The server holds no reviewer's key. A decision comes signed, by a passkey or from a terminal; it is verified, logged,
written, in that order (`trust.release.decisions`), so a server that is killed has it whole or not at all. When enough
have signed, the registrar's key, which is this machine's, publishes the release.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import structlog

from twinseal.errors import AuditError, RegistryError, RootError, SignatureError, TwinsealError
from twinseal.files import write_json
from twinseal.reading import open_beneath, read_regular
from twinseal.registry import registration
from twinseal.registry.store import check_model_id
from twinseal.server.candidates import Candidates
from twinseal.server.cases import OFFERED, SUBMITTED, Case, Checked, Listing, read_submitted, state_of
from twinseal.server.closed import Closed
from twinseal.server.counters import growing_counter
from twinseal.server.people import Person
from twinseal.server.places import registry_lock
from twinseal.trust.audit import Log, log_of
from twinseal.trust.release import repository
from twinseal.trust.release.candidate import VerifiedBundle, builders_of, verify_release
from twinseal.trust.release.changes import changes_since_release, require_no_older_policy
from twinseal.trust.release.decisions import (
    RecordedDecision,
    check_decision,
    draft_decision,
    receive_review,
)
from twinseal.trust.release.request import RELEASE_FILE, Request
from twinseal.trust.release.review_file import MAX_APPROVAL_BYTES, Decision, Draft, parse_review
from twinseal.trust.release.reviews import newest_decision, read_all
from twinseal.trust.release.terms import check_terms
from twinseal.trust.root.anchor import Anchor
from twinseal.trust.root.home import Home
from twinseal.trust.root.roles import Roles

log = structlog.get_logger(__name__)


class Desk:
    """The reviews of one deployment.

    Args:
        home: The deployment.
        database: The address of MLflow's database.
    """

    def __init__(self, home: Home, database: str) -> None:
        self._home = home
        self.candidates = Candidates(home, database)
        self.told: Callable[[], None] = lambda: None  # called when something was decided, before it is answered
        self.folder, self._closed = home.path / "reviews", Closed(home.path)

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
        folder, store = self._folder(model_id), self.candidates.store()
        bundle = self.candidates.folder(model_id, complete=True)
        run = self.candidates.run(model_id)
        with registry_lock(self._home):
            was_open = self._closed.add_run(run)  # before anybody is asked to read it
            waiting = self._waiting(folder, bundle, now)
            if waiting is not None:
                return waiting
            # First: who submitted it must not approve it, also when this server is killed on the next line.
            time = now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            (folder / OFFERED).unlink(missing_ok=True)  # of the release before, if these bytes had one
            write_json(folder / SUBMITTED, {"account": person.name, "time": time})
            try:
                request = registration.open_review(
                    store, self._home, bundle, folder, model_id=model_id, submitted_by=person.name, now=now
                )
            except TwinsealError:
                if was_open and not (folder / RELEASE_FILE).exists():
                    self._closed.open_run(run)
                raise
        log.info("review.opened", model_id=model_id, model=request.release.model, version=request.release.version)
        self.told()
        return request

    def current_releases(self) -> dict[str, int]:
        """The version of the current release of each model; 0 before the first."""
        found = {model: repository.current_release(self._home, model) for model in self._home.anchor().models}
        return {model: 0 if release is None else release.version for model, release in found.items()}

    def all(self) -> Iterator[Listing]:
        """Every candidate, those that wait first, then by model and the newest first. What is damaged is left out.

        Raises:
            AuditError, RootError: The log, or the anchor, is damaged: then nothing is certain of any candidate.
        """
        found = list(self._listings(lambda _: True))
        found.sort(key=lambda item: item.submitted_at, reverse=True)
        yield from sorted(found, key=lambda item: (not item.is_open, item.request.release.model))

    def due(self) -> tuple[Listing, ...]:
        """Those that the registrar has something to do about. Read are only those that are not done.

        Raises:
            AuditError, RootError: As `all`.
        """
        return tuple(item for item in self._listings(lambda folder: not (folder / OFFERED).exists()) if item.is_due)

    def _listings(self, wanted: Callable[[Path], bool]) -> Iterator[Listing]:
        anchor, audit = self._home.anchor(), log_of(self._home.path).once()
        for path in sorted(self.folder.glob(f"m-*/{RELEASE_FILE}")):
            try:
                if wanted(path.parent):
                    yield self._listing(path.parent.name, anchor, audit)
            except (AuditError, RootError):
                raise
            except TwinsealError as error:
                log.warning("review.unreadable", model_id=path.parent.name, error=str(error))

    def find(self, model_id: str, audit: Log | None = None) -> Case:
        """The case of a candidate, verified now from its bytes.

        Args:
            model_id: The candidate.
            audit: The log, for a caller who asks it more than this.

        Raises:
            RegistryError: Nobody asked for its review.
            SignatureError, EvidenceError, AuditError: The request, or the log, is damaged.
        """
        request, anchor = self.request(model_id), self._home.anchor()
        return self._case(model_id, request, anchor, self._check(model_id, request, anchor), audit)

    def again(self, case: Case) -> Case:
        """The same case with what was decided and published since; its files are not verified once more.

        Raises:
            SignatureError, EvidenceError, AuditError: The request, or the log, is damaged.
        """
        request, anchor = self.request(case.model_id), self._home.anchor()
        same = (request, anchor) == (case.request, case.anchor)
        return self._case(case.model_id, request, anchor, case.checked) if same else self.find(case.model_id)

    def listing(self, model_id: str, audit: Log) -> Listing:
        """Where a candidate stands, by this log; its files are not read.

        Raises:
            RegistryError: Nobody asked for its review.
            SignatureError, EvidenceError, AuditError: The request, or the log, is damaged.
        """
        return self._listing(model_id, self._home.anchor(), audit)

    def request(self, model_id: str) -> Request:
        """What reviewers of a candidate sign.

        Raises:
            RegistryError: Nobody asked for its review.
            SignatureError, EvidenceError: It is damaged.
        """
        folder = self._folder(model_id)
        if not (folder / RELEASE_FILE).exists():
            raise RegistryError(
                f"review: expected a candidate that waits here, got {model_id}",
                remedy="Its engineer submits it: dvc repro, with MLFLOW_TRACKING_URI as this server's address.",
            )
        return Request.read(folder)

    def _check(self, model_id: str, request: Request, anchor: Anchor) -> Checked:
        place, passed = None, list[str]()
        try:
            place = self.candidates.folder(model_id)
            bundle = verify_release(place, request.release, anchor, passed=lambda _step, what: passed.append(what))
        except (TwinsealError, OSError) as error:
            return Checked(place, None, tuple(passed), f"{error} {getattr(error, 'remedy', '')}".strip())
        return Checked(place, bundle, tuple(passed), "")

    def _case(
        self, model_id: str, request: Request, anchor: Anchor, checked: Checked, audit: Log | None = None
    ) -> Case:
        built_by, log = () if checked.bundle is None else checked.bundle.built_by, audit or log_of(self._home.path)
        return Case.of(self._listing(model_id, anchor, log, request=request, built_by=built_by), checked)

    def _listing(
        self,
        model_id: str,
        anchor: Anchor,
        audit: Log,
        *,
        request: Request | None = None,
        built_by: tuple[str, ...] | None = None,
    ) -> Listing:
        folder, request = self._folder(model_id), request or self.request(model_id)
        published = repository.current_release(self._home, request.release.model)
        if built_by is None and (published is None or published.version < request.release.version):
            with suppress(TwinsealError, OSError):  # whether it can be signed, its own page says
                built_by = builders_of(self.candidates.folder(model_id), anchor)
        reviews = read_all(folder / "approvals", request, anchor, audit, built_by=built_by or ())
        state = state_of(request.release, published, reviews)
        return Listing(model_id, request, anchor, reviews, *read_submitted(folder), state, (folder / OFFERED).exists())

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
        audit = log_of(self._home.path).once()
        case = self.find(model_id, audit)
        request, anchor = case.request, case.anchor
        approvals = self._folder(model_id) / "approvals"
        known = newest_decision(approvals, holder, request.release, anchor, audit, comment=decision == "comment")
        case.require_open()
        case.require_not_submitter(holder, decision)
        bundle, roles = self._approvable(case, decision)
        check_decision(
            request,
            holder,
            decision,
            comment,
            known=known,
            anchor=anchor,
            now=now,
            bundle=bundle,
            roles=roles,
            last=repository.last_published(self._home, request.release.model),
        )
        return draft_decision(request, holder, decision, comment, anchor=anchor, known=known, now=now)

    def receive(self, model_id: str, value: Any, person: Person, now: datetime) -> tuple[RecordedDecision, Case]:
        """Take a signed decision of the reviewer who sends it: verified, logged, then written. And the case after it.

        Sent again, a decision that was taken is taken once more, also when it is about a release that was published
        since: so whoever got no answer can ask again.

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
        with self._home.locked():  # of two that follow the same decision, the second must see the first
            log_of(self._home.path).complete()  # and what a server that was killed has signed
            case = self.again(case)
            recorded = self._receive(case, value, holder, now)
        self.told()
        return recorded, self.again(case)

    def _approvable(self, case: Case, decision: Decision) -> tuple[VerifiedBundle | None, Roles | None]:
        """What an approval is judged by. The other decisions need nothing: also what does not verify can be rejected.

        Raises:
            EvidenceError, ConfigError: The candidate does not verify.
            RollbackError: Its policy is older than that of the last release.
        """
        if decision != "approve":
            return None, None
        bundle = case.require_verified()
        require_no_older_policy(changes_since_release(self._home, case.request.release.model, bundle.statements))
        return bundle, case.roles

    def _receive(self, case: Case, value: Any, holder: str, now: datetime) -> RecordedDecision:
        anchor, audit, release = case.anchor, log_of(self._home.path), case.request.release
        approvals, signed = self._folder(case.model_id) / "approvals", parse_review(value, case.anchor)
        is_comment = signed.said.decision == "comment"
        known = newest_decision(approvals, holder, release, anchor, audit, comment=is_comment)
        is_known = signed.digest == known.digest  # sent again: then its counter is no news
        if not is_known:
            case.require_open()
            case.require_not_submitter(holder, signed.said.decision)
        bundle, roles = self._approvable(case, signed.said.decision)
        with nullcontext() if is_known else growing_counter(self.folder, value, anchor):
            return receive_review(
                approvals,
                value,
                case.request,
                bundle,
                anchor=anchor,
                roles=roles,
                last=repository.last_published(self._home, release.model),
                audit=audit,
                now=now,
            )

    def publish(self, case: Case, now: datetime) -> registration.Registration:
        """Register the release, if enough have signed and nobody has rejected it; else say that it is pending.

        Its files are verified once more, as everything that is published. Nobody moves an alias meanwhile.

        Raises:
            KeyAccessError: The registrar's key is not on this machine.
            TrustError, EvidenceError, RegistryError, AuditError: As `registration.register`.
        """
        folder, store = self._folder(case.model_id), self.candidates.store()
        place = case.checked.place or self.candidates.folder(case.model_id)
        with registry_lock(self._home):
            done = registration.register(
                store, self._home, place, folder, folder / "approvals", roles=case.roles, now=now, has_page=True
            )
        if done.status != "pending":
            for run in self.candidates.metadata_runs():
                self._closed.add_run(run)
            write_json(folder / OFFERED, {"mlflow_version": done.mlflow_version})
        self.told()
        return done

    def show(self, case: Case) -> None:
        """Say on the candidate's page in MLflow where it stands, while it waits."""
        if case.state in ("waits", "rejected"):
            registration.show_waiting(self.candidates.store(), case.request, case.reviews)

    def review_files(self, model_id: str) -> dict[str, Any]:
        """Every review of the candidate as it was signed, by the name of its file; what is no JSON is left out."""
        found = {}
        for path in sorted((self._folder(model_id) / "approvals").glob("*.json")):
            with suppress(OSError, ValueError):
                found[path.name] = json.loads(read_regular(path, MAX_APPROVAL_BYTES))
        return found

    def open_file(self, model_id: str, path: str) -> BinaryIO:
        """One file of the candidate that the release lists, open for reading. A link is not followed.

        Raises:
            RegistryError: Nobody asked for its review; it lists no such file; or there is none.
            SignatureError, EvidenceError: The request is damaged.
        """
        folder, request = self.candidates.folder(model_id), self.request(model_id)
        if path not in {record.path for record in request.release.files}:
            raise RegistryError(f"{path[:80]}: expected a file of the release, got another name")
        try:
            return open_beneath(folder, path)
        except OSError as error:
            raise RegistryError(
                f"{path}: expected the file that the release lists, got none ({error.strerror})"
            ) from error

    def _folder(self, model_id: str) -> Path:
        check_model_id(model_id)
        return self.folder / model_id

    def _waiting(self, folder: Path, bundle: Path, now: datetime) -> Request | None:
        """What was staged of a candidate, if it is known who submitted it and it can still be signed; else None."""
        if not (folder / RELEASE_FILE).exists() or not read_submitted(folder)[0]:
            return None
        try:
            request = Request.read(folder)
            verified = verify_release(bundle, request.release, self._home.anchor())
            roles = Roles.of_policy(verified.policy.content)
            last = repository.last_published(self._home, request.release.model)
            check_terms(request, anchor=self._home.anchor(), roles=roles, last=last, now=now)
        except TwinsealError:
            return None
        return request
