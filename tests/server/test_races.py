"""Many at once, through four workers: what may happen once happens once, and nothing that was signed is lost.

On SQLite, and on PostgreSQL where it is installed. Each test starts its threads together, and reads what they did after
each step, and the audit log at the end.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.server.databases import set_up_mappers
from tests.server.review_scene import ReviewScene, challenge_of, review_scene, signed_in
from tests.server.scene import API, approved, submitted
from tests.twin.deployment import MODEL, OTHER
from twinseal.registry.run import RunRecord
from twinseal.registry.store import connect, sqlite_uri
from twinseal.registry.submit import submit
from twinseal.server.settings import with_driver
from twinseal.trust.audit import log_of, verify
from twinseal.trust.release.repository import current_release

pytestmark = pytest.mark.proof  # it takes minutes: `make proof`

MANY = 16
ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts/"


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def options(request: pytest.FixtureRequest) -> Iterator[tuple[str, ...]]:
    """Of the server."""
    if request.param == "sqlite":
        yield ("--workers", "4")
        return
    with request.getfixturevalue("postgres_server").fresh() as uri:
        yield ("--workers", "4", "--database", uri)


@pytest.fixture(scope="module")
def scene(options: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReviewScene]:
    """Its first release of fan-rul is published in the repository of record, and not in MLflow yet."""
    with review_scene(tmp_path_factory.mktemp("races"), *options, enrolled=()) as found:
        with signed_in("engineer"):
            model_id, bundle = submitted(found.made, 1, OTHER, found.server.url)
        approved(found.made, bundle, model_id, model=OTHER)
        yield found


@pytest.fixture(scope="module")
def reviewed(scene: ReviewScene) -> ReviewScene:
    """Its reviewers have passkeys now; the signatures that the first release has were by keys that they had before."""
    for holder in ("alice", "bruno"):
        scene.enroll(holder)
    return scene


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    """What each call gives; all begin at the same moment."""
    barrier = threading.Barrier(len(calls))

    def begin(call: Callable[[], Any]) -> Any:
        barrier.wait(30)
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return [job.result() for job in [pool.submit(begin, call) for call in calls]]


def statuses(answers: list[Any]) -> Counter[int]:
    return Counter(answer.status for answer in answers)


def versions(scene: ReviewScene, model: str) -> list[tuple[str, str]]:
    """Number and source of each version that MLflow has under a name."""
    answer = scene.server.ask("GET", f"{API}model-versions/search?max_results=100", who="reader").json()
    found = [item for item in answer.get("model_versions", []) if item["name"] == model]
    return sorted((item["version"], item["source"]) for item in found)


def champion(scene: ReviewScene, model: str = MODEL) -> str:
    """The candidate that the alias is on; "" for none."""
    answer = scene.server.ask("GET", f"{API}registered-models/alias?name={model}&alias=champion", who="reader")
    return answer.json()["model_version"]["source"].removeprefix("models:/") if answer.status == 200 else ""


def logged(scene: ReviewScene, *events: str) -> list[tuple[str, str, str]]:
    """Event, actor and digest of the review of the log's entries, once the whole log has verified."""
    log = log_of(scene.made.home.path)
    assert verify(log.path).size == len(log.read())
    return [
        (entry.event, entry.actor, entry.details.get("review", "")) for _, entry in log.read() if entry.event in events
    ]


@pytest.mark.attack("S")
def test_one_release_is_one_version(scene: ReviewScene) -> None:
    """16 programs register the release that was just published, all at the same moment."""
    model_id = current_release(scene.made.home, OTHER).mlflow_model_id
    post, body = scene.server.post, {"name": OTHER, "source": f"models:/{model_id}", "model_id": model_id}
    made = at_once(*[lambda: post("registered-models/create", {"name": OTHER})] * MANY)
    assert {200: 1, 400: MANY - 1} == statuses(made)
    made = at_once(*[lambda: post("model-versions/create", body)] * MANY)
    assert {200: 1, 403: MANY - 1} == statuses(made)
    assert [("1", f"models:/{model_id}")] == versions(scene, OTHER)


@pytest.mark.attack("S")
def test_champion_moves_only_forward_to_what_was_approved(reviewed: ReviewScene) -> None:
    """While the second release is approved, 6 programs move the alias back, elsewhere, and to a husk."""
    first, second, husk = (reviewed.submit(seed) for seed in (11, 12, 13))
    for holder in ("alice", "bruno"):
        assert 200 == reviewed.decide(holder, first).status
    assert (first, [("1", f"models:/{first}")]) == (champion(reviewed), versions(reviewed, MODEL))
    planted(reviewed, husk)
    reviewed.call("engineer", "/reviews", {"candidate": second})  # staged anew: it is to be release 2 now
    assert 200 == reviewed.decide("alice", second).status
    seen, is_over = [], threading.Event()

    def attack(number: int) -> None:
        alias, version = ("champion", "challenger")[number % 5 == 4], ("1", "2", "3")[number % 3]
        while not is_over.is_set():
            body = {"name": MODEL, "alias": alias, "version": version}
            answer = reviewed.server.post("registered-models/alias", body)
            assert answer.status in ((200, 403, 404) if alias == "champion" and version != "2" else (403, 404)), answer
            seen.append(champion(reviewed))

    def approve() -> Any:
        try:
            return reviewed.decide("bruno", second)
        finally:
            is_over.set()

    *_, answer = at_once(*[lambda number=number: attack(number) for number in range(6)], approve)
    assert (200, "registered", "") == (answer.status, answer.json()["state"], answer.json()["note"])
    assert {first, second} >= set(seen)
    assert second == champion(reviewed)
    found = reviewed.server.ask("GET", f"{API}registered-models/get?name={MODEL}").json()["registered_model"]
    assert ["champion"] == [item["alias"] for item in found["aliases"]]


def planted(scene: ReviewScene, model_id: str) -> None:
    """A version that nobody approved, as whoever has the database's password makes one."""
    set_up_mappers()
    from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore

    store = SqlAlchemyStore(with_driver(scene.server.database or sqlite_uri(scene.made.home.path)))
    with signed_in("engineer"):  # it asks the server for the candidate
        made = store.create_model_version(MODEL, f"models:/{model_id}", model_id=model_id)
    assert "2" == str(made.version)


@pytest.mark.attack("S")
def test_two_reviewers_decide_at_the_same_moment(reviewed: ReviewScene) -> None:
    """No signature is lost: each decision is logged once, by number, and its file is there."""
    model_id, rounds = reviewed.submit(21, OTHER), ("reject", "withdraw", "approve", "withdraw", "reject", "withdraw")
    before = len(logged(reviewed, "approved", "rejected", "withdrawn"))
    for hers, his in zip(rounds, ("reject", "withdraw") * 3, strict=True):
        answers = at_once(
            lambda hers=hers: reviewed.decide("alice", model_id, hers, "why"),
            lambda his=his: reviewed.decide("bruno", model_id, his, "why"),
        )
        assert {200: 2} == statuses(answers)
        assert [True, True] == [answer.json()["is_new"] for answer in answers]
    found = logged(reviewed, "approved", "rejected", "withdrawn")[before:]
    assert 2 * len(rounds) == len(set(found)) == len(found)
    files = reviewed.call("reader", f"/reviews/{model_id}").json()["reviews"]
    assert {"alice": len(rounds), "bruno": len(rounds)} == {
        who: files[f"{who}.json"]["sequence"] for who in ("alice", "bruno")
    }
    both = at_once(*[lambda who=who: reviewed.decide(who, model_id) for who in ("alice", "bruno")])
    assert {200: 2} == statuses(both)
    assert "registered" == reviewed.state(model_id)
    assert model_id == champion(reviewed, OTHER)
    registered = [entry for _, entry in log_of(reviewed.made.home.path).read() if entry.event == "registered"]
    assert 1 == sum(entry.model == OTHER and entry.version == 2 for entry in registered)
    assert numbers(reviewed, OTHER, 2) == {"alice": [*range(1, 8)], "bruno": [*range(1, 8)]}


def numbers(scene: ReviewScene, model: str, version: int) -> dict[str, list[int]]:
    """The numbers of each reviewer's decisions about a release, as logged."""
    found: dict[str, list[int]] = {}
    for _, entry in log_of(scene.made.home.path).read():
        if (entry.model, entry.version) == (model, version) and entry.event in ("approved", "rejected", "withdrawn"):
            found.setdefault(entry.actor, []).append(int(entry.details["sequence"]))
    return found


@pytest.mark.attack("S")
def test_one_touch_counts_once_however_often_it_is_sent(reviewed: ReviewScene) -> None:
    """One signed rejection is sent 8 times at the same moment, and 8 others that follow the same decision."""
    model_id = reviewed.submit(31, OTHER)
    draft = reviewed.draft("alice", model_id, "reject", "no").json()
    touch = reviewed.devices["alice"].touch(challenge_of(draft["texts"]))
    answers = at_once(*[lambda: reviewed.send("alice", model_id, draft, touch)] * 8)
    assert ({200: 8}, 1) == (statuses(answers), sum(answer.json()["is_new"] for answer in answers))
    drafts = [reviewed.draft("alice", model_id, "withdraw", f"words {number}").json() for number in range(8)]
    touches = [reviewed.devices["alice"].touch(challenge_of(item["texts"])) for item in drafts]
    answers = at_once(
        *[
            lambda item=item, touch=touch: reviewed.send("alice", model_id, item, touch)
            for item, touch in zip(drafts, touches, strict=True)
        ]
    )
    assert {200: 1, 403: 7} == statuses(answers)
    version = reviewed.call("reader", f"/reviews/{model_id}").json()["release"]
    assert {"alice": [1, 2]} == numbers(reviewed, OTHER, version)


@pytest.mark.attack("S")
def test_first_upload_stays(reviewed: ReviewScene) -> None:
    """16 programs send a file to one path, each with other bytes, again and again."""
    for round_ in range(4):
        path = f"{ARTIFACTS}race/{round_}.bin"
        contents = [bytes([number]) * 300_000 for number in range(MANY)]
        answers = at_once(*[lambda to=path, data=data: reviewed.server.ask("PUT", to, data) for data in contents])
        assert {200: 1, 403: MANY - 1} == statuses(answers)
        kept = reviewed.server.ask("GET", path).body
        assert kept == contents[[answer.status for answer in answers].index(200)]
        assert kept == (reviewed.made.home.path / f"mlflow/served/race/{round_}.bin").read_bytes()
    assert 4 == len(list((reviewed.made.home.path / "mlflow/served/race").iterdir()))  # no half of any is left


def test_eight_engineers_submit_at_once(reviewed: ReviewScene) -> None:
    bundles = [reviewed.made.bundle(seed, MODEL) for seed in range(41, 49)]
    with signed_in("engineer"):
        store, run = connect(reviewed.made.home, reviewed.server.url), RunRecord({}, {})

    def send(bundle: Any) -> str:
        return submit(store, bundle, model=MODEL, version=1, description_markdown="d", run=run)

    with signed_in("engineer"):
        found = at_once(*[lambda bundle=bundle: send(bundle) for bundle in bundles])
    assert len(bundles) == len(set(found))
    answers = at_once(*[lambda one=one: reviewed.call("engineer", "/reviews", {"candidate": one}) for one in found])
    assert {201: len(bundles)} == statuses(answers)
    listed = {item["candidate"]: item["state"] for item in reviewed.call("reader", "/reviews").json()}
    assert {"waits"} == {listed[one] for one in found}
    again = at_once(*[lambda: reviewed.call("engineer", "/reviews", {"candidate": found[0]})] * 8)
    assert {201: 8} == statuses(again)
    assert 1 == len({answer.body for answer in again})
    logged(reviewed)
