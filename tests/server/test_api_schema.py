"""Our OpenAPI document against a real server: what it says of each call is true, for every input that is tried.

Schemathesis makes requests from the document, valid ones and ones that break it, and compares each answer with it: the
status, the content type, the body. The same requests every time; `make fuzz` searches for others.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks

from tests.server.review_scene import CALLS, ReviewScene, review_scene
from tests.server.scene import PASSWORD, accounts_of, add_accounts

pytestmark = pytest.mark.proof  # it takes half a minute: `make proof`

PROBLEM = {"error_code", "message", "remedy"}
OPERATIONS = (
    "GET /server",
    "GET /reviews",
    "POST /reviews",
    "GET /reviews/{candidate}",
    "GET /reviews/{candidate}/files/{path}",
    "POST /reviews/{candidate}/drafts",
    "POST /reviews/{candidate}/decisions",
    "POST /passkeys/options",
    "POST /passkeys",
)
CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.ignored_auth,
]
IS_SEARCH = settings.get_current_profile_name() == "search"
TRIES = 200 if IS_SEARCH else 8


@dataclass
class Described:
    """A server, its document, and candidates that wait on it.

    Attributes:
        scene: The server.
        document: As it gives it.
        candidates: Their ids.
        files: Of the first one.
    """

    scene: ReviewScene
    document: Any
    candidates: list[str]
    files: list[str]


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Described]:
    path = tmp_path_factory.mktemp("schema")
    limits = path / "limits.yaml"
    limits.write_text("requests_a_minute: 1000000\nfailed_logins_a_minute: 1000000\n")
    with review_scene(path, "--config", str(limits), enrolled=("alice",)) as scene:
        add_accounts(accounts_of(scene.made.home.path), {"alice": ("reviewer", "engineer")})
        waits = [scene.submit(1), scene.submit(2)]
        assert 200 == scene.decide("alice", waits[0], "comment", "read").status
        document = scene.call("reader", "/openapi.json").json()
        files = scene.call("reader", f"/reviews/{waits[0]}").json()["files"]
        yield Described(scene, document, waits, files)


def operation(described: Described, name: str) -> Any:
    method, _, path = name.partition(" ")
    schema = schemathesis.openapi.from_dict(described.document)
    schema.config.update(base_url=described.scene.server.url + CALLS)
    return schema[path][method]


def test_every_call_is_tried(described: Described) -> None:
    named = [f"{method.upper()} {path}" for path, item in described.document["paths"].items() for method in item]
    assert sorted(OPERATIONS) == sorted(named)


@pytest.mark.attack("S")
@pytest.mark.parametrize("who", ["alice", "reader"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_answers_are_as_described(described: Described, name: str, who: str) -> None:
    """A call gets every kind of value that its description allows, and many that it does not."""
    found = operation(described, name)
    asked = found.as_strategy(generation_mode=GenerationMode.POSITIVE)
    if found.body or found.path_parameters:
        asked = st.one_of(asked, found.as_strategy(generation_mode=GenerationMode.NEGATIVE))

    @given(case=asked, near=st.booleans(), pick=st.data())
    @settings(
        max_examples=TRIES,
        derandomize=not IS_SEARCH,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    def ask(case: Case, near: bool, pick: st.DataObject) -> None:
        if near and "candidate" in case.path_parameters:  # random ids are never those of a candidate that is there
            case.path_parameters["candidate"] = pick.draw(st.sampled_from(described.candidates))
        if near and "path" in case.path_parameters:
            case.path_parameters["path"] = pick.draw(st.sampled_from(described.files))
        answer = case.call(auth=(who, PASSWORD))
        wrong = [] if near else [checks.negative_data_rejection]  # else what was wrong may have been made right
        case.validate_response(answer, checks=[*CHECKS, *wrong], transport_kwargs={"auth": (who, PASSWORD)})
        if answer.status_code >= 400:
            assert set(answer.json()) == PROBLEM

    ask()


@pytest.mark.attack("S")
@pytest.mark.parametrize(
    ("method", "path", "body", "expected"),
    [
        ("GET", "/nothing", None, 404),
        ("PUT", "/reviews", b"{}", 405),
        ("POST", "/reviews", b"{", 422),
        ("POST", "/reviews", b"[" * 100_000, 400),
        ("POST", "/reviews", b'{"candidate": "\xff"}', 400),
        ("POST", "/reviews", b'{"candidate": "\\ud800"}', 422),
        ("POST", "/reviews", b'{"candidate": ' + b"9" * 5_000 + b"}", 400),
        ("POST", "/reviews/{candidate}/drafts", b'{"decision": "approve", "comment": "\\ud800"}', 422),
        ("POST", "/reviews/{candidate}/decisions", b'{"review": {"holder": "alice", "comment": "\\ud800"}}', 403),
        ("POST", "/reviews/{candidate}/decisions", b'{"review": {"holder": "alice", "review": NaN}}', 403),
        ("POST", "/reviews/{candidate}/decisions", b'{"said": {"holder": "\\ud800"}, "assertion": {}}', 400),
        ("POST", "/passkeys", b'{"credential": {"response": {"clientDataJSON": "' + b"W1tb" * 900 + b'"}}}', 400),
        ("POST", "/passkeys", b'{"credential": {"response": {"clientDataJSON": "' + b"W1tb" * 50_000 + b'"}}}', 400),
        ("POST", "/passkeys", b'{"credential": {"response": {"clientDataJSON": "\\u00e9"}}}', 400),
        ("GET", "/reviews/{candidate}/files/..%2f..%2fkeys/registrar.pem", None, 400),
        ("GET", "/reviews/{candidate}/files/none", None, 404),
    ],
)
def test_malformed_request_gets_a_problem(
    described: Described, method: str, path: str, body: bytes | None, expected: int
) -> None:
    """Half characters, JSON a hundred thousand deep, endless digits and paths that climb are sent."""
    server, place = described.scene.server, CALLS + path.replace("{candidate}", described.candidates[1])
    answer = server.ask(method, place, body, who="alice", headers={"Content-Type": "application/json"})
    assert (expected, PROBLEM) == (answer.status, set(answer.json())), answer
    assert all(isinstance(value, str) for value in answer.json().values())


@pytest.mark.attack("S")
def test_link_in_a_candidate_is_not_followed(described: Described) -> None:
    """A file of a candidate is replaced by a link to the registrar's key; any account downloads it."""
    home = described.scene.made.home
    folder = next(home.path.rglob(f"{described.candidates[1]}/artifacts"))
    path = described.files[0]
    before = described.scene.call("reader", f"/reviews/{described.candidates[1]}/files/{path}")
    assert (200, (folder / path).read_bytes()) == (before.status, before.body)
    kept = (folder / path).rename(folder / "kept")
    try:
        (folder / path).symlink_to(home.keys / "registrar.pem")
        answer = described.scene.call("reader", f"/reviews/{described.candidates[1]}/files/{path}")
        assert (404, PROBLEM) == (answer.status, set(answer.json()))
    finally:
        (folder / path).unlink()
        kept.rename(folder / path)


def test_refusals_of_the_gate_have_the_same_shape(described: Described) -> None:
    """Without an account, from another site, and by another name."""
    ask = described.scene.server.ask
    for answer, expected in (
        (ask("GET", f"{CALLS}/reviews", who=None), 401),
        (ask("POST", f"{CALLS}/reviews", {}, headers={"Origin": "http://evil.test"}), 403),
        (ask("GET", f"{CALLS}/reviews", headers={"Host": "evil.test"}), 403),
        (ask("GET", f"{CALLS}//reviews"), 400),
        (ask("POST", f"{CALLS}/reviews", b"", headers={"Content-Length": str(17 << 20)}), 413),
    ):
        assert (expected, PROBLEM) == (answer.status, set(json.loads(answer.body)))
