"""Validate: the contract's suite over the raw telemetry; bad units are set aside, a bad fleet is refused.

Reads data/raw/, policy/contract.yaml and policy/reference.yaml. Writes data/accepted/ (telemetry; reference.json: what
this fleet looks like; split_salt.json: what units will be divided by, drawn now that their names are fixed),
data/quarantine/ (telemetry, findings.json), reports/validation/ (Data Docs, measures.json) and the signed result. A
refused fleet leaves its findings, its reports and data/quarantine/reference.json (what it looks like, to set bounds
by), and nothing accepted.
"""

from __future__ import annotations

from pathlib import Path

from pipelines import _stage
from twinseal.console import out, run_stage
from twinseal.evidence import test_result
from twinseal.files import write_json, write_whole
from twinseal.telemetry.engines import engine_of
from twinseal.telemetry.fleet import Fleet
from twinseal.telemetry.reference import Reference
from twinseal.telemetry.validation import Validation, examine
from twinseal.trust.root.home import Home
from twinseal.trust.signing.split_salt import draw_salt

RAW, MANIFEST = Path("data/raw/telemetry.parquet"), Path("data/raw/manifest.json")
REFERENCE = Path("data/accepted/reference.json")
QUARANTINE = Path("data/quarantine")
FINDINGS, REFUSED = QUARANTINE / "findings.json", QUARANTINE / "reference.json"
REPORTS = Path("reports/validation")
KNOWN = _stage.POLICY / "reference.yaml"


def main() -> None:
    """Check what was signed, examine, write, sign."""
    _stage.check_signing_key("validate")
    _stage.upstream("ingest", RAW, MANIFEST)
    contract = _stage.contract()
    known = Reference.load(KNOWN, contract)
    for stale in (_stage.ACCEPTED, REFERENCE, REFUSED):
        stale.unlink(missing_ok=True)  # a refusal below must not leave an older fleet looking accepted
    with engine_of(_stage.PARAMS, _stage.ACCEPTED.parents[1]) as engine, out.status("applying the contract"):
        validation = examine(Fleet.read(RAW, contract), contract, known, engine)
    report(validation)
    if validation.refusal:
        write_json(REFUSED, Reference.of(Fleet.read(RAW, contract), contract, refused=True).to_dict())
    accepted = validation.require().accepted
    accepted.write(_stage.ACCEPTED)
    draw_salt(_stage.SALT, _stage.subject(_stage.ACCEPTED), Home.find())
    write_json(REFERENCE, Reference.of(accepted, contract).to_dict())
    statement = test_result(
        tuple(map(_stage.subject, (RAW, _stage.ACCEPTED, FINDINGS, _stage.SALT))),
        result=validation.result,
        configuration=(
            *(_stage.part(path, contract.asset) for path in (_stage.CONTRACT, KNOWN)),
            _stage.code("validate"),
        ),
        passed=validation.passed,
        warned=validation.warned,
        failed=validation.failed,
        measures=validation.measures.to_dict(),
    )
    _stage.attest("validate", statement)
    found = validation.measures
    out.print(
        f"validated: {found.expectations_total} expectations, {found.expectations_failed} broken; "
        f"{found.units_quarantined} of {found.units_total} units in quarantine"
    )


def report(validation: Validation) -> None:
    """Leave the findings, the quarantined units, the numbers and the Data Docs, also of a refused fleet."""
    validation.quarantined.write(QUARANTINE / "telemetry.parquet")
    write_json(FINDINGS, [finding.to_dict() for finding in validation.findings])
    write_json(REPORTS / "measures.json", validation.measures.to_dict())
    for name, page in validation.pages.items():
        write_whole(REPORTS / "docs" / name, page.encode())


if __name__ == "__main__":
    run_stage(main)
