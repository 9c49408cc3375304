"""The registrar's rounds, and what the desk keeps: in this process, over a real deployment and MLflow's own store."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from tests.server.scene import deployment, now, submitted
from tests.twin.deployment import MODEL, OTHER, Deployment
from twinseal.cli.custodians import warn_of_lost_approvals
from twinseal.errors import AuditError, EvidenceError, TwinsealError
from twinseal.registry import registration
from twinseal.registry.store import sqlite_uri
from twinseal.server import reviews as desk_module
from twinseal.server.cases import OFFERED, SUBMITTED
from twinseal.server.gate import PERSON
from twinseal.server.observing import Observer
from twinseal.server.pages import page_routes
from twinseal.server.people import Person
from twinseal.server.registrar import Registrar
from twinseal.server.reviews import Desk
from twinseal.server.settings import ServerSettings
from twinseal.trust.audit import log_of
from twinseal.trust.ceremonies import ceremony
from twinseal.trust.keys.key import NamedSigner
from twinseal.trust.release import approval, repository

EMMA = Person("emma", frozenset({"engineer"}))


@dataclass
class Office:
    """A deployment, its desk and its registrar, without a server."""

    made: Deployment
    desk: Desk
    registrar: Registrar

    def candidate(self, seed: int = 1, model: str = MODEL) -> str:
        """One that waits for reviewers."""
        model_id, _ = submitted(self.made, seed, model)
        self.desk.open(model_id, EMMA, now())
        return model_id

    def approve(self, model_id: str, *holders: str) -> None:
        """As from a terminal beside the server."""
        home, request = self.made.home, self.desk.request(model_id)
        for holder in holders:
            approval.approve(
                self.desk.folder / model_id / "approvals",
                request,
                self.desk.candidates.folder(model_id),
                NamedSigner(holder, home.signer(holder)),
                anchor=home.anchor(),
                roles=self.made.roles,
                last=repository.last_published(home, request.release.model),
                audit=log_of(home.path),
                now=now(),
            )

    def events(self) -> list[str]:
        return [entry.event for _, entry in log_of(self.made.home.path).read()]

    def version(self, model: str = MODEL) -> int:
        found = repository.current_release(self.made.home, model)
        return 0 if found is None else found.version


@pytest.fixture
def office(tmp_path: Path) -> Office:
    made = deployment(tmp_path)
    desk = Desk(made.home, sqlite_uri(made.home.path))
    return Office(made, desk, Registrar(desk))


def damage(office: Office, model_id: str) -> Path:
    path = office.desk.candidates.folder(model_id) / "model" / "model.safetensors"
    path.write_bytes(path.read_bytes() + b"x")
    return path


def test_without_its_key_nothing_is_published_and_nothing_logged(office: Office) -> None:
    model_id = office.candidate()
    office.approve(model_id, "alice", "bruno")
    key = office.made.home.keys / "registrar.pem"
    kept, before = key.read_bytes(), office.events()
    key.unlink()
    for _ in range(5):
        office.registrar.one_round(now())
    assert (0, before) == (office.version(), office.events())
    state, note = office.registrar.publish(office.desk.find(model_id))
    assert ("approved", True) == (state, "this server has no registrar's key" in note)
    key.write_bytes(kept)
    key.chmod(0o600)
    Registrar(office.desk).one_round(now())  # as after a restart
    assert 1 == office.version()


def test_what_cannot_be_published_stops_no_other_and_is_logged_once(office: Office) -> None:
    bad, good = office.candidate(1), office.candidate(2, OTHER)
    for model_id in (bad, good):
        office.approve(model_id, "alice", "bruno")
    damage(office, bad)
    office.registrar.one_round(now())
    assert (0, 1) == (office.version(), office.version(OTHER))
    once = office.events()
    for _ in range(5):
        office.registrar.one_round(now())
    assert (once, 1) == (office.events(), once.count("registered"))


def test_released_anew_it_is_not_done_before_it_is_done(office: Office) -> None:
    model_id = office.candidate()
    office.approve(model_id, "alice", "bruno")
    office.registrar.one_round(now())
    assert (1, True) == (office.version(), (office.desk.folder / model_id / OFFERED).exists())
    assert () == office.desk.due()
    office.desk.open(model_id, EMMA, now())
    assert not (office.desk.folder / model_id / OFFERED).exists()
    office.approve(model_id, "alice", "chiara")
    assert [model_id] == [item.model_id for item in office.desk.due()]
    office.registrar.one_round(now())
    assert 2 == office.version()


def test_one_models_evidence_stops_no_renewal(office: Office) -> None:
    for seed, model in ((1, MODEL), (2, OTHER)):
        office.approve(office.candidate(seed, model), "alice", "bruno")
    office.registrar.one_round(now())
    assert (1, 1) == (office.version(), office.version(OTHER))
    for record in (office.made.home.path / "released" / MODEL).rglob("*.dsse.json"):
        record.write_bytes(b"{}")
    before = repository.timestamp(office.made.home).version
    office.registrar.one_round(now() + timedelta(days=20))
    assert before + 1 == repository.timestamp(office.made.home).version


def test_release_that_lost_an_approval_is_said_to_be_so(office: Office, capsys: pytest.CaptureFixture[str]) -> None:
    office.approve(office.candidate(), "alice", "bruno")
    office.registrar.one_round(now())
    home = office.made.home
    assert [] == Observer(home).faults()
    warn_of_lost_approvals(home, "chiara")
    assert "" == capsys.readouterr().err
    warn_of_lost_approvals(home, "alice")
    assert "the current release of pump-rul then lacks an approval" in capsys.readouterr().err
    ceremony.rotate(home, office.made.roles, "alice", now())
    (fault,) = Observer(home).faults()
    assert ("a release lacks approvals", True) == (fault.kind, "approved by 1 (2 needed): bruno" in fault.detail)


@pytest.mark.attack("S")
def test_server_ends_before_it_says_who_submitted(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server is killed while a candidate is staged, so that whoever submitted it is forgotten, and approves it."""
    model_id, _ = submitted(office.made, 1)
    alice = Person("alice", frozenset({"engineer", "reviewer"}))

    def killed(*_given: object, **_named: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as change:
        change.setattr(registration, "describe_candidate", killed)  # the release is staged; nothing follows
        with pytest.raises(KeyboardInterrupt):
            office.desk.open(model_id, alice, now())
    assert office.desk.request(model_id).release.version == 1
    with pytest.raises(EvidenceError, match="expected a reviewer who did not submit the candidate, got alice"):
        office.desk.draft(model_id, "alice", "approve", "", now())
    (office.desk.folder / model_id / SUBMITTED).unlink()
    with pytest.raises(EvidenceError, match="expected to know who submitted the candidate"):
        office.desk.draft(model_id, "bruno", "approve", "", now())
    office.desk.open(model_id, EMMA, now())  # submitted once more
    assert "approve" == office.desk.draft(model_id, "bruno", "approve", "", now()).said.decision


def test_what_does_not_verify_can_be_rejected_and_not_approved(office: Office) -> None:
    model_id = office.candidate()
    damage(office, model_id)
    with pytest.raises(TwinsealError, match=r"model\.safetensors"):
        office.desk.draft(model_id, "alice", "approve", "", now())
    for decision in ("reject", "comment"):
        said = office.desk.draft(model_id, "alice", decision, "the file is another", now()).said  # type: ignore[arg-type]
        assert (decision, "alice") == (said.decision, said.holder)


def test_older_policy_is_not_approved(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    model_id = office.candidate()
    changes = desk_module.changes_since_release

    def older(*given: object) -> object:
        from dataclasses import replace

        return replace(changes(*given), approval=(2, 1))  # type: ignore[arg-type]

    monkeypatch.setattr(desk_module, "changes_since_release", older)
    with pytest.raises(TwinsealError, match="policy: expected approval 2 of its owners"):
        office.desk.draft(model_id, "alice", "approve", "", now())


@pytest.mark.attack("S")
def test_changed_log_is_no_empty_list(office: Office) -> None:
    """Who changes the audit log makes the review list empty, so that nobody looks."""
    model_id = office.candidate()
    path = office.made.home.path / "log/tile/entries/000.p/2"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(AuditError):
        list(office.desk.all())
    for page in ("", f"/{model_id}"):
        answer = page_of(office, page)
        assert 503 == answer.status_code
        assert "audit log" in answer.text
    (office.made.home.anchor_dir / "root.json").write_bytes(b"{}")
    for page in ("", f"/{model_id}", f"/{model_id}/report"):
        answer = page_of(office, page)
        assert 503 == answer.status_code
        assert "<h1>Refused</h1>" in answer.text


def page_of(office: Office, path: str) -> httpx.Response:
    """A page for the reviewer alice, without the gate."""
    app = Starlette(routes=page_routes(office.desk, ServerSettings()))

    async def as_alice(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, PERSON: Person("alice", frozenset({"reviewer"}))}, receive, send)

    async def asked() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(as_alice), base_url="http://localhost") as client:
            return await client.get(f"/twinseal/review{path}")

    return asyncio.run(asked())
