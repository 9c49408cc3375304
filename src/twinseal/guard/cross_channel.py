"""What the channels of one machine say about each other, also when some of them are left out.

With Ω the precision of all channels, that of the channels o without f is `Ω_oo - Ω_of Ω_ff⁻¹ Ω_fo`, and what o lead one
to expect of f is `-Ω_ff⁻¹ Ω_fo x_o` (Lauritzen, Graphical Models, 1996, section 5.1.3 and appendix C).

    >>> params = {"precision": ((2.0, -1.0), (-1.0, 2.0)), "thresholds": ((3.0, 3.0),), "spans": (1,)}
    >>> rest = {"wear": (0.1, 0.1), "falls": (1.0,), "stuck_cycles": (9, 9), "widen": 1.0}
    >>> alarms = {"false_alarm_share": 0.01, "measured_false_alarm_share": 0.01}
    >>> others = CrossChannel(GuardParams(**params, **rest, **alarms))
    >>> (np.array([[4.0, 0.0]]) @ others.view(frozenset({1})).expected).tolist()  # what 4 σ say of the second channel
    [[2.0]]
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from twinseal.guard.parameters import Doubles, GuardParams

NOBODY: frozenset[int] = frozenset()
STACKED = 64  # channels, from which on C matrices of C by C are too much to keep


@dataclass(frozen=True, eq=False)
class View:
    """The channels o without some others f.

    Attributes:
        others: (O,), the indices o.
        scaled: (C, C), rows → z, the disagreement of each of o with the rest of o; 0 in the columns of f.
        expected: (C, F), rows → what o lead one to expect of f, in rising order.
    """

    others: NDArray[np.int64]
    scaled: Doubles
    expected: Doubles


class CrossChannel:
    """How far channels disagree, averaged over spans, against what is ordinary.

    Args:
        params: What was learned.
    """

    def __init__(self, params: GuardParams) -> None:
        self._precision, self._thresholds = params.matrix, np.array(params.thresholds)  # (C, C), (S, C)
        self._channels, self._spans = len(self._precision), np.array(params.spans)
        self.view = lru_cache(maxsize=256)(self._view)  # the same channels are implicated again and again
        self._scaled_without_each = lru_cache(maxsize=64)(self._stacked)

    def ratios(self, averages: Doubles, seen: NDArray[np.int64], without: frozenset[int] = NOBODY) -> Doubles:
        """|z| against its threshold, (…, S, C); 0 for who is left out, and for spans longer than what was seen.

        Args:
            averages: (…, S, C), rows in σ averaged over each span.
            seen: (…,), how many rows there were at all.
            without: Channels that are left out.
        """
        z = np.abs(averages @ self.view(without).scaled)
        return np.where((seen[..., None] >= self._spans)[..., None], z / self._thresholds, 0.0)

    def worst_without_each(
        self, averages: Doubles, seen: NDArray[np.int64], without: frozenset[int]
    ) -> tuple[list[int], Doubles]:
        """The channels that are not left out, and for each the largest ratio once it is left out as well, (K,).

        Args:
            averages: (S, C), as `ratios`.
            seen: How many rows there were.
            without: Channels that are left out.
        """
        rest = [i for i in range(self._channels) if i not in without]
        if self._channels > STACKED or not rest:
            return rest, np.array([self.ratios(averages, seen, without | {i}).max() for i in rest])
        ratios = np.abs(averages @ self._scaled_without_each(without)) / self._thresholds  # (K, S, C)
        return rest, np.where(seen >= self._spans, ratios.max(axis=2), 0.0).max(axis=1)

    def _stacked(self, without: frozenset[int]) -> Doubles:
        """`View.scaled` without each of the others as well, (K, C, C)."""
        return np.stack([self.view(without | {i}).scaled for i in range(self._channels) if i not in without])

    def _view(self, without: frozenset[int]) -> View:
        mine = np.array(sorted(without), dtype=np.int64)
        others = np.array([i for i in range(self._channels) if i not in without], dtype=np.int64)
        rest = self._precision[np.ix_(others, others)]
        scaled, expected = np.zeros((self._channels, self._channels)), np.zeros((self._channels, len(mine)))
        if len(mine):
            cross = self._precision[np.ix_(mine, others)]
            weights = np.linalg.solve(self._precision[np.ix_(mine, mine)], cross)  # (F, O)
            rest = rest - cross.T @ weights
            expected[others] = -weights.T
        scaled[np.ix_(others, others)] = rest / np.sqrt(np.diag(rest))
        return View(others, scaled, expected)
