"""Linear programmes, many at once: max g·u subject to low <= A u <= high.

Solved by ADMM (Stellato et al., OSQP: an Operator Splitting Solver for Quadratic Programs, 2020, algorithm 1). What it
finds keeps the bounds nearly; so much of it is returned as keeps them.

    >>> square = solve(torch.eye(2), -torch.ones(1, 2), torch.ones(1, 2), torch.tensor([[1.0, -0.5]]), steps=2000)
    >>> square.round(decimals=2).tolist()
    [[1.0, -1.0]]
"""

from __future__ import annotations

import torch
from torch import Tensor

RELAXED = 1.6  # OSQP's α
STRICT, LOOSE = 1.0, 1e-6  # OSQP's ρ and σ, for rows of A that were scaled to the same size
SLOPE = 0.0015  # of the way to the bounds, the first step: more of it breaks bounds, less does not arrive


def solve(matrix: Tensor, low: Tensor, high: Tensor, slope: Tensor, *, steps: int) -> Tensor:
    """The variables (…, N, V) after so many steps.

    Args:
        matrix: A, (…, M, V).
        low: (…, N, M), at most 0: no change is allowed.
        high: Likewise, at least 0.
        slope: g, (…, N, V); only its direction counts.
        steps: How many.
    """
    sizes = torch.linalg.vector_norm(matrix, dim=-1).clamp(min=1e-9)  # (…, M): rows of A of the same size
    matrix, low, high = matrix / sizes[..., None], low / sizes[..., None, :], high / sizes[..., None, :]
    gram = (matrix.mT @ matrix).double()
    loose = LOOSE * torch.diagonal(gram, dim1=-2, dim2=-1).mean(-1)[..., None, None]
    inverse = torch.linalg.inv(STRICT * gram + loose * torch.eye(matrix.shape[-1])).float()
    reach = (slope * (slope @ inverse)).sum(-1, keepdim=True).clamp(min=1e-24).sqrt()  # of the first step, in A u
    far = torch.minimum(high, -low).clamp(0, 1e3).square().sum(-1, keepdim=True).sqrt()
    scaled, loose = slope / reach * SLOPE * far, loose.float()
    found, within = torch.zeros_like(slope), torch.clamp(torch.zeros_like(low), low, high)
    push = torch.zeros_like(low)
    for _ in range(steps):
        new = (loose * found + scaled + (STRICT * within - push) @ matrix) @ inverse
        seen = RELAXED * (new @ matrix.mT) + (1 - RELAXED) * within
        found = RELAXED * new + (1 - RELAXED) * found
        within = torch.clamp(seen + push / STRICT, low, high)
        push = push + STRICT * (seen - within)
    moved = found @ matrix.mT
    share = torch.where(moved > 0, high.clamp(min=0) / moved.clamp(min=1e-9), low.clamp(max=0) / moved.clamp(max=-1e-9))
    return found * share.amin(-1, keepdim=True).clamp(max=1.0)
