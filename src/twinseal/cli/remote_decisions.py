"""What reviewers decide from any machine: the candidate is fetched, verified, shown, signed here, and sent."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from twinseal.cli.options import confirm, open_holder_key, read_anchor, warn_of_demo
from twinseal.cli.reviewers import print_gates, print_missing, print_reviews, print_terms
from twinseal.console import out, printable
from twinseal.errors import ConfigError

if TYPE_CHECKING:
    from twinseal.review_client import Fetched, ReviewServer
    from twinseal.trust.release.candidate import VerifiedBundle
    from twinseal.trust.release.review_file import Decision
    from twinseal.trust.root.anchor import Anchor

From = Annotated[
    str | None,
    typer.Option("--from", metavar="URL", help="Decide on a candidate of this server; no checkout is needed."),
]
Candidate = Annotated[
    str | None, typer.Option(metavar="ID", help="With --from: which candidate. Default: the only one that waits.")
]
ReportFile = Annotated[
    Path | None, typer.Option("--report", metavar="FILE", help="With --from: save the verified report there.")
]
DONE = {"approve": "approved", "reject": "rejected", "withdraw": "withdrawn", "comment": "commented"}
QUESTIONS = {"approve": "Sign", "reject": "Reject", "withdraw": "Withdraw the decision on", "comment": "Comment on"}


def decide_from(
    address: str,
    decision: Decision,
    holder: str,
    comment: str,
    *,
    key: str | None,
    yes: bool,
    candidate: str | None,
    anchor_dir: Path | None,
    report: Path | None = None,
) -> None:
    """Decide on a candidate of a server."""
    from twinseal.review_client import ReviewServer

    anchor = read_anchor(anchor_dir)
    anchor.roles["reviewer"].key_of(holder)  # names the reviewers before anything is fetched
    _require_key(key, holder)
    with ReviewServer(address) as server, tempfile.TemporaryDirectory(prefix="twinseal-review-") as folder:
        which = candidate or _only_one(server)
        fetched = server.fetch(which, Path(folder))
        verified = _show(fetched, anchor)
        _save_report(server, which, verified, report)
        release = fetched.request.release
        confirm(
            yes,
            f"{QUESTIONS[decision]} {release.model} release {release.version} ({release.sha256[:12]}…) as {holder}?",
        )
        value = _signed(fetched, verified, decision, holder, comment, key, anchor)
        state, note = server.send(which, value)
        out.print(f"[{'green' if decision == 'approve' else 'yellow'}]{DONE[decision]}[/] by {holder}; the server: "
                  f"{printable(state)}{printable(f', {note}' if note else '')}")  # fmt: skip
    warn_of_demo(anchor)


def _require_key(key: str | None, holder: str) -> None:
    """Refuse now, and not after all was read, who has no key here.

    Raises:
        KeyAccessError: There is none.
    """
    from twinseal.errors import KeyAccessError, RootError
    from twinseal.trust.root.home import Home

    try:
        found = key is not None or Home.find().has_key(holder)
    except RootError:  # no home on this machine: none is needed
        found = False
    if not found:
        raise KeyAccessError(
            f"{holder}: expected your key, got none on this machine",
            remedy=f"Name it: --key file:/media/me/{holder}.pem, or --key pkcs11:…",
        )


def _only_one(server: ReviewServer) -> str:
    """The candidate that waits.

    Raises:
        ConfigError: None waits, or several.
    """
    waiting = [item for item in server.waiting() if item.state in ("waits", "rejected", "approved")]
    if len(waiting) != 1:
        got = ", ".join(f"{item.model} release {item.release}: {item.candidate}" for item in waiting) or "none"
        raise ConfigError(f"candidate: expected one that waits, got {got}", remedy="Name one: --candidate ID")
    return waiting[0].candidate


def _show(fetched: Fetched, anchor: Anchor) -> VerifiedBundle:
    """Verify the candidate as a twin would, step by step, and print what is signed and how it was judged."""
    from twinseal.trust.audit import log_of
    from twinseal.trust.release.candidate import verify_release
    from twinseal.trust.release.reviews import read_all
    from twinseal.trust.release.terms import check_terms
    from twinseal.trust.root.roles import Roles

    request = fetched.request
    verified = verify_release(
        fetched.bundle, request.release, anchor, passed=lambda _step, what: out.print(f"[green]✓[/] {printable(what)}")
    )
    release, roles = request.release, Roles.of_policy(verified.policy.content)
    terms = check_terms(request, anchor=anchor, roles=roles, last=None, now=datetime.now(UTC))
    out.print(f"[bold]{release.model}[/] release {release.version}  candidate {release.mlflow_model_id}")
    out.print(f"release.json sha256 {release.sha256}   policy sha256 {release.policy_sha256}")
    print_terms(terms)
    print_gates(verified.statements["assess"].predicate["twinseal_gates"])
    out.print(f"built by {printable(', '.join(verified.built_by)) or 'not recorded'}")
    no_log = log_of(fetched.approvals.parent)
    reviews = read_all(fetched.approvals, request, anchor, no_log, built_by=verified.built_by)
    print_reviews(reviews)
    out.print(f"{printable(reviews.count.summary)}, as the server says")
    print_missing(reviews)
    return verified


def _save_report(server: ReviewServer, candidate: str, verified: VerifiedBundle, place: Path | None) -> None:
    """Save the report where the reviewer wants it, once it is the one that the assessor signed."""
    from twinseal.digests import sha256
    from twinseal.errors import DigestMismatchError
    from twinseal.evidence import reports
    from twinseal.files import write_whole

    if place is None:
        out.print("the report: on the server's review page, or --report FILE")
        return
    data = server.report(candidate)
    named = {item.name: item.sha256 for item in reports(verified.statements["assess"])}
    if sha256(data) != named.get("reports/report.html"):
        raise DigestMismatchError(
            "reports/report.html: expected the report that the assessor signed, got another: nothing was signed",
            remedy="The server's copy was changed. Tell the registrar.",
        )
    write_whole(place, data)
    out.print(f"the report, as the assessor signed it: [cyan]{printable(place)}[/]")


def _signed(
    fetched: Fetched,
    verified: VerifiedBundle,
    decision: Decision,
    holder: str,
    comment: str,
    key: str | None,
    anchor: Anchor,
) -> dict[str, object]:
    """The review, signed with the reviewer's key, which stays here."""
    from twinseal.errors import KeyAccessError
    from twinseal.trust.audit import log_of
    from twinseal.trust.release.decisions import check_decision, draft_decision
    from twinseal.trust.release.review_file import assemble_review
    from twinseal.trust.release.reviews import newest_decision
    from twinseal.trust.root.roles import Roles

    request, now = fetched.request, datetime.now(UTC)
    known = newest_decision(
        fetched.approvals,
        holder,
        request.release,
        anchor,
        log_of(fetched.approvals.parent),
        comment=decision == "comment",
    )
    check_decision(
        request,
        holder,
        decision,
        comment,
        known=known,
        anchor=anchor,
        now=now,
        bundle=verified,
        roles=Roles.of_policy(verified.policy.content),
    )
    signer, expected = open_holder_key(key, holder), anchor.roles["reviewer"].key_of(holder)
    if signer.public_key.keyid != expected.keyid:
        raise KeyAccessError(
            f"{holder}: expected the key that the anchor has, got another", remedy="Name your key: --key URI"
        )
    draft = draft_decision(request, holder, decision, comment, anchor=anchor, known=known, now=now)
    return assemble_review(draft, signer.sign_all(draft.payloads))
