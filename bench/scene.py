"""What is pulled: a whole small deployment (keys, evidence, approvals) around a model as large as one likes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from tests.twin.deployment import CHANNELS, NOW, WINDOW, Deployment, Writer, contract
from twinseal.prognostics.checkpoint import write_model
from twinseal.prognostics.network import NetworkConfig, RulNetwork
from twinseal.prognostics.normaliser import Normaliser

ROOT = Path(__file__).parents[1]


def writer(units: int) -> Writer:
    """Writes a model with two hidden layers of `units`, untrained: 4·`units`² bytes and a little more."""

    def write(folder: Path, _seed: int, model: str) -> None:
        config = NetworkConfig.for_window(len(CHANNELS), WINDOW, hidden=(units, units), rul_cap_cycles=100.0)
        normaliser = Normaliser(np.full(len(CHANNELS), 5.0), np.full(len(CHANNELS), 2.0))
        prepared: Any = SimpleNamespace(channels=CHANNELS, normaliser=normaliser)  # all that write_model reads of it
        write_model(folder, RulNetwork(config), contract(model), prepared)

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
