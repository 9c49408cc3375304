from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.trust.scenes import Scene, describe, make_bundle, make_scene


@pytest.fixture(scope="session")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """A demo home before its first release. Not to be changed: tests that publish take `stage`."""
    return make_scene(tmp_path_factory.mktemp("trust") / "home")


@pytest.fixture(scope="session")
def honest_bundle(scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("trust") / "bundle", scene.home)


@pytest.fixture
def bundle(honest_bundle: Path, tmp_path: Path) -> Path:
    """A copy of the honest bundle, to be tampered with."""
    return Path(shutil.copytree(honest_bundle, tmp_path / "bundle"))


@pytest.fixture
def stage(scene: Scene, tmp_path: Path) -> Scene:
    """A copy of the home, to be published to."""
    return scene.copy(tmp_path / "home")


@pytest.fixture(scope="session")
def released_scene(scene: Scene, honest_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Scene:
    published = scene.copy(tmp_path_factory.mktemp("trust") / "released")
    published.publish(describe(honest_bundle))
    return published


@pytest.fixture
def released(released_scene: Scene, tmp_path: Path) -> Scene:
    """A copy of a home with release 1 of pump-rul."""
    return released_scene.copy(tmp_path / "released")
