"""Assess: all the evidence × policy/gates.yaml → the verdict, with a report and a model card for whoever must decide.

Reads reports/evidence/, models/candidate/, policy/ and what validate, train and evade left to draw. Writes
reports/verdict.json, reports/metrics.json, reports/report.html, reports/model_card.md, reports/figures/ and the signed
verdict. A FAILED verdict is a result: this stage then succeeds, and `sign` refuses.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipelines import _stage
from pipelines._commit import built_by, source
from twinseal.assurance import case, verdict
from twinseal.assurance.gates import Verdict, judge
from twinseal.assurance.headline import headline
from twinseal.assurance.report.publish import publish
from twinseal.config import load
from twinseal.console import out, printable, run_stage
from twinseal.evidence import Statement, Subject
from twinseal.evidence_chain import REQUIRED
from twinseal.files import write_json
from twinseal.policy import contract_fault, read_gates
from twinseal.policy_entries import unaccepted
from twinseal.policy_files import Policy
from twinseal.prognostics.checkpoint import Model, read_model
from twinseal.prognostics.splitting import SplitPolicy
from twinseal.trust.root.pins import OPTIONAL

REPORTS, TIME = Path("reports"), "%Y-%m-%dT%H:%M:%SZ"


def main() -> None:
    """Judge, sign, write down, say."""
    _stage.check_signing_key("assess")
    records, files, model = _stage.records(*REQUIRED), _stage.model_files(), read_model(_stage.CANDIDATE)
    policy = Policy.read(_stage.POLICY)
    judged = judge_candidate(records, files, model, policy)
    inputs = tuple(_stage.subject(_stage.EVIDENCE / f"{stage}.dsse.json") for stage in records)
    about: dict[str, Any] = {"policy": policy.digest, "inputs": inputs, "time_verified": f"{datetime.now(UTC):{TIME}}"}
    shown = records | _stage.records(*(item.name for item in OPTIONAL))
    assembled = case.assemble(judged, shown, model, files, **about)
    pages = (*publish(assembled, REPORTS), REPORTS / "verdict.json")
    write_json(REPORTS / "verdict.json", verdict.metrics(judged))
    write_json(REPORTS / "metrics.json", headline(judged, assembled.measures))
    about |= {"model_name": assembled.model_name, "reports": tuple(map(_stage.subject, pages))}
    about |= {"source": source(), "built_by": built_by()}
    _stage.attest("assess", verdict.summarise(judged, model=files, **about))
    report(judged)


def judge_candidate(
    records: Mapping[str, Statement], files: tuple[Subject, ...], model: Model, policy: Policy
) -> Verdict:
    """The gates on the candidate, by the policy and the code in hand."""
    fleets = load(SplitPolicy, _stage.EVALUATION).fleets
    return judge(
        read_gates(_stage.POLICY),
        records,
        asset=model.contract.asset,
        family=model.family,
        model=files,
        policy=policy.part_subjects,
        code={stage: _stage.code(stage) for stage in REQUIRED},
        contract_fault=contract_fault(model.contract, _stage.CONTRACT),
        fleet=fleets.get(model.contract.asset),
        unaccepted=unaccepted(policy.content, model.contract.asset),
    )


def report(judged: Verdict) -> None:
    """The verdict and what stands against it, for people."""
    colour = "green" if judged.result == "PASSED" else "red"
    counted = f"{len(judged.gates)} gates, {len(judged.evidence)} records"
    out.print(f"[bold {colour}]{judged.result}[/]  {counted}: reports/report.html")
    for failure in judged.failures:
        out.print(f"  ✗ {printable(failure)}")


if __name__ == "__main__":
    run_stage(main)
