"""The command line where a twin has pulled a release."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.twin import deployment as deployments
from tests.twin.deployment import CHANNELS, MODEL, Deployment
from twinseal import console
from twinseal.twin.byte_sources import DirectorySource
from twinseal.twin.pull import pull

Cli = Callable[..., tuple[int, str, str]]
AT = ("--model", MODEL, "--anchor", "anchor")


def cli_of_a_twin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Runs a command where a twin has pulled release 1 today: its exit code, standard output, standard error."""
    from twinseal.cli import main

    for name in [name for name in os.environ if name.startswith("TWINSEAL_")]:
        monkeypatch.delenv(name)
    now = datetime.now(UTC).replace(microsecond=0)
    monkeypatch.setattr(deployments, "NOW", now)
    monkeypatch.setattr(console.out, "width", 200)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TWINSEAL_HOME", str(tmp_path / "deployment/home"))
    made = Deployment(tmp_path / "deployment")
    made.publish(1, now=now)
    made.anchor.write(tmp_path / "anchor")
    pull(DirectorySource(made.mirror), made.anchor, MODEL, Path("twin"), now)

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
