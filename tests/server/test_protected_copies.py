"""A version of a protected name may be copied to any other name: the copy lives there as MLflow's own do."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities.model_registry import ModelVersion, ModelVersionTag, RegisteredModelTag
from mlflow.exceptions import MlflowException

from tests.server.alike import TABLES, rows
from tests.server.databases import our_store
from tests.twin.deployment import Deployment
from twinseal.registry.store import artifacts_folder

MODEL, COPY = "pump-rul", "pump-rul-trial"


@pytest.fixture
def deployment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Deployment:
    made = Deployment(tmp_path / "deployment", now=datetime.now(UTC))
    made.home.path.chmod(0o700)
    monkeypatch.setenv("TWINSEAL_HOME", str(made.home.path))
    return made


@pytest.fixture
def store(new_database: Callable[[], str], deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Ours, with version 1 of the protected name: the release that reviewers approved."""
    uri = new_database()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)  # where MLflow's registry looks for candidates
    with our_store(uri) as opened, tracking_store(uri, deployment) as tracking:
        model_id = approve(deployment, tracking)
        opened.create_registered_model(MODEL)
        opened.create_model_version(MODEL, f"models:/{model_id}", model_id=model_id)
        opened.set_registered_model_alias(MODEL, "champion", "1")
        opened.set_model_version_tag(MODEL, "1", ModelVersionTag("twinseal.release_version", "1"))
        yield opened


@contextmanager
def tracking_store(uri: str, deployment: Deployment) -> Iterator[Any]:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
    from mlflow.tracking._tracking_service.utils import _get_store

    try:
        yield _get_store(uri, artifacts_folder(deployment.home.path).as_uri())
    finally:
        engine = SqlAlchemyStore._engine_map.pop(uri, None)
        if engine is not None:
            engine.dispose()


def approve(deployment: Deployment, tracking: Any) -> str:
    """Submit a candidate, and publish the release that names it."""
    location = artifacts_folder(deployment.home.path) / "trials"
    candidate = tracking.create_logged_model(tracking.create_experiment("trials", location.as_uri()), name="pump")
    bundle = deployment.bundle(1)
    deployment.release(bundle, 1, now=datetime.now(UTC), model_id=candidate.model_id)
    shutil.copytree(bundle, Path(candidate.artifact_location.removeprefix("file://")), dirs_exist_ok=True)
    return str(candidate.model_id)


def champion(store: Any) -> ModelVersion:
    return store.get_model_version_by_alias(MODEL, "champion")


def of_protected(store: Any) -> list[str]:
    return [row for table in TABLES for row in rows(store, table) if f"'name': '{MODEL}'" in row]


def test_copy_of_the_protected_version_lives_as_any_other(store: Any) -> None:
    before = of_protected(store)
    assert "'name': 'pump-rul'" in before[0]
    copied = store.copy_model_version(champion(store), COPY)
    assert (COPY, 1, f"models:/{MODEL}/1") == (copied.name, copied.version, copied.source)
    assert {"twinseal.release_version": "1"} == copied.tags
    place = store.get_model_version_download_uri(MODEL, "1")
    assert place == store.get_model_version_download_uri(COPY, "1")

    store.set_registered_model_alias(COPY, "champion", "1")
    store.set_model_version_tag(COPY, "1", ModelVersionTag("note", "trial"))
    store.delete_model_version_tag(COPY, "1", "twinseal.release_version")
    store.set_registered_model_tag(COPY, RegisteredModelTag("note", "trial"))
    store.update_model_version(COPY, "1", "text")
    store.transition_model_version_stage(COPY, "1", "Staging", archive_existing_versions=False)
    store.rename_registered_model(COPY, "renamed")
    assert 2 == store.copy_model_version(champion(store), "renamed").version
    store.delete_registered_model_alias("renamed", "champion")
    store.delete_model_version("renamed", "1")
    store.delete_registered_model("renamed")
    assert before == of_protected(store)


@pytest.mark.parametrize("to", [MODEL, "fan-rul", "Pump-RUL"])
def test_copy_to_a_protected_name_is_refused(store: Any, to: str) -> None:
    copied = store.copy_model_version(champion(store), COPY)
    before = of_protected(store)
    for source in (champion(store), copied):
        with pytest.raises(MlflowException, match="this name is protected") as refusal:
            store.copy_model_version(source, to)
        assert "PERMISSION_DENIED" == refusal.value.error_code
    assert before == of_protected(store)
    assert {MODEL, COPY} == {model.name for model in store.search_registered_models()}


def test_copy_to_an_approved_name_leaves_no_empty_model_behind(store: Any, deployment: Deployment) -> None:
    copied = store.copy_model_version(champion(store), COPY)
    deployment.publish(1, model="fan-rul", now=datetime.now(UTC))
    with pytest.raises(MlflowException, match="this name is protected"):
        store.copy_model_version(copied, "fan-rul")
    assert {MODEL, COPY} == {model.name for model in store.search_registered_models()}
