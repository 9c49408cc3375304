"""Acts: what only a commissioner may say of a machine's life, beside the machine, and signed.

A twin never says that a machine has more life left than it said before (`twinseal.prognostics.ledger`), whatever
telemetry comes. What truly changes a life is an act.

    new machine         a machine that the twin is to know; its life begins, or goes on at a known age
    overhaul            the machine is as new, or as one of a lower age
    sensor replaced     a sensor shows other values from now on; the age stays
    counter replaced    the operating count goes on from another number; the age and all that was said stay
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from twinseal.errors import EvidenceError

Kind = Literal["new machine", "overhaul", "sensor replaced", "counter replaced"]
KINDS: tuple[Kind, ...] = get_args(Kind)
MAX_COUNT = 1_000_000_000  # cycles: of an operating count, and of an age


@dataclass(frozen=True)
class Act:
    """One act on one machine. It holds for the rows after the operating count `cycle`.

    Attributes:
        kind: What was done.
        cycle: The operating count when it was done, cycles, as rows show it from then on: the next row has a greater
            one. 0: before the first row of a new machine or a new counter.
        age: The machine's age then, cycles, as its model counts them; the age of a later row is as much more as its
            operating count is. 0: as new.

    Raises:
        EvidenceError: A part does not fit this description.
    """

    kind: Kind
    cycle: int
    age: int

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise EvidenceError(f"act: expected one of {', '.join(KINDS)}, got {self.kind!r:.40}")
        for what, value in (("operating count", self.cycle), ("age", self.age)):
            if type(value) is not int or not 0 <= value <= MAX_COUNT:
                raise EvidenceError(f"act: expected as {what} a whole number from 0 to {MAX_COUNT}, got {value!r:.40}")

    @property
    def opens(self) -> bool:
        """Whether what was said of the machine's life before does not hold any more."""
        return self.kind != "counter replaced"
