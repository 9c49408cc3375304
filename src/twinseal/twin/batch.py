"""A batch of rows, read: what `units.Units` takes at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from twinseal.errors import DataError
from twinseal.prognostics.normaliser import F64, I64


@dataclass(frozen=True, eq=False)
class Batch:
    """Rows of units, at most one of each.

    Attributes:
        slots: (B,), whose each is.
        cycles: (B,), 0 where a row names none.
        readings: (B, I), each input of the contract in its unit; NaN where it is missing.
        sent: B units as the rows had them.
        said: B cycles as the rows had them.
    """

    slots: I64
    cycles: I64
    readings: F64
    sent: Sequence[str | int | float | None]
    said: Sequence[Any]


def fault_of(work: Callable[[], object]) -> str:
    """What is wrong with telemetry of which it is known that it cannot be worked on."""
    try:
        work()
    except DataError as error:
        return str(error)
    return "rows: expected readings that an estimate can be made from, got values too large"
