"""Rounding: how far what float32 computes may lie from what the formulas say, for one network and its windows.

A bound is worth nothing if the twin's own arithmetic leaves it, and whoever makes the weights can make large terms
cancel. So what rounding can do is bounded too, whatever the order in which a library sums (Higham, Accuracy and
Stability of Numerical Algorithms, 2002, section 3.1): the computed `W h + b` with n terms a row lies within
`γ(n) (|W| |h| + |b|)` of the exact one, `γ(n) = n u / (1 - n u)`, u = 2^-24, and an error e of h becomes one of
`|W| e`. Leaky units pass on no more than they get. Networks of honest training: some hundredths of a cycle.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

UNIT = 2.0**-24  # half the distance of 1 to the next float32
EXTRA = 4  # operations on a sum besides its terms: bias, scale, slope below zero


def gamma(terms: int) -> float:
    """γ(n)."""
    return terms * UNIT / (1 - terms * UNIT)


def through_sums(weights: Tensor, largest: Tensor) -> tuple[Tensor, Tensor]:
    """Sums of rows: their largest size and their error.

    Args:
        weights: (F, L) float64; what is 0 is no term.
        largest: (B, L, K) float64, sizes of what is summed, not negative.

    Returns:
        (B, F, K) each.
    """
    sizes = weights.abs() @ largest
    share = torch.tensor([gamma(int(n) + EXTRA) for n in (weights != 0).sum(1)], dtype=torch.float64)
    return sizes, sizes * share[:, None]


def through_layers(layers: Sequence[nn.Linear], sizes: Tensor, errors: Tensor) -> Tensor:
    """The error (B,) of the one output of leaky layers, when their inputs are computed with `errors` (B, W) float64.

    Args:
        layers: Of the perceptron.
        sizes: (B, W) float64, the largest that each input may be, errors aside.
        errors: (B, W) float64.
    """
    for layer in layers:
        weight, bias = layer.weight.detach().double().abs(), layer.bias.detach().double().abs()
        largest = (sizes + errors) @ weight.T + bias
        errors = errors @ weight.T + gamma(weight.shape[1] + EXTRA) * largest
        sizes = largest
    return errors.squeeze(1)


def outward(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Bounds as the next float32 below and above."""
    infinite = torch.tensor(torch.inf)
    return torch.nextafter(low.float(), -infinite), torch.nextafter(high.float(), infinite)
