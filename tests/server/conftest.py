from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.server.databases import ready_tables, sqlite_copy
from tests.server.postgres import NoPostgresError, Postgres, postgres
from twinseal.trust.root.home import Home


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    """A real PostgreSQL; without its programs the tests that need it are skipped."""
    with ExitStack() as stack:
        try:
            server = stack.enter_context(postgres())
        except NoPostgresError as missing:
            pytest.skip(str(missing))
        yield server


@pytest.fixture(scope="session")
def protected_home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """The home of a deployment that protects pump-rul and fan-rul, and has published nothing."""
    from tests.twin.deployment import Deployment

    home = Deployment(tmp_path_factory.mktemp("protected"), now=datetime.now(UTC)).home
    home.path.chmod(0o700)
    return home


@pytest.fixture(params=["sqlite", "postgresql"])
def new_database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], str]]:
    """Gives the address of a new database with MLflow's tables, each time it is called."""
    with ExitStack() as stack:
        if request.param == "sqlite":
            yield lambda: stack.enter_context(sqlite_copy(ready_tables(), tmp_path))
        else:
            server: Postgres = request.getfixturevalue("postgres_server")
            yield lambda: stack.enter_context(server.fresh())


@pytest.fixture
def pair(new_database: Callable[[], str]) -> tuple[str, str]:
    """The addresses of two new databases."""
    return new_database(), new_database()


@pytest.fixture(scope="session")
def provider() -> Iterator[Any]:
    """A real identity provider; without Node.js the tests that need it are skipped."""
    from tests.server.oidc_scene import providing

    with providing() as found:
        yield found


@pytest.fixture(scope="session")
def _oidc(provider: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from tests.server.oidc_scene import oidc_scene

    with oidc_scene(tmp_path_factory.mktemp("oidc"), provider) as scene:
        yield scene


@pytest.fixture
def oidc(_oidc: Any) -> Any:
    """A server that trusts the provider, and its people as they are at first."""
    from tests.server.oidc_scene import PEOPLE

    _oidc.provider.control(people=PEOPLE, redirect=f"{_oidc.server.url}/twinseal/callback", id_token=None)
    return _oidc


@pytest.fixture(autouse=True)
def _no_server_of_another_test() -> None:
    """MLflow's registry asks the server that this process used last: here none, whatever ran before."""
    from mlflow.tracking._model_registry import utils as registry
    from mlflow.tracking._tracking_service import utils as tracking

    tracking._tracking_uri, registry._registry_uri = None, None
