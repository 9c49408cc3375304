"""What `compare` reports: every model family on the same windows."""

from __future__ import annotations

from typing import Literal

from twinseal.measures.common import Accuracy, WorstCase
from twinseal.measures.keys import Epsilon, Liars
from twinseal.measures.quantity import Group

FamilyName = Literal["accurate", "robust", "robust-commissioned", "certified-sensors", "certified-units"]


class FamilyMeasures(Group):
    """One family: without an attack, certified within ε, and certified against members that an attacker controls."""

    clean: Accuracy
    certified: dict[Epsilon, WorstCase]
    liars: dict[Liars, WorstCase]


class ComparisonMeasures(Group):
    """By family; a family that cannot be built from these windows is absent."""

    families: dict[FamilyName, FamilyMeasures]
