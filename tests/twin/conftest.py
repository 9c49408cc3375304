from __future__ import annotations

import gc
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.twin.deployment import Deployment
from tests.twin.site import Site


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _left_sockets(request: pytest.FixtureRequest) -> Iterator[None]:
    """paho leaves the socket of a failed handshake to the collector: where a test ignores that, it comes there."""
    yield
    if request.node.get_closest_marker("filterwarnings"):
        gc.collect()


@pytest.fixture(scope="session")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A deployment that has published release 1; `before` is what it was before that."""
    path = tmp_path_factory.mktemp("deployment")
    deployment = Deployment(path)
    shutil.copytree(path / "home", path / "before/home")
    deployment.publish(1)
    return path


@pytest.fixture
def deployment(first: Path, tmp_path: Path) -> Deployment:
    """A deployment of one's own, release 1 published."""
    shutil.copytree(first, tmp_path / "deployment")
    return Deployment(tmp_path / "deployment")


@pytest.fixture(scope="session")
def pulled(first: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site that has pulled release 1: copy it."""
    path = tmp_path_factory.mktemp("site")
    shutil.copytree(first, path / "deployment")
    Site(path)
    return path
