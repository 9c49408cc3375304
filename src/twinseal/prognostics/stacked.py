"""Networks of one shape, trained at the same time: their weights stacked, the gradient of the robust loss written out.

A network this small is trained in the time that it takes to call some hundred operations, not in the time that these
compute. So M networks share each call, and the gradient of the loss (`course.loss`) is written out, not recorded. No
number of one network enters another's: each has its own windows and weights, and every product is a batch of separate
matrices.

With z the standardised features, T the first layer over the standardised front end, and |·| of each entry:

    clean       h = W z + b,  a = leaky(h),  next layer from a,  …,  ŷ
    worst       radius r = ε Σ |T| around h;  low, high = leaky(h ∓ r);  next layer: centre W (low + high) / 2 + b,
                radius |W| (high - low) / 2;  …;  the end further from the truth t is centre + sign(centre - t)·radius

Gradients go back through the same lines. Clean values and centres meet the same weights, so they go as rows of one
matrix, the clean ones first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn.functional import leaky_relu
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from twinseal.prognostics.network import RulNetwork
from twinseal.prognostics.piecewise import PiecewiseLinear

BETAS, TINY = (0.9, 0.999), 1e-8  # of Adam
RISE, START, END = 0.3, 25.0, 1e4  # of one cycle: the share of the steps that rises; what divides the highest rate


@dataclass(frozen=True, eq=False)
class Batch:
    """The windows of one step of each of M networks.

    Attributes:
        features: (M, B, W) float32, standardised.
        truth: (M, B) float32, in caps.
        shares: (M, B) float32, the share of each window in its network's mean; 0 where there is none.
        left_out: Of each hidden layer (M, B, H), what the clean values are multiplied by; none: without dropout.
    """

    features: Tensor
    truth: Tensor
    shares: Tensor
    left_out: Sequence[Tensor] = ()


@dataclass(frozen=True, eq=False)
class _Hidden:
    """What a hidden layer leaves for the way back; V is B where there is a worst case, else 0.

    Attributes:
        before: (M, B, H) clean values before they leak, low ends (M, V, H), and high ends.
        rows: (M, B + V, H) what the next layer is given: clean values, then centres.
        half: (M, V, H) half of what lies between the ends.
    """

    before: tuple[Tensor, Tensor, Tensor]
    rows: Tensor
    half: Tensor


class AdamW:
    """Adam with decoupled weight decay (Loshchilov & Hutter, Decoupled Weight Decay Regularization, 2019, algorithm 2).

    Args:
        values: (M, P), changed in place.
        weight_decay: λ.
    """

    def __init__(self, values: Tensor, weight_decay: float) -> None:
        self._values, self._decay, self._steps = values, weight_decay, 0
        self._mean, self._square = torch.zeros_like(values), torch.zeros_like(values)

    def step(self, gradients: Tensor, rates: Tensor) -> None:
        """One step of (M, P) gradients at (M, 1) rates; at a rate of 0 a network stays as it is."""
        self._steps += 1
        one, two = (1 - beta**self._steps for beta in BETAS)
        self._mean.lerp_(gradients, 1 - BETAS[0])
        self._square.mul_(BETAS[1]).addcmul_(gradients, gradients, value=1 - BETAS[1])
        self._values.mul_(1 - rates * self._decay)
        self._values.sub_((self._mean / (self._square.sqrt() / math.sqrt(two) + TINY)).mul_(rates / one))


def one_cycle(highest: float, total: int, length: int) -> Tensor:
    """The rates of a training of `total` steps, (length,): up for a while, then down; 0 after its end.

    Smith & Topin, Super-Convergence, 2018, as torch's OneCycleLR has it (cosine), but with one step more than there
    are: the first and the last rate are near 0, and one step alone must learn too.
    """
    begin, end, up = highest / START, highest / START / END, RISE * (total + 1) - 1
    step = torch.arange(length, dtype=torch.float64)

    def between(first: float, last: float, share: Tensor) -> Tensor:
        return last + (first - last) / 2 * (1 + torch.cos(math.pi * share))

    rates = torch.where(
        step <= up, between(begin, highest, step / up), between(highest, end, (step - up) / (total - up))
    )
    return torch.where(step < total, rates, 0.0).float()


class Stack:
    """The weights of M networks of one shape as one tensor `values` (M, P), and their `gradients` likewise.

    Args:
        networks: Of the same layers, leak, scales and tracks.
    """

    def __init__(self, networks: Sequence[RulNetwork]) -> None:
        config = networks[0].config
        sizes = (config.width, *config.hidden, 1)
        self._shapes = [shape for a, b in pairwise(sizes) for shape in ((b, a), (b,))]
        self._leak, self._front = config.leak, PiecewiseLinear.of(networks[0].front_end)
        self.values = torch.stack([parameters_to_vector(network.parameters()).detach() for network in networks])
        self.gradients = torch.zeros_like(self.values)
        self._weights, self._biases = self._layers(self.values)
        self._weight_gradients, self._bias_gradients = self._layers(self.gradients)
        scales = (len(config.means + config.slopes), config.tracks)
        std = torch.stack([network.feature_std[: math.prod(scales)] for network in networks])
        self._std = std.view(len(networks), 1, *scales)  # (M, 1, F, K)
        projected = config.components > 0
        self._projection = torch.stack([n.projection for n in networks])[:, None] if projected else None  # (M, 1, K, I)

    @staticmethod
    def write(values: Tensor, networks: Sequence[RulNetwork]) -> None:
        """Give values (M, P) to the networks that a stack was made of."""
        for network, row in zip(networks, values, strict=True):
            vector_to_parameters(row.clone(), network.parameters())

    def descend(self, batch: Batch, epsilon: Tensor, kappa: Tensor) -> tuple[Tensor, Tensor]:
        """Set `gradients` to those of the robust loss; gives the loss and its clean part, (M,) each, in caps².

        Args:
            batch: The windows.
            epsilon: (M, 1) σ; with all 0 there is no worst case.
            kappa: (M, 1), the weight of the worst case.
        """
        defended = bool((epsilon * kappa).any())
        count = batch.truth.shape[1] if defended else 0
        truth, shares = batch.truth[:, :count], batch.shares[:, :count]
        scales = self._scales() if defended else None  # (M, H, I, F)
        radius, on_scales = (self.values[:, :0], None) if scales is None else self._front.sums_and_gradient(scales)
        radius = epsilon * radius
        clean, centre, half, hidden = self._ascend(batch, count, radius)
        error, apart = clean - batch.truth, centre - truth
        side = torch.where(apart >= 0, 1.0, -1.0)
        furthest = apart + side * half
        losses = [(part.square() * share).sum(1) for part, share in ((error, batch.shares), (furthest, shares))]
        weight = kappa if defended else torch.zeros_like(kappa)
        pull = 2 * weight * shares * furthest  # (M, V)
        back = torch.cat([2 * (1 - weight) * batch.shares * error, pull], dim=1)
        first, on_radius = self._go_back(back[..., None], (pull * side)[..., None], hidden, batch.left_out)
        self._weight_gradients[0].copy_(first.mT @ batch.features)
        self._bias_gradients[0].copy_(first.sum(1))
        if on_scales is not None:
            self._add_radius_gradient(on_scales * (epsilon * on_radius)[..., None, None])
        weight = weight[:, 0]
        return (1 - weight) * losses[0] + weight * losses[1], losses[0]

    def _layers(self, values: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """The weights (M, O, H) and the biases (M, O) of each layer, as views of (M, P)."""
        parts = torch.split(values, [math.prod(shape) for shape in self._shapes], dim=1)
        views = [part.view(-1, *shape) for part, shape in zip(parts, self._shapes, strict=True)]
        return views[::2], views[1::2]

    def _scales(self) -> Tensor:
        """The first layer's weights of each mean and slope of each input, (M, H, I, F)."""
        networks, units, _ = self._weights[0].shape
        weight = self._weights[0][:, :, : self._std[0].numel()].reshape(networks, units, *self._std.shape[2:])
        scales = weight / self._std  # (M, H, F, K)
        return (scales if self._projection is None else scales @ self._projection).mT

    def _add_radius_gradient(self, on_scales: Tensor) -> None:
        """Of the first layer's weights, by what `_scales` are worth."""
        scales = on_scales.mT if self._projection is None else on_scales.mT @ self._projection.mT
        self._weight_gradients[0][:, :, : self._std[0].numel()] += (scales / self._std).flatten(2)

    def _ascend(self, batch: Batch, count: int, radius: Tensor) -> tuple[Tensor, Tensor, Tensor, list[_Hidden]]:
        """Clean estimates (M, B), centres and half widths (M, V) of the worst case, in caps; and all on the way."""
        hidden: list[_Hidden] = []
        rows = torch.baddbmm(self._biases[0][:, None], batch.features, self._weights[0].mT)
        clean, centre, half = rows, rows[:, :count], radius[:, None]
        for depth, (weight, bias) in enumerate(zip(self._weights[1:], self._biases[1:], strict=True)):
            before = (clean, centre - half, centre + half) if count else (clean, centre, centre)
            value, low, high = (leaky_relu(part, self._leak) for part in before)
            value = value * batch.left_out[depth] if batch.left_out else value
            hidden.append(_Hidden(before, torch.cat([value, (low + high) / 2], dim=1), (high - low) / 2))
            rows = torch.baddbmm(bias[:, None], hidden[-1].rows, weight.mT)
            clean, centre = rows[:, : len(batch.truth[0])], rows[:, len(batch.truth[0]) :]
            half = hidden[-1].half @ weight.abs().mT
        return clean[..., 0], centre[..., 0], half[..., 0], hidden

    def _go_back(
        self, back: Tensor, on_half: Tensor, hidden: list[_Hidden], left_out: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Set the gradients of all layers but the first; gives those of its output (M, B, H) and its radius (M, H)."""
        for depth in reversed(range(len(hidden))):
            weight, layer = self._weights[depth + 1], hidden[depth]
            self._weight_gradients[depth + 1].copy_(back.mT @ layer.rows + weight.sign() * (on_half.mT @ layer.half))
            self._bias_gradients[depth + 1].copy_(back.sum(1))
            rows, width = back @ weight, on_half @ weight.abs()
            clean, centre = rows[:, : len(layer.before[0][0])], rows[:, len(layer.before[0][0]) :]
            clean = clean * left_out[depth] if left_out else clean
            parts = (clean, (centre - width) / 2, (centre + width) / 2)
            clean, low, high = (
                torch.ops.aten.leaky_relu_backward(part, value, self._leak, False)
                for part, value in zip(parts, layer.before, strict=True)
            )
            back, on_half = torch.cat([clean, low + high], dim=1), high - low
        count = on_half.shape[1]
        first = back[:, : back.shape[1] - count]
        return (first + back[:, -count:] if count else first), on_half.sum(1)
