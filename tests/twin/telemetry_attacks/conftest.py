from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.twin.telemetry_attacks.scene import Honest, Scene


@pytest.fixture(scope="session")
def prepared(pulled: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site whose twin has heard the first rounds: copy it."""
    path = tmp_path_factory.mktemp("prepared") / "site"
    shutil.copytree(pulled, path)
    Scene.prepare(path)
    return path


@pytest.fixture(scope="session")
def honest(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Honest:
    """What a twin says that nobody attacks."""
    path = tmp_path_factory.mktemp("honest") / "site"
    shutil.copytree(prepared, path)
    return Honest(path)


@pytest.fixture
def scene(prepared: Path, tmp_path: Path) -> Scene:
    """A scene of one's own."""
    shutil.copytree(prepared, tmp_path / "site")
    return Scene.prepared(tmp_path / "site")
