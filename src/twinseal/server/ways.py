"""The ways in which a request says whom it is from: the gate asks here.

    Authorization: Basic …    an account with a password
    Authorization: Bearer …   an access token of the identity provider
    the session's cookie      a browser that has signed in at the identity provider

A request that has an Authorization header is judged by that alone: a wrong one is not made good by a cookie.
"""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from urllib.parse import quote

import structlog
from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.types import Scope

from twinseal.server.oidc_settings import OidcSettings
from twinseal.server.people import Directory, Person
from twinseal.server.provider import Provider
from twinseal.server.provider_accounts import ProviderAccounts
from twinseal.server.sessions import Sessions
from twinseal.server.tokens import SignInError, person_of, verified_access_token

log = structlog.get_logger(__name__)

LOGIN, CALLBACK, LOGOUT = "/twinseal/login", "/twinseal/callback", "/twinseal/logout"
STYLE = "/twinseal/static/review.css"  # of the pages of sign-in
PASSWORD = "with=password"  # noqa: S105 - "/?with=password" asks for an account's name and password
_PLAIN = re.compile(r"/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*(\?[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*)?\Z")


class NobodyError(Exception):
    """A request is from nobody who is known.

    Args:
        message: Expected and got.
        is_guess: Whether it may have been a guess at a password or a token.
        is_unavailable: Whether nobody can be known now.
    """

    def __init__(self, message: str, *, is_guess: bool, is_unavailable: bool = False) -> None:
        super().__init__(message)
        self.is_guess, self.is_unavailable = is_guess, is_unavailable


class PasswordWay:
    """Accounts with a password, and no other way.

    Args:
        accounts: Knows them.
    """

    open_paths: tuple[str, ...] = ()
    says_who = False  # to MLflow: it looks at name and password itself

    def __init__(self, accounts: Directory) -> None:
        self._accounts = accounts

    def identify(self, headers: Headers) -> Person:
        """Who sends a request with these headers.

        Raises:
            NobodyError: Nobody who is known.
        """
        authorization = headers.get("authorization", "")
        person = self._accounts.identify(authorization) if authorization else None
        if person is None:
            got = "wrong ones" if authorization else "none"
            message = f"expected the name and password of an account, got {got}"
            raise NobodyError(message, is_guess=bool(authorization))
        return person

    def challenge(self, _scope: Scope) -> str:
        """What an answer to nobody asks for."""
        return 'Basic realm="twinseal", charset="UTF-8"'

    def login_page(self, _scope: Scope, _headers: Headers) -> str:
        """Where a browser without a session is sent; "" when it is not."""
        return ""


class AllWays(PasswordWay):
    """Accounts with a password; sessions and access tokens of people of the identity provider.

    Args:
        accounts: Knows those with a password.
        settings: Of sign-in.
        provider: Its keys.
        sessions: Knows sessions.
        people: Their accounts in MLflow.
    """

    open_paths = (LOGIN, CALLBACK, LOGOUT, STYLE)
    says_who = True

    def __init__(
        self,
        accounts: Directory,
        settings: OidcSettings,
        provider: Provider,
        sessions: Sessions,
        people: ProviderAccounts,
    ) -> None:
        super().__init__(accounts)
        self._settings, self._provider, self._sessions, self._people = settings, provider, sessions, people

    def identify(self, headers: Headers) -> Person:
        """As in PasswordWay."""
        authorization = headers.get("authorization")
        if authorization is None:
            found = self._of_session(cookies(headers).get(self._sessions.name, ""))
        elif authorization[:7].lower() == "bearer ":
            found = self._of_token(authorization[7:].strip())
        else:
            return super().identify(headers)
        try:
            if found.roles:
                self._people.admit(found)
        except SignInError as error:
            raise NobodyError(f"{error}. {error.remedy}", is_guess=False) from error
        return found

    def challenge(self, scope: Scope) -> str:
        """As in PasswordWay: a browser asks its user for a password only at `/?with=password`."""
        asks = scope["path"] == "/" and scope.get("query_string", b"").decode("latin-1") == PASSWORD
        return super().challenge(scope) if asks else 'Bearer realm="twinseal"'

    def login_page(self, scope: Scope, headers: Headers) -> str:
        """As in PasswordWay: a navigation is, when it did not try to say who it is from."""
        query = scope.get("query_string", b"").decode("latin-1")
        is_page = (
            scope["method"] == "GET"
            and "authorization" not in headers
            and "text/html" in headers.get("accept", "")
            and headers.get("sec-fetch-mode", "navigate") == "navigate"
            and headers.get("sec-fetch-dest", "document") == "document"
            and not (scope["path"] == "/" and query == PASSWORD)
        )
        if not is_page:
            return ""
        wanted = quote(scope["path"], safe="/:@!$&'()*+,;=~") + (f"?{query}" if query else "")
        return f"{LOGIN}?next={quote(local_path(wanted), safe='')}"

    def _of_session(self, cookie: str) -> Person:
        person = self._sessions.person(cookie, time.time()) if cookie else None
        if person is None:
            got = "one that has ended or is not of this server" if cookie else "none of them"
            raise NobodyError(
                f"expected a session, a token, or the name and password of an account, got {got}", is_guess=False
            )
        return person

    def _of_token(self, token: str) -> Person:
        try:
            claims = verified_access_token(token, self._provider.keys, self._settings, datetime.now(UTC))
            return person_of(claims, self._settings, "token")
        except SignInError as error:
            log.info("sign_in.token_refused", reason=str(error))
            is_down, message = error.status == 503, f"{error} {error.remedy}".strip()
            raise NobodyError(message, is_guess=not is_down, is_unavailable=is_down) from error


def cookies(headers: Headers) -> dict[str, str]:
    """The cookies of a request; of one that is sent twice, the last."""
    return cookie_parser("; ".join(headers.getlist("cookie")))


def local_path(text: str) -> str:
    r"""`text`, if it is a plain path on this server that is no part of the sign-in itself; "/" otherwise.

    >>> [local_path(text) for text in ("/a/b?c=d", "//evil.test", r"/\evil.test", "https://evil.test", "/a/../b")]
    ['/a/b?c=d', '/', '/', '/', '/']
    """
    path = text.partition("?")[0]
    if not _PLAIN.match(text) or "//" in path or {".", ".."} & set(path.split("/")):
        return "/"
    hidden = re.search(r"%(2f|5c|2e|0|1|7f)", path.lower())  # what a layer below could read as another path
    return "/" if hidden or path in (LOGIN, CALLBACK, LOGOUT) else text
