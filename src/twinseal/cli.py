"""The command line: a table of contents of what people do here. Each command reads, calls one verb, and says what came.

Exit codes are `twinseal.console`'s. The machine learning that a command needs is imported when the command runs:
`--help` and the reviewer's commands start without torch, and the twin's without MLflow.
"""

from __future__ import annotations

import json
import sys
from contextlib import closing
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import structlog
import typer
from rich.table import Table

from twinseal import __version__
from twinseal.console import err, exit_code, out, shown
from twinseal.errors import ConfigError, DataError, RootError
from twinseal.trust.home import Home

RELEASE = Path("models/release")
BUNDLE = Path("models/bundle")
APPROVALS = Path("approvals")
ROLES = Path("policy/roles.yaml")

app = typer.Typer(
    name="twinseal",
    help="What a predictive-maintenance model must pass before a digital twin will load it.",
    epilog="Exit codes: 0 done · 1 refused, with the reason and what to do · 2 misuse. Start: twinseal init --demo",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
review = typer.Typer(help="What waits for a decision, and what speaks for and against it.", no_args_is_help=True)

CUSTODIAN, REVIEWER, REGISTRAR, OPERATOR = "Custodians", "Reviewers", "Registrar", "The twin's operator"
app.add_typer(review, name="review", rich_help_panel=REVIEWER)

As = Annotated[str, typer.Option("--as", metavar="HOLDER", help="Who you are, as policy/roles.yaml names you.")]
Key = Annotated[
    str | None,
    typer.Option(metavar="URI", help="Your private key, e.g. file:/media/me/key.pem. [default: of the home]"),
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask: I have read the report.")]
Anchor = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="The trust anchor: root.json, admission.json. [default: of the home]"),
]
State = Annotated[Path, typer.Option(metavar="DIR", help="Where the twin keeps its model, and what it saw last.")]


@app.callback(invoke_without_command=True)
def about(
    version: Annotated[bool, typer.Option("--version", help="Say the version, and stop.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log every event, as JSON, to stderr.")] = False,
) -> None:
    """Set the log up; say the version."""
    structlog.configure(
        processors=[structlog.processors.TimeStamper(fmt="iso", utc=True), structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(20 if verbose else 50),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
    )
    if version:
        out.print(f"twinseal {__version__}")
        raise typer.Exit


@app.command(rich_help_panel=CUSTODIAN)
def init(
    demo: Annotated[
        bool, typer.Option("--demo", help="Throw-away keys for everyone, all here: to try it out.")
    ] = False,
) -> None:
    """Make the keys, the first metadata, and the anchor that every twin is installed with."""
    from twinseal.trust import ceremony
    from twinseal.trust.roles import Roles

    home, roles, now = Home.intended(), Roles.load(ROLES), datetime.now(UTC)
    home.make_private()
    if demo:
        anchor = ceremony.init_demo(home, roles, now)
        out.print("[bold yellow]DEMO KEYS[/]: unencrypted, all on one machine. They protect nothing; never use them.")
    else:
        anchor = ceremony.init(home, roles, now, passphrase=lambda holder: _passphrase(home.key_uri(holder), holder))
    out.print(f"who may do what: {', '.join(f'{name} {len(r.holders)}' for name, r in roles.roles)}")
    out.print(f"the anchor: {home.anchor_dir}  sha256 {anchor.fingerprint}")
    out.print("carry it to each twin by hand, and compare the digest there: nothing else is trusted beforehand")


@review.command("list")
def review_list() -> None:
    """The release that waits for a decision, and what is registered."""
    from twinseal.trust import repository

    home = Home.find()
    anchor = home.anchor()
    table = Table(box=None, pad_edge=False)
    for column in ("model", "release", "state", "approved by", "who may still sign"):
        table.add_column(column)
    for model in anchor.models:
        current = repository.current(home, model)
        if current is not None:
            table.add_row(model, str(current.version), "[green]registered[/]", "", "")
    waiting = _waiting()
    if waiting is not None:
        published = repository.current(home, waiting.release.model)
        if published is None or published.version < waiting.release.version:
            tally = _reviews(waiting)
            row = (", ".join(tally.count.signed), ", ".join(tally.count.may_sign))
            state = "[yellow]waits[/]" if tally.count.missing else "[green]approved[/]: twinseal register"
            table.add_row(waiting.release.model, str(waiting.release.version), state, *row)
    if table.row_count:
        out.print(table)
    else:
        out.print("nothing is registered and nothing waits; make a candidate: dvc repro")
    _warn_of_demo(anchor)


@review.command("show")
def review_show() -> None:
    """The release that waits: its verdict, its gates, its evidence, and who has signed. All of it verified first."""
    from twinseal.trust.candidate import verify_release
    from twinseal.trust.request import Request

    anchor = Home.find().anchor()
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
    out.print(
        f"approved by {len(tally.count.signed)} of {tally.count.threshold}: {', '.join(tally.count.signed) or 'nobody'}"
    )
    out.print("the report to read: [cyan]reports/report.html[/]")
    if tally.count.may_sign:
        out.print(
            "to decide: [cyan]twinseal approve --as NAME[/]  or  [cyan]twinseal reject --as NAME --comment WHY[/]"
        )
    _warn_of_demo(anchor)


@app.command(rich_help_panel=REVIEWER)
def approve(
    holder: As,
    key: Key = None,
    comment: Annotated[str, typer.Option(help="Your own words; they are signed and shown.")] = "",
    yes: Yes = False,
) -> None:
    """Verify the release that waits as a twin would, and sign it."""
    from twinseal.trust import approval
    from twinseal.trust.request import Request

    anchor = Home.find().anchor()
    waiting = Request.read(RELEASE)
    release = waiting.release
    _agree(yes, f"Sign {release.model} release {release.version} ({release.sha256[:12]}…) as {holder}?")
    path = approval.approve(
        APPROVALS,
        waiting.role_bytes,
        waiting.release_bytes,
        BUNDLE,
        anchor=anchor,
        holder=holder,
        signer=_signer(key, holder),
        now=datetime.now(UTC),
        comment=comment,
    )
    _say_standing(waiting, f"[green]approved[/] by {holder}: {path}")


@app.command(rich_help_panel=REVIEWER)
def reject(
    holder: As,
    comment: Annotated[str, typer.Option(help="Why not; it is signed and shown.")],
    key: Key = None,
    yes: Yes = False,
) -> None:
    """Say no, with a reason that is signed and kept. An approval of yours no longer counts then."""
    from twinseal.trust import approval
    from twinseal.trust.request import Request

    anchor = Home.find().anchor()
    waiting = Request.read(RELEASE)
    _agree(yes, f"Reject {waiting.release.model} release {waiting.release.version} as {holder}?")
    path = approval.reject(
        APPROVALS,
        waiting.role_bytes,
        waiting.release_bytes,
        anchor=anchor,
        holder=holder,
        signer=_signer(key, holder),
        now=datetime.now(UTC),
        comment=comment,
    )
    out.print(f"[yellow]rejected[/] by {holder}: {path}")
    out.print("it is shown beside the release; it is not counted, and stops nobody else")


@app.command(rich_help_panel=REGISTRAR)
def register() -> None:
    """Publish the release that k of n reviewers have signed: TUF metadata, MLflow's version, the alias champion."""
    from twinseal.registry.registration import register as publish
    from twinseal.registry.store import connect
    from twinseal.trust.roles import Roles

    home, roles = Home.find(), Roles.load(ROLES)
    done = publish(connect(home), home, BUNDLE, RELEASE, APPROVALS, roles=roles, now=datetime.now(UTC))
    if done.status == "pending":
        done.count.demand()
    again = " (it had been: nothing changed)" if done.status == "published" else ""
    out.print(f"[green]registered[/]  {done.release.model} release {done.release.version}{again}")
    out.print(f"MLflow: version {done.mlflow_version} is champion. Twins get it by: twinseal pull")


@app.command(rich_help_panel=OPERATOR)
def pull(
    source: Annotated[str, typer.Option("--from", metavar="URL|DIR", help="MLflow's address, or a mirror on a disk.")],
    model: Annotated[str, typer.Option(help="Which model, e.g. pump-rul.")],
    anchor: Anchor = None,
    state: State = Path("twin"),
) -> None:
    """Fetch the current release and verify all of it; only then does it replace the model that runs."""
    from twinseal.twin.pull import pull as fetch
    from twinseal.twin.sources import DirectorySource, RestSource

    trusted = _anchor(anchor)
    now = datetime.now(UTC)
    by_mlflow = source.startswith(("http://", "https://"))
    if not by_mlflow and not Path(source).is_dir():
        raise ConfigError(
            f"--from {source}: expected http://…, https://…, or a folder, got neither",
            remedy="Give MLflow's address, or the folder of a mirror.",
        )
    if by_mlflow:
        with closing(RestSource(source, model)) as served:
            admitted = fetch(served, trusted, model, state, now)
    else:
        admitted = fetch(DirectorySource(Path(source)), trusted, model, state, now)
    release = admitted.model.release
    news = "admitted" if admitted.changed else "current, and still whole"
    out.print(f"[green]{news}[/]  {release.model} release {release.version}: {len(release.files)} files")
    out.print(f"verified: root, clock, metadata, approval, files, signature, {len(trusted.evidence)} records, contents")
    _warn_of_demo(trusted)


@app.command(rich_help_panel=OPERATOR)
def verify(
    directory: Annotated[Path, typer.Argument(help="A signed bundle: model/, model.sig.json, evidence/.")],
    anchor: Anchor = None,
) -> None:
    """Verify a signed directory offline: signature, evidence, verdict. Says nothing of approval or freshness."""
    from twinseal.trust.candidate import verify_bundle

    if not directory.is_dir():
        raise ConfigError(f"{directory}: expected a directory, got none", remedy="twinseal verify models/bundle")
    trusted = _anchor(anchor)
    checked = verify_bundle(directory, trusted)
    out.print(
        f"[green]verified[/]  {checked.model}: {len(checked.files)} files, {len(checked.statements)} records, PASSED"
    )
    out.print("approval and freshness are not in a directory: they are checked by twinseal pull")
    _warn_of_demo(trusted)


@app.command(rich_help_panel=OPERATOR)
def run(
    telemetry: Annotated[Path, typer.Argument(help="CSV, Parquet, or JSON lines ('-': JSON lines from stdin).")],
    model: Annotated[str, typer.Option(help="Which model, e.g. pump-rul.")],
    anchor: Anchor = None,
    state: State = Path("twin"),
    last: Annotated[bool, typer.Option("--last", help="Only each unit's newest cycle.")] = False,
    limit: Annotated[
        int, typer.Option(min=0, help="At most so many lines, the most urgent first. 0: all, in order.")
    ] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="JSON lines instead of a table.")] = False,
) -> None:
    """Predict remaining life with the admitted model; the guard stands before every prediction."""
    from twinseal.twin import feed, runtime

    verified = runtime.current(state, _anchor(anchor), model)
    made = runtime.run(verified, feed.read(telemetry), last_only=last)
    if as_json:
        for item in made:  # as they come: a stream is answered row by row
            sys.stdout.write(json.dumps(asdict(item)) + "\n")
            sys.stdout.flush()
        return
    rows = sorted(made, key=lambda item: item.rul_cycles) if limit else list(made)
    if not rows:
        raise DataError(f"{telemetry}: expected rows of telemetry, got none", remedy="Ask why nothing was sent.")
    _show_predictions(rows[:limit] if limit else rows, model, verified.release.version)


def _show_predictions(made: Any, model: str, version: int) -> None:
    table = Table(title=f"{model} release {version}", title_justify="left", box=None, pad_edge=False)
    for column, justify in (
        ("unit", "left"),
        ("cycle", "right"),
        ("RUL, cycles", "right"),
        ("status", "left"),
        ("advice", "left"),
    ):
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    colours = {"ok": "green", "degraded": "yellow", "refused": "red"}
    for item in made:
        status = f"[{colours[item.status]}]{item.status}[/]"
        table.add_row(shown(item.unit), str(item.cycle), f"{item.rul_cycles:.1f}", status, shown(item.advice))
    out.print(table)


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
    from twinseal.trust.request import Request

    return Request.read(RELEASE) if (RELEASE / "release.json").exists() else None


def _reviews(waiting: Any) -> Any:
    from twinseal.trust import approval

    return approval.read_all(APPROVALS, waiting.role_bytes, Home.find().anchor())


def _say_standing(waiting: Any, done: str) -> None:
    tally = _reviews(waiting).count
    out.print(done)
    if tally.missing:
        out.print(f"{tally.missing} more of {', '.join(tally.may_sign)} must sign before it can be registered")
    else:
        out.print("enough have signed; register it: [cyan]dvc repro[/]  or  [cyan]twinseal register[/]")


def _agree(yes: bool, question: str) -> None:
    if not yes and not typer.confirm(question, err=True):
        raise ConfigError("nothing was signed", remedy="Answer y, or give --yes once you have read the report.")


def _signer(uri: str | None, holder: str) -> Any:
    from twinseal.trust.keys import open_signer

    Home.find().anchor().roles["reviewer"].key_of(holder)  # says who the reviewers are, before a key is looked for
    place = uri or Home.find().key_uri(holder)
    return open_signer(place, passphrase=_passphrase(place, holder))


def _passphrase(uri: str, holder: str) -> bytes | None:
    from twinseal.trust.keys import needs_passphrase

    if not needs_passphrase(uri) or not sys.stdin.isatty():
        return None  # the environment may have it; keys.open_signer says so when it has not
    return str(typer.prompt(f"passphrase of {holder}", hide_input=True, err=True)).encode()


def _anchor(directory: Path | None) -> Any:
    from twinseal.trust.anchor import Anchor as TrustAnchor

    if directory is None and not Home.intended().anchor_dir.is_dir():
        raise RootError(
            "trust anchor: expected one, got none",
            remedy="Give --anchor the folder that was carried here by hand: root.json and admission.json.",
        )
    return TrustAnchor.read(directory) if directory else Home.find().anchor()


def _warn_of_demo(anchor: Any) -> None:
    if anchor.demo:
        err.print("[yellow]demo keys: throw-away, all on one machine; what they sign proves nothing[/]")


def main() -> None:
    """The program: commands, with every refusal as one message and an exit code."""
    sys.exit(exit_code(app))
