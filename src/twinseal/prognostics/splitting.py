"""Splitting: units for training, validation and test. Each unit is assigned by its own name, so none moves another.

Drawn by lot from a list, a unit that is added, or set aside by screening, would deal all others anew, and with them the
parts of a certificate against poisoned units (Levine & Feizi, Deep Partition Aggregation, 2021, section 3.1: where a
sample goes may depend on nothing but the sample).

>>> split_units(["a", "b", "c", "d"], 0.2, 0.0, with_test=False, seed=1)["validation"]
['b', 'd']
"""

from __future__ import annotations

import hashlib

from twinseal.errors import DataError


def split_units(
    units: list[str], validation_share: float, test_share: float, *, with_test: bool, seed: int
) -> dict[str, list[str]]:
    """The names of `units` that are in train, validation and test.

    Each split is about as large as its share. None is empty: of few units the nearest one is taken, and only there does
    it matter which others there are.

    Args:
        units: Their names, each once.
        validation_share: 0 to 0.5.
        test_share: Likewise.
        with_test: Whether any are tested; else the fleet brings its own.
        seed: Another one, another split.

    Raises:
        DataError: There are too few units.
    """
    if len(units) < 3 + with_test:
        raise DataError(
            f"fleet: expected at least {3 + with_test} units that ran to failure, got {len(units)}",
            remedy="Bring more histories that end in a failure; see data.cmapss.max_units and data.simulated.units.",
        )
    places = {name: _place(name, seed) for name in units}
    ordered = sorted(units, key=lambda name: (places[name], name))
    test = max(1, sum(place >= 1 - test_share for place in places.values())) if with_test else 0
    test = min(test, len(units) - 3)
    validation = max(1, sum(place < validation_share for place in places.values()))
    validation = min(validation, len(units) - test - 2)
    return {
        "train": sorted(ordered[validation : len(units) - test]),
        "validation": sorted(ordered[:validation]),
        "test": sorted(ordered[len(units) - test :]),
    }


def _place(name: str, seed: int) -> float:
    """Where a unit stands between 0 and 1."""
    return int.from_bytes(hashlib.sha256(f"{seed}\n{name}".encode()).digest()[:8], "big") / 2**64
