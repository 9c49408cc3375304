"""What `prepare` reports: how many windows of how many units each split has."""

from __future__ import annotations

from twinseal.measures.quantity import Group, quantity


class SplitMeasures(Group):
    """The size of one split."""

    windows: int = quantity("windows", "windows", "larger")
    units: int = quantity("units", "units", "larger")


class PreparationMeasures(Group):
    """The size of each split."""

    train: SplitMeasures
    validation: SplitMeasures
    test: SplitMeasures
