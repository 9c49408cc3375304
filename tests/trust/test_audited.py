"""What is decided is in the audit log before it counts; what cannot be logged does not happen, and changes nothing."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.trust.scenes import NOW, POLICY_SHA, Scene, describe, judge, make_bundle, with_predicate
from twinseal.digests import sha256
from twinseal.errors import AuditError, GateRefusedError, SignatureError, TwinsealError
from twinseal.registry import registration
from twinseal.registry.run import RunRecord
from twinseal.trust.audit import Log, log_of, verify
from twinseal.trust.keys.key import NamedSigner
from twinseal.trust.release import repository
from twinseal.trust.release.approval import RecordedDecision, approve, reject
from twinseal.trust.release.request import Request

LATER = NOW + timedelta(hours=1)


class Desk:
    """A home, a bundle whose release waits, and the folders that the commands use."""

    def __init__(self, stage: Scene, bundle: Path, path: Path) -> None:
        self.scene, self.bundle, self.path = stage, bundle, path
        self.release = describe(bundle)
        self.role = repository.stage(stage.home, self.release, expires=stage.roles.expiry("reviewer", NOW))
        Request(self.release, self.role).write(path / "release")

    @property
    def log(self) -> Log:
        return log_of(self.scene.home.path)

    @property
    def events(self) -> list[tuple[str, str, int, str]]:
        """What was decided since the root, which is the first entry."""
        return [(item.event, item.actor, item.version, item.sha256) for _, item in self.log.read(1)]

    @property
    def request(self) -> Request:
        return Request(self.release, self.role)

    def approve(self, holder: str, **changes: Any) -> RecordedDecision:
        reviewer = NamedSigner(holder, self.scene.signer("alice" if "alice" in holder else holder))
        last = repository.last_published(self.scene.home, self.release.model)
        options = {"roles": self.scene.roles, "last": last, "anchor": self.scene.anchor, "audit": self.log}
        options |= {"now": NOW, "comment": "seen"} | changes
        return approve(self.path / "approvals", self.request, self.bundle, reviewer, **options)

    def reject(self, holder: str) -> RecordedDecision:
        reviewer = NamedSigner(holder, self.scene.signer(holder))
        options: dict[str, Any] = {"anchor": self.scene.anchor, "audit": self.log, "now": NOW, "comment": "no"}
        return reject(self.path / "approvals", self.request, reviewer, **options)

    def register(self, store: Any = None) -> registration.Registration:
        """Without a store it must be refused before MLflow is asked anything."""
        places = (self.scene.home, self.bundle, self.path / "release", self.path / "approvals")
        beside = SimpleNamespace(tracking_uri="sqlite:///not/asked")
        return registration.register(store or beside, *places, roles=self.scene.roles, now=LATER)

    @property
    def decision_files(self) -> list[str]:
        return sorted(path.name for path in (self.path / "approvals").glob("*"))


@pytest.fixture
def desk(stage: Scene, bundle: Path, tmp_path: Path) -> Desk:
    return Desk(stage, bundle, tmp_path)


def test_the_way_of_a_release_is_in_the_log(desk: Desk) -> None:
    desk.approve("alice")
    desk.reject("chiara")
    digest = desk.release.sha256
    assert [("approved", "alice", 1, digest), ("rejected", "chiara", 1, digest)] == desk.events
    assert ["alice.json", "chiara.json"] == desk.decision_files
    written = json.loads((desk.path / "approvals/alice.json").read_bytes())
    statement = sha256(base64.b64decode(written["review"]["payload"]))
    assert {"comment": "seen", "sequence": "1", "review": statement} == desk.log.read(1, 2)[0][1].details
    assert 3 == verify(desk.log.path).size


def test_a_refused_approval_is_logged_as_refused(desk: Desk) -> None:
    desk.approve("alice")
    judge(desk.bundle, desk.scene.home, "pump-rul", with_predicate(verificationResult="FAILED"))
    desk.release = describe(desk.bundle)
    desk.role = repository.stage(desk.scene.home, desk.release, expires=desk.scene.roles.expiry("reviewer", NOW))
    with pytest.raises(GateRefusedError):
        desk.approve("bruno")
    ((_, last),) = desk.log.read(-1)
    assert ("refused", "bruno", desk.release.sha256) == (last.event, last.actor, last.sha256)
    assert ("approved", "GateRefusedError") == (last.details["attempted"], last.details["error"])
    with pytest.raises(SignatureError):
        desk.approve("../alice")
    assert "../alice" == desk.log.read(-1)[0][1].actor
    assert ["alice.json"] == desk.decision_files


def test_the_same_decision_again_is_reported_and_not_logged_or_written_twice(desk: Desk) -> None:
    first = desk.approve("alice")
    written = first.path.read_bytes()
    again = desk.approve("alice", now=LATER)
    assert (True, False, first.path) == (first.is_new, again.is_new, again.path)
    assert (written, 1) == (first.path.read_bytes(), len(desk.events))
    assert (True, False) == (desk.reject("chiara").is_new, desk.reject("chiara").is_new)
    assert ["approved", "rejected"] == [event for event, *_ in desk.events]


def test_another_comment_or_decision_or_a_forged_file_is_decided_anew(desk: Desk) -> None:
    path = desk.approve("alice").path
    assert desk.approve("alice", comment="read again").is_new
    assert desk.reject("alice").is_new
    assert desk.approve("alice").is_new
    path.write_text(path.read_text().replace("seen", "sign it too"))
    assert desk.approve("alice", comment="sign it too").is_new
    assert ["approved", "approved", "rejected", "approved", "approved"] == [event for event, *_ in desk.events]


def test_an_approval_that_is_there_does_not_excuse_a_bundle_that_was_changed(desk: Desk) -> None:
    desk.approve("alice")
    judge(desk.bundle, desk.scene.home, "pump-rul", with_predicate(verificationResult="FAILED"))
    with pytest.raises(TwinsealError, match="assess.dsse.json: expected sha256"):
        desk.approve("alice")


def no_key(folder: Path) -> None:
    (folder / "key").unlink()


def a_file_in_its_place(folder: Path) -> None:
    folder.rename(folder.with_name("moved"))
    folder.write_bytes(b"")


def edited(folder: Path) -> None:
    for path in (folder / "tile/entries/000.p").iterdir():
        path.write_bytes(path.read_bytes().replace(b"alice", b"bruno"))


HARMS = pytest.mark.parametrize("harm", [no_key, a_file_in_its_place, edited], ids=lambda harm: str(harm.__name__))


@HARMS
def test_what_cannot_be_logged_is_not_approved_or_rejected(harm: Callable[[Path], None], desk: Desk) -> None:
    desk.approve("alice")
    harm(desk.log.path)
    for act in (desk.approve, desk.reject):
        with pytest.raises(AuditError) as refusal:
            act("bruno")
        assert "This refusal is not in the audit log" in refusal.value.remedy
    assert ["alice.json"] == desk.decision_files


@HARMS
def test_what_cannot_be_logged_is_not_registered(harm: Callable[[Path], None], desk: Desk) -> None:
    desk.approve("alice")
    second = Log(desk.path / "bruno" / "log")  # bruno decides on a machine of his own
    desk.approve("bruno", audit=second)
    before = {path: path.read_bytes() for path in desk.scene.home.repository.rglob("*.json")}
    harm(desk.log.path)
    with pytest.raises(AuditError):
        desk.register()
    assert before == {path: path.read_bytes() for path in desk.scene.home.repository.rglob("*.json")}
    assert repository.current_release(desk.scene.home, "pump-rul") is None


def test_a_release_is_submitted_and_registered_in_the_log_once(store: Any, scene: Scene, tmp_path: Path) -> None:
    stage = scene.copy(tmp_path / "home")
    bundle = make_bundle(tmp_path / "bundle", stage.home)
    said: dict[str, Any] = {"run": RunRecord({}, {}), "roles": stage.roles, "now": NOW}
    made = registration.request(
        store, stage.home, bundle, tmp_path / "release", model="pump-rul", policy_sha256=POLICY_SHA, **said
    )
    desk = Desk(stage, bundle, tmp_path)
    desk.release, desk.role = made.release, made.role_bytes
    made.write(tmp_path / "release")
    assert "pending" == desk.register(store).status
    desk.approve("alice")
    desk.approve("bruno")
    assert ["registered", "published"] == [desk.register(store).status for _ in range(2)]
    kinds = [
        (event, actor) for event, actor, version, digest in desk.events if (version, digest) == (1, made.release.sha256)
    ]
    assert [
        ("submitted", "builder"),
        ("approved", "alice"),
        ("approved", "bruno"),
        ("registered", "registrar"),
    ] == kinds
    assert {"approved_by": "alice, bruno"} == desk.log.read(-1)[0][1].details


def test_what_cannot_be_logged_is_not_requested(store: Any, scene: Scene, tmp_path: Path) -> None:
    stage = scene.copy(tmp_path / "home")
    bundle = make_bundle(tmp_path / "bundle", stage.home)
    shutil.rmtree(log_of(stage.home.path).path)
    log_of(stage.home.path).path.write_bytes(b"")
    said: dict[str, Any] = {"run": RunRecord({}, {}), "roles": stage.roles, "now": NOW}
    with pytest.raises(TwinsealError, match="expected to write to the audit log, got File exists"):
        registration.request(
            store, stage.home, bundle, tmp_path / "release", model="pump-rul", policy_sha256=POLICY_SHA, **said
        )
    assert not (tmp_path / "release").exists()
