"""Train: the candidate of the family that params.yaml chooses, with its guard and its intervals, from prepared windows.

Reads data/windows/ and policy/contract.yaml. Writes models/candidate/ (the model and nothing else), reports/train/
(measures, history, predictions) and the signed provenance of the model. Same inputs, same bytes.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from pipelines import _stage
from twinseal.console import out, run_stage
from twinseal.files import write_json
from twinseal.measures.training import TrainingMeasures
from twinseal.prognostics.candidate import build_candidate
from twinseal.prognostics.checkpoint import write_model
from twinseal.prognostics.fitting import Epoch, reproducible
from twinseal.prognostics.processes import Workers
from twinseal.prognostics.training import TrainParams
from twinseal.prognostics.windows import Prepared

REPORT = Path("reports/train")
HISTORY, PREDICTIONS = REPORT / "history.csv", REPORT / "predictions.csv"


@reproducible(0)
def main() -> None:
    """Check, train, measure, write, sign."""
    _stage.check_signing_key("train")
    params = _stage.params(TrainParams, "train")
    _stage.upstream("prepare", *_stage.WINDOWS)
    contract, prepared = _stage.contract(), Prepared.read(_stage.WINDOWS[0].parent)
    candidate = build_candidate(prepared, params, contract, workers=Workers.of(_stage.PARAMS, 4), progress=report_epoch)
    with _stage.replacing(_stage.CANDIDATE) as folder:
        write_model(folder, candidate.model)
    write_json(REPORT / "measures.json", candidate.measures.to_dict())
    _stage.write_table(HISTORY, [asdict(epoch) for epoch in candidate.history])
    _stage.write_table(PREDICTIONS, candidate.predictions)
    _stage.attest_provenance(
        "train",
        *_stage.model_files(),
        materials=tuple(map(_stage.subject, _stage.WINDOWS)),
        parameters={"train": params.model_dump(mode="json"), "data": {"asset": contract.asset}},
        measures=candidate.measures,
        byproducts=tuple(map(_stage.subject, (HISTORY, PREDICTIONS))),
    )
    out.print(summary(candidate.measures))


def report_epoch(epoch: Epoch) -> None:
    """Tell the person at the terminal how it goes, now and then."""
    if epoch.epoch == 1 or epoch.epoch % 5 == 0:
        out.print(
            f"  epoch {epoch.epoch}: validation RMSE {epoch.validation_rmse_cycles:.1f} cycles, "
            f"{epoch.validation_worst_rmse_cycles:.1f} at the worst end of its bounds"
        )


def summary(measures: TrainingMeasures) -> str:
    """One line for people."""
    plain = measures.plain
    return (
        f"trained: RMSE {plain.test.rmse_cycles:.1f} cycles on {plain.test.windows} test windows, at most "
        f"{plain.certified['eps-0.1'].rmse_cycles:.1f} within 0.1 σ (certified); gradient boosting "
        f"{measures.boosting.rmse_cycles:.1f}"
    )


if __name__ == "__main__":
    run_stage(main)
