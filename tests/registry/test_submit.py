from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from twinseal.errors import RegistryError
from twinseal.files import inventory
from twinseal.registry.locations import LocalArtifacts
from twinseal.registry.store import Store
from twinseal.registry.submit import NOTE, RunRecord, describe_candidate, flatten, has_same_files, submit


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "bundle"
    for path, data in {
        "model/model.safetensors": bytes(range(256)) * 40,
        "model/config.json": b"{}\r\n",
        "model.sig.json": b"{}",
        "evidence/assess.dsse.json": b'{"a": 1}',
    }.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return folder


def submitted(store: Store, bundle: Path, model: str, **changes: Any) -> str:
    given: dict[str, Any] = {"params": {}, "metrics": {}} | changes
    text = given.pop("description_markdown", "# text")
    return submit(store, bundle, model=model, description_markdown=text, run=RunRecord(**given))


def test_candidate_is_kept_byte_for_byte(store: Store, bundle: Path) -> None:
    model_id = submitted(store, bundle, "submit-bytes")
    assert store.artifacts is not None
    (back,) = (store.artifacts / "submit-bytes").rglob(f"{model_id}/artifacts")
    assert inventory(back) == inventory(bundle)
    assert has_same_files(store, model_id, inventory(bundle))
    assert str(store.client.get_logged_model(model_id).status) == "READY"


def test_run_shows_params_measures_and_reports(store: Store, bundle: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    report.write_text("<p>")
    figures = tmp_path / "figures"
    figures.mkdir()
    (figures / "a.svg").write_text("<svg/>")
    model_id = submitted(
        store,
        bundle,
        "submit-run",
        params={"train": {"epochs": 3, "robust": {"epsilon_sigma": 0.1}}},
        metrics={"test": {"rmse_cycles": 12.5, "windows": 100}, "flags": {"names": ["x"], "raised": True}},
        reports=[report, figures],
    )
    candidate = store.client.get_logged_model(model_id)
    run = store.client.get_run(candidate.source_run_id)
    assert run.data.params == {"train.epochs": "3", "train.robust.epsilon_sigma": "0.1"}
    assert run.data.metrics == {"test/rmse_cycles": 12.5, "test/windows": 100.0}
    assert {metric.key: metric.value for metric in candidate.metrics} == run.data.metrics
    assert run.info.status == "FINISHED"
    listed = [item.path for item in store.client.list_artifacts(run.info.run_id, "reports")]
    assert listed == ["reports/figures", "reports/report.html"]


def test_description_links_to_run_and_files(store: Store, bundle: Path) -> None:
    model_id = submitted(store, bundle, "submit-note", description_markdown="# Waits")
    candidate = store.client.get_logged_model(model_id)
    note = candidate.tags[NOTE]
    assert note.startswith("# Waits\n\n[Run: parameters, measures](#/experiments/")
    assert f"/runs/{candidate.source_run_id})" in note
    assert f"/models/{model_id}/artifacts)" in note
    assert store.client.get_run(candidate.source_run_id).data.tags[NOTE] == note


def test_description_can_be_renewed_and_is_cut_before_its_links(store: Store, bundle: Path) -> None:
    model_id = submitted(store, bundle, "submit-renew")
    describe_candidate(store, model_id, "# Registered" + " long" * 5000)
    note = store.client.get_logged_model(model_id).tags[NOTE]
    assert note.startswith("# Registered long")
    assert len(note) == 8000
    assert note.endswith("/artifacts)")


def test_same_bytes_twice_are_one_candidate(store: Store, bundle: Path) -> None:
    first = submitted(store, bundle, "submit-twice")
    assert submitted(store, bundle, "submit-twice") == first
    (bundle / "model/config.json").write_bytes(b"{ }")
    assert submitted(store, bundle, "submit-twice") != first


@pytest.mark.attack("P")
def test_candidate_changed_in_the_store_is_not_taken_for_the_same(store: Store, bundle: Path) -> None:
    """A submitted candidate is changed in MLflow's store: the next submission makes a new candidate."""
    first = submitted(store, bundle, "submit-tampered")
    assert store.artifacts is not None
    (file,) = (store.artifacts / "submit-tampered").rglob(f"{first}/artifacts/model/config.json")
    file.write_bytes(b"[]\r\n")
    assert submitted(store, bundle, "submit-tampered") != first


def test_interrupted_upload_is_marked_failed_and_never_offered(
    store: Store, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        write = LocalArtifacts.write
        patch.setattr(
            LocalArtifacts, "write", lambda *given: interrupted() if "/models/" in given[0]._folder else write(*given)
        )
        with pytest.raises(KeyboardInterrupt):
            submitted(store, bundle, "submit-interrupted")
    experiment = store.experiment("submit-interrupted")
    (left,) = store.client.search_logged_models([experiment])
    assert str(left.status) == "FAILED"
    assert submitted(store, bundle, "submit-interrupted") != left.model_id


@pytest.mark.attack("P")
def test_folder_with_an_mlmodel_is_refused(store: Store, bundle: Path) -> None:
    """A candidate with an MLmodel file is submitted."""
    (bundle / "model/MLmodel").write_text("flavors: {}")
    with pytest.raises(RegistryError, match="expected signed files and no MLmodel"):
        submitted(store, bundle, "submit-mlmodel")


def test_empty_folder_is_refused(store: Store, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(RegistryError, match=r"expected signed files and no MLmodel, got \[\]"):
        submitted(store, tmp_path / "empty", "submit-empty")


def test_missing_report_is_one_clear_message(store: Store, bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="run for submit-missing: expected an answer of MLflow"):
        submitted(store, bundle, "submit-missing", reports=[tmp_path / "none.html"])


def test_unknown_candidate_has_no_files(store: Store, bundle: Path) -> None:
    assert not has_same_files(store, "m-" + "0" * 32, inventory(bundle))


@pytest.mark.parametrize("change", ["shorter", "longer", "absent", "a link", "a folder that is a link", "a fifo"])
def test_candidate_that_is_not_the_same_is_seen(store: Store, bundle: Path, tmp_path: Path, change: str) -> None:
    model_id = submitted(store, bundle, f"submit-{change.replace(' ', '-')}")
    assert has_same_files(store, model_id, inventory(bundle))
    assert store.artifacts is not None
    (config,) = store.artifacts.rglob(f"{model_id}/artifacts/model/config.json")
    honest = config.read_bytes()
    if change == "a folder that is a link":
        config.parent.rename(tmp_path / "elsewhere")
        config.parent.symlink_to(tmp_path / "elsewhere")
    elif change in ("shorter", "longer"):
        config.write_bytes(honest[:-1] if change == "shorter" else honest + b" ")
    else:
        config.rename(tmp_path / "config.json")
        if change == "a link":
            config.symlink_to(tmp_path / "config.json")
        if change == "a fifo":
            os.mkfifo(config)
    assert not has_same_files(store, model_id, inventory(bundle))


def test_flatten_joins_keys() -> None:
    assert flatten({"a": {"b": [1, {"c": 2}]}, "d": None}, "/") == {"a/b/0": 1, "a/b/1/c": 2, "d": None}
