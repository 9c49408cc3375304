"""What the contract alone says of a reading: whether it is there, within the range, and not too fast for the machine.

>>> wear = {"unit": "mm", "minimum": 0.0, "maximum": 2.0, "max_change_per_cycle": 0.1}
>>> limits = Limits([Channel(**wear)])
>>> limits.broken(np.array([[1.5]]), np.array([[0.5]]), np.array([[1.0]]))
array([['change']], dtype='<U8')
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from twinseal.telemetry.contract import Channel

Doubles = NDArray[np.float64]

# float32 telemetry, read back as float64, may differ by this much from what the bounds were written as.
_ROUNDING = 1e-6


class Limits:
    """The bounds of C channels, for many units at once.

    Args:
        channels: In the order of the readings.
    """

    def __init__(self, channels: Sequence[Channel]) -> None:
        self.minimum = np.array([channel.minimum for channel in channels])
        self.maximum = np.array([channel.maximum for channel in channels])
        self.change = np.array([channel.max_change_per_cycle for channel in channels])
        self._slack = _ROUNDING * np.maximum(np.abs(self.minimum), np.abs(self.maximum))

    def broken(self, readings: Doubles, good: Doubles, gap: Doubles) -> NDArray[np.str_]:
        """Which rule each reading breaks, (B, C): `missing`, `minimum`, `maximum`, `change`, or "" for none.

        Args:
            readings: (B, C), each channel in its unit; NaN where one is missing.
            good: (B, C), the last good readings; NaN where there is none yet.
            gap: (B, C), cycles since then: in each of them a channel may have changed by as much as it can.
        """
        leaps = np.abs(readings - good) > self.change * gap + self._slack  # NaN: False
        rules = [
            (np.isnan(readings), "missing"),
            (readings < self.minimum - self._slack, "minimum"),
            (readings > self.maximum + self._slack, "maximum"),
            (leaps, "change"),
        ]
        found = np.zeros(readings.shape, dtype="<U8")
        for where, name in reversed(rules):  # the first one counts
            if where.any():
                found[where] = name
        return found
