"""The run of a candidate: what MLflow shows of how it was made, in the fields that MLflow has for it.

Parameters, some tens of measures, training curves by step, the data, who made it from which commit, and the reports.
For people: on a plain MLflow server whoever can write can edit it, and no decision rests on it.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypeVar

from mlflow.entities import Dataset, DatasetInput, InputTag, LoggedModelOutput, Metric, Param
from mlflow.utils.mlflow_tags import (
    MLFLOW_DATASET_CONTEXT,
    MLFLOW_GIT_COMMIT,
    MLFLOW_PARENT_RUN_ID,
    MLFLOW_SOURCE_NAME,
    MLFLOW_SOURCE_TYPE,
    MLFLOW_USER,
)

from twinseal.files import inventory
from twinseal.registry.store import Store, registry_errors

# MLflow's own limits (mlflow.utils.validation): per batch, and length of a param's value, a tag's, and a digest.
_METRICS, _PARAMS, _VALUE, _DIGEST = 1000, 100, 6000, 36

BASELINE = "twinseal.baseline"  # the commit that an experiment began from

T = TypeVar("T")
Use = Literal["training", "validation", "test"]


@dataclass(frozen=True)
class DataInput:
    """Data that a candidate was made from, or measured on.

    Attributes:
        name: For people.
        use: What for.
        sha256: Of the file. MLflow keeps 36 characters of a digest: the whole one is in its profile.
        path: Of the file, in the checkout.
        columns: The type of each column, by name.
        counts: How much it is, by unit of measurement: {"units": 100, "windows": 17731}.
    """

    name: str
    use: Use
    sha256: str
    path: str
    columns: Mapping[str, str]
    counts: Mapping[str, int]

    def to_mlflow(self) -> DatasetInput:
        """As MLflow's dataset input; its page shows name, digest, schema, source, profile and use."""
        schema = [{"name": name, "type": kind, "required": True} for name, kind in self.columns.items()]
        dataset = Dataset(
            name=self.name,
            digest=self.sha256[:_DIGEST],
            source_type="local",
            source=json.dumps({"uri": self.path}),
            schema=json.dumps({"mlflow_colspec": schema}),
            profile=json.dumps({"sha256": self.sha256, **self.counts}),
        )
        return DatasetInput(dataset, [InputTag(MLFLOW_DATASET_CONTEXT, self.use)])


@dataclass(frozen=True)
class Curve:
    """A measure by step.

    Attributes:
        use: Of the data that it was measured on; None if on more than one part.
        points: The value at each step.
    """

    use: Use | None
    points: Mapping[int, float]


@dataclass(frozen=True)
class Origin:
    """Where a candidate comes from.

    Attributes:
        user: Who ran the pipeline.
        commit: Of the code, as Git names it; "" outside Git.
        program: What ran.
        baseline: Of an experiment, the commit from which it began; else "".
    """

    user: str = ""
    commit: str = ""
    program: str = ""
    baseline: str = ""

    def tags(self) -> dict[str, str]:
        """MLflow's own tags for these."""
        found = {MLFLOW_USER: self.user, MLFLOW_GIT_COMMIT: self.commit, MLFLOW_SOURCE_NAME: self.program}
        found |= {MLFLOW_SOURCE_TYPE: "LOCAL"} if self.program else {}
        found |= {BASELINE: self.baseline}
        return {key: value for key, value in found.items() if value}


@dataclass(frozen=True)
class RunRecord:
    """What MLflow shows of how a candidate was made.

    Attributes:
        params: What it was made with; nested keys are joined by dots.
        metrics: What was measured, by path.
        tested: Which of these, by path, were measured on the test data and on nothing else.
        curves: What was measured during training, by path.
        data: What it was made from and measured on.
        origin: Who made it, from which code.
        policy_sha256: The policy that it was judged by.
        reports: Files and folders to show beside the run.
    """

    params: Mapping[str, Any]
    metrics: Mapping[str, float]
    tested: frozenset[str] = frozenset()
    curves: Mapping[str, Curve] = field(default_factory=dict)
    data: Sequence[DataInput] = ()
    origin: Origin = Origin()
    policy_sha256: str = ""
    reports: Sequence[Path] = ()

    def tags(self) -> dict[str, str]:
        """Of the run. MLflow's page that compares two runs shows those of ours: what changed besides the params."""
        made_of = {"commit": self.origin.commit, "policy": self.policy_sha256}
        made_of |= {f"data.{item.use}": item.sha256 for item in self.data}
        return self.origin.tags() | {f"twinseal.{name}": value[:_DIGEST] for name, value in made_of.items() if value}


def create_run(store: Store, experiment: str, name: str, record: RunRecord) -> str:
    """A run called `name` with all but the metrics of `record`; its id.

    Raises:
        RegistryError: MLflow could not be reached, or refused; a report is missing.
    """
    with registry_errors(f"run {name}"):
        tags = record.tags()
        parent = _baseline_run(store, experiment, record.origin.baseline)
        tags |= {MLFLOW_PARENT_RUN_ID: parent} if parent else {}
        made = store.client.create_run(experiment, run_name=name, tags=tags).info
        run = str(made.run_id)
        there = store.artifacts_at(made.artifact_uri, f"run {run}")
        texts = {_key(key): str(value)[:_VALUE] for key, value in flatten(record.params).items()}
        for chunk in _chunks([Param(key, value) for key, value in sorted(texts.items())], _PARAMS):
            store.client.log_batch(run, params=chunk)
        if record.data:
            store.client.log_inputs(run, datasets=[item.to_mlflow() for item in record.data])
        for report in record.reports:
            for path, shown in _files_of(report):
                there.write(path, f"reports/{shown}")
    return run


def log_metrics(store: Store, run: str, model_id: str, record: RunRecord) -> None:
    """The metrics of `record`, for the run and its candidate, and its curves; then the run is finished.

    Raises:
        RegistryError: As `create_run`.
    """
    now = int(time.time() * 1000)  # for display; no decision rests on it
    curves: dict[str, Curve] = {}
    for path, value in record.metrics.items():
        curves[path] = Curve("test" if path in record.tested else None, {0: value})
    curves |= record.curves
    entries = [
        Metric(metric_name(path), float(value), now, step, model_id, **_measured_on(record, curve.use))
        for path, curve in sorted(curves.items())
        for step, value in curve.points.items()
        if math.isfinite(value)
    ]
    with registry_errors(f"run {run}"):
        store.client.log_outputs(run, [LoggedModelOutput(model_id, 0)])
        for chunk in _chunks(entries, _METRICS):
            store.client.log_batch(run, metrics=chunk)
        store.client.set_tag(run, "twinseal.candidate", model_id)
        store.client.set_terminated(run)


def metric_name(path: str) -> str:
    """A name with one slash: MLflow's pages group the charts by all that is before the last one.

    >>> metric_name("evasion/worst/eps-0.1/rmse_cycles")
    'evasion/worst eps-0.1 rmse_cycles'
    """
    group, slash, rest = path.partition("/")
    return _key(group + slash + rest.replace("/", " "))


def _measured_on(record: RunRecord, use: Use | None) -> dict[str, str]:
    """MLflow's page of a candidate names the data that its metrics were measured on."""
    found = next((item for item in record.data if item.use == use), None)
    return {"dataset_name": found.name, "dataset_digest": found.sha256[:_DIGEST]} if found else {}


def flatten(values: Mapping[str, Any], separator: str = ".") -> dict[str, Any]:
    """Nested mappings and lists as one level, keys and indices joined by `separator`.

    >>> flatten({"a": {"b": 1, "c": [2, 3]}})
    {'a.b': 1, 'a.c.0': 2, 'a.c.1': 3}
    """
    flat: dict[str, Any] = {}
    for key, value in values.items():
        below = {str(index): item for index, item in enumerate(value)} if isinstance(value, list | tuple) else value
        if isinstance(below, Mapping):
            flat |= {f"{key}{separator}{rest}": item for rest, item in flatten(below, separator).items()}
        else:
            flat[str(key)] = value
    return flat


def _baseline_run(store: Store, experiment: str, commit: str) -> str:
    """The newest run that was made from `commit` and is no experiment; "" where there is none."""
    if not commit:
        return ""
    found = store.client.search_runs([experiment], f"tags.`{MLFLOW_GIT_COMMIT}` = '{_key(commit)}'")
    return next((str(run.info.run_id) for run in found if BASELINE not in run.data.tags), "")


def _files_of(report: Path) -> list[tuple[Path, str]]:
    """Each file of a report, and its name beside the run."""
    if not report.is_dir():
        return [(report, report.name)]
    return [(report / record.path, f"{report.name}/{record.path}") for record in inventory(report)]


def _key(key: str) -> str:
    """A key that MLflow admits: ASCII letters, digits, `_-. /`."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "_-. /") else "_" for c in key)[:250]


def _chunks(items: list[T], size: int) -> Iterator[list[T]]:
    rest = iter(items)
    while chunk := list(islice(rest, size)):
        yield chunk
