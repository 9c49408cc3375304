"""The guard: stands before every prediction and asks each channel whether a machine could have said that.

It holds a row to the same contract that the training data had to meet: every channel present, within its range, and not
changed faster than the machine can. What it flags it replaces by the channel's last good value, and says so. What it
cannot replace with honesty it refuses: a first value that is missing, more than MAX_FLAGGED channels at once, or one
channel flagged for more than MAX_HELD cycles on end. Nothing is ever repaired in silence.

What it does not do: a slow ramp within every bound passes, as does a small ε on every channel at once; against those
stands robust training, not detection (the injection that it does find: Mode, Calyam and Hoque 2020).

Numpy and the contract only.

    >>> wear = {"unit": "mm", "minimum": 0.0, "maximum": 2.0, "max_change_per_cycle": 0.1}
    >>> guard = Guard(("wear",), {"wear": Channel(**wear)})
    >>> guard.look(1, {"wear": 0.5}).flagged, guard.look(2, {"wear": 1.5}).flagged
    ((), (Flag(channel='wear', rule='change', observed=1.5, bound=0.1),))
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinseal.telemetry.contract import Channel

# Three implicated channels are no longer a broken sensor: repairing three informative ones made estimates worse when
# it was measured (RMSE 22.3 to 29.5 on C-MAPSS FD001), so the guard abstains.
MAX_FLAGGED = 2
# A value held longer than this would show a machine that has stopped wearing.
MAX_HELD = 5
# float32 telemetry, read back as float64, may differ by this much from what the bounds were written as.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Flag:
    """One channel that said what the machine cannot.

    Attributes:
        channel: Its name.
        rule: `missing`, `minimum`, `maximum` or `change`.
        observed: The value, in the channel's unit; NaN when there was none.
        bound: The bound it broke, in the channel's unit (per cycle for `change`); NaN when there was none.
    """

    channel: str
    rule: str
    observed: float
    bound: float


@dataclass(frozen=True)
class Look:
    """What the guard made of one row.

    Attributes:
        values: (C,) float64, raw units; flagged channels carry their last good value. None when refused.
        flagged: What was flagged, in the order of the channels.
        refusal: Why no estimate may rest on this row; "" when one may.
    """

    values: NDArray[np.float64] | None
    flagged: tuple[Flag, ...]
    refusal: str = ""


class Guard:
    """The guard of one unit. It remembers each channel's last good value, and since when it has not had one.

    Args:
        channels: C names, in the network's order.
        limits: The contract's channels, by name.
        max_flagged: Most channels that may be repaired at once.
        max_held: Most cycles on end for which one channel may be repaired.
    """

    def __init__(
        self,
        channels: tuple[str, ...],
        limits: Mapping[str, Channel],
        *,
        max_flagged: int = MAX_FLAGGED,
        max_held: int = MAX_HELD,
    ) -> None:
        self._channels = channels
        self._limits = [limits[name] for name in channels]
        # A machine with four channels has lost half of what it says when two are repaired.
        self._max_flagged = min(max_flagged, max(1, len(channels) // 4))
        self._max_held = max_held
        self._good = np.full(len(channels), np.nan)  # (C,) last good value
        self._since = np.zeros(len(channels), dtype=np.int64)  # (C,) cycle of the last good value

    def look(self, cycle: int, row: Mapping[str, Any]) -> Look:
        """Judge one row; rows come in order of their cycles.

        Args:
            cycle: The row's cycle, above that of every row before it.
            row: Values by channel, raw units. What is absent, None, NaN or no number is missing.
        """
        observed = np.array([_number(row.get(name)) for name in self._channels])
        flags = tuple(
            flag for index in range(len(observed)) if (flag := self._flag(index, cycle, float(observed[index])))
        )
        bad = np.isin(self._channels, [flag.channel for flag in flags])  # (C,)
        refusal = self._refusal(cycle, bad)
        self._good = np.where(bad, self._good, observed)
        self._since = np.where(bad, self._since, cycle)
        return Look(None if refusal else self._good.copy(), flags, refusal)

    def _flag(self, index: int, cycle: int, value: float) -> Flag | None:
        name, limit = self._channels[index], self._limits[index]
        if math.isnan(value):
            return Flag(name, "missing", value, math.nan)
        slack = _ROUNDING * max(abs(limit.minimum), abs(limit.maximum))
        if value < limit.minimum - slack:
            return Flag(name, "minimum", value, limit.minimum)
        if value > limit.maximum + slack:
            return Flag(name, "maximum", value, limit.maximum)
        # Since its last good value a channel may have changed by so much in every cycle. No good value yet: NaN, False.
        allowed = limit.max_change_per_cycle * (cycle - int(self._since[index])) + slack
        if abs(value - self._good[index]) > allowed:
            return Flag(name, "change", value, limit.max_change_per_cycle)
        return None

    def _refusal(self, cycle: int, bad: NDArray[np.bool_]) -> str:
        names = [name for name, is_bad in zip(self._channels, bad, strict=True) if is_bad]
        if len(names) > self._max_flagged:
            return f"expected at most {self._max_flagged} flagged channels, got {len(names)}: {', '.join(names)}"
        for index in np.flatnonzero(bad):
            if math.isnan(self._good[index]):
                return f"{self._channels[index]}: expected a first good value, got none yet"
            if cycle - int(self._since[index]) > self._max_held:
                return f"{self._channels[index]}: expected a good value within {self._max_held} cycles, got none"
        return ""


def _number(value: Any) -> float:
    """A float; NaN for what is missing, infinite, or no number. Truth values are no numbers here."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, Real):
        return math.nan
    try:
        number = float(value)
    except (OverflowError, ValueError):
        return math.nan
    return number if math.isfinite(number) else math.nan
