"""Sign-in by OpenID Connect: authorization code flow with PKCE; state and nonce are bound to the browser.

    /twinseal/login?next=/path   sends the browser to the identity provider; `again=1`: which asks for the password anew
    /twinseal/callback           where the provider sends it back to
    /twinseal/logout             ends the session

What comes back is believed after these steps, each of which refuses:

1. the state names a sign-in that this browser began here up to ten minutes ago, and that nobody has finished
2. the answer names the right issuer (RFC 9207), where the provider does that, and is no error
3. the provider takes the code, from this client, with this sign-in's PKCE verifier
4. the ID token verifies, with this sign-in's nonce (`tokens.py`)
5. one of the person's groups gives a role
6. the name is nobody else's (`provider_accounts.py`)
"""

from __future__ import annotations

import hashlib
import re
import secrets
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import structlog
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from twinseal import __version__
from twinseal.server.oidc_settings import OidcSettings
from twinseal.server.pages import HEADERS, templates
from twinseal.server.people import Person
from twinseal.server.provider import Provider
from twinseal.server.provider_accounts import ProviderAccounts
from twinseal.server.sessions import LOGIN_S, Cookie, Marks, Sessions, cookie_header
from twinseal.server.tokens import SignInError, person_of, verified_id_token
from twinseal.server.ways import CALLBACK, LOGIN, LOGOUT, PASSWORD, cookies, local_path

log = structlog.get_logger(__name__)

_STATE = re.compile(r"[A-Za-z0-9_-]{43}\Z")
_HEADERS = HEADERS | {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'",
    "Referrer-Policy": "same-origin",  # with no-referrer a form would say that it comes from nowhere
}


class SignIn:
    """The pages of sign-in.

    Args:
        settings: Of sign-in.
        origin: Of this server.
        secret: What its cookies are made with.
        provider: The identity provider.
        sessions: Of those who have signed in.
        people: Their accounts in MLflow.
        folder: For what has ended, or was used.
    """

    def __init__(
        self,
        settings: OidcSettings,
        origin: str,
        secret: str,
        provider: Provider,
        sessions: Sessions,
        people: ProviderAccounts,
        folder: Path,
    ) -> None:
        self._settings, self._origin = settings, origin
        self._provider, self._sessions, self._people = provider, sessions, people
        self._cookie, self._used = Cookie.of(secret, "login", origin, settings), Marks(folder, LOGIN_S + 60)
        self._templates = templates()

    def routes(self) -> list[Route]:
        """The routes of the pages."""
        return [
            Route(LOGIN, self.login),
            Route(CALLBACK, self.callback),
            Route(LOGOUT, self.logout, methods=["GET", "POST"]),
        ]

    def login(self, request: Request) -> Response:
        """Send a browser to the provider."""
        target = local_path(request.query_params.get("next", "/"))
        again = request.query_params.get("again") == "1"
        if request.headers.get("host", "").lower() != urlsplit(self._origin).netloc.lower():
            # Cookies belong to a name: the provider will send the browser back to this one.
            more = "&again=1" if again else ""
            return _redirect(f"{self._origin}{LOGIN}?next={quote(target, safe='')}{more}")
        if request.headers.get("sec-fetch-dest", "document") != "document":
            return self._refusal(SignInError("sign-in: expected a page, got a part of one", status=400))
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        try:
            answer = _redirect(self._provider.login_address(state, nonce, verifier, again=again))
        except SignInError as error:
            return self._refusal(error)
        began = {"state": state, "nonce": nonce, "verifier": verifier, "next": target}
        self._set(answer, self._login_name(state), self._cookie.seal(began, time.time() + LOGIN_S), LOGIN_S)
        return answer

    def callback(self, request: Request) -> Response:
        """Begin the session of whoever the provider says this browser is."""
        state = request.query_params.get("state", "")
        try:
            began = self._began(request, state)  # 1
            person = self._signed_in(request, began)
        except SignInError as error:
            log.warning("sign_in.refused", reason=str(error))
            answer = self._refusal(error)
        else:
            log.info("sign_in.done", name=person.name, roles=sorted(person.roles), has_mfa=person.has_mfa)
            answer = _redirect(self._origin + local_path(began["next"]))
            cookie = self._sessions.begin(person, time.time())
            self._set(answer, self._sessions.name, cookie, int(self._settings.session_hours * 3600))
        if _STATE.match(state):
            self._set(answer, self._login_name(state), "", 0)
        return answer

    def logout(self, request: Request) -> Response:
        """Ask, and end the session when the answer comes from our own page (the gate has looked)."""
        if request.method != "POST":
            return self._page("sign_out.html.j2", 200, is_done=False, elsewhere="")
        self._sessions.end(cookies(request.headers).get(self._sessions.name, ""), time.time())
        answer = self._page("sign_out.html.j2", 200, is_done=True, elsewhere=self._provider.logout_address())
        self._set(answer, self._sessions.name, "", 0)
        return answer

    def _began(self, request: Request, state: str) -> dict[str, Any]:
        given = cookies(request.headers).get(self._login_name(state), "") if _STATE.match(state) else ""
        began = self._cookie.open(given, time.time())
        if began is None or began["state"] != state or not self._used.set(state):
            raise SignInError(
                "sign-in: expected the answer to one that this browser began here up to 10 minutes ago, got another",
                remedy="Sign in again. Cookies of this site must be allowed.",
                status=400,
            )
        return began

    def _signed_in(self, request: Request, began: dict[str, Any]) -> Person:
        asked, settings = request.query_params, self._settings
        required = self._provider.metadata().get("authorization_response_iss_parameter_supported") is True
        if asked.get("iss", "" if required else settings.issuer) != settings.issuer:  # 2
            raise SignInError(f"sign-in: expected an answer of {settings.issuer}, got another's", status=400)
        if "error" in asked or not asked.get("code"):
            why = f"{asked.get('error', 'no code')} {asked.get('error_description', '')}".strip()[:200]
            raise SignInError(f"sign-in: expected a code from the provider, got: {why}", remedy="Sign in again.")
        token = self._provider.id_token(asked["code"], began["verifier"])  # 3
        claims = verified_id_token(token, self._provider.keys, settings, began["nonce"], datetime.now(UTC))  # 4
        person = person_of(claims, settings, "session")
        if not person.roles:  # 5
            raise SignInError(
                f"{person.name}: expected membership in a group that has a role here, got none",
                remedy="Ask whoever manages groups at the identity provider (the claim is "
                f"{settings.groups_claim}); which group has which role is in server.yaml.",
            )
        self._people.admit(person)  # 6
        return person

    def _login_name(self, state: str) -> str:
        """One cookie for each sign-in that has begun: several pages can ask for one at once."""
        part = hashlib.sha256(state.encode()).hexdigest()[:16]
        return f"{'__Host-' if self._sessions.is_secure else ''}twinseal-login-{part}"

    def _set(self, answer: Response, name: str, value: str, max_age_s: int) -> None:
        header = cookie_header(name, value, max_age_s=max_age_s, is_secure=self._sessions.is_secure)
        answer.headers.append("Set-Cookie", header)

    def _refusal(self, error: SignInError) -> Response:
        return self._page("sign_in.html.j2", error.status, message=str(error), remedy=error.remedy)

    def _page(self, name: str, status: int, **values: Any) -> Response:
        values |= {"person": None, "demo": False, "version": __version__, "login": LOGIN, "password": f"/?{PASSWORD}"}
        return HTMLResponse(self._templates.get_template(name).render(values), status, _HEADERS)


def _redirect(address: str) -> Response:
    return RedirectResponse(address, 303, {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"})
