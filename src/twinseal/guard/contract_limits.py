"""The rules of the contract for one reading: it is present, in range, and has not changed too fast.

>>> wear = {"unit": "mm", "minimum": 0.0, "maximum": 2.0, "max_change_per_cycle": 0.1}
>>> limits = ContractLimits([Channel(**wear)])
>>> limits.broken_rules(np.array([[1.5]]), np.array([[0.5]]), np.array([[1.0]]))
array([['change']], dtype='<U13')
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from twinseal.telemetry.contract import Channel

Doubles = NDArray[np.float64]

NAME_TYPE = "<U13"  # of a rule's name; "cross-channel" is the longest


class ContractLimits:
    """The bounds of C channels, for many units at once.

    Args:
        channels: The channels, in the order of the readings.
    """

    def __init__(self, channels: Sequence[Channel]) -> None:
        self.minimum = np.array([channel.minimum for channel in channels])
        self.maximum = np.array([channel.maximum for channel in channels])
        self.change = np.array([channel.max_change_per_cycle for channel in channels])
        self._slack = np.array([channel.rounding for channel in channels])

    def broken_rules(self, readings: Doubles, last_good: Doubles, cycles_since: Doubles) -> NDArray[np.str_]:
        """Which rule each reading breaks, (B, C): `missing`, `minimum`, `maximum`, `change`, or "" for none.

        Args:
            readings: (B, C), each channel in its unit; NaN if it is missing.
            last_good: (B, C), the last good readings; NaN if there is none yet.
            cycles_since: (B, C), cycles since then; the allowed change applies to each of them.
        """
        too_fast = np.abs(readings - last_good) > self.change * cycles_since + self._slack  # NaN: False
        rules = [
            (np.isnan(readings), "missing"),
            (readings < self.minimum - self._slack, "minimum"),
            (readings > self.maximum + self._slack, "maximum"),
            (too_fast, "change"),
        ]
        found = np.zeros(readings.shape, dtype=NAME_TYPE)
        for where, name in reversed(rules):  # the first one counts
            if where.any():
                found[where] = name
        return found
