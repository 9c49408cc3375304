"""Poison: change a share of the training telemetry, train again, and measure what an attacker would gain.

Reads data/accepted/, policy/ and the params of prepare and train. Writes reports/poison/ (measures.json, attacks.csv)
and the signed test result about the candidate: its data and its recipe are what is tested.
"""

from __future__ import annotations

from pathlib import Path

from pipelines import _stage
from twinseal.console import out, printable, run_stage
from twinseal.evidence import test_result
from twinseal.files import write_json
from twinseal.prognostics.fitting import reproducible
from twinseal.prognostics.training import TrainParams
from twinseal.prognostics.windows import PrepareParams
from twinseal.robustness.attacks.poisoning import curve, names_of, poison
from twinseal.robustness.threats import Threats
from twinseal.telemetry.fleet import Fleet

REPORT = Path("reports/poison")


@reproducible(0)
def main() -> None:
    """Poison, retrain, measure, sign."""
    _stage.check_signing_key("poison")
    model_files = _stage.candidate()
    _stage.upstream("validate", _stage.ACCEPTED)
    contract = _stage.contract()
    measures = poison(
        Fleet.read(_stage.ACCEPTED, contract),
        contract,
        Threats.load(_stage.THREATS),
        preparation=_stage.params(PrepareParams, "prepare"),
        training=_stage.params(TrainParams, "train"),
        workers=_stage.workers(4),
        progress=lambda name: out.print(f"  retrained: {printable(name)}"),
    )
    statement = test_result(
        (*model_files, _stage.subject(_stage.ACCEPTED)),
        result="PASSED",  # ran to its end; whether the numbers are good enough is for the gates
        configuration=(_stage.subject(_stage.THREATS), _stage.subject(_stage.CONTRACT), _stage.code("poison")),
        passed=names_of(measures),
        measures=measures.to_dict(),
    )
    _stage.attest("poison", statement)
    write_json(REPORT / "measures.json", measures.to_dict())
    _stage.write_table(REPORT / "attacks.csv", curve(measures))
    out.print(
        f"poisoned {len(names_of(measures))} times: RMSE +{measures.worst_undefended.rmse_increase_cycles:.1f} cycles "
        f"at worst, +{measures.worst_unnoticed.rmse_increase_cycles:.1f} after screening"
    )


if __name__ == "__main__":
    run_stage(main)
