"""What the registrar does, by hand or from a timer."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from twinseal.cli.options import APPROVALS, BUNDLE, RELEASE, ROLES
from twinseal.console import err, out, shown
from twinseal.errors import ExpiredError
from twinseal.trust.home import Home


def register(
    renew: Annotated[
        bool, typer.Option("--renew", help="Only say again that what is published is current: from a timer, daily.")
    ] = False,
) -> None:
    """Publish the release that k of n reviewers have signed: TUF metadata, MLflow's version, the alias champion."""
    from twinseal.registry import registration
    from twinseal.registry.store import connect
    from twinseal.trust import overview
    from twinseal.trust.root.roles import Roles

    home, roles, now = Home.find(), Roles.load(ROLES), datetime.now(UTC)
    if renew:
        until = registration.renew(connect(home), home, roles=roles, now=now)
        out.print(f"[green]renewed[/]  what is published counts until {until:%Y-%m-%d %H:%M} UTC")
        ends = overview.expiries(home)
        for item in ends:
            if item.is_urgent(now):
                err.print(f"[red]{shown(item.what)}: {item.time_left(now)}[/]; {item.remedy}")
        over = [item.what for item in ends if now >= item.expires]
        if over:
            raise ExpiredError(
                f"{', '.join(over)}: expected all that twins check to be valid, got some that has expired",
                remedy="The timestamp is fresh; twins refuse all the same until those named above have signed.",
            )
        return
    done = registration.register(connect(home), home, BUNDLE, RELEASE, APPROVALS, roles=roles, now=now)
    if done.status == "pending":
        done.count.require_complete()
    again = " (it had been: nothing changed)" if done.status == "published" else ""
    out.print(f"[green]registered[/]  {done.release.model} release {done.release.version}{again}")
    out.print(f"MLflow: version {done.mlflow_version} is champion. Twins get it by: twinseal pull")
