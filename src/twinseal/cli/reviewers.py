"""What reviewers do: look at the release that waits, approve it or reject it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias, TypedDict

import typer

from twinseal.cli.options import (
    APPROVALS,
    BUNDLE,
    RELEASE,
    ROLES,
    As,
    AsJson,
    KeyUri,
    Yes,
    check_program,
    confirm,
    examples,
    open_holder_key,
    warn_of_demo,
)
from twinseal.console import new_table, out, print_json, printable, refusals_as_json
from twinseal.trust.root.home import Home

if TYPE_CHECKING:
    from twinseal.trust.release.approval import Reviews
    from twinseal.trust.release.changes import Changes
    from twinseal.trust.release.request import Request
    from twinseal.trust.release.terms import Terms
    from twinseal.trust.root.anchor import Anchor

EVIDENCE = Path("reports/evidence")

Gates: TypeAlias = Sequence[Mapping[str, object]]
"""The judged gates, as the signed verdict lists them."""


class ReleaseItem(TypedDict):
    """A release in JSON: registered, waiting for reviewers, or approved by enough of them."""

    model: str
    release: int
    state: str
    approved_by: list[str]
    can_still_sign: list[str]


review = typer.Typer(
    help="The release that waits for a decision, its gates, evidence and reviews.",
    epilog=examples("twinseal review list", "twinseal review show"),
    no_args_is_help=True,
)

APPROVE_EXAMPLES = examples(
    "twinseal approve --as alice",
    "twinseal approve --as alice --comment 'report read, gates plausible' --key file:/media/me/alice.pem",
    "twinseal --passphrase-fd 3 approve --as alice --yes 3< <(pass show alice)",
)
REJECT_EXAMPLES = examples("twinseal reject --as bruno --comment 'too few failures in the test set'")


@review.command("list", epilog=examples("twinseal review list", "twinseal review list --json"))
def review_list(as_json: AsJson = False) -> None:
    """List the registered releases, and the one that waits for a decision."""
    with refusals_as_json(as_json):
        anchor = Home.find().anchor()
        check_program(anchor)
        releases = _releases(anchor)
    if as_json:
        print_json({"releases": releases, "demo": anchor.demo})
        return
    table = new_table("model", "release", "state", "approved by", "can still sign")
    states = {"registered": "[green]registered[/]", "waits": "[yellow]waits[/]"}
    states["approved"] = "[green]approved[/]: twinseal register"
    for item in releases:
        names = (", ".join(item["approved_by"]), ", ".join(item["can_still_sign"]))
        table.add_row(printable(item["model"]), str(item["release"]), states[item["state"]], *names)
    if releases:
        out.print(table)
    else:
        out.print("nothing is registered and nothing waits; make a candidate: dvc repro")
    warn_of_demo(anchor)


@review.command("show", epilog=examples("twinseal review show", "twinseal review show --json | jq .gates"))
def review_show(as_json: AsJson = False) -> None:
    """Verify the release that waits; show its verdict, gates, evidence, and who has signed."""
    from twinseal.evidence import source_of
    from twinseal.trust.release.candidate import verify_release
    from twinseal.trust.release.changes import changes_since_release
    from twinseal.trust.release.reports import require_reports
    from twinseal.trust.release.request import Request

    with refusals_as_json(as_json):
        home = Home.find()
        check_program(home.anchor())
        require_bundle(home)
        anchor, request = home.anchor(), Request.read(RELEASE)
        bundle = verify_release(BUNDLE, request.release, anchor)
        require_reports(bundle.statements["assess"], Path())
        gates, reviews = bundle.statements["assess"].predicate["twinseal_gates"], _read_reviews(request)
        terms = None if _is_registered(home, request) else _check_terms(home, anchor, request)
        changes = changes_since_release(home, request.release.model, bundle.statements)
    if as_json:
        as_dict = _request_as_json(request, reviews, gates, anchor, terms)
        print_json(as_dict | {"changes": list(changes.lines), "source": source_of(bundle.statements["assess"])})
        return
    _print_request(request, reviews, gates, anchor, terms)
    _print_changes(changes, source_of(bundle.statements["assess"]))
    _print_next(request, reviews, terms)
    warn_of_demo(anchor)


def approve(
    holder: As,
    key: KeyUri = None,
    comment: Annotated[str, typer.Option(help="Your own words; they are signed and shown.")] = "",
    yes: Yes = False,
) -> None:
    """Verify the release that waits as a twin would, and sign it."""
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
    if _is_registered(home, request):
        _print_registered(request)
        return
    _require_what_was_read(home, request)
    _print_terms(_check_terms(home, anchor, request))
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
    if decision.is_new:
        out.print(f"[green]approved[/] by {holder}: {decision.path}")
    else:
        out.print(f"[yellow]already approved[/] by {holder}, with the same comment; nothing changed")
    _print_standing(request)


def reject(
    holder: As,
    comment: Annotated[str, typer.Option(help="Why not; it is signed and shown.")],
    key: KeyUri = None,
    yes: Yes = False,
) -> None:
    """Reject the release that waits, with a signed reason that is kept. Your own approval of it no longer counts."""
    from twinseal.trust.audit import log_of
    from twinseal.trust.keys.key import NamedSigner
    from twinseal.trust.release import approval
    from twinseal.trust.release.request import Request

    home = Home.find()
    anchor = home.anchor()
    check_program(anchor)
    anchor.roles["reviewer"].key_of(holder)  # as in approve
    request = Request.read(RELEASE)
    if _is_registered(home, request):
        _print_registered(request)
        return
    confirm(yes, f"Reject {request.release.model} release {request.release.version} as {holder}?")
    reviewer = NamedSigner(holder, open_holder_key(key, holder))
    now, audit = datetime.now(UTC), log_of(home.path)
    decision = approval.reject(APPROVALS, request, reviewer, anchor=anchor, audit=audit, now=now, comment=comment)
    if decision.is_new:
        out.print(f"[yellow]rejected[/] by {holder}: {decision.path}")
    else:
        out.print(f"[yellow]already rejected[/] by {holder}, with the same comment; nothing changed")
    if decision.is_new and not home.repository.is_dir():
        out.print(
            f"send {printable(decision.path)} to the registrar now: until then an earlier approval of yours counts"
        )
    out.print("it is shown beside the release; it is not counted, and does not stop the other reviewers")


def require_bundle(home: Home) -> None:
    """Refuse when a candidate was judged and not signed: then there is a verdict, and no bundle.

    Raises:
        GateRefusedError: Its verdict is not PASSED; names the failed gates.
        SignatureError, ThresholdError, EvidenceError: The verdict is not what the assessor signed.
    """
    from twinseal.trust.release import candidate

    candidate.require_bundle(BUNDLE, EVIDENCE / "assess.dsse.json", home.anchor())


def _require_what_was_read(home: Home, request: Request) -> None:
    """Before a signature: the report is the assessor's, and the policy is not older than that of the last release."""
    from twinseal.trust.release.candidate import verify_release
    from twinseal.trust.release.changes import changes_since_release, require_no_older_policy
    from twinseal.trust.release.reports import require_reports

    bundle = verify_release(BUNDLE, request.release, home.anchor())
    require_reports(bundle.statements["assess"], Path())
    require_no_older_policy(changes_since_release(home, request.release.model, bundle.statements))


def _print_changes(changes: Changes, source: Mapping[str, object]) -> None:
    out.print("since the last release:")
    for line in changes.lines or ("nothing changed in policy, code and contract",):
        colour = "red" if line.startswith("policy: looser") else "yellow"
        out.print(f"  [{colour}]{printable(line)}[/]")
    changed = source.get("changed")
    names = ", ".join(map(str, changed)) if isinstance(changed, list) else ""
    state = f"these files are in no commit: {names}" if names else "no file differs from it"
    commit = str(source.get("commit", ""))[:12]
    line = f"judged with the code and policy of commit {commit}; {state}" if commit else "judged outside of Git"
    out.print(f"[{'red' if names or not commit else 'green'}]{printable(line)}[/]")


def _releases(anchor: Anchor) -> list[ReleaseItem]:
    """One item for each release: those registered, then the one that waits or is approved."""
    from twinseal.trust.release import repository
    from twinseal.trust.release.request import Request

    home, found = Home.find(), []
    current = {model: repository.current_release(home, model) for model in anchor.models}
    for model, release in current.items():
        if release is not None:
            approved = repository.approvals_of(home, model)
            found.append(_release_item(model, release.version, "registered", approved.signed if approved else ()))
    if not (RELEASE / "release.json").exists():
        return found
    request = Request.read(RELEASE)
    model, version = request.release.model, request.release.version
    published = current.get(model)
    if published is None or published.version < version:
        count = _read_reviews(request).count
        found.append(
            _release_item(model, version, "waits" if count.missing else "approved", count.signed, count.may_sign)
        )
    return found


def _release_item(
    model: str, version: int, state: str, signed: tuple[str, ...] = (), others: tuple[str, ...] = ()
) -> ReleaseItem:
    return ReleaseItem(model=model, release=version, state=state, approved_by=list(signed), can_still_sign=list(others))


def _is_registered(home: Home, request: Request) -> bool:
    """Whether the repository on this machine, if there is one, has published this release or a newer one."""
    from twinseal.trust.release import repository

    if not home.repository.is_dir():
        return False
    published = repository.current_release(home, request.release.model)
    return published is not None and published.version >= request.release.version


def _check_terms(home: Home, anchor: Anchor, request: Request) -> Terms:
    """What is signed beside the files, once it is what policy and the repository lead to."""
    from twinseal.trust.release import repository
    from twinseal.trust.release.terms import check_terms
    from twinseal.trust.root.roles import Roles

    last = repository.last_published(home, request.release.model)
    return check_terms(request, anchor=anchor, roles=Roles.load(ROLES), last=last, now=datetime.now(UTC))


def _print_terms(terms: Terms) -> None:
    for line in terms.lines(datetime.now(UTC)):
        out.print(f"  {printable(line)}")


def _print_registered(request: Request) -> None:
    release = request.release
    out.print(f"{release.model} release {release.version} is registered: there is nothing to decide")


def _request_as_json(
    request: Request, reviews: Reviews, gates: Gates, anchor: Anchor, terms: Terms | None
) -> dict[str, object]:
    release, count = request.release, reviews.count
    state = "registered" if terms is None else "waits" if count.missing else "approved"
    fields = ("holder", "standing", "time", "comment", "reason")
    return {
        **_release_item(release.model, release.version, state, count.signed, count.may_sign),
        "threshold": count.threshold,
        "replaces": release.parent_version,
        "role_version": terms and terms.role,
        "valid_until": terms and f"{terms.expires:%Y-%m-%dT%H:%M:%SZ}",
        "last_release": terms and terms.last and terms.last.release,
        "candidate": release.mlflow_model_id,
        "release_sha256": release.sha256,
        "policy_sha256": release.policy_sha256,
        "gates": gates,
        "evidence": [
            {"name": item.name, "role": item.role, "path": _evidence_path(item.name)} for item in anchor.evidence
        ],
        "reviews": [{name: getattr(item, name) for name in fields} for item in reviews.items],
        "report": "reports/report.html",
        "demo": anchor.demo,
    }


def _print_request(request: Request, reviews: Reviews, gates: Gates, anchor: Anchor, terms: Terms | None) -> None:
    release, count = request.release, reviews.count
    out.print(f"[bold]{release.model}[/] release {release.version}  candidate {release.mlflow_model_id}")
    out.print(f"release.json sha256 {release.sha256}   policy sha256 {release.policy_sha256}")
    if terms is not None:
        _print_terms(terms)
    _print_gates(gates)
    for item in anchor.evidence:
        out.print(f"  evidence [cyan]{item.name}[/], signed by the {item.role}: {_evidence_path(item.name)}")
    _print_reviews(reviews)
    names = ", ".join(count.signed) or "nobody"
    out.print(f"approved by {names}: {len(count.signed)} signed, {count.threshold} are needed")
    out.print("the report to read: [cyan]reports/report.html[/]")


def _print_next(request: Request, reviews: Reviews, terms: Terms | None) -> None:
    if terms is None:
        _print_registered(request)
    elif reviews.count.may_sign:
        out.print(
            "to decide: [cyan]twinseal approve --as NAME[/]  or  [cyan]twinseal reject --as NAME --comment WHY[/]"
        )


def _print_reviews(reviews: Reviews) -> None:
    """One review in each row. Long words continue in their own column: no line of them can pass for another line."""
    table = new_table("review", "by", "time", "in their words", "why it does not count")
    for item in reviews.items:
        table.add_row(item.standing, *map(printable, (item.holder, item.time, item.comment, item.reason)))
    if reviews.items:
        out.print(table)


def _print_gates(gates: Gates) -> None:
    from twinseal.assurance.report.tables import RELATIONS

    table = new_table("gate", "observed", "bound", "result", numbers=("observed", "bound"))
    for gate in gates:
        colour = "green" if gate.get("result") == "PASSED" else "red"
        unit = str(gate.get("unit") or "")
        bound = f"{RELATIONS.get(str(gate.get('relation')), '')} {_amount(gate.get('bound'), unit)}".strip()
        result = f"[{colour}]{printable(gate.get('result'))}[/]"
        table.add_row(printable(gate.get("name")), _amount(gate.get("observed"), unit), bound, result)
    out.print(table)


def _amount(value: object, unit: str) -> str:
    """A measure or a bound with its unit, as the report has it; a dash for what is no number."""
    from twinseal.assurance.report.tables import quantity

    number = value if isinstance(value, int | float) and not isinstance(value, bool) else None
    return printable(quantity(number, unit))


def _evidence_path(name: str) -> str:
    return f"{BUNDLE}/evidence/{name}.dsse.json"


def _read_reviews(request: Request) -> Reviews:
    from twinseal.trust.audit import log_of
    from twinseal.trust.release import approval

    home = Home.find()
    return approval.read_all(APPROVALS, request, home.anchor(), log_of(home.path))


def _print_standing(request: Request) -> None:
    count = _read_reviews(request).count
    if count.missing:
        out.print(f"{count.missing} more of {', '.join(count.may_sign)} must sign before it can be registered")
    else:
        out.print("enough have signed; register it: [cyan]dvc repro[/]  or  [cyan]twinseal register[/]")
