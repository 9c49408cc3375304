"""The identity provider, as this server asks it: its metadata, its public keys, and a code for an ID token.

Its addresses come from its own metadata, which must name the configured issuer; each of them is https, or on this
machine. Redirects are not followed. Keys are read again every ten minutes, and when a token names one that is not
known yet: so a new key works at once, and one that was withdrawn does not for long. Without fresh keys nobody's token
is believed.
"""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import quote, urlsplit

import httpx
import structlog
from authlib.common.errors import AuthlibBaseError
from authlib.oauth2.client import OAuth2Client
from joserfc.jwk import Key, KeySet, import_key

from twinseal.server.oidc_settings import LOOPBACK, OidcSettings, is_safe_url
from twinseal.server.tokens import SignInError

log = structlog.get_logger(__name__)

TIMEOUT_S = 5.0
KEYS_LAST_S = 600.0
AGAIN_S = 5.0  # at the earliest: a stranger can name unknown keys as often as they like
_ENDPOINTS = ("authorization_endpoint", "token_endpoint", "jwks_uri")


class Provider:
    """One identity provider.

    Args:
        settings: Which, and who this server is there.
        redirect_uri: Where the provider sends browsers back to.

    Raises:
        ConfigError: The client's secret cannot be read.
    """

    def __init__(self, settings: OidcSettings, redirect_uri: str) -> None:
        self._settings, self._redirect_uri, self._secret = settings, redirect_uri, settings.secret()
        near = urlsplit(settings.issuer).hostname in LOOPBACK
        # Each request has a connection of its own: a provider closes one that is kept just when the next is sent on it.
        self._http = httpx.Client(
            timeout=TIMEOUT_S,
            verify=ssl.create_default_context(),
            trust_env=not near,
            follow_redirects=False,
            limits=httpx.Limits(max_keepalive_connections=0),
        )
        self._documents: dict[str, tuple[float, dict[str, Any]]] = {}
        self._tried: dict[str, float] = {}
        self._lock = threading.Lock()

    def metadata(self) -> Mapping[str, Any]:
        """What the provider says of itself (OpenID Connect Discovery 1.0).

        Raises:
            SignInError: It does not answer, or answers something else.
        """
        found = self._document(f"{self._settings.issuer.rstrip('/')}/.well-known/openid-configuration", KEYS_LAST_S)
        if found.get("issuer") != self._settings.issuer:
            raise _unusable(f"the issuer {self._settings.issuer}", repr(found.get("issuer"))[:80])
        for name in _ENDPOINTS:
            url = found.get(name)
            if not isinstance(url, str) or not is_safe_url(url) or self._is_weaker(url):
                raise _unusable(f"an https address as {name}", repr(url)[:80])
        return found

    def keys(self, kid: str | None) -> KeySet:
        """The keys that it signs with, read again when there is none named `kid`.

        Raises:
            SignInError: It does not answer, or has no such keys.
        """
        place = str(self.metadata()["jwks_uri"])
        found = signing_keys(self._document(place, KEYS_LAST_S))
        if kid is not None and kid not in {key.kid for key in found}:
            found = signing_keys(self._document(place, AGAIN_S))
        return found

    def login_address(self, state: str, nonce: str, verifier: str, *, again: bool) -> str:
        """Where a browser goes to sign in: code flow, with state, nonce and PKCE (RFC 7636, S256).

        Args:
            state: Binds the answer to the browser.
            nonce: Binds the ID token to this sign-in.
            verifier: Of PKCE; only its digest is sent.
            again: Whether the provider must ask for the password even if it knows the browser.

        Raises:
            SignInError: The provider does not answer.
        """
        more = {"prompt": "login"} if again else {}
        if self._settings.require_mfa and self._settings.mfa_acr:
            more["acr_values"] = " ".join(self._settings.mfa_acr)
        address, _ = self._client().create_authorization_url(
            self.metadata()["authorization_endpoint"], state=state, nonce=nonce, code_verifier=verifier, **more
        )
        return str(address)

    def id_token(self, code: str, verifier: str) -> str:
        """The ID token for a code, not verified yet. Whatever else the provider gives is thrown away.

        Raises:
            SignInError: The provider does not take the code.
        """
        metadata = self.metadata()
        known = metadata.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        secret: dict[str, str] = {}
        auth: Any = httpx.BasicAuth(quote(self._settings.client_id, safe=""), quote(self._secret, safe=""))
        if "client_secret_basic" not in known:
            auth, secret = _nothing, {"client_id": self._settings.client_id, "client_secret": self._secret}
        try:
            found = self._client().fetch_token(
                metadata["token_endpoint"],
                grant_type="authorization_code",
                code=code,
                code_verifier=verifier,
                auth=auth,
                **secret,
            )
        except (httpx.HTTPError, AuthlibBaseError, ValueError, KeyError, TypeError) as error:
            raise SignInError(
                f"sign-in: expected a code that the provider takes, got one that it does not ({_one_line(error)})",
                remedy="Sign in again.",
            ) from error
        token = found.get("id_token")
        if not isinstance(token, str):
            raise SignInError("sign-in: expected an ID token from the provider, got none")
        return token

    def logout_address(self) -> str:
        """Where a person ends the provider's own session too; "" if it offers none or does not answer."""
        try:
            found = self.metadata().get("end_session_endpoint")
        except SignInError:
            return ""
        if not isinstance(found, str) or not is_safe_url(found) or self._is_weaker(found):
            return ""
        return f"{found}{'&' if '?' in found else '?'}client_id={quote(self._settings.client_id, safe='')}"

    def _client(self) -> Any:
        return OAuth2Client(
            session=self._http,
            client_id=self._settings.client_id,
            scope=" ".join(self._settings.scopes),
            redirect_uri=self._redirect_uri,
            code_challenge_method="S256",
        )

    def _is_weaker(self, url: str) -> bool:
        return self._settings.issuer.startswith("https:") and not url.startswith("https:")

    def _document(self, url: str, lasts_s: float) -> dict[str, Any]:
        """A JSON document of the provider that is at most `lasts_s` old."""
        known = self._documents.get(url)
        if known and time.monotonic() - known[0] <= lasts_s:
            return known[1]
        is_recent = known is not None and time.monotonic() - known[0] <= KEYS_LAST_S
        if not self._lock.acquire(timeout=0 if is_recent else 2 * TIMEOUT_S):
            return self._recent(known, is_recent)  # somebody else asks just now
        try:
            now, known = time.monotonic(), self._documents.get(url)
            if known and now - known[0] <= lasts_s:
                return known[1]
            if now - self._tried.get(url, -AGAIN_S) < AGAIN_S:
                return self._recent(known, is_recent)
            self._tried[url] = now
            found = self._fetched(url)
            self._documents[url] = now, found
            return found
        finally:
            self._lock.release()

    def _recent(self, known: tuple[float, dict[str, Any]] | None, is_recent: bool) -> dict[str, Any]:
        if known is None or not is_recent:
            raise _unusable("an answer", "none a moment ago")
        return known[1]

    def _fetched(self, url: str) -> dict[str, Any]:
        try:
            answer = self._http.get(url, headers={"Accept": "application/json"})
            value = answer.json() if answer.status_code == 200 else None
        except (httpx.HTTPError, ValueError) as error:
            log.warning("provider.failed", url=url, error=_one_line(error))
            raise _unusable("an answer", _one_line(error)) from error
        if not isinstance(value, dict):
            raise _unusable("a JSON document", f"HTTP {answer.status_code}")
        return value


def signing_keys(document: Mapping[str, Any]) -> KeySet:
    """The keys of a JWKS (RFC 7517) that verify signatures; one that is a shared secret, or unreadable, is none."""
    given = document.get("keys")
    listed = [key for key in given if isinstance(key, dict)] if isinstance(given, list) else []
    public = [key for key in listed if key.get("kty") in ("RSA", "EC", "OKP") and key.get("use", "sig") == "sig"]
    found: list[Key] = []
    for key in public:
        try:
            found.append(import_key(cast(Any, key)))
        except Exception as error:  # of joserfc, of cryptography: one key that they cannot read is no reason for all
            log.warning("provider.key_skipped", kid=str(key.get("kid"))[:80], error=_one_line(error))
    if not found:
        raise _unusable("public keys", "none")
    return KeySet(found)


def _nothing(request: httpx.Request) -> httpx.Request:
    return request


def _unusable(expected: str, got: str) -> SignInError:
    return SignInError(
        f"identity provider: expected {expected}, got {got}",
        remedy="Try again in a minute. Accounts with a password work meanwhile.",
        status=503,
    )


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__} {error}".split())[:200]
