"""Certificates of a median: the highest and lowest value it can have if an attacker controls r of its members.

An attacker controls a member by controlling one of the sensors that it reads (members on disjoint sensors: a
liar's sensors are those of one group), or by writing the history of a unit that it learned from (members on
disjoint units: Levine & Feizi, Deep Partition Aggregation: Provable Defense against General Poisoning Attacks, 2021;
here with a median in place of a vote). The other members say what they would have said anyway: a unit is assigned to
training, and to its part, by its own name; each part is normalised by its own units, and is fitted from them, the
contract and the seed alone. What all units do have a hand in is the scale in which the twin hands rows to the members;
each undoes it, but for the rounding of float32, for which every bound is widened by ROUNDING_CYCLES.

Let e(0) ≤ … ≤ e(M-1) be what the members say, and the estimate the mean of the two in the middle, e(p) and e(q) with
p = (M-1) // 2 and q = M // 2 (for odd M they are one). Replace any r values by anything: a value of rank k among
those left has rank at least k - r and at most k + r among the new ones, so the new e(p) is at least e(p-r) and at
most e(p+r), e(q) likewise, and both are attained, by replacing the r highest by -∞, or the r lowest by +∞. Hence

    highest = (e(p+r) + e(q+r)) / 2        lowest = (e(p-r) + e(q-r)) / 2

and no bound at all once q + r ≥ M: half of the members decide anything. Where the members that are left may also be
moved within bounds of their own, the same holds with their highest (lowest) values in place of e: medians grow with
each value.

    >>> highest(np.array([[1.0], [2.0], [3.0], [4.0], [50.0]]), 1)
    array([4.])
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinseal.measures.common import WorstCase
from twinseal.measures.keys import Liars, liars_key
from twinseal.prognostics.ensemble import Ensemble
from twinseal.prognostics.evaluation import estimates
from twinseal.prognostics.evaluation_set import EvaluationSet
from twinseal.prognostics.metrics import FAILING_CYCLES, HEALTHY_CYCLES

Floats = NDArray[np.floating[Any]]

ROUNDING_CYCLES = 0.05


def highest(estimates: Floats, liars: int) -> Floats:
    """The most that the median can be made, (N,), when any `liars` members say anything.

    Args:
        estimates: (M, N), what each member says, or the most that it may be made to say.
        liars: r, from 0.

    Returns:
        (N,); +∞ where half of the members or more are in the attacker's hand.

    Raises:
        ValueError: There are no members, or fewer liars than none.
    """
    members = len(estimates)
    if estimates.ndim != 2 or not members or liars < 0:
        raise ValueError(f"certificate: expected estimates (M, N) and liars >= 0, got {estimates.shape} and {liars}")
    low, high = (members - 1) // 2 + liars, members // 2 + liars
    if high >= members:
        return np.full(estimates.shape[1], np.inf)
    ordered = np.sort(estimates, axis=0)
    return np.asarray((ordered[low] + ordered[high]) / 2)


def lowest(estimates: Floats, liars: int) -> Floats:
    """The least that the median can be made, (N,); -∞ where nothing binds it. As `highest`."""
    return -highest(-estimates, liars)


def certify(evaluation_set: EvaluationSet, lows: Floats, highs: Floats, liars: int, *, cap_cycles: float) -> WorstCase:
    """The worst that `liars` members can do to the estimates; measures as `EvaluationSet.worst_case`.

    The twin answers between 0 and the cap, so a member that says less or more says no more than these.

    Args:
        evaluation_set: The windows.
        lows: (M, N) cycles, the least that each member may be made to say without being in the attacker's hand.
        highs: (M, N) cycles, the most; the same as `lows` where nobody moves the others.
        liars: r.
        cap_cycles: The longest life that is ever stated.
    """
    slack = ROUNDING_CYCLES
    ends = (lowest(lows, liars) - slack, highest(highs, liars) + slack)
    low, high = (np.clip(end, 0.0, cap_cycles) for end in ends)
    return evaluation_set.worst_case(low.astype(np.float32), high.astype(np.float32))


def tolerated_liars(highs: Floats, truth: Floats) -> NDArray[np.int64]:
    """For each window, how many members may lie before a failing machine can be called healthy, (N,).

    -1 where it is called so by all honest members, and for windows of machines that are not failing: nothing is missed.

    Args:
        highs: (M, N) cycles, as in `certify`.
        truth: (N,) cycles.
    """
    most = len(highs) // 2 + 1
    called_healthy = np.stack([highest(highs, liars) > HEALTHY_CYCLES for liars in range(most + 1)])  # (R, N)
    return np.where(truth <= FAILING_CYCLES, called_healthy.argmax(axis=0) - 1, -1).astype(np.int64)


def certificates(ensemble: Ensemble, evaluation_set: EvaluationSet) -> dict[Liars, WorstCase]:
    """Every certificate that a median of networks has on an evaluation set: by liars-0, liars-1, …; nothing for a mean.

    liars-0 is what the median says with nobody lying.
    """
    if ensemble.config.aggregation != "median":
        return {}
    each = np.stack([estimates(member, evaluation_set.windows) for member in ensemble.networks])
    cap = ensemble.config.rul_cap_cycles
    return {
        liars_key(liars): certify(evaluation_set, each, each, liars, cap_cycles=cap)
        for liars in range((len(each) - 1) // 2 + 1)
    }
