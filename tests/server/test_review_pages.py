"""What the review pages, and MLflow's descriptions, say of a candidate as it goes through its states."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.server.review_scene import ReviewScene, review_scene
from tests.twin.deployment import OTHER


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReviewScene]:
    with review_scene(tmp_path_factory.mktemp("pages")) as made:
        yield made


def page(scene: ReviewScene, path: str, who: str = "alice") -> str:
    """A page as its text, spaces and `<bdi>` left out."""
    text = scene.server.ask("GET", f"/twinseal/review{path}", who=who).body.decode()
    return " ".join(text.replace("<bdi>", "").replace("</bdi>", "").split())


def candidate_in_mlflow(scene: ReviewScene, model_id: str) -> dict[str, Any]:
    found: dict[str, Any] = scene.server.ask("GET", f"/api/2.0/mlflow/logged-models/{model_id}").json()["model"]["info"]
    return found


def note_of(tags: list[dict[str, str]]) -> str:
    return next(tag["value"] for tag in tags if tag["key"] == "mlflow.note.content")


def publish(scene: ReviewScene, model_id: str) -> None:
    for who in ("alice", "bruno"):
        assert 200 == scene.decide(who, model_id, comment=f"read by {who}").status
    assert "registered" == scene.state(model_id)


def test_each_state_and_a_renewal(scene: ReviewScene) -> None:
    first = scene.submit(1)
    shown = page(scene, f"/{first}")
    for part in ("It would be the first release", "<dt>data</dt><dd>not known"):
        assert part in shown
    assert 200 == scene.decide("bruno", first, "comment", "which file?").status
    publish(scene, first)
    shown = page(scene, f"/{first}")
    assert (True, False) == ("The first release ·" in shown, "would be" in shown)
    second = scene.submit(2)
    assert "Release 1 would be replaced" in page(scene, f"/{second}")
    assert 200 == scene.decide("alice", second, "reject", "no").status
    assert "Release 1 stays while this one is rejected" in page(scene, f"/{second}")
    publish(scene, second)
    shown = page(scene, f"/{second}")
    assert "It replaced release 1" in shown
    assert "Nothing in policy, code and contract" not in shown  # that compares the release with itself
    assert "Another release took its place" in page(scene, f"/{first}")
    assert 201 == scene.call("engineer", "/reviews", {"candidate": first}).status
    shown = page(scene, f"/{first}")  # what was current once is no renewal of what is current
    assert (True, False) == ("Release 2 would be replaced" in shown, "a renewal of its approval" in shown)
    for part in ("about release 1:</span> <q>read by alice</q>", ", about release 1</span> <q>which file?</q>"):
        assert part in shown
    assert 2 == shown.count('<span class="pill open">not yet</span> <span class="muted">passkey')
    assert 201 == scene.call("engineer", "/reviews", {"candidate": second}).status
    shown = page(scene, f"/{second}")
    assert "The same candidate as release 2: a renewal of its approval" in shown
    assert "about release 2:</span> <q>read by alice</q>" in shown
    publish(scene, second)
    assert "about release" not in page(scene, f"/{second}")
    assert "you stale it" not in page(scene, "")


def test_descriptions_name_the_review_page_before_and_after(scene: ReviewScene) -> None:
    model_id = scene.submit(3, OTHER)
    link, info = f"(/twinseal/review/{model_id})", candidate_in_mlflow(scene, model_id)
    assert link in note_of(info["tags"])
    assert f"--from <this server> --candidate {model_id} --as <your name>" in note_of(info["tags"])
    assert "review show" not in note_of(info["tags"])  # that needs a checkout
    publish(scene, model_id)
    note = note_of(candidate_in_mlflow(scene, model_id)["tags"])
    assert (True, False) == (link in note, "To approve" in note)
    version = scene.server.ask("GET", f"/api/2.0/mlflow/model-versions/get?name={OTHER}&version=1").json()
    assert link in version["model_version"]["description"]
    address = f"/#/experiments/{info['experiment_id']}/models/{model_id}?workflowType=machine_learning"
    assert f'<a href="{address}">' in page(scene, f"/{model_id}")


def test_reviewer_with_a_key_in_a_file_reads_the_whole_command(scene: ReviewScene) -> None:
    model_id = scene.submit(4, OTHER)
    shown = page(scene, f"/{model_id}", "chiara")
    options = f"--from {scene.server.url} --candidate {model_id} --as chiara --anchor anchor --key file:chiara.pem"
    assert f"<pre>twinseal approve {options}</pre>" in shown
    assert "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD" in shown
    refused = scene.draft("chiara", model_id, "reject", "why")
    assert f"twinseal reject {options}" in refused.json()["remedy"]


def test_what_does_not_verify_says_nothing_more(scene: ReviewScene) -> None:
    model_id = scene.submit(5, OTHER)
    model = next(scene.made.home.path.rglob(f"{model_id}/artifacts")) / "model/model.safetensors"
    model.write_bytes(model.read_bytes()[:-1] + b"!")
    shown = page(scene, f"/{model_id}")
    assert "It does not verify, so nothing below is certain." in shown
    for part in ("What changed", "not recorded", "built by"):
        assert part not in shown
