"""The audit log: what was decided here, whether it is still what was written, and proof of it for others."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from twinseal.cli.options import examples
from twinseal.console import out, print_entry, printable
from twinseal.errors import ConfigError, suggest
from twinseal.reading import read_regular
from twinseal.trust.root.home import Home

if TYPE_CHECKING:
    from twinseal.trust.audit import Entry, Log

audit = typer.Typer(
    help="The log of all decisions: show it, verify it, prove it to others.",
    epilog=examples("twinseal audit show", "twinseal audit verify"),
    no_args_is_help=True,
)

LogOf = Annotated[
    Path | None, typer.Option("--state", metavar="DIR", help="A twin's folder. Default: the log of the home.")
]
COLOURS = {"refused": "red", "rejected": "yellow", "withdrawn": "yellow", "revoked": "yellow"}


@audit.command(
    "show",
    epilog=examples(
        "twinseal audit show --last 5",
        "twinseal audit show --last 0 --json",
        "twinseal audit show --state twin",
    ),
)
def show(
    state: LogOf = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON lines instead of a table.")] = False,
    last: Annotated[int, typer.Option(min=0, help="How many of the newest entries; 0: all.")] = 20,
) -> None:
    """Show the decisions, newest last, each proven against the newest signed checkpoint."""
    log = _open_log(state)
    head = log.head()
    entries = log.read(-last if last else 0)
    if as_json:
        for index, entry in entries:
            sys.stdout.write(json.dumps({"index": index} | json.loads(entry.to_bytes())) + "\n")
        return
    rows = [_cells(index, entry) for index, entry in entries]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))] if rows else []
    for (_, entry), row in zip(entries, rows, strict=True):
        first, *cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        cells[1] = f"[{COLOURS.get(entry.event, 'green')}]{cells[1]}[/]"
        out.print("  ".join((first, *cells)).rstrip())
        for name, text in entry.details.items():
            print_entry(f"{'':{widths[0]}}  {printable(name)}:", text)
    out.print(f"{head.size} entries, {len(entries)} shown. To detect tampering later, keep on another machine:")
    out.print(f"a copy of {printable(log.path / 'checkpoint')}, and this key: [cyan]{printable(head.vkey)}[/]")


@audit.command(
    "verify",
    epilog=examples(
        "twinseal audit verify",
        "twinseal audit verify --against backup/checkpoint --vkey backup/vkey",
        "twinseal audit verify --state twin",
    ),
)
def verify(
    state: LogOf = None,
    against: Annotated[
        Path | None, typer.Option(metavar="CHECKPOINT", help="A checkpoint of this log that was kept elsewhere.")
    ] = None,
    vkey: Annotated[
        str | None, typer.Option(metavar="KEY", help="The verifier key as kept elsewhere: its text, or a file.")
    ] = None,
) -> None:
    """Verify every entry against every checkpoint that was ever signed; the first bad entry is named."""
    from twinseal.trust.audit import verify as verify_log

    checkpoint = None if against is None else _read_file(against, "--against")
    verified = verify_log(_open_log(state).path, vkey=_read_verifier_key(vkey), against=checkpoint)
    out.print(f"[green]verified[/]  {verified.size} entries, {verified.checkpoints} signed checkpoints, one history")
    if not verified.pinned:
        out.print("[yellow]the key was taken from beside the log[/]: give --vkey the one that you keep elsewhere")
    if verified.kept_size is None:
        out.print("[yellow]a log that was cut short is not detected[/]: give --against a checkpoint kept elsewhere")
    else:
        out.print(f"it begins with the {verified.kept_size} entries of the kept checkpoint")
    out.print(f"vkey {printable(verified.vkey)}")


@audit.command("prove", epilog=examples("twinseal audit prove 7 > proof.json", "twinseal audit prove --from 5"))
def prove(
    index: Annotated[int | None, typer.Argument(metavar="[INDEX]", help="Which entry, from 0.")] = None,
    old_size: Annotated[
        int | None,
        typer.Option("--from", metavar="SIZE", min=0, help="Prove that the log still begins as it was at this size."),
    ] = None,
    state: LogOf = None,
) -> None:
    """Prove, as JSON, that an entry is in the log, or that the log only grew. Checked with the log's verifier key."""
    if (index is None) == (old_size is None):
        raise ConfigError(
            "audit prove: expected an entry or --from, got both or none",
            remedy="twinseal audit prove 7   or   twinseal audit prove --from 5   (twinseal audit show lists them)",
        )
    log = _open_log(state)
    proof = log.prove(index) if index is not None else log.prove_consistency(old_size or 0)
    sys.stdout.write(json.dumps(proof, indent=2) + "\n")


def _cells(index: int, entry: Entry) -> tuple[str, ...]:
    version = str(entry.version or "")
    names = (printable(name) for name in (entry.actor, entry.model))
    return (str(index), f"{entry.time:%Y-%m-%d %H:%M:%S}", entry.event, *names, version, entry.sha256[:12])


def _open_log(state: Path | None) -> Log:
    from twinseal.trust.audit import log_of

    return log_of(Home.find().path if state is None else state)


def _read_verifier_key(key: str | None) -> str | None:
    """The key itself, or what is in the file of that name.

    Raises:
        AuditError: It is no verifier key.
    """
    from twinseal.trust.audit import note

    if key is None:
        return None
    if "+" not in key and Path(key).exists():
        key = _read_file(Path(key), "--vkey").decode("utf-8", "replace").strip()
    with suggest("Give the key that you keep elsewhere, or its file: twinseal audit verify --vkey KEY"):
        note.parse_vkey(key)
    return key


def _read_file(path: Path, option: str) -> bytes:
    try:
        return read_regular(path, 4096, follow=True)  # more than a checkpoint may have is refused as none
    except OSError as error:
        raise ConfigError(
            f"{option} {path}: expected a file, got none ({error.strerror})",
            remedy=f"Name the copy that you keep elsewhere: twinseal audit verify {option} FILE",
        ) from error
