from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest

from twinseal.errors import RegistryError
from twinseal.files import inventory
from twinseal.registry.locations import LocalArtifacts
from twinseal.registry.run import Curve, DataInput, Origin, RunRecord, flatten
from twinseal.registry.store import Store
from twinseal.registry.submit import (
    NOTE,
    REGISTERED,
    STATE,
    WAITS,
    describe_candidate,
    has_same_files,
    show_registered,
    show_state,
    show_submitted,
    submit,
)


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
    text, version = given.pop("description_markdown", "# text"), given.pop("version", 1)
    return submit(store, bundle, model=model, version=version, description_markdown=text, run=RunRecord(**given))


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
        metrics={"test/rmse_cycles": 12.5, "test/windows": 100, "test/none": math.nan},
        curves={"curves/rmse": Curve("training", {1: 30.0, 2: 20.0, 3: math.inf})},
        reports=[report, figures],
    )
    candidate = store.client.get_logged_model(model_id)
    run = store.client.get_run(candidate.source_run_id)
    assert run.data.params == {"train.epochs": "3", "train.robust.epsilon_sigma": "0.1"}
    measured = {"test/rmse_cycles": 12.5, "test/windows": 100.0}
    assert run.data.metrics == measured | {"curves/rmse": 20.0}
    assert {metric.key: metric.value for metric in candidate.metrics} == measured | {"curves/rmse": 20.0}
    assert [candidate.model_id] == [output.model_id for output in run.outputs.model_outputs]
    curve = store.client.get_metric_history(run.info.run_id, "curves/rmse")
    assert [(point.step, point.value) for point in curve] == [(1, 30.0), (2, 20.0)]
    assert run.info.status == "FINISHED"
    listed = [item.path for item in store.client.list_artifacts(run.info.run_id, "reports")]
    assert listed == ["reports/figures", "reports/report.html"]


def test_run_shows_the_data_with_our_digests_and_its_use(store: Store, bundle: Path) -> None:
    sha256, columns = "ab" * 32, {"load": "float32", "heat": "float32"}
    data = [
        DataInput(f"pump {use} windows", use, sha256, "data/windows/windows.safetensors", columns, {"windows": 7})
        for use in ("training", "validation", "test")
    ]
    made = {"data": data, "metrics": {"a/b": 1.0, "all/b": 1.0}, "curves": {"c/d": Curve("training", {1: 2.0})}}
    made |= {"tested": frozenset(["a/b"]), "policy_sha256": "cd" * 32}
    candidate = store.client.get_logged_model(submitted(store, bundle, "submit-data", **made))
    named = {metric.key: metric.dataset_name for metric in candidate.metrics}
    assert {"a/b": "pump test windows", "all/b": None, "c/d": "pump training windows"} == named
    run = store.client.get_run(candidate.source_run_id)
    assert ("ab" * 18, "cd" * 18) == (run.data.tags["twinseal.data.test"], run.data.tags["twinseal.policy"])
    inputs = run.inputs.dataset_inputs
    assert {"training", "validation", "test"} == {tag.value for item in inputs for tag in item.tags}
    for item in inputs:
        shown = item.dataset
        assert sha256.startswith(shown.digest) and len(shown.digest) == 36
        assert {"sha256": sha256, "windows": 7} == json.loads(shown.profile)
        assert ["load", "heat"] == [column["name"] for column in json.loads(shown.schema)["mlflow_colspec"]]
        assert {"uri": "data/windows/windows.safetensors"} == json.loads(shown.source)


def test_run_says_who_made_it_from_which_commit_and_from_which_run_an_experiment_began(
    store: Store, bundle: Path
) -> None:
    """An experiment runs in a copy of its baseline: its commit is the same, and no experiment is another's parent."""
    commit, made = "1" * 40, []
    for version, baseline in enumerate(("", commit, commit), start=1):
        (bundle / "model/config.json").write_bytes(b"{}" + b" " * version)
        origin = Origin("ada", commit, "dvc exp run" if baseline else "dvc repro", baseline)
        made.append(submitted(store, bundle, "submit-origin", version=version, origin=origin))
    runs = [store.client.get_run(store.client.get_logged_model(one).source_run_id) for one in made]
    shown = [{key.removeprefix("mlflow."): value for key, value in run.data.tags.items()} for run in runs]
    assert commit[:36] == shown[0]["twinseal.commit"]
    assert ("ada", commit, "dvc repro") == tuple(shown[0][k] for k in ("user", "source.git.commit", "source.name"))
    parents = [tags.get("parentRunId") for tags in shown]
    assert [None, runs[0].info.run_id, runs[0].info.run_id] == parents
    assert "ada" == store.client.get_logged_model(made[1]).tags["mlflow.user"]


def test_runs_are_named_by_their_release_and_a_renewal_says_so(store: Store, bundle: Path) -> None:
    def name() -> str:
        return str(store.client.get_run(store.client.get_logged_model(model_id).source_run_id).info.run_name)

    model_id = submitted(store, bundle, "submit-name", version=3)
    assert "submit-name release 3" == name()
    assert model_id == submitted(store, bundle, "submit-name", version=4)
    assert "submit-name release 4" == name(), "release 3 became another candidate"
    show_registered(store, model_id, "submit-name", 4)
    assert "submit-name release 4" == name()
    assert model_id == submitted(store, bundle, "submit-name", version=5)
    assert "submit-name release 5, renewal of 4" == name()
    store.client.set_logged_model_tags(model_id, {"twinseal.releases": "9" * 5000 + " x -1"})
    assert model_id == submitted(store, bundle, "submit-name", version=6)
    assert "submit-name release 6" == name(), "whoever writes to MLflow can only write nonsense there"


TEXT = "# m: ✓ PASSED\n\n**release 3 waits**\n\n## Gates\n\n| a |\n\n## To approve\n\n```\nsign\n```\n\n## Evidence"


def page(store: Store, model_id: str) -> str:
    return str(store.client.get_logged_model(model_id).tags[NOTE])


def test_the_page_of_a_candidate_that_was_replaced_no_longer_says_that_it_waits(store: Store, bundle: Path) -> None:
    model, made = "submit-replaced", []
    for version in (3, 3, 4):
        (bundle / "model/config.json").write_bytes(b"{}" + b" " * len(made))
        made.append(submitted(store, bundle, model, version=version, description_markdown=TEXT))
        show_submitted(store, made[-1], version)
        if version == 3 and len(made) == 2:
            describe_candidate(store, made[-1], TEXT.replace("waits", "approved by a"), state=REGISTERED)
            show_registered(store, made[-1], model, version)
    first, second, third = made
    assert "**replaced by another candidate for release 3**" in page(store, first)
    for gone in ("waits", "To approve", "```"):
        assert gone not in page(store, first)
    for kept in ("# m: ✓ PASSED", "## Gates\n\n| a |", "## Evidence", f"/models/{first}/artifacts"):
        assert kept in page(store, first)
    assert "approved by a" in page(store, second), "what is registered stays so until the next one is"
    show_state(store, third, WAITS, "release 4 waits for 1 more reviewers")
    assert "**release 4 waits for 1 more reviewers**" in page(store, third)
    assert "## To approve\n\n```\nsign\n```" in page(store, third)
    show_registered(store, third, model, 4)
    assert "**replaced by release 4**" in page(store, second)
    states = [store.client.get_logged_model(one).tags[STATE] for one in (first, second)]
    assert ["replaced", "replaced"] == states


def test_what_was_registered_beside_a_server_is_replaced_by_what_comes_through_it(store: Store, bundle: Path) -> None:
    """And the other way round: a model has two experiments where the first was made beside the server."""
    model, made = "submit-beside", []
    for version, experiment in enumerate((model, f"{model} (server)", model), 1):
        (bundle / "model/config.json").write_bytes(b"{}" + b" " * version)
        about = {"model": model, "version": version, "description_markdown": TEXT, "experiment": experiment}
        made.append(submit(store, bundle, run=RunRecord({}, {}), **about))
        describe_candidate(store, made[-1], TEXT, state=REGISTERED)
        show_registered(store, made[-1], model, version)
        states = [store.client.get_logged_model(one).tags[STATE] for one in made]
        assert ["replaced"] * (version - 1) + ["registered"] == states


def test_what_is_registered_and_was_submitted_again_is_said_to_be_registered_when_another_candidate_comes(
    store: Store, bundle: Path
) -> None:
    model = "submit-again"
    first = submitted(store, bundle, model, version=1, description_markdown=TEXT)
    describe_candidate(store, first, TEXT, state=REGISTERED)
    show_registered(store, first, model, 1)
    assert first == submitted(store, bundle, model, version=2, description_markdown=TEXT)
    (bundle / "model/config.json").write_bytes(b"{ }")
    show_submitted(store, submitted(store, bundle, model, version=2, description_markdown=TEXT), 2)
    assert "**release 1**" in page(store, first)
    assert REGISTERED == store.client.get_logged_model(first).tags[STATE]


def test_a_page_that_cannot_be_changed_stops_nothing(store: Store, bundle: Path) -> None:
    model_id = submitted(store, bundle, "submit-gone")
    store.client.delete_logged_model(model_id)
    for gone in (model_id, "m-1", "../m"):
        show_state(store, gone, WAITS, "it waits")
        show_submitted(store, gone, 2)
        show_registered(store, gone, "submit-gone", 2)


def test_experiments_open_in_the_layout_for_model_training(store: Store, bundle: Path) -> None:
    experiment = store.client.create_experiment("submit-layout", store.artifacts.joinpath("submit-layout").as_uri())
    submitted(store, bundle, "submit-layout")
    assert "custom_model_development" == store.client.get_experiment(experiment).tags["mlflow.experimentKind"]


def test_description_links_to_run_and_files(store: Store, bundle: Path) -> None:
    model_id = submitted(store, bundle, "submit-note", description_markdown="# Waits")
    candidate = store.client.get_logged_model(model_id)
    note = candidate.tags[NOTE]
    assert note.startswith("# Waits\n\n[Run: parameters, measures](#/experiments/")
    assert f"/runs/{candidate.source_run_id}?workflowType=machine_learning)" in note
    assert f"/models/{model_id}/artifacts?workflowType=machine_learning)" in note
    assert note.endswith(
        f"[assess](ajax-api/2.0/mlflow/logged-models/{model_id}/artifacts/files?"
        "artifact_file_path=evidence/assess.dsse.json)"
    )
    assert store.client.get_run(candidate.source_run_id).data.tags[NOTE] == note


def test_description_can_be_renewed_and_is_cut_before_its_links(store: Store, bundle: Path) -> None:
    model_id = submitted(store, bundle, "submit-renew")
    describe_candidate(store, model_id, "# Registered" + " long" * 5000, state=REGISTERED)
    note = store.client.get_logged_model(model_id).tags[NOTE]
    assert note.startswith("# Registered long")
    assert len(note) == 8000
    assert note.endswith("/runs?workflowType=machine_learning)")
    assert "Signed records" not in note


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
    with pytest.raises(RegistryError, match="run submit-missing release 1: expected an answer of MLflow"):
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
