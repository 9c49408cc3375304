"""Registration: the TUF metadata goes where twins fetch it, the candidate becomes a version, `champion` moves to it.

Only copies of what is already signed move here, and only after the threshold was met in the repository of record
(`trust.release.repository`). Each step can be repeated: after an interruption the same call finishes the work.

    1 the registered model exists, with a run that carries the metadata
    2 every file of the repository of record is in that run; `timestamp.json` last, for it makes the rest count
    3 one model version has the candidate as its source
    4 the alias `champion` points at that version
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import structlog
from mlflow.utils.mlflow_tags import MLFLOW_MODEL_VERSIONS, MLFLOW_USER

from twinseal.errors import RegistryError
from twinseal.registry.store import Store, check_model_id, is_absent, registry_errors
from twinseal.trust.root.home import Home

log = structlog.get_logger()

METADATA_RUN = "twinseal.metadata_run"
RELEASE_VERSION = "twinseal.release_version"
CHAMPION = "champion"
TIMESTAMP = "metadata/timestamp.json"


def publish(
    store: Store, home: Home, *, model: str, version: int, model_id: str, description_markdown: str = ""
) -> str:
    """Make the release that the repository of record lists for `model` the one that MLflow offers; its MLflow version.

    MLflow counts versions for itself: its number may differ from the release's, which is kept in a tag for people.

    Args:
        store: Where to.
        home: The deployment; its repository of record is copied.
        model: Name of the model.
        version: Version of the release.
        model_id: The candidate that the release names.
        description_markdown: For people.

    Raises:
        RegistryError: MLflow has no such candidate, could not be reached, or refused; there is no metadata; or the
            anchor knows no such model. Call it again: what was done is found done.
        RootError: The home has no anchor.
    """
    check_model_id(model_id)
    if model not in home.anchor().models:
        raise RegistryError(f"model: expected one of {', '.join(home.anchor().models)}, got {model[:60]!r}")
    with registry_errors(f"candidate {model_id}"):
        source_run = store.client.get_logged_model(model_id).source_run_id
    _ensure_model(store, model)
    mirror_metadata(store, home)
    source = {"source": f"models:/{model_id}", "model_id": model_id, "run_id": source_run}
    number = _ensure_version(store, model, source | {"description": description_markdown or None}, version)
    with registry_errors(f"alias {CHAMPION} of {model}"):
        store.client.set_registered_model_alias(model, CHAMPION, number)
        # For people: MLflow's page of the candidate shows where it is registered, and the version which release it is.
        shown = json.dumps([{"name": model, "version": int(number)}])
        store.client.set_logged_model_tags(model_id, {MLFLOW_MODEL_VERSIONS: shown})
        store.client.set_model_version_tag(model, number, RELEASE_VERSION, str(version))
    log.info("release.registered", model=model, version=version, model_id=model_id, mlflow_version=number)
    return number


def mirror_metadata(store: Store, home: Home) -> tuple[str, ...]:
    """Copy the repository of record to every registered model that serves it; the names of these models.

    To all of them, because they share one timestamp: a model that is left out would expire. Call it
    after `trust.release.repository.renew`.

    Raises:
        RegistryError: There is no metadata to copy, or MLflow could not be reached or refused.
        RootError: The home has no anchor.
    """
    files = _repository_files(home.repository)
    carriers = {}
    for name in home.anchor().models:
        with registry_errors(f"registered model {name}"):
            found = _get_model(store, name)
        if found is not None and found.tags.get(METADATA_RUN):
            carriers[name] = found.tags[METADATA_RUN]
    for name, run in carriers.items():
        with registry_errors(f"metadata of {name}"):
            there = store.artifacts_at(store.client.get_run(run).info.artifact_uri, f"run {run} with the metadata")
            for path in files:
                there.write(home.repository / path, path)
        log.info("metadata.mirrored", model=name, files=len(files))
    return tuple(carriers)


def _repository_files(repository: Path) -> list[str]:
    """Relative paths of metadata and targets, `timestamp.json` last: until it is there, nothing new is listed."""
    folders = [repository / "targets", repository / "metadata"]
    paths = [path for folder in folders for path in sorted(folder.rglob("*.json")) if path.is_file()]
    names = [path.relative_to(repository).as_posix() for path in paths]
    if TIMESTAMP not in names:
        raise RegistryError(
            f"{repository}: expected TUF metadata, got none", remedy="Publish a release first, or: twinseal init --demo"
        )
    return [name for name in names if name != TIMESTAMP] + [TIMESTAMP]


def _ensure_model(store: Store, model: str) -> None:
    with registry_errors(f"registered model {model}"):
        found = _get_model(store, model)
        if found is None:
            found = store.client.create_registered_model(model, description="Served to twins by twinseal.")
        run = found.tags.get(METADATA_RUN)
        if not run or not _is_active(store, run):
            experiment = store.experiment(model)
            tags = {MLFLOW_USER: "registrar"}
            run = store.client.create_run(experiment, run_name=f"{model} metadata", tags=tags).info.run_id
            store.client.set_terminated(run)
            store.client.set_registered_model_tag(model, METADATA_RUN, run)


def _get_model(store: Store, model: str) -> Any:
    try:
        return store.client.get_registered_model(model)
    except Exception as error:
        if is_absent(error):
            return None
        raise


def _is_active(store: Store, run: str) -> bool:
    try:
        return bool(store.client.get_run(run).info.lifecycle_stage == "active")
    except Exception as error:
        if is_absent(error):
            return False
        raise


def _ensure_version(store: Store, model: str, attributes: dict[str, Any], version: int) -> str:
    with registry_errors(f"version of {model}"):
        found = store.client.search_model_versions(f"name = '{model}'")
        same = [item for item in found if item.source == attributes["source"] and item.status == "READY"]
        if same:  # an earlier call was interrupted, or the same bytes are released anew
            number = str(same[0].version)
            store.client.set_model_version_tag(model, number, RELEASE_VERSION, str(version))
            if attributes["description"]:  # MLflow refuses an update that says nothing
                store.client.update_model_version(model, number, description=attributes["description"])
            return number
        created = store.client.create_model_version(model, tags={RELEASE_VERSION: str(version)}, **attributes)
        return str(created.version)
