"""What custodians do: the first ceremony."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from twinseal.cli.options import ROLES, passphrase
from twinseal.console import out
from twinseal.trust.home import Home


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
        anchor = ceremony.init(home, roles, now, passphrase=lambda holder: passphrase(home.key_uri(holder), holder))
    out.print(f"who may do what: {', '.join(f'{name} {len(r.holders)}' for name, r in roles.roles)}")
    out.print(f"the anchor: {home.anchor_dir}  sha256 {anchor.fingerprint}")
    out.print("carry it to each twin by hand, and compare the digest there: nothing else is trusted beforehand")
