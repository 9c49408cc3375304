"""Submit: the signed bundle becomes a candidate in MLflow, and its release waits for the reviewers.

Reads models/bundle/ and the reports. Writes models/release/: release.json, and role.json, which reviewers sign.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipelines import _stage
from pipelines._run_record import run_record
from twinseal.console import out, run_stage
from twinseal.digests import parse_json
from twinseal.errors import EvidenceError
from twinseal.policy_files import Policy
from twinseal.reading import read_regular
from twinseal.registry.registration import request
from twinseal.registry.store import connect
from twinseal.trust.release.reports import require_reports
from twinseal.trust.root.home import Home
from twinseal.trust.root.roles import Roles

BUNDLE, RELEASE = Path("models/bundle"), Path("models/release")
MAX_CONTRACT_BYTES = 1 << 20


def main() -> None:
    """Submit, and say what to do next."""
    home = Home.find()
    verdict, contract = _stage.upstream("assess"), _contract()
    shown = require_reports(verdict, Path())
    made = request(
        connect(home),
        home,
        BUNDLE,
        RELEASE,
        model=str(contract.get("model")),
        policy_sha256=Policy.read(_stage.POLICY).digest.sha256,
        run=run_record(verdict, contract, shown),
        roles=Roles.load(_stage.POLICY / "roles.yaml"),
        now=datetime.now(UTC),
    )
    release = made.release
    out.print(f"submitted: {release.model} release {release.version}, candidate {release.mlflow_model_id}")
    out.print("reviewers: [cyan]twinseal review show[/], then [cyan]twinseal approve --as <your name>[/]")


def _contract() -> dict[str, Any]:
    path = BUNDLE / "model" / "contract.json"
    contract = parse_json(read_regular(path, MAX_CONTRACT_BYTES), str(path), limit=MAX_CONTRACT_BYTES)
    if not isinstance(contract, dict):
        raise EvidenceError(f"{path}: expected a contract, got something else")
    return contract


if __name__ == "__main__":
    run_stage(main)
