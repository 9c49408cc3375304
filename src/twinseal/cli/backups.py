"""What an administrator does against loss: back a deployment up, and restore it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from twinseal.cli.options import examples
from twinseal.cli.server import Config
from twinseal.console import err, out, printable
from twinseal.errors import ConfigError
from twinseal.trust.root.home import Home

BACKUP_EXAMPLES = examples("twinseal backup /backup/review-2026-11-26.tar.gz", "twinseal backup --with-keys FILE")
RESTORE_EXAMPLES = examples(
    "twinseal restore /backup/review-2026-11-26.tar.gz --home /srv/twinseal",
    "twinseal restore FILE --home DIR --sha256 DIGEST",
    "twinseal restore FILE --home DIR --database postgresql://twinseal@localhost/empty",
)
File = Annotated[Path, typer.Argument(metavar="FILE", help="The backup.")]


def backup(
    file: File,
    with_keys: Annotated[bool, typer.Option("--with-keys", help="Private keys too.")] = False,
    database: Annotated[str | None, typer.Option(metavar="URI", help="As of twinseal serve.")] = None,
    config: Config = None,
) -> None:
    """Back up the deployment to the new FILE, while its server runs: database, artifacts, log, repository, reviews."""
    from twinseal.server.backup import back_up
    from twinseal.server.settings import ServerSettings

    home = Home.find()
    settings = ServerSettings.read(home, config, database=database)
    try:
        made = back_up(home, settings, file, datetime.now(UTC), with_keys=with_keys)
    except OSError as error:
        raise ConfigError(f"backup: expected to read the home and write {file}, got {error}") from error
    size = made.manifest.total_bytes
    out.print(f"[green]backed up[/]  {len(made.manifest.items)} files, {size >> 20} MiB, to {printable(file)}")
    out.print(f"root       {made.manifest.root_sha256}")
    out.print(f"log        {made.log_size} entries, verified")
    out.print(f"sha256     {made.sha256}   (keep it elsewhere: twinseal restore --sha256)")
    out.print("In it: MLflow's secrets, password hashes and the log's own key. Whoever reads the file has them.")
    for line in made.notes:
        err.print(f"[bold red]does not verify[/]  {printable(line)}")
    if with_keys:
        err.print("[bold red]PRIVATE KEYS ARE IN IT[/]: whoever reads the file, and knows their passphrases, can sign")
    else:
        out.print("Not in it: private keys, files that server.yaml names elsewhere (certificates, passwords)")


def restore(
    file: File,
    home: Annotated[Path, typer.Option("--home", metavar="DIR", help="The new home: a new or empty folder.")],
    sha256: Annotated[str, typer.Option(metavar="DIGEST", help="Of the file, as kept elsewhere.")] = "",
    database: Annotated[str, typer.Option(metavar="URI", help="An empty PostgreSQL database.")] = "",
) -> None:
    """Restore the backup FILE as the home DIR, once all of it was verified; or leave nothing behind."""
    from twinseal.server.restore import restore as restore_home

    try:
        made = restore_home(file, home, database=database, sha256=sha256)
    except OSError as error:
        raise ConfigError(f"restore: expected to read {file} and write {home}, got {error}") from error
    manifest = made.archive.manifest
    out.print(f"[green]restored[/]   {len(manifest.items)} files of {printable(manifest.created)} to {printable(home)}")
    out.print(f"root       {manifest.root_sha256}   (compare it with that of a twin: twinseal trust show)")
    out.print(f"log        {made.log.size} entries, {made.log.checkpoints} signed checkpoints, one history")
    for line in made.releases:
        out.print(f"verified   {printable(line)}")
    for line in made.notes:
        out.print(f"[yellow]older[/]      {printable(line)}")
    if not manifest.with_keys:
        out.print(f"keys       none were in it: put the registrar's into {printable(home / 'keys')}")
    if database:
        out.print("database   name it in server.yaml, or to: twinseal serve --database")
    out.print(f"serve      TWINSEAL_HOME={printable(home)} twinseal serve")
