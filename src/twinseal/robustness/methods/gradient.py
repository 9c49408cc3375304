"""Gradient attacks on a regressor, all windows at once, for what ART does not offer for regressors.

They change every reading within its box so that the estimate rises, or falls.

    plain      fixed steps from the window itself: BIM (Kurakin 2017) and PGD (Madry 2018) as ART has them, see `ascend`
    strong     several starts, momentum, and steps that are halved where nothing is gained any more: APGD (Croce & Hein,
               Reliable Evaluation of Adversarial Robustness with an Ensemble of Diverse Parameter-free Attacks, 2020,
               algorithm 1, with f itself as the objective)

A box has a lowest and a highest value for each reading. An ε-box lies around the window; for a controlled sensor the
box is its whole physical range. The worst version of each window is kept, and the unchanged window is one of them, so
no attack improves the estimate. The aim `any` raises and lowers the estimate, and keeps the result with the larger
error.

Only the starts are random, and they come from the seed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from twinseal.robustness.target import Floats, Target, everyone
from twinseal.robustness.threats import Aim

MOMENTUM = 0.75  # Croce & Hein's α
PROGRESS = 0.75  # share of steps that must gain, or the step is halved: their ρ


@dataclass(frozen=True, eq=False)
class Box:
    """Where each reading may be moved.

    Attributes:
        low: (N, L, C) float32, σ.
        high: Likewise, nowhere below `low`.
    """

    low: Tensor
    high: Tensor

    @classmethod
    def around(cls, x: Tensor, epsilon: float | Tensor) -> Box:
        """Every reading of `x` (N, L, C) by up to ε, one for all or a tensor that broadcasts."""
        return cls(x - epsilon, x + epsilon)

    def only(self, x: Tensor, chosen: Tensor) -> Box:
        """Of this box only the readings `chosen` (bool, broadcasts to x); the others stay as they are in `x`."""
        return Box(torch.where(chosen, self.low, x), torch.where(chosen, self.high, x))


@dataclass(frozen=True, eq=False)
class AttackResult:
    """The result of an attack.

    Attributes:
        estimates: (N,) float32, cycles, of the versions that it chose.
        changed: (N, L, C) float32, σ, those versions.
        queries: How often the target was asked about each window.
    """

    estimates: Floats
    changed: Floats
    queries: int


def ascend(target: Target, x: Tensor, direction: Tensor, epsilon: float, *, steps: int, step: float) -> Tensor:
    """Plain steps of a sign gradient in an ε-box, from `x` itself; what ART's BIM and PGD do.

    Args:
        target: Differentiable.
        x: (N, L, C) float32 windows.
        direction: (N,) float32: above 0 climbs, below 0 descends.
        epsilon: ε, σ.
        steps: How many.
        step: Length of each, σ.

    Returns:
        (N, L, C) float32, the last version of each window.
    """
    at, moved = everyone(x), x.clone()
    low, high = x - epsilon, x + epsilon
    for _ in range(steps):
        moved.add_(_gradient(target, moved, at, direction)[0].sign_(), alpha=step)
        torch.clamp(moved, low, high, out=moved)
    return moved


def climb(
    target: Target,
    x: Tensor,
    box: Box,
    direction: Tensor,
    *,
    steps: int,
    restarts: int = 1,
    seed: int = 0,
) -> tuple[Tensor, Tensor]:
    """The best version of each window that a strong attack finds in a box.

    Args:
        target: Differentiable.
        x: (N, L, C) float32 windows.
        box: Where readings may be moved.
        direction: (N,) float32: +1 climbs, -1 descends.
        steps: Of each start.
        restarts: Starts; the first is the window itself, the others are random corners of the box.
        seed: Of the corners.

    Returns:
        The objective of the best versions (N,), and those versions (N, L, C) float32.
    """
    at, generator = everyone(x), torch.Generator().manual_seed(seed)

    def objective(moved: Tensor) -> Tensor:
        return target(moved, at) * direction

    with torch.no_grad():
        best, kept = objective(x).clone(), x.clone()
    for start in range(restarts):
        begun = x if start == 0 else torch.where(torch.rand(x.shape, generator=generator) < 0.5, box.low, box.high)
        value, version = _apgd(objective, begun, box, steps)
        better = value > best
        best, kept = torch.where(better, value, best), torch.where(better[:, None, None], version, kept)
    return best, kept


def attack(
    target: Target,
    x: Floats,
    y: Floats,
    box: Box,
    aim: Aim,
    *,
    steps: int,
    restarts: int = 1,
    seed: int = 0,
    ascent: tuple[Tensor, Tensor] | None = None,
) -> AttackResult:
    """A strong attack by aim: up, or up and down and whichever is further from the truth.

    Args:
        target: Differentiable.
        x: (N, L, C) float32 windows.
        y: (N,) float32, true RUL in cycles.
        box: Where readings may be moved.
        aim: any, healthy-washing.
        steps: Of each start.
        restarts: Starts.
        seed: Of all starts but the first.
        ascent: What `climb` gave upwards in the same box with the same steps, starts and seed: aims share it.
    """
    windows, up = torch.from_numpy(x), torch.ones(len(x))
    high, versions = ascent or climb(target, windows, box, up, steps=steps, restarts=restarts, seed=seed)
    queries = 1 + restarts * (steps + 1)
    if aim == "healthy-washing":
        return AttackResult(high.numpy(), versions.numpy(), queries)
    low, lower = climb(target, windows, box, -up, steps=steps, restarts=restarts, seed=seed)
    down = (-low - torch.from_numpy(y)).abs() > (high - torch.from_numpy(y)).abs()
    chosen = torch.where(down[:, None, None], lower, versions)
    return AttackResult(torch.where(down, -low, high).numpy(), chosen.numpy(), 2 * queries)


def further(first: AttackResult, second: AttackResult, y: Floats, aim: Aim) -> AttackResult:
    """Of two attacks on the same windows, for each window the one that did more by the aim."""
    gain = _harm(second.estimates, y, aim) > _harm(first.estimates, y, aim)
    return AttackResult(
        np.where(gain, second.estimates, first.estimates),
        np.where(gain[:, None, None], second.changed, first.changed),
        first.queries + second.queries,
    )


def _harm(estimates: Floats, y: Floats, aim: Aim) -> NDArray[np.float32]:
    return np.abs(estimates - y) if aim == "any" else estimates


def _gradient(target: Target, x: Tensor, at: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
    """The gradient of the estimates along `direction` at each reading, and the estimates."""
    reading = x.detach().requires_grad_()
    said = target(reading, at)
    (gradient,) = torch.autograd.grad((said * direction).sum(), reading)
    return gradient, said.detach()


def _apgd(objective: Callable[[Tensor], Tensor], begun: Tensor, box: Box, steps: int) -> tuple[Tensor, Tensor]:
    """Best value (N,) and version (N, L, C) from one start; steps as in Croce & Hein's algorithm 1."""
    half, size = (box.high - box.low) / 2, torch.ones(len(begun))  # size: of each window's step, in half widths
    last = now = begun
    best, kept = torch.full((len(begun),), -torch.inf), begun
    before, gains, since, checkpoint = best, torch.zeros(len(begun)), 0, max(1, round(0.22 * steps))
    for step in range(steps + 1):
        reading = now.detach().requires_grad_()
        value = objective(reading)
        found = value.detach()
        gained, better = found > before, found > best
        if better.any():  # few windows, mostly: a copy of those alone
            best, kept = torch.where(better, found, best), kept.clone() if kept is begun else kept
            kept[better] = now[better]
        if step == steps:
            break
        (gradient,) = torch.autograd.grad(value.sum(), reading)
        gains, since, before = gains + gained, since + 1, found
        if since >= checkpoint:  # too few gains: halve, and go on from the best
            stuck = gains < PROGRESS * since
            size = torch.where(stuck, size / 2, size)
            now = torch.where(stuck[:, None, None], kept, now)
            gains, since, checkpoint = (
                torch.zeros(len(begun)),
                0,
                max(round(0.06 * steps), checkpoint - round(0.03 * steps), 1),
            )
        moved = gradient.sign_().mul_(half).mul_(size[:, None, None]).add_(now)
        torch.clamp(moved, box.low, box.high, out=moved)
        if step:  # now + α (moved - now) + (1 - α) (now - last)
            moved.sub_(now).mul_(MOMENTUM).add_(now).add_((now - last).mul_(1 - MOMENTUM))
            torch.clamp(moved, box.low, box.high, out=moved)
        last, now = now, moved
    return best, kept
