"""The section `oidc` of server.yaml, and a provider that cannot be used."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from joserfc.jwk import RSAKey

from twinseal.config import parse
from twinseal.errors import ConfigError
from twinseal.server.oidc_settings import OidcSettings
from twinseal.server.people import Person
from twinseal.server.provider import Provider, signing_keys
from twinseal.server.settings import ServerSettings
from twinseal.server.tokens import SignInError, person_of

GOOD: dict[str, Any] = {
    "issuer": "https://login.plant.test/realm",
    "client_id": "twinseal",
    "client_secret_file": "secret",
    "roles": {"reader": ["plant"], "reviewer": ["safety"]},
}


def settings(**changes: Any) -> OidcSettings:
    return parse(OidcSettings, GOOD | changes, "server.yaml: oidc")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"issuer": "http://login.plant.test"}, "issuer: expected https://…"),
        ({"issuer": "https://login.plant.test?x"}, "issuer: expected https://…"),
        ({"issuer": "https://login@plant.test"}, "issuer: expected https://…"),
        ({"issuer": "file:///etc"}, "issuer: expected https://…"),
        ({"issuer": "http://localhost.evil.test"}, "issuer: expected https://…"),
        ({"scopes": ["profile"]}, "scopes: expected openid among them"),
        ({"roles": {}}, "roles: expected a group for a role, got none"),
        ({"roles": {"reader": [""]}}, "roles: expected names of groups, got an empty one"),
        ({"roles": {"reviewers": ["x"]}}, "unknown key; did you mean 'reviewer'?"),
        ({"audience": "twinseal"}, "audience: expected another word than client_id"),
        ({"require_mfa": True, "mfa_amr": []}, "require_mfa: expected values in mfa_amr or mfa_acr"),
        ({"session_hours": 0}, "session_hours"),
        ({"session_hours": 1000}, "session_hours"),
        ({"client_secret": "x"}, "client_secret: unknown key; did you mean 'client_secret_file'?"),
        ({"username_claim": "nickname"}, "username_claim"),
    ],
)
def test_settings_that_would_not_be_safe(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        settings(**changes)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("server", "is_taken"),
    [
        ({}, True),
        ({"host": "0.0.0.0"}, False),
        ({"public_url": "http://review.plant.test"}, False),
        ({"host": "0.0.0.0", "public_url": "https://review.plant.test"}, True),
    ],
)
def test_people_sign_in_over_tls_alone(server: dict[str, Any], is_taken: bool) -> None:
    given = {"oidc": GOOD} | server
    if is_taken:
        made = parse(ServerSettings, given, "server.yaml")
        assert made == parse(ServerSettings, made.model_dump(), "again")
        return
    with pytest.raises(ConfigError, match="oidc: expected TLS, or a public_url that begins with https, got neither"):
        parse(ServerSettings, given, "server.yaml")


def test_secret_is_in_a_file_that_others_cannot_read(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    found = settings(client_secret_file=str(file))
    with pytest.raises(ConfigError, match="expected a file with the client's secret, got none"):
        found.secret()
    file.write_text("s3cret\n")
    file.chmod(0o640)
    assert "s3cret" == found.secret()
    file.chmod(0o644)
    with pytest.raises(ConfigError, match="expected a file that others cannot read, got mode 644"):
        found.secret()
    file.chmod(0o600)
    file.write_text("\n")
    with pytest.raises(ConfigError, match="expected one line of at most"):
        found.secret()


def test_provider_that_does_not_answer(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s")
    (tmp_path / "secret").chmod(0o600)
    found = settings(issuer="http://127.0.0.1:1", client_secret_file=str(tmp_path / "secret"))
    made = Provider(found, "http://localhost/twinseal/callback")
    for message in ("expected an answer, got ConnectError", "expected an answer, got none a moment ago"):
        with pytest.raises(SignInError, match=message) as error:
            made.keys(None)
        assert 503 == error.value.status


class ClosesWhenAskedAgain(BaseHTTPRequestHandler):
    """Keeps each connection, and closes it when the next request has come: as one that was idle for too long."""

    protocol_version = "HTTP/1.1"
    answered = False

    def do_GET(self) -> None:
        if self.answered:
            self.close_connection = True
            return
        self.answered = True
        issuer = f"http://127.0.0.1:{self.connection.getsockname()[1]}"
        key = RSAKey.generate_key(2048, {"kid": "good"}).as_dict(private=False)
        places = dict.fromkeys(("authorization_endpoint", "token_endpoint", "jwks_uri"), f"{issuer}/keys")
        body = json.dumps({"keys": [key]} if self.path == "/keys" else {"issuer": issuer} | places).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def test_provider_that_closes_a_connection_just_when_it_is_used_again(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s")
    (tmp_path / "secret").chmod(0o600)
    with ThreadingHTTPServer(("127.0.0.1", 0), ClosesWhenAskedAgain) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        issuer = f"http://127.0.0.1:{server.server_port}"
        made = Provider(settings(issuer=issuer, client_secret_file=str(tmp_path / "secret")), "http://localhost/back")
        assert ["good"] == [key.kid for key in made.keys(None)]
        server.shutdown()


@pytest.mark.parametrize(
    "wrong",
    [
        {"kty": "RSA", "n": "!!", "e": "AQAB"},
        {"kty": "EC", "crv": "P-999", "x": "AAAA", "y": "AAAA"},
        {"kty": "EC", "crv": "P-256", "x": "AAAA", "y": "AAAA"},
        {"kty": "OKP", "crv": "Ed25519", "x": "A"},
        {"kty": "RSA", "n": 5},
        {"kty": "AKP", "alg": "ML-DSA-44", "pub": "AAAA"},
        {"kty": "RSA", "kid": ["x"], "n": "AQAB", "e": "AQAB"},
        "no key",
    ],
)
def test_key_of_the_provider_that_cannot_be_read_is_skipped(wrong: object) -> None:
    key = RSAKey.generate_key(2048, {"kid": "good"}).as_dict(private=False)
    assert ["good"] == [found.kid for found in signing_keys({"keys": [wrong, key]})]
    with pytest.raises(SignInError, match="identity provider: expected public keys, got none") as error:
        signing_keys({"keys": [wrong]})
    assert 503 == error.value.status


CLAIMS = {"sub": "1", "preferred_username": "a", "email": "a@plant.test", "groups": ["plant"], "iss": "x"}


@pytest.mark.parametrize(
    ("claims", "roles"),
    [
        ({}, {"reader"}),
        ({"groups": "safety"}, {"reviewer"}),
        ({"groups": ["plant", "safety"]}, {"reader", "reviewer"}),
        ({"groups": None}, set()),
        ({"groups": {"plant": True}}, set()),
        ({"groups": [["plant"], 1]}, set()),
        ({"groups": "plant safety"}, set()),
        ({"groups": ["Plant", "plant "]}, set()),
    ],
)
def test_groups_are_compared_as_they_are(claims: dict[str, Any], roles: set[str]) -> None:
    made = person_of(CLAIMS | claims, settings(), "session")
    assert Person("a", frozenset(roles), "session", False, "https://login.plant.test/realm 1") == made


def test_name_by_mail_is_one_that_the_provider_has_verified() -> None:
    by_mail = settings(username_claim="email")
    assert "a@plant.test" == person_of(CLAIMS | {"email_verified": True}, by_mail, "token").name
    for said in ({}, {"email_verified": "true"}, {"email_verified": False}):
        with pytest.raises(SignInError, match="email: expected one that the provider has verified"):
            person_of(CLAIMS | said, by_mail, "token")


@pytest.mark.parametrize(
    ("claims", "has_mfa"),
    [
        ({"amr": ["pwd", "otp"]}, True),
        ({"amr": "otp"}, True),
        ({"acr": "two"}, True),
        ({"amr": ["pwd"]}, False),
        ({"amr": ["OTP"], "acr": ["two"]}, False),
        ({"amr": {"otp": 1}, "acr": ""}, False),
        ({}, False),
    ],
)
def test_second_factor_is_what_amr_or_acr_say(claims: dict[str, Any], has_mfa: bool) -> None:
    assert has_mfa == person_of(CLAIMS | claims, settings(mfa_acr=["two"]), "session").has_mfa
