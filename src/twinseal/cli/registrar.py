"""What the registrar does, by hand or from a timer."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from twinseal.cli.options import APPROVALS, BUNDLE, RELEASE, ROLES, examples, passphrase_prompt
from twinseal.cli.reviewers import require_bundle
from twinseal.console import err, out, printable
from twinseal.errors import ExpiredError
from twinseal.trust.root.home import Home

REGISTER_EXAMPLES = examples(
    "twinseal register",
    "twinseal register --renew",
    "twinseal --passphrase-fd 3 register --renew 3< /etc/twinseal/passphrase",
)


def register(
    renew: Annotated[
        bool,
        typer.Option("--renew", help="Only renew the timestamp: the release stays current. Run it daily."),
    ] = False,
) -> None:
    """Publish the release that enough reviewers have signed: TUF metadata, MLflow's version, the alias champion."""
    from twinseal.registry import registration
    from twinseal.registry.store import connect
    from twinseal.trust.root.roles import Roles

    home, roles, now = Home.find(), Roles.load(ROLES), datetime.now(UTC)
    if renew:
        until = registration.renew(connect(home), home, roles=roles, now=now, passphrase=passphrase_prompt())
        out.print(f"[green]renewed[/]  what is published is valid until {until:%Y-%m-%d %H:%M} UTC")
        _require_nothing_expired(home, now)
        return
    require_bundle(home)
    result = registration.register(
        connect(home), home, BUNDLE, RELEASE, APPROVALS, roles=roles, now=now, passphrase=passphrase_prompt()
    )
    if result.status == "pending":
        result.count.require_complete()
    again = " (it was registered before: nothing changed)" if result.status == "published" else ""
    out.print(f"[green]registered[/]  {result.release.model} release {result.release.version}{again}")
    out.print(f"MLflow: version {result.mlflow_version} is champion. Twins fetch it with:")
    out.print(f"twinseal pull --from URL --model {result.release.model} --anchor DIR")


def _require_nothing_expired(home: Home, now: datetime) -> None:
    """Warn of what expires soon.

    Raises:
        ExpiredError: Something has expired already: a timer must not see success while every twin refuses.
    """
    from twinseal.trust.ceremonies import overview

    expiries = overview.expiries(home)
    for item in expiries:
        if item.is_urgent(now):
            err.print(f"[red]{printable(item.what)}: {item.time_left(now)}[/]; {item.remedy}")
    expired = [item.what for item in expiries if now >= item.expires]
    if expired:
        raise ExpiredError(
            f"{', '.join(expired)}: expected all that twins check to be valid, got some that has expired",
            remedy="The timestamp is fresh; twins refuse all the same until those named above have signed.",
        )
