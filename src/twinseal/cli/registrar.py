"""What the registrar does, by hand or from a timer."""

from __future__ import annotations

from datetime import UTC, datetime

from twinseal.cli.options import APPROVALS, BUNDLE, RELEASE, ROLES
from twinseal.console import out
from twinseal.trust.home import Home


def register() -> None:
    """Publish the release that k of n reviewers have signed: TUF metadata, MLflow's version, the alias champion."""
    from twinseal.registry.registration import register as publish
    from twinseal.registry.store import connect
    from twinseal.trust.roles import Roles

    home, roles = Home.find(), Roles.load(ROLES)
    done = publish(connect(home), home, BUNDLE, RELEASE, APPROVALS, roles=roles, now=datetime.now(UTC))
    if done.status == "pending":
        done.count.demand()
    again = " (it had been: nothing changed)" if done.status == "published" else ""
    out.print(f"[green]registered[/]  {done.release.model} release {done.release.version}{again}")
    out.print(f"MLflow: version {done.mlflow_version} is champion. Twins get it by: twinseal pull")
