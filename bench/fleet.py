"""A large fleet from Parquet to a trained candidate: how much memory each stage takes at its peak, and how long.

    UNITS=50000 python -m bench fleet --repeats 1       10 million rows; tens of minutes
    python -m bench.fleet prepare FOLDER                one stage alone, as the benchmark runs it

The fleet is simulated here: units of about 200 cycles, 14 sensors and 3 settings, wear and noise. Each stage runs in a
process of its own, with the functions that the stage itself runs and the params of params.yaml. Memory is what that
process and all its children hold together, looked at five times a second; pages that they share count once.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bench.table import Row
from twinseal.config import load
from twinseal.prognostics.candidate import build_candidate
from twinseal.prognostics.checkpoint import write_model
from twinseal.prognostics.fitting import reproducible
from twinseal.prognostics.processes import Workers
from twinseal.prognostics.splitting import Split, SplitPolicy
from twinseal.prognostics.training import TrainParams
from twinseal.prognostics.windows import Prepared, PrepareParams, prepare
from twinseal.telemetry.contract import Channel, Contract
from twinseal.telemetry.fleet import Fleet

ROOT = Path(__file__).parents[1]
SETTINGS, SENSORS, CYCLES = 3, 14, 200
REACH_MIB = 8e9 / (1 << 20)  # for 10 million rows
RAW, ACCEPTED, WINDOWS, MODEL = "raw.parquet", "accepted.parquet", "windows", "model"
UNITS_AT_ONCE = 500
SALT = "bench"


def contract() -> Contract:
    """What the simulated machines are."""
    channel = Channel(unit="1", minimum=-100.0, maximum=100.0, max_change_per_cycle=100.0)
    channels = [f"c{at:02d}" for at in range(SETTINGS + SENSORS)]
    return Contract(
        asset="machine",
        model="machine-rul",
        description="A machine that wears",
        cycle="One turn",
        rul_cap_cycles=125.0,
        min_cycles=30,
        max_quarantined_share=0.05,
        settings=dict.fromkeys(channels[:SETTINGS], channel),
        sensors=dict.fromkeys(channels[SETTINGS:], channel),
    )


def write_fleet(path: Path, units: int, seed: int = 7) -> int:
    """Write a fleet of `units` in the columns of the contract, a few units at a time; gives the number of rows."""
    rng, rows = np.random.default_rng(seed), 0
    kinds = [("unit", pa.string()), ("cycle", pa.int32()), ("censored", pa.bool_()), ("rul", pa.float32())]
    schema = pa.schema([*kinds, *((name, pa.float32()) for name in contract().all_channels)])
    direction = np.random.default_rng(seed + 1).normal(size=SENSORS)  # how each sensor shows wear
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for begin in range(0, units, UNITS_AT_ONCE):
            lives = rng.integers(CYCLES - 50, CYCLES + 51, size=min(UNITS_AT_ONCE, units - begin))
            writer.write_table(pa.table(_columns(begin, lives, direction, rng), schema=schema))
            rows += int(lives.sum())
    return rows


def _columns(begin: int, lives: Any, direction: Any, rng: np.random.Generator) -> dict[str, Any]:
    cycle = np.concatenate([np.arange(1, life + 1) for life in lives])
    life = np.repeat(lives, lives)
    names = [f"machine-{number:06d}" for number in range(begin, begin + len(lives))]
    wear = (cycle / life) ** 3 * np.repeat(rng.uniform(2.0, 3.0, len(lives)), lives)
    readings = rng.normal(size=(len(cycle), SETTINGS + SENSORS)).astype(np.float32)
    readings[:, SETTINGS:] += wear[:, None] * direction
    keys = {
        "unit": np.repeat(names, lives),
        "cycle": cycle,
        "censored": np.zeros(len(cycle), bool),
        "rul": life - cycle,
    }
    return keys | dict(zip(contract().all_channels, readings.T, strict=True))


def ingest(folder: Path) -> None:
    """What ingest does once a source has given it the fleet."""
    fleet = Fleet.of(pq.read_table(folder / RAW).to_pandas())
    fleet.write(folder / ACCEPTED)
    print(f"{len(fleet.units):,} units of {fleet.lengths.min()} to {fleet.lengths.max()} cycles")


def prepare_windows(folder: Path) -> None:
    """What prepare does."""
    split = Split(load(SplitPolicy, ROOT / "policy/evaluation.yaml"), SALT)
    params = load(PrepareParams, ROOT / "params.yaml", section="prepare")
    prepare(Fleet.read(folder / ACCEPTED, contract()), contract(), params, split).write(folder / WINDOWS)


@reproducible(0)
def train(folder: Path) -> None:
    """What train does."""
    params = load(TrainParams, ROOT / "params.yaml", section="train")
    candidate = build_candidate(
        Prepared.read(folder / WINDOWS), params, contract(), workers=Workers(os.cpu_count() or 1)
    )
    (folder / MODEL).mkdir(exist_ok=True)
    write_model(folder / MODEL, candidate.model)
    print(candidate.measures.plain.test.to_dict())


STAGES: dict[str, Callable[[Path], None]] = {"ingest": ingest, "prepare": prepare_windows, "train": train}


def measure(folder: Path, repeats: int) -> list[Row]:
    """Peak memory and time of each stage; the fleet has UNITS units (environment), 2,000 by default."""
    units = int(os.environ.get("UNITS") or 2_000)
    rows = write_fleet(folder / RAW, units)
    found: list[Row] = []
    for stage in STAGES:
        samples = [peak(stage, folder) for _ in range(repeats)]
        name, reach = f"{stage}, {rows:,} rows", REACH_MIB if rows <= 11e6 else None
        found += [
            Row("fleet", f"{name}: memory", tuple(memory for memory, _ in samples), "MiB", reach),
            Row("fleet", f"{name}: time", tuple(seconds for _, seconds in samples), "s"),
        ]
    return found


def peak(stage: str, folder: Path) -> tuple[float, float]:
    """The most MiB that a stage and its children held at a time, and its seconds."""
    begun, most = time.perf_counter(), 0.0
    with subprocess.Popen([sys.executable, "-m", "bench.fleet", stage, str(folder)], cwd=ROOT) as child:
        while child.poll() is None:
            most = max(most, held_mib(child.pid))
            time.sleep(0.2)
    if child.returncode:
        raise RuntimeError(f"{stage} ended with {child.returncode}")
    return most, time.perf_counter() - begun


def held_mib(pid: int) -> float:
    """What a process and all below it hold: resident pages, those that several of them map counted once."""
    rollups = (line for member in family(pid) for line in _lines(Path(f"/proc/{member}/smaps_rollup")))
    return sum(int(line.split()[1]) for line in rollups if line.startswith("Pss:")) / 1024


def family(pid: int) -> list[int]:
    """A process and all below it."""
    parents: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            parents.setdefault(int(stat(int(folder.name))[1]), []).append(int(folder.name))
    found = [pid]
    for member in found:
        found += parents.get(member, [])
    return found


def stat(pid: int) -> list[str]:
    """What /proc says of a process, from its state on; zeros if it has just ended."""
    lines = _lines(Path(f"/proc/{pid}/stat"))
    return lines[0].rpartition(")")[2].split() if lines else ["0"] * 50


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:  # it has just ended
        return []


if __name__ == "__main__":
    STAGES[sys.argv[1]](Path(sys.argv[2]))
