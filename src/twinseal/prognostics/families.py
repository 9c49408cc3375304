"""The model families: what a model is built for. params.yaml chooses one, policy/gates.yaml says what each must reach.

    accurate    the least error, no defence
    robust      hardened against small changes of every reading
    certified   a median that few liars cannot move: of networks on disjoint sensors, or on disjoint training units

A module of its own, and light: gates are judged where no network is.
"""

from typing import Literal, get_args

Family = Literal["accurate", "robust", "certified"]
FAMILIES: tuple[Family, ...] = get_args(Family)
WITH_BASELINE: tuple[Family, ...] = ("robust",)  # with a second ensemble that reads a unit's baseline record
MEDIANS: tuple[Family, ...] = ("certified",)  # whose members' answers are joined by their median
