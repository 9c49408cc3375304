"""The command line: one module for each role, one function for each command. Begin with `reviewers`.

    options.py      what commands share: options, places, examples, questions to a person
    assets.py       asset new|check|reference
    custodians.py   init, use, trust show|renew|sign, keys rotate|revoke
    key_holders.py  keys new|show
    policy_owners.py  policy show|approve
    acceptance.py   asset accept
    gates.py        gates propose|accept
    enrolment.py    reviewer enroll
    reviewers.py    review list|show
    decisions.py    approve, reject, withdraw, comment
    registrar.py    register
    operator.py     pull, verify, run, commission; answers.py says what run found
    delivery.py     mirror, export
    gateway.py      gateway
    devices.py      device key|enroll|revoke|counter|show
    service.py      twin run|check: what answers for years
    units.py        unit enroll|overhaul|sensor-replaced|counter-replaced|retire|renew|show
    commissioners.py  what these two share
    server.py       serve, account add|remove|list
    backups.py      backup, restore
    audit.py        audit show|verify|prove

Each command reads, calls one verb, and prints the result. Exit codes are those of `twinseal.console`. The machine
learning that a command needs is imported when the command runs: `--help` and the commands of reviewers start without
torch, and those of the twin without MLflow.
"""

from __future__ import annotations

import sys
from typing import Annotated

import structlog
import typer

from twinseal import __version__
from twinseal.cli import (
    acceptance,
    assets,
    audit,
    backups,
    custodians,
    decisions,
    delivery,
    devices,
    enrolment,
    gates,
    gateway,
    key_holders,
    operator,
    policy_owners,
    registrar,
    reviewers,
    server,
    service,
    units,
)
from twinseal.cli.options import examples
from twinseal.console import exit_code, out
from twinseal.errors import ConfigError

app = typer.Typer(
    name="twinseal",
    help="What a predictive-maintenance model must pass before a digital twin will load it.",
    epilog=examples("twinseal init --demo", "twinseal review show", "twinseal --install-completion")
    + "\n\nExit codes: 0 done · 1 refused, with the reason and what to do · 2 misuse · 3 telemetry was refused",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)

CUSTODIAN, REVIEWER, REGISTRAR, OPERATOR = "Custodians", "Reviewers", "Registrar", "The twin's operator"
COMMISSIONER = "Commissioners"
OWNER = "Policy owners"
ENGINEER = "Whoever brings a new asset"
EVERYONE = "Everyone"
ADMINISTRATOR = "The server's administrator"


@app.callback(invoke_without_command=True)
def configure(
    version: Annotated[bool, typer.Option("--version", help="Print the version, and stop.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log every event, as JSON, to stderr.")] = False,
    passphrase_fd: Annotated[
        int | None, typer.Option(metavar="N", help="Read passphrases and PINs from this file descriptor.")
    ] = None,
) -> None:
    """Configure the log; print the version."""
    if passphrase_fd is not None:
        from twinseal.trust.keys.passphrases import descriptors

        descriptors.choose(passphrase_fd)
    structlog.configure(
        processors=[structlog.processors.TimeStamper(fmt="iso", utc=True), structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(20 if verbose else 50),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
    )
    if version:
        out.print(f"twinseal {__version__}")
        raise typer.Exit


app.command(rich_help_panel=CUSTODIAN, epilog=custodians.INIT_EXAMPLES)(custodians.init)
app.command(rich_help_panel=EVERYONE, epilog=custodians.USE_EXAMPLES)(custodians.use)
app.add_typer(custodians.trust, name="trust", rich_help_panel=CUSTODIAN)
app.add_typer(enrolment.reviewer, name="reviewer", rich_help_panel=CUSTODIAN)
key_holders.keys.command(epilog=custodians.ROTATE_EXAMPLES)(custodians.rotate)
key_holders.keys.command(epilog=custodians.REVOKE_EXAMPLES)(custodians.revoke)
app.add_typer(key_holders.keys, name="keys", rich_help_panel=EVERYONE)
app.add_typer(audit.audit, name="audit", rich_help_panel=EVERYONE)
app.add_typer(policy_owners.policy, name="policy", rich_help_panel=OWNER)
assets.asset.command("accept", epilog=acceptance.ACCEPT_EXAMPLES)(acceptance.asset_accept)
app.add_typer(assets.asset, name="asset", rich_help_panel=ENGINEER)
app.add_typer(gates.gates, name="gates", rich_help_panel=ENGINEER)
app.add_typer(reviewers.review, name="review", rich_help_panel=REVIEWER)
app.command(rich_help_panel=REVIEWER, epilog=decisions.APPROVE_EXAMPLES)(decisions.approve)
app.command(rich_help_panel=REVIEWER, epilog=decisions.REJECT_EXAMPLES)(decisions.reject)
app.command(rich_help_panel=REVIEWER, epilog=decisions.WITHDRAW_EXAMPLES)(decisions.withdraw)
app.command(rich_help_panel=REVIEWER, epilog=decisions.COMMENT_EXAMPLES)(decisions.comment)
app.command(rich_help_panel=REGISTRAR, epilog=registrar.REGISTER_EXAMPLES)(registrar.register)
app.command(rich_help_panel=ADMINISTRATOR, epilog=server.SERVE_EXAMPLES)(server.serve)
app.command(rich_help_panel=ADMINISTRATOR, epilog=backups.BACKUP_EXAMPLES)(backups.backup)
app.command(rich_help_panel=ADMINISTRATOR, epilog=backups.RESTORE_EXAMPLES)(backups.restore)
app.add_typer(server.account, name="account", rich_help_panel=ADMINISTRATOR)
app.command(rich_help_panel=OPERATOR, epilog=operator.PULL_EXAMPLES)(operator.pull)
app.command(rich_help_panel=OPERATOR, epilog=operator.VERIFY_EXAMPLES)(operator.verify)
app.command(rich_help_panel=OPERATOR, epilog=delivery.MIRROR_EXAMPLES)(delivery.mirror)
app.command(rich_help_panel=OPERATOR, epilog=delivery.EXPORT_EXAMPLES)(delivery.export)
app.command(rich_help_panel=OPERATOR, epilog=operator.RUN_EXAMPLES)(operator.run)
app.command(rich_help_panel=OPERATOR, epilog=gateway.GATEWAY_EXAMPLES)(gateway.gateway)
app.command(rich_help_panel=COMMISSIONER, epilog=operator.COMMISSION_EXAMPLES)(operator.commission)
app.add_typer(devices.device, name="device", rich_help_panel=COMMISSIONER)
app.add_typer(units.unit, name="unit", rich_help_panel=COMMISSIONER)
app.add_typer(service.twin, name="twin", rich_help_panel=OPERATOR)


def main() -> None:
    """Run the program: commands, with every refusal as one message and an exit code."""
    sys.exit(exit_code(_run))


def _run() -> None:
    """The command that was typed.

    Raises:
        ConfigError: A word is not UTF-8: what it says could be neither signed nor logged.
    """
    for word in sys.argv[1:]:
        if any("\ud800" <= letter <= "\udfff" for letter in word):
            raise ConfigError(
                "command line: expected text in UTF-8, got other bytes",
                remedy="Type it again, or rename the file. Nothing was done.",
            )
    app()
