"""The last accepted figures (bench/accepted.json), and how the new ones stand beside them.

Seconds are compared as multiples of the calibration's time, each of its own run: what is left is the work, not the
machine. All other figures (errors in cycles, shares, MiB, ratios) are compared as they are. In every row smaller is
better. A figure is worse when it exceeds the accepted one by more than the tolerance of its unit.

    {"pull, streamed": {"time": "…", "machine": {…}, "calibration_s": 0.6,
                        "figures": {"sha256": {"median": 0.75, "unit": "s", "samples": 5}}}}
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from bench.table import Row, console, figure
from twinseal.files import write_whole

ACCEPTED = Path(__file__).with_name("accepted.json")


@dataclass(frozen=True)
class Tolerance:
    """How much a figure may exceed the accepted one: by a share of it, and by an amount besides.

    Attributes:
        share: Of the accepted figure.
        amount: In the figure's unit.
    """

    share: float = 0.0
    amount: float = 0.0

    def __str__(self) -> str:
        parts = [f"{100 * self.share:.0f} %" if self.share else "", f"{self.amount:g}" if self.amount else ""]
        return " + ".join(filter(None, parts))


# Times vary by a fifth from run to run, on a quiet machine too. Figures of accuracy are the same in every run on one
# machine; another processor rounds differently.
TIMES = ("s", "ms")
TOLERANCES: Mapping[str, Tolerance] = {
    "s": Tolerance(share=0.30),
    "ms": Tolerance(share=0.50, amount=2.0),  # waiting times of a server under load
    "×": Tolerance(share=0.20, amount=0.02),
    "MiB": Tolerance(share=0.10, amount=2.0),
    "cycles": Tolerance(share=0.02),
    "%": Tolerance(amount=1.0),
    "": Tolerance(share=0.05),
}


@dataclass(frozen=True)
class Accepted:
    """One accepted figure.

    Attributes:
        median: Of its samples.
        unit: Of the median.
        samples: How many there were.
        calibration_s: Seconds that the calibration took in that run.
    """

    median: float
    unit: str
    samples: int
    calibration_s: float


@dataclass(frozen=True)
class Comparison:
    """One row beside the accepted figure.

    Attributes:
        row: What was measured now.
        calibration_s: Seconds that the calibration took in this run.
        accepted: None when nothing comparable was accepted: no such row, another unit, or other seeds.
    """

    row: Row
    calibration_s: float
    accepted: Accepted | None

    @property
    def expected(self) -> float | None:
        """The accepted figure, in seconds of this machine where it is a time."""
        if self.accepted is None:
            return None
        scale = self.calibration_s / self.accepted.calibration_s if self.row.unit in TIMES else 1.0
        return self.accepted.median * scale

    @property
    def ratio(self) -> float | None:
        """The figure as a multiple of the accepted one."""
        return self.row.median / self.expected if self.expected else None

    @property
    def worse(self) -> bool:
        """Whether the figure exceeds the accepted one by more than the tolerance."""
        if self.expected is None:
            return False
        tolerance = TOLERANCES[self.row.unit]
        return self.row.median > self.expected * (1 + tolerance.share) + tolerance.amount


def compare(
    rows: Iterable[Row], calibration_s: float, accepted: Mapping[tuple[str, str], Accepted]
) -> list[Comparison]:
    """Each row beside its accepted figure.

    A figure of accuracy is a median over seeds, so it is compared only with one of as many seeds.
    """
    return [Comparison(row, calibration_s, _comparable(row, accepted.get((row.bench, row.what)))) for row in rows]


def _comparable(row: Row, accepted: Accepted | None) -> Accepted | None:
    if accepted is None or accepted.unit != row.unit:
        return None
    of_accuracy = row.unit in ("cycles", "%", "")
    return None if of_accuracy and accepted.samples != len(row.samples) else accepted


def accepted_figures(results: Mapping[str, Any]) -> dict[tuple[str, str], Accepted]:
    """The figures of accepted.json, by benchmark and what was measured."""
    return {
        (bench, what): Accepted(**values, calibration_s=result["calibration_s"])
        for bench, result in results.items()
        for what, values in result["figures"].items()
    }


def read() -> dict[str, Any]:
    """What was accepted, by benchmark; nothing before the first `make bench-accept`."""
    return dict(json.loads(ACCEPTED.read_text(encoding="utf-8"))) if ACCEPTED.exists() else {}


def accept(names: Sequence[str], reports: Path) -> list[str]:
    """Take the last results of the benchmarks called `names` as the accepted ones.

    Returns:
        The names of those that had results.

    Side effects: writes accepted.json.
    """
    found = {name: reports / f"{name}.json" for name in names if (reports / f"{name}.json").exists()}
    known = read()
    for file in found.values():
        known |= _condensed(json.loads(file.read_text(encoding="utf-8")))
    write_whole(ACCEPTED, _one_figure_a_line(known).encode())
    return list(found)


def _condensed(result: Mapping[str, Any]) -> dict[str, Any]:
    """A result by benchmark, without its samples, which stay in reports/."""
    run = {key: result[key] for key in ("time", "machine", "calibration_s")}
    condensed: dict[str, Any] = {}
    for row in result["rows"]:
        values = {"median": float(f"{row['median']:.6g}"), "unit": row["unit"], "samples": len(row["samples"])}
        condensed.setdefault(row["bench"], run | {"figures": {}})["figures"][row["what"]] = values
    return condensed


def _one_figure_a_line(results: Mapping[str, Any]) -> str:
    """JSON whose figures stand on lines of their own: a change of one figure is a diff of one line."""
    parts = []
    for bench, result in sorted(results.items()):
        head = "".join(f"\n  {_json(key)}: {_json(value)}," for key, value in result.items() if key != "figures")
        figures = ",".join(f"\n    {_json(what)}: {_json(values)}" for what, values in result["figures"].items())
        parts.append(f'{_json(bench)}: {{{head}\n  "figures": {{{figures}}}}}')
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def show(comparisons: Sequence[Comparison]) -> None:
    """Print figure, accepted figure and ratio, then what is worse by more than its tolerance."""
    table = Table(box=SIMPLE_HEAD)
    for name in ("bench", "what"):
        table.add_column(name, no_wrap=True)
    for name in ("figure", "accepted", "ratio"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for found in comparisons:
        row, expected, ratio = found.row, found.expected, found.ratio
        shown = (
            ("none", "") if expected is None else (figure(expected, row.unit), "" if ratio is None else f"{ratio:.2f}")
        )
        table.add_row(row.bench, row.what, figure(row.median, row.unit), *shown, "[red]worse[/]" if found.worse else "")
    console().print(table)
    console().print("accepted: times as this machine would take them, by the calibration of both runs")
    for found in comparisons:
        if found.worse:
            console().print(f"[red]worse[/]: {_sentence(found)}")


def _sentence(found: Comparison) -> str:
    row = found.row
    then = figure(found.expected or 0.0, row.unit)
    return (
        f"{row.bench}, {row.what}: {figure(row.median, row.unit)}, accepted {then} (tolerance {TOLERANCES[row.unit]})"
    )
