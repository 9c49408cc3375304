"""How long to wait before the next attempt to connect: twice as long each time, with jitter, up to a limit.

Jitter keeps a thousand twins from coming back to a broker in the same second.

>>> wait = Backoff(first_s=1, most_s=5, chance=lambda: 1.0)
>>> [wait.next_s() for _ in range(4)]
[1.0, 2.0, 4.0, 5.0]
"""

from __future__ import annotations

import random
from collections.abc import Callable


class Backoff:
    """Gives the waits, one after the other.

    Args:
        first_s: The first wait is half of it at least, and all of it at most.
        most_s: No wait is longer.
        chance: A number from 0 to 1.
    """

    def __init__(
        self,
        first_s: float = 0.5,
        most_s: float = 60.0,
        chance: Callable[[], float] = random.random,  # it decides when, and guards nothing
    ) -> None:
        self._first_s, self._most_s, self._chance, self._failures = first_s, most_s, chance, 0

    def next_s(self) -> float:
        """Seconds to wait now."""
        longest = min(self._most_s, self._first_s * 2.0**self._failures)
        self._failures = min(self._failures + 1, 32)
        return longest * (1 + self._chance()) / 2

    def reset(self) -> None:
        """Begin with the first wait again: something came."""
        self._failures = 0
