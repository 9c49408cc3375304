"""What a twin remembers: `last_seen.json` and its own log together, and a clock that was ahead."""

from __future__ import annotations

import itertools
import shutil
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from tests.twin.deployment import MODEL, NOW, Deployment
from twinseal.errors import AuditError, BusyError, EvidenceError, ExpiredError, RollbackError, TwinsealError
from twinseal.trust.audit import Entry, log_of, verify
from twinseal.trust.ceremonies import ceremony
from twinseal.trust.release.client import MetadataVersions
from twinseal.twin import clock
from twinseal.twin.byte_sources import DirectorySource
from twinseal.twin.memory import describe_installed, recall, recall_log
from twinseal.twin.pull import PullResult, pull
from twinseal.twin.runtime import current_model
from twinseal.twin.state import State

LATER, LATEST = NOW + timedelta(hours=1), NOW + timedelta(hours=2)
TEN_DAYS = timedelta(days=10)


class Scene:
    """A twin that has taken release 2 of a deployment, and the registry as it was with release 1."""

    def __init__(self, path: Path) -> None:
        self.deployment, self.twin = Deployment(path / "deployment"), path / "twin"
        self.old, self.new = path / "mirror-1", path / "deployment/mirror"
        self.state = State(self.twin)

    def pull(self, mirror: Path | None = None, now: datetime = LATEST) -> PullResult:
        return pull(DirectorySource(mirror or self.new), self.deployment.anchor, MODEL, self.twin, now)

    @property
    def version(self) -> int:
        """The release that a start runs; 0 if none can."""
        try:
            return current_model(self.twin, self.deployment.anchor, MODEL).release.version
        except TwinsealError:
            return 0

    def remove(self, *names: str) -> None:
        for name in names:
            path = self.twin / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def log(self) -> list[Entry]:
        return [entry for _, entry in log_of(self.twin).read()]


@pytest.fixture(scope="module")
def prepared(first: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scene")
    shutil.copytree(first, path / "deployment")
    scene = Scene(path)
    shutil.copytree(scene.new, scene.old)
    scene.pull(now=NOW)
    scene.deployment.publish(2)
    assert 2 == scene.pull(now=LATER).model.release.version
    return path


@pytest.fixture
def scene(prepared: Path, tmp_path: Path) -> Scene:
    shutil.copytree(prepared, tmp_path / "scene")
    return Scene(tmp_path / "scene")


KEPT, LOCKS = ("current", "last_seen.json", "models", "tuf"), ("lock", "pull.lock")
STATE = (*KEPT, *LOCKS, "previous")
SUBSETS = [names for count in range(5) for names in itertools.combinations(KEPT, count)] + [LOCKS, ("previous",), STATE]


@pytest.mark.attack(2, 7)
def test_any_part_of_the_state_but_the_log_is_removed(scene: Scene, tmp_path: Path) -> None:
    """Rollback after any of the files and folders of the twin's state, but not its log, were removed."""
    assert {*STATE, "log"} == {path.name for path in scene.twin.iterdir()}
    shutil.copytree(scene.twin, tmp_path / "start")
    for names in SUBSETS:
        shutil.rmtree(scene.twin)
        shutil.copytree(tmp_path / "start", scene.twin)
        scene.remove(*names)
        before = scene.version
        assert (0 if {"current", "models"} & set(names) else 2) == before, names
        with pytest.raises(RollbackError):
            scene.pull(scene.old)
        assert before == scene.version, names
        assert 2 == scene.pull().model.release.version, f"the honest registry is accepted without {names}"
        assert 2 == scene.version


@pytest.mark.attack(7)
@pytest.mark.parametrize("name", ["checkpoint", "tile", "vkey", "checkpoints", "key"])
def test_a_part_of_the_log_is_removed_with_the_state(name: str, scene: Scene) -> None:
    """Rollback after the twin's state and a part of its log were removed."""
    scene.remove(*STATE, f"log/{name}")
    with pytest.raises((AuditError, RollbackError)):
        scene.pull(scene.old)
    assert 0 == scene.version


def test_a_state_that_is_removed_with_its_log_is_a_new_twin(scene: Scene) -> None:
    """As docs/operating.md says: compare the release that it prints."""
    scene.remove(*STATE, "log")
    assert 1 == scene.pull(scene.old).model.release.version


@pytest.mark.attack(7)
def test_both_memories_are_removed_beside_a_model(scene: Scene) -> None:
    """`last_seen.json` and the log are removed beside the installed model, also with the TUF cache."""
    scene.remove("last_seen.json", "log", "tuf")
    for _ in range(2):  # the refusal begins a new log, which knows no more
        with pytest.raises(EvidenceError, match=r"expected last_seen\.json or an audit log beside the installed"):
            scene.pull(scene.old)
    assert 2 == scene.version


@pytest.mark.attack(2)
def test_an_older_last_seen_is_put_back(scene: Scene, prepared: Path) -> None:
    """Rollback after `last_seen.json` was replaced by an older one and the TUF cache was deleted."""
    text = (scene.twin / "last_seen.json").read_text().replace('"version":2', '"version":1')
    (scene.twin / "last_seen.json").write_text(text)
    scene.remove("tuf")
    with pytest.raises(RollbackError):
        scene.pull(scene.old)
    assert 2 == scene.version


@pytest.mark.attack(2)
def test_a_refused_release_counts_as_seen_also_by_the_log(scene: Scene) -> None:
    """Rollback after a newer release was refused and the state, but not the log, was removed."""
    release = scene.deployment.publish(3)
    weights = scene.deployment.candidate(release) / "model/model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + b"!")
    with pytest.raises(TwinsealError, match="expected sha256"):
        scene.pull()
    scene.remove("current", "last_seen.json", "tuf")
    with pytest.raises(RollbackError):
        scene.pull(scene.old)
    weights.write_bytes(whole)
    assert 3 == scene.pull().model.release.version


@pytest.mark.attack(1, 2)
@pytest.mark.parametrize("shown", ["admitted", "current", "refused"])
def test_a_root_that_revokes_is_withheld_after_the_state_was_removed(shown: str, scene: Scene, tmp_path: Path) -> None:
    """Revoked reviewer: the registry withholds the newest root, and the twin's state, but not its log, was removed."""
    deployment = scene.deployment
    shutil.copytree(deployment.home.path, tmp_path / "thief/home")
    thief = Deployment(tmp_path / "thief")  # as it was before: the keys of alice and chiara count
    for version in (3, 4, 5):
        thief.publish(version)
    if shown == "admitted":
        ceremony.rotate(deployment.home, deployment.roles, "chiara", LATER)
        deployment.publish(3)
    else:
        ceremony.revoke(deployment.home, deployment.roles, "bruno" if shown == "current" else "chiara", LATER)
        deployment.update_mirror()
    if shown == "refused":  # chiara has signed release 2
        with pytest.raises(TwinsealError, match="expected 2 reviewers|was signed by 1/2"):
            scene.pull()
    else:
        assert (shown == "admitted") == scene.pull().changed
    assert 2 == recall_log(scene.state, MODEL).versions.root
    scene.remove("current", "last_seen.json", "tuf")
    with pytest.raises(RollbackError, match="root: expected version >= 2, as this twin's log has it, got 1"):
        scene.pull(thief.mirror)
    assert not (scene.twin / "tuf/timestamp.json").exists(), "nothing of what was refused is kept"


def test_the_log_alone_remembers_what_both_remember(scene: Scene) -> None:
    both, logged = recall(scene.state, MODEL), recall_log(scene.state, MODEL)
    assert both == logged
    assert both.seen is not None
    assert (2, LATER, 2) == (both.seen.version, both.seen.time, both.admitted)
    assert MetadataVersions(root=1, timestamp=3, role=2) == both.versions
    assert recall_log(scene.state, "another") == type(both)()
    assert recall(State(scene.twin / "none"), MODEL) == type(both)()


def test_a_long_log_of_refusals_is_read_fast(scene: Scene) -> None:
    refusal = Entry(LATER, "admitted", "twin", MODEL).as_refusal(RuntimeError("no registry"))
    log_of(scene.twin).append(*[refusal] * 5000)
    assert recall(scene.state, MODEL) == recall_log(scene.state, MODEL)
    assert 2 == recall_log(scene.state, MODEL).admitted


@pytest.mark.attack(7)
def test_an_older_state_is_put_back_without_its_log(scene: Scene, tmp_path: Path) -> None:
    """An older copy of the twin's whole state, but not of its log, is put back: it runs, a warning says so."""
    assert "" == describe_installed(scene.state, scene.pull().model.release)
    aside = tmp_path / "aside"
    scene.twin.rename(aside)
    scene.pull(scene.old, now=LATER)
    shutil.rmtree(scene.twin / "log")
    shutil.copytree(aside / "log", scene.twin / "log")
    assert 1 == scene.version
    said = describe_installed(scene.state, current_model(scene.twin, scene.deployment.anchor, MODEL).release)
    assert "release 1 is installed, but release 2 was admitted before: pull again" == said
    with pytest.raises(RollbackError):
        scene.pull(scene.old)
    assert 2 == scene.pull().model.release.version
    scene.remove("log/tile")
    verified = current_model(scene.twin, scene.deployment.anchor, MODEL)
    assert "the twin's audit log is not sound" in describe_installed(scene.state, verified.release)


# A clock that was ahead


@pytest.fixture
def ahead(scene: Scene) -> Scene:
    """The clock was ten days ahead during one pull."""
    assert TEN_DAYS == scene.pull(now=LATER + TEN_DAYS).since_last
    return scene


def test_a_clock_that_was_ahead_blocks_updates_and_says_so(ahead: Scene) -> None:
    ahead.deployment.publish(3)
    with pytest.raises(ExpiredError, match="clock: expected 2026-03-11 13:00:00 UTC or later") as refusal:
        ahead.pull()
    assert "it was ahead in an earlier pull by 10 days: run the same command with --clock-is-right" in (
        refusal.value.remedy
    )
    assert 2 == ahead.version


def test_a_person_says_that_the_clock_is_right(ahead: Scene) -> None:
    release = ahead.deployment.publish(3)
    assert LATER + TEN_DAYS == clock.remembered_time(ahead.twin, MODEL)
    assert clock.correct(ahead.twin, MODEL, LATEST)
    assert not clock.correct(ahead.twin, MODEL, LATEST), "there is nothing to correct any more"
    assert release == ahead.pull().model.release
    corrected = ahead.log()[-2]
    assert ("corrected", "twin", MODEL, LATEST) == (corrected.event, corrected.actor, corrected.model, corrected.time)
    assert {"clock_was": "2026-03-11 13:00:00 UTC", "clock_is": "2026-03-01 14:00:00 UTC"} == corrected.details
    assert 4 == verify(log_of(ahead.twin).path).size
    with pytest.raises(ExpiredError):
        ahead.pull(now=LATEST - timedelta(seconds=1))


def test_the_corrected_time_counts_also_where_the_log_alone_knows_it(ahead: Scene) -> None:
    assert clock.correct(ahead.twin, MODEL, LATEST)
    ahead.remove("last_seen.json")
    assert LATEST == clock.remembered_time(ahead.twin, MODEL)
    with pytest.raises(ExpiredError, match="clock: expected 2026-03-01 14:00:00 UTC or later"):
        ahead.pull(now=LATEST - timedelta(seconds=1))
    assert not ahead.pull().changed


@pytest.mark.attack(0, 1, 2)
@pytest.mark.parametrize("removed", [(), ("tuf",), ("last_seen.json",), ("last_seen.json", "tuf")])
def test_a_corrected_clock_makes_no_older_release_valid(removed: tuple[str, ...], ahead: Scene) -> None:
    """Rollback after the operator has corrected a clock that was ahead: versions are remembered as before."""
    assert clock.correct(ahead.twin, MODEL, LATEST)
    ahead.remove(*removed)
    with pytest.raises(RollbackError):
        ahead.pull(ahead.old)
    assert 2 == ahead.version
    assert not ahead.pull().changed


@pytest.mark.attack(0, 1)
def test_a_corrected_clock_makes_no_expired_metadata_valid(ahead: Scene) -> None:
    """Freeze: metadata that has expired is served after the operator has corrected a clock that was ahead."""
    assert clock.correct(ahead.twin, MODEL, LATER + timedelta(days=1))
    with pytest.raises(ExpiredError, match="expired"):
        ahead.pull(now=NOW + timedelta(days=21))
    assert 2 == ahead.version


@pytest.mark.attack(0)
def test_a_correction_that_cannot_be_logged_is_not_made(ahead: Scene) -> None:
    """The clock is corrected while the twin's audit log cannot be written."""
    ahead.remove("log/key")
    with pytest.raises(AuditError):
        clock.correct(ahead.twin, MODEL, LATEST)
    assert LATER + TEN_DAYS == clock.remembered_time(ahead.twin, MODEL)


def test_a_clock_is_not_corrected_while_a_pull_runs(ahead: Scene) -> None:
    with ahead.state.pull_lock(LATER), pytest.raises(BusyError):
        clock.correct(ahead.twin, MODEL, LATEST)


def test_a_twin_that_never_pulled_has_no_clock_to_correct(scene: Scene, tmp_path: Path) -> None:
    assert clock.remembered_time(tmp_path / "none", MODEL) is None
    assert not clock.correct(tmp_path / "none", MODEL, LATER)
    assert not (tmp_path / "none").exists()
