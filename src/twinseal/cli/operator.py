"""What is done where the twin is: the operator's pull, verify and run; the commissioners' commission."""

from __future__ import annotations

import json
import sys
from contextlib import closing
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from twinseal.cli.options import AnchorDir, As, Key, State, agree, passphrase, trusted, warn_of_demo
from twinseal.console import err, out, shown
from twinseal.errors import ConfigError, DataError
from twinseal.trust.home import Home


def pull(
    source: Annotated[str, typer.Option("--from", metavar="URL|DIR", help="MLflow's address, or a mirror on a disk.")],
    model: Annotated[str, typer.Option(help="Which model, e.g. pump-rul.")],
    anchor: AnchorDir = None,
    state: State = Path("twin"),
) -> None:
    """Fetch the current release and verify all of it; only then does it replace the model that runs."""
    from twinseal.twin.byte_sources import DirectorySource, RestSource
    from twinseal.twin.pull import pull as fetch

    pinned = trusted(anchor)
    now = datetime.now(UTC)
    by_mlflow = source.startswith(("http://", "https://"))
    if not by_mlflow and not Path(source).is_dir():
        raise ConfigError(
            f"--from {source}: expected http://…, https://…, or a folder, got neither",
            remedy="Give MLflow's address, or the folder of a mirror.",
        )
    if by_mlflow:
        with closing(RestSource(source, model)) as served:
            admitted = fetch(served, pinned, model, state, now)
    else:
        admitted = fetch(DirectorySource(Path(source)), pinned, model, state, now)
    release = admitted.model.release
    news = "admitted" if admitted.changed else "current, and still whole"
    out.print(f"[green]{news}[/]  {release.model} release {release.version}: {len(release.files)} files")
    out.print(f"verified: root, clock, metadata, approval, files, signature, {len(pinned.evidence)} records, contents")
    warn_of_demo(pinned)


def verify(
    directory: Annotated[Path, typer.Argument(help="A signed bundle: model/, model.sig.json, evidence/.")],
    anchor: AnchorDir = None,
) -> None:
    """Verify a signed directory offline: signature, evidence, verdict. Says nothing of approval or freshness."""
    from twinseal.trust.release.candidate import verify_bundle

    if not directory.is_dir():
        raise ConfigError(f"{directory}: expected a directory, got none", remedy="twinseal verify models/bundle")
    pinned = trusted(anchor)
    checked = verify_bundle(directory, pinned)
    out.print(
        f"[green]verified[/]  {checked.model}: {len(checked.files)} files, {len(checked.statements)} records, PASSED"
    )
    out.print("approval and freshness are not in a directory: they are checked by twinseal pull")
    warn_of_demo(pinned)


def run(
    telemetry: Annotated[Path, typer.Argument(help="CSV, Parquet, or JSON lines ('-': JSON lines from stdin).")],
    model: Annotated[str, typer.Option(help="Which model, e.g. pump-rul.")],
    anchor: AnchorDir = None,
    state: State = Path("twin"),
    last: Annotated[bool, typer.Option("--last", help="Only each unit's newest cycle.")] = False,
    limit: Annotated[
        int, typer.Option(min=0, help="At most so many lines, the most urgent first. 0: all, in order.")
    ] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="JSON lines instead of a table.")] = False,
) -> None:
    """Predict remaining life with the admitted model; the guard stands before every prediction."""
    from twinseal.twin import commissioning, runtime, telemetry_reader

    pinned = trusted(anchor)
    verified = runtime.current_model(state, pinned, model)
    first = commissioning.baselines(state, pinned, verified, datetime.now(UTC))
    for refusal in first.refused:
        err.print(
            f"[yellow]{shown(refusal.unit)}: the baseline record is not used[/], its life is estimated without them: "
            f"{shown(refusal.reason)}"
        )
    made = runtime.run(verified, telemetry_reader.read(telemetry), baselines=first, last_only=last)
    if as_json:
        for item in made:  # as they come: a stream is answered row by row
            sys.stdout.write(json.dumps(asdict(item)) + "\n")
            sys.stdout.flush()
        return
    rows = sorted(made, key=lambda item: item.rul_cycles) if limit else list(made)
    if not rows:
        raise DataError(f"{telemetry}: expected rows of telemetry, got none", remedy="Ask why nothing was sent.")
    _show_predictions(rows[:limit] if limit else rows, model, verified.release.version)


def commission(
    telemetry: Annotated[Path, typer.Argument(help="CSV, Parquet or JSON lines, from each unit's cycle 1 on.")],
    model: Annotated[str, typer.Option(help="Which model, e.g. pump-rul.")],
    holder: As,
    units: Annotated[
        list[str] | None, typer.Option("--unit", metavar="UNIT", help="Which unit; again for more. Else all.")
    ] = None,
    anchor: AnchorDir = None,
    state: State = Path("twin"),
    key: Key = None,
    replacing: Annotated[
        bool, typer.Option("--replace", help="Also units that were commissioned before. Only if they are as new.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask: I have compared the values.")] = False,
) -> None:
    """Sign what new machines say in their first 20 cycles, so that nobody can move it later."""
    from twinseal.trust.baseline_record import unit_key
    from twinseal.trust.keys.key import NamedSigner, open_signer
    from twinseal.twin import baseline_rows, commissioner, commissioning, runtime, telemetry_reader
    from twinseal.twin.seen_records import read_memory
    from twinseal.twin.state import State as TwinState

    if str(telemetry) == "-":
        raise ConfigError("-: expected a file, got the standard input", remedy="What is signed must be there to keep.")
    pinned, now = trusted(anchor), datetime.now(UTC)
    verified = runtime.current_model(state, pinned, model)
    root = commissioning.newest_root(TwinState(state), pinned)
    root.roles[commissioning.ROLE].key_of(holder)  # says who they are, before a key is looked for
    found = baseline_rows.take_first_rows(telemetry_reader.read(telemetry), verified.model.contract, units or ())
    kept = read_memory(TwinState(state))
    for unit, rows in found.items():
        _show_baseline_rows(unit, rows, verified)
        before = kept.get(unit_key(unit))
        if before is not None:
            out.print(f"[yellow]it was commissioned before[/]: version {before.version}")
    names = ", ".join(found) if len(found) <= 3 else f"{len(found)} units"
    agree(yes, f"Sign as {holder} that this is what {names} says when new and healthy?")
    place = key or Home.default().key_uri(holder)
    signer = open_signer(place, passphrase=passphrase(place, holder), holder=holder)
    done = commissioner.commission(
        state, pinned, verified, found, NamedSigner(holder, signer), now=now, replacing=replacing
    )
    _say_commissioned(done, ", ".join(item.name for item in root.roles[commissioning.ROLE].holders))
    warn_of_demo(pinned)


def _show_baseline_rows(unit: str, rows: Any, verified: Any) -> None:
    """What is about to be signed: each mean beside what the contract allows and what the fleet said over its life."""
    from twinseal.twin import runtime

    contract = verified.model.contract
    sigma = dict(zip(contract.channels, verified.model.normaliser.apply(rows).mean(axis=0), strict=True))
    name = unit if unit.isascii() else f"{unit} ({unit!a})"  # a look-alike letter shows itself
    table = Table(title=f"{shown(name)}, cycles 1 to {len(rows)}", title_justify="left", box=None, pad_edge=False)
    for column in ("channel", "mean", "lowest", "highest", "contract", "unit", "σ from the fleet's mean"):
        table.add_column(column, justify="left" if column in ("channel", "unit") else "right")
    for channel, values in zip(contract.inputs, rows.T, strict=True):
        limit = contract.all_channels[channel]
        numbers = (f"{value:.6g}" for value in (values.mean(), values.min(), values.max()))
        apart = f"{sigma[channel]:+.2f}" if channel in sigma else ""
        table.add_row(channel, *numbers, f"{limit.minimum:g} to {limit.maximum:g}", shown(limit.unit), apart)
    out.print(table)
    values = (dict(zip(contract.inputs, row, strict=True)) for row in rows)
    told = [{"unit": unit, "cycle": cycle, **said} for cycle, said in enumerate(values, start=1)]
    (answer,) = runtime.run(verified, told, last_only=True)
    out.print(
        f"without a baseline the model gives it {answer.rul_cycles:.0f} of at most "
        f"{contract.rul_cap_cycles:.0f} cycles: {shown(answer.advice)}"
    )


def _say_commissioned(done: Any, holders: str) -> None:
    colours = {"signed": "green", "countersigned": "green", "stands": "yellow"}
    for item in done:
        waits = f"; {item.missing} more of {holders} must sign it: the same command, as them" if item.missing else ""
        record = item.record
        out.print(f"[{colours[item.outcome]}]{item.outcome}[/]  {shown(record.unit)} version {record.version}{waits}")
        if item.replaced:
            out.print(f"what it replaces is kept: {shown(item.replaced)}")
    out.print("they count from the next start of [cyan]twinseal run[/]")


def _show_predictions(made: Any, model: str, version: int) -> None:
    table = Table(title=f"{model} release {version}", title_justify="left", box=None, pad_edge=False)
    for column, justify in (
        ("unit", "left"),
        ("cycle", "right"),
        ("RUL, cycles", "right"),
        ("90 % between", "right"),
        ("readings", "left"),
        ("advice", "left"),
    ):
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    colours = {"ok": "green", "degraded": "yellow", "refused": "red"}
    for item in made:
        readings = f"[{colours[item.readings]}]{item.readings}[/]"
        between = "–" if item.readings == "refused" else f"{item.low_cycles:.0f} and {item.high_cycles:.0f}"
        mark = "*" if item.commissioned else ""
        life = f"{item.rul_cycles:.1f}{mark}"
        table.add_row(shown(item.unit), str(item.cycle), life, between, readings, shown(item.advice))
    if any(item.commissioned for item in made):
        table.caption = "* with the unit's baseline record"
    out.print(table)
