"""The runtime: an admitted model, behind its guard, fed row by row.

It keeps the newest rows of each unit, behind its guard (`twinseal.guard`), and gives a Prediction for each row: never
an exception for bad telemetry, and never no answer. A prediction whose readings are `refused` has the conservative
answer, a remaining life of 0: a threshold on it leads to an inspection.

    ok         the estimate rests on the readings of the machine
    degraded   a reading is repaired now, or many in the window were, or the history is short
    refused    no estimate: inspect now
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from twinseal.errors import DataError, suggest
from twinseal.prognostics.checkpoint import Model
from twinseal.prognostics.normaliser import F32, baseline_of
from twinseal.telemetry.unit_names import MAX_EXACT, MAX_NAME, unit_name
from twinseal.trust.root.anchor import Anchor
from twinseal.twin.admit import VerifiedModel, admit_installed
from twinseal.twin.rows import cycle_of, number_of, records
from twinseal.twin.state import State, pull_command

# Above this share of repaired rows in a window the answer is degraded; about 1 % of rows are repaired by mistake.
SOUND_SHARE = 0.1
MAX_UNUSED = 10  # rows of a unit in a row that came again or late; a broker sends a few
CAPPED_SHARE = 0.95  # from this share of the cap on, an estimate does not tell how much longer a life is
MAX_UNITS = 10_000  # more than a fleet has; a limit on how often the model can be queried


@dataclass(frozen=True)
class Prediction:
    """One answer.

    Attributes:
        unit: The unit, by `unit_name`.
        sent_unit: The unit as the row had it; None for what is neither a text nor a number.
        cycle: After which cycle; 0 when the row named none.
        rul_cycles: Remaining useful life in cycles, from 0 to the contract's cap; 0 when refused.
        more: Whether the estimate is at the cap: then the life may be longer than any that the model tells.
        low_cycles: Lower end of the 90 % interval; the interval is wider where readings were repaired.
        high_cycles: Upper end of the 90 % interval.
        readings: State of the rows that it is made from: `ok`, `degraded`, or `refused`; not the state of the machine.
        flagged: Channels of this row that the guard replaced.
        commissioned: Whether the answer is by the network that reads the unit's signed baseline.
        advice: For people.
    """

    unit: str
    sent_unit: str | int | float | None
    cycle: int
    rul_cycles: float
    more: bool
    low_cycles: float
    high_cycles: float
    readings: Literal["ok", "degraded", "refused"]
    flagged: tuple[str, ...]
    commissioned: bool
    advice: str


def current_model(state_dir: Path, anchor: Anchor, model: str) -> VerifiedModel:
    """The model that the twin at `state_dir` has installed, verified once more, offline.

    Expiry is not checked here: a twin that cannot reach its registry keeps its model. Checked are the reviewers'
    signatures, the evidence, and every byte.

    Raises:
        TrustError, EvidenceError, GateRefusedError: There is none, or what is there is not what was admitted.
    """
    state = State(state_dir)
    with suggest(_how_to_install(model, state_dir, anchor)), state.read_lock():
        return admit_installed(state, anchor, model)


def run(
    verified: VerifiedModel,
    rows: Iterable[Mapping[str, Any]],
    *,
    baselines: Mapping[str, NDArray[np.float64]] | None = None,
    last_only: bool = False,
) -> Iterator[Prediction]:
    """Predictions for telemetry of any number of units, each unit's rows in order of its cycles.

    Args:
        verified: From `pull` or `current`.
        rows: Each with `unit`, `cycle` and the contract's channels in their units; other columns are ignored.
        baselines: By unit, the rows (20, I) of its first cycles, signed when it was commissioned.
        last_only: One prediction for each unit, after its last row, instead of one for each row.

    Raises:
        TypeError: `verified` is not a VerifiedModel.
    """
    runtime = Runtime(verified, baselines)
    if not last_only:
        yield from map(runtime.predict, records(rows))
        return
    for row in records(rows):
        runtime.add_row(row)
    yield from runtime.predictions()


class Runtime:
    """A twin that runs: the model, and a window and a guard for each unit.

    Args:
        verified: From `pull` or `current`; nothing else will do.
        baselines: As in `run`.

    Raises:
        TypeError: It is something else.
        DataError: A baseline has a reading that no network could take.
    """

    def __init__(self, verified: VerifiedModel, baselines: Mapping[str, NDArray[np.float64]] | None = None) -> None:
        if not isinstance(verified, VerifiedModel):
            raise TypeError(f"runtime: expected a VerifiedModel, got {type(verified).__name__}")
        self._model = verified.model
        self._units: dict[str, _Unit] = {}
        apply = self._model.normaliser.apply
        self._baselines = {unit: baseline_of(apply(rows)) for unit, rows in (baselines or {}).items()}

    def predict(self, row: Mapping[str, Any]) -> Prediction:
        """The prediction after one more row."""
        return self.add_row(row).predict()

    def add_row(self, row: Mapping[str, Any]) -> _Unit:
        """Store one more row, without a prediction."""
        if not isinstance(row, Mapping):  # a line of JSON may be anything
            row = {}
        unit = unit_name(row.get("unit"))
        if unit not in self._units:
            if len(self._units) >= MAX_UNITS:
                unit = ""  # more names than any fleet has: new ones get no window of their own
            self._units.setdefault(unit, _Unit(unit, self._model, self._baselines.get(unit)))
        self._units[unit].add_row(row)
        return self._units[unit]

    def predictions(self) -> Iterator[Prediction]:
        """The prediction of each unit after its last row."""
        return (unit.predict() for unit in self._units.values())


class _Unit:
    """One unit's state: its newest rows behind its guard, which of them were repaired, and its baseline."""

    def __init__(self, name: str, model: Model, baseline: F32 | None) -> None:
        self._name, self._model, self._baseline = name, model, baseline
        self._guard = model.guard_of(window=model.window)
        self._repaired: deque[bool] = deque(maxlen=model.window)
        self._cycle = 0  # of the last row seen
        self._count = 0  # rows in the history, also those that have left the window
        self._flagged: tuple[str, ...] = ()
        self._rules: tuple[str, ...] = ()
        self._refusal = "expected a row, got none yet"
        self._sent: str | int | float | None = None
        self._shown = 0
        self._last: NDArray[np.float64] | None = None  # the readings of the last row that was taken
        self._unused, self._note = 0, ""  # rows since then that came again or late

    def add_row(self, row: Mapping[str, Any]) -> None:
        self._sent = _as_sent(row.get("unit"))
        cycle = cycle_of(row.get("cycle"))
        raw = np.array([[number_of(row.get(name)) for name in self._model.contract.inputs]])
        if self._is_unneeded(cycle, raw):
            self._unused += 1
            came = "again" if cycle == self._cycle else f"after that of cycle {self._cycle}"
            self._note = f"the row of cycle {cycle} came {came}, and was not used"
            return
        self._shown, self._flagged, self._rules, self._note = cycle, (), (), ""
        if not self._name:
            self._refusal = "expected the name of a unit, got none"
        elif cycle <= self._cycle:
            self._refusal = f"expected a cycle after {self._cycle}, got {row.get('cycle')!r:.40}"
        elif (
            cycle > self._model.oldest_cycles
        ):  # not stored: one false cycle number must not exclude the rows that follow
            self._refusal = (
                f"expected an age of at most {self._model.oldest_cycles} cycles, as in training, got {cycle}"
            )
        else:
            self._guard_row(cycle, raw)
            if self._cycle == cycle:
                self._last, self._unused = raw, 0

    def _is_unneeded(self, cycle: int, raw: NDArray[np.float64]) -> bool:
        """Whether a row says nothing new: the newest once more, as a broker sends it, or one that was overtaken.

        The estimate stays as it is. More than a few in a row are none of these, and refused: a counter that began anew,
        or somebody who plays old rows. So is a second row of the newest cycle with other readings.
        """
        if not self._name or self._last is None or not 0 < cycle <= self._cycle or self._unused >= MAX_UNUSED:
            return False
        return cycle < self._cycle or bool(np.array_equal(raw, self._last, equal_nan=True))

    def _guard_row(self, cycle: int, raw: NDArray[np.float64]) -> None:
        model, settings = self._model, self._model.normaliser.settings
        try:
            known = model.normaliser.scaled(raw)  # (1, C) σ
        except DataError as error:  # not a row: the next row finds a gap, which is filled and reported
            self._refusal = str(error)
            return
        gap = cycle - self._cycle - 1 if self._cycle else 0
        if gap >= model.window:  # nothing of the window would be left
            self._guard.reset_window()
            self._repaired.clear()
            self._count = gap = 0
        for _ in range(gap):  # the network counts cycles by rows: a cycle that is missing is held, and said to be
            self._guard.fill_missing_cycle()
            self._repaired.append(True)
        decision = self._guard.decide(
            np.array([cycle]), raw[:, settings:], known, regimes=model.normaliser.regimes(raw)
        )
        self._repaired.append(bool(decision.flagged.any()))
        for back in range(1, min(int(decision.rewritten_rows.max()), len(self._repaired) - 1) + 1):
            self._repaired[-1 - back] = True
        flagged = np.flatnonzero(decision.flagged[0])
        self._flagged = tuple(model.channels[at] for at in flagged)
        self._rules = tuple(str(decision.rules[0, at]) for at in flagged)
        self._refusal, self._cycle, self._count = decision.refusals[0], cycle, self._count + gap + 1

    def predict(self) -> Prediction:
        if self._refusal:
            return self._refused_prediction(self._refusal)
        count = min(self._count, self._model.window)
        repaired, given = (self._guard.window(count, repaired=which)[0] for which in (True, False))  # (R, C) σ
        try:
            rul = self._model.guarded_answer(repaired, given, self._cycle, self._baseline)
        except DataError as error:
            return self._refused_prediction(str(error))
        caveats, fewest = [*self._caveats(), *([self._note] if self._note else [])], self._model.contract.min_cycles
        mode = "plain" if self._baseline is None or self._model.inference.commissioned is None else "commissioned"
        widen = self._model.guard.widen if any(self._repaired) else 1.0
        low, high = (float(end) for end in self._model.intervals[mode].of(rul, widen))
        more = rul >= CAPPED_SHARE * self._model.rul_cap_cycles
        life = _more_advice(low, self._model.rul_cap_cycles) if more else _maintenance_advice(low)
        advice = "; ".join([life, *caveats])
        weak = self._flagged or sum(self._repaired) > SOUND_SHARE * len(self._repaired) or self._count < fewest
        readings: Literal["ok", "degraded"] = "degraded" if weak else "ok"
        known = mode == "commissioned"
        return Prediction(
            self._name, self._sent, self._shown, rul, more, low, high, readings, self._flagged, known, advice
        )

    def _caveats(self) -> list[str]:
        caveats = []
        repaired, fewest = sum(self._repaired), self._model.contract.min_cycles
        if repaired:
            because = zip(self._flagged, self._rules, strict=True)
            names = ", ".join(f"{name} ({rule})" for name, rule in because)
            now = f", now {names}: check the sensor" if names else ""
            done = "repaired" if self._model.repairs else "doubted"
            caveats.append(f"{repaired} of the last {len(self._repaired)} cycles were {done}{now}")
        if self._count < fewest:
            caveats.append(f"a history of {self._count} cycles, fewer than {fewest}")
        return caveats

    def _refused_prediction(self, reason: str) -> Prediction:
        advice = f"inspect now: {reason}"
        return Prediction(
            self._name, self._sent, self._shown, 0.0, False, 0.0, 0.0, "refused", self._flagged, False, advice
        )


def _how_to_install(model: str, state_dir: Path, anchor: Anchor) -> str:
    if model not in anchor.models:
        return f"Name a model of the anchor: --model {' or --model '.join(anchor.models)}"
    return f"Fetch it: {pull_command(model, state_dir)}"


def _maintenance_advice(low: float) -> str:
    """Planned by the lower end of the interval: by the estimate itself, half of the machines would fail before."""
    if low < 1:
        return "maintain now"
    return f"maintain within {int(low)} {'cycle' if low < 2 else 'cycles'}"


def _more_advice(low: float, cap: float) -> str:
    return f"more than {cap:.0f} cycles expected; no maintenance due within {int(low)}"


def _as_sent(value: Any) -> str | int | float | None:
    """What a row had as its unit: text cut where no name is so long."""
    if isinstance(value, str):
        return value[: 4 * MAX_NAME]
    plain = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return value if plain and abs(value) < MAX_EXACT else None
