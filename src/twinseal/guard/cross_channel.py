"""What the channels of one machine say about each other, with or without some of them.

With Ω the precision of all channels, the precision of the channels o without f is `Ω_oo - Ω_of Ω_ff⁻¹ Ω_fo`, and the
channels o predict f as `-Ω_ff⁻¹ Ω_fo x_o` (Lauritzen, Graphical Models, 1996, section 5.1.3 and appendix C).

    >>> params = {"precision": ((2.0, -1.0), (-1.0, 2.0)), "thresholds": ((3.0, 3.0),), "spans": (1,)}
    >>> rest = {"wear": (0.1, 0.1), "falls": (1.0,), "stuck_cycles": (9, 9), "widen": 1.0}
    >>> alarms = {"false_alarm_share": 0.01, "measured_false_alarm_share": 0.01}
    >>> channels = CrossChannel(GuardParams(**params, **rest, **alarms))
    >>> remaining = channels.leave_out(frozenset({1}))
    >>> (np.array([[4.0, 0.0]]) @ remaining.expected).tolist()  # 4 σ in the first channel predict 2 σ in the second
    [[2.0]]
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from twinseal.guard.parameters import Doubles, GuardParams

NO_CHANNELS: frozenset[int] = frozenset()
MAX_STACKED_CHANNELS = 64  # with more, C matrices of C by C are too much to keep


@dataclass(frozen=True, eq=False)
class RemainingChannels:
    """The channels o that remain when the channels f are left out.

    Attributes:
        channels: (O,), the indices o.
        scaled: (C, C), rows → z, the disagreement of each of o with the rest of o; 0 in the columns of f.
        expected: (C, F), rows → what o predict for f, in order of index.
    """

    channels: NDArray[np.int64]
    scaled: Doubles
    expected: Doubles


class CrossChannel:
    """How far channels disagree, averaged over spans, compared with the learned thresholds.

    Args:
        params: The learned parameters.
    """

    def __init__(self, params: GuardParams) -> None:
        self._precision, self._thresholds = params.matrix, np.array(params.thresholds)  # (C, C), (S, C)
        self._channels, self._spans = len(self._precision), np.array(params.spans)
        self.leave_out = lru_cache(maxsize=256)(self._leave_out)  # the same channels are left out again and again
        self._scaled_without_each = lru_cache(maxsize=64)(self._stack_scaled)

    def ratios(self, averages: Doubles, row_count: NDArray[np.int64], without: frozenset[int] = NO_CHANNELS) -> Doubles:
        """|z| as a share of its threshold, (…, S, C); 0 for channels left out, and for spans longer than the history.

        Args:
            averages: (…, S, C), rows in σ averaged over each span.
            row_count: (…,), how many rows there have been.
            without: Channels that are left out.
        """
        z = np.abs(averages @ self.leave_out(without).scaled)
        return np.where((row_count[..., None] >= self._spans)[..., None], z / self._thresholds, 0.0)

    def worst_without_each(
        self, averages: Doubles, row_count: NDArray[np.int64], without: frozenset[int]
    ) -> tuple[list[int], Doubles]:
        """The channels that are not left out, and for each the largest ratio once it is left out as well, (K,).

        Args:
            averages: (S, C), as in `ratios`.
            row_count: How many rows there have been.
            without: Channels that are left out.
        """
        rest = [i for i in range(self._channels) if i not in without]
        if self._channels > MAX_STACKED_CHANNELS or not rest:
            return rest, np.array([self.ratios(averages, row_count, without | {i}).max() for i in rest])
        ratios = np.abs(averages @ self._scaled_without_each(without)) / self._thresholds  # (K, S, C)
        return rest, np.where(row_count >= self._spans, ratios.max(axis=2), 0.0).max(axis=1)

    def _stack_scaled(self, without: frozenset[int]) -> Doubles:
        """`RemainingChannels.scaled` without each of the remaining channels as well, (K, C, C)."""
        return np.stack([self.leave_out(without | {i}).scaled for i in range(self._channels) if i not in without])

    def _leave_out(self, without: frozenset[int]) -> RemainingChannels:
        left_out = np.array(sorted(without), dtype=np.int64)
        remaining = np.array([i for i in range(self._channels) if i not in without], dtype=np.int64)
        rest = self._precision[np.ix_(remaining, remaining)]
        scaled, expected = np.zeros((self._channels, self._channels)), np.zeros((self._channels, len(left_out)))
        if len(left_out):
            cross = self._precision[np.ix_(left_out, remaining)]
            weights = np.linalg.solve(self._precision[np.ix_(left_out, left_out)], cross)  # (F, O)
            rest = rest - cross.T @ weights
            expected[remaining] = -weights.T
        scaled[np.ix_(remaining, remaining)] = rest / np.sqrt(np.diag(rest))
        return RemainingChannels(remaining, scaled, expected)
