"""What an administrator does: start the server, and manage its accounts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from twinseal.cli.options import AsJson, ask_new_password, examples, warn_of_demo
from twinseal.console import err, new_table, out, print_json, printable
from twinseal.trust.root.home import Home

if TYPE_CHECKING:
    from twinseal.server.settings import ServerSettings

SERVE_EXAMPLES = examples(
    "twinseal serve",
    "twinseal serve --port 0",
    "twinseal serve --host 0.0.0.0 --public-url https://review.plant.example --tls-certificate C.pem --tls-key K.pem",
    "twinseal serve --database postgresql://twinseal@localhost/twinseal --workers 4",
)
account = typer.Typer(
    help="Accounts of the server, and their roles: reader, engineer, reviewer, registrar.",
    epilog=examples("twinseal account add alice --role reviewer", "twinseal account list"),
    no_args_is_help=True,
)

Config = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="Settings. Default: server.yaml in the home.")
]
Name = Annotated[str, typer.Argument(metavar="NAME", help="The account. A reviewer's: the name in policy/roles.yaml.")]


def serve(
    config: Config = None,
    host: Annotated[str | None, typer.Option(help="The address to listen on. Default: 127.0.0.1.")] = None,
    port: Annotated[int | None, typer.Option(help="The port; 0 takes one that is free. Default: 5000.")] = None,
    public_url: Annotated[str | None, typer.Option(metavar="URL", help="What people type into their browser.")] = None,
    database: Annotated[str | None, typer.Option(metavar="URI", help="postgresql://…; default: SQLite.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that answer. Default: 1.")] = None,
    tls_certificate: Annotated[str | None, typer.Option(metavar="FILE", help="Certificate in PEM.")] = None,
    tls_key: Annotated[str | None, typer.Option(metavar="FILE", help="Its private key in PEM.")] = None,
) -> None:
    """Start MLflow for people and twins: protected models, artifacts written once, accounts. Ctrl-C stops it."""
    from twinseal.errors import BusyError
    from twinseal.server.rounds import locked
    from twinseal.server.settings import ServerSettings

    home = Home.find()
    settings = ServerSettings.read(
        home,
        config,
        host=host,
        port=port,
        public_url=public_url,
        database=database,
        workers=workers,
        tls_certificate=tls_certificate,
        tls_key=tls_key,
    )
    with locked(home.path / "mlflow" / "serve.lock", wait=False) as is_alone:
        if not is_alone:
            raise BusyError(
                f"{home.path}: expected no server over this home, got one that runs",
                remedy="Stop it first. For more processes that answer: --workers N",
            )
        _serve(home, settings)


def _serve(home: Home, settings: ServerSettings) -> None:
    """Make everything ready, say where it is, and answer until Ctrl-C."""
    from twinseal.server.serving import prepare, run

    prepared = prepare(home, settings)
    settings = prepared.settings
    if not settings.tls_certificate:
        reach = "only programs on this machine reach it" if settings.is_local else "ANYONE ON THE NETWORK CAN READ THEM"
        err.print(f"[bold red]no TLS[/]: passwords and models are sent in the clear; {reach}")
    out.print(f"MLflow           {settings.origin}")
    out.print(f"reviews          {settings.origin}/twinseal/review")
    out.print(f"TUF metadata     {settings.origin}/twinseal/tuf/metadata/timestamp.json")
    out.print(f"metrics, health  {settings.origin}/twinseal/metrics   /twinseal/ready")
    out.print(f"access log       {printable(home.path / 'mlflow' / 'access.log')}")
    if settings.oidc:
        out.print(f"sign-in          {printable(settings.oidc.issuer)}, back to {settings.origin}/twinseal/callback")
    if prepared.first_password:
        out.print(f"first account    admin, password {prepared.first_password}   (shown only now)")
        out.print("more accounts    twinseal account add NAME --role reader|engineer|reviewer|registrar")
    out.print("Ctrl-C stops it")
    warn_of_demo(home.anchor())
    run(settings)
    out.print("stopped")


@account.command("add", epilog=examples("twinseal account add alice --role reviewer --role reader"))
def account_add(
    name: Name,
    role: Annotated[list[str], typer.Option("--role", help="reader, engineer, reviewer or registrar; repeatable.")],
    config: Config = None,
) -> None:
    """Make the account NAME, or give it a new password and these roles."""
    from twinseal.server.people import Accounts, check_roles
    from twinseal.server.serving import accounts_uri
    from twinseal.server.settings import ServerSettings

    home = Home.find()
    check_roles(role)  # before anybody types a password
    password = ask_new_password(name)
    Accounts(accounts_uri(home, ServerSettings.read(home, config))).add(name, role, password)
    out.print(f"[green]account[/] {printable(name)}: {', '.join(role)}")


@account.command("remove", epilog=examples("twinseal account remove alice"))
def account_remove(name: Name, config: Config = None) -> None:
    """Delete the account NAME. What its key has signed stays."""
    from twinseal.server.people import Accounts
    from twinseal.server.serving import accounts_uri
    from twinseal.server.settings import ServerSettings

    home = Home.find()
    Accounts(accounts_uri(home, ServerSettings.read(home, config))).remove(name)
    out.print(f"removed {printable(name)}")


@account.command("list", epilog=examples("twinseal account list --json"))
def account_list(config: Config = None, as_json: AsJson = False) -> None:
    """List the accounts and their roles."""
    from twinseal.server.people import Accounts
    from twinseal.server.serving import accounts_uri
    from twinseal.server.settings import ServerSettings

    home = Home.find()
    found = Accounts(accounts_uri(home, ServerSettings.read(home, config))).all()
    if as_json:
        print_json({"accounts": [{"name": person.name, "roles": sorted(person.roles)} for person in found]})
        return
    table = new_table("account", "roles")
    for person in found:
        table.add_row(printable(person.name), ", ".join(sorted(person.roles)) or "none")
    out.print(table)
