"""What `test_killed.py` lets processes do: prepare an approval, give it, and look at what a killed process left.

Each call runs in a process of its own, forked from one that has imported all this and opened nothing (`forkserver`): a
fork of the test's own process would inherit locks that its threads hold, and the database's.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import signal
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from tests.passkeys import Authenticator
from tests.server import fault
from tests.server.databases import set_up_mappers
from tests.server.review_scene import challenge_of
from tests.server.scene import now
from tests.twin.deployment import MODEL, roles
from twinseal.registry.run import RunRecord
from twinseal.registry.store import connect, sqlite_uri
from twinseal.registry.submit import submit
from twinseal.server.api import make_api
from twinseal.server.gate import PERSON
from twinseal.server.people import Person
from twinseal.server.registrar import Registrar
from twinseal.server.reviews import Desk
from twinseal.server.settings import ServerSettings
from twinseal.trust.audit import log_of, verify
from twinseal.trust.ceremonies import ceremony
from twinseal.trust.keys.passkeys import passkey_from_registration
from twinseal.trust.release import repository
from twinseal.trust.release.review_file import read_review
from twinseal.trust.root.home import Home

SETTINGS = ServerSettings()
PATIENCE_S = 120.0

set_up_mappers()  # once, for all processes


class Answers:
    """The calls as a server answers them, without its sign-in; and the round that its registrar makes."""

    def __init__(self, home: Home) -> None:
        database = sqlite_uri(home.path)
        self.desk = Desk(home, database)
        self.registrar = Registrar(self.desk)
        self._api = make_api(self.desk, SETTINGS, self.registrar.publish)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            who = dict(scope["headers"])[b"x-who"].decode()
            scope[PERSON] = Person(who, frozenset({"reviewer", "engineer"}))
        await self._api(scope, receive, send)

    def ask(self, who: str, path: str, body: Any = None) -> Any:
        """One call: status, and what came back."""

        async def asked() -> Any:
            to = httpx.ASGITransport(self)
            async with httpx.AsyncClient(transport=to, base_url=SETTINGS.origin, headers={"x-who": who}) as client:
                return await (client.get(path) if body is None else client.post(path, json=body))

        answer = asyncio.run(asked())
        return answer.status_code, answer.json()


def in_a_process(work: Callable[..., Any], *given: Any) -> Any:
    """What `work` gives in a process of its own; None when it was killed."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    with tempfile.NamedTemporaryFile() as result:
        process = context.Process(target=_run, args=(result.name, work, given))
        process.start()
        process.join(PATIENCE_S)
        if process.exitcode == -signal.SIGKILL:
            return None
        if process.exitcode is None:
            process.kill()
            raise RuntimeError(f"{work.__name__}: expected an end within {PATIENCE_S:.0f} s, got none")
        found = json.loads(Path(result.name).read_text())
        assert "error" not in found, found["error"]
        return found["is"]


def _run(result: str, work: Callable[..., Any], given: tuple[Any, ...]) -> None:
    os.setsid()
    try:
        found = {"is": work(*given)}
    except BaseException:
        found = {"error": traceback.format_exc()}
    Path(result).write_text(json.dumps(found))


def prepare(home: Home, bundle: Path) -> tuple[str, Any]:
    """A candidate that alice has approved, and what bruno is about to send; both have passkeys."""
    devices = {name: _enrolled(home, name) for name in ("alice", "bruno")}
    store, app = connect(home, sqlite_uri(home.path)), Answers(home)
    candidate = submit(store, bundle, model=MODEL, version=1, description_markdown="d", run=RunRecord({}, {}))
    assert app.ask("engineer", "/reviews", {"candidate": candidate})[0] == 201
    bodies = {}
    for name, device in devices.items():
        _, draft = app.ask(name, f"/reviews/{candidate}/drafts", {"decision": "approve", "comment": "read"})
        bodies[name] = {"said": draft["said"], "assertion": device.touch(challenge_of(draft["texts"]))}
    status, answer = app.ask("alice", f"/reviews/{candidate}/decisions", bodies["alice"])
    assert (200, "waits") == (status, answer["state"])
    return candidate, bodies["bruno"]


def _enrolled(home: Home, name: str) -> Authenticator:
    device, challenge = Authenticator(rp_id="localhost", origin=SETTINGS.origin), name.encode() * 8
    key = passkey_from_registration(
        device.register(challenge), challenge=challenge, rp_id="localhost", origin=SETTINGS.origin
    )
    ceremony.rotate(home, roles(), name, now(), public=key)
    return device


def approve(home: Home, candidate: str, body: Any, kill_at: int = 0) -> list[str]:
    """Bruno's approval is answered: it is logged, written, counted, published. The steps that it took."""
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    app, watch = Answers(home), fault.Watch(str(home.path), kill_at)
    event.listen(Engine, "commit", lambda _connection: watch.count("commit"))
    watch.start()
    status, answer = app.ask("bruno", f"/reviews/{candidate}/decisions", body)
    assert (200, "registered", "") == (status, answer["state"], answer["note"]), answer
    return watch.steps


def afterwards(home: Home, candidate: str, body: Any) -> tuple[int, bool]:
    """What the next server finds, logged and written; and that it ends well, whatever it finds."""
    app, place = Answers(home), home.path / f"reviews/{candidate}/approvals"
    names = sorted(path.name for path in place.iterdir() if not path.name.startswith("."))
    written = "bruno.json" in names
    assert names == (["alice.json", "bruno.json"] if written else ["alice.json"])
    if written:  # whole
        assert "approve" == read_review(place / "bruno.json", home.anchor()).said.decision
    logged = approvals_of_bruno(home)
    assert written <= (logged == 1)
    app.registrar.one_round(now())
    status, found = app.ask("alice", f"/reviews/{candidate}")
    assert (200, "registered" if written else "waits", "") == (status, found["state"], found["fault"])
    if written:
        assert_published(home, candidate)
    status, answer = app.ask("bruno", f"/reviews/{candidate}/decisions", body)  # sent again
    assert (200, logged == 0, "registered", "") == (status, answer.get("is_new"), answer["state"], answer["note"])
    assert "approve" == read_review(place / "bruno.json", home.anchor()).said.decision
    assert 1 == approvals_of_bruno(home)
    assert_published(home, candidate)
    return logged, written


def assert_published(home: Home, candidate: str) -> None:
    """In the repository of record, and in MLflow: one version, and the alias on it, with the metadata of now."""
    assert candidate == getattr(repository.current_release(home, MODEL), "mlflow_model_id", "")
    client = connect(home, sqlite_uri(home.path)).client
    (version,) = client.search_model_versions(f"name = '{MODEL}'")
    assert (f"models:/{candidate}", "1") == (version.source, version.tags["twinseal.release_version"])
    assert version.version == client.get_model_version_by_alias(MODEL, "champion").version
    mirrored = client.get_run(client.get_registered_model(MODEL).tags["twinseal.metadata_run"]).info.artifact_uri
    timestamp = Path(mirrored.removeprefix("file://")) / "metadata/timestamp.json"
    assert (home.repository / "metadata/timestamp.json").read_bytes() == timestamp.read_bytes()
    assert "waits" not in client.get_logged_model(candidate).tags["mlflow.note.content"]


def approvals_of_bruno(home: Home) -> int:
    """How often the log has it, once the whole log has verified, and an entry that was signed is seen by all."""
    log = log_of(home.path)
    verify(log.path)
    log.complete()
    return sum((entry.event, entry.actor) == ("approved", "bruno") for _, entry in log.read())
