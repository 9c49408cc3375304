"""Square attack: black box. The attacker can only query the target, and queries are counted.

Random search with blocks (Andriushchenko et al., Square Attack: a query-efficient black-box adversarial attack via
random search, 2020, algorithm 1): start at a random corner of the box, one sign for each sensor; then repeatedly set a
block of neighbouring rows of one sensor to one end of its box, and keep the change if it helps. Blocks become smaller
with the number of queries. No gradient is needed, so it works on any target: boosted trees, a rounded answer, a network
whose gradient vanishes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from twinseal.robustness.methods.gradient import AttackResult, Box, further
from twinseal.robustness.target import Floats, Target, everyone
from twinseal.robustness.threats import Aim


def search(target: Target, x: Floats, y: Floats, box: Box, aim: Aim, *, queries: int, seed: int) -> AttackResult:
    """What so many questions find out.

    Args:
        target: Anything that answers.
        x: (N, L, C) float32 windows.
        y: (N,) float32, true RUL in cycles.
        box: Where readings may be moved.
        aim: any (half of the questions go up, half down), healthy-washing (all go up).
        queries: Questions about each window, at least 2.
        seed: Of the blocks.
    """
    windows = torch.from_numpy(x)
    if aim == "healthy-washing":
        return _push(target, windows, box, (1.0,), queries, seed)[0]
    up, down = _push(target, windows, box, (1.0, -1.0), queries // 2, seed)
    return further(up, down, y, aim)


def _push(
    target: Target, x: Tensor, box: Box, signs: tuple[float, ...], queries: int, seed: int
) -> tuple[AttackResult, ...]:
    """Each way by itself, but with the same blocks: so all are asked about at once."""
    generator, times = torch.Generator().manual_seed(seed), len(signs)
    (count, rows, channels), at = x.shape, everyone(x).repeat(times)
    low, high, sign = (
        box.low.repeat(times, 1, 1),
        box.high.repeat(times, 1, 1),
        torch.tensor(signs).repeat_interleave(count),
    )

    def draw(high: int) -> Tensor:
        return torch.randint(high, (count,), generator=generator).repeat(times)

    with torch.no_grad():
        kept = x.repeat(times, 1, 1)
        best = target(kept, at) * sign
        corner = (torch.rand((count, 1, channels), generator=generator) < 0.5).repeat(times, 1, 1)
        tried = torch.where(corner, low, high)
        block: tuple[slice | Tensor, ...] = (slice(None),)
        for asked in range(1, queries):
            value = target(tried, at) * sign
            better = value > best
            best = torch.where(better, value, best)
            shown = better.view(-1, *[1] * (tried[block].ndim - 1))
            kept[block] = tried[block] = torch.where(shown, tried[block], kept[block])  # else as before
            length = max(1, round(rows * (1 - asked / queries) ** 2))
            begin, channel, end = draw(rows - length + 1), draw(channels), draw(2).bool()
            block = (torch.arange(len(at))[:, None], begin[:, None] + torch.arange(length), channel[:, None])  # (N, B)
            tried[block] = torch.where(end[:, None], low[block], high[block])
    parts = zip(torch.split(best * sign, count), torch.split(kept, count), strict=True)
    return tuple(AttackResult(estimate.numpy(), version.numpy(), queries) for estimate, version in parts)
