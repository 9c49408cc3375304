"""Splitting: units for training, validation and test. Each unit is assigned by its own name, so none moves another.

Drawn by lot from a list, a unit that is added, or set aside by screening, would deal all others anew, and with them the
parts of a certificate against poisoned units (Levine & Feizi, Deep Partition Aggregation, 2021, section 3.1: where a
sample goes may depend on nothing but the sample).

By its name alone, whoever names a unit would choose where it goes: names can be tried until every poisoned unit is in
another part, or all that validate are one's own. So the name is hashed with a salt that is drawn once the telemetry is
fixed (`trust.signing.split_salt`). All that is left to chance (cuts, folds, first weights) is drawn from the same
salt, each for its own purpose: there is no seed to try.

>>> split_units(["a", "b", "c", "d"], Split(SplitPolicy(validation_share=0.2), "1"), with_test=False)["validation"]
['c']
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import Any, Literal

from twinseal.config import Field, Settings
from twinseal.errors import DataError

# Of 126 units, a tenth is 6 to 19 of them by chance (100 salts); so few as 6 are too few failures to judge by.
LEAST_OF_SHARE = 2 / 3

Purpose = Literal[
    "split", "cuts", "parts", "folds", "weights", "guard", "intervals", "boosting", "windows", "histories", "lives"
]


class SplitPolicy(Settings):
    """policy/evaluation.yaml: how much of a fleet a model is tested on. Whoever trains a model does not choose it.

    Attributes:
        validation_share: Share of the units with a known end that training may not see; at least one unit.
        test_share: Share of them kept for the test, where the fleet has fewer censored units of known RUL than that.
        cuts_per_unit: In that case, at how many cycles each test unit is cut off, drawn at random.
        fleets: By kind of asset, what the section `data` of params.yaml must say at ingest: another part of a data set,
            or another simulated fleet, is another test. What is not named here is the experimenter's to say; an asset
            that is not named has telemetry of its own, whose digest the reviewers see.

    Raises:
        ValueError: A number is out of range.
    """

    validation_share: float = 0.1
    test_share: float = 0.2
    cuts_per_unit: int = 5
    fleets: dict[str, dict[str, Any]] = Field(default_factory=dict)

    def model_post_init(self, _context: Any, /) -> None:
        """Refuse values that no preparation can obey."""
        for name in ("validation_share", "test_share"):
            if not 0 <= getattr(self, name) <= 0.5:
                raise ValueError(f"{name}: expected 0 to 0.5, got {getattr(self, name)}")
        if not 1 <= self.cuts_per_unit <= 1_000:
            raise ValueError(f"cuts_per_unit: expected 1 to 1000, got {self.cuts_per_unit}")


@dataclass(frozen=True)
class Split:
    """How units are divided, and the salt that divides them.

    Attributes:
        policy: The shares.
        salt: Unknown to whoever named the units.

    Raises:
        ValueError: There is no salt: the names alone would decide.
    """

    policy: SplitPolicy
    salt: str

    def __post_init__(self) -> None:
        if not self.salt:
            raise ValueError("split: expected a salt, got none")


def split_units(units: list[str], split: Split, *, with_test: bool) -> dict[str, list[str]]:
    """The names of `units` that are in train, validation and test.

    Each split is about as large as its share, and not much smaller (`LEAST_OF_SHARE`): where chance puts fewer units
    into it, the nearest ones are taken. Only there does it matter which others there are.

    Args:
        units: Their names, each once.
        split: The shares, and the salt.
        with_test: Whether any are tested; else the fleet brings its own.

    Raises:
        DataError: There are too few units.
    """
    if len(units) < 3 + with_test:
        raise DataError(
            f"fleet: expected at least {3 + with_test} units that ran to failure, got {len(units)}",
            remedy="Bring more histories that end in a failure; see data.cmapss.max_units and data.simulated.units.",
        )
    policy = split.policy
    places = {name: _hashed(split.salt, "split", name) / 2**64 for name in units}
    ordered = sorted(units, key=lambda name: (places[name], name))
    drawn = sum(place >= 1 - policy.test_share for place in places.values())
    test = min(max(drawn, _least(policy.test_share, units)), len(units) - 3) if with_test else 0
    drawn = sum(place < policy.validation_share for place in places.values())
    validation = min(max(drawn, _least(policy.validation_share, units)), len(units) - test - 2)
    return {
        "train": sorted(ordered[validation : len(units) - test]),
        "validation": sorted(ordered[:validation]),
        "test": sorted(ordered[len(units) - test :]),
    }


def _least(share: float, units: list[str]) -> int:
    """The fewest of `units` that a split of this share may have."""
    return max(1, math.ceil(LEAST_OF_SHARE * share * len(units)))


def unit_part(unit: str, parts: int, salt: str) -> int:
    """Which of the parts a training unit belongs to: by its own name and the salt, so that no other unit can move it.

    Levine & Feizi, Deep Partition Aggregation, 2021, section 3.1: the assignment must depend on nothing but the sample.
    """
    return _hashed(salt, "parts", unit) % parts


def seed(salt: str, purpose: Purpose) -> int:
    """The seed of what is drawn at random for one purpose, 32 bits."""
    return _hashed(salt, purpose, "") >> 32


def _hashed(salt: str, purpose: Purpose, name: str) -> int:
    """64 bits of a hash of all three. A salt and a purpose have no line breaks, so no two triples are hashed alike."""
    return int.from_bytes(hashlib.sha256(f"{salt}\n{purpose}\n{name}".encode()).digest()[:8], "big")
