"""The review pages in a real browser: passkeys made and used, refusals read, nothing from outside becomes markup."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.server.browser import Seat, chromium, seat
from tests.server.review_scene import ReviewScene, review_scene
from tests.twin.deployment import OTHER
from twinseal.trust.release.reviews import EVENTS

pytestmark = pytest.mark.proof  # make check stays below 12 minutes


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def scene(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReviewScene]:
    with review_scene(tmp_path_factory.mktemp("browser"), enrolled=()) as made:
        yield made


@pytest.fixture(scope="module")
def seats(scene: ReviewScene, browser: Any) -> Iterator[dict[str, Seat]]:
    """Alice and bruno, each with a passkey that they made on the page, and that custodians have enrolled."""
    with seat(browser, "alice") as alice, seat(browser, "bruno") as bruno:
        found = {"alice": alice, "bruno": bruno}
        for holder, at in found.items():
            at.page.goto(f"{scene.server.url}/twinseal/passkey")
            at.page.click("#make")
            at.page.wait_for_selector("#made:not([hidden])")
            scene.enroll_file(holder, at.page.text_content("#content"))
        yield found


def until(page: Any, expression: str, seconds: float = 150.0) -> None:
    """Wait for something to be true on the page, without `eval`, which the pages' policy forbids."""
    end = time.monotonic() + seconds
    while not _evaluate(page, expression):
        assert time.monotonic() < end, expression
        page.wait_for_timeout(50)


def _evaluate(page: Any, expression: str) -> Any:
    from playwright.sync_api import Error

    try:
        return page.evaluate(expression)
    except Error:  # the page is being loaded
        return False


def decide(at: Seat, scene: ReviewScene, candidate: str, decision: str, words: str = "") -> str:
    """Press the button, read the dialog, sign; what the page says then."""
    page = at.page
    page.goto(f"{scene.server.url}/twinseal/review/{candidate}")
    page.fill("#comment", words)
    page.click(f'button[data-decision="{decision}"]')
    until(page, "document.getElementById('sign').open || document.getElementById('status').textContent.length > 30")
    if not page.evaluate("document.getElementById('sign').open"):
        return str(page.text_content("#status"))
    return sign(at)


def sign(at: Seat) -> str:
    page = at.page
    page.evaluate("window.before = true")
    with page.expect_response(lambda answer: answer.url.endswith("/decisions"), timeout=15_000) as sent:
        page.click("#sign-now")
    if sent.value.ok:  # then the page loads itself again
        until(page, "window.before === undefined && document.readyState === 'complete'")
        return "taken"
    until(page, "document.getElementById('sign-status').textContent.includes('expected')")
    return str(page.text_content("#sign-status"))


def test_two_reviewers_approve_and_a_twin_admits(scene: ReviewScene, seats: dict[str, Seat], tmp_path: Path) -> None:
    model_id = scene.submit(1)
    page = seats["alice"].page
    page.goto(f"{scene.server.url}/twinseal/review")
    assert "waits for you" in page.text_content("main")
    page.click(f'a[href="/twinseal/review/{model_id}"]')
    assert "PASSED" in page.text_content("#verdict")
    assert "taken" == decide(seats["alice"], scene, model_id, "approve", "report read: <b>good</b>")
    page.wait_for_selector(".people .approved")
    assert "report read: <b>good</b>" in page.text_content(".people")
    assert "taken" == decide(seats["bruno"], scene, model_id, "approve")
    seats["bruno"].page.wait_for_selector(".verdict .registered")
    assert 1 == scene.pulled(tmp_path / "twin")
    known = "publicKey.pubKeyCredParams is missing"  # ES256 alone, as twins verify
    assert [] == [said for at in seats.values() for said in at.said if not said.startswith(known)]


def test_dialog_shows_what_is_signed(scene: ReviewScene, seats: dict[str, Seat]) -> None:
    model_id = scene.submit(2)
    page = seats["alice"].page
    page.goto(f"{scene.server.url}/twinseal/review/{model_id}")
    page.click('button[data-decision="approve"]')
    page.wait_for_selector("#sign[open]")
    full = scene.call("reader", f"/reviews/{model_id}").json()
    shown = page.text_content("#sign")
    for part in (
        "Approve pump-rul release 2",
        "As alice, decision 1",
        "DSSEv1",
        '"_type":"targets"',
        full["candidate"],
    ):
        assert part in shown or part == full["candidate"]
    page.keyboard.press("Escape")
    assert not page.evaluate("document.getElementById('sign').open")
    assert {} == scene.call("reader", f"/reviews/{model_id}").json()["reviews"]


@pytest.mark.attack("S")
def test_person_is_not_verified(scene: ReviewScene, seats: dict[str, Seat]) -> None:
    """Somebody at alice's unlocked computer, without her PIN or finger, presses Approve."""
    model_id = scene.submit(3, OTHER)
    seats["alice"].verify_user(False)
    page = seats["alice"].page
    page.goto(f"{scene.server.url}/twinseal/review/{model_id}")
    page.click('button[data-decision="approve"]')
    page.wait_for_selector("#sign[open]")
    page.click("#sign-now")
    until(page, "document.getElementById('sign-status').textContent.length > 20")
    seats["alice"].verify_user(True)
    assert {} == scene.call("reader", f"/reviews/{model_id}").json()["reviews"]


@pytest.mark.attack("S")
def test_page_asks_for_other_bytes_than_it_shows(scene: ReviewScene, seats: dict[str, Seat]) -> None:
    """The server is made to answer with a challenge over other texts than those that it shows."""
    model_id = scene.submit(4, OTHER)
    page = seats["alice"].page

    def lie(route: Any) -> None:
        answer = route.fetch()
        body = answer.json()
        route.fulfill(response=answer, json=body | {"challenge": "A" * 43})

    page.route("**/drafts", lie)
    page.goto(f"{scene.server.url}/twinseal/review/{model_id}")
    page.click('button[data-decision="approve"]')
    page.wait_for_selector("#sign[open]")
    page.click("#sign-now")
    until(page, "document.getElementById('sign-status').textContent.includes('Nothing was signed')")
    page.unroute("**/drafts")


@pytest.mark.attack("S")
def test_candidate_changes_while_the_dialog_is_open(scene: ReviewScene, seats: dict[str, Seat]) -> None:
    """Bytes of the candidate change after the page was opened, before the touch."""
    model_id = scene.submit(5, OTHER)
    page = seats["bruno"].page
    page.goto(f"{scene.server.url}/twinseal/review/{model_id}")
    page.click('button[data-decision="approve"]')
    page.wait_for_selector("#sign[open]")
    model = next(scene.made.home.path.rglob(f"{model_id}/artifacts")) / "model/model.safetensors"
    kept = model.read_bytes()
    model.write_bytes(kept[:-1] + b"!")
    assert "model.safetensors" in sign(seats["bruno"])
    page.reload()
    assert "does not verify" in page.text_content("#verdict")
    model.write_bytes(kept)


def test_reject_withdraw_and_comment(scene: ReviewScene, seats: dict[str, Seat]) -> None:
    model_id = scene.submit(6, OTHER)
    assert "expected a reason, got none" in decide(seats["alice"], scene, model_id, "reject")
    for decision, words in (("reject", "too few failures"), ("comment", "which file?"), ("withdraw", "found it")):
        assert "taken" == decide(seats["alice"], scene, model_id, decision, words)
    full = scene.call("reader", f"/reviews/{model_id}").json()
    assert (["alice.comment-1.json", "alice.json"], "withdrawn") == (sorted(full["reviews"]), EVENTS["withdraw"])
    assert full["state"] == "waits"


@pytest.mark.parametrize(("look", "seed"), [("light", 71), ("dark", 72), ("phone", 73), ("print", 74)])
def test_pages_have_no_serious_fault_of_accessibility(scene: ReviewScene, browser: Any, look: str, seed: int) -> None:
    from axe_playwright_python.sync_playwright import Axe

    model_id = scene.submit(seed, OTHER)
    context: dict[str, Any] = {"color_scheme": "dark" if look == "dark" else "light", "bypass_csp": True}
    context |= {"viewport": {"width": 390, "height": 844}} if look == "phone" else {}
    with seat(browser, "alice", **context) as at:
        for path in ("review", f"review/{model_id}", "passkey", "review/m-" + "0" * 32):
            at.page.goto(f"{scene.server.url}/twinseal/{path}")
            if look == "print":
                at.page.emulate_media(media="print")
            found = Axe().run(at.page).response["violations"]
            assert [] == [
                (item["id"], item["nodes"][0]["html"]) for item in found if item["impact"] in ("serious", "critical")
            ]
            wide = at.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert wide <= 0, path
            if look == "phone" and path.endswith(model_id):  # every column of a gate is in sight
                for part in (".scroll:has(.gates)", ".gates tr:last-child .why", ".gates tr:last-child [data-label]"):
                    wide = at.page.locator(part).last.evaluate("part => part.scrollWidth - part.clientWidth")
                    right = at.page.locator(part).last.evaluate("part => part.getBoundingClientRect().right")
                    assert (True, True) == (wide <= 0, right <= 390), part


@pytest.mark.attack("S")
def test_words_do_not_turn_those_around_them(scene: ReviewScene, seats: dict[str, Seat]) -> None:
    """A comment ends the isolation of its own text and turns the direction of writing of what follows."""
    model_id = scene.submit(11, OTHER)
    page, evil = seats["alice"].page, "a\u2069\u2069\u202eb"
    page.goto(f"{scene.server.url}/twinseal/review/{model_id}")
    page.fill("#comment", evil)
    page.click('button[data-decision="reject"]')
    page.wait_for_selector("#sign[open]")
    shown = page.text_content("#sign")
    assert (False, 2) == ("\u202e" in shown, shown.count(r"a\u2069\u2069\u202eb"))
    assert "taken" == sign(seats["alice"])
    page.reload()
    assert not set("\u2069\u202e") & set(page.text_content("main"))
    assert 2 == page.locator(".people bdi", has_text="a\ufffd\ufffd\ufffdb").count()  # her decision, the rejection
    assert {"isolate"} == set(page.locator("bdi").evaluate_all("all => all.map(x => getComputedStyle(x).unicodeBidi)"))


def test_other_address_of_this_server_names_the_one_of_passkeys(
    scene: ReviewScene, seats: dict[str, Seat], browser: Any
) -> None:
    model_id = scene.submit(12, OTHER)
    port = scene.server.url.rsplit(":", 1)[1]
    with seat(browser, "alice") as at:
        for path in (f"review/{model_id}", "passkey"):
            at.page.goto(f"http://127.0.0.1:{port}/twinseal/{path}")
            assert 0 == at.page.locator("button[data-decision], #make").count()
            at.page.click(f'.notice a[href="{scene.server.url}/twinseal/{path}"]')
            at.page.wait_for_selector("button[data-decision=approve], #make")


def test_links_to_mlflow_open_the_layout_for_model_training(scene: ReviewScene, browser: Any) -> None:
    model_id = scene.submit(13, OTHER)
    with seat(browser, "alice") as at:
        for link, shown in (("header nav a >> text=MLflow", "fan-rul"), ("main a >> text=in MLflow", model_id)):
            at.page.goto(f"{scene.server.url}/twinseal/review/{model_id}")
            at.page.click(link)
            at.page.wait_for_selector(f"text={shown}")
            assert "workflowType=machine_learning" in at.page.url
            assert 0 == at.page.locator("nav a, aside a", has_text="Prompts").count()  # of the other layout


def test_page_works_by_keyboard(scene: ReviewScene, seats: dict[str, Seat]) -> None:
    model_id = scene.submit(8, OTHER)
    page = seats["alice"].page
    page.goto(f"{scene.server.url}/twinseal/review/{model_id}")
    page.keyboard.press("Tab")
    assert "Skip to content" == page.evaluate("document.activeElement.textContent")
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.dataset?.decision") == "approve":
            break
    page.keyboard.press("Enter")
    page.wait_for_selector("#sign[open]")
    page.keyboard.press("Escape")


@pytest.mark.attack("S")
def test_nothing_from_outside_becomes_markup(scene: ReviewScene, seats: dict[str, Seat]) -> None:
    """Comments, and an account's name, are HTML, script, control characters and jumps of writing direction."""
    model_id = scene.submit(9, OTHER)
    evil = "<img src=x onerror=alert(1)><script>document.title='evil'</script>{{ 7*7 }}\u202e</ul></main>\"'`"
    assert "taken" == decide(seats["alice"], scene, model_id, "comment", evil)
    page = seats["bruno"].page
    page.goto(f"{scene.server.url}/twinseal/review/{model_id}")
    assert evil.replace("\u202e", "\ufffd") in page.text_content(".people")
    assert 0 == page.locator("main img, main script").count()
    assert "evil" not in page.title()


@pytest.mark.attack("S")
def test_report_that_is_not_the_signed_one_is_not_shown(scene: ReviewScene, seats: dict[str, Seat]) -> None:
    """The report beside the candidate is replaced by one that says what the attacker wants."""
    model_id = scene.submit(10, OTHER)
    page = seats["alice"].page
    page.goto(f"{scene.server.url}/twinseal/review/{model_id}")
    assert "Not shown" in page.text_content("section[aria-labelledby=report]")
    assert 0 == page.locator("iframe").count()
    answer = page.goto(f"{scene.server.url}/twinseal/review/{model_id}/report")
    assert answer.status in (403, 404)


def test_pages_say_what_they_may_do(scene: ReviewScene) -> None:
    """No foreign script or style, no frame, no cache: by headers that a browser obeys."""
    for path in ("/twinseal/review", "/twinseal/passkey", "/twinseal/static/review.js"):
        headers = scene.server.ask("GET", path, who="alice").headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert ("no-store" in headers["cache-control"]) == (not path.endswith(".js"))
    assert shutil.which("chromium")
