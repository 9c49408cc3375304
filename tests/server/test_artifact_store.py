"""Artifacts that are written once: MLflow's own calls, and files on the disk that an attacker prepared."""

from __future__ import annotations

import asyncio
import io
import os
import resource
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from mlflow.exceptions import MlflowException

from twinseal.files import inventory
from twinseal.server.artifact_store import STAGING, WriteOnceArtifacts, is_plain

CANDIDATE = f"1/models/m-{'a' * 32}/artifacts"


def artifacts(folder: Path, status: str = "PENDING") -> WriteOnceArtifacts:
    folder.mkdir(exist_ok=True)
    return WriteOnceArtifacts(f"twinseal+{folder.as_uri()}", status_of=lambda _id: status)


def sent(store: WriteOnceArtifacts, name: str, content: bytes, folder: str | None = None) -> None:
    """As the server writes what a client sends."""

    async def stream() -> AsyncIterator[bytes]:
        yield content

    asyncio.run(store.log_artifact_from_async_stream(stream(), name, artifact_path=folder))


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(MlflowException) as caught:
        call()
    assert caught.value.get_http_status_code() in (400, 403)
    return str(caught.value.message)


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    store, source = artifacts(tmp_path / "a"), tmp_path / "b/c"
    source.mkdir(parents=True)
    (source / "x.txt").write_bytes(b"x")
    sent(store, "one.bin", b"1", "runs/r")
    store.log_artifact(str(source / "x.txt"), "runs/r")
    store.log_artifacts(str(tmp_path / "b"), "runs/s")
    assert files(tmp_path / "a") == {"runs/r/one.bin": b"1", "runs/r/x.txt": b"x", "runs/s/c/x.txt": b"x"}
    assert Path(store.get_local_path("runs/r/one.bin")).read_bytes() == b"1"
    assert ["runs/r/one.bin", "runs/r/x.txt"] == [item.path for item in store.list_artifacts("runs/r")]


@pytest.mark.attack("S")
def test_file_is_never_written_over(tmp_path: Path) -> None:
    """Evidence that reviewers have read is sent again with other bytes."""
    store, other = artifacts(tmp_path / "a"), tmp_path / "b/report.html"
    other.parent.mkdir()
    sent(store, "report.html", b"read", "run")
    other.write_bytes(b"other")
    for call in (
        lambda: sent(store, "report.html", b"other", "run"),
        lambda: store.log_artifact(str(other), "run"),
        lambda: store.log_artifacts(str(other.parent), "run"),
    ):
        assert "files are written once" in refused(call)
    assert files(tmp_path / "a") == {"run/report.html": b"read"}


@pytest.mark.attack("S")
def test_of_two_at_once_the_first_stays(tmp_path: Path) -> None:
    """Two clients send one name at the same moment, so that both pass the first check."""
    store = artifacts(tmp_path / "a")

    def send(number: int) -> bytes | None:
        try:
            sent(store, "f", str(number).encode() * 200_000, "run")
        except MlflowException:
            return None
        return str(number).encode()

    for turn in range(8):
        store = artifacts(tmp_path / f"a{turn}")
        with ThreadPoolExecutor(8) as pool:
            first = [said for said in pool.map(send, range(8)) if said is not None]
        assert files(tmp_path / f"a{turn}") == {"run/f": first[0] * 200_000}
        assert len(first) == 1


@pytest.mark.attack("S")
def test_nothing_is_deleted(tmp_path: Path) -> None:
    """Evidence is deleted through MLflow."""
    store = artifacts(tmp_path / "a")
    sent(store, "f", b"1")
    for path in ("f", None, ""):
        refused(lambda path=path: store.delete_artifacts(path))
    assert files(tmp_path / "a") == {"f": b"1"}


@pytest.mark.attack("S")
@pytest.mark.parametrize("status", ["READY", "FAILED", "UNSPECIFIED", "None", ""])
def test_nothing_is_added_to_a_final_candidate(tmp_path: Path, status: str) -> None:
    """A file is added to a candidate after it was submitted."""
    sent(artifacts(tmp_path / "a"), "model.safetensors", b"1", f"{CANDIDATE}/model")
    store = artifacts(tmp_path / "a", status)
    assert "nothing is added" in refused(lambda: sent(store, "code.py", b"2", f"{CANDIDATE}/model"))
    assert files(tmp_path / "a") == {f"{CANDIDATE}/model/model.safetensors": b"1"}
    sent(store, "elsewhere", b"3", "1/run/artifacts")


@pytest.mark.attack("S")
def test_candidate_becomes_final_while_a_file_is_on_its_way(tmp_path: Path) -> None:
    """A slow upload ends after the candidate was submitted."""
    status = iter(["PENDING", "READY"])
    (tmp_path / "a").mkdir()
    store = WriteOnceArtifacts(f"twinseal+{(tmp_path / 'a').as_uri()}", status_of=lambda _id: next(status))
    assert "nothing is added" in refused(lambda: sent(store, "late", b"2", CANDIDATE))
    assert files(tmp_path / "a") == {}


@pytest.mark.attack("S")
def test_upload_that_is_kept_open_adds_nothing_to_a_candidate(tmp_path: Path) -> None:
    """An engineer keeps an upload open while the candidate becomes final and is verified; or the server is killed."""
    store, status = artifacts(tmp_path / "a"), ["PENDING"]
    store._status_of = lambda _id: status[0]
    sent(store, "model.safetensors", b"1", f"{CANDIDATE}/model")
    before = inventory(tmp_path / "a" / CANDIDATE)

    async def stream() -> AsyncIterator[bytes]:
        yield b"half"
        status[0] = "READY"
        assert before == inventory(tmp_path / "a" / CANDIDATE)
        assert 2 == len(files(tmp_path / "a"))
        yield b"whole"

    send = store.log_artifact_from_async_stream(stream(), "late", artifact_path=f"{CANDIDATE}/model")
    assert "nothing is added" in refused(lambda: asyncio.run(send))
    assert {f"{CANDIDATE}/model/model.safetensors": b"1"} == files(tmp_path / "a")


@pytest.mark.attack("S")
def test_nothing_leads_to_uploads_that_are_not_complete(tmp_path: Path) -> None:
    """Somebody reads what another is about to send, or puts a file there; or that folder is a link."""
    store = artifacts(tmp_path / "a")
    sent(store, "f", b"1", "run")
    (tmp_path / "a" / STAGING / "half").write_bytes(b"secret")
    refused(lambda: store.get_local_path(f"{STAGING}/half"))
    refused(lambda: store.list_artifacts(STAGING))
    refused(lambda: sent(store, "mine", b"1", STAGING))
    refused(lambda: sent(store, STAGING, b"1"))
    assert ["run"] == [item.path for item in store.list_artifacts()]
    sent(store, "f", b"1", f"run/{STAGING}")  # elsewhere it is a name as any other
    (tmp_path / "a" / STAGING).rename(tmp_path / "b")
    (tmp_path / "a" / STAGING).symlink_to(tmp_path / "b")
    with pytest.raises(MlflowException, match="expected room on this server's disk") as caught:
        sent(store, "g", b"1", "run")
    assert 503 == caught.value.get_http_status_code()


WAYS = ["../x", "a/../../x", "/etc/x", "a//b", "a/./b", "a\\..\\b", "%2e%2e/x", "a/%2E%2E/x", "%252e%252e/x", "a/%2fx",
        "%256d-x/y", "a\nb", "a\x00b", "x" * 300, " \u202e/x"]  # fmt: skip


@pytest.mark.attack("S")
@pytest.mark.parametrize("way", WAYS)
def test_path_with_another_reading(tmp_path: Path, way: str) -> None:
    """A path that means another place once more is decoded, or that the file system reads in its own way."""
    store = artifacts(tmp_path / "a")
    name = way.rsplit("/", 1)[-1]
    calls = [lambda: sent(store, "f", b"1", way), lambda: store.get_local_path(way), lambda: store.list_artifacts(way)]
    calls += [lambda: sent(store, name, b"1")] if name != "x" and not is_plain(name) else []
    for call in calls:
        with pytest.raises((MlflowException, ValueError)):
            call()
    assert {} == files(tmp_path / "a")
    assert not (tmp_path / "x").exists()


@pytest.mark.attack("S")
@pytest.mark.parametrize("kind", ["folder", "file", "dangling", "fifo"])
def test_link_on_the_way(tmp_path: Path, kind: str) -> None:
    """Somebody with access to the disk leads a path out of the artifacts."""
    store, outside = artifacts(tmp_path / "a"), tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    place = tmp_path / "a/run"
    {
        "folder": lambda: place.symlink_to(outside),
        "file": lambda: (place.mkdir(), (place / "secret").symlink_to(outside / "secret")),
        "dangling": lambda: (place.mkdir(), (place / "secret").symlink_to(outside / "new")),
        "fifo": lambda: (place.mkdir(), os.mkfifo(place / "secret")),
    }[kind]()
    refused(lambda: sent(store, "secret", b"1", "run"))
    refused(lambda: store.get_local_path("run/secret"))
    if kind == "folder":
        refused(lambda: store.list_artifacts("run"))
    assert files(outside) == {"secret": b"secret"}


@pytest.mark.parametrize(
    ("folder", "name"),
    [("a.txt", "b"), ("a.txt/b", "c"), ("/".join(["d" * 200] * 30), "e"), ("/".join(["d" * 99] * 39), "e" * 250)],
)
def test_path_that_the_disk_does_not_take_is_said_to_be_so(tmp_path: Path, folder: str, name: str) -> None:
    store = artifacts(tmp_path / "a")
    sent(store, "a.txt", b"1")
    assert "expected a path below folders" in refused(lambda: sent(store, name, b"2", folder))
    assert {"a.txt": b"1"} == files(tmp_path / "a")


def test_disk_that_takes_no_more_is_said_to_be_so(tmp_path: Path) -> None:
    store, (soft, hard) = artifacts(tmp_path / "a"), resource.getrlimit(resource.RLIMIT_FSIZE)
    for send in (
        lambda: sent(store, "f", b"x" * 200_000, "run"),
        lambda: store.log_artifact_from_stream(io.BytesIO(b"x" * 200_000), "f", "run"),
    ):
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
        try:
            with pytest.raises(MlflowException, match="f: expected room on this server's disk, got an error") as caught:
                send()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert 503 == caught.value.get_http_status_code()
    assert {} == files(tmp_path / "a")


def test_folder_with_links_is_sent_without_them(tmp_path: Path) -> None:
    source, store = tmp_path / "s", artifacts(tmp_path / "a")
    source.mkdir()
    (source / "f").write_bytes(b"1")
    (source / "l").symlink_to("/etc/hosts")
    store.log_artifacts(str(source))
    assert files(tmp_path / "a") == {"f": b"1"}


def test_failed_upload_leaves_nothing(tmp_path: Path) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"half"
        raise ConnectionError("gone")

    store: Any = artifacts(tmp_path / "a")
    with pytest.raises(ConnectionError):
        asyncio.run(store.log_artifact_from_async_stream(broken(), "f", artifact_path="run"))
    assert {} == files(tmp_path / "a")
    sent(store, "f", b"whole", "run")


def test_ordinary_names_are_plain() -> None:
    for name in ("model.safetensors", "plot 50%.png", "Überblick.html", "a/b-c_d.e", "100 %"):
        assert is_plain(name), name
