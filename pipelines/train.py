"""Train: the robust network and the baseline beside it, from prepared windows.

Reads data/windows/ and policy/contract.yaml. Writes models/candidate/ (the model and nothing else), reports/train/
(metrics, history, predictions) and the signed provenance of the model. Same inputs, same bytes.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipelines import _stage
from twinseal.console import out, run_stage
from twinseal.evidence import Subject
from twinseal.files import inventory, write_json, write_whole
from twinseal.guard import calibration as guard
from twinseal.guard.parameters import GuardParams
from twinseal.prognostics import conformal
from twinseal.prognostics.checkpoint import Model, write_model
from twinseal.prognostics.comparison import compare
from twinseal.prognostics.evaluation import estimates, evaluate, predictions
from twinseal.prognostics.fitting import Epoch, reproducible
from twinseal.prognostics.gradient_boosting import baseline
from twinseal.prognostics.metrics import measure
from twinseal.prognostics.training import OutOfFold, TrainParams, cross_validate, train
from twinseal.prognostics.windows import DESCRIPTION, TENSORS, Prepared
from twinseal.telemetry.contract import Contract
from twinseal.telemetry.sources import DataParams

WINDOWS, CANDIDATE, REPORT = Path("data/windows"), Path("models/candidate"), Path("reports/train")


@reproducible(0)
def main() -> None:
    """Check, train, measure, write, sign."""
    _stage.check_signing_key("train")
    params, data = _stage.params(TrainParams, "train"), _stage.params(DataParams, "data")
    inputs = (WINDOWS / TENSORS, WINDOWS / DESCRIPTION)
    _stage.upstream("prepare", *inputs)
    contract = Contract.load(_stage.POLICY / "contract.yaml", data.asset)
    prepared = Prepared.read(WINDOWS)
    networks, history = train(prepared, params, workers=workers(), progress=report_epoch)
    boosted = baseline(prepared, seed=params.seed)
    unseen = cross_validate(prepared, params, workers=workers())
    model = Model(
        networks,
        contract,
        prepared.normaliser,
        params.family,
        guard_of(prepared, contract),
        {mode: intervals_of(said, prepared.rul_cap_cycles) for mode, said in unseen.items()},
    )
    measures = evaluate(networks, prepared, boosted) | {
        "cross_validation": {mode: measure(said.estimates, said.truth) for mode, said in unseen.items()},
        "intervals": {mode: covered(model, prepared, mode, said) for mode, said in unseen.items()},
        "guard": {"false_alarm_share": model.guard.measured_false_alarm_share},
        "families": compare(prepared, params, networks, workers=workers()),
    }
    write_candidate(model)
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
    write_table(REPORT / "predictions.csv", predictions(networks.plain, prepared.test, boosted))
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


def guard_of(prepared: Prepared, contract: Contract) -> GuardParams:
    """The guard, fitted on the training units; its false alarms are measured on validation and test units."""
    unseen = prepared.validation.histories() + prepared.test.histories()
    return guard.fit(prepared.train.histories(), unseen, contract, prepared.normaliser.restore)


def intervals_of(unseen: OutOfFold, cap_cycles: float) -> conformal.Intervals:
    """How far the truth lies from what a network says of units that it did not see."""
    return conformal.fit(unseen.estimates, unseen.truth, unseen.units, cap_cycles=cap_cycles)


def covered(model: Model, prepared: Prepared, mode: str, unseen: OutOfFold) -> dict[str, float]:
    """What the intervals of one network hold: by cross-validation, and on the test windows."""
    test, cap = prepared.test, prepared.rul_cap_cycles
    within = model.intervals[mode].hold(estimates(model.networks.modes()[mode], test), test.rul)
    measured = conformal.measured_coverage(unseen.estimates, unseen.truth, unseen.units, cap_cycles=cap)
    return measured | {"test_coverage": float(np.mean(within)), "test_windows": len(test)}


def workers() -> int:
    """Processes that fit networks at the same time."""
    return min(4, os.cpu_count() or 1)


def write_candidate(model: Model) -> None:
    """Replace models/candidate/ by this model, at once."""
    CANDIDATE.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CANDIDATE.parent, prefix=".candidate.") as folder:
        write_model(Path(folder, "candidate"), model)
        shutil.rmtree(CANDIDATE, ignore_errors=True)
        Path(folder, "candidate").replace(CANDIDATE)


def write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows as CSV, numbers to three places."""
    write_whole(path, pd.DataFrame(rows).to_csv(index=False, float_format="%.3f").encode())


if __name__ == "__main__":
    run_stage(main)
