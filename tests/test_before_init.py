"""The first minutes in a fresh clone: DVC runs before `twinseal init`, and in its own copies of the project."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.test_story import copy_of_the_repository, home_of
from tests.warm import Warm

pytestmark = pytest.mark.proof  # make check stays below 12 minutes

SIGNERS = "policy/signers.json"
Run = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_of_the_repository(tmp_path_factory.mktemp("before") / "twinseal")


@pytest.fixture(scope="module")
def run(clone: Path, warm: Warm) -> Run:
    """Runs a program as a person does, who has set no variable."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("TWINSEAL_", "DVC_", "PYTEST_"))}
    path = os.pathsep.join(map(str, (warm.commands, Path(sys.executable).parent, os.environ["PATH"])))
    environment |= {"PATH": path, "DVC_NO_ANALYTICS": "1"}

    def run(*words: str) -> tuple[int, str]:
        done = subprocess.run(
            words, cwd=clone, env=environment, capture_output=True, text=True, check=False, timeout=200, input=""
        )
        return done.returncode, done.stdout + done.stderr

    return run


def open_to_others(folder: Path) -> list[Path]:
    found = [folder, *folder.rglob("*")]
    return [path for path in found if not path.is_symlink() and path.stat().st_mode & 0o002]


def test_before_init_everything_says_init_and_nothing_is_open_to_others(run: Run, clone: Path) -> None:
    code, printed = run("dvc", "repro")
    assert code != 0
    assert "expected a trust anchor, got none" in printed
    assert "twinseal init --demo" in printed
    assert "No such file or directory" not in printed
    assert [] == open_to_others(clone)
    assert not home_of(clone).exists()
    code, printed = run("twinseal", "review", "list")
    assert (1, True) == (code, "twinseal init --demo" in printed)
    assert "chmod" not in printed


def test_a_home_that_was_open_to_others_says_init_and_is_closed_by_it(run: Run, clone: Path) -> None:
    home = home_of(clone)
    home.mkdir(parents=True)
    home.chmod(0o777)
    assert "twinseal use demo" in run("twinseal", "review", "list")[1]  # nobody has made or confirmed it
    (home / "keys").mkdir()  # whoever may write there may have planted keys
    code, printed = run("twinseal", "init", "--demo")
    assert (1, True) == (code, "expected a folder that only its owner may write to, got mode 0777" in printed)
    (home / "keys").rmdir()
    assert 0 == run("twinseal", "init", "--demo")[0]
    assert 0o700 == home.stat().st_mode & 0o777
    assert 0 == run("twinseal", "review", "list")[0]


def test_an_experiment_in_a_copy_of_the_project_has_its_home(run: Run, clone: Path) -> None:
    code, printed = run("dvc", "exp", "run", "--temp", "-S", "data.simulated.units=24", "ingest")
    assert (0, True) == (code, "ingested: " in printed), printed
    assert [] == open_to_others(clone)


def test_stages_depend_on_the_keys_that_sign_evidence_and_on_no_others(run: Run, clone: Path) -> None:
    def signers() -> str:
        return (clone / SIGNERS).read_text()

    assert 0 == run("dvc", "repro", "validate")[0]
    before = signers()
    for command in ("keys rotate alice", "keys rotate custodian-3", "trust renew"):
        assert 0 == run("twinseal", *command.split(), "--yes")[0]
        assert before == signers()
    assert "Data and pipelines are up to date." in run("dvc", "status", "validate")[1]
    for holder in ("builder", "assessor"):
        assert 0 == run("twinseal", "keys", "rotate", holder, "--yes")[0]
        assert before != signers()
        before = signers()
    assert f"modified:           {SIGNERS}" in run("dvc", "status", "validate")[1]
