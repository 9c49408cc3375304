"""The runtime: an admitted model, behind its guard, fed row by row.

It keeps the last window of each unit and gives a Prediction for each row: never an exception for bad telemetry, never
silence. A prediction whose readings are `refused` carries the conservative answer, no remaining life at all: whoever
compares it with a threshold sends somebody to look.

    ok         the estimate rests on what the machine said
    degraded   it rests in part on values that the guard repaired, or on a short history
    refused    no estimate: inspect now
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from twinseal.errors import DataError
from twinseal.prognostics.checkpoint import Model
from twinseal.trust.anchor import Anchor
from twinseal.twin.admit import VerifiedModel, readmit
from twinseal.twin.guard import Guard, Look
from twinseal.twin.state import State

MAX_CYCLE = 2**31 - 1


@dataclass(frozen=True)
class Prediction:
    """One answer.

    Attributes:
        unit: Whose.
        cycle: After which cycle; 0 when the row named none.
        rul_cycles: Remaining useful life in cycles, from 0 to the contract's cap; 0 when refused.
        readings: Whether the rows that it is made from are `ok`, `degraded`, or `refused`; says nothing of the machine.
        flagged: Channels of this row that the guard flagged.
        advice: For people.
    """

    unit: str
    cycle: int
    rul_cycles: float
    readings: Literal["ok", "degraded", "refused"]
    flagged: tuple[str, ...]
    advice: str


def current(state_dir: Path, anchor: Anchor, model: str) -> VerifiedModel:
    """The model that the twin at `state_dir` has installed, verified once more, offline.

    Expiry does not count here: a twin that cannot reach its registry keeps the model it had. That the reviewers signed
    it, that the evidence says what it must, and that no byte has changed since, does.

    Raises:
        TrustError, EvidenceError, GateRefusedError: There is none, or what is there is not what was admitted.
    """
    state = State(state_dir)
    with state.shared():
        return readmit(state, anchor, model)


def run(
    verified: VerifiedModel, rows: Iterable[Mapping[str, Any]] | pd.DataFrame, *, last_only: bool = False
) -> Iterator[Prediction]:
    """Predictions for telemetry of any number of units, each unit's rows in order of its cycles.

    Args:
        verified: From `pull` or `current`.
        rows: Each with `unit`, `cycle` and the contract's channels in their units; other columns are ignored.
        last_only: One prediction for each unit, after its last row, instead of one for each row.

    Raises:
        TypeError: `verified` is not a VerifiedModel.
    """
    runtime = Runtime(verified)
    records = _records(rows) if isinstance(rows, pd.DataFrame) else rows
    if not last_only:
        yield from map(runtime.step, records)
        return
    for row in records:
        runtime.see(row)
    yield from runtime.answers()


class Runtime:
    """A twin that runs: the model, and a window and a guard for each unit.

    Args:
        verified: From `pull` or `current`; nothing else will do.

    Raises:
        TypeError: It is something else.
    """

    def __init__(self, verified: VerifiedModel) -> None:
        if not isinstance(verified, VerifiedModel):
            raise TypeError(f"runtime: expected a VerifiedModel, got {type(verified).__name__}")
        self._model = verified.model
        self._units: dict[str, _Unit] = {}

    def step(self, row: Mapping[str, Any]) -> Prediction:
        """The prediction after one more row."""
        return self.see(row).answer()

    def see(self, row: Mapping[str, Any]) -> _Unit:
        """Take in one more row, without estimating."""
        if not isinstance(row, Mapping):  # a line of JSON may be anything
            row = {}
        unit = _name(row.get("unit"))
        if unit not in self._units:
            self._units[unit] = _Unit(unit, self._model)
        self._units[unit].see(row)
        return self._units[unit]

    def answers(self) -> Iterator[Prediction]:
        """The prediction of each unit after its last row."""
        return (unit.answer() for unit in self._units.values())


class _Unit:
    """What the twin knows of one unit: its last window of rows, which of them were repaired, and its guard."""

    def __init__(self, name: str, model: Model) -> None:
        self._name, self._model = name, model
        self._guard = Guard(model.channels, model.contract.all_channels)
        self._rows: deque[NDArray[np.float64]] = deque(maxlen=model.window)
        self._repaired: deque[bool] = deque(maxlen=model.window)
        self._cycle = 0  # of the last row seen
        self._kept = 0  # of the last row in the window
        self._count = 0  # rows in the history, also those that have left the window
        self._look = Look(None, (), "expected a row, got none yet")
        self._shown = 0

    def see(self, row: Mapping[str, Any]) -> None:
        cycle = _cycle(row.get("cycle"))
        self._shown = cycle
        if not self._name:
            self._look = Look(None, (), "expected the name of a unit, got none")
        elif cycle <= self._cycle:
            self._look = Look(None, (), f"expected a cycle after {self._cycle}, got {row.get('cycle')!r:.40}")
        else:
            self._cycle = cycle
            self._look = self._guard.look(cycle, row)
            if self._look.values is not None:
                self._keep(cycle, self._look.values, bool(self._look.flagged))

    def _keep(self, cycle: int, values: NDArray[np.float64], repaired: bool) -> None:
        gap = cycle - self._kept - 1 if self._kept else 0
        if gap >= self._model.window:  # nothing of the window would be left
            self._rows.clear()
            self._repaired.clear()
            self._count = gap = 0
        for _ in range(gap):  # the network counts cycles by rows: a cycle that is missing is held, and said to be
            self._rows.append(self._rows[-1])
            self._repaired.append(True)
        self._rows.append(values)
        self._repaired.append(repaired)
        self._kept, self._count = cycle, self._count + gap + 1

    def answer(self) -> Prediction:
        flagged = tuple(flag.channel for flag in self._look.flagged)
        if self._look.refusal:
            return self._refused(flagged, self._look.refusal)
        try:
            rul = self._model.predict(np.stack(self._rows))  # (L, C)
        except DataError as error:
            return self._refused(flagged, str(error))
        doubts = self._doubts()
        advice = "; ".join([_plan(rul, self._model.rul_cap_cycles), *doubts])
        return Prediction(self._name, self._shown, rul, "degraded" if doubts else "ok", flagged, advice)

    def _doubts(self) -> list[str]:
        doubts = []
        repaired, fewest = sum(self._repaired), self._model.contract.min_cycles
        if repaired:
            names = ", ".join(flag.channel for flag in self._look.flagged)
            now = f", now {names}: check the sensor" if names else ""
            doubts.append(f"{repaired} of the last {len(self._repaired)} cycles were repaired{now}")
        if self._count < fewest:
            doubts.append(f"a history of {self._count} cycles, fewer than {fewest}")
        return doubts

    def _refused(self, flagged: tuple[str, ...], reason: str) -> Prediction:
        return Prediction(self._name, self._shown, 0.0, "refused", flagged, f"inspect now: {reason}")


def _plan(rul: float, cap: float) -> str:
    if rul >= cap:
        return f"no maintenance due within {cap:.0f} cycles"
    return f"maintain within {int(rul)} cycles"


def _records(frame: pd.DataFrame) -> Iterator[Mapping[str, Any]]:
    names = [str(name) for name in frame.columns]
    return (dict(zip(names, values, strict=True)) for values in frame.itertuples(index=False, name=None))


def _name(value: Any) -> str:
    """The unit's name; "" for what is none."""
    if isinstance(value, Integral) and not isinstance(value, bool):
        return str(int(value))
    return value[:200] if isinstance(value, str) else ""


def _cycle(value: Any) -> int:
    """The cycle, from 1; 0 for what is none. A whole number may come as a float, as it does from CSV with gaps."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, Real):
        return 0
    try:
        number = float(value)
    except OverflowError:
        return 0
    return int(number) if 1 <= number <= MAX_CYCLE and number.is_integer() else 0
