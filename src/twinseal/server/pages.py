"""The pages for reviewers: HTML from `views`, with no script and no style but ours, and no markup from outside.

/twinseal/review               what waits, for you first
/twinseal/review/<candidate>   one candidate
/twinseal/review/<candidate>/report    the report in it, if it is the one that was signed
/twinseal/passkey              make a passkey, for the custodians to enroll
/twinseal/static/…             style and script
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any
from urllib.parse import quote, urlsplit

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from twinseal import __version__
from twinseal.digests import sha256
from twinseal.errors import RegistryError, RootError, TwinsealError
from twinseal.evidence import reports
from twinseal.reading import read_regular
from twinseal.server.gate import PERSON
from twinseal.server.people import Person
from twinseal.server.problems import status_of
from twinseal.server.reviews import Desk
from twinseal.server.second_factor import missing_factor
from twinseal.server.settings import ServerSettings
from twinseal.server.views import REPORT, ends_soon, listed_cases, review_view
from twinseal.trust.release.reports import MAX_REPORT_BYTES

STATIC = {"review.css": "text/css", "review.js": "text/javascript", "passkey.js": "text/javascript"}
_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "frame-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": _POLICY,
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "publickey-credentials-get=(self), publickey-credentials-create=(self), camera=(), "
    "microphone=(), geolocation=()",
}
# The report has styles of its own and pictures inside; nothing in it may run, load or be clicked through to elsewhere.
_REPORT_POLICY = (
    "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)


_TURNING = dict.fromkeys((*range(0x202A, 0x202F), *range(0x2066, 0x206A)), "\N{REPLACEMENT CHARACTER}")


def templates() -> Environment:
    """The templates of all pages, those of sign-in too."""
    found = Environment(
        loader=PackageLoader("twinseal.server"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    found.filters["own"] = _own_direction
    return found


def page_routes(desk: Desk, settings: ServerSettings) -> list[Route]:
    """The routes of the pages."""
    pages = Pages(desk, settings)
    return [
        Route("/twinseal", lambda _request: RedirectResponse("/twinseal/review")),
        Route("/twinseal/", lambda _request: RedirectResponse("/twinseal/review")),
        Route("/twinseal/review", pages.safely(pages.listed)),
        Route("/twinseal/review/{candidate}", pages.safely(pages.review)),
        Route("/twinseal/review/{candidate}/report", pages.safely(pages.report)),
        Route("/twinseal/passkey", pages.safely(pages.passkey)),
        Route("/twinseal/static/{name}", pages.static),
    ]


class Pages:
    """Answers with pages.

    Args:
        desk: The reviews.
        settings: Origin.
    """

    def __init__(self, desk: Desk, settings: ServerSettings) -> None:
        self._desk, self._settings = desk, settings
        self._templates = templates()
        self._templates.filters["moment"] = _moment

    def safely(self, page: Callable[[Request], Response]) -> Callable[[Request], Response]:
        """The page; or one that says why there is none, also where the anchor or the log is damaged."""

        def answer(request: Request) -> Response:
            try:
                return page(request)
            except TwinsealError as error:
                return self._refusal(request, error, status_of(error))

        return answer

    def listed(self, request: Request) -> Response:
        """What waits."""
        me = self._desk.holder_of(_person(request))
        cases, soon = listed_cases(self._desk, me), ends_soon(self._desk, datetime.now(UTC))
        return self._page(request, "list.html.j2", cases=cases, soon=soon, me=me)

    def review(self, request: Request) -> Response:
        """One candidate; to a reviewer it offers to decide."""
        candidate, missing = request.path_params["candidate"], self._missing_factor(request)
        if missing is not None:
            return missing
        view = review_view(self._desk, candidate, self._desk.holder_of(_person(request)), self._settings.origin)
        return self._page(request, "review.html.j2", view=view, at_origin=self._at_origin(request))

    def report(self, request: Request) -> Response:
        """The report, if it is the one that the assessor signed."""
        candidate = request.path_params["candidate"]
        case = self._desk.find(candidate)
        named = reports(case.bundle.statements["assess"]) if case.bundle else ()
        try:
            data = read_regular(self._desk.candidates.report_folder(candidate) / REPORT, MAX_REPORT_BYTES)
        except OSError as error:
            return self._refusal(request, error, 404)
        if sha256(data) != {item.name: item.sha256 for item in named}.get(REPORT):
            changed = RegistryError(
                f"{REPORT}: expected the report that the assessor signed, got another: it is not shown",
                remedy="Do not decide by it. Find out who changed it.",
            )
            return self._refusal(request, changed, 403)
        policy = {"Content-Security-Policy": _REPORT_POLICY, "X-Frame-Options": "SAMEORIGIN"}
        return HTMLResponse(data, headers=HEADERS | policy)

    def passkey(self, request: Request) -> Response:
        """Where a reviewer makes a passkey."""
        me, at_origin = self._desk.holder_of(_person(request)), self._at_origin(request)
        return self._missing_factor(request) or self._page(request, "passkey.html.j2", me=me, at_origin=at_origin)

    def static(self, request: Request) -> Response:
        """Style and script."""
        name = request.path_params["name"]
        if name not in STATIC:
            return Response("no such file\n", 404, HEADERS)
        data = files("twinseal.server").joinpath("static", name).read_bytes()
        return Response(data, headers=HEADERS | {"Cache-Control": "no-cache"}, media_type=STATIC[name])

    def _missing_factor(self, request: Request) -> Response | None:
        """The refusal of a reviewer who has signed in without the second factor that the settings demand."""
        person = _person(request)
        message, remedy = missing_factor(person, self._settings) if "reviewer" in person.roles else ("", "")
        return self._refusal(request, TwinsealError(message, remedy=remedy), 403) if message else None

    def _at_origin(self, request: Request) -> str:
        """This page at the origin that passkeys belong to, if the request names another of this server's; else ""."""
        origin = self._settings.origin
        is_there = request.headers.get("host", "").lower() == urlsplit(origin).netloc.lower()
        return "" if is_there else origin + quote(request.url.path)

    def _refusal(self, request: Request, error: Exception, status: int) -> Response:
        remedy = getattr(error, "remedy", "")
        return self._page(request, "refused.html.j2", status=status, message=str(error), remedy=remedy)

    def _page(self, request: Request, name: str, status: int = 200, **values: Any) -> Response:
        values |= {"demo": False, "person": _person(request), "origin": self._settings.origin, "version": __version__}
        with suppress(RootError):  # a page that says so is shown without
            values |= {"demo": self._desk.home.anchor().demo}
        return HTMLResponse(self._templates.get_template(name).render(values), status, HEADERS)


def _moment(time: str) -> str:
    """A time of RFC 3339 in UTC, as people write it.

    >>> _moment("2026-11-26T08:27:37Z"), _moment("")
    ('2026-11-26 08:27 UTC', 'not known')
    """
    return f"{time[:10]} {time[11:16]} UTC" if time else "not known"


def _own_direction(value: str | Iterable[str]) -> Markup:
    """Text from outside, or several, so that its direction of writing is its own.

    A letter that turns the direction, or that would end `<bdi>` early, is shown as one that is unknown.

    >>> _own_direction(("a\u202eb", "<i>"))
    Markup('<bdi>a\ufffdb</bdi>, <bdi>&lt;i&gt;</bdi>')
    """
    texts = [value] if isinstance(value, str) else value
    return Markup(", ").join(Markup("<bdi>{}</bdi>").format(text.translate(_TURNING)) for text in texts if text)


def _person(request: Request) -> Person:
    person: Person = request.scope[PERSON]
    return person
