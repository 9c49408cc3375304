"""The runtime as it was before it took many rows at once: one guard and one window a unit, row by row.

What `twinseal.twin.runtime` must say of every row; `test_batches` holds it to this.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from twinseal.errors import DataError
from twinseal.prognostics.checkpoint import Model
from twinseal.prognostics.normaliser import F32, baseline_of
from twinseal.telemetry.unit_names import unit_name
from twinseal.twin.rows import MAX_CYCLE, number_of
from twinseal.twin.runtime import Prediction, _maintenance_advice, _more_advice, as_sent
from twinseal.twin.units import _NO_PLACE

SOUND_SHARE, MAX_UNUSED, CAPPED_SHARE, SAID_ABOVE = 0.1, 10, 0.95, 10.0


class OneByOne:
    """A twin of a model, for at most so many units."""

    def __init__(self, model: Model, baselines: Mapping[str, NDArray[np.float64]], most: int) -> None:
        self._model, self._most, self._units = model, most, dict[str, _Unit]()
        apply = model.normaliser.apply
        self._baselines = {unit: baseline_of(apply(rows)) for unit, rows in baselines.items()}

    def predict(self, row: Any) -> Prediction:
        row = row if isinstance(row, Mapping) else {}
        unit = unit_name(row.get("unit"))
        if unit not in self._units:
            if len(self._units) >= self._most:
                unit = ""
            self._units.setdefault(unit, _Unit(unit, self._model, self._baselines.get(unit)))
        self._units[unit].add_row(row)
        return self._units[unit].predict()

    def predictions(self) -> list[Prediction]:
        return [unit.predict() for unit in self._units.values()]


def alike(expected: list[Prediction], got: list[Prediction]) -> None:
    """Equal, but for the rounding of float32's sums, and the whole cycles that advice makes of them."""
    assert len(expected) == len(got)
    for one, other in zip(expected, got, strict=True):
        for name in ("rul_cycles", "low_cycles", "high_cycles"):
            assert math.isclose(getattr(one, name), getattr(other, name), rel_tol=1e-5, abs_tol=1e-4), (one, other)
        same = {name: getattr(one, name) for name in ("rul_cycles", "low_cycles", "high_cycles")}
        if int(one.low_cycles) != int(other.low_cycles) or one.more != other.more:
            same |= {"advice": one.advice, "more": one.more}
        assert one == replace(other, **same)


def cycle_of(value: Any) -> int:
    number = number_of(value)
    return int(number) if 1 <= number <= MAX_CYCLE and number.is_integer() else 0


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
        self._ledger, self._told = model.ledger_of(), (math.nan,) * 4  # estimate, answer, the ends of its interval
        self._lost = 0

    def add_row(self, row: Mapping[str, Any]) -> None:
        self._sent = as_sent(row.get("unit"))
        cycle = cycle_of(row.get("cycle"))
        raw = np.array([[number_of(row.get(name)) for name in self._model.contract.inputs]])
        if self._is_unneeded(cycle, raw):
            self._unused += 1
            came = "again" if cycle == self._cycle else f"after that of cycle {self._cycle}"
            self._note = f"the row of cycle {cycle} came {came}, and was not used"
            return
        self._shown, self._flagged, self._rules, self._note = cycle, (), (), ""
        if not self._name:
            self._refusal = _NO_PLACE if unit_name(self._sent) else "expected the name of a unit, got none"
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
        first = not self._cycle
        self._refusal, self._cycle, self._count = decision.refusals[0], cycle, self._count + gap + 1
        if first:
            self._ledger.begin([0], [cycle - 1])
        self._enter()

    def _enter(self) -> None:
        """Enter the row in the ledger, and keep what it says."""
        model, estimate = self._model, None
        count = min(self._count, model.window)
        repaired, given = (self._guard.window(count, repaired=which)[0] for which in (True, False))  # (R, C) σ
        if not self._refusal:
            try:
                estimate = model.guarded_answer(repaired, given, self._cycle, self._baseline)
            except DataError as error:
                self._refusal = str(error)
        said, some = 0.0 if estimate is None else estimate, any(self._repaired)
        at_most = model.at_most(self._mode, said, some)
        entry = self._ledger.enter([0], [self._cycle], [said], at_most, [estimate is not None])
        self._lost = int(entry.lost[0])
        ends = model.intervals[self._mode].of(said, model.guard.widen if some else 1.0)
        low, high = (float(end[0]) for end in entry.interval(*ends))
        self._told = said, float(entry.answers[0]), low, high
        if estimate is not None and entry.too_many_lost[0]:
            window = min(self._cycle, model.window)
            most = max(1, math.floor(model.contract.max_lost_share * window))
            self._refusal = (
                f"expected at most {most} of the last {window} cycles without a usable row, got {self._lost}"
            )

    @property
    def _mode(self) -> str:
        return "plain" if self._baseline is None or self._model.inference.commissioned is None else "commissioned"

    def predict(self) -> Prediction:
        if self._refusal:
            return self._refused_prediction(self._refusal)
        _, rul, low, high = self._told
        caveats, fewest = [*self._caveats(), *([self._note] if self._note else [])], self._model.contract.min_cycles
        more = rul >= CAPPED_SHARE * self._model.rul_cap_cycles
        life = _more_advice(low, self._model.rul_cap_cycles) if more else _maintenance_advice(low)
        advice = "; ".join([life, *caveats])
        weak = self._flagged or sum(self._repaired) > SOUND_SHARE * len(self._repaired) or self._count < fewest
        readings: Literal["ok", "degraded"] = "degraded" if weak else "ok"
        known = self._mode == "commissioned"
        return Prediction(
            self._name, self._sent, self._shown, rul, more, low, high, readings, self._flagged, known, advice
        )

    def _caveats(self) -> list[str]:
        caveats, (estimate, answer, _, _) = [], self._told
        if estimate > answer + SAID_ABOVE:
            caveats.append(f"the readings alone would give {estimate:.0f}, but less was left by earlier readings")
        if self._lost:
            caveats.append(f"{self._lost} of the last cycles have no usable row")
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
