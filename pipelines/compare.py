"""Compare: every model family trained on the candidate's windows: what each costs and buys. Not part of the verdict.

Reads data/windows/ and models/candidate/. Writes reports/compare/measures.json and a signed record, which the report
shows when it is about the same model. `make compare` runs it; `dvc repro` does not.
"""

from __future__ import annotations

from pathlib import Path

from pipelines import _stage
from twinseal.console import out, run_stage
from twinseal.files import write_json
from twinseal.prognostics.checkpoint import read_model
from twinseal.prognostics.comparison import compare
from twinseal.prognostics.ensemble import networks_of
from twinseal.prognostics.fitting import reproducible
from twinseal.prognostics.processes import Workers
from twinseal.prognostics.training import TrainParams
from twinseal.prognostics.windows import Prepared

REPORT = Path("reports/compare")


@reproducible(0)
def main() -> None:
    """Check, train the other families, measure, write, sign."""
    params, files = _stage.params(TrainParams, "train"), _stage.candidate()
    _stage.upstream("prepare", *_stage.WINDOWS)
    prepared, networks = Prepared.read(_stage.WINDOWS[0].parent), networks_of(read_model(_stage.CANDIDATE).inference)
    measures = compare(prepared, params, networks, workers=Workers.of(_stage.PARAMS, 4).count)
    path = REPORT / "measures.json"
    write_json(path, measures.to_dict())
    _stage.attest_provenance(
        "compare",
        _stage.subject(path),
        materials=(*files, *map(_stage.subject, _stage.WINDOWS)),
        parameters={"train": params.model_dump(mode="json")},
        measures=measures,
    )
    for name, family in measures.families.items():
        bound = family.certified["eps-0.1"].rmse_cycles
        out.print(f"  {name}: RMSE {family.clean.rmse_cycles:.1f} cycles, at most {bound:.1f} within 0.1 σ (certified)")


if __name__ == "__main__":
    run_stage(main)
