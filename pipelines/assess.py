"""Assess: all the evidence × policy/gates.yaml → the verdict, with a report and a model card for whoever must decide.

Reads reports/evidence/, models/candidate/, policy/ and what validate, train and evade left to draw. Writes
reports/verdict.json, reports/metrics.json, reports/report.html, reports/model_card.md, reports/figures/ and the signed
verdict. A FAILED verdict is a result: this stage then succeeds, and `sign` refuses.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from pipelines import _stage
from twinseal.assurance import case, verdict
from twinseal.assurance.gates import Verdict, judge
from twinseal.assurance.headline import headline
from twinseal.assurance.report.publish import publish
from twinseal.config import load
from twinseal.console import out, run_stage
from twinseal.evidence_chain import REQUIRED
from twinseal.files import write_json
from twinseal.policy import read_gates
from twinseal.prognostics.checkpoint import read_model
from twinseal.prognostics.splitting import SplitPolicy
from twinseal.trust.root.pins import OPTIONAL

REPORTS = Path("reports")


def main() -> None:
    """Judge, sign, write down, say."""
    _stage.check_signing_key("assess")
    records, files, model = _stage.records(*REQUIRED), _stage.model_files(), read_model(_stage.CANDIDATE)
    gates, obeyed = read_gates(_stage.POLICY), sorted(_stage.POLICY.glob("*.yaml"))
    policy = tuple(map(_stage.subject, obeyed))
    asset, fleets = model.contract.asset, load(SplitPolicy, _stage.EVALUATION).fleets
    judged = judge(
        gates, records, asset=asset, family=model.family, model=files, policy=policy, fleet=fleets.get(asset)
    )
    inputs = tuple(_stage.subject(_stage.EVIDENCE / f"{stage}.dsse.json") for stage in records)
    whole, now = _stage.policy(), datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    shown = records | _stage.records(*(item.name for item in OPTIONAL))
    assembled = case.assemble(judged, shown, model, files, policy=whole, inputs=inputs, time_verified=now)
    publish(assembled, REPORTS)
    write_json(REPORTS / "verdict.json", verdict.metrics(judged))
    write_json(REPORTS / "metrics.json", headline(judged, assembled.measures))
    name = assembled.model_name
    summary = verdict.summarise(judged, model_name=name, model=files, policy=whole, inputs=inputs, time_verified=now)
    _stage.attest("assess", summary)
    report(judged)


def report(judged: Verdict) -> None:
    """The verdict and what stands against it, for people."""
    colour = "green" if judged.result == "PASSED" else "red"
    counted = f"{len(judged.gates)} gates, {len(judged.evidence)} records"
    out.print(f"[bold {colour}]{judged.result}[/]  {counted}: reports/report.html")
    for failure in judged.failures:
        out.print(f"  ✗ {failure}", markup=False)


if __name__ == "__main__":
    run_stage(main)
