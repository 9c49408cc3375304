"""What no machine does: heal. Whether a machine's wear has fallen below what it was, and whether that was undone.

The wear of a row is `w·x` (see `parameters`). Its averages over the newest rows are held against the highest that they
were in rows so old that the longest average has left them behind. A fall beyond its threshold stays open until two
things have come true: the average is back, and it came back by a leap as high as the fall was deeper than ordinary.
Wear that merely goes on under a lie climbs, but does not leap; a fall that was chance asks for next to none.
"""

from __future__ import annotations

import copy

import numpy as np
from numpy.typing import NDArray

from twinseal.guard.parameters import Doubles, GuardParams


class Wear:
    """The wear of B units.

    Args:
        params: What was learned.
        units: B.
    """

    def __init__(self, params: GuardParams, units: int) -> None:
        self._weights, self._falls = np.array(params.wear), np.array(params.falls)
        self._spans = np.array(params.spans)
        self._highest = np.full((units, len(self._spans)), -np.inf)
        self._depth = np.zeros((units, len(self._spans)))  # of falls that are open; 0 where there is none

    def repeated(self, times: int) -> Wear:
        """Of the same units again and again, as `Guard.repeated`."""
        copied = copy.copy(self)
        copied._highest, copied._depth = (np.concatenate([part] * times) for part in (self._highest, self._depth))
        return copied

    def fallen(self, newest: Doubles, before: Doubles, seen: NDArray[np.int64], here: NDArray[np.bool_]) -> Doubles:
        """How many rows the longest open fall of each unit is averaged over, (B,); 0 where there is none.

        Args:
            newest: (B, S, C), rows averaged over each span.
            before: (B, S, C), likewise as they were before the rows of the longest span.
            seen: (B,), how many rows there were.
            here: (B,), which units have a new row.
        """
        now, then = newest @ self._weights, before @ self._weights  # (B, S)
        known = here[:, None] & (seen[:, None] >= self._spans)
        old = here[:, None] & (seen[:, None] >= self._spans + self._spans[-1])
        # Also while a fall is open: the rows just before it become old only then, and are the highest.
        self._highest = np.where(old, np.maximum(self._highest, then), self._highest)
        fall = self._highest - now
        beyond = known & (fall > self._falls)
        self._depth = np.where(beyond, np.maximum(self._depth, fall), self._depth)
        undone = old & ~beyond & (now - then >= self._depth - self._falls)
        self._depth = np.where(undone, 0.0, self._depth)
        return np.asarray(((self._depth > 0) * self._spans).max(axis=1))

    def gap(self, difference: Doubles) -> bool:
        """Whether averages (S, C) differ by more wear than machines ever seem to lose."""
        return bool((difference @ self._weights > self._falls).any())
