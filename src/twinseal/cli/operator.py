"""What the twin's operator does: pull, verify, run."""

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

from twinseal.cli.options import AnchorDir, State, trusted, warn_of_demo
from twinseal.console import out, shown
from twinseal.errors import ConfigError, DataError


def pull(
    source: Annotated[str, typer.Option("--from", metavar="URL|DIR", help="MLflow's address, or a mirror on a disk.")],
    model: Annotated[str, typer.Option(help="Which model, e.g. pump-rul.")],
    anchor: AnchorDir = None,
    state: State = Path("twin"),
) -> None:
    """Fetch the current release and verify all of it; only then does it replace the model that runs."""
    from twinseal.twin.pull import pull as fetch
    from twinseal.twin.sources import DirectorySource, RestSource

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
    from twinseal.trust.candidate import verify_bundle

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
    from twinseal.twin import feed, runtime

    verified = runtime.current(state, trusted(anchor), model)
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
        ("readings", "left"),
        ("advice", "left"),
    ):
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    colours = {"ok": "green", "degraded": "yellow", "refused": "red"}
    for item in made:
        readings = f"[{colours[item.readings]}]{item.readings}[/]"
        table.add_row(shown(item.unit), str(item.cycle), f"{item.rul_cycles:.1f}", readings, shown(item.advice))
    out.print(table)
