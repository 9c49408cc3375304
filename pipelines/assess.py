"""Assess: all the evidence × policy/gates.yaml → the verdict, with a report and a model card for whoever must decide.

Reads reports/evidence/, models/candidate/, policy/ and what validate, train and evade left to draw. Writes
reports/verdict.json, reports/report.html, reports/model_card.md, reports/figures/ and the signed verdict. A FAILED
verdict is a result: this stage then succeeds, and `sign` refuses.
"""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

from pipelines import _stage
from twinseal import config
from twinseal.assurance import case, verdict
from twinseal.assurance.gates import Gates, Verdict, judge
from twinseal.assurance.report import figures, model_card, page
from twinseal.console import out, run_stage
from twinseal.evidence import Statement, Subject
from twinseal.evidence_chain import REQUIRED
from twinseal.files import inventory, write_json, write_whole
from twinseal.prognostics.checkpoint import Model, read_model

CANDIDATE, REPORTS = Path("models/candidate"), Path("reports")
PREDICTIONS, HISTORY = REPORTS / "train/predictions.csv", REPORTS / "train/history.csv"
LIVES = REPORTS / "evade/lives.csv"
FINDINGS = Path("data/quarantine/findings.json")


def main() -> None:
    """Judge, sign, write down, say."""
    _stage.check_signing_key("assess")
    records = evidence()
    files = tuple(Subject(f"model/{record.path}", record.sha256) for record in inventory(CANDIDATE))
    model, policy = read_model(CANDIDATE), config.load(Gates, _stage.POLICY / "gates.yaml")
    obeyed = tuple(_stage.subject(path) for path in sorted(_stage.POLICY.glob("*.yaml")))
    judged = judge(policy, records, asset=model.contract.asset, family=model.family, model=files, policy=obeyed)
    assembled = assemble(judged, records, files, model)
    summary = verdict.summarise(
        judged,
        model_name=assembled.model_name,
        model=files,
        policy=assembled.policy,
        inputs=assembled.inputs,
        time_verified=assembled.time_verified,
    )
    publish(assembled)
    _stage.attest("assess", summary)
    say(judged)


def evidence() -> dict[str, Statement]:
    """Every signed record there is. One that is absent is the gates' business; one with a bad signature is refused.

    Raises:
        SignatureError: A record is not signed by the role that should have.
    """
    present = [stage for stage in REQUIRED if (_stage.EVIDENCE / f"{stage}.dsse.json").exists()]
    return {stage: _stage.upstream(stage) for stage in present}


def assemble(judged: Verdict, records: dict[str, Statement], files: tuple[Subject, ...], model: Model) -> case.Case:
    """Everything that the pages are made from, each file checked against the records that name it."""
    named = case.named_digests(records)
    drawn = {path: case.read_named(path, named) for path in (PREDICTIONS, HISTORY, LIVES, FINDINGS)}
    predictions, history, lives, findings = drawn.values()
    return case.Case(
        model_name=model.contract.model,
        asset=model.contract.asset,
        verdict=judged,
        statements=records,
        model=files,
        policy=_stage.policy(),
        inputs=tuple(_stage.subject(_stage.EVIDENCE / f"{stage}.dsse.json") for stage in records),
        time_verified=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        estimates=case.parse_estimates(predictions, str(PREDICTIONS)) if predictions else (),
        history=case.parse_history(history, str(HISTORY)) if history else (),
        lives=case.parse_lives(lives, str(LIVES)) if lives else (),
        findings=case.parse_findings(findings, str(FINDINGS)) if findings else (),
        unsigned=tuple(path.as_posix() for path, data in drawn.items() if data and path.as_posix() not in named),
    )


def publish(assembled: case.Case) -> None:
    """Write the figures, the report, the card and the metric; figures of an earlier run do not stay behind."""
    drawn = figures.draw(assembled)
    shutil.rmtree(REPORTS / "figures", ignore_errors=True)
    for figure in drawn:
        write_whole(REPORTS / "figures" / f"{figure.name}.svg", figure.svg.encode())
    write_whole(REPORTS / "report.html", page.render(assembled, drawn).encode())
    write_whole(REPORTS / "model_card.md", model_card.write(assembled).encode())
    write_json(REPORTS / "verdict.json", verdict.metrics(assembled.verdict))


def say(judged: Verdict) -> None:
    """The verdict and what stands against it, for people."""
    colour = "green" if judged.result == "PASSED" else "red"
    counted = f"{len(judged.gates)} gates, {len(judged.evidence)} records"
    out.print(f"[bold {colour}]{judged.result}[/]  {counted}: reports/report.html")
    for failure in judged.failures:
        out.print(f"  ✗ {failure}", markup=False)


if __name__ == "__main__":
    run_stage(main)
