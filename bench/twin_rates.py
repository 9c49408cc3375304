"""How fast a twin answers, one row and many at once, what it takes of memory, and what its installation weighs.

The model is one of NASA's engines (the contract's `turbofan`: 14 channels, a window of 100) with the networks of the
family `robust` as params.yaml has them; nobody trained it, for what a sum costs does not depend on its numbers. Its
guard is learnt from machines that wear, and flags as rarely as one of real engines. Every row is estimated, asked or
not, since it is entered in its unit's ledger. The rows come as dictionaries, as from lines of JSON, or as columns. All
in a process of its own, with one thread: a gateway has other things to do.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.table import Row
from bench.twin import Peak
from twinseal.guard import calibration
from twinseal.prognostics.architecture import Architecture, EnsembleConfig, NetworkConfig
from twinseal.prognostics.checkpoint import Model
from twinseal.prognostics.conformal import Intervals
from twinseal.prognostics.ensemble import Networks
from twinseal.prognostics.life_bounds import LifeBound
from twinseal.prognostics.normaliser import Normaliser
from twinseal.telemetry.contract import Contract
from twinseal.twin.batch import Batch
from twinseal.twin.rows import ReadRows
from twinseal.twin.runtime import UnverifiedRuntime
from twinseal.twin.units import Units

ROOT = Path(__file__).parents[1]
UNITS, MANY_UNITS = 1_000, 10_000
WINDOW, MEMBERS, LIFE = 100, 3, 300
ROUNDS = 10  # that a sample is the mean of
NOTHING = "import time; start = time.process_time(); import twinseal.twin.runtime; print(time.process_time() - start)"
Told = list[dict[str, Any]]


def measure(_folder: Path, repeats: int) -> list[Row]:
    """The rows of `twin_rates`; `repeats` of each but the memory."""
    found = json.loads(_python("-m", "bench.twin_rates", str(repeats)).splitlines()[-1])
    imports = tuple(float(_python("-c", NOTHING)) for _ in range(repeats))
    packages, size = installed()

    def row(what: str, unit: str, reach: float | None = None) -> Row:
        return Row("twin_rates", what, tuple(found[what]), unit, reach)

    return [
        row("1,000 rows of 1,000 units, guarded", "ms", 10.0),  # 100,000 a second
        row("entered in their ledgers, from dictionaries", "ms"),
        row("answered, from dictionaries", "ms"),
        row("answered, from columns, as frames have them", "ms"),
        row("one row answered, median", "ms"),
        row("one row answered, 99 of 100 within", "ms", 2.0),
        row("of it, CPU", "ms"),
        row("memory of 10,000 units", "MiB", 1e9 / 2**20),
        Row("twin_rates", "import of the twin, CPU", imports, "s", 1.0),
        Row("twin_rates", "packages of its lock that are installed here", (float(packages),), ""),
        Row("twin_rates", "their size", (size,), "MiB", 150e6 / 2**20),
    ]


def installed() -> tuple[int, float]:
    """Of the packages in requirements/twin.lock how many are installed here, and their MiB, compiled files aside."""
    text = (ROOT / "requirements/twin.lock").read_text(encoding="utf-8")
    count, size = 0, 0
    for name in re.findall(r"^([A-Za-z0-9._-]+)==", text, re.MULTILINE):
        try:
            files = importlib.metadata.files(name) or []
        except importlib.metadata.PackageNotFoundError:  # of another system, or of another Python
            continue
        paths = [Path(str(file.locate())) for file in files if file.suffix != ".pyc"]
        count, size = count + 1, size + sum(path.stat().st_size for path in paths if path.is_file())
    return count, size / 2**20


def engine() -> Model:
    """The model of the module's text."""
    torch.manual_seed(0)
    contract = Contract.load(ROOT / "policy/contract.yaml", "turbofan")
    bounds = [contract.all_channels[name] for name in contract.channels]
    spread = np.array([min((b.maximum - b.minimum) / 40, b.max_change_per_cycle / 8) for b in bounds])
    middle = np.array([(b.maximum + b.minimum) / 2 for b in bounds])
    normaliser = Normaliser(middle[None], spread[None], np.zeros((1, 0)), np.zeros(0))
    told = [(life(seed, len(bounds)), np.zeros(LIFE, dtype=np.int64)) for seed in range(50)]
    params = calibration.fit(told[:30], told[30:], contract, normaliser.restore)
    cap = contract.rul_cap_cycles
    member = NetworkConfig.for_window(channels=len(bounds), window=WINDOW, rul_cap_cycles=cap)
    networks = Networks(Architecture(plain=EnsembleConfig(members=(member,) * MEMBERS)))
    intervals = Intervals(coverage=0.9, edges=(50.0,), below=(5.0, 10.0), above=(5.0, 10.0), cap_cycles=cap)
    bound = LifeBound(edges=(40.0, 80.0), margins=(10.0, 30.0), lives=99, false_lock_share=0.01, unknown_cycles=20.0)
    inference = networks.to_inference()
    return Model(inference, contract, normaliser, "robust", params, {"plain": intervals}, {"plain": bound})


def life(seed: int, channels: int, length: int = LIFE) -> np.ndarray:
    """A machine that wears, (R, C) σ: every channel follows the wear, and has noise of its own."""
    rng = np.random.default_rng(seed)
    wear = 3.0 * np.linspace(0.0, 1.0, length) ** 2 - 1.0
    loads = np.where(np.arange(channels) % 2, -1.0, 1.0) * np.linspace(0.6, 1.1, channels)
    return np.asarray(wear[:, None] * loads + rng.normal(0.0, 0.3, (length, channels)))


def rates(repeats: int) -> dict[str, list[float]]:
    """What `measure` shows, by its words."""
    model, length = engine(), WINDOW + 40 + repeats * (3 * ROUNDS + 2)
    cycles = iter(range(1, length + 1))
    lives = np.stack([life(100 + unit, len(model.channels), max(LIFE, length)) for unit in range(50)])
    readings = model.normaliser.restore(lives, np.zeros(lives.shape[:2], dtype=np.int64))  # (50, R, C)

    def told() -> Told:
        cycle = next(cycles)
        rows = [dict(zip(model.contract.inputs, values.tolist(), strict=True)) for values in readings[:, cycle - 1]]
        return [{"unit": f"engine {unit}", "cycle": cycle} | rows[unit % len(rows)] for unit in range(UNITS)]

    runtime = UnverifiedRuntime(model)
    for _ in range(WINDOW + 40):  # until every window is full, and rows move
        runtime.add_rows(told())
    found = {
        "entered in their ledgers, from dictionaries": [_mean_ms(runtime.add_rows, told) for _ in range(repeats)],
        "answered, from dictionaries": [_mean_ms(runtime.predict_rows, told) for _ in range(repeats)],
        "answered, from columns, as frames have them": [
            _mean_ms(runtime.predict_read, lambda: ReadRows.of(told(), model.contract.inputs)) for _ in range(repeats)
        ],
        "1,000 rows of 1,000 units, guarded": [_guard_ms(model, lives, readings) for _ in range(repeats)],
    }
    singles = [_single_ms(runtime, told) for _ in range(repeats)]
    found["one row answered, median"] = [float(np.median(each[:, 0])) for each in singles]
    found["one row answered, 99 of 100 within"] = [float(np.quantile(each[:, 0], 0.99)) for each in singles]
    found["of it, CPU"] = [float(np.quantile(each[:, 1], 0.99)) for each in singles]
    return found | {"memory of 10,000 units": [_memory_mib(model, readings)]}


def _mean_ms(work: Callable[[Any], Any], told: Callable[[], Any]) -> float:
    rounds = [told() for _ in range(ROUNDS)]
    start = time.process_time()
    for rows in rounds:
        work(rows)
    return (time.process_time() - start) * 1e3 / ROUNDS


def _guard_ms(model: Model, lives: np.ndarray, readings: np.ndarray) -> float:
    guard, unit = model.guard_of(UNITS, window=WINDOW), np.arange(UNITS) % len(lives)
    spent = 0.0
    for at in range(150):
        cycles, values, known = np.full(UNITS, at + 1), readings[unit, at], lives[unit, at]
        start = time.process_time()
        guard.decide(cycles, values, known)
        spent += time.process_time() - start
    return spent * 1e3 / 150


def _single_ms(runtime: UnverifiedRuntime, told: Callable[[], Told]) -> np.ndarray:
    """Of each row the milliseconds that passed, and those of the processor, (R, 2)."""
    samples = []
    for row in told() + told():
        start, cpu = time.perf_counter(), time.process_time()
        runtime.predict(row)
        samples.append((time.perf_counter() - start, time.process_time() - cpu))
    return np.array(samples) * 1e3


def _memory_mib(model: Model, readings: np.ndarray) -> float:
    """The most private memory that 10,000 units take while they come and fill their windows."""
    with Peak() as before:
        time.sleep(0.1)
    with Peak() as peak:
        units = Units(model, {})
        slots = np.array([units.find(f"engine {unit}", MANY_UNITS) for unit in range(MANY_UNITS)])
        unit, names = np.arange(MANY_UNITS) % len(readings), [f"engine {unit}" for unit in range(MANY_UNITS)]
        for at in range(WINDOW + 40):
            cycles = np.full(MANY_UNITS, at + 1)
            units.hear(Batch(slots, cycles, readings[unit, at], names, [at + 1] * MANY_UNITS))
    return (peak.kib - before.kib) / 1024


def _python(*words: str) -> str:
    threads = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    done = subprocess.run(
        [sys.executable, *words], cwd=ROOT, env=os.environ | threads, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"the twin ended with {done.returncode}: {done.stderr[-2000:]}")
    return done.stdout


if __name__ == "__main__":
    print(json.dumps(rates(int(sys.argv[1]))))
