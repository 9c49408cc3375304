"""What reviewers decide about the release that waits: approve, reject, withdraw, comment."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from twinseal.cli.options import (
    APPROVALS,
    BUNDLE,
    RELEASE,
    ROLES,
    AnchorDir,
    As,
    KeyUri,
    Yes,
    check_program,
    confirm,
    examples,
    open_holder_key,
)
from twinseal.cli.remote_decisions import Candidate, From, ReportFile, decide_from
from twinseal.cli.reviewers import (
    is_registered,
    print_missing,
    print_registered,
    print_terms,
    read_reviews,
    require_bundle,
    terms_of,
)
from twinseal.console import out, printable
from twinseal.trust.root.home import Home

if TYPE_CHECKING:
    from twinseal.trust.release.approval import RecordedDecision
    from twinseal.trust.release.request import Request

APPROVE_EXAMPLES = examples(
    "twinseal approve --as alice",
    "twinseal approve --as alice --comment 'report read, gates plausible' --key file:/media/me/alice.pem",
    "twinseal --passphrase-fd 3 approve --as alice --yes 3< <(pass show alice)",
    "twinseal approve --as alice --from https://review.plant.example --anchor anchor --key file:/media/me/alice.pem",
)
REJECT_EXAMPLES = examples("twinseal reject --as bruno --comment 'too few failures in the test set'")
WITHDRAW_EXAMPLES = examples("twinseal withdraw --as bruno --comment 'the failures were in the other file'")
COMMENT_EXAMPLES = examples("twinseal comment --as chiara --comment 'I read the report on Monday'")

Why = Annotated[str, typer.Option("--comment", help="Why; it is signed and shown.")]


def approve(
    holder: As,
    key: KeyUri = None,
    comment: Annotated[str, typer.Option(help="Your own words; they are signed and shown.")] = "",
    yes: Yes = False,
    server: From = None,
    candidate: Candidate = None,
    anchor_dir: AnchorDir = None,
    report: ReportFile = None,
) -> None:
    """Verify the release that waits as a twin would, and sign it: here, or with --from on a server."""
    if server is not None:
        decide_from(
            server, "approve", holder, comment, key=key, yes=yes, candidate=candidate, anchor_dir=anchor_dir,
            report=report,
        )  # fmt: skip
        return
    from twinseal.trust.audit import log_of
    from twinseal.trust.keys.key import NamedSigner
    from twinseal.trust.release import approval, repository
    from twinseal.trust.release.request import Request
    from twinseal.trust.root.roles import Roles

    home = Home.find()
    anchor = home.anchor()
    check_program(anchor)
    anchor.roles["reviewer"].key_of(holder)  # names the reviewers before a key is looked for
    require_bundle(home)
    request = Request.read(RELEASE)
    release = request.release
    if is_registered(home, request):
        print_registered(request)
        return
    _require_what_was_read(home, request)
    print_terms(terms_of(home, anchor, request))
    confirm(yes, f"Sign {release.model} release {release.version} ({release.sha256[:12]}…) as {holder}?")
    reviewer = NamedSigner(holder, open_holder_key(key, holder))
    now, audit = datetime.now(UTC), log_of(home.path)
    decision = approval.approve(
        APPROVALS,
        request,
        BUNDLE,
        reviewer,
        anchor=anchor,
        roles=Roles.load(ROLES),
        last=repository.last_published(home, release.model),
        audit=audit,
        now=now,
        comment=comment,
    )
    _print_decision("approved", holder, decision, "green")
    _print_standing(request)


def reject(
    holder: As,
    comment: Why,
    key: KeyUri = None,
    yes: Yes = False,
    server: From = None,
    candidate: Candidate = None,
    anchor_dir: AnchorDir = None,
) -> None:
    """Reject the release that waits, with a signed reason: it is not published until you withdraw that or approve."""
    if server is not None:
        decide_from(server, "reject", holder, comment, key=key, yes=yes, candidate=candidate, anchor_dir=anchor_dir)
        return
    from twinseal.trust.release import approval

    decision = _decide("Reject", holder, comment, key, yes, approval.reject, "rejected")
    if decision is not None:
        out.print(f"nothing is published until {printable(holder)} approves it, or: twinseal withdraw")


def withdraw(
    holder: As,
    comment: Why,
    key: KeyUri = None,
    yes: Yes = False,
    server: From = None,
    candidate: Candidate = None,
    anchor_dir: AnchorDir = None,
) -> None:
    """Take back your own approval or rejection of the release that waits, with a signed reason."""
    if server is not None:
        decide_from(server, "withdraw", holder, comment, key=key, yes=yes, candidate=candidate, anchor_dir=anchor_dir)
        return
    from twinseal.trust.release import approval

    _decide("Withdraw the decision on", holder, comment, key, yes, approval.withdraw, "withdrawn")


def comment(
    holder: As,
    text: Annotated[str, typer.Option("--comment", help="What you say; it is signed and shown.")],
    key: KeyUri = None,
    yes: Yes = False,
    server: From = None,
    candidate: Candidate = None,
    anchor_dir: AnchorDir = None,
) -> None:
    """Say something about the release that waits, signed. It changes no decision."""
    if server is not None:
        decide_from(server, "comment", holder, text, key=key, yes=yes, candidate=candidate, anchor_dir=anchor_dir)
        return
    from twinseal.trust.release import approval

    _decide("Sign a comment on", holder, text, key, yes, approval.comment, "commented")


def _decide(
    question: str,
    holder: str,
    words: str,
    key: str | None,
    yes: bool,
    act: Callable[..., RecordedDecision],
    done: str,
) -> RecordedDecision | None:
    """Make a decision that needs no look at the bundle; None when there is nothing to decide any more."""
    from twinseal.trust.audit import log_of
    from twinseal.trust.keys.key import NamedSigner
    from twinseal.trust.release.request import Request

    home = Home.find()
    anchor = home.anchor()
    check_program(anchor)
    anchor.roles["reviewer"].key_of(holder)  # as in approve
    request = Request.read(RELEASE)
    if is_registered(home, request):
        print_registered(request)
        return None
    confirm(yes, f"{question} {request.release.model} release {request.release.version} as {holder}?")
    reviewer = NamedSigner(holder, open_holder_key(key, holder))
    now, audit = datetime.now(UTC), log_of(home.path)
    decision = act(APPROVALS, request, reviewer, anchor=anchor, audit=audit, now=now, comment=words)
    _print_decision(done, holder, decision, "yellow")
    if decision.is_new and done != "commented" and not home.repository.is_dir():
        out.print(
            f"send {printable(decision.path)} to the registrar now: until then an earlier decision of yours counts"
        )
    return decision


def _print_decision(done: str, holder: str, decision: RecordedDecision, colour: str) -> None:
    if decision.is_new:
        out.print(f"[{colour}]{done}[/] by {holder}: {decision.path}")
    else:
        out.print(f"[yellow]already {done}[/] by {holder}, with the same comment; nothing changed")


def _print_standing(request: Request) -> None:
    reviews = read_reviews(request)
    count = reviews.count
    if count.missing:
        out.print(f"{count.missing} more of {', '.join(count.may_sign)} must sign before it can be registered")
    elif not reviews.rejections:
        out.print("enough have signed; register it: [cyan]dvc repro[/]  or  [cyan]twinseal register[/]")
    print_missing(reviews)


def _require_what_was_read(home: Home, request: Request) -> None:
    """Before a signature: the report is the assessor's, and the policy is not older than that of the last release."""
    from twinseal.trust.release.candidate import verify_release
    from twinseal.trust.release.changes import changes_since_release, require_no_older_policy
    from twinseal.trust.release.reports import require_reports

    bundle = verify_release(BUNDLE, request.release, home.anchor())
    require_reports(bundle.statements["assess"], Path())
    require_no_older_policy(changes_since_release(home, request.release.model, bundle.statements))
