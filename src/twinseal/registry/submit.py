"""Submission: the signed directory becomes a candidate in MLflow, with a run that shows how it was made.

The candidate is a LoggedModel without an `MLmodel` file: MLflow gives such a directory back byte for byte, and its
loaders, which would execute code from it, find nothing to load. Nothing is registered yet.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import structlog
from mlflow.entities import Metric, Param, RunTag

from twinseal.errors import RegistryError
from twinseal.files import FileRecord, inventory, tree_digest
from twinseal.registry.describe import candidate_links
from twinseal.registry.store import Store, check_model_id, registry_errors

log = structlog.get_logger()

NOTE = "mlflow.note.content"  # MLflow's UI renders it as Markdown
BUNDLE = "twinseal.bundle_sha256"
MODEL_TYPE = "twinseal-candidate"
# MLflow's own limits (mlflow.utils.validation): per batch, and length of a param's value and a tag's.
_METRICS, _PARAMS, _VALUE, _NOTE_LENGTH = 1000, 100, 6000, 8000

T = TypeVar("T")


@dataclass(frozen=True)
class RunRecord:
    """What MLflow shows of how a candidate was made. For people; nothing reads it back.

    Attributes:
        params: What the run was made with; nested keys are joined by dots.
        metrics: What was measured; nested keys are joined by slashes, numbers are kept and all else is left out.
        reports: Files and folders to show beside the run.
    """

    params: Mapping[str, Any]
    metrics: Mapping[str, Any]
    reports: Sequence[Path] = ()


def submit(
    store: Store,
    bundle: Path,
    *,
    model: str,
    description_markdown: str,
    run: RunRecord,
) -> str:
    """Put the signed directory at `bundle` into MLflow as a candidate for `model`; its id.

    The same bytes twice are one candidate: when MLflow still has it, byte for byte, its id is returned and its
    description renewed. Tags say where to look; the comparison of bytes decides.

    Args:
        store: Where to.
        bundle: The signed directory: model, signature, evidence.
        model: Name of the model, and of MLflow's experiment.
        description_markdown: For the reviewer, from `describe.describe`; links to the run are added below it.
        run: How it was made, for people.

    Raises:
        RegistryError: MLflow could not be reached or refused; a report is missing. A candidate that was begun stays
            marked as failed and is never offered.
        DigestMismatchError: The directory holds a link, or a name that is not plain.
    """
    records = inventory(bundle)
    if not records or any(record.path.endswith("MLmodel") for record in records):
        raise RegistryError(f"{bundle}: expected signed files and no MLmodel, got {[r.path for r in records]}")
    digest = tree_digest(records)
    experiment = store.experiment(model)
    known = _find_same_candidate(store, experiment, digest, bundle)
    if known is not None:
        describe_candidate(store, known, description_markdown)
        log.info("candidate.known", model=model, model_id=known)
        return known
    run_id = _create_run(store, experiment, model, run)
    about = {
        "experiment_id": experiment,
        "source_run_id": run_id,
        "name": f"{model}-candidate",
        "tags": {BUNDLE: digest},
    }
    model_id = _create_candidate(store, bundle, about)
    _log_metrics(store, run_id, model_id, run.metrics)
    describe_candidate(store, model_id, description_markdown)
    log.info("candidate.submitted", model=model, model_id=model_id, files=len(records))
    return model_id


def describe_candidate(store: Store, model_id: str, markdown: str) -> None:
    """Show `markdown`, and links to the evidence below it, as the description of a candidate and of its run.

    Raises:
        RegistryError: MLflow has no such candidate, could not be reached, or refused.
    """
    check_model_id(model_id)
    with registry_errors(f"candidate {model_id}"):
        found = store.client.get_logged_model(model_id)
        run = found.source_run_id or ""
        tail = candidate_links(str(found.experiment_id), run, model_id)
        note = markdown[: _NOTE_LENGTH - len(tail) - 2] + "\n\n" + tail
        store.client.set_logged_model_tags(model_id, {NOTE: note})
        if run:
            store.client.set_tag(run, NOTE, note)


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


def _find_same_candidate(store: Store, experiment: str, digest: str, bundle: Path) -> str | None:
    with registry_errors("candidates"):
        found = store.client.search_logged_models([experiment], filter_string=f"tags.`{BUNDLE}` = '{digest}'")
        ready = [str(item.model_id) for item in found if str(item.status) == "READY"]
    return next((model_id for model_id in ready if has_same_files(store, model_id, inventory(bundle))), None)


def has_same_files(store: Store, model_id: str, records: Sequence[FileRecord]) -> bool:
    """Whether MLflow gives back every file of `records` for a candidate, byte for byte; the bytes are not kept."""
    check_model_id(model_id)
    try:
        with registry_errors(f"candidate {model_id}"):
            place = store.client.get_logged_model(model_id).artifact_location
            there = store.artifacts_at(place, f"candidate {model_id}")
            return all(there.sha256(record.path, record.length) == record.sha256 for record in records)
    except RegistryError:
        return False


def _create_run(store: Store, experiment: str, model: str, record: RunRecord) -> str:
    with registry_errors(f"run for {model}"):
        made = store.client.create_run(experiment, run_name=f"{model} candidate").info
        run = str(made.run_id)
        there = store.artifacts_at(made.artifact_uri, f"run {run}")
        texts = {_key(key): str(value)[:_VALUE] for key, value in flatten(record.params).items()}
        for chunk in _chunks([Param(key, value) for key, value in sorted(texts.items())], _PARAMS):
            store.client.log_batch(run, params=chunk)
        for report in record.reports:
            for path, name in _files_of(report):
                there.write(path, f"reports/{name}")
    return run


def _files_of(report: Path) -> list[tuple[Path, str]]:
    """Each file of a report, and its name beside the run."""
    if not report.is_dir():
        return [(report, report.name)]
    return [(report / record.path, f"{report.name}/{record.path}") for record in inventory(report)]


def _create_candidate(store: Store, bundle: Path, about: dict[str, Any]) -> str:
    with registry_errors(str(about["name"])):
        made = store.client.create_logged_model(model_type=MODEL_TYPE, **about)
        model_id = str(made.model_id)
        check_model_id(model_id)
        try:
            there = store.artifacts_at(made.artifact_location, f"candidate {model_id}")
            for record in inventory(bundle):
                there.write(bundle / record.path, record.path)
        except BaseException:
            store.client.finalize_logged_model(model_id, "FAILED")
            raise
        store.client.finalize_logged_model(model_id, "READY")
    return model_id


def _log_metrics(store: Store, run: str, model_id: str, metrics: Mapping[str, Any]) -> None:
    now = int(time.time() * 1000)  # for display; no decision rests on it
    numbers = {_key(key): float(value) for key, value in flatten(metrics, "/").items() if _is_number(value)}
    entries = [Metric(key, value, now, 0, model_id=model_id) for key, value in sorted(numbers.items())]
    with registry_errors(f"run {run}"):
        for chunk in _chunks(entries, _METRICS):
            store.client.log_batch(run, metrics=chunk)
        store.client.log_batch(run, tags=[RunTag("twinseal.candidate", model_id)])
        store.client.set_terminated(run)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _key(key: str) -> str:
    """A key that MLflow admits: ASCII letters, digits, `_-. /`."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "_-. /") else "_" for c in key)[:250]


def _chunks(items: list[T], size: int) -> Iterator[list[T]]:
    rest = iter(items)
    while chunk := list(islice(rest, size)):
        yield chunk
