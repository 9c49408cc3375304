"""The app: MLflow's pages and API, and ours beside them, behind the gate.

    /                     MLflow
    /twinseal/review/…    the pages for reviewers (pages.py), and /api/twinseal/v1/… their calls (api.py)
    /twinseal/tuf/…       the TUF metadata and targets, as files, for TUF clients
    /twinseal/login, /twinseal/callback, /twinseal/logout   sign-in, when there is an identity provider (oidc.py)
    /twinseal/metrics     for Prometheus
    /twinseal/live, /twinseal/ready   for a load balancer

`create_app` is an entry point of MLflow. `twinseal serve` runs it, with the environment that it needs.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp

from twinseal.errors import ConfigError
from twinseal.reading import read_regular
from twinseal.server import mlflow_person
from twinseal.server.api import PLACE, make_api
from twinseal.server.few import Few
from twinseal.server.gate import PERSON, READY, Gate
from twinseal.server.notices import Notices
from twinseal.server.observing import Observer
from twinseal.server.oidc import SignIn
from twinseal.server.oidc_settings import OidcSettings
from twinseal.server.outbox import Outbox, notices_folder
from twinseal.server.pages import page_routes
from twinseal.server.people import Directory, ServerAccounts
from twinseal.server.provider import Provider
from twinseal.server.provider_accounts import ProviderAccounts
from twinseal.server.registrar import ROUND_S, Registrar
from twinseal.server.reviews import Desk
from twinseal.server.rounds import Round
from twinseal.server.sessions import Sessions
from twinseal.server.settings import SESSION_KEY, ServerSettings
from twinseal.server.ways import CALLBACK, AllWays, PasswordWay
from twinseal.trust.release.release import MAX_RELEASE_BYTES
from twinseal.trust.root.home import Home

# MLflow's calls let go of the interpreter at each row of the database. Python gives it back after 5 ms when another
# thread computes: a twin's question took half a second while somebody looked at a review page.
SWITCH_S = 0.0005


def create_app() -> ASGIApp:
    """The app of this process, for the deployment that the environment names."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of MLflow's own imports
        from mlflow.server import auth  # noqa: PLC0415 - it reads the environment when it is imported

    sys.setswitchinterval(SWITCH_S)
    home = Home.find()
    settings, accounts = ServerSettings.from_environment(home), ServerAccounts()
    if settings.oidc is None:
        return behind_gate(auth.create_app(), home, settings, PasswordWay(accounts))
    if auth.auth_config.authorization_function != mlflow_person.FUNCTION:
        raise ConfigError(
            f"MLflow's accounts: expected authorization_function = {mlflow_person.FUNCTION}, got another",
            remedy="Start the server with: twinseal serve",
        )
    ways, sign_in = _oidc(settings.oidc, settings.origin, home, accounts)
    return behind_gate(auth.create_app(), home, settings, ways, sign_in.routes())


def _oidc(oidc: OidcSettings, origin: str, home: Home, accounts: Directory) -> tuple[AllWays, SignIn]:
    """What sign-in at the identity provider needs."""
    secret, folder = os.environ.get(SESSION_KEY, ""), home.path / "mlflow"
    if not secret:
        raise ConfigError("sessions: expected a secret, got none", remedy="Start the server with: twinseal serve")
    provider, people = Provider(oidc, f"{origin}{CALLBACK}"), ProviderAccounts(folder)
    sessions = Sessions(secret, oidc, origin, folder / "ended")
    ways = AllWays(accounts, oidc, provider, sessions, people)
    return ways, SignIn(oidc, origin, secret, provider, sessions, people, folder / "ended-logins")


def behind_gate(
    mlflow: ASGIApp, home: Home, settings: ServerSettings, ways: PasswordWay, sign_in: Sequence[Route] = ()
) -> ASGIApp:
    """MLflow's app and our pages, behind the gate."""
    observer, desk = Observer(home), Desk(home, settings.database_uri(home))
    pages = _Pages(home, observer)
    registrar = Registrar(desk)
    publishing = Round("registrar", home.path / "mlflow" / "registrar.lock", ROUND_S, registrar.one_round)
    background = (publishing, *_telling(desk, settings))

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        for work in background:
            work.start()
        yield
        for work in background:
            work.stop()

    routes: list[Any] = [
        Route("/twinseal/live", pages.live),
        Route(READY, pages.ready),
        Route("/twinseal/metrics", pages.metrics),
        Route("/twinseal/tuf/{path:path}", pages.tuf),
        *sign_in,
        *page_routes(desk, settings),
        Mount(PLACE, make_api(desk, settings, registrar.publish)),
        Mount("/", mlflow),
    ]
    return Gate(Few(Starlette(routes=routes, lifespan=lifespan)), settings, ways, observer)


def _telling(desk: Desk, settings: ServerSettings) -> tuple[Round, Round]:
    """The rounds that make notices and send them: two, so that no receiver delays what others are told."""
    folder, outbox = notices_folder(desk.home), Outbox(desk.home, settings.notices)
    sending = Round("sending", folder / "sending.lock", 5.0, outbox.deliver)
    notices = Notices(desk, outbox, settings.origin, sending.hurry)
    notices.begin()
    desk.told = notices.collect
    collecting = Round("collecting", folder / "round.lock", 15.0, notices.one_round)
    return collecting, sending


class _Pages:
    def __init__(self, home: Home, observer: Observer) -> None:
        self._home, self._observer = home, observer

    async def live(self, _request: Request) -> Response:
        """This process answers."""
        return PlainTextResponse("live\n")

    def ready(self, request: Request) -> Response:
        """What is published is readable and has not expired; which is not is for people with an account."""
        faults = self._observer.faults()
        said = {fault.detail if request.scope[PERSON] else fault.kind: None for fault in faults}
        return JSONResponse({"ready": not faults, "faults": list(said)}, 503 if faults else 200)

    def metrics(self, _request: Request) -> Response:
        """For Prometheus."""
        return Response(self._observer.metrics(), media_type="text/plain; version=0.0.4; charset=utf-8")

    def tuf(self, request: Request) -> Response:
        """One file of the repository of record; `timestamp.json` is never cached, for it changes under one name."""
        path = Path(request.path_params["path"])
        place = self._home.repository / path
        known = len(path.parts) > 1 and path.parts[0] in ("metadata", "targets") and path.suffix == ".json"
        cache = "no-store" if path.name == "timestamp.json" else "private, max-age=3600"
        try:
            if not known or place.resolve() != self._home.repository.resolve() / path:
                raise FileNotFoundError(path)
            data = read_regular(place, MAX_RELEASE_BYTES)  # at once: it may be replaced by the next at any time
        except (OSError, ValueError):
            message = f"{path}: expected the name of a file of the repository, got another"
            return JSONResponse({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": message, "remedy": ""}, 404)
        return Response(data, media_type="application/json", headers={"Cache-Control": cache})
