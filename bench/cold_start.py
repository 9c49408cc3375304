"""How long an empty process takes to its first answer: a twin that verifies, beside MLflow that loads a model.

    python -m bench cold_start

Both ask one real `mlflow server`. `twin`: pull, verify, and answer one row. `pyfunc`: `mlflow.pyfunc.load_model` of the
same torch network, logged there as a model of MLflow's, and one prediction; nothing is verified. Each is a process of
its own, one after the other in each repetition; a first one of each, in which Python compiles what it imports, does not
count. What the twin spends on verifying is the processor time of TUF's refresh (which asks the registry, too) and of
admission: signatures, digests, evidence, and reading the model.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from bench.table import Row, ratio

ROOT = Path(__file__).parents[1]
UNITS = 128  # a model of about 100 KB, as the demo's
REACH_RATIO, REACH_SHARE = 0.3, 25.0


def measure(folder: Path, repeats: int) -> list[Row]:
    """The rows of `cold_start`; `repeats` of each."""
    from bench.scene import writer
    from tests.mlflow_server import serving
    from tests.twin.deployment import CHANNELS, MODEL, NOW, WINDOW, Deployment
    from tests.twin.test_real_server import registered
    from twinseal.registry.store import connect
    from twinseal.trust.root.home import Home

    (folder / "registry").mkdir()
    deployment, home = Deployment(folder), Home(folder / "registry")
    connect(home, None)
    with serving(home.path) as url:
        registered(connect(home, url), deployment, 1, MODEL, writer(UNITS))
        uri = _logged(url, folder / "bundle-1-pump-rul/model")
        twin = ("twin", url, MODEL, str(deployment.home.path), str(folder / "twin"), NOW.isoformat())
        pyfunc = ("pyfunc", url, uri, str(WINDOW), str(len(CHANNELS)))
        found: list[tuple[dict[str, float], dict[str, float]]] = []
        for _ in range(repeats + 1):
            shutil.rmtree(folder / "twin", ignore_errors=True)
            found.append((_child(*twin), _child(*pyfunc)))
    return _rows(found[1:])


def _logged(url: str, folder: Path) -> str:
    """The model in a folder, logged as a model of MLflow's; its address there."""
    import mlflow

    from bench.pyfunc_model import Rul
    from twinseal.prognostics.checkpoint import read_model
    from twinseal.prognostics.ensemble import networks_of

    mlflow.set_tracking_uri(url)
    mlflow.set_experiment("cold start")
    model = Rul(networks_of(read_model(folder).inference).plain)
    uri: str = mlflow.pyfunc.log_model(name="rul", python_model=model, pip_requirements=[]).model_uri
    return uri


def _child(*words: str) -> dict[str, float]:
    """Seconds of a process of its own, and what it says of itself."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "PYTHONDONTWRITEBYTECODE": ""}
    done = subprocess.run(
        [sys.executable, "-m", "bench.cold_start", *words],
        cwd=ROOT,
        env=os.environ | quiet,
        capture_output=True,
        text=True,
        check=False,
    )
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise RuntimeError(f"{words[0]} ended with {done.returncode}: {done.stderr[-2000:]}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    said: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return {"wall": wall, "cpu": cpu} | said


def _rows(found: list[tuple[dict[str, float], dict[str, float]]]) -> list[Row]:
    def row(what: str, side: int, key: str) -> Row:
        return Row("cold_start", what, tuple(sample[side][key] for sample in found), "s")

    wall = row("twin: a verified answer", 0, "wall"), row("pyfunc: an answer, nothing verified", 1, "wall")
    cpu = row("twin, CPU", 0, "cpu"), row("pyfunc, CPU", 1, "cpu")
    share = tuple(100 * sample[0]["verification"] / sample[0]["cpu"] for sample in found)
    return [
        *wall,
        *cpu,
        ratio("cold_start", "twin : pyfunc", wall[0], [wall[1]], REACH_RATIO),
        ratio("cold_start", "twin : pyfunc, CPU", cpu[0], [cpu[1]], REACH_RATIO),
        *(row(f"of the twin's CPU: {name}", 0, name) for name in ("imports", "refresh", "fetch", "admit")),
        Row("cold_start", "verification, share of the twin's CPU", share, "%", REACH_SHARE),
    ]


def twin(url: str, model: str, home: str, state: str, now: str) -> dict[str, float]:
    """Pull, verify, answer; processor seconds of the steps."""
    from twinseal.trust.root.home import Home
    from twinseal.twin import pull
    from twinseal.twin.byte_sources import RestSource
    from twinseal.twin.runtime import Runtime

    steps = {"imports": time.process_time()}
    for step in ("refresh", "fetch", "admit"):
        setattr(pull, step, _timed(getattr(pull, step), step, steps))
    with RestSource(url, model) as source:
        admitted = pull.pull(source, Home(Path(home)).anchor(), model, Path(state), datetime.fromisoformat(now))
    runtime = Runtime(admitted.model)
    names = admitted.model.model.contract.inputs
    answers = runtime.predict_rows([{"unit": "a", "cycle": at, **dict.fromkeys(names, 5.0)} for at in range(1, 7)])
    if answers[-1].readings == "refused":
        raise SystemExit(f"cold_start: expected an answer, got {answers[-1]}")
    return steps | {"verification": steps["refresh"] + steps["admit"]}


def pyfunc(url: str, uri: str, window: str, channels: str) -> dict[str, float]:
    """Load, answer."""
    import mlflow
    import numpy as np

    mlflow.set_tracking_uri(url)
    model = mlflow.pyfunc.load_model(uri)
    found = model.predict(np.zeros((1, int(window), int(channels)), dtype=np.float32))
    if not np.isfinite(found).all():
        raise SystemExit(f"cold_start: expected an answer, got {found}")
    return {}


def _timed(function: Callable[..., Any], step: str, steps: dict[str, float]) -> Callable[..., Any]:
    def timed(*arguments: Any, **named: Any) -> Any:
        start = time.process_time()
        try:
            return function(*arguments, **named)
        finally:
            steps[step] = steps.get(step, 0.0) + time.process_time() - start

    return timed


if __name__ == "__main__":
    chosen: Callable[..., dict[str, float]] = twin if sys.argv[1] == "twin" else pyfunc
    print(json.dumps(chosen(*sys.argv[2:])))
