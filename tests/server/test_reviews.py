"""Reviews over the server's raw API, with authenticators in software: what is taken, and every way it is not."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.passkeys import UP, UV, Authenticator
from tests.server.receivers import until
from tests.server.review_scene import CALLS, ReviewScene, challenge_of, decoded, review_scene, signed_in
from tests.server.scene import PASSWORD, accounts_of, add_accounts, now, submitted
from tests.twin.deployment import MODEL, OTHER, POLICY
from tests.warm import shared
from twinseal.errors import RegistryError
from twinseal.registry.registration import register, request
from twinseal.registry.run import RunRecord
from twinseal.registry.store import connect
from twinseal.trust.audit import log_of
from twinseal.trust.ceremonies import ceremony
from twinseal.trust.root.home import Home
from twinseal.trust.root.roles import Roles


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReviewScene]:
    with review_scene(tmp_path_factory.mktemp("reviews")) as made:
        yield made


@pytest.fixture(scope="module")
def candidate(scene: ReviewScene) -> str:
    """One that waits, for the refusals: nobody ever approves it with success."""
    return scene.submit(50, OTHER)


def terminal(
    scene: ReviewScene, *words: str, who: str, cwd: Path, password: str = PASSWORD, key: bool = True
) -> subprocess.CompletedProcess[str]:
    """`twinseal …` on a machine with the anchor and the reviewer's key, and nothing else."""
    account = {"MLFLOW_TRACKING_USERNAME": who, "MLFLOW_TRACKING_PASSWORD": password}
    place = ["--from", scene.server.url, "--anchor", str(scene.made.home.anchor_dir), "--yes"]
    place += ["--key", f"file:{scene.made.home.keys / who}.pem"] if key else []
    return shared().run("twinseal", *words, "--as", who, *place, env=os.environ | account, cwd=cwd, timeout_s=60)


def test_two_passkeys_approve_and_a_twin_admits(scene: ReviewScene, tmp_path: Path) -> None:
    model_id = scene.submit(1)
    assert scene.state(model_id) == "waits"
    first = scene.decide("alice", model_id, comment="report read")
    assert (200, "waits") == (first.status, first.json()["state"])
    second = scene.decide("bruno", model_id)
    assert (200, "registered", "") == (second.status, second.json()["state"], second.json()["note"])
    assert 1 == scene.pulled(tmp_path / "twin")
    alias = scene.server.ask("GET", f"/api/2.0/mlflow/registered-models/alias?name={MODEL}&alias=champion")
    assert f"models:/{model_id}" == alias.json()["model_version"]["source"]
    events = [(entry.event, entry.actor) for _, entry in log_of(scene.made.home.path).read()]
    expected = [("submitted", "engineer"), ("approved", "alice"), ("approved", "bruno"), ("registered", "registrar")]
    assert expected == [event for event in events if event in expected]


def test_passkey_and_terminal_approve_together(scene: ReviewScene, tmp_path: Path) -> None:
    model_id = scene.submit(2)
    assert 200 == scene.decide("alice", model_id).status
    done = terminal(scene, "approve", "--comment", "from the plant", who="chiara", cwd=tmp_path)
    assert (0, True) == (done.returncode, "the server: registered" in " ".join(done.stdout.split())), done
    for line in ("signature: the builder signed exactly these", "approved by 1 (2 needed): alice"):
        assert line in done.stdout
    assert [] == list(tmp_path.iterdir())
    assert 2 == scene.pulled(tmp_path / "twin")


def test_engineer_elsewhere_submits_and_sees_it_registered(
    scene: ReviewScene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`dvc repro` on a machine with the anchor alone: no repository of record, no audit log, no registrar's key."""
    for name, value in (("USERNAME", "engineer"), ("PASSWORD", PASSWORD)):
        monkeypatch.setenv(f"MLFLOW_TRACKING_{name}", value)
    made, bundle = scene.made, scene.made.bundle(60)
    home = Home(tmp_path / "engineer")
    shutil.copytree(made.home.anchor_dir, home.anchor_dir)
    home.path.chmod(0o700)
    store, release = connect(home, scene.server.url), tmp_path / "release"
    how = {"roles": made.roles, "now": now()}
    run = RunRecord({}, {})
    pending = request(store, home, bundle, release, model=MODEL, policy_sha256=POLICY.sha256, run=run, **how)
    again = request(store, home, bundle, release, model=MODEL, policy_sha256=POLICY.sha256, run=run, **how)
    assert (pending.release_bytes, pending.role_bytes) == (again.release_bytes, again.role_bytes)
    model_id = pending.release.mlflow_model_id
    note = store.client.get_logged_model(model_id).tags["mlflow.note.content"]
    assert f"(/twinseal/review/{model_id})" in note
    with monkeypatch.context() as wrong:
        wrong.setenv("MLFLOW_TRACKING_PASSWORD", "another")
        with pytest.raises(RegistryError, match="UNAUTHENTICATED") as refusal:
            connect(home, scene.server.url)
        assert "Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD" in refusal.value.remedy
    waits = register(store, home, bundle, release, tmp_path / "none", **how)
    assert ("pending", ()) == (waits.status, waits.count.signed)
    assert [200, 200] == [scene.decide(who, model_id).status for who in ("alice", "bruno")]
    done = register(store, home, bundle, release, tmp_path / "none", **how)
    assert ("published", ("alice", "bruno")) == (done.status, done.count.signed)
    assert done.mlflow_version
    assert {"anchor", "mlflow"} >= {path.name for path in home.path.iterdir()}


def test_terminal_says_what_is_wrong(scene: ReviewScene, candidate: str, tmp_path: Path) -> None:
    named = ("--candidate", candidate)
    keyless = terminal(scene, "approve", *named, who="chiara", cwd=tmp_path, key=False)
    assert "chiara: expected your key, got none on this machine" in " ".join(keyless.stderr.split())
    assert "Name it: --key file:/media/me/chiara.pem" in " ".join(keyless.stderr.split())
    stranger = terminal(scene, "approve", *named, who="chiara", cwd=tmp_path, password="another")
    assert "Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD" in " ".join(stranger.stderr.split())
    other = terminal(scene, "approve", "--candidate", "m-" + "0" * 32, who="chiara", cwd=tmp_path)
    assert (1, True) == (other.returncode, "expected a candidate that waits here" in " ".join(other.stderr.split()))
    words = terminal(scene, "reject", "--comment", " ", *named, who="chiara", cwd=tmp_path)
    assert (1, True) == (words.returncode, "expected a reason, got none" in words.stderr)
    passkey = terminal(scene, "approve", *named, who="alice", cwd=tmp_path)
    assert (1, True) == (passkey.returncode, "expected the key that the anchor has" in " ".join(passkey.stderr.split()))


def test_rejection_blocks_until_it_is_withdrawn(scene: ReviewScene, tmp_path: Path) -> None:
    model_id = scene.submit(3)
    assert "rejected" == scene.decide("bruno", model_id, "reject", "too few failures").json()["state"]
    assert 200 == scene.decide("alice", model_id, "comment", "which failures?").status
    assert 200 == scene.decide("alice", model_id).status
    info = scene.server.ask("GET", f"/api/2.0/mlflow/logged-models/{model_id}").json()["model"]["info"]
    note = next(tag["value"] for tag in info["tags"] if tag["key"] == "mlflow.note.content")
    assert "waits for 1 more reviewers; approved by alice; rejected by bruno" in note  # MLflow's page says so too
    done = terminal(scene, "approve", "--candidate", model_id, who="chiara", cwd=tmp_path)
    assert "the server: rejected" in " ".join(done.stdout.split()), done
    assert "registered" == scene.decide("bruno", model_id, "withdraw", "found them").json()["state"]
    full = scene.call("reader", f"/reviews/{model_id}").json()
    assert {"alice.json", "bruno.json", "chiara.json", "alice.comment-1.json"} == set(full["reviews"])


@pytest.mark.attack("S")
@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"origin": "https://evil.test"}, "origin"),
        ({"rp_id": "evil.test"}, ""),
        ({"flags": UP}, "user verification"),
        ({"flags": UV}, ""),
        ({"kind": "webauthn.create"}, ""),
        ({"data": b"\x00" * 8}, ""),
        ({"client": {"crossOrigin": True}}, ""),
    ],
)
def test_touch_that_is_not_for_this_page_and_person(
    scene: ReviewScene, candidate: str, wrong: dict[str, object], why: str
) -> None:
    """An assertion for another site, without a PIN or finger, or of another kind is sent as an approval."""
    answer = scene.decide("alice", candidate, **wrong)
    assert (403, "PERMISSION_DENIED") == (answer.status, answer.json()["error_code"])
    assert why in answer.message.lower()
    assert {} == scene.call("reader", f"/reviews/{candidate}").json()["reviews"]


@pytest.mark.attack("S")
def test_assertion_is_sent_again_for_another_candidate(scene: ReviewScene, candidate: str) -> None:
    """What alice signed for one candidate is replayed on another, and with other words."""
    other = scene.submit(51, OTHER)
    first, second = scene.draft("alice", candidate).json(), scene.draft("alice", other).json()
    touch = scene.devices["alice"].touch(challenge_of(first["texts"]))
    assert 403 == scene.send("alice", other, second, touch).status
    assert 403 == scene.send("alice", other, first, touch).status
    changed = {**first, "said": {**first["said"], "comment": "I agree with everything"}}
    assert 403 == scene.send("alice", candidate, changed, touch).status
    assert {} == scene.call("reader", f"/reviews/{candidate}").json()["reviews"]


@pytest.mark.attack("S")
def test_bytes_change_after_the_page_was_opened(scene: ReviewScene) -> None:
    """The candidate's files, or what would be signed, change between the page and the touch."""
    model_id = scene.submit(4)
    draft = scene.draft("alice", model_id).json()
    touch = scene.devices["alice"].touch(challenge_of(draft["texts"]))
    folder = next(scene.made.home.path.rglob(f"{model_id}/artifacts"))
    model = folder / "model/model.safetensors"
    kept = model.read_bytes()
    model.write_bytes(kept[:-1] + b"!")
    refused = scene.send("alice", model_id, draft, touch)
    assert (403, True) == (refused.status, "model.safetensors" in refused.message)
    page = scene.server.ask("GET", f"/twinseal/review/{model_id}", who="alice")
    assert b"does not verify" in page.body
    model.write_bytes(kept)
    role = scene.made.home.path / f"reviews/{model_id}/role.json"
    before = role.read_bytes()
    role.write_bytes(re.sub(rb'"version":(\d+)', lambda found: b'"version":%d' % (int(found[1]) + 1), before))
    assert role.read_bytes() != before
    assert 403 == scene.send("alice", model_id, draft, touch).status
    role.write_bytes(before)
    assert 200 == scene.send("alice", model_id, draft, touch).status


@pytest.mark.attack("S")
def test_engineer_approves_what_they_submitted(scene: ReviewScene) -> None:
    """A reviewer's account that is an engineer's too submits a candidate, and approves it."""
    add_accounts(accounts_of(scene.made.home.path), {"alice": ("reviewer", "engineer")})
    with signed_in("engineer"):
        model_id, _ = submitted(scene.made, 52, OTHER, scene.server.url)
    assert until(lambda: scene.call("alice", "/reviews", {"candidate": model_id}).status == 201)  # roles last 5 seconds
    refused = scene.decide("alice", model_id)
    assert (403, True) == (refused.status, "expected a reviewer who did not submit the candidate" in refused.message)
    page = scene.server.ask("GET", f"/twinseal/review/{model_id}", who="alice").body.decode()
    assert "You cannot approve it: you built it." in page
    assert 'data-decision="approve"' not in page
    assert 200 == scene.decide("bruno", model_id).status


@pytest.mark.attack("S")
def test_reviewer_of_another_model_decides_nothing(scene: ReviewScene, candidate: str) -> None:
    """A reviewer whom the policy gives other models approves, rejects and comments."""
    home, before = scene.made.home, scene.made.roles
    reviewer = before["reviewer"].model_copy(update={"models": {"bruno": (MODEL,)}})
    limited = Roles(models=before.models, roles=before.roles.model_copy(update={"reviewer": reviewer}))
    ceremony.renew(home, limited, now())
    try:
        for decision in ("approve", "reject", "comment"):
            refused = scene.draft("bruno", candidate, decision, "seen")
            assert (403, True) == (refused.status, "expected one of alice, chiara, got 'bruno'" in refused.message)
        page = scene.server.ask("GET", f"/twinseal/review/{candidate}", who="bruno").body.decode()
        assert "you review other models" in page
        assert "data-decision" not in page
        listed = scene.server.ask("GET", "/twinseal/review", who="bruno").body.decode()
        assert "you review other models" in listed
        assert "approve" in scene.draft("alice", candidate).json()["said"]["decision"]
    finally:
        ceremony.renew(home, before, now())


@pytest.mark.attack("S")
def test_one_person_with_two_passkeys_counts_once(scene: ReviewScene, candidate: str) -> None:
    """A second passkey of alice signs beside the first, and as chiara."""
    second = Authenticator(rp_id="localhost", origin=scene.server.url)
    draft = scene.draft("alice", candidate).json()
    assert 403 == scene.send("alice", candidate, draft, second.touch(challenge_of(draft["texts"]))).status
    said = {**draft, "said": {**draft["said"], "holder": "chiara"}}
    assert 403 == scene.send("alice", candidate, said, second.touch(challenge_of(draft["texts"]))).status
    assert 403 == scene.send("reviewer", candidate, draft, second.touch(challenge_of(draft["texts"]))).status


@pytest.mark.attack("S")
def test_copy_of_an_authenticator(scene: ReviewScene) -> None:
    """A copy of bruno's device, whose counter runs behind, signs."""
    model_id = scene.submit(53, OTHER)
    device = scene.devices["bruno"]
    copy = Authenticator(
        rp_id=device.rp_id, origin=device.origin, private=device.private, credential_id=device.credential_id
    )
    copy.counter = (device.counter or 0) - 2
    draft = scene.draft("bruno", model_id).json()
    refused = scene.send("bruno", model_id, draft, copy.touch(challenge_of(draft["texts"])))
    assert (403, True) == (refused.status, "a copy of the authenticator may be in use" in refused.message)
    # Whoever has no key cannot move the counter.
    forged = device.touch(challenge_of(draft["texts"]), counter=9_999)
    forged["response"]["signature"] = forged["response"]["signature"][:-4] + "AAAA"
    assert 403 == scene.send("bruno", model_id, draft, forged).status
    assert 200 == scene.decide("bruno", model_id).status


@pytest.mark.attack("S")
@pytest.mark.parametrize("who", ["reader", "engineer", "registrar"])
def test_account_that_is_no_reviewers(scene: ReviewScene, candidate: str, who: str) -> None:
    """Another account drafts, decides or makes a passkey."""
    for path, body in (
        (f"/reviews/{candidate}/drafts", {"decision": "approve"}),
        (f"/reviews/{candidate}/decisions", {"review": {}}),
        ("/passkeys/options", {}),
        ("/passkeys", {"credential": {}}),
    ):
        assert 403 == scene.call(who, path, body).status
    assert 403 == scene.call("reader", "/reviews", {"candidate": candidate}).status


def test_decision_twice_changes_nothing(scene: ReviewScene) -> None:
    model_id = scene.submit(54, OTHER)
    draft = scene.draft("alice", model_id).json()
    touch = scene.devices["alice"].touch(challenge_of(draft["texts"]))
    before = len(log_of(scene.made.home.path).read())
    assert scene.send("alice", model_id, draft, touch).json()["is_new"] is True
    assert scene.send("alice", model_id, draft, touch).json()["is_new"] is False
    assert before + 1 == len(log_of(scene.made.home.path).read())


@pytest.mark.attack("S")
def test_candidate_in_review_is_not_deleted(scene: ReviewScene, candidate: str) -> None:
    """The engineer who submitted a candidate deletes it, its run, or its experiment while reviewers read it."""
    api = "/api/2.0/mlflow/"
    info = scene.server.ask("GET", f"{api}logged-models/{candidate}").json()["model"]["info"]
    for method, path, body in (
        ("DELETE", f"logged-models/{candidate}", None),
        ("POST", "runs/delete", {"run_id": info["source_run_id"]}),
        ("POST", "experiments/delete", {"experiment_id": info["experiment_id"]}),
    ):
        assert 403 == scene.server.ask(method, api + path, body).status, path
    assert "waits" == scene.state(candidate)


@pytest.mark.attack("S")
def test_passkey_that_this_page_did_not_ask_for(scene: ReviewScene) -> None:
    """A passkey made for another challenge, account or site is given as a file for custodians."""
    asked = scene.call("bruno", "/passkeys/options", {}).json()
    device = Authenticator(rp_id="localhost", origin=scene.server.url)
    for credential, who in (
        (device.register(b"x" * 40), "bruno"),
        (device.register(decoded(asked["challenge"])), "alice"),
        (device.register(decoded(asked["challenge"]), origin="https://evil.test"), "bruno"),
        (device.register(decoded(asked["challenge"]), flags=UP | 0x40), "bruno"),
        ({}, "bruno"),
        ({"response": {"clientDataJSON": "!!"}}, "bruno"),
    ):
        assert scene.call(who, "/passkeys", {"credential": credential}).status in (400, 403)


@pytest.mark.parametrize(
    "body", [{}, {"candidate": "x"}, {"candidate": 1}, {"candidate": "m-" + "0" * 32, "more": 1}, [], "text", None]
)
def test_malformed_request_is_said_to_be_so(scene: ReviewScene, body: object) -> None:
    answer = scene.server.ask(
        "POST", f"{CALLS}/reviews", json.dumps(body).encode(), headers={"Content-Type": "application/json"}
    )
    assert 422 == answer.status
    assert {"error_code", "message", "remedy"} == set(answer.json())


def test_unknown_candidate_is_said_to_be_so(scene: ReviewScene) -> None:
    assert 404 == scene.call("engineer", "/reviews", {"candidate": "m-" + "0" * 32}).status
    assert 404 == scene.call("reader", "/reviews/m-" + "0" * 32).status
    assert 404 == scene.server.ask("GET", "/twinseal/review/m-" + "0" * 32, who="alice").status
    assert 400 == scene.server.ask("GET", "/twinseal/review/..%2f..", who="alice").status
