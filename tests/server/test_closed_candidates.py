"""What an engineer may still change in MLflow once a review was asked for, and a release is out: nothing of these."""

from __future__ import annotations

import inspect
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.server.review_scene import ReviewScene, review_scene, signed_in
from tests.server.scene import API, now, submitted
from tests.twin.deployment import MODEL, OTHER, POLICY
from twinseal.registry.registration import request
from twinseal.registry.run import RunRecord
from twinseal.registry.store import Store, connect
from twinseal.server.closed import Closed
from twinseal.trust.release.request import Request
from twinseal.trust.root.home import Home

pytestmark = pytest.mark.proof  # make check stays below 12 minutes

ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"
NOTE, STATE = "mlflow.note.content", "twinseal.state"
FORGED = "release 9, approved by all"


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReviewScene]:
    with review_scene(tmp_path_factory.mktemp("closed")) as made:
        yield made


class Engineer:
    """A machine with the anchor alone; `dvc repro` there."""

    def __init__(self, scene: ReviewScene, folder: Path) -> None:
        self.scene, self.folder, self.home = scene, folder, Home(folder / "engineer")
        shutil.copytree(scene.made.home.anchor_dir, self.home.anchor_dir, dirs_exist_ok=True)
        self.home.path.chmod(0o700)

    def asks(self, bundle: Path, model: str = MODEL) -> Request:
        """What is staged of a bundle."""
        how: dict[str, Any] = {"policy_sha256": POLICY.sha256, "run": RunRecord({}, {}), "roles": self.scene.made.roles}
        with signed_in("engineer"):
            store = connect(self.home, self.scene.server.url)
            return request(store, self.home, bundle, self.folder / "release", model=model, now=now(), **how)


@pytest.fixture
def engineer(scene: ReviewScene, tmp_path: Path) -> Engineer:
    return Engineer(scene, tmp_path)


def beside(scene: ReviewScene) -> Store:
    return connect(scene.made.home)


def page(scene: ReviewScene, model_id: str) -> list[object]:
    """All that MLflow shows of a candidate, its run and its experiment."""
    client = beside(scene).client
    model = client.get_logged_model(model_id)
    about = model.to_dictionary()
    return [about, *run_page(scene, str(model.source_run_id)), _experiment(client.get_experiment(model.experiment_id))]


def run_page(scene: ReviewScene, run_id: str) -> list[object]:
    run = beside(scene).client.get_run(run_id)
    return [run.to_dictionary(), _experiment(beside(scene).client.get_experiment(run.info.experiment_id))]


def _experiment(found: Any) -> list[object]:
    return [found.name, found.lifecycle_stage, found.tags]


def changes_of_run(run: str, experiment: str, mine: str) -> list[tuple[str, str, Any]]:
    """Every call that MLflow offers and that would change a run or its experiment; with a candidate of one's own."""
    metric = {"key": "rmse", "value": 0.0, "timestamp": 1, "step": 0}
    model = {"run_id": run, "artifact_path": "m", "flavors": {}, "utc_time_created": "2026-01-01 00:00:00"}
    body: dict[str, dict[str, Any]] = {
        "runs/set-tag": {"run_id": run, "key": STATE, "value": "registered"},
        "runs/delete-tag": {"run_id": run, "key": "mlflow.user"},
        "runs/update": {"run_id": run, "run_name": "pump-rul release 9"},
        "runs/log-metric": {"run_id": run, **metric},
        "runs/log-parameter": {"run_id": run, "key": "seed", "value": "9"},
        "runs/log-batch": {"run_id": run, "metrics": [metric], "tags": [{"key": NOTE, "value": FORGED}]},
        "runs/log-inputs": {"run_id": run, "datasets": [{"dataset": {"name": "d", "digest": "1", "source_type": "x",
                                                                      "source": "y"}}]},
        "runs/log-model": {"run_id": run, "model_json": json.dumps(model)},
        "runs/outputs": {"run_id": run, "models": [{"model_id": mine, "step": 0}]},
        "runs/restore": {"run_id": run},
        "runs/delete": {"run_id": run},
        "logged-models": {"experiment_id": experiment, "name": "more", "source_run_id": run},
        "experiments/update": {"experiment_id": experiment, "new_name": "harmless"},
        "experiments/set-experiment-tag": {"experiment_id": experiment, "key": NOTE, "value": FORGED},
        "experiments/delete-experiment-tag": {"experiment_id": experiment, "key": "mlflow.experimentKind"},
        "experiments/delete": {"experiment_id": experiment},
    }  # fmt: skip
    return [("POST", name, value) for name, value in body.items()]


def changes_of_candidate(model_id: str, own_run: str) -> list[tuple[str, str, Any]]:
    """The same for a candidate; also by a run of the engineer's own."""
    metric = {"key": "rmse", "value": 0.0, "timestamp": 1, "step": 0, "model_id": model_id}
    place = f"logged-models/{model_id}"
    return [
        ("PATCH", f"{place}/tags", {"tags": [{"key": NOTE, "value": FORGED}, {"key": STATE, "value": "registered"}]}),
        ("DELETE", f"{place}/tags/{STATE}", None),
        ("POST", f"{place}/params", {"model_id": model_id, "params": [{"key": "seed", "value": "9"}]}),
        ("PATCH", place, {"model_id": model_id, "status": "LOGGED_MODEL_PENDING"}),
        ("DELETE", place, None),
        ("POST", "runs/log-metric", {"run_id": own_run, **metric}),
        ("POST", "runs/log-batch", {"run_id": own_run, "metrics": [metric]}),
        ("POST", "runs/outputs", {"run_id": own_run, "models": [{"model_id": model_id, "step": 0}]}),
    ]


def taken(scene: ReviewScene, calls: list[tuple[str, str, Any]]) -> dict[str, str]:
    """What was answered to calls that were not refused by what is tested here."""
    answers = {f"{method} {name}": scene.server.ask(method, API + name, body) for method, name, body in calls}
    ours = re.compile("only this server changes it|it stays as it is|it stays so")
    return {
        name: answer.body.decode()
        for name, answer in answers.items()
        if answer.status != 403 or not ours.search(answer.message)
    }


def own_run(scene: ReviewScene) -> str:
    made = scene.server.post("runs/create", {"experiment_id": "0"})
    return str(made.json()["run"]["info"]["run_id"])


def own_candidate(scene: ReviewScene, **more: str) -> str:
    made = scene.server.post("logged-models", {"experiment_id": "0", "name": "mine", **more})
    return str(made.json()["model"]["info"]["model_id"])


@pytest.mark.attack("S")
def test_page_of_a_candidate_in_review_or_released_is_not_forged(scene: ReviewScene, engineer: Engineer) -> None:
    """An engineer makes MLflow's page of a candidate say that it is approved, or deletes, renames or fills its run."""
    bundle = scene.made.bundle(1)
    model_id = engineer.asks(bundle).release.mlflow_model_id
    model = beside(scene).client.get_logged_model(model_id)
    calls = changes_of_run(model.source_run_id, model.experiment_id, own_candidate(scene))
    calls += changes_of_candidate(model_id, own_run(scene))
    place = f"{ARTIFACTS}/{model.experiment_id}/{model.source_run_id}/artifacts"
    for state in ("waits", "registered"):
        before = page(scene, model_id)
        assert before[0]["tags"][STATE] == state  # type: ignore[index]
        assert {} == taken(scene, calls)
        for path in ("reports/report.html", "reports2/report.html", "x"):
            assert 403 == scene.server.ask("PUT", f"{place}/{path}", FORGED.encode()).status, path
        assert before == page(scene, model_id)
        if state == "waits":
            message = scene.server.post("runs/set-tag", {"run_id": model.source_run_id, "key": "a", "value": "b"})
            assert "set_tag: expected a run that nobody relies on, got" in message.message
            assert [200, 200] == [scene.decide(who, model_id).status for who in ("alice", "bruno")]


@pytest.mark.attack("S")
def test_run_with_the_registrars_metadata_is_not_changed(scene: ReviewScene, engineer: Engineer) -> None:
    """An engineer deletes or renames the run from which twins fetch the metadata, or puts files beside it."""
    model_id = engineer.asks(scene.made.bundle(2, OTHER), OTHER).release.mlflow_model_id
    assert [200, 200] == [scene.decide(who, model_id).status for who in ("alice", "bruno")]
    client = beside(scene).client
    run = client.get_run(client.get_registered_model(OTHER).tags["twinseal.metadata_run"])
    before = run_page(scene, run.info.run_id)
    calls = changes_of_run(run.info.run_id, run.info.experiment_id, own_candidate(scene))
    assert {} == taken(scene, calls)
    place = f"{ARTIFACTS}/{run.info.artifact_uri.removeprefix('mlflow-artifacts:/').lstrip('/')}"
    for path in ("metadata2/x", "metadata/9.root.json", "targets/x", "x"):
        assert 403 == scene.server.ask("PUT", f"{place}/{path}", b"{}").status, path
    assert before == run_page(scene, run.info.run_id)


def test_engineer_submits_twice_and_renews(scene: ReviewScene, engineer: Engineer) -> None:
    """The same bytes again, while they wait and once they are released: the server alone says so in MLflow."""
    bundle = scene.made.bundle(3)
    first, again = engineer.asks(bundle), engineer.asks(bundle)
    assert (first.release_bytes, first.role_bytes) == (again.release_bytes, again.role_bytes)
    model_id, client = first.release.mlflow_model_id, beside(scene).client
    note = client.get_logged_model(model_id).tags[NOTE]
    assert (1, True) == (note.count("waits for"), f"(/twinseal/review/{model_id})" in note)
    assert [200, 200] == [scene.decide(who, model_id).status for who in ("alice", "bruno")]
    renewal = engineer.asks(bundle).release
    assert (model_id, first.release.version + 1) == (renewal.mlflow_model_id, renewal.version)
    model = client.get_logged_model(model_id)
    name = f"{MODEL} release {renewal.version}, renewal of {first.release.version}"
    assert ("waits", name) == (model.tags[STATE], client.get_run(model.source_run_id).info.run_name)


def test_what_nobody_reviews_stays_the_engineers(scene: ReviewScene) -> None:
    """Also after a review was asked for that did not come about; and what uses a candidate changes nothing of it."""
    with signed_in("engineer"):
        model_id, _ = submitted(scene.made, 4, MODEL, scene.server.url)
    model = beside(scene).client.get_logged_model(model_id)
    run = own_run(scene)
    calls = [call for call in changes_of_run(run, "0", own_candidate(scene)) if not call[1].startswith("experiments")]
    calls = [call for call in calls if call[1] not in ("runs/delete", "runs/restore", "runs/delete-tag")]
    assert {200} == {scene.server.ask(method, API + name, body).status for method, name, body in calls}
    tag = {"run_id": model.source_run_id, "key": "mine", "value": "1"}
    assert 200 == scene.server.post("runs/set-tag", tag).status
    none = own_candidate(scene, source_run_id=run)
    assert 200 == scene.server.ask("PATCH", f"{API}logged-models/{none}",
                                   {"model_id": none, "status": "LOGGED_MODEL_READY"}).status  # fmt: skip
    assert 400 <= scene.call("engineer", "/reviews", {"candidate": none}).status < 500
    assert 200 == scene.server.post("runs/set-tag", {"run_id": run, "key": "mine", "value": "1"}).status
    reviewed = scene.submit(5)
    body = {"run_id": run, "models": [{"model_id": reviewed}]}
    assert 200 == scene.server.post("runs/log-inputs", body).status
    free = {"name": "mine", "source": f"models:/{reviewed}", "model_id": reviewed}
    assert 200 == scene.server.post("registered-models/create", {"name": "mine"}).status
    before = page(scene, reviewed)
    assert 200 == scene.server.post("model-versions/create", free).status
    assert before == page(scene, reviewed)


def test_upload_below_a_file_is_said_to_be_wrong(scene: ReviewScene) -> None:
    assert 200 == scene.server.ask("PUT", f"{ARTIFACTS}/0/a.txt", b"1").status
    for path in ("a.txt/b", "/".join(["d" * 200] * 30)):
        answer = scene.server.ask("PUT", f"{ARTIFACTS}/0/{path}", b"1")
        assert (400, True) == (answer.status, "expected a path below folders" in answer.message)
    assert "Traceback" not in (scene.made.home.path.parent / "server.err").read_text()


OF_OTHER_THINGS = re.compile(
    "gateway|endpoint|guardrail|mcp|budget|trace|assessment|dataset|scorer|scoring|queue|label_schema|issue|spans"
    "|sessions|_async"
)


def test_every_call_that_changes_something_is_looked_at() -> None:
    """A new one of MLflow's store is noticed here: it goes to GUARDED, or is none of ours."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    from twinseal.server.tracking_store import GUARDED

    found = {name for name, _ in inspect.getmembers(SqlAlchemyStore, inspect.isfunction)}
    assert set() == set(GUARDED) - found
    found = {name for name in found - set(GUARDED) if not name.startswith(("_", "get_", "list_", "search_"))}
    ours = {"create_experiment", "create_run", "set_model_versions_tags"}  # what is new; and our own
    reads = {"filter_active_experiment_ids", "sanitize_metric_value"}
    assert ours | reads == {name for name in found if not OF_OTHER_THINGS.search(name)}


@pytest.mark.attack("S")
@pytest.mark.parametrize("run", ["../../etc", "x", "", "A" * 32, "a" * 32 + "\n", "a" * 33, None, 7])
def test_id_that_is_none_leads_nowhere(tmp_path: Path, run: Any) -> None:
    """A client names as a candidate's run a path of this machine."""
    closed = Closed(tmp_path)
    assert not (closed.has_run(run) or closed.has_candidate(run))
    assert not (isinstance(run, str) and closed.add_run(run))
    assert [] == list(tmp_path.rglob("*"))
    assert (True, False, True) == (closed.add_run("a" * 32), closed.add_run("a" * 32), closed.has_run("a" * 32))


def test_page_says_that_a_candidate_is_rejected_until_that_is_withdrawn(scene: ReviewScene) -> None:
    def shown() -> tuple[str, bool]:
        tags = beside(scene).client.get_logged_model(model_id).tags
        return tags[STATE], "## To approve" in tags[NOTE]

    model_id = scene.submit(6)
    assert ("waits", True) == shown()
    for decision, state in (("reject", "rejected"), ("withdraw", "waits"), ("reject", "rejected")):
        assert 200 == scene.decide("alice", model_id, decision, "the report names another pump").status
        assert (state, True) == shown()
    scene.submit(7)
    assert ("replaced", False) == shown()
