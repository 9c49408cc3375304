"""DVC's site cache, from which it loads pickles (CVE-2025-69872): by hand, from any folder, by whoever else is here.

What is attacked is the real program in a project with this repository's .dvc/config: as .venv runs it, with the guard
that requirements/install.sh puts there, and as any other Python would, without it.
"""

from __future__ import annotations

import os
import pickle
import shutil
import sqlite3
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines import _stage
from tests.telemetry.conftest import ROOT
from twinseal.errors import ConfigError
from twinseal.trust.root.private_folders import SITE_CACHE, private_site_cache

GUARDED = [str(Path(sys.executable).parent / "dvc")]
# -S: without what .venv runs when Python starts
PLAIN = [sys.executable, "-S", "-c"]
PLAIN.append(f"import sys; sys.path += [{sysconfig.get_path('purelib')!r}]; from dvc.cli import main; sys.exit(main())")
OTHER = 65534  # "nobody", on every Linux
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user, as whom the attack is made")


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's own folder, as others can see it; nothing is set, and nothing of ours has run."""
    temporary = Path(tempfile.gettempdir()).resolve()
    for place in (tmp_path, *tmp_path.parents):
        if temporary in place.resolve().parents:
            place.chmod(0o755)  # another user reaches it
    home = tmp_path / "user"
    home.mkdir(mode=0o755)
    for variable in (SITE_CACHE, "XDG_CACHE_HOME", "TWINSEAL_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(home))
    return home


@pytest.fixture
def project(user: Path, tmp_path: Path) -> Path:
    """A project with this repository's settings for DVC, and a file that DVC tracks."""
    place = tmp_path / "project"
    (place / ".dvc").mkdir(parents=True)
    (place / "docs").mkdir()
    settings = (ROOT / ".dvc/config").read_text()
    (place / ".dvc/config").write_text(settings.replace("[core]", "[core]\n    no_scm = true"))
    (place / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"make": {"cmd": "true", "outs": ["made.txt"]}}}))
    (place / "made.txt").write_text("made")
    dvc("commit", "--force", cwd=place)
    shutil.rmtree(user / ".cache")
    shutil.rmtree(place / ".dvc/tmp")
    (place / "made.txt").unlink()
    return place


def dvc(*words: str, cwd: Path, program: list[str] = GUARDED, umask: int = 0o022, **extra: str) -> str:
    environment = os.environ | {"DVC_NO_ANALYTICS": "1"} | extra
    done = subprocess.run(
        [*program, *words], cwd=cwd, env=environment, umask=umask, capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr


def plant(site: Path, exploded: Path) -> None:
    """Put a pickle where DVC loads its links from, in the cache that it has made for a project."""
    (links,) = site.glob("repo/*/links/cache.db")
    with sqlite3.connect(links) as database:
        row = (pickle.dumps(Bomb(exploded)),)
        database.execute("INSERT INTO Cache(key, raw, store_time, mode, value) VALUES (?, 0, 0, 1, 'x')", row)
    database.close()


def everything_below(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


def writable_for_others(folder: Path) -> list[Path]:
    """What another user can write to below `folder`, asked as that user."""
    script = "import os, sys; print(*[t for t, _, _ in os.walk(sys.argv[1]) if os.access(t, os.W_OK)], sep='\\n')"
    done = subprocess.run(
        [
            shutil.which("python3", path="/usr/bin:/usr/local/bin:/bin") or sys.executable,
            "-S",
            "-c",
            script,
            str(folder),
        ],
        user=OTHER,
        group=OTHER,
        extra_groups=(),
        env={},
        capture_output=True,
        text=True,
        check=True,
    )
    return [Path(line) for line in done.stdout.split()]


@pytest.mark.attack("P")
@pytest.mark.parametrize("folder", [".", "docs"])
def test_dvc_by_hand_in_a_fresh_clone(project: Path, user: Path, folder: str) -> None:
    """A fresh clone, `dvc checkout` by hand, from a sub-folder too: no cache for all is made or read, DVC refuses."""
    before = everything_below(project)
    said = dvc("checkout", cwd=project / folder, program=PLAIN, umask=0)
    assert "Not a directory: '/dev/null/no private site cache - run: make install'" in said
    assert not (project / "made.txt").exists()
    assert {project / ".dvc/tmp", *before} == everything_below(project) - everything_below(project / ".dvc/tmp")
    assert set() == everything_below(user)


@pytest.mark.attack("P")
@as_root
@pytest.mark.parametrize("folder", [".", "docs"])
def test_another_user_waits_for_dvcs_cache_to_be_made(project: Path, user: Path, folder: str) -> None:
    """Another user of the machine waits for DVC to make its cache, to write into it: even with umask 0 they cannot."""
    dvc("checkout", cwd=project / folder, umask=0)
    assert "made" == (project / "made.txt").read_text()
    assert 0o700 == (user / ".cache/twinseal").stat().st_mode & 0o777
    assert list((user / ".cache/twinseal/dvc/repo").glob("*/links"))
    assert [] == writable_for_others(user)
    assert [] == [path for path in everything_below(project) if path.name == "repo"]


@pytest.mark.attack("P")
@pytest.mark.parametrize("opened", ["twinseal", "twinseal/dvc", "twinseal/dvc/repo"])
def test_a_pickle_in_a_cache_that_others_could_write_to(project: Path, user: Path, tmp_path: Path, opened: str) -> None:
    """A pickle is planted in a cache that others could write to: the danger is real; ours is thrown away unread."""
    dvc("checkout", cwd=project)
    site, exploded = user / ".cache/twinseal/dvc", tmp_path / "exploded"
    plant(site, exploded)
    shutil.copytree(site, tmp_path / "copy")
    (user / ".cache" / opened).chmod(0o777)
    (project / "made.txt").unlink()
    said = dvc("checkout", cwd=project)
    assert "DVC's site cache was thrown away, because others could write to it" in said
    assert not exploded.exists()
    assert "made" == (project / "made.txt").read_text()
    assert 0o700 == site.stat().st_mode & 0o777
    assert "thrown away" not in dvc("checkout", cwd=project)
    dvc("checkout", cwd=project, program=PLAIN, DVC_SITE_CACHE_DIR=str(tmp_path / "copy"))
    assert exploded.exists(), "the danger is real: without the guard the pickle runs"


@pytest.mark.attack("P")
@as_root
def test_a_pickle_left_in_a_cache_that_was_closed_again(project: Path, user: Path, tmp_path: Path) -> None:
    """Another user left a file in the cache while it was open, and it was closed since: thrown away, not repaired."""
    dvc("checkout", cwd=project)
    site, exploded = user / ".cache/twinseal/dvc", tmp_path / "exploded"
    plant(site, exploded)
    (links,) = site.glob("repo/*/links/cache.db")
    os.chown(links, OTHER, OTHER)
    assert "a file of" in dvc("checkout", cwd=project)
    assert not exploded.exists()
    assert not [path for path in everything_below(user) if path.stat().st_uid == OTHER]


@pytest.mark.attack("P")
def test_a_branch_brings_a_cache_and_the_setting_that_leads_there(project: Path, tmp_path: Path) -> None:
    """A branch brings a cache with a pickle in it, and DVC settings that lead there: the guard's folder is used."""
    planted, exploded = project / "docs/site", tmp_path / "exploded"
    dvc("checkout", cwd=project, program=PLAIN, DVC_SITE_CACHE_DIR=str(planted))
    plant(planted, exploded)
    for name in ("config", "config.local"):
        (project / ".dvc" / name).write_text(f"[core]\n    no_scm = true\n    site_cache_dir = {planted}\n")
    dvc("checkout", cwd=project)
    assert not exploded.exists()
    dvc("checkout", cwd=project, program=PLAIN)
    assert exploded.exists(), "the danger is real: without the guard the branch's setting counts"


@pytest.mark.attack("P")
def test_a_cache_that_cannot_be_ours(
    project: Path, user: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder above the cache, or the one that the environment names, is open to others: DVC, init, stages refuse."""
    shared = tmp_path / "shared"
    for place in (shared, user / ".cache"):
        place.mkdir(exist_ok=True)
        place.chmod(0o777)
    (shared / "theirs").write_text("not ours to throw away")
    refusal = "DVC's site cache: expected a folder that only its owner may write to, got mode 0777"
    for extra in ({}, {SITE_CACHE: str(shared)}, {SITE_CACHE: str(shared / "dvc")}):
        assert refusal in dvc("checkout", cwd=project, **extra)
        assert not (project / "made.txt").exists()
    assert ["theirs"] == [path.name for path in shared.iterdir()]
    with pytest.raises(ConfigError, match="expected a folder that only its owner may write to"):
        _stage.check_signing_key("prepare")
    monkeypatch.delenv(SITE_CACHE)
    (user / ".cache").chmod(0o755)
    assert (user / ".cache/twinseal/dvc", "") == private_site_cache()


def test_the_guard_runs_no_code_of_the_checkout() -> None:
    """It is a copy in .venv: what runs before DVC does not change with the branch that is checked out."""
    program = (
        "import sys; print(sys.modules['twinseal_dvc_guard'].__file__, [m for m in sys.modules if m == 'twinseal'])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    copy = Path(sysconfig.get_path("purelib"), "twinseal_dvc_guard.py")
    assert f"{copy} []" == done.stdout.strip()
    assert (ROOT / "src/twinseal/trust/root/private_folders.py").read_text() == copy.read_text(), "run: make install"
