"""Register: when k of n reviewers have signed, the release is published; until then this says who is missing.

Pending is no failure. Reads models/release/, models/bundle/ and approvals/. Writes reports/registration.json. A new
file in approvals/ is what makes DVC run this stage again, and only this one.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from pipelines import _stage
from twinseal.console import out, run_stage
from twinseal.files import write_json
from twinseal.registry.registration import Registration, register
from twinseal.registry.review_server import review_page
from twinseal.registry.store import connect
from twinseal.trust.root.home import Home
from twinseal.trust.root.roles import Roles

BUNDLE, RELEASE, APPROVALS = Path("models/bundle"), Path("models/release"), Path("approvals")


def main() -> None:
    """Register what is approved, or say what it waits for."""
    home = Home.find()
    roles = Roles.load(_stage.POLICY / "roles.yaml")
    store = connect(home)
    done = register(store, home, BUNDLE, RELEASE, APPROVALS, roles=roles, now=datetime.now(UTC))
    write_json(Path("reports/registration.json"), summary(done))
    say(done, review_page(store, done.release.mlflow_model_id) if done.status == "pending" else "")


def summary(done: Registration) -> dict[str, object]:
    """What reports/registration.json says of it."""
    return {
        "model": done.release.model,
        "release": done.release.version,
        "status": done.status,
        "approvals": len(done.count.signed),
        "approvals_needed": done.count.threshold,
        "mlflow_version": done.mlflow_version,
    }


def say(done: Registration, page: str = "") -> None:
    """For people: registered, or who is missing and who may sign, and on which page."""
    name = f"{done.release.model} release {done.release.version}"
    if done.status == "pending":
        out.print(
            f"[yellow]pending[/]  {name}: {len(done.count.signed)} of {done.count.threshold} reviewers have signed"
        )
        for item in done.count.wanting:
            out.print(f"  also needed: {item}")
        where = page or "[cyan]twinseal approve --as …[/]"
        out.print(f"  who can still sign: {', '.join(done.count.may_sign)}  ({where})", soft_wrap=True)
    else:
        out.print(f"[green]registered[/]  {name}, approved by {', '.join(done.count.signed)}")
        out.print(f"  MLflow's version {done.mlflow_version} is champion; a twin gets it by [cyan]twinseal pull[/]")


if __name__ == "__main__":
    run_stage(main)
