"""Train: the robust network and the baseline beside it, from prepared windows.

Reads data/windows/ and policy/contract.yaml. Writes models/candidate/ (the model and nothing else), reports/train/
(metrics, history, predictions) and the signed provenance of the model. Same inputs, same bytes.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from pipelines import _stage
from twinseal.console import out, run_stage
from twinseal.evidence import Subject
from twinseal.files import inventory, write_json, write_whole
from twinseal.prognostics.baseline import baseline
from twinseal.prognostics.checkpoint import write_model
from twinseal.prognostics.evaluation import evaluate, predictions
from twinseal.prognostics.network import RulNetwork
from twinseal.prognostics.training import Epoch, TrainParams, train
from twinseal.prognostics.windows import DESCRIPTION, TENSORS, Prepared
from twinseal.telemetry.contract import Contract
from twinseal.telemetry.sources import DataParams

WINDOWS, CANDIDATE, REPORT = Path("data/windows"), Path("models/candidate"), Path("reports/train")


def main() -> None:
    """Check, train, measure, write, sign."""
    params, data = _stage.params(TrainParams, "train"), _stage.params(DataParams, "data")
    inputs = (WINDOWS / TENSORS, WINDOWS / DESCRIPTION)
    _stage.upstream("prepare", *inputs)
    contract = Contract.load(_stage.POLICY / "contract.yaml", data.asset)
    prepared = Prepared.read(WINDOWS)
    network, history = train(prepared, params, progress=report_epoch)
    boosted = baseline(prepared, seed=params.seed)
    measures = evaluate(network, prepared, boosted)
    write_candidate(network, contract, prepared)
    subjects = tuple(Subject(f"model/{record.path}", record.sha256) for record in inventory(CANDIDATE))
    _stage.attest_made(
        "train",
        *subjects,
        materials=tuple(map(_stage.subject, inputs)),
        parameters={"train": params.model_dump(mode="json"), "data": {"asset": data.asset}},
        measures=measures,
    )
    write_json(REPORT / "metrics.json", measures)
    write_table(REPORT / "history.csv", [asdict(epoch) for epoch in history])
    write_table(REPORT / "predictions.csv", predictions(network, prepared.test, boosted))
    test, certified = measures["test"], measures["certified"]["eps-0.1"]
    out.print(
        f"trained: RMSE {test['network']['rmse_cycles']:.1f} cycles on {len(prepared.test)} test windows, at most "
        f"{certified['rmse_cycles']:.1f} within 0.1 σ (certified); baseline {test['baseline']['rmse_cycles']:.1f}"
    )


def report_epoch(epoch: Epoch) -> None:
    """Tell the person at the terminal how it goes, now and then."""
    if epoch.epoch == 1 or epoch.epoch % 5 == 0:
        out.print(
            f"  epoch {epoch.epoch}: validation RMSE {epoch.validation_rmse_cycles:.1f} cycles, "
            f"{epoch.validation_worst_rmse_cycles:.1f} at the worst end of its bounds"
        )


def write_candidate(network: RulNetwork, contract: Contract, prepared: Prepared) -> None:
    """Replace models/candidate/ by this model, at once."""
    CANDIDATE.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CANDIDATE.parent, prefix=".candidate.") as folder:
        write_model(Path(folder, "candidate"), network, contract, prepared)
        shutil.rmtree(CANDIDATE, ignore_errors=True)
        Path(folder, "candidate").replace(CANDIDATE)


def write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows as CSV, numbers to three places."""
    write_whole(path, pd.DataFrame(rows).to_csv(index=False, float_format="%.3f").encode())


if __name__ == "__main__":
    run_stage(main)
