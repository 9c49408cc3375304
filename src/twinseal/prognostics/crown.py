"""Linear bounds through a perceptron: tighter than intervals, and as sound.

Intervals forget that two units move together; linear bounds do not. Going backward from the output, each leaky unit
that may be on or off is replaced by two lines that enclose it (Zhang et al., Efficient Neural Network Robustness
Certification with General Activation Functions, CROWN, 2018, eq. 3 to 5, theorem 3.2), until the output is bounded by
an affine map of the readings, whose extremes over a box are exact. The bounds of the hidden layers are made in the same
way, layer after layer, and each is the tighter of the linear bound and the interval (Gowal et al. 2018, eq. 6).

For a unit with slope a below zero and pre-activation between l < 0 < u:

    above:  s·z + t    with s = (u - a·l) / (u - l), t = (a - s)·l          the chord
    below:  α·z        with α = 1 if u > -l, else a                         any α of [a, 1] holds; this one is nearer

Everything is done in float64, so that rounding is far below what `rounding` allows for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

Layer = tuple[Tensor, Tensor]
Box = tuple[Tensor, Tensor]
Reach = Callable[[Tensor], Tensor]
LARGEST = 1_024  # units of a hidden layer; above, intervals only: the linear bounds would take its square times D
_CHUNK_BYTES = 64 << 20


def crown(layers: Sequence[Layer], centre: Tensor, *, leak: float, through: Tensor, epsilon: Tensor) -> Box:
    """Bounds of the one output of a perceptron whose first layer's pre-activations are `centre + through @ δ`, |δ| ≤ ε.

    Args:
        layers: Weight (O, H) and bias (O,) of each affine layer after the first; leaky units stand before each of
            them. The last one has one output.
        centre: (B, H) pre-activations of the first layer, unmoved.
        leak: Slope of the units below zero, 0 to 1.
        through: (H, D), the affine map from what the attacker moves to the first layer.
        epsilon: (D,), by how much each may be moved, not negative.

    Returns:
        Lowest and highest output, (B,) each, of the type of `centre`.
    """
    moved, reach = through.detach().double(), epsilon.double()
    return crown_within(layers, centre, leak=leak, reach=lambda slopes: (slopes @ moved).abs() @ reach)


def crown_within(layers: Sequence[Layer], centre: Tensor, *, leak: float, reach: Reach) -> Box:
    """As `crown`, for any set of changes of which `reach` is known.

    Args:
        layers: As `crown`.
        centre: As `crown`.
        leak: As `crown`.
        reach: Slopes (…, H) float64 of linear functions of the first layer → by how much the attacker can raise each,
            (…); each can be lowered by as much.
    """
    stack = [(weight.detach().double(), bias.detach().double()) for weight, bias in layers]
    wide = max(centre.shape[1], *(len(bias) for _, bias in stack))
    size = max(1, _CHUNK_BYTES // (8 * wide * wide * 4))
    parts = [_bounds(stack, part, leak, reach) for part in torch.split(centre.detach().double(), size)]
    low, high = (
        (torch.cat([part[side] for part in parts]) for side in (0, 1)) if parts else (centre[:, 0], centre[:, 0])
    )
    return low.to(centre.dtype), high.to(centre.dtype)


def _bounds(stack: list[Layer], centre: Tensor, leak: float, reach: Reach) -> Box:
    radius = reach(torch.eye(centre.shape[1], dtype=centre.dtype))
    boxes = [(centre - radius, centre + radius)]  # of each hidden layer's pre-activations, (B, H)
    for depth, (weight, bias) in enumerate(stack, start=1):
        low, high = _interval(boxes[-1], weight, bias, leak)
        if max(len(bias), *(box[0].shape[1] for box in boxes)) <= LARGEST:
            lower, upper = (_linear(stack[:depth], boxes, centre, leak, reach, sign) for sign in (1.0, -1.0))
            low, high = torch.maximum(low, lower), torch.minimum(high, -upper)
        boxes.append((low, high))
    low, high = boxes[-1]
    return low.squeeze(1), high.squeeze(1)


def _interval(box: Box, weight: Tensor, bias: Tensor, leak: float) -> Box:
    low, high = (nn.functional.leaky_relu(side, leak) for side in box)
    centre, radius = nn.functional.linear((low + high) / 2, weight, bias), (high - low) / 2 @ weight.abs().T
    return centre - radius, centre + radius


def _linear(stack: list[Layer], boxes: list[Box], centre: Tensor, leak: float, reach: Reach, sign: float) -> Tensor:
    """A lower bound (B, O) of `sign` times the last layer of `stack`."""
    weight, bias = stack[-1]
    slopes = (sign * weight).expand(len(centre), *weight.shape)  # (B, O, H): of the units under the layer at hand
    constant = (sign * bias).expand(len(centre), len(bias))
    for depth in reversed(range(len(stack))):
        below, above, offset = _lines(*boxes[depth], leak)
        positive, negative = slopes.clamp(min=0), slopes.clamp(max=0)
        constant = constant + (negative * offset[:, None]).sum(2)
        slopes = positive * below[:, None] + negative * above[:, None]  # now of the pre-activations
        if depth:
            weight, bias = stack[depth - 1]
            constant = constant + slopes @ bias
            slopes = slopes @ weight
    return constant + (slopes * centre[:, None]).sum(2) - reach(slopes)


def _lines(low: Tensor, high: Tensor, leak: float) -> tuple[Tensor, Tensor, Tensor]:
    """Slopes of the line below and of the chord above a unit between two pre-activations, and the chord's offset."""
    on, off = low >= 0, high <= 0
    width = torch.where(on | off, torch.ones_like(low), high - low)
    chord = torch.where(on, 1.0, torch.where(off, leak, (high - leak * low) / width))
    offset = torch.where(on | off, 0.0, (leak - chord) * low)
    below = torch.where(on, 1.0, torch.where(off, leak, torch.where(high > -low, 1.0, leak)))
    return below, chord, offset
