"""Failing machines and their telemetry; and what a twin without guard, ledger and signatures would say of them.

Machines are of the test units, whose end training never saw. Remaining lives are those that the telemetry itself says.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from demo.stage_hand import StoryError, say
from twinseal.prognostics.checkpoint import Model, read_model
from twinseal.prognostics.metrics import FAILING_CYCLES, HEALTHY_CYCLES
from twinseal.prognostics.windows import Prepared

TELEMETRY, WINDOWS, CANDIDATE = Path("data/raw/telemetry.parquet"), Path("data/windows"), Path("models/candidate")
_LEAST_LEFT = 3  # cycles: a machine that fails tomorrow is beyond hiding


@dataclass(frozen=True, eq=False)
class Machine:
    """A machine near its failure.

    Attributes:
        name: As its telemetry has it.
        rows: Its life until now: unit, cycle, and the contract's channels.
        left: Cycles until it fails.
    """

    name: str
    rows: pd.DataFrame
    left: int

    @property
    def age(self) -> int:
        """Its cycles until now."""
        return int(self.rows.cycle.iloc[-1])


class Plant:
    """The fleet of the pipeline's last run, and the model that was trained for it."""

    def __init__(self) -> None:
        self.model = read_model(CANDIDATE)
        self._telemetry = pd.read_parquet(TELEMETRY)

    def failing(self, count: int) -> list[Machine]:
        """Machines with few cycles left, which the model calls failing when nobody lies to it, the worst first.

        Raises:
            StoryError: There are fewer.
        """
        test = Prepared.read(WINDOWS).test
        order = np.argsort(test.rul, kind="stable")
        found: dict[str, Machine] = {}
        for name, cycle, left in zip(test.units[order], test.cycles[order], test.rul[order], strict=True):
            machine = self._machine(test.unit_names[int(name)], int(cycle), int(left))
            fails = _LEAST_LEFT <= machine.left <= FAILING_CYCLES
            if fails and machine.name not in found and believed(self.model, machine.rows) <= FAILING_CYCLES:
                found[machine.name] = machine
            if len(found) == count:
                return list(found.values())
        raise StoryError(f"expected {count} test machines that the model calls failing, got {len(found)}")

    def _machine(self, name: str, cycle: int, left: int) -> Machine:
        rows = self._telemetry[(self._telemetry.unit == name) & (self._telemetry.cycle <= cycle)]
        return Machine(name, rows[["unit", "cycle", *self.model.contract.inputs]].reset_index(drop=True), left)


def nearest_to_failure(count: int) -> list[pd.DataFrame]:
    """The rows, until now, of those machines that run on and have the fewest cycles left, as a twin would be sent."""
    telemetry = pd.read_parquet(TELEMETRY)
    running = telemetry[telemetry.censored]
    names = running.groupby("unit").rul.min().sort_values(kind="stable").index[:count]
    return [running[running.unit == name].drop(columns=["rul", "censored"]) for name in names]


def believed(model: Model, rows: pd.DataFrame) -> float:
    """What the model says after these rows of one machine, as they came and as old as the last one says: cycles.

    No signature is verified, nothing is compared with the contract or with what was said before.
    """
    newest = rows.iloc[-model.window :]
    return model.predict(newest[list(model.contract.inputs)].to_numpy(np.float64), int(newest.cycle.iloc[-1]))


def without_checks(model: Model, machine: Machine, rows: pd.DataFrame) -> float:
    """As `believed`, said aloud."""
    cycles = believed(model, rows)
    say(f"without any check, an operator reads of {machine.name}: {cycles:.0f} cycles left; it has {machine.left}")
    return cycles


def youth(machine: Machine, cycles: int) -> pd.DataFrame:
    """Its first rows: so many, or half of its life."""
    return machine.rows.iloc[: min(cycles, machine.age // 2)]


def younger(machine: Machine, cycles: int) -> pd.DataFrame:
    """Its life, with the readings of its youth in place of the last ones; it counts on."""
    young, rows = youth(machine, cycles), machine.rows.copy()
    inputs = rows.columns[2:]
    rows.loc[rows.index[-len(young) :], inputs] = young[inputs].to_numpy()
    return rows


def interleaved(parts: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """The rows of some machines as a gateway sees them that began with all at once: by cycle."""
    return pd.concat(parts).sort_values(["cycle", "unit"], kind="stable")


def is_healthy(cycles: float) -> bool:
    """Whether an operator who reads this leaves the machine alone."""
    return cycles > HEALTHY_CYCLES
