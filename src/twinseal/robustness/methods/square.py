"""Black box: an attacker who can only ask, and counts his questions.

Random search with blocks, after Square Attack (Andriushchenko et al., Square AttackResult: a query-efficient black-box
adversarial attack via random search, 2020, algorithm 1): start at a random corner of the box, one sign for each sensor,
then again and again set a block of neighbouring rows of one sensor to one end of its box, and keep what helps. Blocks
shrink as questions are used up. No gradient is needed, so it works on anything: a boosting of trees, a rounded answer,
a network whose gradient vanishes.
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
        return _pushed(target, windows, box, 1.0, queries, seed)
    up, down = (_pushed(target, windows, box, sign, queries // 2, seed) for sign in (1.0, -1.0))
    return further(up, down, y, aim)


def _pushed(target: Target, x: Tensor, box: Box, sign: float, queries: int, seed: int) -> AttackResult:
    generator, at = torch.Generator().manual_seed(seed), everyone(x)
    count, rows, channels = x.shape

    def draw(high: int) -> Tensor:
        return torch.randint(high, (count,), generator=generator)

    with torch.no_grad():
        best, kept = target(x, at) * sign, x.clone()
        corner = torch.rand((count, 1, channels), generator=generator) < 0.5
        evaluation_set = torch.where(corner, box.low, box.high)
        for asked in range(1, queries):
            value = target(evaluation_set, at) * sign
            better = value > best
            best, kept = torch.where(better, value, best), torch.where(better[:, None, None], evaluation_set, kept)
            length = max(1, round(rows * (1 - asked / queries) ** 2))
            begin, channel, end = draw(rows - length + 1), draw(channels), draw(2).bool()
            row = torch.arange(rows)
            inside = (row >= begin[:, None]) & (row < begin[:, None] + length)  # (N, L)
            block = inside[:, :, None] & (torch.arange(channels) == channel[:, None, None])  # (N, L, C)
            evaluation_set = torch.where(block, torch.where(end[:, None, None], box.low, box.high), kept)
    return AttackResult((best * sign).numpy(), kept.numpy(), queries)
