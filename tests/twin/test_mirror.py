"""Mirrors: a release is carried on a disk, verified there, and installed with no network; nothing in it is trusted."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from tests.simulator import Registry
from tests.twin.deployment import MODEL, NOW, OTHER, Deployment
from twinseal.errors import (
    ConfigError,
    DigestMismatchError,
    ExpiredError,
    RegistryError,
    RollbackError,
    SignatureError,
    TwinsealError,
)
from twinseal.files import inventory
from twinseal.trust.root.anchor import Anchor
from twinseal.trust.root.home import Home
from twinseal.twin import mirror as mirrors
from twinseal.twin.byte_sources import DirectorySource, RestSource
from twinseal.twin.mirror import model_in, verify_mirror, write_mirror
from twinseal.twin.pull import pull
from twinseal.twin.runtime import current_model

LATER = NOW + timedelta(hours=1)


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a connection was asked for")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture(scope="module")
def written(first: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mirror of release 1, made over HTTP."""
    folder, published = tmp_path_factory.mktemp("written") / "mirror", Deployment(first)
    with Registry(published.mirror) as registry, RestSource(registry.url, MODEL) as source:
        found = write_mirror(source, published.anchor, MODEL, folder, NOW)
    assert (1, True) == (found.release.version, found.demo)
    return folder


@pytest.fixture
def carried(written: Path, tmp_path: Path) -> Path:
    """The same, on a disk of one's own."""
    return Path(shutil.copytree(written, tmp_path / "disk" / "mirror"))


@pytest.fixture(scope="module")
def anchor(first: Path) -> Anchor:
    return Home(first / "home").anchor()


@pytest.mark.usefixtures("no_network")
def test_a_release_is_carried_verified_and_installed_without_a_network(
    carried: Path, anchor: Anchor, tmp_path: Path
) -> None:
    found = verify_mirror(carried, anchor, MODEL, LATER)
    assert found.ends > LATER
    assert (MODEL, ["mirror"]) == (model_in(carried, anchor), [p.name for p in carried.parent.iterdir()])
    for now, changed in ((LATER, True), (LATER + timedelta(hours=1), False)):
        assert changed == pull(DirectorySource(carried), anchor, MODEL, tmp_path / "twin", now).changed
    assert found.release == current_model(tmp_path / "twin", anchor, MODEL).release


def test_it_holds_what_a_pull_reads_and_nothing_else(carried: Path, deployment: Deployment) -> None:
    names = {record.path for record in inventory(carried)}
    offered = {record.path for record in inventory(deployment.mirror)}
    assert names < offered
    assert {f"{MODEL}.json" in name or OTHER not in name for name in names} == {True}
    assert all((carried / name).read_bytes() == (deployment.mirror / name).read_bytes() for name in names)


@pytest.mark.proof
def test_a_mirror_of_a_mirror_and_a_newer_one_take_its_place_whole(
    carried: Path, deployment: Deployment, tmp_path: Path
) -> None:
    deployment.publish(2, now=LATER)
    found = write_mirror(DirectorySource(deployment.mirror), deployment.anchor, MODEL, carried, LATER)
    assert 2 == found.release.version
    again = write_mirror(DirectorySource(carried), deployment.anchor, MODEL, tmp_path / "second", LATER)
    assert found == again
    assert inventory(carried) == inventory(tmp_path / "second")
    assert ["mirror"] == [path.name for path in carried.parent.iterdir()]


Attack = Callable[[Path], object]


def flip(name: str) -> Attack:
    def change(folder: Path) -> None:
        path = max(folder / r.path for r in inventory(folder) if r.path.endswith(name))
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)

    return change


def without(name: str) -> Attack:
    return lambda folder: [p.unlink() for p in folder.rglob("*") if p.name == name]


def link(folder: Path) -> None:
    (path,) = (folder / r.path for r in inventory(folder) if r.path.endswith(".safetensors"))
    path.rename(folder.parent / "elsewhere")
    path.symlink_to(folder.parent / "elsewhere")


ATTACKS: dict[str, tuple[Attack, type[TwinsealError], str]] = {
    "weights": (flip(".safetensors"), DigestMismatchError, "expected sha256"),
    "evidence": (flip("assess.dsse.json"), DigestMismatchError, "expected sha256"),
    "role": (flip(f"{MODEL}.json"), DigestMismatchError, MODEL),
    "timestamp": (flip("timestamp.json"), SignatureError, "deserialize JSON"),
    "no signature": (without("model.sig.json"), RegistryError, "expected this file of release 1, got none"),
    "no timestamp": (without("timestamp.json"), RegistryError, "expected metadata/timestamp.json, got none"),
    "link": (link, RegistryError, "expected a readable file in the mirror"),
}


@pytest.mark.attack("3")
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in ("weights", "role") else pytest.mark.proof) for name in ATTACKS]
)
def test_what_was_changed_on_the_way_is_refused_by_verify_and_by_pull(
    name: str, carried: Path, anchor: Anchor, tmp_path: Path
) -> None:
    """The disk that carries a release to a twin without a network was changed on its way."""
    attack, kind, message = ATTACKS[name]
    attack(carried)
    with pytest.raises(kind, match=message):
        verify_mirror(carried, anchor, MODEL, LATER)
    with pytest.raises(kind, match=message):
        pull(DirectorySource(carried), anchor, MODEL, tmp_path / "twin", LATER)


@pytest.mark.attack("1")
@pytest.mark.proof
def test_an_old_disk_is_refused_by_a_twin_that_has_seen_a_newer_release(
    carried: Path, deployment: Deployment, tmp_path: Path
) -> None:
    """A disk with an old release is carried to a twin that has seen a newer one."""
    deployment.publish(2, now=LATER)
    pull(DirectorySource(deployment.mirror), deployment.anchor, MODEL, tmp_path / "twin", LATER)
    with pytest.raises(RollbackError, match="New timestamp version 2 must be >= 3"):
        pull(DirectorySource(carried), deployment.anchor, MODEL, tmp_path / "twin", LATER + timedelta(hours=1))
    assert 2 == current_model(tmp_path / "twin", deployment.anchor, MODEL).release.version
    assert 1 == verify_mirror(carried, deployment.anchor, MODEL, LATER).release.version, "it has no memory, and says so"


@pytest.mark.proof
def test_a_disk_that_was_under_way_for_too_long_is_refused(carried: Path, anchor: Anchor) -> None:
    ends = verify_mirror(carried, anchor, MODEL, LATER).ends
    assert verify_mirror(carried, anchor, MODEL, ends - timedelta(seconds=1))
    with pytest.raises(ExpiredError):
        verify_mirror(carried, anchor, MODEL, ends)


@pytest.mark.attack("1")
@pytest.mark.proof
def test_another_deployments_disk_is_refused(carried: Path, tmp_path: Path) -> None:
    """A disk is carried whose release another deployment's keys have signed."""
    other = Deployment(tmp_path / "other")
    with pytest.raises(SignatureError):
        verify_mirror(carried, other.anchor, MODEL, LATER)


@pytest.mark.proof
def test_a_refused_release_leaves_the_earlier_mirror_as_it_is(carried: Path, deployment: Deployment) -> None:
    before = inventory(carried)
    deployment.publish(2, now=LATER)
    (deployment.candidate(deployment.publish(3, now=LATER)) / "model.sig.json").write_bytes(b"{}")
    with pytest.raises(DigestMismatchError):
        write_mirror(DirectorySource(deployment.mirror), deployment.anchor, MODEL, carried, LATER)
    assert before == inventory(carried)
    assert ["mirror"] == [path.name for path in carried.parent.iterdir()]


@pytest.mark.proof
def test_a_disk_that_writes_other_bytes_than_it_was_given_is_noticed(
    deployment: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged(folder: Path, *about: object) -> mirrors.VerifiedMirror:
        flip(".safetensors")(folder)
        return verify_mirror(folder, *about)  # type: ignore[arg-type]

    monkeypatch.setattr(mirrors, "verify_mirror", damaged)
    with pytest.raises(DigestMismatchError):
        write_mirror(DirectorySource(deployment.mirror), deployment.anchor, MODEL, tmp_path / "mirror", NOW)
    assert not (tmp_path / "mirror").exists()


@pytest.mark.parametrize("kind", ["other files", "a file", "a link"])
def test_nothing_else_is_replaced_by_a_mirror(kind: str, deployment: Deployment, tmp_path: Path) -> None:
    place = tmp_path / "place"
    if kind == "a file":
        place.write_text("mine")
    elif kind == "a link":
        (tmp_path / "target").mkdir()
        place.symlink_to(tmp_path / "target")
    else:
        place.mkdir()
        (place / "mine").write_text("mine")
    with pytest.raises(ConfigError, match="--to .*: expected a"):
        write_mirror(DirectorySource(deployment.mirror), deployment.anchor, MODEL, place, NOW)
    assert kind != "other files" or "mine" == (place / "mine").read_text()


def test_a_mirror_of_no_model_of_this_anchor_must_be_named(carried: Path, anchor: Anchor) -> None:
    shutil.rmtree(carried / "targets")
    with pytest.raises(ConfigError, match="expected a release of one model, got none"):
        model_in(carried, anchor)
