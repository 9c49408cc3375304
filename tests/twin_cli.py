"""The command line where a twin has pulled a release."""

from __future__ import annotations

import atexit
import functools
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.twin.deployment import CHANNELS, MODEL, Deployment
from twinseal import console
from twinseal.twin.byte_sources import DirectorySource
from twinseal.twin.pull import pull

Cli = Callable[..., tuple[int, str, str]]
AT = ("--model", MODEL, "--anchor", "anchor")


@functools.cache
def pulled_today() -> Path:
    """A folder with a deployment, its anchor, and a twin that has pulled release 1 today: to be copied."""
    path = Path(tempfile.mkdtemp(prefix="twinseal-cli-"))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    now = datetime.now(UTC).replace(microsecond=0)
    made = Deployment(path / "deployment", now=now)
    made.publish(1, now=now)
    made.anchor.write(path / "anchor")
    pull(DirectorySource(made.mirror), made.anchor, MODEL, path / "twin", now)
    return path


def cli_of_a_twin(path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Runs a command in `path`, where a twin has pulled release 1: its exit code, standard output, standard error."""
    from twinseal.cli import main

    for name in [name for name in os.environ if name.startswith("TWINSEAL_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(console.out, "width", 200)
    shutil.copytree(pulled_today(), path, dirs_exist_ok=True)
    monkeypatch.chdir(path)
    monkeypatch.setenv("TWINSEAL_HOME", str(path / "deployment/home"))

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["twinseal", *words])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out, printed.err

    return run


def rows(unit: str, *cycles: int, **more: float) -> str:
    """Rows of a machine as JSON lines, one for each cycle."""
    return "".join(
        json.dumps({"unit": unit, "cycle": cycle} | dict.fromkeys(CHANNELS, 5.0) | more) + "\n" for cycle in cycles
    )
