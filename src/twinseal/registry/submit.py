"""Submission: the signed directory becomes a candidate in MLflow, with a run that shows how it was made.

The candidate is a LoggedModel without an `MLmodel` file: MLflow gives such a directory back byte for byte, and its
loaders, which would execute code from it, find nothing to load. Nothing is registered yet.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import structlog
from mlflow.entities import Metric, Param, RunTag
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from twinseal.errors import RegistryError
from twinseal.files import inventory, tree_digest
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


def download(store: Store, model_id: str, directory: Path) -> None:
    """Fetch a candidate's files, untrusted, into the new or empty folder `directory`: for a reviewer to verify.

    Raises:
        RegistryError: MLflow has no such candidate, or could not be reached; the folder is not empty.
    """
    check_model_id(model_id)
    directory.mkdir(parents=True, exist_ok=True)
    if any(directory.iterdir()):
        raise RegistryError(f"{directory}: expected an empty folder to fetch {model_id} into, got one with files")
    with registry_errors(f"candidate {model_id}"):
        # Straight from where the bytes lie: a download by `models:/…` may add files to what it brings.
        place = store.client.get_logged_model(model_id).artifact_location
        get_artifact_repository(place, tracking_uri=store.tracking_uri).download_artifacts("", str(directory))


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
    return next((model_id for model_id in ready if _has_same_files(store, model_id, bundle)), None)


def _has_same_files(store: Store, model_id: str, bundle: Path) -> bool:
    with tempfile.TemporaryDirectory(prefix="twinseal-") as folder:
        try:
            download(store, model_id, Path(folder))
        except RegistryError:
            return False
        return inventory(Path(folder)) == inventory(bundle)


def _create_run(store: Store, experiment: str, model: str, record: RunRecord) -> str:
    with registry_errors(f"run for {model}"):
        run = str(store.client.create_run(experiment, run_name=f"{model} candidate").info.run_id)
        texts = {_key(key): str(value)[:_VALUE] for key, value in flatten(record.params).items()}
        for chunk in _chunks([Param(key, value) for key, value in sorted(texts.items())], _PARAMS):
            store.client.log_batch(run, params=chunk)
        for report in record.reports:
            if report.is_dir():
                store.client.log_artifacts(run, str(report), f"reports/{report.name}")
            else:
                store.client.log_artifact(run, str(report), "reports")
    return run


def _create_candidate(store: Store, bundle: Path, about: dict[str, Any]) -> str:
    with registry_errors(str(about["name"])):
        model_id = str(store.client.create_logged_model(model_type=MODEL_TYPE, **about).model_id)
        try:
            store.client.log_model_artifacts(model_id, str(bundle))
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
