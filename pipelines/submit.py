"""Submit: the signed bundle becomes a candidate in MLflow, and its release waits for the reviewers.

Reads models/bundle/ and the reports. Writes models/release/: release.json, and role.json, which reviewers sign.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipelines import _stage
from twinseal import config
from twinseal.console import out, run_stage
from twinseal.digests import parse_json
from twinseal.errors import EvidenceError
from twinseal.evidence import measures
from twinseal.policy_files import Policy
from twinseal.reading import read_regular
from twinseal.registry.registration import request
from twinseal.registry.store import connect
from twinseal.registry.submit import RunRecord
from twinseal.trust.release.reports import require_reports
from twinseal.trust.root.home import Home
from twinseal.trust.root.roles import Roles

BUNDLE, RELEASE = Path("models/bundle"), Path("models/release")
MAX_CONTRACT_BYTES = 1 << 20


def main() -> None:
    """Submit, and say what to do next."""
    home = Home.find()
    shown = require_reports(_stage.upstream("assess"), Path())
    made = request(
        connect(home),
        home,
        BUNDLE,
        RELEASE,
        model=_model(),
        policy_sha256=Policy.read(_stage.POLICY).digest.sha256,
        run=RunRecord(config.read_yaml(_stage.PARAMS), _metrics(), shown),
        roles=Roles.load(_stage.POLICY / "roles.yaml"),
        now=datetime.now(UTC),
    )
    release = made.release
    out.print(f"submitted: {release.model} release {release.version}, candidate {release.mlflow_model_id}")
    out.print("reviewers: [cyan]twinseal review show[/], then [cyan]twinseal approve --as <your name>[/]")


def _model() -> str:
    path = BUNDLE / "model" / "contract.json"
    contract = parse_json(read_regular(path, MAX_CONTRACT_BYTES), str(path), limit=MAX_CONTRACT_BYTES)
    if not isinstance(contract, dict):
        raise EvidenceError(f"{path}: expected a contract, got something else")
    return str(contract.get("model"))


def _metrics() -> dict[str, Any]:
    return {stage: measures(_stage.upstream(stage)) for stage in ("validate", "train", "evade", "poison")}


if __name__ == "__main__":
    run_stage(main)
