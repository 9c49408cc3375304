"""Poison: change a share of the training telemetry, train again, and measure what an attacker would gain.

Reads data/accepted/, data/windows/, policy/ and the params that prepare and train signed. Refuses windows that are not
split as the salt and the policy say. Writes reports/poison/ (measures.json, attacks.csv)
and the signed test result about the candidate: its data and its recipe are what is tested.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipelines import _stage
from twinseal.config import load
from twinseal.console import out, printable, run_stage
from twinseal.errors import EvidenceError
from twinseal.evidence import test_result
from twinseal.files import write_json
from twinseal.prognostics.fitting import reproducible
from twinseal.prognostics.processes import Workers
from twinseal.prognostics.splitting import Split, SplitPolicy
from twinseal.prognostics.training import TrainParams
from twinseal.prognostics.windows import SPLITS, Prepared, PrepareParams, prepare
from twinseal.robustness.attacks.poisoning import curve, names_of, poison
from twinseal.robustness.threats import Threats
from twinseal.telemetry.fleet import Fleet

REPORT = Path("reports/poison")


@reproducible(0)
def main() -> None:
    """Poison, retrain, measure, sign."""
    _stage.check_signing_key("poison")
    model_files = _stage.candidate()
    prepared, trained = _stage.upstream("prepare", *_stage.WINDOWS), _stage.upstream("train")
    split, contract = Split(load(SplitPolicy, _stage.EVALUATION), _stage.salt()), _stage.contract()
    fleet, preparation = Fleet.read(_stage.ACCEPTED, contract), _stage.signed_params(PrepareParams, prepared, "prepare")
    check_split(Prepared.read(_stage.WINDOWS[0].parent), prepare(fleet, contract, preparation, split))
    measures = poison(
        fleet,
        contract,
        Threats.load(_stage.THREATS),
        preparation=preparation,
        split=split,
        training=_stage.signed_params(TrainParams, trained, "train"),
        workers=Workers.of(_stage.PARAMS, 4),
        progress=lambda name: out.print(f"  retrained: {printable(name)}"),
    )
    statement = test_result(
        (*model_files, _stage.subject(_stage.ACCEPTED)),
        result="PASSED",  # ran to its end; whether the numbers are good enough is for the gates
        configuration=(
            *(_stage.part(path, contract.asset) for path in (_stage.THREATS, _stage.CONTRACT, _stage.EVALUATION)),
            _stage.code("poison"),
        ),
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


def check_split(used: Prepared, due: Prepared) -> None:
    """Refuse windows of other units, or cut at other cycles, than the salt and the policy say.

    The builder made them; a test set that the builder chose says nothing about the model.

    Raises:
        EvidenceError: They differ.
    """
    for name in SPLITS:
        mine, expected = getattr(used, name), getattr(due, name)
        same = mine.unit_names == expected.unit_names and used.salt == due.salt
        pairs = ((mine.units, expected.units), (mine.cycles, expected.cycles), (mine.rul, expected.rul))
        if not same or any(not np.array_equal(a, b) for a, b in pairs):
            raise EvidenceError(
                f"{_stage.WINDOWS[0]}: expected the {name} windows that the salt and {_stage.EVALUATION} give, "
                f"{len(expected)} of {len(expected.unit_names)} units, got {len(mine)} of {len(mine.unit_names)} units",
                remedy="Whoever ran prepare did not split as policy says: dvc repro --force prepare",
            )


if __name__ == "__main__":
    run_stage(main)
