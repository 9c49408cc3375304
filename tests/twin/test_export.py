"""Export: what was verified is laid out for another server, whole or not at all, and read-only."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from tests.twin.deployment import MODEL, NOW, Deployment
from twinseal.errors import BusyError, ConfigError, DigestMismatchError, RollbackError, SignatureError
from twinseal.files import inventory
from twinseal.trust.release.candidate import verify_bundle
from twinseal.trust.root.anchor import Anchor
from twinseal.trust.root.home import Home
from twinseal.twin import export as exporter
from twinseal.twin import locks
from twinseal.twin.byte_sources import DirectorySource
from twinseal.twin.export import Exported, export, fetch_and_export
from twinseal.twin.pull import pull

LATER = NOW + timedelta(hours=1)


@pytest.fixture(scope="module")
def pulled(first: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A twin's folder with release 1."""
    state, published = tmp_path_factory.mktemp("pulled") / "twin", Deployment(first)
    pull(DirectorySource(published.mirror), published.anchor, MODEL, state, NOW)
    return state


@pytest.fixture(scope="module")
def anchor(first: Path) -> Anchor:
    return Home(first / "home").anchor()


@pytest.fixture
def twin(pulled: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pulled, tmp_path / "twin"))


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """Where to; made writable in the end, so that it can be removed."""
    yield tmp_path / "served"
    exporter._remove(tmp_path / "served")


def record(place: Path) -> dict[str, object]:
    return dict(json.loads((place / "verified.json").read_bytes()))


def test_the_release_lies_there_read_only_with_a_record_of_what_was_verified(
    pulled: Path, anchor: Anchor, place: Path
) -> None:
    done = export(pulled, anchor, MODEL, place, NOW)
    assert (1, True, True) == (done.release.version, done.changed, done.demo)
    assert done.release.files == inventory(place / "bundle")
    assert MODEL == verify_bundle(place / "bundle", anchor).model
    assert {0o444} == {path.stat().st_mode & 0o777 for path in place.rglob("bundle/**/*") if path.is_file()}
    assert {0o555} == {path.stat().st_mode & 0o777 for path in (place / "bundle").rglob("*") if path.is_dir()}
    said = record(place)
    assert json.loads(done.release.to_bytes()) == said["release"]
    assert (done.release.sha256, {"version": 1, "sha256": anchor.fingerprint}, True) == (
        said["release_sha256"], said["root"], said["demo"],
    )  # fmt: skip
    assert ("2026-03-01T12:00:00+00:00", True) == (said["time"], str(said["trust_ends"]) > "2026-03-02")
    assert {"bundle", "verified.json", ".twinseal-export.lock"} == {path.name for path in place.iterdir()}


def test_again_it_is_found_there_and_a_damaged_one_is_laid_out_anew(pulled: Path, anchor: Anchor, place: Path) -> None:
    assert export(pulled, anchor, MODEL, place, NOW).changed
    assert not export(pulled, anchor, MODEL, place, LATER).changed
    (path,) = place.rglob("*.safetensors")
    path.parent.chmod(0o755)
    path.chmod(0o644)
    path.write_bytes(b"changed")
    done = export(pulled, anchor, MODEL, place, LATER)
    assert (True, done.release.files) == (done.changed, inventory(place / "bundle"))


@pytest.mark.proof
def test_the_next_release_takes_its_place_and_the_older_one_is_refused_after_that(
    deployment: Deployment, twin: Path, place: Path, tmp_path: Path
) -> None:
    shutil.copytree(twin, tmp_path / "old")
    export(twin, deployment.anchor, MODEL, place, NOW)
    deployment.publish(2, now=LATER)
    pull(DirectorySource(deployment.mirror), deployment.anchor, MODEL, twin, LATER)
    assert 2 == export(twin, deployment.anchor, MODEL, place, LATER).release.version
    before = inventory(place / "bundle")
    with pytest.raises(RollbackError, match=r"expected >= 2, as .*verified.json has it, got 1"):
        export(tmp_path / "old", deployment.anchor, MODEL, place, LATER)
    assert (before, 2) == (inventory(place / "bundle"), record(place)["release"]["version"])  # type: ignore[index]


@pytest.mark.attack("2")
def test_a_release_that_is_older_than_demanded_is_refused(pulled: Path, anchor: Anchor, place: Path) -> None:
    """A server's storage is offered an older release than its operator demands."""
    assert export(pulled, anchor, MODEL, place, NOW, at_least=1).changed
    with pytest.raises(RollbackError, match="expected >= 2, got 1"):
        export(pulled, anchor, MODEL, place, NOW, at_least=2)


@pytest.mark.attack("3")
def test_what_changes_while_it_is_copied_is_not_laid_out(
    twin: Path, anchor: Anchor, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twin's files change between their verification and their copying for another server."""

    verify = exporter.admit_installed

    def then_change(*about: object) -> object:
        found = verify(*about)  # type: ignore[arg-type]
        (path,) = twin.glob("models/*/bundle/model/*.safetensors")
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
        return found

    monkeypatch.setattr(exporter, "admit_installed", then_change)
    with pytest.raises(DigestMismatchError, match=r"safetensors: expected sha256 .* as signed, got other bytes"):
        export(twin, anchor, MODEL, place, NOW)
    assert [".twinseal-export.lock"] == [path.name for path in place.iterdir()]


@pytest.mark.attack("4")
def test_what_a_start_refuses_is_not_laid_out(twin: Path, anchor: Anchor, place: Path) -> None:
    """A model in the twin's folder was changed, and is to be laid out for another server."""
    (path,) = twin.glob("models/*/bundle/model.sig.json")
    path.unlink()
    with pytest.raises((DigestMismatchError, SignatureError)):
        export(twin, anchor, MODEL, place, NOW)
    assert not (place / "verified.json").exists()


class StopError(Exception):
    pass


@pytest.mark.proof
def test_a_kill_at_any_step_leaves_no_record_beside_something_else(
    deployment: Deployment, twin: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stop at each flush to the disk: the record is there only beside exactly its release; the next call is whole."""
    export(twin, deployment.anchor, MODEL, place, NOW)
    deployment.publish(2, now=LATER)
    pull(DirectorySource(deployment.mirror), deployment.anchor, MODEL, twin, LATER)
    flush, left = exporter.sync_folder, [0]

    def maybe_stop(folder: Path) -> None:
        flush(folder)
        left[0] -= 1
        if left[0] == 0:
            raise StopError

    def attempt(stop_at: int) -> Exported | None:
        left[0] = stop_at
        with monkeypatch.context() as patched:
            patched.setattr(exporter, "sync_folder", maybe_stop)
            patched.setattr(exporter, "_remove", lambda folder: None)  # a killed process does not tidy
            try:
                return export(twin, deployment.anchor, MODEL, place, LATER)
            except StopError:
                return None

    for stop_at in (1, 4, 5, 6):
        assert attempt(stop_at) is None, stop_at
        found = exporter._earlier(place)
        assert found is None or found.files == inventory(place / "bundle"), stop_at
    assert 2 == export(twin, deployment.anchor, MODEL, place, LATER).release.version
    assert {"bundle", "verified.json", ".twinseal-export.lock"} == {path.name for path in place.iterdir()}
    assert not export(twin, deployment.anchor, MODEL, place, LATER).changed


@pytest.mark.proof
def test_where_nothing_else_can_be_written_what_is_fetched_lies_below_the_folder_meanwhile(
    first: Path, anchor: Anchor, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tempfile.gettempdir()
    seen: set[str] = set()

    class Watched(DirectorySource):
        def open(self, path: str, limit: int) -> Iterator[bytes]:
            seen.update(tempfile.gettempdir().split("/")[-1:])
            return super().open(path, limit)

    place.mkdir()
    (place / ".twinseal-new.killed" / "twinseal-abc").mkdir(parents=True)
    (place / ".twinseal-export.lock").touch()
    done = fetch_and_export(Watched(Deployment(first).mirror), anchor, MODEL, place, NOW)
    assert (True, 1) == (done.changed, done.release.version)
    assert [True] == [name.startswith(".twinseal-new.") for name in seen]
    assert before == tempfile.gettempdir()
    assert {"bundle", "verified.json", ".twinseal-export.lock"} == {path.name for path in place.iterdir()}


@pytest.mark.parametrize("kind", ["other files", "a bundle", "a file", "a link"])
def test_nothing_else_is_replaced(kind: str, pulled: Path, anchor: Anchor, place: Path, tmp_path: Path) -> None:
    if kind == "a file":
        place.write_text("mine")
    elif kind == "a link":
        (tmp_path / "target").mkdir()
        place.symlink_to(tmp_path / "target")
    else:
        (place / ("bundle" if kind == "a bundle" else "mine")).mkdir(parents=True)
    with pytest.raises(ConfigError, match="expected an? .*folder"):
        export(pulled, anchor, MODEL, place, NOW)
    assert not (tmp_path / "target").exists() or not any((tmp_path / "target").iterdir())


def test_a_second_export_at_the_same_time_is_refused(pulled: Path, anchor: Anchor, place: Path) -> None:
    place.mkdir()
    with locks.only_one(place / ".twinseal-export.lock", "twinseal export", NOW), pytest.raises(BusyError):
        export(pulled, anchor, MODEL, place, NOW)
