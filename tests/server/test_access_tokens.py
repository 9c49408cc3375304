"""Access tokens of programs, and what MLflow is told about who asks: tokens and headers that must not be believed."""

from __future__ import annotations

import base64
import http.client
import io
import time
import warnings
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from flask import Flask
from joserfc import jwt
from joserfc.jwk import RSAKey

from tests.server.oidc_scene import Browser, OidcScene
from tests.server.scene import API, PASSWORD, accounts_of, add_accounts, deployment, serving
from tests.server.test_sign_in import ME, TAG, hs256, unsigned
from twinseal.server.mlflow_person import authenticate, opened, sealed, with_person, without_claims
from twinseal.server.people import Person

pytestmark = pytest.mark.proof  # make check stays below 12 minutes

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # MLflow reads requests by it
    from starlette.middleware.wsgi import build_environ

SET_TAG = f"{API}experiments/set-experiment-tag"
SPELLINGS = (
    "X-Twinseal-Person", "x-twinseal-person", "X_Twinseal_Person", "X-Twinseal_Person", "x_twinseal-PERSON",
    "X-TWINSEAL-PERSON", "X--Twinseal-Person", "X.Twinseal.Person", "XTwinsealPerson",
)  # fmt: skip


def test_token_is_a_person_with_roles(oidc: OidcScene, monkeypatch: pytest.MonkeyPatch) -> None:
    """The provider's own token, as MLflow's client sends it."""
    from mlflow import MlflowClient

    browser = Browser()
    browser.sign_in(oidc.server, "erik")
    token = oidc.provider.token("erik")
    user = oidc.bearer(token).json()["user"]
    assert ("erik", False) == (user["username"], user["is_admin"])
    assert 200 == oidc.bearer(token, SET_TAG, "POST", body=TAG).status
    assert oidc.has_logged("erik", "token")
    assert 403 == oidc.bearer(oidc.provider.token("rita"), SET_TAG, "POST", body=TAG).status
    assert oidc.bearer(oidc.provider.token("petra")).json()["user"]["is_admin"]
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", token)
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    assert "Default" == MlflowClient(oidc.server.url).get_experiment("0").name


@pytest.mark.attack("S")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"aud": "twinseal"}, "expected the audience urn:twinseal:api"),  # an ID token
        ({"aud": "another"}, "expected the audience urn:twinseal:api"),
        ({"aud": None}, "aud"),
        ({"iss": "https://evil.test"}, "iss"),
        ({"exp": 1_000_000_000}, "expired"),
        ({"exp": None}, "exp"),
        ({"exp": "4000000000"}, "exp"),
        ({"nbf": 4_000_000_000}, "not yet valid"),
        ({"sub": None}, "sub"),
        ({"preferred_username": ["petra"]}, "preferred_username: expected 1 to 128"),
        ({"preferred_username": "engineer"}, "got that of an account with a password"),
        ({"preferred_username": "rita", "sub": "id-petra"}, "got that of another person of the provider"),
        ({"typ": "logout+jwt"}, "expected the type JWT"),
        ({"alg": "none"}, "not allowed"),
        ({"alg": "HS256"}, "not allowed"),
        ({"alg": "another key"}, "bad_signature"),
        ({"alg": "own key in the header"}, "bad_signature"),
        ({"alg": "changed"}, "bad_signature"),
        ({"alg": "too long"}, "expected at most 16384 characters"),
        ({"alg": "nonsense"}, "expected one that"),
        ({"alg": "deep"}, "expected one that"),
    ],
)
def test_token_that_is_not_for_this_server(oidc: OidcScene, changes: dict[str, Any], message: str) -> None:
    """A token that was forged, has expired, or is for another server or by another issuer, is sent."""
    oidc.browser("rita")
    wrong = dict(changes)
    alg, typ, key = wrong.pop("alg", "RS256"), wrong.pop("typ", "at+jwt"), oidc.provider.key()
    claims, own = oidc.provider.claims("petra", **wrong), RSAKey.generate_key(2048)
    head: dict[str, Any] = {"alg": "RS256", "kid": key.kid, "typ": typ}
    good = jwt.encode(head, claims, key, algorithms=["RS256"])
    parts = good.split(".")
    tokens = {
        "RS256": good,
        "none": unsigned(claims),
        "HS256": hs256(claims, key),
        "another key": jwt.encode(head, claims, own, algorithms=["RS256"]),
        "own key in the header": jwt.encode({**head, "kid": "", "jwk": own.as_dict(private=False)}, claims, own),
        "changed": ".".join((parts[0], base64.urlsafe_b64encode(b'{"sub":"x"}').decode().rstrip("="), parts[2])),
        "too long": good + "A" * (16 << 10),
        "nonsense": "a.b.c",
        "deep": base64.urlsafe_b64encode(b"[" * 6000).decode() + ".b.c",  # deeper than Python's JSON goes
    }
    if alg == "own key in the header":
        head = {"alg": "RS256", "kid": key.kid, "jwk": own.as_dict(private=False)}
        tokens[alg] = jwt.encode(head, claims, own, algorithms=["RS256"])
    answer = oidc.bearer(tokens[alg])
    assert (401, True) == (answer.status, message in answer.message), answer.message
    assert 401 == oidc.bearer(tokens[alg], "/twinseal/review").status


@pytest.mark.attack("S")
def test_token_or_session_is_not_made_good_by_another_way(oidc: OidcScene) -> None:
    """A wrong token beside a good cookie, a token where a password belongs, two Authorization headers."""
    cookie, token = oidc.browser("rita").session(oidc.server), oidc.provider.token("petra")
    for authorization in (
        f"Bearer {unsigned({'sub': 'x'})}",
        "Bearer ",
        f"Basic {token}",
        f"Token {token}",
        token,
        "Basic " + base64.b64encode(f"petra:{token}".encode()).decode(),
        f"Bearer {cookie}",
    ):
        assert 401 == oidc.cookie(cookie, headers={"Authorization": authorization}).status, authorization
    parts = urlsplit(oidc.server.url)
    basic = "Basic " + base64.b64encode(f"reader:{PASSWORD}".encode()).decode()
    with closing(http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)) as connection:
        connection.putrequest("GET", ME)
        for value in (basic, f"Bearer {token}"):
            connection.putheader("Authorization", value)
        connection.endheaders()
        assert 400 == connection.getresponse().status


@pytest.mark.proof
def test_token_while_the_provider_is_down_may_be_sent_again(tmp_path: Path) -> None:
    made, secret = deployment(tmp_path), tmp_path / "secret"
    secret.write_text("s")
    secret.chmod(0o600)
    section = {"issuer": "http://127.0.0.1:1", "client_id": "twinseal", "client_secret_file": str(secret)}
    section |= {"audience": "urn:twinseal:api", "roles": {"reader": ["plant"]}}
    (made.home.path / "server.yaml").write_text(yaml.safe_dump({"oidc": section, "requests_a_minute": 1}))
    add_accounts(accounts_of(made.home.path), {"reader": "reader"})
    token = jwt.encode({"alg": "RS256", "kid": "x"}, {"sub": "x"}, RSAKey.generate_key(2048))
    with serving(made.home.path, people=False) as server:
        for _ in range(3):  # none of them is a guess
            answer = server.ask("GET", ME, who=None, headers={"Authorization": f"Bearer {token}"})
            assert (503, "TEMPORARILY_UNAVAILABLE") == (answer.status, answer.json()["error_code"])
            assert "identity provider: expected an answer" in answer.message
        assert 200 == server.ask("GET", ME, who="reader").status


@pytest.mark.attack("S")
def test_person_without_a_role_reads_nothing(oidc: OidcScene) -> None:
    """A token of somebody who is in no group that has a role is sent."""
    token = oidc.provider.token("nobody")
    for path in (ME, "/", "/twinseal/review", "/twinseal/tuf/metadata/timestamp.json"):
        answer = oidc.bearer(token, path)
        assert (403, True) == (answer.status, "nobody: expected the role reader, got none" in answer.message)


@pytest.mark.attack("S")
def test_key_that_the_provider_has_withdrawn(oidc: OidcScene) -> None:
    """The provider changes its key; the old one is used on."""
    old = oidc.provider.token("rita")
    assert 200 == oidc.bearer(old).status
    time.sleep(5.1)  # keys are asked for every 5 seconds at most
    oidc.provider.control(rotate=True)
    assert 200 == oidc.bearer(oidc.provider.token("rita")).status
    assert 401 == oidc.bearer(old).status


@pytest.mark.attack("S")
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_name_that_only_the_gate_may_say(oidc: OidcScene, spelling: str) -> None:
    """A client sends the header by which MLflow learns who asks, in some spelling, once and twice."""
    artifact = "/api/2.0/mlflow-artifacts/artifacts/1/none"  # a route of FastAPI, not of Flask
    forged = f"{sealed('petra')}, {sealed('petra')}"
    for value in (sealed("petra"), forged, "petra"):
        answer = oidc.bearer(oidc.provider.token("rita"), headers={spelling: value})
        assert "rita" == answer.json()["user"]["username"]
        assert 401 == oidc.server.ask("GET", ME, who=None, headers={spelling: value}).status
        assert (
            "reader" == oidc.server.ask("GET", ME, who="reader", headers={spelling: value}).json()["user"]["username"]
        )
        lists = oidc.server.ask("GET", f"{API}users/list", who="reader", headers={spelling: value})
        assert 403 == lists.status
        assert oidc.bearer(oidc.provider.token("rita"), artifact, headers={spelling: value}).status in (403, 404)


@pytest.mark.attack("S")
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_name_that_was_signed_by_the_gate_is_sent_again(spelling: str) -> None:
    """A client has got hold of a header that the gate signed for somebody else, and sends it."""
    stolen = (spelling.encode(), sealed("petra").encode())
    scope: dict[str, Any] = {
        "type": "http", "method": "GET", "path": "/", "query_string": b"", "http_version": "1.1", "scheme": "http",
        "server": ("localhost", 80), "client": ("127.0.0.1", 1),
        "headers": [stolen, (b"host", b"x"), (b"authorization", b"Basic x"), stolen],
    }  # fmt: skip
    person, app = Person("rita", frozenset({"reader"})), Flask("test")
    assert [(b"host", b"x"), (b"authorization", b"Basic x")] == without_claims(scope)["headers"]
    passed = with_person(scope, person)
    with app.request_context(build_environ(passed, b"") | {"wsgi.errors": io.StringIO()}):
        found = authenticate()
        assert "rita" == found.username  # type: ignore[union-attr]
    with app.request_context(build_environ(without_claims(scope), b"") | {"wsgi.errors": io.StringIO()}):
        assert 401 == authenticate().status_code  # type: ignore[union-attr]


@pytest.mark.attack("S")
def test_signature_under_the_name_is_changed() -> None:
    """The name in a header of the gate's is changed, or its signature is."""
    good = sealed("rita")
    assert "rita" == opened(good)
    for wrong in ("", ".", good[:-1], good + "0", "x" + good, good.replace(".", ""), good.split(".")[0] + ".", "ü.x"):
        assert opened(wrong) is None, wrong
