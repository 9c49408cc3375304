"""What is pulled: a whole small deployment (keys, evidence, approvals) around a model as large as one likes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.twin.deployment import NOW, Deployment, Writer, write_untrained

ROOT = Path(__file__).parents[1]


def writer(units: int) -> Writer:
    """Writes a model with two hidden layers of `units`, untrained: 4·`units`² bytes and a little more."""

    def write(folder: Path, _seed: int, model: str) -> None:
        write_untrained(folder, 0, model, (units, units))

    return write


def pulled(deployment: Deployment, url: str, model: str, state: Path) -> dict[str, Any]:
    """What a twin in a process of its own says of one pull into an empty state."""
    shutil.rmtree(state, ignore_errors=True)
    compiled = {"PYTHONPYCACHEPREFIX": str(state.parent / "compiled"), "PYTHONDONTWRITEBYTECODE": ""}
    words = (url, model, str(deployment.home.path), str(state), NOW.isoformat())
    done = subprocess.run(
        [sys.executable, "-m", "bench.twin", *words],
        cwd=ROOT,
        env=os.environ
        | compiled,  # as on a machine that has run it before, whatever this one keeps of Python's bytecode
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"the twin ended with {done.returncode}: {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found
