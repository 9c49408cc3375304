"""What a benchmark measured: rows of one table, and the machine that they are true of."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Row:
    """One thing that was measured several times.

    Attributes:
        bench: Name of the benchmark.
        what: What was measured, in words.
        samples: As measured, in order.
        unit: Of the samples.
        reach: The most that the median may be; None where nothing is demanded.
    """

    bench: str
    what: str
    samples: tuple[float, ...]
    unit: str
    reach: float | None = None

    @property
    def median(self) -> float:
        """Of the samples."""
        return statistics.median(self.samples)

    @property
    def reached(self) -> bool | None:
        """Whether the median is within reach; None where nothing is demanded."""
        return None if self.reach is None else self.median <= self.reach

    def to_dict(self) -> dict[str, Any]:
        """JSON's view: the fields, and what follows from them."""
        spread = {"median": self.median, "least": min(self.samples), "greatest": max(self.samples)}
        return asdict(self) | spread | {"reached": self.reached}


def ratio(bench: str, what: str, above: Row, below: Sequence[Row], reach: float | None = None) -> Row:
    """`above` as a multiple of the slowest of `below`, repetition by repetition, and so free of the machine's mood."""
    slowest = [max(samples) for samples in zip(*(row.samples for row in below), strict=True)]
    return Row(bench, what, tuple(a / b for a, b in zip(above.samples, slowest, strict=True)), "×", reach)


def machine(folder: Path) -> dict[str, Any]:
    """What the figures are true of: processor, cores, memory, kernel, Python, packages, the disk below `folder`."""
    cpu = [line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    memory = [int(line.split()[1]) >> 20 for line in _lines("/proc/meminfo") if line.startswith("MemTotal")]
    return {
        "cpu": cpu[0] if cpu else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": memory[0] if memory else None,
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "packages": {name: version(name) for name in ("mlflow", "torch", "httpcore", "h11", "tuf")},
        "disk": _disk(folder),
        "load_1_min": round(os.getloadavg()[0], 2),
    }


def show(rows: Sequence[Row], about: Mapping[str, Any]) -> None:
    """Print the table."""
    table = Table(box=SIMPLE_HEAD)
    for name in ("bench", "what"):
        table.add_column(name, no_wrap=True)
    for name in ("median", "least – greatest"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("reach", ""):
        table.add_column(name, no_wrap=True)
    for row in rows:
        low, high = (number(value, row.unit) for value in (min(row.samples), max(row.samples)))
        reach = "" if row.reach is None else f"≤ {figure(row.reach, row.unit)}"
        verdict = {None: "", True: "[green]reached[/]", False: "[red]missed[/]"}[row.reached]
        table.add_row(row.bench, row.what, figure(row.median, row.unit), f"{low} – {high}", reach, verdict)
    console().print(table)
    console().print(
        f"{about['cpu']}, {about['cores']} cores, {about['memory_gib']} GiB, {about['kernel']}, "
        f"Python {about['python']}, disk {about['disk']}, load {about['load_1_min']} at the start"
    )


def console() -> Console:
    """Standard output, wide enough for a table's row on one line."""
    return Console(width=max(Console().width, 130), highlight=False)


def figure(value: float, unit: str) -> str:
    """A figure and its unit, for people."""
    return f"{number(value, unit)} {unit}".rstrip()


def number(value: float, unit: str) -> str:
    """A figure with as many digits as its unit deserves."""
    digits = 2 if unit in ("s", "ms", "×", "cycles") else 0
    return f"{value:,.{digits}f}"


def _disk(folder: Path) -> str:
    """Device and file system of the longest mount point above `folder`."""
    mounts = [line.split()[:3] for line in _lines("/proc/mounts")]
    above = [mount for mount in mounts if folder.resolve().is_relative_to(mount[1])]
    device, _, kind = max(above, key=lambda mount: len(mount[1]), default=("unknown", "", "unknown"))
    return f"{device} ({kind})"


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
