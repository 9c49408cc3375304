from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.twin import deployment as scene
from tests.twin.deployment import Deployment

NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    """A deployment with release 1, made now: other people's tools go by the machine's clock."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scene, "NOW", NOW)
        made = Deployment(tmp_path_factory.mktemp("interop"))
        made.publish(1, now=NOW)
    return made


@pytest.fixture
def bundle(deployment: Deployment, tmp_path: Path) -> Path:
    """A copy of the signed bundle of release 1."""
    candidate = next((deployment.mirror / "candidates").iterdir())
    return Path(shutil.copytree(candidate, tmp_path / "bundle"))
