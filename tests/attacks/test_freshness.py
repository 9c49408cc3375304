"""Rollback and freeze attacks; the clock is set back, state is deleted, the process is killed."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tuf.api.metadata import MetaFile

from tests.attacks.field import LATER, UNTIL, Field
from tests.twin.deployment import MODEL, NOW
from twinseal.errors import BusyError, ExpiredError, RollbackError, TwinsealError
from twinseal.twin.memory import describe_installed
from twinseal.twin.runtime import current_model
from twinseal.twin.state import State

SOON = NOW + timedelta(minutes=30)  # before LATER, when the twin looks


def replay(field: Field) -> None:
    """The registry goes back to what it was when release 1 was its newest."""
    shutil.rmtree(field.mirror)
    shutil.copytree(field.path / "mirror-1", field.mirror)


@pytest.mark.attack(1)
def test_the_whole_registry_is_rolled_back(field: Field) -> None:
    """Rollback: the registry serves an older state of all its files, still valid."""
    assert (2, 2) == (field.accepts(), field.pull().model.release.version)
    replay(field)
    field.refuses(RollbackError, "New timestamp version 2 must be >= 4")


@pytest.mark.attack(1)
def test_the_timestamp_is_rolled_back(field: Field) -> None:
    """Rollback: the registry serves an older timestamp, everything else is new."""
    assert (2, 2) == (field.accepts(), field.pull().model.release.version)
    shutil.copy(field.path / "mirror-1/metadata/timestamp.json", field.registry.metadata)
    field.refuses(RollbackError, "New timestamp version 2 must be >= 4")


@pytest.mark.attack(1)
def test_the_snapshot_is_rolled_back(field: Field) -> None:
    """Stolen registrar key: a new timestamp lists an older snapshot."""
    assert (2, 2) == (field.accepts(), field.pull().model.release.version)
    stamp = field.registry.newest("timestamp")
    old = field.registry.metadata / "2.snapshot.json"
    stamp.signed.version += 1
    stamp.signed.snapshot_meta = MetaFile.from_data(2, old.read_bytes(), ["sha256"])
    stamp.sign(field.keys.signer("registrar"))
    stamp.to_file(str(field.registry.metadata / "timestamp.json"))
    field.refuses(RollbackError, "New snapshot version must be >= 4, got version 2")


@pytest.mark.attack(1)
def test_the_model_role_is_rolled_back(field: Field) -> None:
    """Stolen registrar key: a new snapshot lists the model role of the previous release."""
    assert (2, 2) == (field.accepts(), field.pull().model.release.version)
    old = field.registry.metadata / f"1.{MODEL}.json"
    field.registry.place(MODEL, old.read_bytes(), 1)
    field.refuses(RollbackError, rf"role {MODEL}: expected version >= 2, as seen before, got 1")


@pytest.mark.attack(1)
def test_the_model_role_is_removed_from_the_snapshot(field: Field) -> None:
    """Stolen registrar key: a new snapshot no longer lists the model role."""
    assert (2, 2) == (field.accepts(), field.pull().model.release.version)
    field.registry.relist(lambda meta: meta.pop(f"{MODEL}.json"))
    field.refuses(RollbackError, f"New snapshot is missing info for '{MODEL}.json'")


@pytest.mark.attack(2)
def test_the_release_is_rolled_back_by_its_reviewers(field: Field) -> None:
    """The reviewers sign the previous release again, in a new version of the model role."""
    assert (2, 2) == (field.accepts(), field.pull().model.release.version)
    (old,) = (path for path in field.listed.parent.iterdir() if path != field.listed)
    field.registry.release(old.read_bytes(), MODEL, ("alice", "chiara"), UNTIL)
    field.refuses(RollbackError, f"release version: expected >= 2, got 1 .{MODEL}")


@pytest.mark.attack(2)
@pytest.mark.parametrize("wiped", ["tuf", "tuf/timestamp.json", "tuf/snapshot.json", f"tuf/{MODEL}.json"])
def test_the_registry_is_rolled_back_and_the_cache_deleted(field: Field, wiped: str) -> None:
    """Rollback after the twin's TUF cache, or one file of it, was deleted."""
    assert (2, 2) == (field.accepts(), field.pull().model.release.version)
    path = field.twin / wiped
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    replay(field)
    field.refuses(RollbackError, "expected version >= 2, as this twin's log has it, got 1|must be >= 4|New snapshot")


def expired_timestamp(field: Field) -> None:
    stamp = field.registry.newest("timestamp")
    stamp.signed.version, stamp.signed.expires = stamp.signed.version + 1, SOON
    stamp.sign(field.keys.signer("registrar"))
    stamp.to_file(str(field.registry.metadata / "timestamp.json"))


def expired_snapshot(field: Field) -> None:
    field.registry.relist(expires=SOON)
    stamp = field.registry.newest("timestamp")
    stamp.signed.version, stamp.signed.expires = stamp.signed.version + 1, UNTIL
    stamp.sign(field.keys.signer("registrar"))
    stamp.to_file(str(field.registry.metadata / "timestamp.json"))


def expired_role(field: Field) -> None:
    field.registry.release(field.listed.read_bytes(), MODEL, ("alice", "chiara"), SOON)


def expired_targets(field: Field) -> None:
    targets = field.registry.newest("targets")
    targets.signed.version, targets.signed.expires = 2, SOON
    field.registry.put("targets", targets, ["ruth"])


def expired_root(field: Field) -> None:
    root = field.registry.newest("root")
    root.signed.version, root.signed.expires = 2, SOON
    field.registry.put("root", root, ["ruth"], listed=False)


@pytest.mark.attack(1)
@pytest.mark.parametrize(
    ("expire", "message"),
    [
        (expired_timestamp, "timestamp.json is expired"),
        (expired_snapshot, "snapshot.json is expired"),
        (expired_role, f"New {MODEL} is expired"),
        (expired_targets, "New targets is expired"),
        (expired_root, "Final root.json is expired"),
    ],
)
def test_metadata_of_one_role_has_expired(field: Field, expire: Any, message: str) -> None:
    """The registry serves an expired timestamp, snapshot, model role, targets or root; the rest is valid."""
    assert 2 == field.accepts(now=SOON - timedelta(minutes=1))
    expire(field)
    assert 2 == field.accepts(now=SOON - timedelta(minutes=1))
    field.refuses(ExpiredError, message)


@pytest.mark.attack(1)
def test_the_registry_is_frozen(field: Field) -> None:
    """Freeze: the registry always serves the same metadata: accepted only until it expires."""
    before = NOW + timedelta(days=29)
    assert (2, 2) == (field.accepts(now=NOW), field.accepts(now=NOW + timedelta(days=19)))
    field.refuses(ExpiredError, "expired", now=before + timedelta(days=2))


@pytest.mark.attack(1)
def test_a_stolen_registrar_key_freezes_the_registry(field: Field) -> None:
    """Stolen registrar key: freeze with renewed timestamps, which ends when the model role expires."""
    for day in (5, 10, 19):
        field.registry.relist(expires=NOW + timedelta(days=3650))
        assert 2 == field.accepts(now=NOW + timedelta(days=day))
    field.refuses(ExpiredError, f"{MODEL} is expired", now=NOW + timedelta(days=21))


@pytest.mark.attack(0)
def test_the_clock_is_set_back(field: Field) -> None:
    """The twin's clock is set back to a time when old metadata was still valid."""
    frozen = NOW + timedelta(days=10)
    assert 2 == field.accepts(now=frozen)
    assert 2 == field.pull(now=frozen).model.release.version
    field.refuses(ExpiredError, "clock: expected 2026-03-11 12:00:00 UTC or later, got 2026-03-01 13:00:00")
    field.refuses(ExpiredError, "expired", now=NOW + timedelta(days=40))
    assert field.pull(now=frozen).changed is False, "a refusal for a clock too fast is not remembered as the time"


@pytest.mark.attack(7)
def test_three_pulls_share_a_state_folder(field: Field) -> None:
    """Three processes pull into one state folder at the same time: one or more of them install the release."""
    children = []
    for _ in range(3):
        child = os.fork()
        if child == 0:
            try:
                os._exit(field.pull().model.release.version)
            except BusyError:
                os._exit(50)
            finally:
                os._exit(99)
        children.append(child)
    ends = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert {2} <= set(ends) <= {2, 50}
    assert 2 == field.version
    assert 2 == len(list((field.twin / "models").iterdir()))  # and the one before, to fall back to


WRITES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod", "os.link", "os.symlink", "os.truncate"}


def ends(field: Field, killed_before: int, counter: Path) -> int:
    """How a pull ends, in a process of its own that is killed before so many changes to the disk; it counts them."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    done: list[str] = []

    def watch(event: str, args: tuple[Any, ...]) -> None:
        if event in WRITES or (event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR)):
            if len(done) == killed_before:
                os.kill(os.getpid(), signal.SIGKILL)
            done.append(event)

    try:
        sys.addaudithook(watch)
        field.pull()
        number = len(done)
        counter.write_text(str(number))
        os._exit(0)
    finally:
        os._exit(1)


@pytest.mark.attack(7)
def test_a_pull_is_killed_between_two_writes(field: Field) -> None:
    """The pull is killed (SIGKILL) between two writes to the disk: the old or the new model is complete."""
    shutil.copytree(field.twin, field.path / "start")

    def restarted(operation: int) -> int:
        shutil.rmtree(field.twin)
        shutil.copytree(field.path / "start", field.twin, symlinks=True)
        return ends(field, operation, field.path / "counter")

    assert (0, 2) == (restarted(10**9), field.version)
    last = int((field.path / "counter").read_text())
    found = []
    # The last dozen are the switch and the clearing away; tests/twin/test_state.py stops before each of all.
    for operation in [*range(0, last - 12, 60), *range(last - 12, last, 2)]:
        assert -signal.SIGKILL == restarted(operation)
        found.append(field.version)
    assert found == sorted(found)
    assert {1, 2} == set(found)
    assert 2 == field.pull().model.release.version  # whatever is left, the next pull gets to the end
    assert not (field.twin / "incoming").exists()


@pytest.mark.attack(7)
def test_last_seen_is_deleted_before_a_rollback(field: Field) -> None:
    """Rollback after `last_seen.json` was deleted beside the installed model, then the TUF cache too."""
    assert (2, 2) == (field.accepts(), field.pull().model.release.version)
    (field.twin / "last_seen.json").unlink()
    replay(field)
    field.refuses(RollbackError, "New timestamp version 2 must be >= 4")
    shutil.rmtree(field.twin / "tuf")
    field.refuses(RollbackError, f"role {MODEL}: expected version >= 2, as this twin's log has it, got 1")


@pytest.mark.attack(7)
def test_the_pointer_is_set_to_a_release_that_is_no_longer_installed(field: Field) -> None:
    """The pointer `current` is set back to a release that is no longer installed."""
    old = (field.twin / "current").read_bytes()
    assert 2 == field.pull().model.release.version
    (field.twin / "current").write_bytes(old)
    shutil.rmtree(field.twin / "models" / old.decode())
    with pytest.raises(TwinsealError, match="expected a release, got none|expected the installed model whole"):
        current_model(field.twin, field.deployment.anchor, MODEL)
    assert (True, 2) == (field.pull(now=LATER).changed, field.version)
    assert not Path(field.twin / "models" / old.decode()).exists()


@pytest.mark.attack(7)
def test_the_pointer_is_set_back_to_the_release_before(field: Field) -> None:
    """The pointer `current` is set to the release before, which is kept: it is said, and the next pull mends it."""
    old = (field.twin / "current").read_bytes()
    assert 2 == field.pull().model.release.version
    (field.twin / "current").write_bytes(old)
    verified = current_model(field.twin, field.deployment.anchor, MODEL)
    assert "release 2 was admitted before" in describe_installed(State(field.twin), verified.release)
    assert (True, 2) == (field.pull(now=LATER).changed, field.version)
