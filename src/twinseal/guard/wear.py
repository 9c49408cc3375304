"""Wear of a machine never falls. Whether the measured wear has fallen, and whether that fall was undone later.

The wear of a row is `w·x` (see `parameters`). Its averages over the newest rows are compared with the highest averages
of older rows, which the longest average no longer covers. A fall deeper than its threshold stays open until two
conditions hold: the average is back, and it came back in a jump as high as the fall exceeded its threshold. Wear that
goes on under a manipulation climbs but does not jump; a fall by chance needs almost no jump.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from twinseal.guard.parameters import Doubles, GuardParams


class WearMonitor:
    """Watches the wear of B units.

    Args:
        params: The learned parameters, for all units or for each; of the same spans.
        units: B.
    """

    SAVED = ("_highest", "_depth")

    def __init__(self, params: GuardParams | Sequence[GuardParams], units: int) -> None:
        each = (params,) if isinstance(params, GuardParams) else params
        self._weights = np.array([one.wear for one in each])[:, :, None]  # (1 or B, C, 1)
        self._falls, self._spans = np.array([one.falls for one in each]), np.array(each[0].spans)
        self._highest = np.full((units, len(self._spans)), -np.inf)
        self._depth = np.zeros((units, len(self._spans)))  # of open falls; 0 where none is open

    def grow(self, units: int) -> None:
        """Watch so many more units, of the same parameters."""
        self._highest = np.pad(self._highest, ((0, units), (0, 0)), constant_values=-np.inf)
        self._depth = np.pad(self._depth, ((0, units), (0, 0)))

    def forget(self, units: NDArray[np.int64]) -> None:
        """Nothing was heard yet of `units`."""
        self._highest[units], self._depth[units] = -np.inf, 0.0

    def repeated(self, times: int) -> WearMonitor:
        """The wear of `times` copies of these units, as `Guard.repeated`."""
        copied = copy.copy(self)
        copied._highest, copied._depth = (np.concatenate([part] * times) for part in (self._highest, self._depth))
        if len(self._falls) > 1:
            copied._weights, copied._falls = (np.concatenate([p] * times) for p in (self._weights, self._falls))
        return copied

    def longest_open_fall(
        self, newest: Doubles, before: Doubles, row_count: NDArray[np.int64], units: NDArray[np.int64]
    ) -> Doubles:
        """The span, in rows, of the longest open fall of each of `units`, (B',); 0 where none is open.

        Args:
            newest: (B', S, C), rows averaged over each span.
            before: (B', S, C), the same averages before the rows of the longest span.
            row_count: (B',), how many rows there have been.
            units: (B',), which units have a new row.
        """
        weights, falls = (each if len(each) == 1 else each[units] for each in (self._weights, self._falls))
        now, then = (newest @ weights)[:, :, 0], (before @ weights)[:, :, 0]  # (B', S)
        old = row_count[:, None] >= self._spans + self._spans[-1]
        # Also while a fall is open: only then do the rows just before it, the highest ones, count as old.
        highest, depth = self._highest[units], self._depth[units]
        highest = np.where(old, np.maximum(highest, then), highest)
        fall = highest - now
        too_deep = (row_count[:, None] >= self._spans) & (fall > falls)
        depth = np.where(too_deep, np.maximum(depth, fall), depth)
        undone = old & ~too_deep & (now - then >= depth - falls)
        depth = np.where(undone, 0.0, depth)
        self._highest[units], self._depth[units] = highest, depth
        return np.asarray(((depth > 0) * self._spans).max(axis=1))

    def is_implausible_recovery(self, unit: int, difference: Doubles) -> bool:
        """Whether a difference of the averages (S, C) of a unit is a larger loss of wear than its thresholds allow."""
        own = unit % len(self._falls)
        return bool(((difference @ self._weights[own])[:, 0] > self._falls[own]).any())
