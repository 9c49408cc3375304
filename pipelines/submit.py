"""Submit: the signed bundle becomes a candidate in MLflow, and its release waits for the reviewers.

Reads models/bundle/ and the reports. Writes models/release/: release.json, and role.json, which reviewers sign.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from pipelines import _stage
from pipelines._run_record import run_record
from twinseal.console import out, run_stage
from twinseal.digests import parse_json, sha256
from twinseal.errors import DigestMismatchError
from twinseal.policy_files import Policy
from twinseal.reading import read_regular
from twinseal.registry.registration import request
from twinseal.registry.review_server import review_page
from twinseal.registry.store import connect
from twinseal.telemetry.contract import Contract
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
    store, policy_sha256 = connect(home), Policy.read(_stage.POLICY).digest.sha256
    made = request(
        store,
        home,
        BUNDLE,
        RELEASE,
        model=contract.model,
        policy_sha256=policy_sha256,
        run=run_record(verdict, contract, shown, policy_sha256),
        roles=Roles.load(_stage.POLICY / "roles.yaml"),
        now=datetime.now(UTC),
    )
    release = made.release
    out.print(f"submitted: {release.model} release {release.version}, candidate {release.mlflow_model_id}")
    page = review_page(store, release.mlflow_model_id)
    if page:
        out.print(f"reviewers: {page}", soft_wrap=True)
    else:
        out.print("reviewers: [cyan]twinseal review show[/], then [cyan]twinseal approve --as <your name>[/]")


def _contract() -> Contract:
    """The contract in the bundle, once it is the one that `train` signed."""
    path, name = BUNDLE / "model" / "contract.json", "model/contract.json"
    data, expected = read_regular(path, MAX_CONTRACT_BYTES), _stage.upstream("train").digest_of(name)
    if sha256(data) != expected:
        raise DigestMismatchError(f"{path}: expected the file that train signed, got another", remedy="dvc repro sign")
    return Contract.from_dict(parse_json(data, str(path), limit=MAX_CONTRACT_BYTES), str(path))


if __name__ == "__main__":
    run_stage(main)
