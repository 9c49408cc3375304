"""Which machines are silent: no row of them came for too long, by a clock that nobody sets.

>>> moments = iter([0.0, 5.0, 5.0])
>>> silence = Silence(4.0, clock=lambda: next(moments))
>>> silence.watch(["a", "b"]), silence.hear("b"), silence.silent()
(None, None, [('a', 5.0)])
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable


class Silence:
    """Watches machines.

    Args:
        after_s: A machine is silent when no row of it came for so long; 0: none ever is.
        clock: Seconds, from any beginning.
    """

    def __init__(self, after_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._after_s, self._clock, self._heard = after_s, clock, dict[str, float]()

    def watch(self, units: Iterable[str]) -> None:
        """Expect rows of these machines from now on."""
        moment = self._clock()
        for unit in units:
            self._heard.setdefault(unit, moment)

    def hear(self, unit: str) -> None:
        """A row of a machine came."""
        self._heard[unit] = self._clock()

    def silent(self) -> list[tuple[str, float]]:
        """The machines that are silent, and for how many seconds."""
        if not self._after_s:
            return []
        moment = self._clock()
        return [(unit, moment - heard) for unit, heard in self._heard.items() if moment - heard >= self._after_s]
