"""What the whole suite shares: one MLflow store and one real `mlflow server` over it, made when first asked for.

Under xdist each worker makes its own; tests/timing.py says which files run on one worker.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import settings

from tests.warm import Warm, end_shared, shared
from twinseal.trust.root.home import Home

# Of the laws that Hypothesis tests: `make fuzz` searches, `make check` repeats the same examples (pyproject.toml).
settings.register_profile("search", max_examples=2_000, deadline=None)

pytest_plugins = ("tests.timing",)

# A suite started in the background (`make check &` in a script) inherits an ignored SIGINT, and its programs from it:
# tests of Ctrl-C would wait for ever.
signal.signal(signal.SIGINT, signal.default_int_handler)

# No test touches the homes, confirmations or caches of whoever runs the suite: programs that tests start inherit these.
# Set here, not in a fixture: other fixtures of the session start programs.
USER = tempfile.mkdtemp(prefix="twinseal-user-")
os.environ |= {f"XDG_{kind}_HOME": f"{USER}/{kind.lower()}" for kind in ("DATA", "CONFIG", "CACHE")}
for variable in ("TWINSEAL_HOME", "DVC_SITE_CACHE_DIR"):
    os.environ.pop(variable, None)


def pytest_unconfigure() -> None:
    """End the programs that tests share; remove the folders of the user that the tests were."""
    end_shared()
    shutil.rmtree(USER, ignore_errors=True)


@pytest.fixture(autouse=True)
def _site_cache_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a command that ran in this process put into the environment is gone after the test."""
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", "")
    monkeypatch.delenv("DVC_SITE_CACHE_DIR")


@pytest.fixture(autouse=True)
def _log_as_before() -> Iterator[None]:
    """A command that ran in this process has set the log up for itself."""
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def warm() -> Warm:
    """Starts programs of ours in milliseconds."""
    return shared()


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
