"""Sign: the builder's OMS signature over the candidate, beside its evidence, as one bundle; refuses all but PASSED.

Reads models/candidate/ and reports/evidence/. Writes models/bundle/: model/, model.sig.json, evidence/. What it
wrote is verified from the bytes, as the reviewers and the twin will, before it takes its name.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from pipelines import _stage
from twinseal.console import out, run_stage
from twinseal.errors import GateRefusedError
from twinseal.evidence import outcome
from twinseal.files import inventory, write_whole
from twinseal.reading import read_regular
from twinseal.trust.policy_approval import ROLE, require_approved
from twinseal.trust.release import candidate, oms
from twinseal.trust.root.home import Home
from twinseal.trust.signing.dsse import MAX_ENVELOPE_BYTES

CANDIDATE = Path("models/candidate")
BUNDLE = Path("models/bundle")


def main() -> None:
    """Sign what passed, or say which gates it failed."""
    _stage.check_signing_key("sign")
    home = Home.find()
    verdict = _stage.upstream("assess")
    if outcome(verdict) != "PASSED":
        failed = candidate.failed_gates(verdict)
        raise GateRefusedError(
            f"verdict: expected PASSED, got {outcome(verdict) or 'none'} (failed gates: {', '.join(failed) or '?'})",
            remedy="Read reports/report.html. What a new asset still lacks: twinseal asset check. Where a gate failed, "
            "change the data or the params, not the gates.",
        )
    _, approval = require_approved(_stage.POLICY, Path("approvals/policy"), home.anchor())
    BUNDLE.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=BUNDLE.parent, prefix=".bundle.") as folder:
        fresh = Path(folder, "bundle")
        inventory(CANDIDATE)  # no links: a copy would follow them
        shutil.copytree(CANDIDATE, fresh / "model")
        builder = home.role_signer(home.anchor().roles["builder"])
        write_whole(fresh / "model.sig.json", oms.sign_directory(fresh / "model", builder))
        write_whole(fresh / "evidence" / "policy.dsse.json", approval)
        for stage in (item.name for item in home.anchor().evidence if item.role != ROLE):
            name = f"{stage}.dsse.json"
            write_whole(fresh / "evidence" / name, read_regular(_stage.EVIDENCE / name, MAX_ENVELOPE_BYTES))
        candidate.verify_bundle(fresh, home.anchor())
        shutil.rmtree(BUNDLE, ignore_errors=True)
        fresh.replace(BUNDLE)
    out.print(f"signed by the builder: {BUNDLE} (model, OMS signature, {len(home.anchor().evidence)} records)")


if __name__ == "__main__":
    run_stage(main)
