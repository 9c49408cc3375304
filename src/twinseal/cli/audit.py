"""The audit log: what was decided here, whether it is still what was written, and proof of it for others."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from twinseal.console import out, shown
from twinseal.errors import ConfigError
from twinseal.trust.home import Home

audit = typer.Typer(help="What was decided here: show it, verify it, prove it.", no_args_is_help=True)

StateDir = Annotated[
    Path | None, typer.Option("--state", metavar="DIR", help="A twin's folder. [default: the log of the home]")
]
COLOURS = {"refused": "red", "rejected": "yellow", "revoked": "yellow"}


@audit.command("show")
def show(
    state: StateDir = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON lines instead of a table.")] = False,
    last: Annotated[int, typer.Option(min=0, help="The last so many entries; 0: all.")] = 20,
) -> None:
    """Show the decisions, newest last, each proven against the newest signed checkpoint."""
    log = _log(state)
    head = log.head()
    entries = log.read(-last if last else 0)
    if as_json:
        for index, entry in entries:
            sys.stdout.write(json.dumps({"index": index} | json.loads(entry.to_bytes())) + "\n")
        return
    rows = [_row(index, entry) for index, entry in entries]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))] if rows else []
    for (_, entry), row in zip(entries, rows, strict=True):
        first, *cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        cells[1] = f"[{COLOURS.get(entry.event, 'green')}]{cells[1]}[/]"
        out.print("  ".join((first, *cells)).rstrip())
        for name, text in entry.details.items():
            out.print(f"{'':{widths[0]}}  {shown(name)}: {shown(_line(text))}")
    out.print(f"{head.size} entries, {len(entries)} shown. To see tampering later, keep two things on another machine:")
    out.print(f"a copy of {shown(log.path / 'checkpoint')}, and this key: [cyan]{shown(head.vkey)}[/]")


@audit.command("verify")
def verify(
    state: StateDir = None,
    against: Annotated[
        Path | None, typer.Option(metavar="CHECKPOINT", help="A checkpoint of this log that was kept elsewhere.")
    ] = None,
    vkey: Annotated[
        str | None, typer.Option(metavar="KEY", help="The verifier key as kept elsewhere: its text, or a file.")
    ] = None,
) -> None:
    """Verify every entry against every checkpoint that was ever signed; the first bad entry is named."""
    from twinseal.trust.audit import verify as check

    kept = None if against is None else _read(against, "--against")
    done = check(_log(state).path, vkey=_key(vkey), against=kept)
    out.print(f"[green]verified[/]  {done.size} entries, {done.checkpoints} signed checkpoints, one history")
    if not done.pinned:
        out.print("[yellow]the key was taken from beside the log[/]: give --vkey the one that you keep elsewhere")
    if done.kept_size is None:
        out.print("[yellow]a log that was cut back is not seen[/]: give --against a checkpoint that you keep elsewhere")
    else:
        out.print(f"it begins with the {done.kept_size} entries of the kept checkpoint")
    out.print(f"vkey {shown(done.vkey)}")


@audit.command("prove")
def prove(
    index: Annotated[int | None, typer.Argument(metavar="[INDEX]", help="Which entry, from 0.")] = None,
    old_size: Annotated[
        int | None, typer.Option("--from", metavar="SIZE", min=0, help="That the log still begins as it was then.")
    ] = None,
    state: StateDir = None,
) -> None:
    """Prove, as JSON, that an entry is in the log, or that the log only grew: for whoever has its verifier key."""
    if (index is None) == (old_size is None):
        raise ConfigError(
            "audit prove: expected an entry or --from, got both or none",
            remedy="twinseal audit prove 7   or   twinseal audit prove --from 5",
        )
    log = _log(state)
    proof: dict[str, Any] = log.prove(index) if index is not None else log.prove_consistency(old_size or 0)
    sys.stdout.write(json.dumps(proof, indent=2) + "\n")


def _row(index: int, entry: Any) -> tuple[str, ...]:
    version = str(entry.version or "")
    names = (shown(_line(name)) for name in (entry.actor, entry.model))
    return (str(index), f"{entry.time:%Y-%m-%d %H:%M:%S}", entry.event, *names, version, entry.sha256[:12])


def _line(text: str) -> str:
    """On one line, whatever the words hold: a second line could pass for another entry."""
    return " ".join(text.split())


def _log(state: Path | None) -> Any:
    from twinseal.trust.audit import log_of

    return log_of(Home.find().path if state is None else state)


def _key(said: str | None) -> str | None:
    """The key itself, or what is in the file of that name."""
    if said is None or "+" in said or not Path(said).exists():
        return said
    return _read(Path(said), "--vkey").decode("utf-8", "replace").strip()


def _read(path: Path, option: str) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(4097)  # more than a checkpoint may have is refused as none
    except OSError as error:
        raise ConfigError(f"{option} {path}: expected a file, got none ({error.strerror})") from error
