"""What MLflow shows of how a candidate was made: all of it from signed records, and from the files that they name."""

from __future__ import annotations

import csv
import getpass
import io
import os
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from pipelines import _stage
from twinseal.digests import sha256
from twinseal.errors import DigestMismatchError, EvidenceError
from twinseal.evidence import Statement, byproducts, measures, source_of, stage_params
from twinseal.measures.preparation import PreparationMeasures
from twinseal.measures.quantity import read
from twinseal.reading import read_regular
from twinseal.registry.run import Curve, DataInput, Origin, RunRecord, Use, flatten
from twinseal.telemetry.contract import Contract
from twinseal.telemetry.mapping import MAPPING

HISTORY = Path("reports/train/history.csv")
MAX_TABLE_BYTES = 1 << 20
MADE_BY = ("ingest", "prepare", "train")  # whose params are shown
GROUPS = {"validate": "validation", "train": "training", "evade": "evade", "poison": "poisoning"}
ALSO_SHOWN = (
    *("training/*/test/rmse_cycles", "training/boosting/rmse_cycles", "training/*/certified/*/rmse_cycles"),
    *("evade/evasion/worst/*/rmse_cycles", "evade/commissioned/worst/*/rmse_cycles"),
    "poisoning/attacks/*/after_screening/rmse_increase_cycles",
)
# Missed failures are counted on validation units too.
TESTED = ("evasion/*/rmse_cycles", "commissioned/*/rmse_cycles", "training/*/test/rmse_cycles")
CURVES: dict[str, Use] = {
    "train_rmse_cycles": "training",
    "validation_rmse_cycles": "validation",
    "validation_worst_rmse_cycles": "validation",
}


def run_record(verdict: Statement, contract: Contract, shown: Sequence[Path], policy_sha256: str) -> RunRecord:
    """What MLflow shows of the candidate.

    Args:
        verdict: The signed verdict.
        contract: Of the model.
        shown: The reports that the verdict names.
        policy_sha256: Digest of all of policy/.

    Raises:
        SignatureError, EvidenceError, DigestMismatchError: A record, or a file that it names, is not what was signed.
    """
    records = {stage: _stage.upstream(stage) for stage in dict.fromkeys((*MADE_BY, *GROUPS))}
    metrics = _metrics(verdict, records)
    return RunRecord(
        params=_params(records),
        metrics=metrics,
        tested=frozenset(name for name in metrics if any(fnmatchcase(name, pattern) for pattern in TESTED)),
        curves=_curves(records["train"]),
        data=_data(records["prepare"], contract),
        origin=_origin(verdict),
        policy_sha256=policy_sha256,
        reports=shown,
    )


def _params(records: Mapping[str, Statement]) -> dict[str, Any]:
    """Those with which the stages did their work, by their own records: params.yaml may have changed since."""
    found: dict[str, Any] = {}
    for stage in MADE_BY:
        for section, values in stage_params(records[stage]).items():
            if isinstance(values, Mapping) and section != MAPPING:  # it is in `data` too
                found[section] = {**found.get(section, {}), **values}
    return found


def _metrics(verdict: Statement, records: Mapping[str, Statement]) -> dict[str, float]:
    """What gates look at, and the curves over ε: tens of the thousand numbers in the records."""
    found = flatten({group: measures(records[stage]) for stage, group in GROUPS.items()}, "/")
    listed = verdict.predicate.get("twinseal_gates")
    gates = [gate for gate in listed if isinstance(gate, dict)] if isinstance(listed, list) else []
    gated = {f"{GROUPS.get(str(gate.get('evidence')))}/{gate.get('measure')}" for gate in gates}
    return {
        name.removeprefix("evade/"): float(value)
        for name, value in found.items()
        if isinstance(value, int | float)
        and not isinstance(value, bool)
        and (name in gated or any(fnmatchcase(name, pattern) for pattern in ALSO_SHOWN))
    }


def _curves(trained: Statement) -> dict[str, Curve]:
    data = read_regular(HISTORY, MAX_TABLE_BYTES)
    named = {item.name: item.sha256 for item in byproducts(trained)}
    if sha256(data) != named.get(HISTORY.as_posix()):
        raise DigestMismatchError(
            f"{HISTORY}: expected the file that train signed, got another", remedy="dvc repro --force train"
        )
    try:
        epochs = list(csv.DictReader(io.StringIO(data.decode())))
        return {
            f"curves/{name}": Curve(use, {int(epoch["epoch"]): float(epoch[name]) for epoch in epochs})
            for name, use in CURVES.items()
        }
    except (KeyError, TypeError, ValueError) as error:
        raise EvidenceError(f"{HISTORY}: expected a table of epochs, got something else ({error})") from error


def _data(prepared: Statement, contract: Contract) -> list[DataInput]:
    windows, columns = _stage.WINDOWS[0].as_posix(), dict.fromkeys(contract.inputs, "float")
    sizes = read(PreparationMeasures, measures(prepared), "prepare")
    uses: dict[Use, Any] = {"training": sizes.train, "validation": sizes.validation, "test": sizes.test}
    return [
        DataInput(
            name=f"{contract.asset} {use} windows",
            use=use,
            sha256=prepared.digest_of(windows),
            path=windows,
            columns=columns,
            counts={"windows": size.windows, "units": size.units},
        )
        for use, size in uses.items()
    ]


def _origin(verdict: Statement) -> Origin:
    """Who runs this, from the commit that the verdict names; of an experiment also the commit that it began from."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container may give its user no name
        user = ""
    experiment, baseline = os.environ.get("DVC_EXP_NAME", ""), os.environ.get("DVC_EXP_BASELINE_REV", "")
    program = f"dvc exp run --name {experiment}" if experiment else "dvc repro"
    return Origin(user, str(source_of(verdict).get("commit", "")), program, baseline)
