"""What reviewers look at: the release that waits, and what others have decided. They decide by `decisions`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypedDict

import typer

from twinseal.cli.options import (
    APPROVALS,
    BUNDLE,
    RELEASE,
    ROLES,
    AsJson,
    check_program,
    examples,
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
    states["rejected"] = "[red]rejected[/]"
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
        gates, reviews = bundle.statements["assess"].predicate["twinseal_gates"], read_reviews(request)
        terms = None if is_registered(home, request) else terms_of(home, anchor, request)
        changes = changes_since_release(home, request.release.model, bundle.statements)
    if as_json:
        as_dict = _request_as_json(request, reviews, gates, anchor, terms)
        print_json(as_dict | {"changes": list(changes.lines), "source": source_of(bundle.statements["assess"])})
        return
    _print_request(request, reviews, gates, anchor, terms)
    _print_changes(changes, source_of(bundle.statements["assess"]))
    _print_next(request, reviews, terms)
    warn_of_demo(anchor)


def require_bundle(home: Home) -> None:
    """Refuse when a candidate was judged and not signed: then there is a verdict, and no bundle.

    Raises:
        GateRefusedError: Its verdict is not PASSED; names the failed gates.
        SignatureError, ThresholdError, EvidenceError: The verdict is not what the assessor signed.
    """
    from twinseal.trust.release import candidate

    candidate.require_bundle(BUNDLE, EVIDENCE / "assess.dsse.json", home.anchor())


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
        reviews = read_reviews(request)
        found.append(_release_item(model, version, state_of(reviews), reviews.count.signed, reviews.count.may_sign))
    return found


def state_of(reviews: Reviews) -> str:
    """Where a release stands that is not registered: rejected (by anybody), approved, or waits."""
    return "rejected" if reviews.rejections else "waits" if reviews.count.missing else "approved"


def _release_item(
    model: str, version: int, state: str, signed: tuple[str, ...] = (), others: tuple[str, ...] = ()
) -> ReleaseItem:
    return ReleaseItem(model=model, release=version, state=state, approved_by=list(signed), can_still_sign=list(others))


def is_registered(home: Home, request: Request) -> bool:
    """Whether the repository on this machine, if there is one, has published this release or a newer one."""
    from twinseal.trust.release import repository

    if not home.repository.is_dir():
        return False
    published = repository.current_release(home, request.release.model)
    return published is not None and published.version >= request.release.version


def terms_of(home: Home, anchor: Anchor, request: Request) -> Terms:
    """What is signed beside the files, once it is what policy and the repository lead to."""
    from twinseal.trust.release import repository
    from twinseal.trust.release.terms import check_terms
    from twinseal.trust.root.roles import Roles

    last = repository.last_published(home, request.release.model)
    return check_terms(request, anchor=anchor, roles=Roles.load(ROLES), last=last, now=datetime.now(UTC))


def print_terms(terms: Terms) -> None:
    """Print what is signed beside the files."""
    for line in terms.lines(datetime.now(UTC)):
        out.print(f"  {printable(line)}")


def print_registered(request: Request) -> None:
    """Say that a release is registered already."""
    release = request.release
    out.print(f"{release.model} release {release.version} is registered: there is nothing to decide")


def _request_as_json(
    request: Request, reviews: Reviews, gates: Gates, anchor: Anchor, terms: Terms | None
) -> dict[str, object]:
    release, count = request.release, reviews.count
    state = "registered" if terms is None else state_of(reviews)
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
        "comments": [{name: getattr(item, name) for name in fields} for item in reviews.comments],
        "rejected_by": [item.holder for item in reviews.rejections],
        "built_by_reviewers": list(count.builders),
        "needed": list(count.wanting),
        "report": "reports/report.html",
        "demo": anchor.demo,
    }


def _print_request(request: Request, reviews: Reviews, gates: Gates, anchor: Anchor, terms: Terms | None) -> None:
    release, count = request.release, reviews.count
    out.print(f"[bold]{release.model}[/] release {release.version}  candidate {release.mlflow_model_id}")
    out.print(f"release.json sha256 {release.sha256}   policy sha256 {release.policy_sha256}")
    if terms is not None:
        print_terms(terms)
    print_gates(gates)
    for item in anchor.evidence:
        out.print(f"  evidence [cyan]{item.name}[/], signed by the {item.role}: {_evidence_path(item.name)}")
    print_reviews(reviews)
    names = ", ".join(count.signed) or "nobody"
    out.print(f"approved by {names}: {len(count.signed)} signed, {count.threshold} are needed")
    print_missing(reviews)
    out.print("the report to read: [cyan]reports/report.html[/]")


def _print_next(request: Request, reviews: Reviews, terms: Terms | None) -> None:
    if terms is None:
        print_registered(request)
    elif reviews.count.may_sign:
        out.print(
            "to decide: [cyan]twinseal approve --as NAME[/]  or  [cyan]twinseal reject --as NAME --comment WHY[/]\n"
            "to say something: [cyan]twinseal comment --as NAME --comment TEXT[/]"
        )


def print_reviews(reviews: Reviews) -> None:
    """One review in each row. Long words continue in their own column: no line of them can pass for another line."""
    table = new_table("review", "by", "time", "in their words", "why it does not count")
    for item in (*reviews.items, *reviews.comments):
        table.add_row(item.standing, *map(printable, (item.holder, item.time, item.comment, item.reason)))
    if reviews.items or reviews.comments:
        out.print(table)


def print_missing(reviews: Reviews) -> None:
    """What else stands between the release and its registration, beside the number of signatures."""
    for item in reviews.count.wanting:
        out.print(f"[yellow]also needed[/]: {printable(item)}")
    for name in reviews.count.builders:
        out.print(f"[yellow]{printable(name)}[/] built the candidate, and can not approve it")
    for rejection in reviews.rejections:
        who = printable(rejection.holder)
        out.print(f"[red]rejected[/] by {who}: {printable(rejection.comment)}; until {who} withdraws it or approves")


def print_gates(gates: Gates) -> None:
    """The judged gates as a table."""
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


def read_reviews(request: Request) -> Reviews:
    """All reviews of the release that waits; those who built it are not counted, where the bundle says who they are."""
    from twinseal.trust.audit import log_of
    from twinseal.trust.release import approval, candidate

    home = Home.find()
    builders = candidate.builders_of(BUNDLE, home.anchor())
    return approval.read_all(APPROVALS, request, home.anchor(), log_of(home.path), built_by=builders)
