"""What custodians do with passkeys: tie one to a reviewer."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from twinseal.cli.custodians import Holder, NewLog, Sure, print_outcome, warn_of_lost_approvals
from twinseal.cli.options import ROLES, confirm, examples, passphrase_prompt
from twinseal.console import out, printable
from twinseal.trust.root.home import Home

reviewer = typer.Typer(
    help="Reviewers and their passkeys.",
    epilog=examples("twinseal reviewer enroll alice alice.passkey"),
    no_args_is_help=True,
)


@reviewer.callback()
def _group() -> None:
    """Reviewers and their passkeys."""


@reviewer.command("enroll", epilog=examples("twinseal reviewer enroll alice alice.passkey"))
def enroll(
    holder: Holder,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The review page gave it: alice.passkey")],
    yes: Sure = False,
    new_log: NewLog = False,
) -> None:
    """Tie the passkey in FILE to the reviewer HOLDER, by a new root; the key of before never counts again."""
    from twinseal.trust.ceremonies import ceremony
    from twinseal.trust.ceremonies.enrolment import check_enrolment
    from twinseal.trust.keys.key import fingerprint, grouped_digits, read_public_key
    from twinseal.trust.root.roles import Roles

    home, roles = Home.find(), Roles.load(ROLES)
    passkey = check_enrolment(home.anchor(), holder, read_public_key(file))
    first, second = grouped_digits(fingerprint(passkey)).splitlines()
    out.print(f"passkey of [cyan]{printable(passkey.origin)}[/], rp id {printable(passkey.keyval['rp_id'])}")
    out.print(f"sha256  {first}\n        {second}")
    out.print(
        f"compare it with {printable(holder)}, by voice: who enrolls another's passkey lets them sign as {holder}"
    )
    warn_of_lost_approvals(home, holder)
    confirm(yes, f"Replace the key of {holder} by this passkey, for good?")
    outcome = ceremony.rotate(
        home,
        roles,
        holder,
        datetime.now(UTC),
        public=passkey,
        passphrase=passphrase_prompt(),
        new_log=new_log,
    )
    if print_outcome(home, outcome, new_log=new_log):
        out.print(f"what only the old key of {holder} had signed no longer counts: docs/operating.md says what to redo")
