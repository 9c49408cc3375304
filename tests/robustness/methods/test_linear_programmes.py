"""Linear programmes: bounds are kept, and what is found is nearly the best."""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import linprog

from twinseal.robustness.methods.linear_programmes import solve


def programmes(seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Three programmes of one matrix, with 0 within."""
    rng = np.random.default_rng(seed)
    matrix = np.concatenate([rng.normal(size=(60, 6)), np.eye(6)])
    low, high = -rng.uniform(0.1, 1.0, (3, 66)), rng.uniform(0.1, 1.0, (3, 66))
    return tuple(torch.from_numpy(part).float() for part in (matrix, low, high, rng.normal(size=(3, 6))))  # type: ignore[return-value]


def test_bounds_are_kept_and_most_of_the_best_is_found() -> None:
    for seed in range(3):
        matrix, low, high, slope = programmes(seed)
        found = solve(matrix, low, high, slope, steps=400)
        told = found @ matrix.T
        assert (told <= high + 1e-5).all() and (told >= low - 1e-5).all()
        for at in range(3):
            sides = np.concatenate([matrix, -matrix]), np.concatenate([high[at], -low[at]])
            best = -linprog(-slope[at].numpy(), *sides, bounds=(None, None)).fun
            assert float(found[at] @ slope[at]) >= 0.85 * best


def test_programmes_of_several_matrices_are_as_each_alone() -> None:
    (first, *rest), (second, *more) = programmes(1), programmes(2)
    both = solve(torch.stack([first, second]), *(torch.stack(pair) for pair in zip(rest, more, strict=True)), steps=50)
    assert torch.allclose(both[0], solve(first, *rest, steps=50), atol=1e-4)
    assert torch.allclose(both[1], solve(second, *more, steps=50), atol=1e-4)


def test_where_nothing_may_move_nothing_does() -> None:
    matrix, low, high, slope = programmes(3)
    assert not solve(matrix, 0 * low, 0 * high, slope, steps=30).any()
