"""Poison: change a share of the training telemetry, train again, and measure what an attacker would gain.

Reads data/accepted/, policy/ and the params of prepare and train. Writes reports/poison/metrics.json,
reports/poison/attacks.csv and the signed test result about the candidate: its data and its recipe are what is tested.
"""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd

from pipelines import _stage
from pipelines.evade import candidate
from twinseal.console import out, run_stage
from twinseal.evidence import test_result
from twinseal.files import write_json, write_whole
from twinseal.prognostics.fitting import reproducible
from twinseal.prognostics.training import TrainParams
from twinseal.prognostics.windows import PrepareParams
from twinseal.robustness.attacks.poisoning import poison
from twinseal.robustness.threats import Threats
from twinseal.telemetry.contract import Contract
from twinseal.telemetry.fleet import Fleet
from twinseal.telemetry.sources import DataParams

ACCEPTED = Path("data/accepted/telemetry.parquet")
CONTRACT, THREATS = Path("policy/contract.yaml"), Path("policy/threats.yaml")
REPORT = Path("reports/poison")


@reproducible(0)
def main() -> None:
    """Poison, retrain, measure, sign."""
    _stage.check_signing_key("poison")
    model_files = candidate()
    _stage.upstream("validate", ACCEPTED)
    contract = Contract.load(CONTRACT, _stage.params(DataParams, "data").asset)
    poisoning = poison(
        Fleet.read(ACCEPTED, contract),
        contract,
        Threats.load(THREATS),
        preparation=_stage.params(PrepareParams, "prepare"),
        training=_stage.params(TrainParams, "train"),
        workers=min(4, os.cpu_count() or 1),
        progress=lambda done: out.print(f"  retrained: {done}"),
    )
    measures = poisoning.measures()
    statement = test_result(
        (*model_files, _stage.subject(ACCEPTED)),
        result="PASSED",  # ran to its end; whether the numbers are good enough is for the gates
        configuration=(_stage.subject(THREATS), _stage.subject(CONTRACT), _stage.code()),
        passed=tuple(f"{attack.threat} at {attack.share:g}" for attack in poisoning.attacks),
        measures=measures,
    )
    _stage.attest("poison", statement)
    write_json(REPORT / "metrics.json", measures)
    write_whole(REPORT / "attacks.csv", pd.DataFrame(poisoning.curve()).to_csv(index=False).encode())
    worst = measures["worst"]
    out.print(
        f"poisoned {len(poisoning.attacks)} times: "
        f"RMSE +{worst['undefended']['rmse_increase_cycles']:.1f} cycles at worst, "
        f"+{worst['unnoticed']['rmse_increase_cycles']:.1f} after screening"
    )


if __name__ == "__main__":
    run_stage(main)
