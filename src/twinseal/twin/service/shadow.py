"""The shadow: a new model reads the newest rows of all units, beside the one that runs, before it may take its place.

Two models disagree about a unit if neither's estimate is within the other's 90 % interval, or only one of them has an
estimate. Models that are trained anew move by less: an interval is missed by one of ten, and both at once seldom. So
more than a few units that disagree say that the new model, or what it was trained on, is not what it should be; the
twin then keeps the one that runs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from twinseal.twin.runtime import Prediction


@dataclass(frozen=True)
class Comparison:
    """Two models on the same units.

    Attributes:
        units: How many were answered by the model that runs, or by the new one.
        apart: Those of which neither's estimate is within the other's interval.
        newly_refused: Those that only the model that runs has an estimate of.
        examples: Some units of both kinds, for messages.
    """

    units: int
    apart: int
    newly_refused: int
    examples: tuple[str, ...] = ()

    def fault(self, max_apart_share: float, max_newly_refused_share: float) -> str:
        """Why the new model may not take the place of the other; empty if it may.

        Args:
            max_apart_share: Of the units, from 0 to 1.
            max_newly_refused_share: Likewise.
        """
        names = ", ".join(self.examples)
        for what, number, most in (
            ("on which the estimates agree", self.apart, max_apart_share),
            ("that still have an estimate", self.newly_refused, max_newly_refused_share),
        ):
            if number > most * self.units:
                return (
                    f"expected at least {1 - most:.0%} of {self.units} machines {what}, got {self.units - number}; "
                    f"not so: {names}"
                )
        return ""


def compare(running: Iterable[Prediction], new: Iterable[Prediction], most_examples: int = 5) -> Comparison:
    """Compare answers about the same units, in any order."""
    others = {item.unit: item for item in new if item.unit}
    units = apart = newly_refused = 0
    examples: list[str] = []
    for item in running:
        other = others.get(item.unit)
        if other is None or (item.readings == other.readings == "refused"):
            continue
        units += 1
        if item.readings == "refused":
            continue
        lost = other.readings == "refused"
        far = not lost and not (_is_within(item, other) or _is_within(other, item))
        newly_refused, apart = newly_refused + lost, apart + far
        if (lost or far) and len(examples) < most_examples:
            examples.append(item.unit)
    return Comparison(units, apart, newly_refused, tuple(examples))


def _is_within(item: Prediction, other: Prediction) -> bool:
    return other.low_cycles <= item.rul_cycles <= other.high_cycles or (item.more and other.more)
