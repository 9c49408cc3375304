"""Views: everything that a review page shows, as values. The templates only lay it out.

What is shown as signed was verified when the view was made; what is not verified is not shown as if it were.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from twinseal.digests import sha256
from twinseal.errors import RegistryError, TwinsealError
from twinseal.evidence import outcome, reports
from twinseal.reading import read_regular
from twinseal.registry.describe import terminal_command
from twinseal.server.cases import Case, Listing, State
from twinseal.server.comparison import Comparison, compare
from twinseal.server.reviews import Desk
from twinseal.trust.ceremonies import overview
from twinseal.trust.expiry import REGISTER, Expiry
from twinseal.trust.keys.key import short_fingerprint
from twinseal.trust.keys.passkeys import Passkey
from twinseal.trust.release import repository
from twinseal.trust.release.changes import Changes, changes_since_release, last_statements
from twinseal.trust.release.model_role import parse_role
from twinseal.trust.release.reports import MAX_REPORT_BYTES
from twinseal.trust.release.reviews import Review

REPORT = "reports/report.html"
SOON = timedelta(days=30)
WORDS = {
    "waits": "waits for reviewers",
    "approved": "approved, being published",
    "rejected": "rejected",
    "registered": "registered: the current release",
    "replaced": "replaced: another release took its place",
}
DECIDED = ("approved", "rejected", "withdrawn")


@dataclass(frozen=True)
class Reviewer:
    """One reviewer, and where they stand.

    Attributes:
        name: The holder.
        standing: approved, rejected, …; "" while they have not decided about this release.
        comment: Their words.
        time: When.
        reason: Why it does not count; "" when it does.
        about: The release that their words are about, when it is another; else "".
        key: What kind of key they have, in words.
        is_builder: Whether they built the candidate, and so cannot approve it.
    """

    name: str
    standing: str
    comment: str
    time: str
    reason: str
    about: str
    key: str
    is_builder: bool


@dataclass(frozen=True)
class ReviewView:
    """A review page.

    Attributes:
        case: The case.
        verdict: PASSED, or what else the signed verdict says; "" when nothing verifies.
        state: Where it stands, in words.
        place: What it does to the release before it, in words.
        renewal_of: The current release, when that has the very same candidate; else 0.
        mlflow: Address of the candidate in MLflow's pages; "" when MLflow does not know it.
        comparison: Beside the release before it; None when the candidate does not verify.
        changes: Of policy, code and contract, while it waits: of an earlier release nothing is kept to compare with.
        built_by: Who built it, as signed.
        evidence: The stages' records: stage, role that signed, SHA-256.
        reviewers: Everyone who may decide.
        comments: Of a reviewer, and the other release that it is about, or "".
        report: "" if the report is what the assessor signed; else why it is not shown.
        valid_until: Of an approval.
        role_sha256: Digest of what reviewers sign.
        me: The reviewer who looks at it; "" for others.
        may: What they can do now: approve, reject, withdraw, comment.
        why_not: Why they cannot approve; "" when they can.
        passkey: Whether their key is a passkey of this server's origin.
        command: What they type to decide in a terminal; "" when they can decide nothing.
    """

    case: Case
    verdict: str
    state: str
    place: str
    renewal_of: int
    mlflow: str
    comparison: Comparison | None
    changes: Changes | None
    built_by: tuple[str, ...]
    evidence: tuple[tuple[str, str, str], ...]
    reviewers: tuple[Reviewer, ...]
    comments: tuple[tuple[Review, str], ...]
    report: str
    valid_until: datetime
    role_sha256: str
    me: str
    may: tuple[str, ...]
    why_not: str
    passkey: bool
    command: str


@dataclass(frozen=True)
class ListedCase:
    """One line of the list.

    Attributes:
        case: The case.
        state: Where it stands, in words.
        for_me: What it means for whoever looks: "waits for you", or why not.
        is_mine: Whether it waits for them.
    """

    case: Listing
    state: str
    for_me: str
    is_mine: bool


def review_view(desk: Desk, model_id: str, me: str, origin: str) -> ReviewView:
    """The page of one candidate, for the reviewer `me`, or for nobody.

    Raises:
        RegistryError: Nobody asked for its review.
        TrustError, EvidenceError: The request, or the log, is damaged.
    """
    case = desk.find(model_id)
    anchor = case.anchor
    bundle, model = case.bundle, case.request.release.model
    current = repository.current_release(desk.home, model)
    statements = bundle.statements if bundle else {}
    role = parse_role(case.request.role_bytes, model).signed
    why_not = _why_not(case, me)
    digests = {record.path: record.sha256 for record in case.request.release.files}
    key = anchor.roles["reviewer"].key_of(me) if me else None
    may, release = _may(case, me, why_not), case.request.release
    return ReviewView(
        case=case,
        verdict=outcome(statements["assess"]) if bundle else "",
        state=WORDS[case.state],
        place=_place(case.state, release.parent_version),
        renewal_of=current.version if case.is_open and current and current.mlflow_model_id == model_id else 0,
        mlflow=_mlflow_page(desk, model_id),
        comparison=_compare(desk, case),
        changes=changes_since_release(desk.home, model, statements) if bundle and case.is_open else None,
        built_by=bundle.built_by if bundle else (),
        evidence=tuple(
            (item.name, item.role, digests.get(f"evidence/{item.name}.dsse.json", "")) for item in anchor.evidence
        ),
        reviewers=tuple(_reviewers(case)),
        comments=tuple((item, _other_release(case, item)) for item in case.reviews.comments),
        report=_report_fault(desk, case),
        valid_until=role.expires,
        role_sha256=sha256(case.request.role_bytes),
        me=me,
        may=may,
        why_not=why_not,
        passkey=isinstance(key, Passkey) and key.origin == origin,
        command=terminal_command(may[0], origin, model_id, me) if may else "",
    )


def listed_cases(desk: Desk, me: str) -> tuple[ListedCase, ...]:
    """The list, for the reviewer `me`, or for nobody; what waits for them first."""
    found = []
    for case in desk.all():
        standing = next((item.standing for item in case.reviews.items if item.holder == me), "")
        why_not = _why_not(case, me)
        mine = bool(me) and not why_not and standing not in ("approved", "rejected")
        words = "waits for you" if mine else f"you {standing} it" if standing in DECIDED else why_not
        found.append(ListedCase(case, WORDS[case.state], words, mine))
    return tuple(sorted(found, key=lambda item: not item.is_mine))


def ends_soon(desk: Desk, now: datetime) -> tuple[Expiry, ...]:
    """What ends in the next 30 days, or has ended, the first first; what is renewed by itself, when it was not."""
    found = [
        item
        for item in overview.expiries(desk.home)
        if item.is_urgent(now) or (item.remedy != REGISTER and item.expires - now < SOON)
    ]
    return tuple(sorted(found, key=lambda item: item.expires))


def _compare(desk: Desk, case: Case) -> Comparison | None:
    if case.bundle is None:
        return None
    try:  # once it is published, what is kept as the last release is itself, or a later one
        before = last_statements(desk.home, case.request.release.model) if case.is_open else None
    except TwinsealError:
        before = None  # `changes` says why
    return compare(case.bundle.statements, before)


def _mlflow_page(desk: Desk, model_id: str) -> str:
    try:
        return desk.candidates.page(model_id)
    except RegistryError:
        return ""


def _place(state: State, before: int | None) -> str:
    """What a release in this state does to the one before it, in words.

    >>> _place("rejected", 2), _place("registered", 2), _place("waits", None)
    ('Release 2 stays while this one is rejected', 'It replaced release 2', 'It would be the first release')
    """
    if state == "replaced":
        return "Another release took its place"
    if not before:
        return "The first release" if state == "registered" else "It would be the first release"
    return {
        "waits": f"Release {before} would be replaced",
        "approved": f"Release {before} is to be replaced",
        "rejected": f"Release {before} stays while this one is rejected",
        "registered": f"It replaced release {before}",
    }[state]


def _other_release(case: Case, item: Review) -> str:
    """The release that a reviewer's words are about, when it is another release of the same candidate; else ""."""
    return f"release {item.version}" if item.version not in (0, case.request.release.version) else ""


def _reviewers(case: Case) -> Iterator[Reviewer]:
    role, said = case.reviewers, {item.holder: item for item in case.reviews.items}
    built_by = (*(case.bundle.built_by if case.bundle else ()), case.submitted_by)
    for holder in role.holders:
        item = said.get(holder.name)
        about = _other_release(case, item) if item else ""
        kind = f"passkey of {holder.key.origin}" if isinstance(holder.key, Passkey) else "key in a file or token"
        yield Reviewer(
            name=holder.name,
            standing=item.standing if item and not about else "",
            comment=item.comment if item else "",
            time=item.time if item else "",
            reason=item.reason if item and not about else "",
            about=about,
            key=f"{kind}, {short_fingerprint(holder.key)}…",
            is_builder=role.quorum.is_among(holder.name, tuple(name for name in built_by if name)),
        )


def _report_fault(desk: Desk, case: Case) -> str:
    if case.bundle is None:
        return "the candidate does not verify, so nothing says which report belongs to it"
    named = {item.name: item.sha256 for item in reports(case.bundle.statements["assess"])}
    try:
        got = sha256(read_regular(desk.candidates.report_folder(case.model_id) / REPORT, MAX_REPORT_BYTES))
    except (TwinsealError, OSError) as error:
        return f"{REPORT}: expected the report that the assessor signed, got none ({error})"
    return "" if got == named.get(REPORT) else f"{REPORT}: expected the report that the assessor signed, got another"


def _why_not(case: Listing, me: str) -> str:
    if not me:
        return "you are no reviewer"
    if not _is_reviewer(case, me):
        return "you review other models"
    if not case.is_open:
        return f"it is {case.state}"
    if isinstance(case, Case) and case.bundle is None:
        return "it does not verify"
    if case.is_builder(me) or me in case.reviews.count.builders:
        return "you built it"
    return ""


def _is_reviewer(case: Listing, me: str) -> bool:
    return any(holder.name == me for holder in case.reviewers.holders)


def _may(case: Case, me: str, why_not: str) -> tuple[str, ...]:
    if not _is_reviewer(case, me) or case.state in ("registered", "replaced"):
        return ()
    standing = next((item.standing for item in case.reviews.items if item.holder == me), "")
    can = ["approve"] if not why_not and standing != "approved" else []
    can += ["reject"] if standing != "rejected" else []
    can += ["withdraw"] if standing in ("approved", "rejected") else []
    return (*can, "comment")
