"""Statistics over units that a few bad units cannot move far: everything that is learnt from a fleet is made of these.

Each unit contributes one number (its σ², the quantile of its deviations, its age at the end), however long its history
is. What is learnt is a winsorised mean or an order statistic of these numbers: the t largest and the t smallest count
as the next ones do (Tukey 1962; Huber & Ronchetti, Robust Statistics, 2009, section 3.3). So up to t units that say
anything at all move the result no further than to what it would be with t fewer on one side: a finite bound, which
`reach` computes exactly. A plain mean, maximum, or quantile of rows has none: one unit moves it anywhere.

    >>> ages = np.arange(150.0, 175.0)
    >>> float(largest(ages)), float(largest(np.append(ages[:-1], 9_999.0)))
    (173.0, 173.0)
    >>> low, high = reach(largest, ages, 1)
    >>> float(low), float(high)
    (172.0, 174.0)
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]

MOST_BAD = 3
"""Units that may be bad at the same time: what the bounds in the report are stated for."""


def tolerated(units: int) -> int:
    """How many of so many units may be bad without deciding what is learnt: MOST_BAD of 80 or more, fewer of fewer.

    With more left out of few units, thresholds would be set without the healthy machines that deviate most.

    >>> [tolerated(n) for n in (19, 20, 50, 80, 1_000)]
    [0, 1, 2, 3, 3]
    """
    return min(MOST_BAD, (units + 10) // 30)


def winsorised_mean(values: Doubles, trimmed: int | None = None) -> Doubles:
    """The mean over units of values (U, …), the t highest and the t lowest replaced by the next ones, (…).

    A unit without a value (NaN) has no vote. NaN where no unit has one.

    Args:
        values: By unit.
        trimmed: t; left out, what so many units tolerate. Part of a fleet may hold all bad units of the whole.
    """
    known = np.sum(~np.isnan(values), axis=0)  # (…)
    most = np.minimum(MOST_BAD, (known + 10) // 30) if trimmed is None else trimmed  # as `tolerated`
    most = np.minimum(most, np.maximum(0, known - 1) // 2)
    ordered = np.sort(values, axis=0)  # NaN last
    place = np.arange(len(values)).reshape(-1, *(1,) * (values.ndim - 1))
    kept = np.take_along_axis(ordered, np.clip(place, most, np.maximum(known - 1 - most, 0)), axis=0)
    total = np.where(place < known, kept, 0.0).sum(axis=0)
    return np.asarray(total / np.where(known > 0, known, np.nan))


def largest(values: Doubles, trimmed: int | None = None) -> Doubles:
    """The largest over units of values (U, …), the t largest left out, (…); t as in `winsorised_mean`."""
    most = tolerated(len(values)) if trimmed is None else trimmed
    return np.asarray(np.sort(values, axis=0)[max(0, len(values) - 1 - most)])


def median(values: Doubles) -> Doubles:
    """The median over units of values (U, …) that has a unit's own value, (…): r bad units move it by r places."""
    return np.asarray(np.sort(values, axis=0)[len(values) // 2])


def clipped_weights(sizes: Doubles, trimmed: int | None = None) -> Doubles:
    """For each unit (U,) the weight, at most 1, with which no contribution is larger than the t-th but largest one.

    What a unit adds to a sum of matrices is bounded by this, and the sum stays positive semidefinite. t as in
    `winsorised_mean`.
    """
    bound = largest(sizes, trimmed)
    return np.asarray(np.where(sizes > bound, bound / np.where(sizes > 0, sizes, 1.0), 1.0))


def reach(statistic: Callable[[Doubles], Doubles], values: Doubles, bad: int) -> tuple[Doubles, Doubles]:
    """The lowest and the highest that a statistic can be with `bad` of the units (U, …) replaced by anything.

    Read the other way: if `bad` of these units are bad, what the others would have given lies between these two.

    Args:
        statistic: Rises, or stays, with each of the values.
        values: By unit.
        bad: How many; beyond `tolerated` the bounds are infinite.
    """
    ordered = np.sort(values, axis=0)  # NaN last: a unit without a value
    known = np.sum(~np.isnan(values), axis=0)
    place = np.arange(len(values)).reshape(-1, *(1,) * (values.ndim - 1))
    low = np.where((place >= known - bad) & (place < known), -np.inf, ordered)
    return statistic(low), statistic(np.where(place < np.minimum(bad, known), np.inf, ordered))
