"""The registry store with protected names: MLflow's own calls, each one that could make a model look approved."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.server.scene import approved, deployment, submitted
from tests.twin.deployment import MODEL, OTHER, Deployment
from twinseal.registry.store import sqlite_uri

Call = Callable[[Any], object]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> tuple[Deployment, str, Path, str]:
    """Release 1 of one model is published, and not in MLflow yet; its candidate, and another that nobody approved."""
    made = deployment(tmp_path_factory.mktemp("protected"))
    model_id, bundle = submitted(made)
    other, _ = submitted(made, seed=2)
    approved(made, bundle, model_id)
    return made, model_id, bundle, other


@pytest.fixture
def protected(scene: tuple[Deployment, str, Path, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    from twinseal.server.registry_store import ProtectedStore

    made = scene[0]
    monkeypatch.setenv("TWINSEAL_HOME", str(made.home.path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", sqlite_uri(made.home.path))
    store = ProtectedStore(f"twinseal+{sqlite_uri(made.home.path)}")
    yield store
    with store.ManagedSessionMaker(read_only=False) as session:  # each test begins with an empty registry
        from mlflow.store.model_registry.dbmodels import models

        for table in (
            models.SqlRegisteredModelAlias,
            models.SqlModelVersionTag,
            models.SqlModelVersion,
            models.SqlRegisteredModelTag,
            models.SqlRegisteredModel,
        ):
            session.query(table).delete()


def tag(key: str, value: str = "1") -> Any:
    from mlflow.entities.model_registry import ModelVersionTag

    return ModelVersionTag(key, value)


def refused(call: Call, store: Any) -> str:
    """The message of a refusal, which must be HTTP 403."""
    from mlflow.exceptions import MlflowException

    with pytest.raises(MlflowException) as caught:
        call(store)
    assert caught.value.get_http_status_code() == 403
    return str(caught.value.message)


def registered(store: Any, model_id: str) -> str:
    """The published release, as the registrar registers it; MLflow's version."""
    store.create_registered_model(MODEL)
    made = store.create_model_version(MODEL, f"models:/{model_id}", model_id=model_id)
    return str(made.version)


def names(store: Any) -> list[str]:
    return [item.name for item in store.search_registered_models()]


def test_published_release_is_registered(scene: tuple[Deployment, str, Path, str], protected: Any) -> None:
    version = registered(protected, scene[1])
    protected.set_registered_model_alias(MODEL, "champion", version)
    protected.set_model_version_tag(MODEL, version, tag("twinseal.release_version"))
    found = protected.get_model_version_by_alias(MODEL, "champion")
    assert (found.source, found.tags) == (f"models:/{scene[1]}", {"twinseal.release_version": "1"})


@pytest.mark.parametrize(
    "name",
    [
        "fan-rul-2",
        "fun-rul",
        "\u0442\u0443\u0440\u0431\u0438\u043d\u0430",
        "fan-rul-\u8a66",
        "\u8a66\u9a13\u8a66\u9a13\u8a66\u9a13",
    ],
)
def test_name_that_nobody_takes_for_a_protected_one_is_free(protected: Any, name: str) -> None:
    assert name == protected.create_registered_model(name).name


@pytest.mark.attack("S")
@pytest.mark.parametrize(
    "name",
    [
        OTHER, "Fan-RUL", "fan-rul ", "fan\u200b-rul", "ｆan-rul", "PUMP-RUL", "fan_rul", "fan\u2010rul", "fanrul",
        "f\u0430n-rul", "f\u00e1n-rul", "fa\u0578-rul", "fan-ru1", "fan\u02d7rul", "fan\u30fcrul", "fan\u2212rul",
        "purnp-rul", "\u0440\u03c5\u043c\u0440-\u0433\u03c5\u04cf", "\u043fump-rul",
    ],
)  # fmt: skip
def test_model_without_a_release_leaves_no_husk(protected: Any, name: str) -> None:
    """ "Register model" is pressed for a model that nobody approved, or under a name that looks like it."""
    assert "expected a" in refused(lambda store: store.create_registered_model(name), protected)
    assert [] == names(protected)


@pytest.mark.attack("S")
def test_candidate_that_nobody_approved_gets_no_version(
    scene: tuple[Deployment, str, Path, str], protected: Any
) -> None:
    """A second candidate of a model whose release is another is registered under the protected name."""
    protected.create_registered_model(MODEL)
    message = refused(lambda store: store.create_model_version(MODEL, f"models:/{scene[3]}"), protected)
    assert f"expected the candidate that release 1 names ({scene[1]}), got {scene[3]}: it was not approved" in message
    for source in ("models:/other/1", "file:///etc", "runs:/1/model", f"models:/{scene[1]}/../{scene[3]}", ""):
        refused(lambda store, source=source: store.create_model_version(MODEL, source), protected)
    assert [] == list(protected.search_model_versions(f"name = '{MODEL}'"))


@pytest.mark.attack("S")
def test_approved_candidate_under_another_candidates_id_gets_no_version(
    scene: tuple[Deployment, str, Path, str], protected: Any
) -> None:
    """The source is the approved candidate, the model that MLflow links to is another."""
    protected.create_registered_model(MODEL)
    call = refused(lambda store: store.create_model_version(MODEL, f"models:/{scene[1]}", model_id=scene[3]), protected)
    assert "expected one candidate" in call


@pytest.mark.attack("S")
def test_release_gets_no_second_version(scene: tuple[Deployment, str, Path, str], protected: Any) -> None:
    """The same release is registered twice, so that one version can be moved behind the other's back."""
    version = registered(protected, scene[1])
    message = refused(lambda store: store.create_model_version(MODEL, f"models:/{scene[1]}"), protected)
    assert f"expected one version for release 1, got a second: it is version {version}" in message


@pytest.mark.attack("S")
@pytest.mark.parametrize("change", ["byte", "more", "less", "link"])
def test_changed_files_get_no_version(
    scene: tuple[Deployment, str, Path, str], protected: Any, change: str, tmp_path: Path
) -> None:
    """The approved candidate's files are changed on the server's disk before it is registered."""
    folder = protected._folder_of(scene[1])
    kept = shutil.copytree(folder, tmp_path / "kept")
    model = folder / "model/model.safetensors"
    {
        "byte": lambda: model.write_bytes(model.read_bytes()[:-1] + b"!"),
        "more": lambda: (folder / "model/more.json").write_text("{}"),
        "less": (folder / "evidence/train.dsse.json").unlink,
        "link": lambda: (model.unlink(), model.symlink_to("/etc/hosts")),
    }[change]()
    try:
        protected.create_registered_model(MODEL)
        refused(lambda store: store.create_model_version(MODEL, f"models:/{scene[1]}"), protected)
    finally:
        shutil.rmtree(folder)
        shutil.copytree(kept, folder)
    protected.create_model_version(MODEL, f"models:/{scene[1]}")


CHANGES: dict[str, Call] = {
    "another alias": lambda store: store.set_registered_model_alias(MODEL, "production", "1"),
    "delete alias": lambda store: store.delete_registered_model_alias(MODEL, "champion"),
    "rename": lambda store: store.rename_registered_model(MODEL, "harmless"),
    "rename over it": lambda store: store.rename_registered_model("mine", MODEL),
    "rename to look like it": lambda store: store.rename_registered_model("mine", "Pump-rul"),
    "stage": lambda store: store.transition_model_version_stage(MODEL, "1", "Production", False),
    "delete model": lambda store: store.delete_registered_model(MODEL),
    "delete version": lambda store: store.delete_model_version(MODEL, "1"),
    "describe model": lambda store: store.update_registered_model(MODEL, "approved by all"),
    "describe version": lambda store: store.update_model_version(MODEL, "1", "approved by all"),
    "tag of the model": lambda store: store.set_registered_model_tag(MODEL, tag("twinseal.metadata_run", "evil")),
    "any tag of the model": lambda store: store.set_registered_model_tag(MODEL, tag("reviewed")),
    "delete tag of the model": lambda store: store.delete_registered_model_tag(MODEL, "twinseal.metadata_run"),
    "wrong release number": lambda store: store.set_model_version_tag(MODEL, "1", tag("twinseal.release_version", "9")),
    "any tag of the version": lambda store: store.set_model_version_tag(MODEL, "1", tag("reviewed")),
    "delete tag of the version": lambda store: store.delete_model_version_tag(MODEL, "1", "twinseal.release_version"),
    "create with a tag": lambda store: store.create_registered_model("FAN-rul", [tag("x")]),
    "version with a tag": lambda store: store.create_model_version(MODEL, "models:/mine/1", tags=[tag("x")]),
    "copy": lambda store: store.copy_model_version(store.get_model_version("mine", "1"), MODEL),
    "copy to another name": lambda store: store.copy_model_version(store.get_model_version("mine", "1"), OTHER),
}


@pytest.mark.attack("S")
@pytest.mark.parametrize("change", CHANGES)
def test_change_under_a_protected_name(scene: tuple[Deployment, str, Path, str], protected: Any, change: str) -> None:
    """Whoever may write to MLflow changes what people see of an approved model."""
    version = registered(protected, scene[1])
    protected.set_registered_model_alias(MODEL, "champion", version)
    protected.create_registered_model("mine")
    protected.create_model_version("mine", "file:///tmp/mine")
    before = state(protected)
    try:
        refused(CHANGES[change], protected)
    finally:
        after = state(protected)
    assert before == after


def state(store: Any) -> list[object]:
    found = []
    for model in store.search_registered_models():
        versions = [dict(item) for item in store.search_model_versions(f"name = '{model.name}'")]
        found.append((model.name, model.description, model.tags, model.aliases, versions))
    return found


@pytest.mark.attack("S")
def test_alias_moves_to_no_other_version(scene: tuple[Deployment, str, Path, str], protected: Any) -> None:
    """A version from before the protection, of a candidate that nobody approved, is made champion."""
    from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore

    version = registered(protected, scene[1])
    planted = SqlAlchemyStore.create_model_version(protected, MODEL, f"models:/{scene[3]}")
    message = refused(lambda store: store.set_registered_model_alias(MODEL, "champion", planted.version), protected)
    assert "it was not approved" in message
    protected.set_registered_model_alias(MODEL, "champion", version)


def test_other_names_live_an_ordinary_life(protected: Any) -> None:
    from mlflow.entities.model_registry import RegisteredModelTag

    protected.create_registered_model("free", [RegisteredModelTag("a", "b")])
    first = protected.create_model_version("free", "file:///tmp/free", tags=[tag("k")])
    protected.set_registered_model_alias("free", "champion", first.version)
    protected.copy_model_version(first, "copied")
    protected.rename_registered_model("free", "freed")
    assert ["copied", "freed"] == sorted(names(protected))
    protected.delete_registered_model("freed")
    assert ["copied"] == names(protected)


def test_without_a_deployment_there_is_no_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from twinseal.errors import RootError
    from twinseal.server.registry_store import ProtectedStore

    monkeypatch.setenv("TWINSEAL_HOME", str(tmp_path / "none"))
    with pytest.raises(RootError, match="expected a trust anchor, got none"):
        ProtectedStore(f"twinseal+sqlite:///{tmp_path}/x.db")


def test_mlflow_finds_the_store_by_its_scheme() -> None:
    from mlflow.tracking._model_registry.utils import _get_store_registry

    found = {scheme for scheme in _get_store_registry()._registry if scheme.startswith("twinseal+")}
    assert {"twinseal+sqlite", "twinseal+postgresql"} == found
