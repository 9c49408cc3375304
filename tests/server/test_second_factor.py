"""Reviewers and their second factor: who may decide when the settings demand one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from joserfc import jwt

from tests.server.oidc_scene import Browser, OidcScene, Provider, nonce_of, oidc_scene
from tests.server.review_scene import CALLS
from tests.server.scene import Answer, submitted
from tests.twin.deployment import MODEL
from twinseal.errors import RegistryError
from twinseal.review_client import ReviewServer

pytestmark = pytest.mark.proof  # make check stays below 12 minutes

CALLS_THAT_DECIDE = (
    ("/reviews/{candidate}/drafts", {"decision": "approve"}),
    ("/reviews/{candidate}/decisions", {"review": {}}),
    ("/passkeys/options", {}),
    ("/passkeys", {"credential": {}}),
)


@pytest.fixture(scope="module")
def scene(provider: Provider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OidcScene]:
    demanded = {"require_mfa": True, "mfa_amr": ["otp", "hwk"], "mfa_acr": ["urn:plant:two"]}
    with oidc_scene(tmp_path_factory.mktemp("mfa"), provider, **demanded) as made:
        yield made


@pytest.fixture(scope="module")
def candidate(scene: OidcScene) -> str:
    model_id, _ = submitted(scene.made, 1, MODEL)
    assert 201 == scene.server.ask("POST", f"{CALLS}/reviews", {"candidate": model_id}, who="engineer").status
    return model_id


def calls(scene: OidcScene, cookie: str, candidate: str) -> list[Answer]:
    origin = {"Origin": scene.server.url}
    return [
        scene.cookie(cookie, CALLS + path.format(candidate=candidate), "POST", body=body, headers=origin)
        for path, body in CALLS_THAT_DECIDE
    ]


@pytest.mark.parametrize("name", ["alice", "acacia"])
def test_second_factor_by_amr_or_acr_opens_the_calls(scene: OidcScene, candidate: str, name: str) -> None:
    browser = scene.browser(name)
    answers = calls(scene, browser.session(scene.server), candidate)
    assert 200 == answers[2].status
    assert not any("second factor" in answer.message for answer in answers if answer.status != 200)
    assert 200 == browser.get(f"{scene.server.url}/twinseal/review/{candidate}").status
    assert 200 == browser.get(f"{scene.server.url}/twinseal/passkey").status


def test_second_factor_that_is_one_word_opens_the_calls(scene: OidcScene, candidate: str) -> None:
    """Some providers give `amr` as a word, not as a list."""
    browser = Browser()
    address, key = browser.begin(scene.server, "alice"), scene.provider.key()
    claims = scene.provider.claims("alice", aud="twinseal", nonce=nonce_of(browser), amr="otp")
    scene.provider.control(id_token=jwt.encode({"alg": "RS256", "kid": key.kid}, claims, key))
    try:
        browser.ask("GET", address)
    finally:
        scene.provider.control(id_token=None)
    assert 200 == calls(scene, browser.session(scene.server), candidate)[2].status


@pytest.mark.attack("S")
def test_reviewer_without_a_second_factor_decides_nothing(scene: OidcScene, candidate: str) -> None:
    """Whoever knows a reviewer's password alone signs in as them, in a browser, with a token, or at this server."""
    browser = scene.browser("bruno")
    cookie, wanted = browser.session(scene.server), "expected a sign-in with a second factor (amr with one of otp, hwk"
    for answer in calls(scene, cookie, candidate):
        assert (403, True) == (answer.status, wanted in answer.message), answer.message
        assert "/twinseal/login?again=1" in answer.json()["remedy"]
    for path in (f"/twinseal/review/{candidate}", "/twinseal/passkey"):
        page = browser.get(scene.server.url + path)
        assert (403, True, False) == (page.status, wanted in page.body.decode(), b"data-decision" in page.body)
    assert 200 == browser.get(f"{scene.server.url}/twinseal/review").status
    ways: list[dict[str, Any]] = [{"who": "chiara"}]
    token = scene.provider.token("bruno", amr=["pwd"], acr="urn:plant:one")
    ways.append({"who": None, "headers": {"Authorization": f"Bearer {token}"}})
    for way in ways:
        for path, body in CALLS_THAT_DECIDE:
            answer = scene.server.ask("POST", CALLS + path.format(candidate=candidate), body, **way)
            assert (403, True) == (answer.status, wanted in answer.message), way
        assert 403 == scene.server.ask("GET", f"/twinseal/review/{candidate}", **way).status
    assert {} == scene.server.ask("GET", f"{CALLS}/reviews/{candidate}", who="reader").json()["reviews"]


def test_token_with_a_second_factor_reviews_from_a_terminal(
    scene: OidcScene, candidate: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = scene.provider.token("alice", amr=["pwd", "otp"])
    answer = scene.bearer(token, f"{CALLS}/passkeys/options", "POST", body={})
    assert (200, "alice") == (answer.status, answer.json()["name"])
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(RegistryError, match="expected its name and password, or a token, got none"):
        ReviewServer(scene.server.url)
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", token)
    with ReviewServer(scene.server.url) as server:
        assert [candidate] == [item.candidate for item in server.waiting()]
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "x\r\nHost: evil.test")
    with pytest.raises(RegistryError, match="expected its name and password, or a token, got none"):
        ReviewServer(scene.server.url)


def test_others_need_none(scene: OidcScene, candidate: str) -> None:
    browser = scene.browser("rita")
    assert 200 == browser.get(f"{scene.server.url}/twinseal/review/{candidate}").status
    assert 200 == scene.server.ask("GET", f"{CALLS}/reviews", who="engineer").status


def test_provider_is_asked_for_it(scene: OidcScene) -> None:
    _, to = Browser().ask("GET", f"{scene.server.url}/twinseal/login")
    assert "acr_values=urn%3Aplant%3Atwo" in to
