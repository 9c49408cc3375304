"""What the whole suite shares: one MLflow store and one real `mlflow server` over it, made when first asked for.

Under xdist each worker makes its own; tests/timing.py says which files run on one worker.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
import structlog

from tests.warm import Warm
from twinseal.trust.root.home import Home

pytest_plugins = ("tests.timing",)

# A suite started in the background (`make check &` in a script) inherits an ignored SIGINT, and its programs from it:
# tests of Ctrl-C would wait for ever.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _log_as_before() -> Iterator[None]:
    """A command that ran in this process has set the log up for itself."""
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def warm() -> Iterator[Warm]:
    """Starts programs of ours in milliseconds."""
    with Warm() as started:
        yield started


@pytest.fixture(scope="session")
def registry_home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home whose default MLflow store the session shares."""
    return Home(tmp_path_factory.mktemp("registry-home"))


@pytest.fixture(scope="session")
def store(registry_home: Home) -> object:
    """The default store: SQLite and a folder. Each test uses a model name of its own."""
    from twinseal.registry.store import connect

    return connect(registry_home, None)


@pytest.fixture(scope="session")
def server(store: object, registry_home: Home) -> Iterator[str]:
    """The address of a real `mlflow server` over the shared store."""
    from tests.mlflow_server import serving

    with serving(registry_home.path) as address:
        yield address
