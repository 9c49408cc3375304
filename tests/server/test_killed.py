"""A server that is killed at any step of an approval: the signature is there whole or not at all, and nothing is stuck.

The steps are counted in a run that is not killed (`fault.py`); then a process that answers the same request, over the
real stores, is killed before each of them. Another process, as the next server, must find nothing half done.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings as profile

from tests.server import fault
from tests.server.killed import afterwards, approve, in_a_process, prepare
from tests.server.review_scene import challenge_of, review_scene
from tests.server.scene import deployment, serving
from tests.twin.deployment import MODEL
from twinseal.trust.audit import log_of, verify
from twinseal.trust.release import repository
from twinseal.trust.root.home import Home

pytestmark = pytest.mark.proof  # it takes minutes: `make proof`

IS_SEARCH = profile.get_current_profile_name() == "search"
SHOWN = 8  # steps of the publication, evenly, in `make proof`; `make fuzz` kills at each


@dataclass
class Scene:
    """A deployment where alice has approved, and what bruno is about to send.

    Attributes:
        home: Its home.
        kept: A copy of it.
        candidate: What is reviewed.
        body: Bruno's signed approval.
    """

    home: Home
    kept: Path
    candidate: str
    body: Any

    def approve(self, kill_at: int = 0) -> list[str]:
        """From the same state each time, and at the same place: MLflow knows its files by their paths."""
        shutil.rmtree(self.home.path)
        shutil.copytree(self.kept, self.home.path, symlinks=True)
        steps: list[str] = in_a_process(approve, self.home, self.candidate, self.body, kill_at)
        return steps


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    path = tmp_path_factory.mktemp("killed")
    made = deployment(path)
    candidate, body = in_a_process(prepare, made.home, made.bundle(1))
    shutil.copytree(made.home.path, path / "kept", symlinks=True)
    return Scene(made.home, path / "kept", candidate, body)


def test_steps_of_an_approval(scene: Scene) -> None:
    steps = scene.approve()
    assert {"log", "reviews", "trust"} <= {step.split("/")[1] for step in steps if "/" in step}
    assert "commit" in steps
    assert 40 < len(steps), steps


@pytest.mark.attack("S")
def test_killed_at_every_step(scene: Scene) -> None:
    """The server is killed before each step of an approval; what it leaves is the old state or the new one."""
    steps = scene.approve()
    own = max(number for number, step in enumerate(steps, 1) if "/reviews/.counters" in step)
    first, rest = range(1, own + 1), range(own + 1, len(steps) + 1)
    chosen = [number for number in first if IS_SEARCH or steps[number - 1] != "commit"]  # those only read
    chosen += rest if IS_SEARCH else rest[:: len(rest) // SHOWN]
    seen = set()
    for number in chosen:
        assert scene.approve(number) is None, steps[number - 1]
        seen.add(tuple(in_a_process(afterwards, scene.home, scene.candidate, scene.body)))
    assert seen == {(0, False), (1, False), (1, True)}


@pytest.mark.attack("S")
def test_server_is_killed_and_the_next_one_publishes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """kill -9 of a real server and its workers, when both have signed and nothing is published yet."""
    (tmp_path / "site").mkdir()
    shutil.copy(fault.__file__, tmp_path / "site/sitecustomize.py")
    armed = tmp_path / "armed"
    monkeypatch.setenv("FAULT_ARMED", str(armed))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "site"), os.environ.get("PYTHONPATH", "")]))
    with review_scene(tmp_path, enrolled=(), is_fork=False) as scene:
        for holder in ("alice", "bruno"):
            scene.enroll(holder)
        candidate = scene.submit(1)
        assert 200 == scene.decide("alice", candidate).status
        draft = scene.draft("bruno", candidate).json()
        touch = scene.devices["bruno"].touch(challenge_of(draft["texts"]))
        armed.write_text("30")
        with pytest.raises(OSError, match="closed connection|reset"):
            scene.send("bruno", candidate, draft, touch)
        assert -signal.SIGKILL == scene.server.process.wait(timeout=20)
    armed.unlink()
    home = scene.made.home
    assert (home.path / f"reviews/{candidate}/approvals/bruno.json").exists()
    assert repository.current_release(home, MODEL) is None
    with serving(home.path, people=False) as server:
        scene.server = server
        for _ in range(300):
            if scene.state(candidate) == "registered":
                break
            time.sleep(0.2)
        assert "registered" == scene.state(candidate)
        assert 1 == scene.pulled(tmp_path / "twin")
    verify(log_of(home.path).path)
