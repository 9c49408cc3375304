"""The watch after a swap: whether more rows are refused than before.

>>> watch = RefusedWatch(rows=10, max_rise=0.2)
>>> watch.is_worse(1, 10), watch.begin(), watch.is_worse(2, 5), watch.is_worse(4, 5)
(False, None, False, True)
"""

from __future__ import annotations

from collections import deque


class RefusedWatch:
    """Compares the share of refused rows.

    Args:
        rows: So many before, and as many after; 0: nothing is watched.
        max_rise: By so much the share may rise, from 0 to 1.
    """

    def __init__(self, rows: int, max_rise: float) -> None:
        self._rows, self._max_rise = rows, max_rise
        self._newest: deque[tuple[int, int]] = deque()
        self._refused = self._count = self._left = 0
        self._before = 0.0

    def begin(self) -> None:
        """Another model answers from now on."""
        self._before = self._refused / self._count if self._count else 0.0
        self._newest.clear()
        self._refused = self._count = 0
        self._left = self._rows

    def is_worse(self, refused: int, rows: int) -> bool:
        """Count some more rows, of which so many were refused; whether it is time to go back."""
        self._newest.append((refused, rows))
        self._refused, self._count = self._refused + refused, self._count + rows
        while self._newest and self._count - self._newest[0][1] >= self._rows:
            gone, of = self._newest.popleft()
            self._refused, self._count = self._refused - gone, self._count - of
        if not self._left:
            return False
        self._left = max(0, self._left - rows)
        return not self._left and self._refused / max(1, self._count) > self._before + self._max_rise
