from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.twin.deployment import MODEL, NOW, Deployment
from twinseal.errors import BusyError, EvidenceError, TrustError, TwinsealError
from twinseal.twin.byte_sources import DirectorySource
from twinseal.twin.pull import pull
from twinseal.twin.runtime import current_model
from twinseal.twin.state import LastSeen, State

OPERATIONS = ("replace", "rename", "unlink", "rmdir", "fsync")


class Killed(BaseException):
    """The process is gone: nothing of it runs any more."""


@contextmanager
def killed_before(operation: int, patch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Kill before the n-th operation on files, counted from 0; what would clean up after it is dead as well."""
    done: list[str] = []

    def counted(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if len(done) >= operation:
                raise Killed
            done.append(name)
            return real(*args, **kwargs)

        return call

    with patch.context() as patched:
        for name in OPERATIONS:
            patched.setattr(os, name, counted(name, getattr(os, name)))
        try:
            yield done
        except Killed:
            done.append("killed")


@pytest.mark.attack(7)
def test_killed_between_any_two_operations_a_twin_has_the_old_model_or_the_new(
    deployment: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pull is killed between two file operations: the old or the new model is complete."""
    source, anchor = DirectorySource(deployment.mirror), deployment.anchor
    pull(source, anchor, MODEL, tmp_path / "start", NOW)
    deployment.publish(2)
    found: list[int] = []
    for operation in range(400):
        twin = tmp_path / "twin"
        shutil.rmtree(twin, ignore_errors=True)
        shutil.copytree(tmp_path / "start", twin)
        with killed_before(operation, monkeypatch) as done:
            pull(source, anchor, MODEL, twin, NOW)
        found.append(current_model(twin, anchor, MODEL).release.version)
        if "killed" not in done:
            break
        if operation % 7 == 0:  # whatever was left, the next pull gets to the end
            assert pull(source, anchor, MODEL, twin, NOW).model.release.version == 2
            assert not (twin / "incoming").exists()
            assert len(list((twin / "models").iterdir())) == 2  # and the one before, to fall back to
    assert found == sorted(found)
    assert set(found) == {1, 2}
    assert 40 < len(found) < 400


@pytest.mark.attack(7)
def test_killed_while_the_first_model_is_pulled_leaves_none_or_all_of_it(
    deployment: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first pull is killed between two file operations: no model or a complete model."""
    source, anchor = DirectorySource(deployment.mirror), deployment.anchor
    for operation in range(0, 400, 7):
        twin = tmp_path / f"twin-{operation}"
        with killed_before(operation, monkeypatch) as done:
            pull(source, anchor, MODEL, twin, NOW)
        try:
            assert current_model(twin, anchor, MODEL).release.version == 1
        except TwinsealError as error:
            assert "expected an installed model, got none" in str(error)
        assert pull(source, anchor, MODEL, twin, NOW).model.release.version == 1
        if "killed" not in done:
            break
    assert "killed" not in done


@pytest.mark.attack(7)
@pytest.mark.parametrize("operation", ["fsync", "replace"])
def test_disk_that_fails_leaves_the_old_model(
    operation: str, deployment: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full during a pull: the old model stays."""
    source, anchor = DirectorySource(deployment.mirror), deployment.anchor
    pull(source, anchor, MODEL, tmp_path / "twin", NOW)
    deployment.publish(2)

    def fails(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, operation, fails)
        with pytest.raises((OSError, TwinsealError), match="No space left on device"):
            pull(source, anchor, MODEL, tmp_path / "twin", NOW)
    assert current_model(tmp_path / "twin", anchor, MODEL).release.version == 1


def test_two_pulls_do_not_run_at_once_and_a_start_does_not_wait_for_one(deployment: Deployment, tmp_path: Path) -> None:
    twin = tmp_path / "twin"
    pull(DirectorySource(deployment.mirror), deployment.anchor, MODEL, twin, NOW)
    state = State(twin)
    with state.pull_lock(NOW), pytest.raises(BusyError, match=f"process {os.getpid()}, since 2026-03-01T12:00:00Z"):
        pull(DirectorySource(deployment.mirror), deployment.anchor, MODEL, twin, NOW)
    with state.pull_lock(NOW), state.read_lock(), state.read_lock():
        assert not lockable(twin / "lock", fcntl.LOCK_EX)
        assert lockable(twin / "lock", fcntl.LOCK_SH)
    with state.write_lock():
        assert not lockable(twin / "lock", fcntl.LOCK_SH)
    assert lockable(twin / "lock", fcntl.LOCK_EX)


def lockable(path: Path, kind: int) -> bool:
    """Whether another process would get the lock now."""
    with path.open("rb") as other:
        try:
            fcntl.flock(other, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


@pytest.mark.parametrize(
    "text", [b"", b"1", b"9" * 64, b"1 2026-03-01T12:00:00Z\n1 2", b"\x1b[2J 2026-03-01T12:00:00Z\n"]
)
def test_who_pulls_is_told_only_if_it_was_written_there(text: bytes, tmp_path: Path) -> None:
    state = State(tmp_path)
    with state.pull_lock(NOW):
        (tmp_path / "pull.lock").write_bytes(text)
        with pytest.raises(BusyError, match="at the same time, got one$"), state.pull_lock(NOW):
            pass


@pytest.mark.attack(7)
@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", ["lock", "pull.lock"])
def test_something_else_in_the_place_of_a_lock(name: str, deployment: Deployment, tmp_path: Path) -> None:
    """A FIFO, a symlink to `/dev/zero` or a folder is put in place of a lock in the twin's state folder."""
    source, anchor, twin = DirectorySource(deployment.mirror), deployment.anchor, tmp_path / "twin"
    pull(source, anchor, MODEL, twin, NOW)
    path = twin / name
    for put in (lambda: os.mkfifo(path), lambda: path.symlink_to("/dev/zero"), path.mkdir):
        path.unlink() if not path.is_dir() else path.rmdir()
        put()
        with pytest.raises((TwinsealError, OSError)):
            pull(source, anchor, MODEL, twin, NOW)
    path.rmdir()
    assert 1 == current_model(twin, anchor, MODEL).release.version, "a lock that is gone is made again"


def test_state_is_private(deployment: Deployment, tmp_path: Path) -> None:
    pull(DirectorySource(deployment.mirror), deployment.anchor, MODEL, tmp_path / "twin", NOW)
    for path in [tmp_path / "twin", *(tmp_path / "twin").iterdir(), *(tmp_path / "twin/models").iterdir()]:
        if path.is_dir():
            assert oct(path.stat().st_mode & 0o777) == "0o700"


zones = st.sampled_from([UTC, timezone(timedelta(hours=2))])
times = st.datetimes(datetime(2020, 1, 1), datetime(2100, 1, 1), timezones=zones)
digests = st.text("0123456789abcdef", min_size=64, max_size=64)


@given(st.builds(LastSeen, st.text(max_size=20), times, st.integers(1, 2**40), digests))
def test_memory_round_trips(seen: LastSeen) -> None:
    assert LastSeen.from_bytes(seen.to_bytes()) == seen


@given(st.binary(max_size=200))
def test_memory_from_any_bytes_is_a_value_or_our_error(data: bytes) -> None:
    with pytest.raises(EvidenceError):
        LastSeen.from_bytes(data)


@pytest.mark.parametrize(
    "text",
    [
        "null",
        "[]",
        "{}",
        '{"model": "m", "time": "2026-01-01T00:00:00", "version": 1, "sha256": "%s"}' % ("0" * 64),
        '{"model": "m", "time": "2026-01-01T00:00:00+00:00", "version": 0, "sha256": "%s"}' % ("0" * 64),
        '{"model": "m", "time": "2026-01-01T00:00:00+00:00", "version": true, "sha256": "%s"}' % ("0" * 64),
        '{"model": "m", "time": 3, "version": 1, "sha256": "%s"}' % ("0" * 64),
        '{"model": "m", "time": "2026-01-01T00:00:00+00:00", "version": 1, "sha256": "0", "more": 1}',
    ],
)
def test_malformed_memory_is_refused(text: str) -> None:
    with pytest.raises(EvidenceError, match=r"last_seen\.json: expected what a pull has seen"):
        LastSeen.from_bytes(text.encode())


@pytest.mark.attack(7)
def test_a_folder_that_others_can_write_to_is_refused(deployment: Deployment, tmp_path: Path) -> None:
    """Other users can write to the twin's state folder (TOCTOU between verification and use)."""
    source, anchor, twin = DirectorySource(deployment.mirror), deployment.anchor, tmp_path / "twin"
    pull(source, anchor, MODEL, twin, NOW)
    for mode in (0o777, 0o770, 0o702):
        twin.chmod(mode)
        for act in (lambda: pull(source, anchor, MODEL, twin, NOW), lambda: current_model(twin, anchor, MODEL)):
            with pytest.raises(TrustError, match="expected a folder of this user that no one else can write to"):
                act()
    twin.chmod(0o755)
    assert 1 == current_model(twin, anchor, MODEL).release.version


@pytest.mark.attack(7)
@pytest.mark.parametrize("name", ["incoming", "models", "tuf"])
def test_a_symlink_in_place_of_a_folder_of_the_state_is_refused(
    name: str, deployment: Deployment, tmp_path: Path
) -> None:
    """A symlink is put in place of `incoming`, `models` or `tuf` in the twin's state folder."""
    source, anchor, twin = DirectorySource(deployment.mirror), deployment.anchor, tmp_path / "twin"
    twin.mkdir(mode=0o700)
    (tmp_path / "elsewhere").mkdir()
    (twin / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(TrustError, match=f"{name}: expected a folder, got a link"):
        pull(source, anchor, MODEL, twin, NOW)
    assert [] == list((tmp_path / "elsewhere").iterdir())


@pytest.mark.attack(7)
@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", ["last_seen.json", "current"])
def test_a_special_file_in_the_state_does_not_hang(name: str, deployment: Deployment, tmp_path: Path) -> None:
    """A FIFO, a symlink to `/dev/zero` or a folder is put in place of `last_seen.json` or `current`."""
    source, anchor, twin = DirectorySource(deployment.mirror), deployment.anchor, tmp_path / "twin"
    pull(source, anchor, MODEL, twin, NOW)
    path = twin / name
    for put in (lambda: os.mkfifo(path), lambda: path.symlink_to("/dev/zero"), path.mkdir):
        path.unlink() if not path.is_dir() else path.rmdir()
        put()
        with pytest.raises((TwinsealError, OSError)):
            pull(source, anchor, MODEL, twin, NOW)
