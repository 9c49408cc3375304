"""The twin's journal: admissions before they happen, refusals after, and no switch that is not in the log."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from tests.twin.deployment import MODEL, NOW, Deployment
from twinseal.errors import AuditError, DigestMismatchError, RegistryError, RollbackError
from twinseal.trust.audit import Entry, log_of, verify
from twinseal.twin.byte_sources import DirectorySource
from twinseal.twin.pull import pull
from twinseal.twin.runtime import current_model

LATER = NOW + timedelta(hours=1)


def fetch(deployment: Deployment, twin: Path) -> bool:
    return pull(DirectorySource(deployment.mirror), deployment.anchor, MODEL, twin, LATER).changed


def journal(twin: Path) -> list[Entry]:
    return [item for _, item in log_of(twin).read()]


@pytest.fixture
def twin(deployment: Deployment, tmp_path: Path) -> Path:
    """The folder of a twin that has pulled release 1."""
    assert fetch(deployment, tmp_path / "twin")
    return tmp_path / "twin"


def test_an_admission_is_logged_and_a_pull_that_changes_nothing_is_not(deployment: Deployment, twin: Path) -> None:
    assert not fetch(deployment, twin)
    release = deployment.publish(2)
    assert fetch(deployment, twin)
    assert [("admitted", "twin", MODEL, 1), ("admitted", "twin", MODEL, 2)] == [
        (item.event, item.actor, item.model, item.version) for item in journal(twin)
    ]
    assert (release.sha256, LATER) == (journal(twin)[-1].sha256, journal(twin)[-1].time)
    assert 2 == verify(log_of(twin).path).size


def test_a_refusal_is_logged_with_its_release_and_its_reason(
    deployment: Deployment, twin: Path, tmp_path: Path
) -> None:
    shutil.copytree(deployment.mirror, tmp_path / "before")
    release = deployment.publish(2)
    weights = deployment.candidate(release) / "model/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    with pytest.raises(DigestMismatchError):
        fetch(deployment, twin)
    refused = journal(twin)[-1]
    assert ("refused", MODEL, 2, release.sha256) == (refused.event, refused.model, refused.version, refused.sha256)
    assert ("admitted", "DigestMismatchError") == (refused.details["attempted"], refused.details["error"])
    assert refused.details["message"].startswith("model/model.safetensors: expected sha256")
    deployment.mirror = tmp_path / "before"
    with pytest.raises(RollbackError):
        fetch(deployment, twin)
    deployment.mirror = tmp_path / "gone"
    with pytest.raises(RegistryError):
        fetch(deployment, twin)
    assert ["DigestMismatchError", "RollbackError", "RegistryError"] == [
        item.details["error"] for item in journal(twin)[1:]
    ]


def no_key(log: Path) -> None:
    (log / "key").unlink()


def a_file_in_its_place(log: Path) -> None:
    shutil.rmtree(log)
    log.write_bytes(b"")


def edited(log: Path) -> None:
    path = log / "tile/entries/000.p/1"
    path.write_bytes(path.read_bytes().replace(b'"admitted"', b'"approved"'))


@pytest.mark.parametrize("harm", [no_key, a_file_in_its_place, edited], ids=lambda harm: str(harm.__name__))
def test_a_release_that_cannot_be_logged_is_not_installed(
    harm: Callable[[Path], None], deployment: Deployment, twin: Path
) -> None:
    deployment.publish(2)
    harm(log_of(twin).path)
    with pytest.raises(AuditError) as refusal:
        fetch(deployment, twin)
    assert "This refusal is not in the audit log" in refusal.value.remedy
    assert 1 == current_model(twin, deployment.anchor, MODEL).release.version
    assert 1 == len(list((twin / "models").iterdir()))


def test_a_refusal_that_cannot_be_logged_stands(deployment: Deployment, twin: Path) -> None:
    shutil.rmtree(deployment.mirror / "metadata")
    no_key(log_of(twin).path)
    with pytest.raises(RegistryError) as refusal:
        fetch(deployment, twin)
    assert "This refusal is not in the audit log" in refusal.value.remedy
    assert 1 == current_model(twin, deployment.anchor, MODEL).release.version
