"""Lives: what is told of the lives of units, by slot: from what the networks estimate, and each unit's ledger.

Every row that is taken is entered in its unit's ledger once (`prognostics.ledger`), whether or not anybody asks for an
answer: so a life that was said to be spent stays spent. A unit that nobody vouches for is an unknown machine: it may be
any of the fleet, so its answer is never above what nine of ten machines have left at any time of their lives.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinseal.guard.saved_arrays import Arrays, give_back, named, parts, taken
from twinseal.prognostics.checkpoint import Model
from twinseal.prognostics.normaliser import F64, I64

FIRST_UNITS = 8  # for so many there is room at first; then for twice as many, and so on
SAID_ABOVE_CYCLES = 10.0  # an answer that is lower than its estimate by more is explained
_SAVED = ("estimates", "answers", "low", "high", "lost")
_AT_FIRST = {"estimates": math.nan, "answers": math.nan, "low": math.nan, "high": math.nan, "lost": 0, "known": True}


class Lives:
    """What is told of N units.

    Args:
        model: Whose ledgers they are.

    Attributes:
        ledger: Of all units.
        estimates: (N,) cycles, by the readings alone; NaN where there is no estimate.
        answers: (N,) cycles, by the ledger; NaN where there is none.
        low, high: (N,) cycles, the ends of the interval; likewise.
        lost: (N,) how many cycles of the window have no row that counts.
        known: (N,) whether somebody vouches for the unit.
    """

    def __init__(self, model: Model) -> None:
        self._model, self.ledger = model, model.ledger_of(FIRST_UNITS)
        self.estimates, self.answers, self.low, self.high = (np.full(FIRST_UNITS, np.nan) for _ in range(4))
        self.lost, self.known = np.zeros(FIRST_UNITS, dtype=np.int64), np.ones(FIRST_UNITS, dtype=bool)

    @property
    def unit_bytes(self) -> int:
        """Memory of one unit, bytes."""
        arrays: list[NDArray[Any]] = [getattr(self, name) for name in _AT_FIRST]
        return sum(array.itemsize for array in arrays) + self.ledger.unit_bytes

    def grow(self, units: int) -> None:
        """Make room for more units."""
        self.ledger.grow(units)
        for name, first in _AT_FIRST.items():
            setattr(self, name, np.pad(getattr(self, name), (0, units), constant_values=first))

    def enter(self, slots: I64, ages: I64, estimates: F64, repaired: I64, *, commissioned: NDArray[np.bool_]) -> None:
        """Enter a row of each of B units, which was taken.

        Args:
            slots: (B,) whose each is.
            ages: (B,) cycles, after the ages before.
            estimates: (B,) cycles; NaN where there is none.
            repaired: (B,) how many rows of each window were repaired, or held where there was none.
            commissioned: (B,) whether the estimate is by the networks that read the unit's baseline.
        """
        model, counts = self._model, ~np.isnan(estimates)
        low, high, at_most = np.zeros(len(slots)), np.zeros(len(slots)), np.zeros(len(slots))
        said = np.where(counts, estimates, 0.0)
        widen = np.where(repaired > 0, model.guard.widen, 1.0)
        for mode, intervals in model.intervals.items():
            mine = (commissioned == (mode == "commissioned")) & counts
            low[mine], high[mine] = intervals.of(said[mine], widen[mine])
            at_most[mine] = model.at_most(mode, said[mine], repaired[mine] > 0)
            unknown = mine & ~self.known[slots]
            said[unknown] = np.minimum(said[unknown], model.life_bounds[mode].unknown_cycles)
        entry = self.ledger.enter(slots, ages, said, at_most, counts)
        low, high = entry.interval(low, high)
        told = ~entry.refused
        self.estimates[slots], self.lost[slots] = estimates, entry.lost
        for kept, found in ((self.answers, entry.answers), (self.low, low), (self.high, high)):
            kept[slots] = np.where(told, found, np.nan)

    def take_over(self, other: Lives, units: int) -> None:
        """Go on from what another model told of the first `units` units: nobody has more left than was said before."""
        self.ledger.take_over(other.ledger, units)
        left = np.maximum(0.0, self.ledger.over_at - self.ledger.ages)[:units]
        self.answers[:units] = np.minimum(self.answers[:units], left)
        self.low[:units] = np.minimum(self.low[:units], left)
        self.high[:units] = np.minimum(self.high[:units], left)

    def saved(self, units: int) -> Arrays:
        """All that was told of the first `units` units."""
        return taken(self, _SAVED, units=units) | named("ledger.", self.ledger.saved(units))

    def restore(self, arrays: Arrays, units: int) -> None:
        """Go on from what `saved` gave, by the same model.

        Raises:
            EvidenceError: It is of another model.
        """
        give_back(self, _SAVED, arrays, units=units)
        self.ledger.restore(parts("ledger.", arrays), units)

    def refusal(self, slot: int, age: int) -> str:
        """Why a unit with an estimate has no answer at this age; empty if it has one."""
        if not math.isnan(self.answers[slot]) or math.isnan(self.estimates[slot]):
            return ""
        window = min(age, self._model.window)
        most = self.ledger.most_lost(window)
        return f"expected at most {most} of the last {window} cycles without a usable row, got {self.lost[slot]}"

    def caveat(self, slot: int) -> str:
        """What is to be said of an answer beside what its readings say; empty for nothing."""
        texts = []
        if not self.known[slot]:
            texts.append("an unknown machine: no commissioner has enrolled it")
        elif self.estimates[slot] > self.answers[slot] + SAID_ABOVE_CYCLES:
            texts.append(
                f"the readings alone would give {self.estimates[slot]:.0f}, but less was left by earlier readings"
            )
        if self.lost[slot]:
            texts.append(f"{self.lost[slot]} of the last cycles have no usable row")
        return "; ".join(texts)
