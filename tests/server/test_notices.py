"""Notices from a real server to real receivers: each event once, signed, in order; late rather than never."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.server.receivers import (
    Mailbox,
    Receiver,
    free_port,
    is_signed,
    mailbox,
    new_secret,
    receiving,
    until,
)
from tests.server.review_scene import ReviewScene
from tests.server.scene import API, Server, deployment, serving
from tests.twin.deployment import MODEL, OTHER

EVIL = "fine\r\nBcc: everyone@evil.test\r\n\r\n<script>alert(1)</script>\x1b[2J\x00\u202e{{7*7}} =1+1" + "x" * 3900
OWN_HOOKS = {"MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "http,https", "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true"}
ROLES = ("reader", "engineer", "reviewer", "registrar")
DECIDED = ["waits", "approved", "rejected", "withdrawn", "commented", "published"]


@dataclass
class Told:
    """A server that tells, and whom."""

    scene: ReviewScene
    hook: Receiver
    mail: Mailbox
    key: bytes

    def about(self, candidate: str) -> list[Any]:
        return [item for item in self.hook.taken() if item["candidate"] == candidate]


def settings(home: Path, *hooks: dict[str, Any], **more: Any) -> None:
    (home / "server.yaml").write_text(yaml.safe_dump({"notices": {"webhooks": list(hooks), **more}}))


def scene_of(made: Any, server: Server, *enrolled: str) -> ReviewScene:
    scene = ReviewScene(made, server)
    for holder in enrolled:
        scene.enroll(holder)
    return scene


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    path = tmp_path_factory.mktemp("notices")
    made, key = deployment(path), new_secret(path / "secret")
    with ExitStack() as stack:
        hook, mail = stack.enter_context(receiving()), stack.enter_context(mailbox())
        smtp = {"host": "127.0.0.1", "port": mail.port, "security": "none", "from": "twinseal@plant.test"}
        smtp |= {"to": ["a@plant.test", "b@plant.test"], "events": DECIDED}
        settings(made.home.path, {"url": hook.url(), "secret_file": str(path / "secret")}, smtp=smtp)
        server = stack.enter_context(serving(made.home.path, env=OWN_HOOKS))
        yield Told(scene_of(made, server, "alice", "bruno"), hook, mail, key)


def test_every_event_arrives_once_signed_and_in_order(told: Told) -> None:
    scene = told.scene
    model_id = scene.submit(1)
    for who, decision, words in (
        ("alice", "comment", "which data?"),
        ("alice", "reject", "too few failures"),
        ("alice", "withdraw", "found them"),
        ("alice", "approve", "good"),
        ("bruno", "approve", ""),
    ):
        assert 200 == scene.decide(who, model_id, decision, words).status
    expected = ["waits", "commented", "rejected", "withdrawn", "approved", "approved", "published"]
    until(lambda: len(told.about(model_id)) >= len(expected))
    time.sleep(1)  # for one too many
    found = told.about(model_id)
    assert expected == [item["event"] for item in found]
    assert ["engineer", "alice", "alice", "alice", "alice", "bruno", "registrar"] == [item["actor"] for item in found]
    assert ["", "which data?", "too few failures", "found them", "good", "", ""] == [item["comment"] for item in found]
    assert {(MODEL, 1, f"{scene.server.url}/twinseal/review/{model_id}")} == {
        (item["model"], item["release"], item["url"]) for item in found
    }
    assert [2, 2, 2, 2, 1, 0, 0] == [item["missing"]["signatures"] for item in found]
    assert [[], [], ["alice"], [], [], [], []] == [item["missing"]["rejected_by"] for item in found]
    assert all(is_signed(item, told.key) for item in told.hook.got)
    assert all(item.headers["webhook-id"] == item.value["id"] for item in told.hook.got)
    assert len({item["id"] for item in told.hook.taken()}) == len(told.hook.taken())


def test_mail_says_the_same(told: Told) -> None:
    until(lambda: len(told.mail.mails) >= 7)
    subjects = [mail["subject"].strip() for mail in told.mail.mails]  # a long one has a line of its own
    assert "[twinseal] pump-rul release 1: waits for review, submitted by engineer" == subjects[0]
    assert "[twinseal] pump-rul release 1: rejected by alice" in subjects
    assert "[twinseal] pump-rul release 1: published" in subjects
    first = told.mail.mails[0]
    assert ("twinseal@plant.test", "a@plant.test, b@plant.test") == (first["from"], first["to"])
    assert "Signatures that are missing: 2" in first.get_content()
    assert f"{told.scene.server.url}/twinseal/review/m-" in first.get_content()


def test_ends_are_said_once(told: Told) -> None:
    """Everything in this deployment ends in 30 days; and nothing is said again in the next round."""
    ends = until(lambda: [item for item in told.hook.taken() if item["event"] == "expires_soon"])
    names = [item["expires"]["what"] for item in ends]
    assert {"root", "targets"} <= set(names)
    assert len(set(names)) == len(names)
    assert {30} == {item["expires"]["within_days"] for item in ends}


@pytest.mark.attack("S")
def test_comment_stays_text(told: Told) -> None:
    """A reviewer comments with line breaks, headers of mail, markup and control characters, 4,000 long."""
    model_id = told.scene.submit(60, OTHER)
    before = len(told.mail.mails)
    assert 200 == told.scene.decide("alice", model_id, "comment", EVIL[:4000]).status
    found = until(lambda: [item for item in told.about(model_id) if item["event"] == "commented"])
    assert EVIL[:499] + "…" == found[0]["comment"]
    raw = next(item for item in told.hook.got if item.value["id"] == found[0]["id"]).body
    assert re.fullmatch(rb"[ -~]*", raw)
    mails = until(lambda: [mail for mail in told.mail.mails[before:] if "commented on by alice" in mail["subject"]])
    assert (None, "a@plant.test, b@plant.test") == (mails[0]["bcc"], mails[0]["to"])
    assert ("text/plain", False) == (mails[0].get_content_type(), mails[0].is_multipart())
    text = mails[0].get_content().replace("\r\n", "\n")
    assert "> Bcc: everyone@evil.test\n" in text
    assert "> <script>alert(1)</script>\N{REPLACEMENT CHARACTER}[2J" in text
    assert not set("\x1b\x00\u202e") & set(text)


@pytest.mark.proof
def test_receiver_that_fails_first_gets_it_later_and_delays_nobody(told: Told) -> None:
    told.hook.statuses[:] = [500]
    started = time.monotonic()
    model_id = told.scene.submit(61, OTHER)
    assert 200 == told.scene.decide("bruno", model_id, "comment", "first").status
    asked_s = time.monotonic() - started
    until(lambda: len(told.about(model_id)) >= 2)
    assert ["waits", "commented"] == [item["event"] for item in told.about(model_id)]
    ids = [item.value["id"] for item in told.hook.got if item.value["candidate"] == model_id]
    assert (ids[0], 3) == (ids[1], len(ids))  # the same notice again; the later one waited for it
    assert asked_s < 10


@pytest.mark.proof
def test_slow_receiver_delays_nobody(told: Told) -> None:
    told.hook.delay_s = 8.0
    try:
        started = time.monotonic()
        model_id = told.scene.submit(62, OTHER)
        assert 200 == told.scene.decide("alice", model_id, "comment", "still here").status
        assert time.monotonic() - started < 6
    finally:
        told.hook.delay_s = 0.0
    until(lambda: {"waits", "commented"} == {item["event"] for item in told.about(model_id)})
    assert {"waits", "commented"} == {item["event"] for item in told.about(model_id)}  # some twice: it did answer


@pytest.mark.proof
@pytest.mark.attack("S")
def test_redirect_is_not_followed(told: Told) -> None:
    """A receiver sends notices on to another address."""
    told.hook.statuses[:] = [307]
    model_id = told.scene.submit(63, OTHER)
    until(lambda: told.about(model_id))
    assert ["waits"] == [item["event"] for item in told.about(model_id)]
    assert {"/hook"} == {item.path for item in told.hook.got if "webhook-id" in item.headers}


def test_metrics_count_notices(told: Told) -> None:
    def counts() -> dict[str, float]:
        text = told.scene.server.ask("GET", "/twinseal/metrics").body.decode()
        return {name: float(value) for name, value in re.findall(r"^twinseal_notices_(\w+) (\S+)$", text, re.MULTILINE)}

    until(lambda: counts()["waiting"] == 0)
    found = counts()
    assert (0, 0) == (found["waiting"], found["failed_total"])
    assert found["sent_total"] >= len({item["id"] for item in told.hook.taken()}) + len(told.mail.mails)


@pytest.mark.attack("S")
@pytest.mark.parametrize("who", ROLES)
def test_webhooks_of_mlflow_are_the_registrars(told: Told, who: str) -> None:
    """An account without the role has MLflow send requests from this server, or reads where it sends them."""
    body = {
        "name": f"of-{who}",
        "url": told.hook.url("/mlflow"),
        "events": [{"entity": "MODEL_VERSION", "action": "CREATED"}],
    }
    for path in (API, API.replace("/api/", "/ajax-api/")):
        answers = [
            told.scene.server.ask("POST", f"{path}webhooks", body, who=who),
            told.scene.server.ask("GET", f"{path}webhooks", who=who),
        ]
        expected = 200 if who == "registrar" else 403
        assert {expected} == {answer.status for answer in answers}, answers
        if who == "registrar":
            made = answers[0].json()["webhook"]["webhook_id"]
            for way, rest in (("POST", "/test"), ("DELETE", "")):
                sent = {} if way == "POST" else None
                assert 403 == told.scene.server.ask(way, f"{path}webhooks/{made}{rest}", sent, who="engineer").status
            assert 200 == told.scene.server.ask("DELETE", f"{path}webhooks/{made}", who=who).status


def test_webhooks_of_mlflow_tell_what_mlflow_knows(told: Told) -> None:
    """Registered models, versions and aliases, signed with the secret that MLflow keeps encrypted."""
    import base64
    import hashlib
    import hmac

    kinds = [("REGISTERED_MODEL", "CREATED"), ("MODEL_VERSION", "CREATED"), ("MODEL_VERSION_ALIAS", "CREATED")]
    events = [{"entity": entity, "action": action} for entity, action in kinds]
    body = {"name": "of-MLflow", "url": told.hook.url("/mlflow"), "secret": "a secret of MLflow's", "events": events}
    assert 200 == told.scene.server.post("webhooks", body, who="registrar").status
    server = told.scene.server
    assert 200 == server.post("registered-models/create", {"name": "plain"}).status
    run = server.post("runs/create", {"experiment_id": "0"}).json()["run"]["info"]
    source = {"name": "plain", "source": f"{run['artifact_uri']}/model", "run_id": run["run_id"]}
    assert 200 == server.post("model-versions/create", source).status
    assert 200 == server.post("registered-models/alias", {"name": "plain", "alias": "best", "version": "1"}).status
    until(lambda: len(told.hook.taken("/mlflow")) >= 3)
    got = [item for item in told.hook.got if item.path == "/mlflow"]
    assert {"registered_model", "model_version", "model_version_alias"} == {item.value["entity"] for item in got}
    for item in got:
        about = f"{item.headers['x-mlflow-delivery-id']}.{item.headers['x-mlflow-timestamp']}.".encode() + item.body
        expected = hmac.digest(b"a secret of MLflow's", about, hashlib.sha256)
        assert f"v1,{base64.b64encode(expected).decode()}" == item.headers["x-mlflow-signature"]


def test_example_receiver_believes_what_is_signed_alone(tmp_path: Path) -> None:
    from twinseal.server.notice_settings import NoticeSettings, Webhook
    from twinseal.server.senders import SendError, send

    new_secret(tmp_path / "secret")
    new_secret(tmp_path / "other")
    program = Path(__file__).parents[2] / "docs/examples/webhook_receiver.py"
    words = [sys.executable, str(program), str(tmp_path / "secret"), "0"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            notice = {"event": "waits", "id": "msg_" + "0" * 32}
            hooks = [Webhook(url=url, secret_file=str(tmp_path / name)) for name in ("secret", "other", "secret")]
            send(hooks[0], notice, NoticeSettings())
            assert str(notice) == process.stdout.readline().strip()
            with pytest.raises(SendError, match="expected 2xx, got 401"):
                send(hooks[1], notice, NoticeSettings())
            send(hooks[2], notice, NoticeSettings())  # again: taken, and not said twice
            send(hooks[2], {**notice, "id": "msg_" + "1" * 32}, NoticeSettings())
            assert "msg_1" in process.stdout.readline()
        finally:
            process.terminate()


@pytest.mark.attack("S")
@pytest.mark.proof
def test_server_is_killed_between_decision_and_delivery(tmp_path: Path) -> None:
    """The server is killed (SIGKILL) when a decision was answered and its receiver was down."""
    made, key, port = deployment(tmp_path), new_secret(tmp_path / "secret"), free_port()
    hook = {"url": f"http://127.0.0.1:{port}/hook", "secret_file": str(tmp_path / "secret"), "events": DECIDED}
    settings(made.home.path, hook)
    waiting = made.home.path / "mlflow/notices/waiting"
    with serving(made.home.path) as server:
        scene = scene_of(made, server, "alice")
        model_id = scene.submit(1)
        assert 200 == scene.decide("alice", model_id, "reject", "no").status
        os.killpg(server.process.pid, signal.SIGKILL)
        server.process.wait(timeout=20)
    assert ["waits", "rejected"] == [
        json.loads(path.read_text())["notice"]["event"] for path in sorted(waiting.glob("*.json"))
    ]
    # And killed before that was written: the log alone has the decision.
    for path in sorted(waiting.glob("*.json"))[1:]:
        path.unlink()
    state = made.home.path / "mlflow/notices/state.json"
    value = json.loads(state.read_text())
    state.write_text(json.dumps(value | {"log": value["log"] - 1}))
    with receiving(port) as receiver, serving(made.home.path, people=False):
        until(lambda: len(receiver.taken()) >= 2)
        assert [("waits", model_id), ("rejected", model_id)] == [
            (item["event"], item["candidate"]) for item in receiver.taken()
        ]
        assert all(is_signed(item, key) for item in receiver.got)
        until(lambda: not list(waiting.glob("*.json")))
        assert [] == list(waiting.glob("*.json"))
