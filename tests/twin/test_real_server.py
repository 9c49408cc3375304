"""The whole way over a real `mlflow server`: what the registry writes, a twin pulls by plain REST, byte for byte."""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.twin.deployment import MODEL, NOW, OTHER, POLICY, Deployment, Writer, write_untrained
from twinseal.digests import sha256
from twinseal.errors import DigestMismatchError, RegistryError, RollbackError
from twinseal.registry.register import METADATA_RUN, publish
from twinseal.registry.run import RunRecord
from twinseal.registry.store import connect
from twinseal.registry.submit import submit
from twinseal.trust.release import repository
from twinseal.trust.release.model_role import sign_role
from twinseal.trust.release.release import Release
from twinseal.trust.release.request import Request
from twinseal.trust.root.home import Home
from twinseal.twin.byte_sources import RestSource
from twinseal.twin.pull import PullResult, pull
from twinseal.twin.runtime import current_model


def registered(store: Any, deployment: Deployment, version: int, model: str, write: Writer | None = None) -> Release:
    """Submit, approve, register: as the pipeline and the reviewers do."""
    bundle = deployment.bundle(version, model, write=write)
    model_id = submit(store, bundle, model=model, version=1, description_markdown="d", run=RunRecord({}, {}))
    release = Release.describe(
        bundle,
        model=model,
        version=version,
        policy_sha256=POLICY.sha256,
        mlflow_model_id=model_id,
        parent_version=version - 1 or None,
    )
    role = repository.stage(deployment.home, release, expires=NOW + timedelta(days=20))
    repository.publish(
        deployment.home,
        Request(release, role),
        [sign_role(role, deployment.home.signer(name)) for name in ("alice", "bruno")],
        registrar=deployment.home.signer("registrar"),
        roles=deployment.roles,
        now=NOW,
    )
    publish(store, deployment.home, model=model, version=version, model_id=model_id)
    return release


@pytest.fixture(scope="module")
def beside(store: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Deployment, Release]:
    """Release 1 of one model, registered straight into the SQLite store that the server shows."""
    deployment = Deployment(tmp_path_factory.mktemp("beside"))
    return store, deployment, registered(store, deployment, 1, MODEL)


def pulled(deployment: Deployment, server: str, model: str, tmp_path: Path) -> PullResult:
    with RestSource(server, model) as source:
        return pull(source, deployment.anchor, model, tmp_path / "twin", NOW)


def test_every_file_comes_over_plain_rest_byte_for_byte(beside: tuple[Any, Deployment, Release], server: str) -> None:
    _, deployment, release = beside
    with RestSource(server, MODEL) as source:
        for path in deployment.home.repository.rglob("*.json"):
            name = path.relative_to(deployment.home.repository).as_posix()
            assert b"".join(source.open(name, 1 << 20)) == path.read_bytes()
        for record in release.files:
            data = b"".join(source.open(f"candidates/{release.mlflow_model_id}/{record.path}", record.length))
            assert (len(data), sha256(data)) == (record.length, record.sha256)


@pytest.mark.parametrize(
    "path", ["metadata/2.root.json", "targets/none.json", "candidates/{id}/model/none", f"candidates/m-{'0' * 32}/x"]
)
def test_missing_file_is_missing(path: str, beside: tuple[Any, Deployment, Release], server: str) -> None:
    with RestSource(server, MODEL) as source, pytest.raises(FileNotFoundError):
        source.open(path.format(id=beside[2].mlflow_model_id), 100)


def test_model_that_was_never_registered_is_said_to_be_so(
    beside: tuple[Any, Deployment, Release], server: str, tmp_path: Path
) -> None:
    with pytest.raises(RegistryError, match="registered model fan-rul: expected one, got none"):
        pulled(beside[1], server, OTHER, tmp_path)


@pytest.mark.attack(3)
@pytest.mark.parametrize("place", ["beside the server", "through the server"])
def test_release_is_pulled_and_a_changed_byte_in_the_store_is_refused(
    place: str, store: Any, server: str, registry_home: Home, tmp_path: Path
) -> None:
    """One bit of the weights is flipped in the artifact store of a real MLflow server."""
    model = "turbine-rul" if place == "beside the server" else "gear-rul"
    deployment = Deployment(tmp_path / "deployment", (model,))
    there = store if place == "beside the server" else connect(registry_home, server)
    release = registered(there, deployment, 1, model)
    admitted = pulled(deployment, server, model, tmp_path)
    assert (admitted.changed, admitted.model.release) == (True, release)

    second = registered(there, deployment, 2, model)
    pattern = f"{second.mlflow_model_id}/artifacts/model/model.safetensors"
    (weights,) = (registry_home.path / "mlflow").rglob(pattern)
    honest = weights.read_bytes()
    weights.write_bytes(honest[:-1] + bytes([honest[-1] ^ 1]))
    with pytest.raises(DigestMismatchError, match=r"model/model\.safetensors: expected sha256 .* release 2 of"):
        pulled(deployment, server, model, tmp_path)
    assert current_model(tmp_path / "twin", deployment.anchor, model).release == release

    weights.write_bytes(honest)
    assert pulled(deployment, server, model, tmp_path).model.release == second
    connect(registry_home, store.tracking_uri)  # MLflow's global address back to what the other tests use


@pytest.mark.attack(1)
def test_rollback_of_a_real_registry_is_refused(store: Any, server: str, registry_home: Home, tmp_path: Path) -> None:
    """Rollback on a real MLflow server: TUF metadata and alias are set back to the previous release."""
    model = "replay-rul"
    deployment = Deployment(tmp_path / "deployment", (model,))
    registered(store, deployment, 1, model)
    run = store.client.get_registered_model(model).tags[METADATA_RUN]
    (metadata,) = (registry_home.path / "mlflow").rglob(f"{run}/artifacts/metadata")
    shutil.copytree(metadata, tmp_path / "before")
    second = registered(store, deployment, 2, model)
    assert pulled(deployment, server, model, tmp_path).model.release == second
    shutil.rmtree(metadata)
    shutil.copytree(tmp_path / "before", metadata)
    store.client.set_registered_model_alias(model, "champion", "1")
    with pytest.raises(RollbackError):
        pulled(deployment, server, model, tmp_path)
    assert current_model(tmp_path / "twin", deployment.anchor, model).release == second


def large(folder: Path, _seed: int, model: str) -> None:
    """A network of a little over 8 MiB, from where on the twin looks for a faster way."""
    write_untrained(folder, 0, model, (1460, 1460))


@pytest.mark.parametrize("place", ["beside the server", "through the server"])
def test_large_model_comes_by_the_streaming_way_where_there_is_one(
    place: str, store: Any, server: str, registry_home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = "large-rul" if place == "beside the server" else "larger-rul"
    deployment = Deployment(tmp_path / "deployment", (model,))
    there = store if place == "beside the server" else connect(registry_home, server)
    release = registered(there, deployment, 1, model, large)
    asked: list[str] = []
    get = RestSource._get

    def record(self: RestSource, url: str, *rest: Any) -> Any:
        asked.append(url)
        return get(self, url, *rest)

    monkeypatch.setattr(RestSource, "_get", record)
    assert pulled(deployment, server, model, tmp_path).model.release == release
    streamed = [url for url in asked if "/mlflow-artifacts/artifacts/" in url and url.endswith("model.safetensors")]
    assert (place == "through the server") == bool(streamed)
    connect(registry_home, store.tracking_uri)  # MLflow's global address back to what the other tests use


@pytest.mark.attack(1, 3)
def test_everything_in_mlflow_points_to_something_else(
    store: Any, server: str, registry_home: Home, tmp_path: Path
) -> None:
    """Mix-and-match on a real MLflow server: alias, tags and model folder are those of another release or model.

    The twin ignores aliases, tags and descriptions. MLflow only says where the files are; each file is verified.
    """
    model, other = "mixed-rul", "elsewhere-rul"
    deployment = Deployment(tmp_path / "deployment", (model, other))
    registered(store, deployment, 1, model)
    assert pulled(deployment, server, model, tmp_path).model.release.version == 1
    second = registered(store, deployment, 2, model)
    evil = registered(store, deployment, 1, other)
    store.client.set_registered_model_alias(model, "champion", "1")
    store.client.set_registered_model_tag(model, "twinseal.model_id", evil.mlflow_model_id)
    store.client.set_model_version_tag(model, "2", "twinseal.release", "7")
    store.client.update_model_version(model, "2", "release 7, approved by everybody")
    store.client.set_logged_model_tags(second.mlflow_model_id, {"twinseal.verdict": "FAILED"})
    kept = registry_home.path / "mlflow"
    here, there = (next(kept.rglob(f"{release.mlflow_model_id}/artifacts")) for release in (second, evil))
    here.rename(tmp_path / "held")
    shutil.copytree(there, here)
    with pytest.raises(
        DigestMismatchError, match=r"evidence/.*: expected (sha256 .* as signed|at most \d+ bytes), got"
    ):
        pulled(deployment, server, model, tmp_path)
    assert current_model(tmp_path / "twin", deployment.anchor, model).release.version == 1

    shutil.rmtree(here)
    (tmp_path / "held").rename(here)
    run = store.client.get_registered_model(model).tags[METADATA_RUN]
    store.client.set_registered_model_tag(model, METADATA_RUN, "0" * 32)
    with pytest.raises(RegistryError):
        pulled(deployment, server, model, tmp_path)
    assert current_model(tmp_path / "twin", deployment.anchor, model).release.version == 1

    store.client.set_registered_model_tag(model, METADATA_RUN, run)  # the alias still says 1: it means nothing
    assert pulled(deployment, server, model, tmp_path).model.release == second
