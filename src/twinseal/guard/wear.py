"""Wear of a machine never falls. Whether the measured wear has fallen, and whether that fall was undone later.

The wear of a row is `w·x` (see `parameters`). Its averages over the newest rows are compared with the highest averages
of older rows, which the longest average no longer covers. A fall deeper than its threshold stays open until two
conditions hold: the average is back, and it came back in a jump as high as the fall exceeded its threshold. Wear that
goes on under a manipulation climbs but does not jump; a fall by chance needs almost no jump.
"""

from __future__ import annotations

import copy

import numpy as np
from numpy.typing import NDArray

from twinseal.guard.parameters import Doubles, GuardParams


class WearMonitor:
    """Watches the wear of B units.

    Args:
        params: The learned parameters.
        units: B.
    """

    def __init__(self, params: GuardParams, units: int) -> None:
        self._weights, self._falls = np.array(params.wear), np.array(params.falls)
        self._spans = np.array(params.spans)
        self._highest = np.full((units, len(self._spans)), -np.inf)
        self._depth = np.zeros((units, len(self._spans)))  # of open falls; 0 where none is open

    def repeated(self, times: int) -> WearMonitor:
        """The wear of `times` copies of these units, as `Guard.repeated`."""
        copied = copy.copy(self)
        copied._highest, copied._depth = (np.concatenate([part] * times) for part in (self._highest, self._depth))
        return copied

    def longest_open_fall(
        self, newest: Doubles, before: Doubles, row_count: NDArray[np.int64], here: NDArray[np.bool_]
    ) -> Doubles:
        """The span, in rows, of the longest open fall of each unit, (B,); 0 where none is open.

        Args:
            newest: (B, S, C), rows averaged over each span.
            before: (B, S, C), the same averages before the rows of the longest span.
            row_count: (B,), how many rows there have been.
            here: (B,), which units have a new row.
        """
        now, then = newest @ self._weights, before @ self._weights  # (B, S)
        known = here[:, None] & (row_count[:, None] >= self._spans)
        old = here[:, None] & (row_count[:, None] >= self._spans + self._spans[-1])
        # Also while a fall is open: only then do the rows just before it, the highest ones, count as old.
        self._highest = np.where(old, np.maximum(self._highest, then), self._highest)
        fall = self._highest - now
        too_deep = known & (fall > self._falls)
        self._depth = np.where(too_deep, np.maximum(self._depth, fall), self._depth)
        undone = old & ~too_deep & (now - then >= self._depth - self._falls)
        self._depth = np.where(undone, 0.0, self._depth)
        return np.asarray(((self._depth > 0) * self._spans).max(axis=1))

    def is_implausible_recovery(self, difference: Doubles) -> bool:
        """Whether a difference of averages (S, C) is a larger loss of wear than the thresholds allow."""
        return bool((difference @ self._weights > self._falls).any())
