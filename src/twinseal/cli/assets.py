"""What an ML engineer does with machines of their own: from an export to what the pipeline needs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from twinseal.cli import asset_options as options
from twinseal.cli.options import AsJson, examples
from twinseal.console import new_table, out, print_json, printable, refusals_as_json
from twinseal.errors import ConfigError
from twinseal.escaping import visible

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twinseal.assets.entries import Edit
    from twinseal.assets.missing import Missing
    from twinseal.assets.proposal import Proposal, Request

PAGES = Path("reports/assets")
MAX_SHOWN = 40  # rows of a table at the terminal; the page has all

asset = typer.Typer(
    help="Machines of your own: from an export of them to what the pipeline needs.",
    epilog=examples("twinseal asset new trafo --from export.csv --ends-in-failure", "twinseal asset check trafo"),
    no_args_is_help=True,
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="Of the kind of machine: a-z, 0-9 and _.")]


@asset.command(
    "new",
    epilog=examples(
        "twinseal asset new trafo --from export.csv --ends-in-failure",
        "twinseal asset new trafo --from export.csv --rul Rest --setting Last=load --ignore Werk",
        "twinseal asset new trafo --from export --failures failures.csv --zone Europe/Berlin --cycle-length 1d",
        'twinseal asset new trafo --connection PLANT --query "SELECT * FROM readings" --ends-in-failure',
        "twinseal asset new engine --from CMAPSSData --source cmapss --subset FD002 --like turbofan",
    ),
)
def new(
    name: Name,
    sources: options.From = None,
    files: options.Files = None,
    unit_in_name: options.UnitInName = "",
    source: options.Source = "table",
    subset: options.Subset = "FD001",
    connection: options.Connection = "",
    query: options.Query = "",
    separator: options.Separator = None,
    decimal: options.Decimal = None,
    encoding: options.Encoding = None,
    missing: options.MissingWord = None,
    unit: options.Unit = None,
    cycle: options.Cycle = None,
    time: options.Time = None,
    time_format: options.TimeFormat = None,
    zone: options.Zone = None,
    cycle_length: options.CycleLength = None,
    gather: options.Gather = None,
    rul: options.Rul = None,
    ends_in_failure: options.EndsInFailure = False,
    end_unknown: options.EndUnknown = False,
    failures: options.Failures = None,
    replacements: options.Replacements = None,
    setting: options.Setting = None,
    sensor: options.Sensor = None,
    ignore: options.Ignore = None,
    measured: options.Measured = None,
    scale: options.Scale = None,
    model: options.Model = "",
    description: options.Description = "",
    cycle_is: options.CycleIs = "",
    rul_cap: options.RulCap = None,
    keep: options.Keep = None,
    like: options.Like = "",
    replace: options.Replace = False,
    dry_run: options.DryRun = False,
) -> None:
    """Propose mapping, contract and threats for machines of your own, from an export; write them, marked proposed."""
    from twinseal.assets.exports import Asked
    from twinseal.assets.moments import Choices
    from twinseal.assets.proposal import Request
    from twinseal.telemetry.contract import Contract

    request = Request(
        asset=name,
        paths=tuple(map(_inside, sources or ())),
        patterns=tuple(files or ()),
        date=f"{datetime.now(UTC):%Y-%m-%d}",
        model=model,
        description=description,
        cycle=cycle_is,
        rul_cap_cycles=rul_cap,
        kept=frozenset(keep or ()),
        like=Contract.load(Path("policy/contract.yaml"), like) if like else None,
        asked=Asked(separator, decimal, encoding, tuple(missing or ())),
        choices=Choices(
            unit=unit,
            cycle=cycle,
            time=time,
            rul=rul,
            unit_in_name=unit_in_name,
            time_format=time_format,
            zone=zone,
            cycle_length=cycle_length,
            gather=gather,
            ends_in_failure=ends_in_failure,
            end_unknown=end_unknown,
            failures=failures,
            replacements=replacements,
            settings=tuple(map(_named, setting or ())),
            sensors=tuple(map(_named, sensor or ())),
            ignored=tuple(ignore or ()),
            measured=tuple(map(_measured, measured or ())),
            scaled=tuple(map(_scaled, scale or ())),
        ),
    )
    origin = _Origin("sql" if connection or query else source, subset, connection, query)
    _propose(request, origin, replace=replace, dry_run=dry_run)


@dataclass(frozen=True)
class _Origin:
    """Where the telemetry comes from: the source, and what it needs beside files."""

    source: str
    subset: str
    connection: str
    query: str

    def __str__(self) -> str:
        return f"${self.connection}" if self.source == "sql" else "the export"


def _propose(request: Request, origin: _Origin, *, replace: bool, dry_run: bool) -> None:
    """Show what is proposed, and write it."""
    from twinseal.assets.entries import edits, write
    from twinseal.assets.page import render
    from twinseal.files import write_whole

    with out.status(f"reading {printable(origin)}"):
        proposal = _proposal(request, origin)
        changes = edits(Path(), proposal, replace=replace)
    _print_proposal(proposal)
    page = PAGES / f"{request.asset}.html"
    write_whole(page, render(proposal).encode())
    if not dry_run:
        write(Path(), changes)
    _print_changes(changes, dry_run=dry_run)
    _print_next(proposal, page, dry_run=dry_run)


@asset.command("check", epilog=examples("twinseal asset check", "twinseal asset check trafo --json"))
def check(
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="Of the asset. Default: that of params.yaml.")] = "",
    as_json: AsJson = False,
) -> None:
    """Say all that an asset lacks before its model can be released, each with the command that mends it."""
    from twinseal.assets.missing import missing
    from twinseal.config import load
    from twinseal.telemetry.contract import AssetParams

    with refusals_as_json(as_json):
        asked = name or load(AssetParams, Path("params.yaml"), section="data").asset
        found = missing(Path(), asked)
    if as_json:
        items = [{"before": i.before, "where": i.where, "what": i.what, "command": i.command} for i in found]
        print_json({"asset": asked, "complete": not found, "missing": items})
    else:
        _print_missing(asked, found)
    if found:
        raise typer.Exit(1)


@asset.command("reference", epilog=examples("twinseal asset reference trafo"))
def reference(name: Name) -> None:
    """Make the last accepted fleet of an asset the one that later fleets are compared with: policy/reference.yaml."""
    from twinseal.assets.entries import reference_edit, write

    changes = (reference_edit(Path(), name),)
    write(Path(), changes)
    _print_changes(changes, dry_run=False)
    out.print("its owners must sign the policy anew: [cyan]twinseal policy show[/]")


def _inside(path: Path) -> Path:
    """The path as params.yaml names it: relative, where it lies in the project."""
    whole = path.absolute()
    return whole.relative_to(Path.cwd()) if whole.is_relative_to(Path.cwd()) else whole


def _named(text: str) -> tuple[str, str]:
    """Column and channel of COLUMN=name; the channel is "" where only a column is named."""
    column, _, channel = text.rpartition("=")
    return (column, channel) if column and re.fullmatch(r"[a-z][a-z0-9_]{0,39}", channel) else (text, "")


def _measured(text: str) -> tuple[str, str, str]:
    """Column, unit and wanted unit of COLUMN=UNIT or COLUMN=UNIT:UNIT."""
    column, _, units = text.rpartition("=")
    unit, _, wanted = units.partition(":")
    if not column or not unit:
        raise ConfigError(
            f"--measured: expected COLUMN=UNIT, got {visible(text[:60])!r}",
            remedy='For example: --measured "Oil=degF", or --measured "Oil=degF:degC" where it shall become degC',
        )
    return column, unit, wanted


def _scaled(text: str) -> tuple[str, float, float]:
    """Column, factor and offset of COLUMN=FACTOR or COLUMN=FACTOR,OFFSET."""
    column, _, numbers = text.rpartition("=")
    try:
        factor, offset = map(float, (numbers if "," in numbers else f"{numbers},0").split(","))
    except ValueError:
        column = ""
    if not column:
        raise ConfigError(
            f"--scale: expected COLUMN=FACTOR or COLUMN=FACTOR,OFFSET, got {visible(text[:60])!r}",
            remedy='For example: --scale "Temp x10=0.1"',
        )
    return column, factor, offset


def _proposal(request: Request, origin: _Origin) -> Proposal:
    from twinseal.assets.proposal import propose_cmapss, propose_sql, propose_table

    if origin.source == "sql":
        return propose_sql(request, origin.connection, origin.query)
    _require_files(request)
    if origin.source == "table":
        return propose_table(request)
    if origin.source == "cmapss":
        return propose_cmapss(request, origin.subset)
    raise ConfigError(f"--source: expected table or cmapss, got {origin.source[:40]!r}")


def _require_files(request: Request) -> None:
    if not request.paths:
        raise ConfigError(
            "expected files or a database, got neither",
            remedy="Name the export: --from FILE; or a query: --connection NAME --query SQL",
        )
    if any(re.match(r"[A-Za-z][\w+.-]*:/", str(path)) for path in request.paths):
        raise ConfigError(
            "--from: expected files, got the address of something else",
            remedy="Of a database, say the environment variable that has its address, so that no password is in a file "
            "or in the history of your shell: --connection NAME --query SQL",
        )


def _print_proposal(proposal: Proposal) -> None:
    from twinseal.assets.page import channel_rows

    fleet, contract = proposal.fleet, proposal.contract
    shortest, longest = int(fleet.lengths.min()), int(fleet.lengths.max())
    out.print(f"{len(fleet.units):,} units, {len(fleet):,} rows, histories of {shortest:,} to {longest:,} cycles")
    for sentence in proposal.said:
        out.print(f"  {printable(sentence)}")
    for reading in proposal.readings:
        out.print(f"[yellow]read[/]  {printable(reading)}")
    headings, rows = channel_rows(proposal)
    places = [headings.index(heading) for heading in ("channel", "kind", "unit", "bounds", "steps of", "a model")]
    table = new_table(*(headings[at] for at in places), title=f"proposed for {printable(contract.asset)}")
    for row in rows[:MAX_SHOWN]:
        table.add_row(*(printable(row[at]) for at in places))
    out.print(table)
    if len(rows) > MAX_SHOWN:
        out.print(f"  … and {len(rows) - MAX_SHOWN} more channels, on the page")
    for item in proposal.left_out[:MAX_SHOWN]:
        out.print(f"[yellow]left out[/]  {printable(item.column)}: {printable(item.why)}")
    if contract.regimes:
        names = ", ".join(contract.regimes.settings)
        out.print(f"operating points: {len(contract.regimes.points)}, by {printable(names)}")
    for odd in proposal.proposed.odd:
        words = "sets no bound" if odd.is_left_out else "sets bounds all the same"
        out.print(f"[yellow]far from the others, {words}[/]  {printable(odd)}")
    refused = proposal.refused_units
    if refused:
        most = contract.max_quarantined_share * len(fleet.units)
        colour = "red" if len(refused) > most else "yellow"
        out.print(f"[{colour}]{len(refused)} of these units would be set aside by validation[/]; the first findings:")
        for finding in proposal.findings[:5]:
            out.print(f"  • {printable(finding)}")


def _print_changes(changes: Sequence[Edit], *, dry_run: bool) -> None:
    out.print("[bold]would be written[/]" if dry_run else "[bold]written[/]")
    for edit in changes:
        for line in edit.diff:
            colour = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1], "")
            text = escape(visible(line))
            out.print(f"[{colour}]{text}[/]" if colour else text)


def _print_next(proposal: Proposal, page: Path, *, dry_run: bool) -> None:
    name = proposal.contract.asset
    out.print("[bold]what to do next[/]")
    steps = [
        f"look at {page}: each channel over the lives, with its bounds",
        "correct what is wrong: the same command with options, and --replace"
        if not dry_run
        else "the same command without --dry-run",
        f"[cyan]twinseal asset check {name}[/]: all that is missing, each with its command",
        f"[cyan]dvc repro validate[/], then [cyan]twinseal asset reference {name}[/]: the fleet that later ones are "
        "compared with; after training, that would run all stages again",
        "[cyan]dvc repro[/]: the first run; its verdict is denied while entries are only proposed",
        f"[cyan]twinseal gates propose {name}[/]: bounds for the gates, from that run; none were written yet",
        f"[cyan]twinseal asset accept {name} --as NAME[/] and [cyan]twinseal gates accept {name} --all --as NAME[/]: "
        "lift the marks, by name",
        "[cyan]twinseal policy approve --as NAME[/]: its owners sign; then dvc repro judges, and trains nothing again",
    ]
    for number, step in enumerate(steps, 1):
        out.print(f"  {number}. {step}")


def _print_missing(name: str, found: Sequence[Missing]) -> None:
    if not found:
        out.print(f"[green]complete[/]  nothing is missing for {printable(name)}")
        return
    for before, title in (("run", "before the first run"), ("release", "before a release")):
        items = [item for item in found if item.before == before]
        if items:
            out.print(f"[bold]{title}[/]")
        for item in items:
            out.print(f"  [red]missing[/]  {printable(item.where)}: {printable(item.what)}")
            out.print(f"           [cyan]{printable(item.command)}[/]")
