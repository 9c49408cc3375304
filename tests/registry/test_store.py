from __future__ import annotations

import time
from pathlib import Path

import pytest

from twinseal.errors import RegistryError
from twinseal.registry.store import Store, check_model_id, connect, registry_errors, server_command, without_password
from twinseal.trust.root.home import Home


def test_default_store_is_sqlite_under_the_home(store: Store, registry_home: Home) -> None:
    assert store.tracking_uri == f"sqlite:///{registry_home.path}/mlflow/mlflow.db"
    assert store.artifacts == registry_home.path / "mlflow/artifacts"


def test_environment_names_the_store(monkeypatch: pytest.MonkeyPatch, store: Store, tmp_path: Path) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.tracking_uri)
    assert connect(Home(tmp_path)).tracking_uri == store.tracking_uri


def test_client_prints_no_link_of_its_own(server: str, registry_home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    served = connect(registry_home, server)
    run = served.client.create_run(served.experiment("store-quiet")).info.run_id
    served.client.set_terminated(run)
    assert "View run" not in capsys.readouterr().out


def test_experiment_is_made_once_with_artifacts_under_the_home(store: Store) -> None:
    made = store.experiment("store-once")
    assert store.experiment("store-once") == made
    assert store.artifacts is not None
    assert store.client.get_experiment(made).artifact_location == (store.artifacts / "store-once").as_uri()


def test_experiment_kept_beside_the_server_is_not_used_through_it(
    store: Store, server: str, registry_home: Home
) -> None:
    store.experiment("store-beside")
    served = connect(registry_home, server)
    assert served.served_experiment("store-beside") == "store-beside (server)"
    assert served.served_experiment("store-new") == "store-new"
    with pytest.raises(RegistryError, match="expected artifacts below the server"):
        served.experiment("store-beside")
    made = served.experiment("store-beside (server)")
    assert served.client.get_experiment(made).artifact_location.startswith("mlflow-artifacts:/")


def test_deleted_experiment_is_refused_with_the_command_that_restores_it(store: Store) -> None:
    made = store.experiment("store-deleted")
    store.client.delete_experiment(made)
    with pytest.raises(RegistryError, match="store-deleted: expected an active one, got deleted") as refusal:
        store.experiment("store-deleted")
    assert refusal.value.remedy == f"mlflow experiments restore --experiment-id {made}"


def test_unreachable_server_is_said_within_seconds(tmp_path: Path, store: Store) -> None:
    start = time.monotonic()
    with pytest.raises(RegistryError, match=r"http://127\.0\.0\.1:9: expected an answer") as refusal:
        connect(Home(tmp_path), "http://127.0.0.1:9")
    assert "Is the server running, and MLFLOW_TRACKING_URI right?" in refusal.value.remedy
    assert "curl $MLFLOW_TRACKING_URI/health" in refusal.value.remedy
    assert time.monotonic() - start < 15
    connect(Home(tmp_path), store.tracking_uri)


@pytest.mark.parametrize("uri", ["nonsense://x", "http://", "sqlite:////dev/null/mlflow.db"])
def test_store_that_is_none_is_refused(uri: str, tmp_path: Path, store: Store) -> None:
    with pytest.raises(RegistryError, match="expected an answer of MLflow, got") as refusal:
        connect(Home(tmp_path), uri)
    assert refusal.value.remedy
    connect(Home(tmp_path), store.tracking_uri)


def test_database_that_is_none_is_refused(tmp_path: Path, store: Store) -> None:
    (tmp_path / "mlflow").mkdir()
    (tmp_path / "mlflow/mlflow.db").write_bytes(b"no database" * 1000)
    with pytest.raises(RegistryError, match="file is not a database"):
        connect(Home(tmp_path))
    connect(Home(tmp_path), store.tracking_uri)


def test_every_foreign_error_becomes_ours() -> None:
    with (
        pytest.raises(RegistryError, match=r"thing: expected an answer of MLflow, got KeyError \('k'\)"),
        registry_errors("thing"),
    ):
        raise KeyError("k")
    with pytest.raises(RegistryError, match=r"^ours$"), registry_errors("thing"):
        raise RegistryError("ours")


def test_password_in_an_address_is_not_shown() -> None:
    assert without_password("https://user:secret@host:1/x") == "https://host:1/x"
    assert without_password("sqlite:////home/a/mlflow.db") == "sqlite:////home/a/mlflow.db"


@pytest.mark.parametrize("model_id", ["", "m-", "m-" + "g" * 32, "m-" + "0" * 33, "../m-" + "0" * 32])
def test_model_id_that_is_none_is_refused(model_id: str) -> None:
    with pytest.raises(RegistryError, match="expected an MLflow model id"):
        check_model_id(model_id)


def test_server_command_serves_the_default_store(tmp_path: Path) -> None:
    words = server_command(tmp_path, port=7)
    assert words[:4] == ["mlflow", "server", "--backend-store-uri", f"sqlite:///{tmp_path}/mlflow/mlflow.db"]
    assert words[-2:] == ["--workers", "1"]
