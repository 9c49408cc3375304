"""Keys are rotated or revoked: the next model counts by the new root, and the one that runs keeps running."""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path

import pytest

from tests.twin.deployment import MODEL, NOW, Deployment
from twinseal.errors import RootError, SignatureError, ThresholdError
from twinseal.trust.ceremonies import ceremony
from twinseal.trust.root.anchor import Anchor
from twinseal.twin.byte_sources import DirectorySource
from twinseal.twin.pull import PullResult, pull
from twinseal.twin.runtime import current_model

LATER = NOW + timedelta(hours=1)


class Installed:
    """A twin that was installed with the first root, and runs release 1."""

    def __init__(self, deployment: Deployment, path: Path) -> None:
        self.deployment, self.path, self.anchor = deployment, path, deployment.anchor
        self.pull()

    def pull(self) -> PullResult:
        return pull(DirectorySource(self.deployment.mirror), self.anchor, MODEL, self.path, LATER)

    @property
    def version(self) -> int:
        return current_model(self.path, self.anchor, MODEL).release.version


@pytest.fixture
def twin(deployment: Deployment, tmp_path: Path) -> Installed:
    return Installed(deployment, tmp_path / "twin")


def rotate(twin: Installed, holder: str) -> Anchor:
    done = ceremony.rotate(twin.deployment.home, twin.deployment.roles, holder, LATER)
    assert done.anchor is not None
    twin.deployment.update_mirror()
    return done.anchor


@pytest.mark.attack("1")
def test_a_rotated_reviewers_key_stops_the_next_pull_and_not_the_running_model(twin: Installed) -> None:
    """Stolen reviewer key, then rotated: its old approval is refused, and the installed model keeps running."""
    rotate(twin, "alice")
    with pytest.raises(ThresholdError, match="pump-rul was signed by 1/2 keys"):
        twin.pull()
    assert 1 == twin.version
    twin.deployment.publish(2, now=LATER)
    assert twin.pull().changed
    assert 2 == twin.version


@pytest.mark.attack("7")
def test_a_running_model_does_not_need_the_cache(twin: Installed) -> None:
    """The twin's TUF cache is deleted: the installed model still starts, with the roots in its own folder."""
    rotate(twin, "alice")
    twin.deployment.publish(2, now=LATER)
    twin.pull()
    shutil.rmtree(twin.path / "tuf")
    assert 2 == twin.version
    (roots,) = twin.path.glob("models/*/roots")
    assert ["2.root.json"] == [path.name for path in roots.iterdir()]
    shutil.rmtree(roots)
    with pytest.raises(ThresholdError, match="expected 2 reviewers, got 1"):
        assert twin.version


@pytest.mark.attack("7")
def test_a_root_in_the_models_folder_is_followed_only_if_custodians_signed_it(twin: Installed, tmp_path: Path) -> None:
    """An attacker's root is put into the folder of the installed model."""
    thief = Deployment(tmp_path / "thief")
    ceremony.rotate(thief.home, thief.roles, "alice", LATER)
    (folder,) = twin.path.glob("models/*")
    (folder / "roots").mkdir()
    shutil.copy(thief.home.repository / "metadata" / "2.root.json", folder / "roots")
    with pytest.raises(RootError, match="expected version 2 signed by the custodians before it"):
        assert twin.version


@pytest.mark.attack("4")
@pytest.mark.parametrize("holder", ["builder", "assessor"])
def test_a_rotated_builders_key_is_refused_by_a_new_twin_and_the_old_twin_keeps_running(
    holder: str, twin: Installed, tmp_path: Path
) -> None:
    """Stolen builder or assessor key, then rotated: a new twin refuses what the old key signed."""
    newest = rotate(twin, holder)
    assert not twin.pull().changed  # release 1 is still current, and was admitted when its signers counted
    with pytest.raises(SignatureError, match=holder):
        pull(DirectorySource(twin.deployment.mirror), newest, MODEL, tmp_path / "new", LATER)
    twin.deployment.publish(2, now=LATER)  # built, tested and approved again
    assert pull(DirectorySource(twin.deployment.mirror), newest, MODEL, tmp_path / "new", LATER).changed
    assert twin.pull().changed


@pytest.mark.attack("1")
def test_a_registrars_key_is_rotated_without_touching_the_twin(twin: Installed) -> None:
    """Stolen registrar key, then rotated: the twin accepts the new key without a manual step."""
    rotate(twin, "registrar")
    assert not twin.pull().changed
    assert 1 == twin.version


def test_a_twin_given_a_newer_anchor_by_hand_keeps_its_model(twin: Installed) -> None:
    """Lost quorum and the like end in an anchor carried by hand; the same reviewers still count by it."""
    twin.anchor = rotate(twin, "ruth")
    assert 1 == twin.version
    assert not twin.pull().changed
