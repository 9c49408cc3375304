"""Prepare: windows, remaining lives and the normaliser from accepted telemetry, split by unit.

Reads data/accepted/ (telemetry, split_salt.json), policy/contract.yaml and policy/evaluation.yaml. Writes
data/windows/windows.safetensors, data/windows/preparation.json and the signed provenance of both.
"""

from __future__ import annotations

from pathlib import Path

from pipelines import _stage
from twinseal.config import load
from twinseal.console import out, run_stage
from twinseal.measures.preparation import PreparationMeasures, SplitMeasures
from twinseal.prognostics.splitting import Split, SplitPolicy
from twinseal.prognostics.windows import DESCRIPTION, TENSORS, PrepareParams, prepare
from twinseal.telemetry.fleet import Fleet

ACCEPTED, WINDOWS = Path("data/accepted/telemetry.parquet"), Path("data/windows")


def main() -> None:
    """Check, cut into windows, write, sign."""
    _stage.check_signing_key("prepare")
    params = _stage.params(PrepareParams, "prepare")
    split = Split(load(SplitPolicy, _stage.EVALUATION), _stage.salt())
    contract = _stage.contract()
    prepared = prepare(Fleet.read(ACCEPTED, contract), contract, params, split)
    prepared.write(WINDOWS)
    splits = {"train": prepared.train, "validation": prepared.validation, "test": prepared.test}
    _stage.attest_provenance(
        "prepare",
        _stage.subject(WINDOWS / TENSORS),
        _stage.subject(WINDOWS / DESCRIPTION),
        materials=(*map(_stage.subject, (ACCEPTED, _stage.SALT)), _stage.part(_stage.EVALUATION, contract.asset)),
        parameters={"prepare": params.model_dump(mode="json"), "data": {"asset": contract.asset}},
        measures=PreparationMeasures(
            **{name: SplitMeasures(windows=len(s), units=len(s.unit_names)) for name, s in splits.items()}
        ),
    )
    counts = ", ".join(f"{len(getattr(prepared, name))} {name}" for name in ("train", "validation", "test"))
    out.print(f"prepared: windows of {params.window} cycles, {len(prepared.channels)} channels: {counts}")


if __name__ == "__main__":
    run_stage(main)
