from __future__ import annotations

import copy
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from securesystemslib.signer import SSlibKey
from tuf.api.metadata import DelegatedRole, Metadata, MetaFile, Root, TargetFile, Targets

from tests.trust.release.test_release import releases
from tests.trust.scenes import NOW, Disk, Scene, describe, put, resign
from twinseal.errors import (
    DigestMismatchError,
    EvidenceError,
    ExpiredError,
    RegistryError,
    RollbackError,
    SignatureError,
    ThresholdError,
    TwinsealError,
)
from twinseal.trust.release.client import refresh
from twinseal.trust.release.release import Release
from twinseal.trust.root.anchor import Anchor
from twinseal.trust.root.roles import Role, Roles

MODEL = "pump-rul"
TARGET = "pump-rul/release.json"


@pytest.fixture
def release(honest_bundle: Path) -> Release:
    return describe(honest_bundle)


def read(scene: Scene, cache: Path, *, now: datetime = NOW, anchor: Anchor | None = None) -> Release:
    return refresh(anchor or scene.anchor, cache, Disk.of(scene.home), MODEL, now)


def role_of(scene: Scene, version: int = 1) -> Metadata[Targets]:
    return Metadata.from_file(str(scene.home.repository / "metadata" / f"{version}.{MODEL}.json"))


def delegation(scene: Scene) -> Metadata[Targets]:
    metadata: Metadata[Targets] = Metadata.from_file(str(scene.home.repository / "metadata" / "1.targets.json"))
    metadata.signed.version = 2
    return metadata


def custodians(scene: Scene) -> list[Any]:
    return [scene.signer("custodian-1"), scene.signer("custodian-2")]


def test_the_approved_release_is_read_back(released: Scene, release: Release, tmp_path: Path) -> None:
    source = Disk.of(released.home)
    assert release == refresh(released.anchor, tmp_path / "cache", source, MODEL, NOW)
    assert [
        "metadata/2.root.json",
        "metadata/timestamp.json",
        "metadata/2.snapshot.json",
        "metadata/1.targets.json",
        "metadata/1.pump-rul.json",
        f"targets/pump-rul/{release.sha256}.release.json",
    ] == source.asked
    assert 0o700 == (tmp_path / "cache").stat().st_mode & 0o777


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(drawn=st.lists(releases(), min_size=1, max_size=2))
def test_what_reviewers_sign_is_what_a_twin_reads(
    scene: Scene, drawn: list[Release], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("law")
    published = scene.copy(folder / "home")
    for version, release in enumerate(drawn, 1):
        following = replace(release, model=MODEL, version=version, parent_version=version - 1 or None)
        assert version == published.publish(following).role_version
        assert following == read(published, folder / "cache")
    shutil.rmtree(folder)


def test_before_the_first_release_there_is_none_and_then_there_is(
    stage: Scene, release: Release, tmp_path: Path
) -> None:
    with pytest.raises(RegistryError, match="pump-rul: expected a release, got none: nothing has been registered yet"):
        read(stage, tmp_path)
    stage.publish(release)
    assert release == read(stage, tmp_path)
    with pytest.raises(RegistryError, match="turbofan-rul: expected a release, got none"):
        refresh(stage.anchor, tmp_path, Disk.of(stage.home), "turbofan-rul", NOW)


def test_a_model_that_the_anchor_does_not_know_is_refused(released: Scene, tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="expected one of pump-rul, turbofan-rul.* got 'root'"):
        refresh(released.anchor, tmp_path, Disk.of(released.home), "root", NOW)


# Attacks on a repository whose release 2 the twin has seen; after each refusal the old state stands.


@pytest.fixture
def seen(released: Scene, release: Release, tmp_path: Path) -> tuple[Scene, Path, Release]:
    """The home after release 2, and the cache of a twin that has seen it."""
    shutil.copytree(released.home.repository, tmp_path / "before")
    following = replace(release, version=2, parent_version=1)
    released.publish(following)
    assert following == read(released, tmp_path / "cache")
    return released, tmp_path / "cache", following


Attack = Callable[[Scene], None]


def _older_timestamp(scene: Scene) -> None:
    old = scene.home.path.parent / "before" / "metadata" / "timestamp.json"
    shutil.copy(old, scene.home.repository / "metadata" / "timestamp.json")


def _older_role(scene: Scene) -> None:
    data = (scene.home.repository / "metadata" / "1.pump-rul.json").read_bytes()
    resign(scene.home, lambda meta: meta.update({"pump-rul.json": MetaFile.from_data(1, data, ["sha256"])}))


def _vanished_role(scene: Scene) -> None:
    resign(scene.home, lambda meta: meta.pop("pump-rul.json") and None)


def _snapshot_by_another(scene: Scene) -> None:
    resign(scene.home, by="alice")


def _role_by(*holders: str) -> Attack:
    def attack(scene: Scene) -> None:
        role = role_of(scene, 2)
        role.signed.version = 3
        put(scene.home, MODEL, role, *map(scene.signer, holders))

    return attack


def _changed(name: str) -> Attack:
    def attack(scene: Scene) -> None:
        path = scene.home.repository / name
        path.write_bytes(path.read_bytes() + b" ")

    return attack


def _changed_role(scene: Scene) -> None:
    role = role_of(scene, 2)
    role.signed.version = 3
    put(scene.home, MODEL, role, scene.signer("alice"), scene.signer("bruno"))
    _changed("metadata/3.pump-rul.json")(scene)


def _changed_release(scene: Scene) -> None:
    for path in (scene.home.repository / "targets" / MODEL).iterdir():
        path.write_bytes(path.read_bytes()[:-1] + b" ")


def _endless_release(scene: Scene) -> None:
    for path in (scene.home.repository / "targets" / MODEL).iterdir():
        path.write_bytes(b"x" * (2 << 20))


def _written(name: str, data: bytes) -> Attack:
    return lambda scene: (scene.home.repository / name).write_bytes(data) and None


def _gone(name: str) -> Attack:
    return lambda scene: (scene.home.repository / name).unlink()


def _own_reviewers(scene: Scene) -> None:
    """The custodians' keys are stolen: targets delegates to the thief's own reviewers, who sign."""
    targets, thief = delegation(scene), scene.signer("registrar")
    assert targets.signed.delegations is not None
    targets.signed.delegations.keys = {thief.public_key.keyid: thief.public_key}
    role = DelegatedRole(MODEL, [thief.public_key.keyid], 1, terminating=True, paths=[TARGET])
    assert targets.signed.delegations.roles is not None
    targets.signed.delegations.roles[MODEL] = role
    put(scene.home, "targets", targets, *custodians(scene))
    stolen = role_of(scene, 2)
    stolen.signed.version = 3
    put(scene.home, MODEL, stolen, thief)


def _lower_threshold(scene: Scene) -> None:
    """The same, but subtler: the same reviewers, of whom one is enough."""
    targets = delegation(scene)
    assert targets.signed.delegations is not None
    assert targets.signed.delegations.roles is not None
    targets.signed.delegations.roles[MODEL].threshold = 1
    put(scene.home, "targets", targets, *custodians(scene))
    _role_by("alice")(scene)


def _one_key_under_two_identifiers(scene: Scene) -> None:
    """The same again: one reviewer's key counted twice, under a second identifier."""
    targets, alice = delegation(scene), scene.signer("alice")
    assert targets.signed.delegations is not None
    assert targets.signed.delegations.roles is not None
    key = alice.public_key
    second = SSlibKey("0" * 64, key.keytype, key.scheme, key.keyval)
    targets.signed.delegations.keys[second.keyid] = second
    targets.signed.delegations.roles[MODEL].keyids = [key.keyid, second.keyid]
    put(scene.home, "targets", targets, *custodians(scene))
    role = role_of(scene, 2)
    role.signed.version = 3
    role.signatures.clear()
    role.sign(alice)
    twice = copy.copy(role.signatures[key.keyid])
    twice.keyid = second.keyid
    role.signatures[second.keyid] = twice
    data = role.to_bytes()
    (scene.home.repository / "metadata" / "3.pump-rul.json").write_bytes(data)
    resign(scene.home, lambda meta: meta.update({"pump-rul.json": MetaFile.from_data(3, data, ["sha256"])}))


def _listed_by_targets_itself(scene: Scene) -> None:
    """The custodians' keys are stolen: targets lists a release of its own, past the reviewers."""
    targets = delegation(scene)
    release = Release.from_bytes(next((scene.home.repository / "targets" / MODEL).iterdir()).read_bytes())
    forged = replace(release, mlflow_model_id="m-" + "6" * 32).to_bytes()
    targets.signed.targets[TARGET] = target = TargetFile.from_data(TARGET, forged, ["sha256"])
    (scene.home.repository / "targets" / MODEL / f"{target.hashes['sha256']}.release.json").write_bytes(forged)
    put(scene.home, "targets", targets, *custodians(scene))


def _listed_by_targets_itself_past_a_newer_role(scene: Scene) -> None:
    """The same; and the snapshot lists a version of the model's role that python-tuf is never led to fetch."""
    _listed_by_targets_itself(scene)
    resign(scene.home, lambda meta: meta.update({"pump-rul.json": MetaFile.from_data(3, b"unseen", ["sha256"])}))


def _another_role_first(scene: Scene) -> None:
    """The custodians' keys are stolen: a role of the thief's, asked before the model's own, lists the target."""
    targets, thief = delegation(scene), scene.signer("registrar")
    assert targets.signed.delegations is not None
    assert targets.signed.delegations.roles is not None
    honest = targets.signed.delegations.roles
    evil = DelegatedRole("evil", [thief.public_key.keyid], 1, terminating=True, paths=[TARGET])
    targets.signed.delegations.keys[thief.public_key.keyid] = thief.public_key
    targets.signed.delegations.roles = {"evil": evil, **honest}
    put(scene.home, "targets", targets, *custodians(scene))
    role = role_of(scene, 2)
    role.signed.targets[TARGET] = TargetFile.from_data(TARGET, b"forged", ["sha256"])
    role.signed.version = 1
    put(scene.home, "evil", role, thief)


def _not_a_role_but_a_root(scene: Scene) -> None:
    metadata: Metadata[Any] = Metadata.from_bytes(scene.anchor.root)
    metadata.signed.version = 3
    put(scene.home, MODEL, metadata, scene.signer("alice"), scene.signer("bruno"))


def _root_by(*holders: str, version: int = 2) -> Attack:
    def attack(scene: Scene) -> None:
        root: Metadata[Root] = Metadata.from_bytes(scene.anchor.root)
        root.signed.version = version
        root.signatures.clear()
        for holder in holders:
            root.sign(scene.signer(holder), append=True)
        root.to_file(str(scene.home.repository / "metadata" / "2.root.json"))

    return attack


@pytest.mark.attack(1)
@pytest.mark.parametrize(
    ("attack", "error", "message"),
    [
        (_older_timestamp, RollbackError, "New timestamp version 2 must be >= 3"),
        (_older_role, RollbackError, "role pump-rul: expected version >= 2, as seen before"),
        (_vanished_role, RollbackError, "New snapshot is missing info for 'pump-rul.json'"),
        (_snapshot_by_another, SignatureError, "timestamp was signed by 0/1 keys"),
        (_role_by("alice"), ThresholdError, "pump-rul was signed by 1/2 keys"),
        (_role_by("alice", "builder"), ThresholdError, "pump-rul was signed by 1/2 keys"),
        (_role_by(), SignatureError, "pump-rul was signed by 0/2 keys"),
        (_role_by("registrar", "custodian-1", "custodian-2"), SignatureError, "pump-rul was signed by 0/2 keys"),
        (_changed_role, DigestMismatchError, "pump-rul"),
        (_changed_release, DigestMismatchError, "pump-rul"),
        (_endless_release, DigestMismatchError, "exceeding the maximum allowed length"),
        (_written("metadata/timestamp.json", b"{}"), SignatureError, "pump-rul: Failed to deserialize JSON"),
        (_written("metadata/timestamp.json", b"[" * 9999), SignatureError, "pump-rul: Failed to deserialize JSON"),
        (_written("metadata/timestamp.json", b"x" * 99999), DigestMismatchError, "exceeding the maximum allowed"),
        (_written("metadata/2.root.json", b"x" * (1 << 20)), DigestMismatchError, "exceeding the maximum allowed"),
        (_gone("metadata/timestamp.json"), RegistryError, "not found"),
        (_own_reviewers, SignatureError, r"expected signatures of the pinned reviewers \(alice, bruno, chiara\)"),
        (_lower_threshold, ThresholdError, "approval of pump-rul: expected 2 reviewers, got 1"),
        (_one_key_under_two_identifiers, ThresholdError, "approval of pump-rul: expected 2 reviewers, got 1"),
        (_listed_by_targets_itself, SignatureError, "expected the target that the reviewers of pump-rul signed"),
        (
            _listed_by_targets_itself_past_a_newer_role,
            DigestMismatchError,
            "expected the bytes that the snapshot lists",
        ),
        (_another_role_first, SignatureError, "expected the target that the reviewers of pump-rul signed"),
        (_not_a_role_but_a_root, SignatureError, "Expected 'targets', got 'root'"),
        (_root_by("custodian-1"), ThresholdError, "root was signed by 1/2 keys"),
        (_root_by("alice", "bruno"), SignatureError, "root was signed by 0/2 keys"),
        (_root_by("custodian-1", "custodian-2", version=1), RollbackError, "Expected root version 2"),
    ],
)
def test_an_attack_is_refused_and_the_old_state_stays(
    seen: tuple[Scene, Path, Release], tmp_path: Path, attack: Attack, error: type[TwinsealError], message: str
) -> None:
    """26 attacks on TUF metadata, by the registry or with stolen keys, one at a time."""
    scene, cache, current = seen
    honest, before = scene.copy(tmp_path / "honest"), files(cache)
    attack(scene)
    with pytest.raises(error, match=message):
        read(scene, cache)
    assert before == files(cache)
    assert current == read(honest, cache)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.attack(1)
def test_an_older_delegation_is_refused(seen: tuple[Scene, Path, Release]) -> None:
    """Stolen registrar key: a new snapshot lists an older version of targets.json."""
    scene, cache, current = seen
    put(scene.home, "targets", delegation(scene), *custodians(scene))
    assert current == read(scene, cache)
    data = (scene.home.repository / "metadata" / "1.targets.json").read_bytes()
    resign(scene.home, lambda meta: meta.update({"targets.json": MetaFile.from_data(1, data, ["sha256"])}))
    with pytest.raises(RollbackError, match="role targets: expected version >= 2, as seen before"):
        read(scene, cache)


@pytest.mark.attack(1)
def test_targets_that_lists_a_release_to_a_new_twin_is_refused(
    seen: tuple[Scene, Path, Release], tmp_path: Path
) -> None:
    """Stolen targets key: targets.json lists a release itself, for a new twin without a TUF cache."""
    scene, _, _ = seen
    _listed_by_targets_itself(scene)
    with pytest.raises(SignatureError, match="role pump-rul: expected metadata signed by its own role, got none"):
        read(scene, tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.attack(1)
@pytest.mark.parametrize(
    ("role", "days", "message"),
    [
        ("registrar", 15, "timestamp.json is expired"),
        ("reviewer", 8, "New pump-rul is expired"),
        ("targets", 8, "New targets is expired"),
        ("root", 8, "Final root.json is expired"),
    ],
)
def test_expired_metadata_is_refused(
    tmp_path: Path, release: Release, honest_bundle: Path, role: str, days: int, message: str
) -> None:
    """The registry serves an expired timestamp, model role, targets or root."""
    scene = _with_lifetimes(tmp_path / "home", {} if role == "registrar" else {role: 7})
    scene.publish(release)
    just_before = timedelta(days=days - 1, seconds=-1)
    assert release == read(scene, tmp_path / "cache", now=NOW + just_before)
    with pytest.raises(ExpiredError, match=message):
        read(scene, tmp_path / "cache", now=NOW + timedelta(days=days))
    assert release == read(scene, tmp_path / "cache", now=NOW + just_before)


def _with_lifetimes(path: Path, days: dict[str, int]) -> Scene:
    from tests.trust.scenes import POLICY, make_scene
    from twinseal.trust.ceremonies import ceremony
    from twinseal.trust.root.home import Home

    if not days:
        return make_scene(path)
    roles = Roles.load(POLICY)
    changed = {name: Role(**{**roles[name].model_dump(), "expires_days": value}) for name, value in days.items()}
    roles = roles.model_copy(update={"roles": roles.roles.model_copy(update=changed)})
    return Scene(Home(path), ceremony.init_demo(Home(path), roles, NOW), roles)


@pytest.mark.attack(2)
def test_a_release_of_another_model_in_the_model_role_is_refused(
    released: Scene, release: Release, tmp_path: Path
) -> None:
    """The reviewers sign release.json of another model in the model role."""
    other = replace(release, model="turbofan-rul", version=2, parent_version=1).to_bytes()
    role = role_of(released)
    role.signed.version = 2
    role.signed.targets[TARGET] = target = TargetFile.from_data(TARGET, other, ["sha256"])
    (released.home.repository / "targets" / MODEL / f"{target.hashes['sha256']}.release.json").write_bytes(other)
    assert release == read(released, tmp_path)
    put(released.home, MODEL, role, released.signer("alice"), released.signer("bruno"))
    with pytest.raises(EvidenceError, match="expected a release of pump-rul, got one of turbofan-rul"):
        read(released, tmp_path)


def test_a_planted_cache_is_no_root_of_trust(released: Scene, release: Release, tmp_path: Path, scene: Scene) -> None:
    from tests.trust.scenes import make_scene

    evil = make_scene(tmp_path / "evil")
    evil.publish(replace(release, mlflow_model_id="m-" + "6" * 32))
    read(evil, tmp_path / "cache")
    with pytest.raises(SignatureError, match="was signed by 0/"):
        read(evil, tmp_path / "cache", anchor=released.anchor)
    assert release == read(released, tmp_path / "cache")


def test_a_planned_rotation_of_the_root_is_followed(released: Scene, release: Release, tmp_path: Path) -> None:
    assert release == read(released, tmp_path)
    _root_by("custodian-1", "custodian-3")(released)
    assert release == read(released, tmp_path)
    assert (tmp_path / "root_history" / "2.root.json").exists()


@pytest.mark.attack(1)
def test_a_reviewer_removed_from_the_delegation_no_longer_counts(
    released: Scene, release: Release, tmp_path: Path
) -> None:
    """A reviewer is removed from the delegation: the release with that reviewer's signature is refused."""
    targets = delegation(released)
    targets.signed.revoke_key(released.signer("alice").public_key.keyid, MODEL)
    put(released.home, "targets", targets, *custodians(released))
    with pytest.raises(ThresholdError, match="pump-rul was signed by 1/2 keys"):
        read(released, tmp_path)


class SlowError(RegistryError):
    """A source's own error."""


@pytest.mark.parametrize("path", ["metadata/2.root.json", "metadata/timestamp.json", "metadata/1.pump-rul.json"])
def test_what_the_source_refuses_reaches_the_caller_as_it_is(released: Scene, tmp_path: Path, path: str) -> None:
    source = Disk.of(released.home, **{path: SlowError("took longer than 60 s")})
    with pytest.raises(SlowError, match="took longer than 60 s"):
        refresh(released.anchor, tmp_path, source, MODEL, NOW)


def test_a_source_that_fails_midway_is_refused(released: Scene, tmp_path: Path) -> None:
    def broken(path: str, limit: int, /) -> Iterator[bytes]:
        yield b"{"
        raise SlowError("the line went dead")

    with pytest.raises(SlowError, match="the line went dead"):
        refresh(released.anchor, tmp_path, broken, MODEL, NOW)


@pytest.mark.parametrize(
    "foreign", [ValueError("x"), KeyError("x"), RecursionError("x"), MemoryError(), TimeoutError("x")]
)
def test_a_source_that_leaks_foreign_errors_is_refused_in_our_words(
    released: Scene, tmp_path: Path, foreign: Exception
) -> None:
    with pytest.raises(RegistryError, match="pump-rul: "):
        refresh(released.anchor, tmp_path, Disk.of(released.home, **{"metadata/timestamp.json": foreign}), MODEL, NOW)


def test_no_more_is_read_than_the_limit(released: Scene, tmp_path: Path) -> None:
    taken = 0

    def endless(path: str, limit: int, /) -> Iterator[bytes]:
        nonlocal taken
        if path == "metadata/2.root.json":
            raise FileNotFoundError(path)
        while True:
            taken += 1000
            yield b" " * 1000

    with pytest.raises(DigestMismatchError, match="exceeding the maximum allowed length of 16384"):
        refresh(released.anchor, tmp_path, endless, MODEL, NOW)
    assert 17_000 == taken


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_one_changed_byte_of_any_metadata_is_refused_or_harmless(
    released_scene: Scene, honest_bundle: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Harmless: JSON has spellings, and TUF signs the canonical one. Never another release, never a traceback."""
    home = released_scene.home
    names = (
        "metadata/timestamp.json",
        "metadata/2.snapshot.json",
        "metadata/1.targets.json",
        "metadata/1.pump-rul.json",
    )
    name = data.draw(st.sampled_from(names))
    raw = bytearray((home.repository / name).read_bytes())
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    cache = tmp_path_factory.mktemp("cache")
    try:
        got = refresh(released_scene.anchor, cache, Disk.of(home, **{name: bytes(raw)}), MODEL, NOW)
        assert describe(honest_bundle) == got
    except TwinsealError:
        assert describe(honest_bundle) == refresh(released_scene.anchor, cache, Disk.of(home), MODEL, NOW)


@settings(max_examples=40, deadline=None)
@given(st.binary(max_size=120), st.sampled_from(["metadata/2.root.json", "metadata/timestamp.json"]))
def test_hostile_metadata_is_refused_without_a_traceback(
    released_scene: Scene, tmp_path_factory: pytest.TempPathFactory, junk: bytes, name: str
) -> None:
    source = Disk.of(released_scene.home, **{name: junk})
    with pytest.raises(TwinsealError):
        refresh(released_scene.anchor, tmp_path_factory.mktemp("cache"), source, MODEL, NOW)
