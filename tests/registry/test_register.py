from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from shutil import copytree

import pytest

from twinseal.errors import RegistryError, RootError
from twinseal.registry.locations import LocalArtifacts
from twinseal.registry.register import METADATA_RUN, mirror_metadata, publish
from twinseal.registry.run import RunRecord
from twinseal.registry.store import Store
from twinseal.registry.submit import submit
from twinseal.trust.ceremonies.ceremony import init_demo
from twinseal.trust.root.home import Home
from twinseal.trust.root.roles import Role, Roles, RoleTable

NOW = datetime(2026, 1, 1, tzinfo=UTC)


MODELS = ("one", "twice", "next", "order", "all-a", "all-b", "deleted", "unknown", "kill-1", "kill-2", "kill-3", "none")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A real repository of record, before its first release: what is copied, not what it says, matters here."""
    home = Home(tmp_path_factory.mktemp("home"))
    one, three = ("a",), ("x", "y", "z")
    holders = {
        "root": three,
        "targets": three,
        "builder": ("b",),
        "assessor": ("c",),
        "reviewer": one,
        "commissioner": ("d",),
        "owner": ("o",),
        "registrar": ("r",),
    }
    table = {name: Role(holders=names, threshold=1, expires_days=30) for name, names in holders.items()}
    init_demo(home, Roles(models=tuple(f"register-{name}" for name in MODELS), roles=RoleTable(**table)), NOW)
    return home


def record(home: Home) -> dict[str, bytes]:
    return {path.relative_to(home.repository).as_posix(): path.read_bytes() for path in home.repository.rglob("*.json")}


def candidate(store: Store, tmp_path: Path, model: str, content: bytes = b"x") -> str:
    folder = tmp_path / "bundle"
    folder.mkdir(exist_ok=True)
    (folder / "a.json").write_bytes(content)
    return submit(store, folder, model=model, version=1, description_markdown="d", run=RunRecord({}, {}))


def carried(store: Store, model: str, tmp_path: Path) -> dict[str, bytes]:
    run = store.client.get_registered_model(model).tags[METADATA_RUN]
    back = tmp_path / f"back-{len(list(tmp_path.iterdir()))}"
    back.mkdir()
    store.client.download_artifacts(run, "", str(back))
    return {path.relative_to(back).as_posix(): path.read_bytes() for path in back.rglob("*.json")}


def test_release_becomes_the_champion(store: Store, home: Home, tmp_path: Path) -> None:
    model_id = candidate(store, tmp_path, "register-one")
    number = publish(store, home, model="register-one", version=7, model_id=model_id, description_markdown="# why")
    found = store.client.get_model_version_by_alias("register-one", "champion")
    assert (str(found.version), found.source, found.description) == (number, f"models:/{model_id}", "# why")
    assert found.tags == {"twinseal.release_version": "7"}
    assert carried(store, "register-one", tmp_path) == record(home)
    assert {"metadata/1.root.json", "metadata/timestamp.json"} < set(record(home))


def test_publishing_again_changes_nothing(store: Store, home: Home, tmp_path: Path) -> None:
    model_id = candidate(store, tmp_path, "register-twice")
    first = publish(store, home, model="register-twice", version=1, model_id=model_id)
    run = store.client.get_registered_model("register-twice").tags[METADATA_RUN]
    assert publish(store, home, model="register-twice", version=1, model_id=model_id) == first
    assert publish(store, home, model="register-twice", version=2, model_id=model_id, description_markdown="2") == first
    (only,) = store.client.search_model_versions("name = 'register-twice'")
    assert (only.tags, only.description) == ({"twinseal.release_version": "2"}, "2")
    assert store.client.get_registered_model("register-twice").tags[METADATA_RUN] == run


def test_next_release_moves_the_champion(store: Store, home: Home, tmp_path: Path) -> None:
    first = candidate(store, tmp_path, "register-next")
    publish(store, home, model="register-next", version=1, model_id=first)
    second = candidate(store, tmp_path, "register-next", b"y")
    (home.repository / "targets/register-next").mkdir(parents=True, exist_ok=True)
    (home.repository / "targets/register-next/aa.release.json").write_bytes(b"newer\r\n")
    number = publish(store, home, model="register-next", version=2, model_id=second)
    assert number == "2" == str(store.client.get_model_version_by_alias("register-next", "champion").version)
    assert carried(store, "register-next", tmp_path)["targets/register-next/aa.release.json"] == b"newer\r\n"


@pytest.mark.parametrize(
    ("model", "step"),
    [
        ("register-kill-1", "write"),
        ("register-kill-2", "create_model_version"),
        ("register-kill-3", "set_registered_model_alias"),
    ],
)
def test_interrupted_publication_is_finished_by_the_next(
    model: str, step: str, store: Store, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    model_id = candidate(store, tmp_path, model)
    with monkeypatch.context() as patch:
        patch.setattr(LocalArtifacts if step == "write" else type(store.client), step, interrupted)
        with pytest.raises(KeyboardInterrupt):
            publish(store, home, model=model, version=1, model_id=model_id)
    assert publish(store, home, model=model, version=1, model_id=model_id) == "1"
    assert str(store.client.get_model_version_by_alias(model, "champion").version) == "1"
    assert carried(store, model, tmp_path) == record(home)


def test_timestamp_is_copied_last(store: Store, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model_id = candidate(store, tmp_path, "register-order")
    publish(store, home, model="register-order", version=1, model_id=model_id)
    copied: list[str] = []
    run = store.client.get_registered_model("register-order").tags[METADATA_RUN]

    def note(into: LocalArtifacts, _: Path, path: str) -> None:
        if run in into._folder:
            copied.append(path)

    monkeypatch.setattr(LocalArtifacts, "write", note)
    mirror_metadata(store, home)
    assert copied[-1] == "metadata/timestamp.json"
    assert sorted(copied) == sorted(record(home))


def test_one_timestamp_renews_every_model(store: Store, home: Home, tmp_path: Path) -> None:
    for model in ("register-all-a", "register-all-b"):
        publish(store, home, model=model, version=1, model_id=candidate(store, tmp_path, model))
    (home.repository / "metadata/9.snapshot.json").write_bytes(b"renewed")
    assert {"register-all-a", "register-all-b"} <= set(mirror_metadata(store, home))
    assert carried(store, "register-all-a", tmp_path) == record(home)


def test_home_without_metadata_is_refused(store: Store, home: Home, tmp_path: Path) -> None:
    copytree(home.anchor_dir, tmp_path / "bare/anchor")
    model_id = candidate(store, tmp_path, "register-unknown")
    with pytest.raises(RegistryError, match="expected TUF metadata, got none"):
        publish(store, Home(tmp_path / "bare"), model="register-unknown", version=1, model_id=model_id)
    with pytest.raises(RootError, match="expected a trust anchor"):
        publish(store, Home(tmp_path / "none"), model="register-unknown", version=1, model_id=model_id)


def test_model_that_the_anchor_does_not_know_is_refused(store: Store, home: Home, tmp_path: Path) -> None:
    model_id = candidate(store, tmp_path, "register-foreign")
    with pytest.raises(RegistryError, match=r"model: expected one of register-one, .*, got 'register-foreign'"):
        publish(store, home, model="register-foreign", version=1, model_id=model_id)


def test_unknown_candidate_is_refused_before_anything_moves(store: Store, home: Home) -> None:
    with pytest.raises(RegistryError, match="RESOURCE_DOES_NOT_EXIST"):
        publish(store, home, model="register-none", version=1, model_id="m-" + "0" * 32)
    assert store.client.search_model_versions("name = 'register-none'") == []


def test_deleted_metadata_run_is_replaced(store: Store, home: Home, tmp_path: Path) -> None:
    model_id = candidate(store, tmp_path, "register-deleted")
    publish(store, home, model="register-deleted", version=1, model_id=model_id)
    run = store.client.get_registered_model("register-deleted").tags[METADATA_RUN]
    store.client.delete_run(run)
    publish(store, home, model="register-deleted", version=1, model_id=model_id)
    assert store.client.get_registered_model("register-deleted").tags[METADATA_RUN] != run
    assert carried(store, "register-deleted", tmp_path) == record(home)
