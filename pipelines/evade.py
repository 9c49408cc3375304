"""Evade: the battery of attacks on the candidate (robustness/attacks/). It measures and does not judge: the gates do.

Reads models/candidate/, data/windows/ and policy/threats.yaml. Writes reports/evade/ (measures.json, attacks.csv,
lives.csv) and the signed test result.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from pipelines import _stage
from twinseal.console import out, run_stage
from twinseal.evidence import test_result
from twinseal.files import write_json
from twinseal.measures.robustness import RobustnessMeasures
from twinseal.prognostics.checkpoint import read_model
from twinseal.prognostics.fitting import reproducible
from twinseal.prognostics.processes import Workers
from twinseal.prognostics.windows import Prepared
from twinseal.robustness.attacks.evasion import curve
from twinseal.robustness.battery import run_battery
from twinseal.robustness.threats import Threats

REPORT, LIVES = Path("reports/evade"), Path("reports/evade/lives.csv")


@reproducible(0)
def main() -> None:
    """Attack, measure, sign."""
    _stage.check_signing_key("evade")
    model_files = _stage.candidate()
    _stage.upstream("prepare", *_stage.WINDOWS)
    model, prepared = read_model(_stage.CANDIDATE), Prepared.read(_stage.WINDOWS[0].parent)
    asset = model.contract.asset
    _stage.say_proposed(asset)
    found = run_battery(model, prepared, Threats.load(_stage.THREATS), workers=Workers.of(_stage.PARAMS, 2))
    _stage.write_table(LIVES, [asdict(row) for row in found.lives])
    statement = test_result(
        (*model_files, *map(_stage.subject, (*_stage.WINDOWS, LIVES))),
        result="PASSED",  # ran to its end; whether the numbers are good enough is for the gates
        configuration=(_stage.part(_stage.THREATS, asset), _stage.code("evade")),
        passed=found.passed,
        warned=found.warned,
        measures=found.measures.to_dict(),
    )
    _stage.attest("evade", statement)
    write_json(REPORT / "measures.json", found.measures.to_dict())
    _stage.write_table(REPORT / "attacks.csv", curve(found.measures))
    out.print(summary(found.measures))


def summary(measures: RobustnessMeasures) -> str:
    """One line for people."""
    evasion, (smallest, *_) = measures.evasion, measures.evasion.worst
    return (
        f"evaded: RMSE {evasion.clean.rmse_cycles:.1f} cycles clean, {evasion.worst[smallest].rmse_cycles:.1f} at the "
        f"worst within {smallest.removeprefix('eps-')} σ, {measures.injection.worst_undefended.rmse_cycles:.1f} under "
        f"injection; {evasion.flags.raised} reasons to doubt"
    )


if __name__ == "__main__":
    run_stage(main)
