"""What reviewers do: look at what waits, approve it or reject it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from twinseal.cli.options import APPROVALS, BUNDLE, RELEASE, As, Key, Yes, agree, signer, warn_of_demo
from twinseal.console import out, shown
from twinseal.trust.home import Home

VERDICT = Path("reports/evidence/assess.dsse.json")

review = typer.Typer(help="What waits for a decision, and what speaks for and against it.", no_args_is_help=True)


@review.command("list")
def review_list() -> None:
    """The release that waits for a decision, and what is registered."""
    from twinseal.trust.release import repository

    home = Home.find()
    anchor = home.anchor()
    table = Table(box=None, pad_edge=False)
    for column in ("model", "release", "state", "approved by", "who may still sign"):
        table.add_column(column)
    for model in anchor.models:
        current = repository.current_release(home, model)
        if current is not None:
            table.add_row(model, str(current.version), "[green]registered[/]", "", "")
    waiting = _waiting()
    if waiting is not None:
        published = repository.current_release(home, waiting.release.model)
        if published is None or published.version < waiting.release.version:
            tally = _reviews(waiting)
            row = (", ".join(tally.count.signed), ", ".join(tally.count.may_sign))
            state = "[yellow]waits[/]" if tally.count.missing else "[green]approved[/]: twinseal register"
            table.add_row(waiting.release.model, str(waiting.release.version), state, *row)
    if table.row_count:
        out.print(table)
    else:
        out.print("nothing is registered and nothing waits; make a candidate: dvc repro")
    warn_of_demo(anchor)


@review.command("show")
def review_show() -> None:
    """The release that waits: its verdict, its gates, its evidence, and who has signed. All of it verified first."""
    from twinseal.trust.release.candidate import require_bundle, verify_release
    from twinseal.trust.release.request import Request

    anchor = Home.find().anchor()
    require_bundle(BUNDLE, VERDICT, anchor)
    waiting = Request.read(RELEASE)
    checked = verify_release(BUNDLE, waiting.release, anchor)
    release, tally = waiting.release, _reviews(waiting)
    out.print(f"[bold]{release.model}[/] release {release.version}  candidate {release.mlflow_model_id}")
    out.print(f"release.json sha256 {release.sha256}   policy sha256 {release.policy_sha256}")
    _show_gates(checked.statements["assess"].predicate["twinseal_gates"])
    for item in anchor.evidence:
        out.print(
            f"  evidence [cyan]{item.name}[/], signed by the {item.role}: {BUNDLE}/evidence/{item.name}.dsse.json"
        )
    for seen in tally.items:
        out.print(f"  {seen.standing:8} {shown(seen.holder)} {shown(seen.time)}  {shown(seen.comment or seen.reason)}")
    out.print(tally.count.summary)
    out.print("the report to read: [cyan]reports/report.html[/]")
    if tally.count.may_sign:
        out.print(
            "to decide: [cyan]twinseal approve --as NAME[/]  or  [cyan]twinseal reject --as NAME --comment WHY[/]"
        )
    warn_of_demo(anchor)


def approve(
    holder: As,
    key: Key = None,
    comment: Annotated[str, typer.Option(help="Your own words; they are signed and shown.")] = "",
    yes: Yes = False,
) -> None:
    """Verify the release that waits as a twin would, and sign it."""
    from twinseal.trust.audit import log_of
    from twinseal.trust.keys.key import NamedSigner
    from twinseal.trust.release import approval
    from twinseal.trust.release.candidate import require_bundle
    from twinseal.trust.release.request import Request

    anchor = Home.find().anchor()
    require_bundle(BUNDLE, VERDICT, anchor)
    waiting = Request.read(RELEASE)
    release = waiting.release
    agree(yes, f"Sign {release.model} release {release.version} ({release.sha256[:12]}…) as {holder}?")
    reviewer = NamedSigner(holder, signer(key, holder))
    now, audit = datetime.now(UTC), log_of(Home.find().path)
    done = approval.approve(APPROVALS, waiting, BUNDLE, reviewer, anchor=anchor, audit=audit, now=now, comment=comment)
    line = (
        "[green]approved[/]" if done.is_new else "[yellow]already approved, with the same comment; nothing changed:[/]"
    )
    _say_standing(waiting, f"{line} by {holder}: {done.path}")


def reject(
    holder: As,
    comment: Annotated[str, typer.Option(help="Why not; it is signed and shown.")],
    key: Key = None,
    yes: Yes = False,
) -> None:
    """Say no, with a reason that is signed and kept. An approval of yours no longer counts then."""
    from twinseal.trust.audit import log_of
    from twinseal.trust.keys.key import NamedSigner
    from twinseal.trust.release import approval
    from twinseal.trust.release.request import Request

    anchor = Home.find().anchor()
    waiting = Request.read(RELEASE)
    agree(yes, f"Reject {waiting.release.model} release {waiting.release.version} as {holder}?")
    reviewer = NamedSigner(holder, signer(key, holder))
    now, audit = datetime.now(UTC), log_of(Home.find().path)
    done = approval.reject(APPROVALS, waiting, reviewer, anchor=anchor, audit=audit, now=now, comment=comment)
    line = "rejected" if done.is_new else "already rejected, with the same comment; nothing changed:"
    out.print(f"[yellow]{line}[/] by {holder}: {done.path}")
    out.print("it is shown beside the release; it is not counted, and stops nobody else")


def _show_gates(gates: list[dict[str, Any]]) -> None:
    from twinseal.registry.describe import SIGNS

    table = Table(box=None, pad_edge=False)
    for column in ("gate", "observed", "bound", "unit", "result"):
        table.add_column(column, justify="right" if column in ("observed", "bound") else "left")
    for gate in gates:
        passed = gate.get("result") == "PASSED"
        observed = gate.get("observed")
        number = f"{observed:.4g}" if isinstance(observed, int | float) else str(observed)
        result = f"[{'green' if passed else 'red'}]{gate.get('result')}[/]"
        bound = f"{SIGNS.get(str(gate.get('relation')), '')} {gate.get('bound'):g}"
        table.add_row(str(gate.get("name")), number, bound, str(gate.get("unit")), result)
    out.print(table)


def _waiting() -> Any:
    from twinseal.trust.release.request import Request

    return Request.read(RELEASE) if (RELEASE / "release.json").exists() else None


def _reviews(waiting: Any) -> Any:
    from twinseal.trust.release import approval

    return approval.read_all(APPROVALS, waiting, Home.find().anchor())


def _say_standing(waiting: Any, done: str) -> None:
    tally = _reviews(waiting).count
    out.print(done)
    if tally.missing:
        out.print(f"{tally.missing} more of {', '.join(tally.may_sign)} must sign before it can be registered")
    else:
        out.print("enough have signed; register it: [cyan]dvc repro[/]  or  [cyan]twinseal register[/]")
