"""The decisions of one reviewer about one release: only the newest counts, whichever file is in approvals/."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.trust.scenes import NOW, Scene, describe
from twinseal.digests import canonical_json
from twinseal.errors import AuditError, EvidenceError
from twinseal.registry import registration
from twinseal.trust.audit import Log, log_of
from twinseal.trust.keys.key import NamedSigner
from twinseal.trust.release import repository
from twinseal.trust.release.approval import Reviews, approve, read_all, reject
from twinseal.trust.release.request import Request
from twinseal.trust.release.review_file import MAX_COMMENT, Said, sign_review


class Office:
    """A registrar's home with a release that waits, and reviewers who decide at machines with logs of their own."""

    def __init__(self, scene: Scene, bundle: Path, path: Path) -> None:
        self.scene, self.bundle, self.path = scene, bundle, path
        release = describe(bundle)
        role = repository.stage(scene.home, release, expires=scene.roles.expiry("reviewer", NOW))
        self.request = Request(release, role)
        self.request.write(path / "release")
        self.approvals = path / "approvals"
        self.registrars_log = log_of(scene.home.path)

    def approve(self, holder: str, log: Log, comment: str = "seen") -> bytes:
        reviewer = NamedSigner(holder, self.scene.signer(holder))
        more: dict[str, Any] = {"roles": self.scene.roles, "last": None, "anchor": self.scene.anchor}
        done = approve(self.approvals, self.request, self.bundle, reviewer, audit=log, now=NOW, comment=comment, **more)
        return done.path.read_bytes()

    def reject(self, holder: str, log: Log) -> bytes:
        reviewer = NamedSigner(holder, self.scene.signer(holder))
        more: dict[str, Any] = {"anchor": self.scene.anchor, "audit": log, "now": NOW, "comment": "no"}
        return reject(self.approvals, self.request, reviewer, **more).path.read_bytes()

    def put_back(self, holder: str, data: bytes) -> None:
        (self.approvals / f"{holder}.json").write_bytes(data)

    def register(self) -> str:
        """Without a store: it is refused, or pending, before MLflow is asked anything."""
        places = (self.scene.home, self.bundle, self.path / "release", self.approvals)
        return registration.register(None, *places, roles=self.scene.roles, now=NOW).status  # type: ignore[arg-type]

    def read(self, log: Log | None = None) -> Reviews:
        return read_all(self.approvals, self.request, self.scene.anchor, log or self.registrars_log)

    @property
    def standings(self) -> dict[str, str]:
        return {item.holder: item.standing for item in self.read().items}


@pytest.fixture
def office(stage: Scene, bundle: Path, tmp_path: Path) -> Office:
    return Office(stage, bundle, tmp_path)


@pytest.mark.attack("P")
def test_an_approval_that_was_taken_back_does_not_count_when_its_file_is_put_back(office: Office) -> None:
    """A reviewer approves, then rejects; the file of the approval is put back: it does not count again."""
    approved = office.approve("alice", office.registrars_log)
    assert ("alice",) == office.read().count.signed
    office.reject("alice", office.registrars_log)
    office.put_back("alice", approved)
    office.approve("bruno", office.registrars_log)
    assert ({"alice": "superseded", "bruno": "approved"}, ("bruno",)) == (office.standings, office.read().count.signed)
    assert "decision 1 of alice about release 1; the audit log has decision 2" == office.read().items[0].reason
    assert "pending" == office.register()
    assert repository.current_release(office.scene.home, "pump-rul") is None
    assert "registered" not in [entry.event for _, entry in office.registrars_log.read()]


@pytest.mark.attack("P")
def test_a_registrar_elsewhere_remembers_the_newest_decision_that_it_saw(office: Office, tmp_path: Path) -> None:
    """The same, where reviewer and registrar have machines of their own: the registrar saw the rejection once."""
    alices, brunos = Log(tmp_path / "alice" / "log"), Log(tmp_path / "bruno" / "log")
    approved = office.approve("alice", alices)
    assert "pending" == office.register()
    office.reject("alice", alices)
    assert "pending" == office.register()
    office.put_back("alice", approved)
    office.approve("bruno", brunos)
    assert "pending" == office.register()
    assert repository.current_release(office.scene.home, "pump-rul") is None
    received = [entry for _, entry in office.registrars_log.read() if entry.event == "received"]
    assert [("alice", "approve", "1"), ("alice", "reject", "2"), ("bruno", "approve", "1")] == [
        (item.details["holder"], item.details["decision"], item.details["sequence"]) for item in received
    ]
    assert {"registrar"} == {item.actor for item in received}
    assert "pending" == office.register()  # and nothing is noted twice
    assert 3 == len([entry for _, entry in office.registrars_log.read() if entry.event == "received"])


def test_a_reviewer_may_change_their_mind_as_often_as_they_like(office: Office, tmp_path: Path) -> None:
    log = Log(tmp_path / "alice" / "log")
    for number in range(3):
        office.approve("alice", log, f"read {number}")
        office.reject("alice", log)
    office.approve("alice", log)
    assert {"alice": "approved"} == office.standings
    value = json.loads((office.approvals / "alice.json").read_bytes())
    assert (7, 64) == (value["sequence"], len(value["previous"]))


def test_a_reviewer_on_a_new_machine_goes_on_from_the_file(office: Office, tmp_path: Path) -> None:
    office.approve("alice", Log(tmp_path / "old" / "log"))
    office.register()
    office.reject("alice", Log(tmp_path / "new" / "log"))
    assert {"alice": "rejected"} == office.standings
    assert 2 == json.loads((office.approvals / "alice.json").read_bytes())["sequence"]


@pytest.mark.attack("P")
def test_the_reviewers_own_machine_does_not_take_an_old_file_for_the_newest_decision(office: Office) -> None:
    """The old approval is put back, and the reviewer rejects again: a new rejection is signed and logged."""
    approved = office.approve("alice", office.registrars_log)
    office.reject("alice", office.registrars_log)
    office.put_back("alice", approved)
    office.reject("alice", office.registrars_log)
    assert {"alice": "rejected"} == office.standings
    assert 3 == json.loads((office.approvals / "alice.json").read_bytes())["sequence"]


@pytest.mark.attack("P")
def test_the_release_is_staged_anew_and_the_old_request_is_put_back_with_its_approvals(office: Office) -> None:
    """A rejected release was staged twice; the first request and its approvals are put back: not counted."""
    first, approved = office.request, office.approve("alice", office.registrars_log)
    office.request = Request(
        first.release,
        repository.stage(
            office.scene.home, first.release, expires=office.scene.roles.expiry("reviewer", NOW).replace(hour=11)
        ),
    )
    assert {"alice": "stale"} == office.standings
    office.reject("alice", office.registrars_log)
    office.request = first
    office.put_back("alice", approved)
    assert {"alice": "superseded"} == office.standings


@pytest.mark.attack("P")
def test_the_first_of_two_candidates_for_one_version_is_put_back(office: Office) -> None:
    """Two candidates for one version: one is approved, then the other rejected; the first is put back: not counted."""
    first, approved = office.request, office.approve("alice", office.registrars_log)
    other = replace(first.release, mlflow_model_id="m-" + "1" * 32)
    until = office.scene.roles.expiry("reviewer", NOW)
    office.request = Request(other, repository.stage(office.scene.home, other, expires=until))
    assert {"alice": "stale"} == office.standings
    office.reject("alice", office.registrars_log)
    office.request = first
    office.put_back("alice", approved)
    assert {"alice": "superseded"} == office.standings
    office.approve("alice", office.registrars_log)
    assert {"alice": "approved"} == office.standings


@pytest.mark.parametrize("previous", ["a" * 64, None])
def test_two_sequences_of_one_reviewer_are_seen(office: Office, tmp_path: Path, previous: str | None) -> None:
    """The same number with other words, or one that names another decision before it: a second machine, or a trick."""
    office.approve("alice", office.registrars_log)
    value = json.loads((office.approvals / "alice.json").read_bytes())
    number, before = (2, previous) if previous else (1, "")
    said = Said("alice", "approve", "other", value["time"], "pump-rul", 1, value["role_sha256"], number, before)
    forged, _ = sign_review(office.request, NamedSigner("alice", office.scene.signer("alice")), said)
    office.put_back("alice", canonical_json(forged))
    (item,) = office.read().items
    assert ("invalid", True) == (item.standing, "to be, or to follow, that of the audit log" in item.reason)
    office.approve("alice", office.registrars_log)
    assert {"alice": "approved"} == office.standings


def test_without_the_registrars_log_nothing_is_registered(office: Office) -> None:
    office.approve("alice", office.registrars_log)
    office.registrars_log.path.rename(office.path / "elsewhere")
    with pytest.raises(AuditError, match="expected the audit log that the first root began, got none"):
        office.register()


def test_a_comment_is_signed_whole_or_not_at_all(office: Office) -> None:
    with pytest.raises(EvidenceError, match="comment: expected at most 4000 characters, got 4001"):
        office.approve("alice", office.registrars_log, "x" * (MAX_COMMENT + 1))
    assert not office.approvals.exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"sequence": 0},
        {"sequence": True},
        {"sequence": 2},
        {"previous": "a" * 64},
        {"previous": 7},
        {"time": "yesterday"},
        {"time": "2026-03-01T12:00:00Z\napproved by 2"},
        {"comment": "x" * (MAX_COMMENT + 1)},
        {"decision": "perhaps"},
        {"version": "1"},
        {"role_sha256": ""},
    ],
)
def test_a_statement_that_says_what_cannot_be_is_none(changes: dict[str, Any]) -> None:
    fields: dict[str, Any] = {"holder": "alice", "decision": "approve", "comment": "", "time": "2026-03-01T12:00:00Z"}
    fields |= {"model": "pump-rul", "version": 1, "role_sha256": "a" * 64, "sequence": 1, "previous": ""}
    assert Said(**fields).to_dict() == fields
    with pytest.raises(EvidenceError):
        Said(**fields | changes)
