"""What `twinseal serve` costs beside `mlflow server`, and how long people and twins wait while all of them ask.

Downloads: one file of 256 MiB from both, one after the other in each repetition, one worker each; MLflow's without
accounts. curl writes it nowhere, so that the disk is not measured.

Load: two workers, SQLite, 12 candidates that wait, an audit log of 1,000 entries more. 50 reviewers ask for the list,
a review page and a draft in turn, one of them every 5 s; 200 twins ask for timestamp.json and the alias every 10 s.
Waiting times are from when a request was due (`bench.clients`). `alone`: requests of one kind, as fast as the server
answers 8 connections; `the client alone`: the same client against a server that does nothing.
"""

from __future__ import annotations

import base64
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from bench.clients import Ask, Connection, plan
from bench.table import Row, ratio
from tests.mlflow_server import free_port
from tests.mlflow_server import serving as serving_mlflow
from tests.server.review_scene import ReviewScene, review_scene
from tests.server.scene import PASSWORD, deployment, serving
from tests.twin.deployment import MODEL
from twinseal.registry.store import connect
from twinseal.trust.audit import Entry, log_of
from twinseal.trust.root.home import Home

ROOT = Path(__file__).parents[1]
MIB = 256
REVIEWERS, TWINS, REVIEWER_S, TWIN_S, LOAD_S, ALONE_S = 50, 200, 5.0, 10.0, 20.0, 4.0
CANDIDATES, ENTRIES, CONNECTIONS = 12, 1_000, 8
SLOWDOWN = 1 / 0.9
FILE = "/api/2.0/mlflow-artifacts/artifacts/bench/file.bin"
ALIAS = f"/api/2.0/mlflow/registered-models/alias?name={MODEL}&alias=champion"


def measure(folder: Path, repeats: int) -> list[Row]:
    """The rows of `serve, download` and `serve, load`; `repeats` of each."""
    (folder / "download").mkdir()
    (folder / "load").mkdir()
    return [*_downloads(folder / "download", repeats), *_loads(folder / "load", repeats)]


def _downloads(folder: Path, repeats: int) -> list[Row]:
    (folder / "mlflow").mkdir()
    content = folder / "file.bin"
    content.write_bytes(os.urandom(1 << 20) * MIB)
    made, plain = deployment(folder), Home(folder / "mlflow")
    connect(plain, None)
    with serving(made.home.path) as ours, serving_mlflow(plain.path) as theirs:
        addresses = {"twinseal serve": (ours.url + FILE, "engineer"), "mlflow server": (theirs + FILE, "")}
        for url, who in addresses.values():
            _curl(url, who, "--upload-file", str(content))
        samples: dict[str, list[float]] = {name: [] for name in addresses}
        for _ in range(repeats):
            for name, (url, who) in addresses.items():
                start = time.perf_counter()
                _curl(url, who)
                samples[name].append(time.perf_counter() - start)
    rows = [Row("serve, download", f"{name}, {MIB} MiB", tuple(times), "s") for name, times in samples.items()]
    return [*rows, ratio("serve, download", "twinseal serve : mlflow server", rows[0], rows[1:], SLOWDOWN)]


def _curl(url: str, who: str, *more: str) -> None:
    account = ["--user", f"{who}:{PASSWORD}"] if who else []
    words = ["curl", "--silent", "--show-error", "--fail", "--output", "/dev/null", *account, *more, url]
    subprocess.run(words, check=True)


def _loads(folder: Path, repeats: int) -> list[Row]:
    limits = folder / "limits.yaml"
    limits.write_text("requests_a_minute: 1000000\n")
    with review_scene(folder, "--config", str(limits), "--workers", "2") as scene:
        waiting = _populate(scene)
        port = urlsplit(scene.server.url).port or 0
        reviewers, twins = _reviewer(waiting), _twin()
        rows = [_client_alone(repeats)]
        for ask in (*reviewers[:3], *twins):
            rows.append(_alone(port, ask, repeats))
        return [*rows, *_together(port, _everybody(waiting), repeats)]


def _populate(scene: ReviewScene) -> list[str]:
    """Candidates that wait, after one that is registered; and a log that has seen a year."""
    first = scene.submit(1)
    for holder in ("alice", "bruno"):
        scene.decide(holder, first)
    entry = Entry(
        datetime.now(UTC).replace(microsecond=0),
        "approved",
        "alice",
        model=MODEL,
        version=9,
        sha256="0" * 64,
        details={"comment": "report read", "review": "0" * 64, "sequence": "1"},
    )
    log_of(scene.made.home.path).append(*[replace(entry, version=1_000 + n // 4) for n in range(ENTRIES)])
    return [scene.submit(2 + number) for number in range(CANDIDATES)]


def _basic(who: str) -> str:
    return "Basic " + base64.b64encode(f"{who}:{PASSWORD}".encode()).decode()


def _reviewer(waiting: list[str], who: str = "alice", first: int = 0) -> tuple[Ask, ...]:
    asks = []
    for number in range(len(waiting)):
        candidate = waiting[(first + number) % len(waiting)]
        body = json.dumps({"decision": "approve", "comment": "report read"})
        asks += [
            Ask("list page", "GET", "/twinseal/review", _basic(who)),
            Ask("review page", "GET", f"/twinseal/review/{candidate}", _basic(who)),
            Ask("draft", "POST", f"/api/twinseal/v1/reviews/{candidate}/drafts", _basic(who), body),
        ]
    return tuple(asks)


def _twin() -> tuple[Ask, ...]:
    return (
        Ask("timestamp.json", "GET", "/twinseal/tuf/metadata/timestamp.json", _basic("reader")),
        Ask("alias", "GET", ALIAS, _basic("reader")),
    )


def _everybody(waiting: list[str]) -> list[Connection]:
    """Spread evenly over their pauses, and over what they ask for first."""
    people = [
        Connection(_from(n, _reviewer(waiting, ("alice", "bruno")[n % 2], n)), REVIEWER_S, REVIEWER_S * n / REVIEWERS)
        for n in range(REVIEWERS)
    ]
    return people + [Connection(_from(n, _twin()), TWIN_S / 2, TWIN_S / 2 * n / TWINS) for n in range(TWINS)]


def _from(number: int, asks: tuple[Ask, ...]) -> tuple[Ask, ...]:
    first = number % len(asks)
    return asks[first:] + asks[:first]


def _asked(port: int, seconds: float, connections: list[Connection]) -> tuple[dict[str, list[float]], float]:
    """Seconds of each request, by kind; and how long it was until the last was answered."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.clients"],
        cwd=ROOT,
        input=plan(port, seconds, connections),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"the clients ended with {done.returncode}: {done.stderr[-2000:]}")
    found = json.loads(done.stdout)
    return found["times"], found["seconds"]


def _alone(port: int, ask: Ask, repeats: int) -> Row:
    """Milliseconds of the whole server for one request, when it does nothing else."""
    samples = []
    for _ in range(repeats):
        times, seconds = _asked(port, ALONE_S, [Connection((ask,))] * CONNECTIONS)
        samples.append(1000 * seconds / len(times[ask.kind]))
    return Row("serve, load", f"{ask.kind}, alone: a request", tuple(samples), "ms")


def _client_alone(repeats: int) -> Row:
    with _trivial_server() as port:
        return replace(_alone(port, Ask("the client", "GET", "/"), repeats))


@contextmanager
def _trivial_server() -> Iterator[int]:
    port = free_port()
    words = [sys.executable, "-m", "bench.clients", "--trivial-server", str(port)]
    process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        if process.stdout:
            process.stdout.readline()
        yield port
    finally:
        process.terminate()
        process.wait(timeout=20)


def _together(port: int, everybody: list[Connection], repeats: int) -> list[Row]:
    """How long each kind of request takes, half of them and nearly all of them, while everybody asks."""
    asked = [_asked(port, LOAD_S, everybody) for _ in range(repeats)]
    runs, rows = [times for times, _ in asked], []
    for kind in runs[0]:
        for share, name in ((50, "p50"), (99, "p99")):
            samples = [1000 * statistics.quantiles(run[kind], n=100, method="inclusive")[share - 1] for run in runs]
            rows.append(Row("serve, load", f"{kind}, {name}", tuple(samples), "ms"))
    answered = tuple(1000 * seconds / sum(map(len, times.values())) for times, seconds in asked)
    return [*rows, Row("serve, load", "all of them: one request every", answered, "ms")]
