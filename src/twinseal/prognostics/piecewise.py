"""Sums of absolute values over a window, of maps that are linear in time piece by piece: without going row by row.

What an attacker of every reading can do to a sum of means and slopes is `ε Σ |w @ front_end|`, over a hundred rows and
all channels. A row of the front end, the weights of one mean or slope in time, is zero at first and then a line. So a
sum of such rows is a line in each of a few pieces, and the absolute values along a line have closed sums.

    >>> front_end = torch.tensor([[0.0, 0.0, 0.5, 0.5], [-3.0, -1.0, 1.0, 3.0]], dtype=torch.float64)
    >>> pieces = PiecewiseLinear.of(front_end)
    >>> pieces.sums(torch.tensor([[2.0, 1.0]], dtype=torch.float64)).item()  # |-3| + |-1| + |2| + |4|
    10.0
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class PiecewiseLinear:
    """F functions of time, (F, L), as P pieces in which each is `begin[f, p] + slope[f, p]·j` in the j-th row.

    Attributes:
        begin: (F, P).
        slope: (F, P).
        rows: (P,), how many rows each piece has.
        rest: (F,), Σ over time of how far a function lies from its lines: what rounding left when it was made.
    """

    begin: Tensor
    slope: Tensor
    rows: Tensor
    rest: Tensor

    @classmethod
    def of(cls, functions: Tensor) -> PiecewiseLinear:
        """The pieces of functions (F, L) that are 0 at first and then a line; a piece begins where one of them does."""
        length, exact = functions.shape[1], functions.double()
        starts = sorted({0, *(functions != 0).int().argmax(dim=1).tolist()})
        rows = torch.tensor([after - before for before, after in pairwise([*starts, length])], dtype=torch.float64)
        last = torch.tensor([*starts[1:], length]) - 1
        begin = exact[:, starts]
        slope = (exact[:, last] - begin) / (rows - 1).clamp(min=1)
        pieces = torch.repeat_interleave(torch.arange(len(starts)), rows.long())
        lines = begin[:, pieces] + slope[:, pieces] * (torch.arange(length) - torch.tensor(starts)[pieces])
        parts = (begin, slope, rows, (exact - lines).abs().sum(1))
        return cls(*(part.to(functions.dtype) for part in parts))

    def sums(self, weights: Tensor) -> Tensor:
        """`(weights @ functions).abs()` summed over time, (…), for weights (…, F); or more, by rounding, never less."""
        return self._signed(weights)[0].abs().sum(-1) + weights.abs() @ self.rest

    def sums_and_gradient(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """For weights (…, I, F): the sums, added up over I, (…), without `rest`; and their gradient (…, I, F)."""
        total, by_begin, by_slope = self._signed(weights)
        sign = torch.where(total < 0, -1.0, 1.0)
        return total.abs().sum((-2, -1)), (sign * by_begin) @ self.begin.T + (sign * by_slope) @ self.slope.T

    def _signed(self, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Each piece's sum but for its sign, (…, P), and its derivatives by where the line begins and by its slope.

        The line `a + b·j` changes its sign once at most: the rows before that, `turn` of them, count with one sign, the
        others with the other one.
        """
        a, b, rows = weights @ self.begin, weights @ self.slope, self.rows
        crossing = -a / b  # NaN where nothing is asked for: then there is no turn
        turn = torch.where(crossing > 0, crossing.ceil().minimum(rows), rows)
        by_begin, by_slope = 2 * turn - rows, turn * (turn - 1) - rows * (rows - 1) / 2
        return a * by_begin + b * by_slope, by_begin, by_slope
