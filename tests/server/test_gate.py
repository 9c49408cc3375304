"""What strangers can do to the gate: guess, fill memory, ask for details; behind a proxy that is trusted."""

from __future__ import annotations

import base64
import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager

import anyio
import pytest
from anyio import CapacityLimiter
from starlette.datastructures import Headers

from tests.server.mlflow_routes import OFFERED, routes
from tests.server.review_scene import CALLS
from tests.server.scene import API, PASSWORD, Answer, Server, deployment, serving
from tests.twin.deployment import Deployment
from twinseal.errors import TwinsealError
from twinseal.server.guesses import Guesses, TooManyGuessesError
from twinseal.server.observing import FAULTS_LAST_S
from twinseal.server.offers import is_offered
from twinseal.server.people import Person
from twinseal.server.settings import ServerSettings
from twinseal.server.ways import NobodyError
from twinseal.trust.ceremonies import overview

ME = f"{API}users/current"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    return deployment(tmp_path_factory.mktemp("gate"))


@pytest.fixture(scope="module")
def server(made: Deployment) -> Iterator[Server]:
    (made.home.path / "server.yaml").write_text("trusted_proxies: [127.0.0.1, '::1']\n")
    with serving(made.home.path) as started:
        yield started


def logged(made: Deployment, address: str, count: int) -> list[int]:
    """The statuses of an address in the access log, once it has as many lines: they are written after the answer."""
    found, end = list[int](), time.monotonic() + 5
    while len(found) < count and time.monotonic() < end:
        lines = [json.loads(line) for line in (made.home.path / "mlflow/access.log").read_text().splitlines()]
        found = [line["status"] for line in lines if line["from"] == address]
    return found


@contextmanager
def renamed_table(made: Deployment, database: str, table: str) -> Iterator[None]:
    """A database that fails while the block runs."""
    with closing(sqlite3.connect(made.home.path / "mlflow" / database)) as connection:
        connection.execute(f"ALTER TABLE {table} RENAME TO {table}_away")
        try:
            yield
        finally:
            connection.execute(f"ALTER TABLE {table}_away RENAME TO {table}")


def asks(server: Server, address: str) -> Callable[..., Answer]:
    """Requests as the proxy passes them on, of somebody at an address."""

    def ask(who: str, password: str = PASSWORD, path: str = ME, claimed: str = "") -> Answer:
        forwarded = {"X-Forwarded-For": f"{claimed}, {address}" if claimed else address}
        return server.ask("GET", path, who=who, password=password, headers=forwarded)

    return ask


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


@pytest.mark.attack("S")
def test_guesses_at_one_account_lock_out_nobody_else(server: Server, made: Deployment) -> None:
    """A stranger behind everybody's proxy, or a twin with an old password, tries until the server takes no more."""
    here, there = asks(server, "192.0.2.1"), asks(server, "192.0.2.2")
    assert 200 == here("alice").status
    tried: list[int] = []
    for name in ("alice", "chiara"):
        tried += [here(name, f"guess {number}", claimed=f"203.0.113.{number}").status for number in range(14)]
        # A slow machine takes the seconds after which one more is allowed.
        assert ([401] * 10, 429) == (tried[-14:-4], tried[-1])
    assert 429 == here("chiara").status
    assert [200, 200, 200] == [here("alice").status, here("bruno").status, there("chiara").status]
    assert 200 == here("chiara").status  # who was right elsewhere is no guess here
    assert [200, *tried] == logged(made, "192.0.2.1", 29)[:29]


@pytest.mark.attack("S")
def test_guesses_that_are_sent_at_once(server: Server) -> None:
    """A stranger sends many passwords at the same time, so that none of them is counted before the last is tried."""
    here = asks(server, "192.0.2.3")
    with ThreadPoolExecutor(40) as pool:
        tried = list(pool.map(lambda number: here("reviewer", f"guess {number}").status, range(40)))
    assert 10 <= tried.count(401) <= 12  # a slow machine takes the seconds after which one more is allowed
    assert 40 == tried.count(401) + tried.count(429)


@pytest.mark.attack("S")
@pytest.mark.proof
def test_guesses_at_many_accounts(server: Server) -> None:
    """A stranger tries each password at another account; from many addresses of one IPv6 network."""
    assert 200 == asks(server, "2001:db8::1")("engineer").status
    tried = [asks(server, f"2001:db8::{number:x}")(f"somebody-{number}", "guess").status for number in range(1, 131)]
    assert ([401] * 100, 429) == (tried[:100], tried[-1])
    assert 200 == asks(server, "2001:db8::1")("engineer").status
    assert 401 == asks(server, "2001:db8:1::1")("somebody", "guess").status


@pytest.mark.attack("S")
def test_wrong_tokens_are_bounded_and_lock_out_no_password() -> None:
    """A stranger sends tokens that are none, as fast as they can; while the provider is down, nothing is a guess."""
    seen: list[str] = []

    def identify(headers: Headers) -> Person:
        seen.append(headers["authorization"])
        if "right" in seen[-1]:
            return Person("erik", frozenset({"engineer"}))
        raise NobodyError("wrong", is_guess="down" not in seen[-1], is_unavailable="down" in seen[-1])

    async def tried(given: str) -> str:
        try:
            return (await guesses.identify(Headers({"authorization": given}), "192.0.2.1")).name
        except (NobodyError, TooManyGuessesError) as error:
            return type(error).__name__

    async def all_tried() -> list[str]:
        words = ["Bearer right", *(f"Bearer down {n}" for n in range(9)), *(f"bearer {n}" for n in range(9))]
        found = [await tried(word) for word in words]
        return [*found[10:], await tried("Bearer right"), await tried("Bearer right 2"), await tried(basic("right:"))]

    guesses = Guesses(ServerSettings(requests_a_minute=7), identify, CapacityLimiter(2))
    wrong = ["NobodyError"] * 7 + ["TooManyGuessesError"] * 2
    assert [*wrong, "erik", "TooManyGuessesError", "NobodyError"] == anyio.run(all_tried)
    assert 1 + 9 + 7 + 1 + 1 == len(seen)


@pytest.mark.attack("S")
@pytest.mark.parametrize(
    ("number", "given"),
    list(enumerate(("Basic é", "Basic ====", basic("alice"), basic("ali\0ce:x"), "Basic", "Other x"), 60)),
)
def test_header_that_says_no_name_is_a_guess_like_others(
    server: Server, made: Deployment, number: int, given: str
) -> None:
    """A stranger sends what cannot be decoded, so that the server fails, and writes and counts nothing."""
    where = f"192.0.2.{number}"
    sent = {"Authorization": given, "X-Forwarded-For": where}
    tried = [server.ask("GET", ME, who=None, headers=sent).status for _ in range(11)]
    assert [401] * 10 + [429] == tried
    assert tried == logged(made, where, 11)


@pytest.mark.attack("S")
def test_metrics_do_not_grow_with_what_strangers_ask_for(server: Server) -> None:
    """A stranger, and an account, ask for ever new words where MLflow has the names of its calls."""

    def series() -> int:
        text = server.ask("GET", "/twinseal/metrics").body.decode()
        assert 'kind="refused"' in text
        return len([line for line in text.splitlines() if line.startswith("twinseal_request")])

    def ask(word: str, who: str | None) -> int:
        return server.ask("GET", f"/api/2.0/mlflow/{word}", who=who).status

    assert [401, 404] == [ask("first", None), ask("first", "engineer")]
    before = series()
    words = [f"word-{'x' * number}" for number in range(1, 20)]
    assert {401} == {ask(word, None) for word in words}
    assert {404} == {ask(word, "engineer") for word in words}
    assert before + 3 >= series()  # the first look at /twinseal/metrics is counted in the second


@pytest.mark.attack("S")
def test_details_of_what_is_broken_are_for_accounts(server: Server, made: Deployment) -> None:
    """A stranger reads from /twinseal/ready where the home is and what the models are called; and asks all the time."""
    place = made.home.repository / "metadata/timestamp.json"
    kept = place.read_bytes()

    def ready(who: str | None) -> tuple[int, list[str]]:
        answer = server.ask("GET", "/twinseal/ready", who=who)
        return answer.status, answer.json()["faults"]

    assert (200, []) == ready(None)
    place.write_bytes(b"{}")
    try:
        assert (200, []) == ready(None)  # of a moment ago: it is not read again for each who asks
        time.sleep(FAULTS_LAST_S + 0.2)
        assert (503, ["something cannot be read"]) == ready(None)
        with pytest.raises(TwinsealError) as detail:
            overview.expiries(made.home)
        assert (503, [str(detail.value)]) == ready("engineer")
    finally:
        place.write_bytes(kept)
    assert 401 == server.ask("GET", "/twinseal/ready", who="engineer", password="wrong").status


def test_accounts_that_cannot_be_asked_are_said_to_be_unavailable(server: Server, made: Deployment) -> None:
    with renamed_table(made, "accounts.db", "users"):
        answer = asks(server, "192.0.2.9")("registrar")
    assert (503, "TEMPORARILY_UNAVAILABLE") == (answer.status, answer.json()["error_code"])
    assert [503] == logged(made, "192.0.2.9", 1)
    assert 200 == asks(server, "192.0.2.9")("registrar").status


def test_server_that_cannot_decide_now_refuses_nothing_for_good(server: Server, made: Deployment) -> None:
    unknown = {"candidate": "m-" + "0" * 32}

    def ask() -> tuple[int, int, int]:
        asked = server.ask("POST", f"{CALLS}/reviews", unknown).status
        page = server.ask("GET", f"/twinseal/review/{unknown['candidate']}", who="alice").status
        return asked, page, server.ask("GET", f"{CALLS}/reviews").status

    assert (404, 404, 200) == ask()
    with renamed_table(made, "mlflow.db", "logged_models"):
        assert 503 == ask()[0]
    anchor = made.home.anchor_dir / "root.json"
    kept = anchor.read_bytes()
    anchor.write_bytes(b"{}")
    try:
        assert (404, 503, 503) == ask()  # for the first no anchor is needed
    finally:
        anchor.write_bytes(kept)
    assert (404, 404, 200) == ask()


@pytest.mark.attack("S")
def test_every_route_of_mlflow_that_is_offered_was_looked_at() -> None:
    """A new version of MLflow has a call that runs code on the server, or has it send requests; an engineer asks it."""
    found = routes()
    assert OFFERED.read_text().splitlines() == [line for line in found if is_offered(line.partition(" ")[2])]
    for call in ("scorer/invoke", "genai/evaluate/invoke", "demo/generate", "issues/invoke", "ui-telemetry"):
        assert f"POST /ajax-api/3.0/mlflow/{call}" in found
        assert not is_offered(f"/ajax-api/3.0/mlflow/{call}")
