"""The library and the twin on each Python that pyproject.toml promises; the pipeline and its locks stay on 3.11.

In every run: the sources compile on each interpreter that is on this machine, and what needs no other package imports.
`make pythons` does more, on the same interpreters: the wheel, installed with the twin's packages in the locked versions
into an environment of its own, verifies, pulls and predicts what this interpreter signed and predicts. No interpreter
is downloaded.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.twin import deployment as scene
from tests.twin.deployment import CHANNELS, MODEL, Deployment

ROOT = Path(__file__).parents[1]
VERSIONS = ("3.11", "3.12", "3.13")
NEEDS_NO_PACKAGE = ("errors", "digests", "files", "evidence")
UV = str(Path(sys.executable).with_name("uv"))
asked = pytest.mark.skipif(not os.environ.get("TWINSEAL_PYTHONS"), reason="takes a minute: make pythons")


@functools.cache
def interpreter(version: str) -> str | None:
    """Where CPython `version` is: on the PATH, of pyenv, or of uv."""
    places = [
        shutil.which(f"python{version}"),
        *map(str, (Path.home() / ".pyenv/versions").glob(f"{version}.*/bin/python")),
    ]
    found = subprocess.run(
        [UV, "python", "find", "--offline", "--no-project", "--system", version],
        capture_output=True,
        text=True,
        check=False,
    )
    return next((place for place in (*places, found.stdout.strip()) if place and version == _version(place)), None)


def _version(place: str) -> str:
    """What an interpreter says it is; nothing when it does not run: pyenv's shims stand for versions that are off."""
    program = "import sys; print('%d.%d' % sys.version_info[:2])"
    done = subprocess.run([place, "-I", "-c", program], capture_output=True, text=True, check=False)
    return done.stdout.strip()


@pytest.fixture(params=VERSIONS)
def python(request: pytest.FixtureRequest) -> str:
    found = interpreter(request.param)
    if found is None:
        pytest.skip(f"Python {request.param} is not on this machine: install it (pyenv install {request.param})")
    return found


def test_what_is_promised_is_what_is_tried() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    assert 'requires-python = ">=3.11,<3.14"' in text
    for version in VERSIONS:
        assert f'"Programming Language :: Python :: {version}"' in text


def test_the_sources_compile(python: str) -> None:
    program = (
        "import pathlib, sys, warnings; warnings.simplefilter('error')\n"
        "for path in pathlib.Path('src').rglob('*.py'): compile(path.read_bytes(), str(path), 'exec')"
    )
    done = subprocess.run([python, "-I", "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (0, "") == (done.returncode, done.stderr)


def test_what_needs_no_other_package_imports(python: str) -> None:
    imports = ", ".join(f"twinseal.{name}" for name in NEEDS_NO_PACKAGE)
    program = f"import sys; sys.path.insert(0, 'src'); sys.dont_write_bytecode = True; import {imports}"
    done = subprocess.run(
        [python, "-I", "-W", "error", "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (0, "") == (done.returncode, done.stderr)


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    _run(sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder))
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="session")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A deployment with release 1, made now: the command goes by the machine's clock."""
    now = datetime.now(UTC).replace(microsecond=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scene, "NOW", now)
        made = Deployment(tmp_path_factory.mktemp("pythons"))
        made.publish(1, now=now)
    yield made


@pytest.fixture
def program(python: str, wheel: Path, tmp_path: Path) -> Path:
    """The command of the wheel, installed with the twin's packages from their lock, each hash checked."""
    environment = tmp_path / "environment"
    _run(UV, "venv", "--quiet", "--python", python, str(environment))
    install = (UV, "pip", "install", "--quiet", "--python", str(environment))
    locked = [*install, "--require-hashes", "--requirement", str(ROOT / "requirements/twin.lock")]
    done = subprocess.run(locked, capture_output=True, text=True, check=False, env=_uv())
    if "error sending request" in done.stderr or "Failed to fetch" in done.stderr:
        pytest.skip(f"the package index cannot be reached: {done.stderr.splitlines()[-1]}")
    assert 0 == done.returncode, done.stderr
    _run(*install, "--offline", "--no-deps", str(wheel))
    return environment / "bin/twinseal"


@asked
@pytest.mark.timeout(1_200)
def test_the_installed_wheel_verifies_pulls_and_predicts_as_this_interpreter_does(
    program: Path, deployment: Deployment, tmp_path: Path
) -> None:
    rows = tmp_path / "rows.csv"
    header = ",".join(("unit", "cycle", *CHANNELS))
    lines = [",".join(map(str, ("u", n + 1, *[5 + n / 10] * len(CHANNELS)))) for n in range(12)]
    rows.write_text("\n".join((header, *lines)))
    assert "Usage: twinseal" in _run(str(program), "--help")
    assert _predictions(
        Path(sys.executable).with_name("twinseal"), deployment, rows, tmp_path / "here"
    ) == pytest.approx(_predictions(program, deployment, rows, tmp_path / "there"), abs=1e-3)


def _predictions(program: Path, deployment: Deployment, rows: Path, state: Path) -> list[float]:
    """What a twin says that `program` has installed, in cycles, after the release was verified and pulled."""
    (bundle,) = (deployment.mirror / "candidates").iterdir()
    anchor = ("--anchor", str(deployment.home.anchor_dir))
    _run(str(program), "verify", str(bundle), *anchor)
    twin = ("--model", MODEL, *anchor, "--state", str(state))
    assert "admitted" in _run(str(program), "pull", "--from", str(deployment.mirror), *twin)
    said = _run(str(program), "run", str(rows), *twin, "--json")
    found = [json.loads(line)["rul_cycles"] for line in said.splitlines() if line.startswith("{")]
    assert [] != [value for value in found if value is not None]
    return [-1.0 if value is None else value for value in found]


def _run(*command: str) -> str:
    """What a command prints; it must end well."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=plain)
    assert 0 == done.returncode, f"{' '.join(command)}: {done.stdout[-1_000:]}{done.stderr[-2_000:]}"
    return done.stdout + done.stderr


def _uv() -> dict[str, str]:
    return os.environ | {"UV_SYSTEM_CERTS": "1"}
