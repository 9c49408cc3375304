"""The gate: every request passes it before MLflow, or a page of ours, sees it. What is not allowed is refused.

In order:

1. the Host header names this server; the path has one reading
2. the body is not too large
3. the sender is known (`ways.py`) and has not asked too often; the address has not guessed too often (`guesses.py`)
4. a request that changes something comes from no other site's page
5. one of the sender's roles may do it; what this server does not offer is offered to nobody

What is behind the gate learns from it who asks, and from nothing else: what a client says of that itself is removed.
Then an access log line and the metrics say who asked for what, and what came of it.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

import structlog
from anyio import CapacityLimiter, to_thread
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter
from starlette.datastructures import Headers
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from twinseal.reading import open_regular
from twinseal.server.guesses import Guesses, TooManyGuessesError
from twinseal.server.mlflow_person import with_person, without_claims
from twinseal.server.observing import Observer
from twinseal.server.offers import is_offered
from twinseal.server.people import Person
from twinseal.server.settings import ServerSettings
from twinseal.server.ways import NobodyError, PasswordWay

log = structlog.get_logger(__name__)

PERSON = "twinseal.person"  # where a request's scope has who sent it
_LATER = "Try again in a minute"
READY = "/twinseal/ready"  # says more to whoever has an account
OPEN = ("/health", "/twinseal/live", READY)  # for a load balancer, which has no account
FILE = "http.response.pathsend"  # of ASGI: an app answers with the name of a file
PIECE = 1 << 20
THREADS = 20
SMALL_BODY = 16 << 20  # of anything but a file
_SAFE = ("GET", "HEAD")
_FILES = re.compile(r"/(ajax-)?api/2\.0/mlflow-artifacts/artifacts/")  # MLflow streams these, and nothing else
_OURS = "/api/twinseal/"
# A question that MLflow's client or pages ask by POST; it changes nothing.
_QUESTIONS = re.compile(
    r"/(ajax-)?api/\d\.\d/?mlflow/("
    r"(experiments|runs|logged-models|registered-models|model-versions|traces|datasets)/search"
    r"|experiments/search-datasets|registered-models/get-latest-versions|traces/(batchGetInfos|metrics)"
    r")\Z|/graphql\Z"
)
_ACCOUNTS = re.compile(r"/(ajax-)?api/\d\.\d/mlflow/(users|roles|permissions)(/|\Z)")
_WEBHOOKS = re.compile(r"/(ajax-)?api/\d\.\d/mlflow/webhooks(/|\Z)")  # MLflow's: they have this server send
_OWN_ACCOUNT = re.compile(r"/(ajax-)?api/2\.0/mlflow/users/(current\Z|current/|get\Z|update-password\Z)")


@dataclass(frozen=True)
class Refusal:
    """Why a request is not passed on.

    Attributes:
        status: Of the HTTP answer.
        code: MLflow's word for it, which its clients and pages show.
        message: Expected, got.
        remedy: What to do.
        challenge: How somebody who is not known can say who they are.
        login: Where a browser is sent to sign in; "" when it is not.
    """

    status: int
    code: str
    message: str
    remedy: str = ""
    challenge: str = ""
    login: str = ""

    def response(self, path: str) -> Response:
        """The answer, as MLflow's own errors look: its pages and clients show the message alone, so it says all."""
        if self.login:
            return RedirectResponse(self.login, 303, {"Cache-Control": "no-store"})
        message = self.message if path.startswith(_OURS) else f"{self.message}. {self.remedy}".removesuffix(". ")
        headers = {"WWW-Authenticate": self.challenge} if self.challenge else {}
        if self.status == 429:
            headers["Retry-After"] = "60"
        said = {"error_code": self.code, "message": message, "remedy": self.remedy}
        return JSONResponse(said, self.status, headers)


class TooLargeError(Exception):
    """A body went on beyond its limit."""


class _Answer:
    """What was sent back."""

    def __init__(self, send: Send, threads: CapacityLimiter) -> None:
        self._send, self._threads = send, threads
        self.status, self.size, self.is_muted = 0, 0, False

    async def send(self, message: Message) -> None:
        """Pass a message on, and note it."""
        if self.is_muted:
            return
        if message["type"] == FILE:
            await self._send_file(Path(message["path"]))
            return
        self.status = message.get("status", self.status)
        self.size += len(message.get("body", b""))
        await self._send(message)

    async def _send_file(self, path: Path) -> None:
        """The bytes of a file that an app names: through MLflow's layers, each piece would cost as much again."""
        with open_regular(path) as stream:
            while piece := await to_thread.run_sync(stream.read, PIECE, limiter=self._threads):
                await self.send({"type": "http.response.body", "body": piece, "more_body": True})
        await self.send({"type": "http.response.body", "body": b""})


class Gate:
    """ASGI middleware.

    Args:
        app: What is behind it.
        settings: Hosts, origin and limits.
        ways: Know people.
        observer: Log and metrics.
    """

    def __init__(self, app: ASGIApp, settings: ServerSettings, ways: PasswordWay, observer: Observer) -> None:
        self._app, self._settings, self._ways, self._observer = app, settings, ways, observer
        self._threads = CapacityLimiter(THREADS)  # its own: nobody is kept out by what slow pages do
        self._guesses = Guesses(settings, ways.identify, self._threads)
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())  # it forgets; the moving window does not
        self._asked = RateLimitItemPerMinute(settings.requests_a_minute)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer with a refusal."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        started, answer, person = time.perf_counter(), _Answer(send, self._threads), None
        scope = {**scope, "client": (self._address(scope), 0)}
        try:
            person, refusal = await self._judge(scope, Headers(scope=scope))
            if refusal is not None:
                await refusal.response(scope["path"])(scope, receive, answer.send)
            else:
                says_who = person is not None and self._ways.says_who
                passed = with_person(scope, person) if person and says_who else without_claims(scope)
                await self._app(
                    {**passed, PERSON: person, "extensions": {**scope.get("extensions", {}), FILE: {}}},
                    self._bounded(scope, receive, answer),
                    answer.send,
                )
        except Exception:  # MLflow's middleware puts ours into a group
            if not answer.is_muted:
                raise
            answer.is_muted = False
            if not answer.status:
                await _too_large(self._limit(scope)).response(scope["path"])(scope, receive, answer.send)
        finally:
            self._observer.note(scope, person, answer.status or 500, answer.size, time.perf_counter() - started)

    async def _judge(self, scope: Scope, headers: Headers) -> tuple[Person | None, Refusal | None]:
        path, method = scope["path"], scope["method"]
        refusal = self._check_address(path, headers) or self._check_size(scope, headers)  # 1, 2
        if refusal is not None or (path in OPEN and not (path == READY and "authorization" in headers)):
            return None, refusal
        address = scope["client"][0]
        if path in self._ways.open_paths:  # sign-in: 3 is what it is for
            return None, self._check_often(f"from {address}") or self._check_origin(method, headers, is_browser=True)
        try:
            person = await self._guesses.identify(headers, address)  # 3
        except TooManyGuessesError:
            message = "expected a password or a token, got too many wrong ones"
            return None, Refusal(429, "REQUEST_LIMIT_EXCEEDED", message, _LATER)
        except NobodyError as error:
            return None, self._nobody(error, scope, headers)
        except Exception as error:  # of MLflow, of the accounts' database
            log.exception("accounts.failed", error=type(error).__name__)
            return None, _unavailable("expected the accounts to answer, got an error")
        origin = self._check_origin(method, headers, is_browser=person.way == "session")  # 4
        return person, self._check_often(person.name) or origin or check_role(person, method, path)  # 5

    def _nobody(self, error: NobodyError, scope: Scope, headers: Headers) -> Refusal:
        if error.is_unavailable:
            return _unavailable(str(error))
        login, challenge = self._ways.login_page(scope, headers), self._ways.challenge(scope)
        return Refusal(401, "UNAUTHENTICATED", str(error), "", challenge, login)

    def _address(self, scope: Scope) -> str:
        """Who sends a request: of a proxy that is trusted, whom it says; X-Forwarded-For is read from its end."""
        address = _plain_address(scope["client"][0]) if scope.get("client") else ""
        hops = ",".join(Headers(scope=scope).getlist("x-forwarded-for")).split(",")
        while hops and self._settings.trusts(address):
            address = _plain_address(hops.pop()) or address
        return address or "unknown"

    def _check_often(self, who: str) -> Refusal | None:
        if self._limiter.hit(self._asked, who):
            return None
        return Refusal(429, "REQUEST_LIMIT_EXCEEDED", "expected fewer requests, got too many", _LATER)

    def _check_address(self, path: str, headers: Headers) -> Refusal | None:
        host = headers.get("host", "").lower()
        if host not in self._settings.hosts and path not in OPEN:
            known = ", ".join(sorted(self._settings.hosts))
            message = f"Host: expected {known}, got {host[:80]!r}"
            return Refusal(403, "PERMISSION_DENIED", message, "Further names: allowed_hosts in server.yaml")
        odd = set("\\\ufffd") & set(path)  # a backslash; bytes that are no UTF-8
        if "//" in path or odd or not path.isprintable() or {".", ".."} & set(path.split("/")):
            return Refusal(400, "INVALID_PARAMETER_VALUE", "path: expected plain names, got one with another reading")
        if len(headers.getlist("authorization")) > 1:
            return Refusal(400, "INVALID_PARAMETER_VALUE", "Authorization: expected one such header, got several")
        return None

    def _limit(self, scope: Scope) -> int:
        upload = scope["method"] == "PUT" and _FILES.match(scope["path"])
        return self._settings.max_upload_mib << 20 if upload else SMALL_BODY

    def _check_size(self, scope: Scope, headers: Headers) -> Refusal | None:
        given = headers.get("content-length", "0")
        if not (given.isascii() and given.isdigit()):
            return Refusal(400, "INVALID_PARAMETER_VALUE", "Content-Length: expected a number, got something else")
        return _too_large(self._limit(scope)) if int(given) > self._limit(scope) else None

    def _bounded(self, scope: Scope, receive: Receive, answer: _Answer) -> Receive:
        """`receive`, which ends a body of unknown length at the limit; what is behind says no more then."""
        limit, got = self._limit(scope), 0

        async def bounded() -> Message:
            nonlocal got
            message = await receive()
            got += len(message.get("body", b""))
            if got > limit:
                answer.is_muted = True
                raise TooLargeError
            return message

        return bounded

    def _check_origin(self, method: str, headers: Headers, *, is_browser: bool) -> Refusal | None:
        """Refuse a change that another site's page asks for: a browser says where a request comes from.

        A program need not; but a browser sends its cookies by itself.
        """
        if method in _SAFE:
            return None
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        same = f"{'https' if self._settings.tls_certificate else 'http'}://{headers.get('host', '').lower()}"
        if (
            (origin is not None and origin.lower() not in (self._settings.origin, same))
            or site
            not in (
                None,
                "same-origin",
                "none",
            )
            or (is_browser and origin is None and site is None)
        ):
            got = (origin or site or "")[:80]
            return Refusal(403, "PERMISSION_DENIED", f"Origin: expected {self._settings.origin}, got {got!r}")
        return None


def check_role(person: Person, method: str, path: str) -> Refusal | None:
    """Whether one of a person's roles may do this; None if it may."""
    if not is_offered(path):
        return Refusal(404, "ENDPOINT_NOT_FOUND", f"{path[:80]}: this server does not offer it")
    needed = _needed_role(method, path)
    allowed = bool(person.roles) if needed == "reader" else needed in person.roles
    return None if allowed else _not_allowed(person, needed)


def _needed_role(method: str, path: str) -> str:
    """The role that a request needs; reader: any role at all."""
    if _OWN_ACCOUNT.match(path) and (method in _SAFE or path.endswith("update-password")):
        return "reader"
    if _ACCOUNTS.match(path) or _WEBHOOKS.match(path):
        return "registrar"
    asks = method in _SAFE or (method == "POST" and _QUESTIONS.match(path))
    return "reader" if asks or path.startswith(_OURS) else "engineer"  # each call of ours says whom it is for


def _not_allowed(person: Person, role: str) -> Refusal:
    has = ", ".join(sorted(person.roles)) or "none"
    return Refusal(
        403,
        "PERMISSION_DENIED",
        f"{person.name}: expected the role {role}, got {has}",
        "A registrar gives roles: twinseal account add",
    )


def _unavailable(message: str) -> Refusal:
    return Refusal(503, "TEMPORARILY_UNAVAILABLE", message, _LATER)


def _plain_address(text: str) -> str:
    """An address in its one form; "" for what is none.

    >>> [_plain_address(text) for text in (" 192.0.2.7", "::ffff:192.0.2.7", "2001:DB8::7", "proxy")]
    ['192.0.2.7', '192.0.2.7', '2001:db8::7', '']
    """
    try:
        found = ip_address(text.strip())
    except ValueError:
        return ""
    return str(getattr(found, "ipv4_mapped", None) or found)


def _too_large(limit: int) -> Refusal:
    return Refusal(413, "INVALID_PARAMETER_VALUE", f"body: expected at most {limit >> 20} MiB, got more")
