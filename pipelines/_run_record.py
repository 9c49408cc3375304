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
from twinseal import config
from twinseal.digests import sha256
from twinseal.errors import DigestMismatchError
from twinseal.evidence import Statement, byproducts, measures, source_of
from twinseal.reading import read_regular
from twinseal.registry.run import Curve, DataInput, Origin, RunRecord, Use, flatten

HISTORY = Path("reports/train/history.csv")
MAX_TABLE_BYTES = 1 << 20
GROUPS = {"validate": "validation", "train": "training", "evade": "evade", "poison": "poisoning"}
ALSO_SHOWN = (
    *("training/*/test/rmse_cycles", "training/boosting/rmse_cycles", "training/*/certified/*/rmse_cycles"),
    *("evade/evasion/worst/*/rmse_cycles", "evade/commissioned/worst/*/rmse_cycles"),
    "poisoning/attacks/*/after_screening/rmse_increase_cycles",
)
CURVES: dict[str, Use] = {
    "train_rmse_cycles": "training",
    "validation_rmse_cycles": "validation",
    "validation_worst_rmse_cycles": "validation",
}
USES: dict[str, Use] = {"train": "training", "validation": "validation", "test": "test"}


def run_record(verdict: Statement, contract: Mapping[str, Any], shown: Sequence[Path]) -> RunRecord:
    """What MLflow shows of the candidate.

    Args:
        verdict: The signed verdict.
        contract: Of the model, as it is in the bundle.
        shown: The reports that the verdict names.

    Raises:
        SignatureError, EvidenceError, DigestMismatchError: A record, or a file that it names, is not what was signed.
    """
    prepared, trained = _stage.upstream("prepare"), _stage.upstream("train")
    epochs = list(csv.DictReader(io.StringIO(_table(trained, HISTORY))))
    return RunRecord(
        params=config.read_yaml(_stage.PARAMS),
        metrics=_metrics(verdict),
        curves={
            f"curves/{name}": Curve(use, {int(epoch["epoch"]): float(epoch[name]) for epoch in epochs})
            for name, use in CURVES.items()
        },
        data=[_data(prepared, contract, split, use) for split, use in USES.items()],
        origin=_origin(verdict),
        reports=shown,
    )


def _metrics(verdict: Statement) -> dict[str, float]:
    """What gates look at, and the curves over ε: tens of the thousand numbers in the records."""
    found = flatten({GROUPS[stage]: measures(_stage.upstream(stage)) for stage in GROUPS}, "/")
    gates = verdict.predicate["twinseal_gates"]
    gated = {f"{GROUPS[gate['evidence']]}/{gate['measure']}" for gate in gates if gate["evidence"] in GROUPS}
    return {
        name.removeprefix("evade/"): float(value)
        for name, value in found.items()
        if isinstance(value, int | float)
        and not isinstance(value, bool)
        and (name in gated or any(fnmatchcase(name, pattern) for pattern in ALSO_SHOWN))
    }


def _table(statement: Statement, path: Path) -> str:
    """A file that `train` wrote besides the model, once it is the one that the record names."""
    data = read_regular(path, MAX_TABLE_BYTES)
    named = {item.name: item.sha256 for item in byproducts(statement)}
    if sha256(data) != named.get(path.as_posix()):
        raise DigestMismatchError(
            f"{path}: expected the file that train signed, got another", remedy="dvc repro --force train"
        )
    return data.decode()


def _data(prepared: Statement, contract: Mapping[str, Any], split: str, use: Use) -> DataInput:
    channels = [*contract.get("settings", {}), *contract.get("sensors", {})]
    windows, name = _stage.WINDOWS[0].as_posix(), f"{contract.get('asset', 'asset')} {use} windows"
    counts, columns = measures(prepared)[split], dict.fromkeys(channels, "float")
    return DataInput(name, use, prepared.digest_of(windows), windows, columns, counts)


def _origin(verdict: Statement) -> Origin:
    """Who runs this, from the commit that the verdict names; of an experiment also the commit that it began from."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container may give its user no name
        user = ""
    experiment, baseline = os.environ.get("DVC_EXP_NAME", ""), os.environ.get("DVC_EXP_BASELINE_REV", "")
    program = f"dvc exp run --name {experiment}" if experiment else "dvc repro"
    return Origin(user, str(source_of(verdict).get("commit", "")), program, baseline)
