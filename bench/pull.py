"""How long a large model takes from a real `mlflow server` into a twin: against curl, against SHA-256, and in memory.

Two ways out of the same server. `streamed`: the candidate was submitted through the server, which streams it; 1 GiB.
`beside`: it was written beside the server, into the store's folder, and comes by the one way that always works, 8 KiB
at a time through MLflow's WSGI bridge; a quarter of the size, since the server needs longer for it.

Each repetition measures everything once, one after the other: curl into a file and nothing else; the same file made
durable; `hashlib.sha256` over it; the twin. Ratios are of one repetition. Processor time is what a busy machine changes
least: where it says one thing and the clock another, the clock measured the neighbours.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any

from bench.scene import pulled, writer
from bench.table import Row, ratio
from tests.mlflow_server import serving
from tests.twin.deployment import MODEL, OTHER, Deployment
from tests.twin.test_real_server import registered
from twinseal.registry.store import connect
from twinseal.trust.release.release import Release
from twinseal.trust.root.home import Home

STREAMED_UNITS, BESIDE_UNITS = 16_384, 8_192
REACH_RATIO, REACH_MIB = 1.25, 200e6 / (1 << 20)
FILE = "model/model.safetensors"


def measure(folder: Path, repeats: int) -> list[Row]:
    """The rows of `pull`; `repeats` of each."""
    (folder / "registry").mkdir()
    deployment, registry = Deployment(folder), Home(folder / "registry")
    beside = registered(connect(registry, None), deployment, 1, OTHER, writer(BESIDE_UNITS))
    with serving(registry.path) as url:
        streamed = registered(connect(registry, url), deployment, 1, MODEL, writer(STREAMED_UNITS))
        rows = []
        for name, release in (("streamed", streamed), ("beside", beside)):
            samples = [_once(deployment, url, release, folder) for _ in range(repeats)]
            rows += _rows(name, release, samples)
    return rows


def _once(deployment: Deployment, url: str, release: Release, folder: Path) -> dict[str, Any]:
    """One repetition, in seconds."""
    copy = folder / "curl"
    found: dict[str, Any] = {}
    start, cpu = time.perf_counter(), _children_cpu()
    subprocess.run(["curl", "--silent", "--fail", "--output", copy, _address(url, release)], check=True)
    found["curl"], found["curl, cpu"] = time.perf_counter() - start, _children_cpu() - cpu
    with copy.open("rb") as stream:
        os.fsync(stream.fileno())
        found["curl, fsync"] = time.perf_counter() - start
        start = time.perf_counter()
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
        found["sha256"] = time.perf_counter() - start
    if digest != next(record.sha256 for record in release.files if record.path == FILE):
        raise RuntimeError(f"{FILE}: curl was given something else than what was signed")
    copy.unlink()
    return found | pulled(deployment, url, release.model, folder / "twin")


def _children_cpu() -> float:
    """Seconds of processor that ended child processes have used, the system's work for them included."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _address(url: str, release: Release) -> str:
    """The fastest address of the weights, as the twin finds it."""
    model = f"2.0/mlflow/logged-models/{release.mlflow_model_id}"
    with urllib.request.urlopen(f"{url}/api/{model}", timeout=20) as answer:  # noqa: S310 - loopback, ours
        scheme, _, place = json.load(answer)["model"]["info"]["artifact_uri"].partition(":/")
    if scheme == "mlflow-artifacts":
        return f"{url}/api/2.0/mlflow-artifacts/artifacts/{place}/{FILE}"
    return f"{url}/ajax-api/{model}/artifacts/files?artifact_file_path={FILE.replace('/', '%2F')}"


def _rows(name: str, release: Release, samples: list[dict[str, Any]]) -> list[Row]:
    size = next(record.length for record in release.files if record.path == FILE) / (1 << 20)
    bench = f"pull, {name}"

    def row(what: str, key: str, unit: str = "s", reach: float | None = None) -> Row:
        return Row(bench, what, tuple(sample[key] for sample in samples), unit, reach)

    def step(what: str, key: str, part: str) -> Row:
        return Row(bench, what, tuple(sample[key][part] for sample in samples), "s")

    curl, sha256, pull = row(f"curl, {size:,.0f} MiB", "curl"), row("sha256", "sha256"), row("pull + admit", "pull_s")
    return [
        curl,
        row("curl, then fsync", "curl, fsync"),
        sha256,
        pull,
        row("processor time of curl", "curl, cpu"),
        row("processor time of pull + admit", "cpu_s"),
        ratio(bench, "pull + admit : slower of curl, sha256", pull, [curl, sha256], REACH_RATIO),
        ratio(bench, "pull + admit : curl", pull, [curl]),
        ratio(bench, "pull + admit : sha256", pull, [sha256]),
        step("of it: fetch", "steps_s", "fetch"),
        step("of it: admit", "steps_s", "admit"),
        row("start from what is installed: hashes it all", "again_s"),
        row("high-water mark above imports", "high_water_mib", "MiB", REACH_MIB),
        row("private memory above imports", "own_mib", "MiB", REACH_MIB),
    ]
