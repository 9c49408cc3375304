"""MLflow's own tests of its registry store, run against ours.

    python -m tests.server.mlflow_own CLONE                a clone of mlflow/mlflow at the tag of the locked version
    python -m tests.server.mlflow_own CLONE --postgresql   on PostgreSQL instead of SQLite

They are not in this repository: no package of a registry has them, and `make check` needs no network. It asks MLflow's
store itself instead (test_unprotected.py); run these when the lock moves to another MLflow. The file runs unchanged:
the names of MLflow's stores in it are given to ours, which is opened as MLflow opens it, and its fixtures that live in
MLflow's own conftest are here. It is a plugin of pytest too, for the pytest that the command starts.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import types
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from tests.server.databases import make_tables, set_up_mappers
from tests.server.postgres import postgres

FILE = "tests/store/model_registry/test_sqlalchemy_store.py"
DATABASE = "TWINSEAL_MLFLOW_OWN_DATABASE"
# MLflow's test of the encrypted secrets of webhooks leaves an engine of its own open.
LEFT_OPEN = "ignore::pytest.PytestUnraisableExceptionWarning"
# Tests that cannot pass, by name and why. One that passes all the same fails: the list must not outlive its reasons.
EXCLUDED: dict[str, str] = {}


def main() -> int:
    """Run the tests of a clone; pytest's exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.server.mlflow_own")
    parser.add_argument("clone", type=Path)
    parser.add_argument("--postgresql", action="store_true")
    given, options = parser.parse_known_args()
    require_version(given.clone)
    root = Path(__file__).parents[2]
    with tempfile.TemporaryDirectory(prefix="mlflow-own-") as folder:
        copy = shutil.copy(given.clone / FILE, folder)
        words = [
            sys.executable,
            "-m",
            "pytest",
            "-c",
            str(root / "pyproject.toml"),
            "--rootdir",
            folder,
            "--noconftest",
        ]
        words += ["-p", "tests.server.mlflow_own", "-q", "-W", LEFT_OPEN, *options, str(copy)]
        database = "postgresql" if given.postgresql else "sqlite"
        return subprocess.run(words, cwd=root, env=os.environ | {DATABASE: database}, check=False).returncode


def require_version(clone: Path) -> None:
    """Refuse tests of another MLflow than the one that is installed."""
    found = (clone / "mlflow/version.py").read_text()
    if f'"{version("mlflow")}"' not in found:
        raise SystemExit(
            f"{clone}: expected MLflow {version('mlflow')}, got another: git checkout v{version('mlflow')}"
        )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "notrackingurimock: of MLflow's conftest")
    helpers = types.ModuleType("tests.helper_functions")  # MLflow's drags in all its flavours
    helpers.random_str = lambda size=12: uuid.uuid4().hex[:size]  # type: ignore[attr-defined]
    sys.modules["tests.helper_functions"] = helpers
    set_up_mappers()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    names = {item.name for item in items}
    if unknown := {name for name in EXCLUDED if name not in names}:
        raise pytest.UsageError(f"EXCLUDED: expected tests of MLflow, got {', '.join(sorted(unknown))}")
    for item in items:
        if item.name in EXCLUDED:
            item.add_marker(pytest.mark.xfail(strict=True, reason=EXCLUDED[item.name]))
        give_our_store(item.module)  # type: ignore[attr-defined]


def give_our_store(module: Any) -> None:
    """Let what the module takes for MLflow's stores open ours; their class methods stay."""
    from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore
    from mlflow.tracking._model_registry.utils import _get_store

    class Ours(SqlAlchemyStore):  # type: ignore[misc]  # mypy skips MLflow
        def __new__(cls, uri: str) -> Any:
            return _get_store(store_uri=f"twinseal+{uri}")

    module.SqlAlchemyStore = module.WorkspaceAwareSqlAlchemyStore = Ours


@pytest.fixture(scope="session")
def server() -> Iterator[Any]:
    if os.environ[DATABASE] == "sqlite":
        yield None
    else:
        with postgres() as started:
            yield started


@pytest.fixture(scope="session")
def cached_db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tables") / "mlflow.db"
    make_tables(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session", autouse=True)
def _home(tmp_path_factory: pytest.TempPathFactory) -> None:
    from tests.twin.deployment import Deployment

    home = Deployment(tmp_path_factory.mktemp("protected"), now=datetime.now(UTC)).home
    home.path.chmod(0o700)
    os.environ["TWINSEAL_HOME"] = str(home.path)


@pytest.fixture
def disable_workspace_mode_by_default(server: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Not only what its name says: also the database, of which MLflow's tests ask the environment."""
    # MLflow asks the name server whether a webhook's address is a public one; no test asks any.
    answer = [(2, 1, 6, "", ("93.184.216.34", 0))]
    monkeypatch.setattr("mlflow.utils.validation._resolve_hostname_with_timeout", lambda *_: answer)
    monkeypatch.setenv("MLFLOW_ENABLE_WORKSPACES", "false")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    if server is None:
        yield
    else:
        with server.fresh() as uri:
            monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
            yield


if __name__ == "__main__":
    sys.exit(main())
