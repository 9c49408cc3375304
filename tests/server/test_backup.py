"""Backup and restore: of a server that runs and is written to, of PostgreSQL, and of files that somebody prepared."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shutil
import sqlite3
import stat
import subprocess
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.server.postgres import NoPostgresError, Postgres, postgres
from tests.server.review_scene import CALLS, ReviewScene, review_scene
from tests.server.scene import API, PASSWORD, deployment, now, serving, submitted
from tests.twin.deployment import MODEL, OTHER, Deployment
from tests.warm import shared
from twinseal.digests import MAX_NODES, canonical_json
from twinseal.errors import BackupError, ConfigError, TwinsealError
from twinseal.server.archive import MANIFEST, Item, Manifest, open_archive
from twinseal.server.backup import back_up
from twinseal.server.restore import restore
from twinseal.server.settings import ServerSettings
from twinseal.trust.audit import log_of, verify
from twinseal.trust.root import home_lock
from twinseal.trust.root.home import Home
from twinseal.twin.byte_sources import RestSource
from twinseal.twin.pull import pull

UPLOAD = "/api/2.0/mlflow-artifacts/artifacts/0/upload"


def program(*words: str, home: Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return shared().run("twinseal", *words, env=os.environ | {"TWINSEAL_HOME": str(home)}, cwd=cwd, timeout_s=120)


class Uploads(threading.Thread):
    """An engineer who sends files and makes runs until told to stop; how many were taken."""

    def __init__(self, scene: ReviewScene) -> None:
        super().__init__()
        self._server, self.done, self.taken = scene.server, threading.Event(), 0

    def run(self) -> None:
        while not self.done.is_set():
            data = os.urandom(200_000)
            name = f"{UPLOAD}/{hashlib.sha256(data).hexdigest()}.bin"
            assert 200 == self._server.ask("PUT", name, data).status
            assert 200 == self._server.post("runs/create", {"experiment_id": "0"}).status
            self.taken += 1


@pytest.mark.proof
def test_server_is_backed_up_while_it_runs_and_serves_again_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, there = tmp_path / "backup.tar.gz", tmp_path / "there"
    with review_scene(tmp_path) as scene:
        first, waits = scene.submit(1), scene.submit(60, OTHER)
        for who in ("alice", "bruno"):
            assert 200 == scene.decide(who, first).status
        assert 200 == scene.decide("alice", waits, comment="good").status
        uploads = Uploads(scene)
        uploads.start()
        try:
            while uploads.taken < 3:
                assert uploads.is_alive()
            done = program("backup", str(file), home=scene.made.home.path, cwd=tmp_path)
        finally:
            uploads.done.set()
            uploads.join()
        assert (0, 0o600) == (done.returncode, stat.S_IMODE(file.stat().st_mode)), done
        assert "Not in it: private keys" in done.stdout
        assert uploads.taken > 3
        made = scene.made
    bundle = made.bundle(2)
    made.home.path.rename(tmp_path / "lost")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    done = program("restore", str(file), "--home", str(there), "--sha256", digest, home=there, cwd=tmp_path)
    assert 0 == done.returncode, done
    assert f"root       {Home(there).anchor().fingerprint}" in done.stdout
    assert "verified   pump-rul release 1" in done.stdout
    assert not list((there / "keys").glob("*.pem"))
    assert str(made.home.path) not in (there / "mlflow/mlflow.db").read_bytes().decode("latin-1")
    with serving(there, people=False) as server:
        with RestSource(server.url, MODEL, credentials=("reader", PASSWORD)) as source:
            assert 1 == pull(source, made.anchor, MODEL, tmp_path / "twin", now()).model.release.version
        listed = {item["candidate"]: item for item in server.ask("GET", f"{CALLS}/reviews", who="alice").json()}
        assert ("registered", "waits") == (listed[first]["state"], listed[waits]["state"])
        assert ["alice"] == listed[waits]["approved_by"]
        page = server.ask("GET", f"/twinseal/review/{waits}", who="bruno")
        assert (200, False) == (page.status, b"does not verify" in page.body)
        for sent in (there / "mlflow/served/0/upload").iterdir():
            assert sent.stem == hashlib.sha256(sent.read_bytes()).hexdigest()
        # Its log goes on, with the log's own key.
        made.home = Home(there)
        monkeypatch.setattr(made, "bundle", lambda *_about: bundle)
        model_id, _ = submitted(made, 2)
        assert 201 == server.ask("POST", f"{CALLS}/reviews", {"candidate": model_id}).status
    assert verify(log_of(there).path).size == len(log_of(there).read())
    assert "submitted" == log_of(there).read()[-1][1].event


@pytest.fixture(scope="module")
def postgres_server() -> Iterator[Postgres]:
    with ExitStack() as stack:
        try:
            server = stack.enter_context(postgres())
        except NoPostgresError as missing:
            pytest.skip(str(missing))
        yield server


@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated")
@pytest.mark.proof
def test_postgresql_goes_and_comes_back(tmp_path: Path, postgres_server: Postgres) -> None:
    file, there = tmp_path / "backup.tar.gz", tmp_path / "there"
    with postgres_server.fresh("template0") as old, postgres_server.fresh("template0") as new:
        made = deployment(tmp_path)
        (made.home.path / "server.yaml").write_text(f"database: {old}\n")
        with serving(made.home.path, "--database", old) as server:
            assert 200 == server.post("registered-models/create", {"name": "plain"}).status
            beside = (made.home.path / "mlflow/artifacts/x").as_uri()
            with psycopg.connect(old) as base:  # as somebody beside the server makes one; the server lets nobody
                base.execute("UPDATE experiments SET artifact_location = %s WHERE experiment_id = 0", (beside,))
            done = program("backup", str(file), home=made.home.path, cwd=tmp_path)
            assert 0 == done.returncode, done
        again = program("restore", str(file), "--home", str(there), "--database", old, home=there, cwd=tmp_path)
        assert (2, True) == (again.returncode, "expected an empty one, got one with" in " ".join(again.stderr.split()))
        none = program("restore", str(file), "--home", str(there), home=there, cwd=tmp_path)
        assert (2, True) == (none.returncode, "expected --database for a backup" in " ".join(none.stderr.split()))
        assert not there.exists()
        done = program("restore", str(file), "--home", str(there), "--database", new, home=there, cwd=tmp_path)
        assert 0 == done.returncode, done
        with serving(there, "--database", new, people=False) as server:
            assert 200 == server.ask("GET", f"{API}registered-models/get?name=plain").status
            found = server.ask("GET", f"{API}experiments/get?experiment_id=0").json()["experiment"]
            assert (there / "mlflow/artifacts/x").as_uri() == found["artifact_location"]


def test_postgresql_without_its_programs_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = deployment(tmp_path, has_tables=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    settings = ServerSettings(database="postgresql://nobody@127.0.0.1:1/none")
    with pytest.raises(ConfigError, match="expected PostgreSQL's program pg_dump, got none"):
        back_up(made.home, settings, tmp_path / "b", now())
    assert [] == [path for path in tmp_path.iterdir() if path.name.startswith((".b", "b"))]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    """A deployment with two releases whose candidates lie where MLflow would have them, and a small database."""
    made = deployment(tmp_path_factory.mktemp("published"), has_tables=False)
    for version in (1, 2):
        bundle = made.bundle(version)
        release = made.release(bundle, version, now=now())
        shutil.copytree(bundle, made.home.path / f"mlflow/artifacts/x/models/{release.mlflow_model_id}/artifacts")
    with closing(sqlite3.connect(made.home.path / "mlflow/mlflow.db")) as base, base:
        base.execute("CREATE TABLE runs (artifact_uri TEXT)")
        places = (f"file://{made.home.path}/mlflow/artifacts/x", f"{made.home.path}/mlflow/artifacts/y",
                  "mlflow-artifacts:/1", f"file://{made.home.path}-other/mlflow/x")  # fmt: skip
        base.executemany("INSERT INTO runs VALUES (?)", [(place,) for place in places])
    (made.home.path / "mlflow/secrets.json").write_text("{}")
    (made.home.path / "mlflow/artifacts/x/poetry.lock").write_text("an artifact, no lock")
    (made.home.path / "mlflow/artifacts/x/a name – with (signs) 'ü'.txt").write_text("x")
    (made.home.path / f"mlflow/artifacts/x/{'long' * 60}.txt").write_text("y")
    return made


@pytest.fixture(scope="module")
def file(published: Deployment) -> Path:
    path = published.home.path.parent / "backup.tar.gz"
    back_up(published.home, ServerSettings(), path, now())
    return path


def files_of(home: Path) -> dict[str, bytes]:
    return {path.relative_to(home).as_posix(): path.read_bytes() for path in home.rglob("*") if path.is_file()}


def test_what_comes_back_is_what_was_there(published: Deployment, file: Path, tmp_path: Path) -> None:
    there = tmp_path / "there"
    made = restore(file, there)
    assert ("pump-rul release 1", "pump-rul release 2") == made.releases
    assert () == made.notes
    before, after = files_of(published.home.path), files_of(there)
    left_out = {name for name in before if name.startswith("keys/") and not name.endswith(".pub")}
    assert left_out | {"lock", "log/lock"} == set(before) - set(after)
    changed = {name for name in after if before[name] != after[name]}
    assert {"mlflow/mlflow.db"} == changed
    with closing(sqlite3.connect(there / "mlflow/mlflow.db")) as base:
        places = [row[0] for row in base.execute("SELECT artifact_uri FROM runs")]
    kept = f"file://{published.home.path}-other/mlflow/x"
    assert [f"file://{there}/mlflow/artifacts/x", f"{there}/mlflow/artifacts/y", "mlflow-artifacts:/1", kept] == places
    assert 0o700 == stat.S_IMODE(there.stat().st_mode)
    assert {0o600} == {stat.S_IMODE(path.stat().st_mode) for path in there.rglob("*") if path.is_file()}


def test_keys_are_in_it_only_when_asked_for(published: Deployment, file: Path, tmp_path: Path) -> None:
    back_up(published.home, ServerSettings(), tmp_path / "keys.tar.gz", now(), with_keys=True)
    for path, expected in ((file, False), (tmp_path / "keys.tar.gz", True)):
        with open_archive(path) as archive:
            assert expected == any(item.path == "keys/registrar.pem" for item in archive.manifest.items)
            assert any(item.path == "log/key" for item in archive.manifest.items)


def test_any_tar_program_reads_it(published: Deployment, file: Path, tmp_path: Path) -> None:
    subprocess.run(["tar", "-xzf", str(file)], cwd=tmp_path, check=True)
    expected = (published.home.path / "anchor/root.json").read_bytes()
    assert expected == (tmp_path / "anchor/root.json").read_bytes()
    assert (tmp_path / f"mlflow/artifacts/x/{'long' * 60}.txt").read_text() == "y"


def test_backup_is_whole_or_not_there(published: Deployment, file: Path, tmp_path: Path) -> None:
    home, settings = published.home, ServerSettings()
    before = file.read_bytes()
    with pytest.raises(ConfigError, match="expected a new name, got one that is taken"):
        back_up(home, settings, file, now())
    assert before == file.read_bytes()
    with pytest.raises(ConfigError, match="expected a file outside of the home"):
        back_up(home, settings, home.path / "mlflow/b.tar.gz", now())
    link = home.path / "mlflow/artifacts/x/link"
    link.symlink_to("/etc/passwd")
    try:
        with pytest.raises(ConfigError, match="expected files and folders in a home, got a link"):
            back_up(home, settings, tmp_path / "b", now())
    finally:
        link.unlink()
    assert [] == list(tmp_path.iterdir())


def test_more_files_than_other_documents_may_list(published: Deployment, file: Path) -> None:
    """A few thousand runs of MLflow have more files than the lists that any other document may have."""
    item = Item("mlflow/served/0/run/artifacts/f", 1, "0" * 64)
    items = tuple(replace(item, path=f"{item.path}{number:06d}") for number in range(150_000))
    assert len(items) > MAX_NODES
    with open_archive(file) as archive:
        many = replace(archive.manifest, items=items)
    assert many == Manifest.from_bytes(many.to_bytes())


@pytest.mark.attack("S")
def test_names_full_of_brackets_spoil_no_backup(
    published: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engineer sends files whose names have more brackets than a manifest may have lists."""
    monkeypatch.setattr("twinseal.server.archive.MAX_FILES", 1000)
    folder = published.home.path / "mlflow/served/0/brackets"
    folder.mkdir(parents=True)
    names = [f"{number}{bracket * 200}" for number in range(5) for bracket in "[{"]
    try:
        for name in names:
            (folder / name).write_text(name)
        back_up(published.home, ServerSettings(), tmp_path / "b.tar.gz", now())
    finally:
        shutil.rmtree(folder)
    restore(tmp_path / "b.tar.gz", tmp_path / "there")
    restored = tmp_path / "there/mlflow/served/0/brackets"
    assert {name: name for name in names} == {path.name: path.read_text() for path in restored.iterdir()}


def test_what_could_not_be_restored_is_no_backup(
    published: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There are more files than a restore would read: it is said now, and not when the backup is needed."""
    monkeypatch.setattr("twinseal.server.archive.MAX_FILES", 10)
    with pytest.raises(BackupError, match="expected at most 10 lists and objects, got more"):
        back_up(published.home, ServerSettings(), tmp_path / "b.tar.gz", now())
    assert [] == list(tmp_path.iterdir())


def test_nothing_is_decided_while_the_state_is_copied(
    published: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(home_lock, "LOCK_SECONDS", 0.5)
    with published.home.locked(), pytest.raises(TwinsealError, match="expected nobody else to be changing this home"):
        back_up(published.home, ServerSettings(), tmp_path / "b", now())
    assert [] == list(tmp_path.iterdir())


Change = Callable[[list[tuple[tarfile.TarInfo, bytes]]], None]
Said = Callable[[dict[str, Any]], None]


def remade(
    file: Path, target: Path, change: Change, *, manifest: Callable[[dict[str, Any]], None] | None = None
) -> Path:
    """The backup with its members, or its manifest, changed by somebody who knows the format."""
    with tarfile.open(file) as tar:
        members = [(member, tar.extractfile(member).read()) for member in tar]  # type: ignore[union-attr]
    change(members)
    if manifest is not None:
        value = json.loads(members[0][1])
        manifest(value)
        members[0] = (members[0][0], canonical_json(value))
    with tarfile.open(target, "w:gz") as tar:
        for member, data in members:
            member.size = len(data) if member.isreg() else 0
            tar.addfile(member, io.BytesIO(data))
    return target


def refused(path: Path, folder: Path, match: str) -> None:
    (folder / "parent").mkdir(exist_ok=True)
    with pytest.raises(TwinsealError, match=match):
        restore(path, folder / "parent/home")
    assert [] == list((folder / "parent").iterdir())
    assert not (folder / "evil").exists()


def at(members: list[tuple[tarfile.TarInfo, bytes]], name: str) -> int:
    return next(index for index, (member, _) in enumerate(members) if member.name == name)


def as_kind(kind: bytes, link: str = "") -> Change:
    def change(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
        member, _ = members[at(members, "anchor/root.json")]
        member.type, member.linkname = kind, link

    return change


def renamed(name: str) -> Change:
    def change(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
        members[at(members, "anchor/root.json")][0].name = name

    return change


def more(name: str, data: bytes = b"evil") -> Change:
    return lambda members: members.append((tarfile.TarInfo(name), data))


def longer(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    index = at(members, "server.yaml") if any(m.name == "server.yaml" for m, _ in members) else len(members) - 1
    member, data = members[index]
    members[index] = member, data + b"x"


def other_bytes(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    index = at(members, "anchor/root.json")
    member, data = members[index]
    members[index] = member, data[:-1] + b" "


def swapped(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    members[1], members[2] = members[2], members[1]


@pytest.mark.attack("S")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (as_kind(tarfile.SYMTYPE, "/etc/passwd"), "got a link, a folder or something else"),
        (as_kind(tarfile.LNKTYPE, "trust/metadata/1.root.json"), "got a link, a folder or something else"),
        (as_kind(tarfile.CHRTYPE), "got a link, a folder or something else"),
        (as_kind(tarfile.FIFOTYPE), "got a link, a folder or something else"),
        (as_kind(tarfile.DIRTYPE), "got a link, a folder or something else"),
        (as_kind(tarfile.GNUTYPE_SPARSE), "got one with holes"),
        (renamed("../evil"), "expected the file 'anchor/root.json'"),
        (renamed("/tmp/evil"), "expected the file 'anchor/root.json'"),
        (more("anchor/root.json"), "expected nothing beyond what its manifest lists"),
        (more("../evil"), "expected nothing beyond what its manifest lists"),
        (longer, "as its manifest says"),
        (other_bytes, "expected the bytes of its manifest, got others"),
        (swapped, "expected the file"),
        (lambda members: members.pop(), "got the end of the file"),
        (lambda members: members.pop(0), f"expected the file '{MANIFEST}'"),
        (lambda members: members.clear(), "got the end of the file"),
    ],
)
def test_member_that_the_manifest_does_not_have(file: Path, tmp_path: Path, change: Change, message: str) -> None:
    """A member of the archive is a link, a device, elsewhere, doubled, longer, changed, moved, missing or added."""
    refused(remade(file, tmp_path / "evil.tar.gz", change), tmp_path, message)


def listed(path: str, length: object = 4) -> Callable[[dict[str, Any]], None]:
    digest = hashlib.sha256(b"evil").hexdigest()
    return lambda value: value["files"].append([path, length, digest])


def said(name: str, word: object) -> Callable[[dict[str, Any]], None]:
    return lambda value: value.__setitem__(name, word)


@pytest.mark.attack("S")
@pytest.mark.parametrize(
    ("name", "manifest", "message"),
    [
        ("../evil", listed("../evil"), "expected names of files in a home, got '../evil'"),
        ("/tmp/evil", listed("/tmp/evil"), "expected names of files in a home"),
        ("keys/../../evil", listed("keys/../../evil"), "expected names of files in a home"),
        ("keys//evil", listed("keys//evil"), "expected names of files in a home"),
        ("evil", listed("evil"), "expected names of files in a home"),
        ("mlflow/auth.ini", listed("mlflow/auth.ini"), "expected names of files in a home"),
        ("anchor/root.json", listed("anchor/root.json"), "expected each name once"),
        ("anchor/root.json/x", listed("anchor/root.json/x"), "got 'anchor/root.json' as both"),
        ("keys/x", listed("keys/x", -1), "expected length and SHA-256"),
        ("keys/x", listed("keys/x", "4"), "expected length and SHA-256"),
        ("keys/x", listed("keys/x", 1 << 60), "expected room for"),
        ("", said("root_sha256", "0" * 64), "expected the anchor 0000"),
        ("", said("home", "relative"), "expected the home as an absolute path"),
        ("", said("database", "mysql"), "expected a database that is known"),
        ("", said("schema", "other"), "expected a manifest of the form"),
        ("", said("more", 1), "expected a manifest of the form"),
        ("", said("files", [["x"]]), "expected files with path, length and SHA-256"),
    ],
)  # fmt: skip
def test_manifest_that_leads_elsewhere(
    file: Path, tmp_path: Path, name: str, manifest: Callable[[dict[str, Any]], None], message: str
) -> None:
    """The manifest itself names a place outside, one name twice, more bytes than there is room for, or another root."""
    change = more(name) if name else lambda _members: None
    refused(remade(file, tmp_path / "evil.tar.gz", change, manifest=manifest), tmp_path, message)


@pytest.mark.attack("S")
@pytest.mark.parametrize("where", ["current", "log", "older"])
def test_content_that_somebody_changed_and_listed_anew(file: Path, tmp_path: Path, where: str) -> None:
    """A model, or an entry of the log, is changed in the backup, and its digest in the manifest too."""
    wanted = {"log": "log/tile/entries/", "current": "model.safetensors", "older": "model.safetensors"}[where]

    def change(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
        found = [index for index, (member, _) in enumerate(members) if wanted in member.name]
        with open_archive(file) as archive:
            assert archive.manifest.items
        for index in found:
            member, data = members[index]
            if where in ("current", "older") and (newest in member.name) != (where == "current"):
                continue
            members[index] = member, data[:-1] + bytes([data[-1] ^ 1])

    with tarfile.open(file) as tar:
        names = [member.name for member in tar if member.name.endswith(".release.json")]
        releases = [json.loads(tar.extractfile(name).read()) for name in names]  # type: ignore[union-attr]
    newest = str(max(releases, key=lambda value: value["version"])["mlflow_model_id"])
    first = remade(file, tmp_path / "first.tar.gz", change)
    with tarfile.open(first) as tar:
        digests = {m.name: hashlib.sha256(tar.extractfile(m).read()).hexdigest() for m in tar}  # type: ignore[union-attr]

    def manifest(value: dict[str, Any]) -> None:
        value["files"] = [[name, length, digests[name]] for name, length, _ in value["files"]]

    evil = remade(file, tmp_path / "evil.tar.gz", change, manifest=manifest)
    if where == "older":  # no twin goes back to it: it is said, and the rest is restored
        made = restore(evil, tmp_path / "home")
        assert ("pump-rul release 2",) == made.releases
        assert "pump-rul release 1: " in made.notes[0]
    else:
        refused(evil, tmp_path, {"log": "entry|tile|tree|log", "current": "model.safetensors"}[where])


@pytest.mark.attack("S")
def test_file_that_is_no_archive(file: Path, tmp_path: Path) -> None:
    """Something else, half a backup, and headers that claim gigabytes are given as a backup."""
    data = file.read_bytes()
    evil = tmp_path / "evil.tar.gz"
    for content in (b"", b"x" * 4096, data[: len(data) // 2], gzip.compress(b"x" * 4096)):
        evil.write_bytes(content)
        refused(evil, tmp_path, "backup: ")
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, 1 << 32
    evil.write_bytes(gzip.compress(header.tobuf() + b"\0" * 4096))
    refused(evil, tmp_path, "expected headers of a few bytes")
    with pytest.raises(BackupError, match="expected the backup 0000"):
        restore(file, tmp_path / "parent/home", sha256="0" * 64)
    assert [] == list((tmp_path / "parent").iterdir())


@pytest.mark.attack("S")
def test_restore_never_writes_over_a_home(published: Deployment, file: Path, tmp_path: Path) -> None:
    """The folder has something in it, is a link to one, or others may write to it."""
    (tmp_path / "full").mkdir()
    (tmp_path / "full/x").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    (tmp_path / "empty").mkdir()
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o777)
    for place, message in (
        ("full", "expected a new or an empty folder"),
        ("link", "expected a new or an empty folder"),
        ("none/home", "expected a folder for the new home"),
        ("shared/home", "expected a folder that only its owner may write to"),
    ):
        with pytest.raises(TwinsealError, match=message):
            restore(file, tmp_path / place)
    assert "mine" == (tmp_path / "full/x").read_text()
    restore(file, tmp_path / "empty")
    assert (tmp_path / "empty/anchor/root.json").exists()
