"""One network: many-scale means and slopes of the window, a small perceptron, and bounds that nothing within ε leaves.

The front end is linear in the window, so together with the first layer it is one affine map, and the bounds of that map
over a box of radius ε are exact; after it come interval bounds (IBP: Gowal et al., On the Effectiveness of Interval
Bound Propagation, 2018, eq. 6), tightened by linear ones (`crown`).

Beside the window a network may read its *context*, which whoever alters readings does not hold: the unit's age, the
number of its cycle, and its trusted baseline, the mean of its first cycles, recorded and signed when it was
commissioned. Ages beyond the oldest that training saw are taken for that one: nothing is known of them.

    >>> network = RulNetwork(NetworkConfig.for_window(channels=2, window=30))
    >>> window, context = torch.zeros(1, 30, 2), torch.zeros(1, 3)
    >>> low, high = network.bounds(window, context, 0.1)
    >>> bool(low <= network(window, context) <= high)
    True
"""

from __future__ import annotations

from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from twinseal.prognostics.architecture import AGE_CYCLES, NetworkConfig, front_end
from twinseal.prognostics.crown import Reach, crown_within
from twinseal.prognostics.piecewise import PiecewiseLinear
from twinseal.prognostics.rounding import EXTRA, gamma, outward, through_layers, through_sums

ROUNDING_CYCLES = 1e-3  # outward widening of every bound, besides what `rounding` finds


class RulNetwork(nn.Module):
    """Remaining useful life from one window of normalised rows and its context.

    Attributes:
        config: The architecture.
        projection: (K, I) float32, inputs → tracks; part of the checkpoint when there are components.
        feature_mean: (W,) float32, of the training features; part of the checkpoint.
        feature_std: (W,) float32, likewise, above 0.
    """

    front_end: Tensor
    projection: Tensor
    feature_mean: Tensor
    feature_std: Tensor

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self._inputs = list(config.inputs)
        # (F, L). On the CPU also where a network is made without memory ("meta"): it follows from the config.
        self.register_buffer("front_end", torch.from_numpy(front_end(config)), persistent=False)
        identity = torch.eye(config.tracks, len(config.inputs), device=None if config.components else "cpu")
        self.register_buffer("projection", identity, persistent=config.components > 0)
        self.register_buffer("feature_mean", torch.zeros(config.width))
        self.register_buffer("feature_std", torch.ones(config.width))
        sizes = (config.width, *config.hidden, 1)
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))

    def forward(self, windows: Tensor, context: Tensor) -> Tensor:
        """Estimates (B,) float32 in cycles, neither floored nor capped.

        Args:
            windows: (B, L, C) float32 in σ.
            context: (B, 1 + C) float32: the age in cycles, the baseline in σ; what is not read is ignored.
        """
        return self.from_features(self.features(windows, context))

    def features(self, windows: Tensor, context: Tensor) -> Tensor:
        """Means and slopes of the tracks, then the context: (B, W) float32. Fixed, and linear in both."""
        config, baseline = self.config, context[:, 1:]
        if len(self._inputs) != config.channels:
            windows, baseline = windows[..., self._inputs], baseline[:, self._inputs]
        scales = self.front_end @ windows  # (B, F, I)
        if config.components:
            scales, baseline = scales @ self.projection.T, baseline @ self.projection.T
        parts = [scales.flatten(1)]
        parts += [context[:, :1].clamp(max=config.oldest_cycles) / AGE_CYCLES] if config.age else []
        parts += [baseline] if config.baseline else []
        return torch.cat(parts, dim=1)

    def from_features(self, features: Tensor, dropout: float = 0.0) -> Tensor:
        """Estimates (B,) in cycles from features (B, W); in training, with a share of the hidden units left out."""
        hidden = (features - self.feature_mean) / self.feature_std
        *body, head = self._stack
        for layer in body:
            hidden = nn.functional.leaky_relu(layer(hidden), self.config.leak)
            hidden = nn.functional.dropout(hidden, dropout) if dropout else hidden
        return cast(Tensor, head(hidden)).squeeze(1) * self.config.rul_cap_cycles

    @property
    def _stack(self) -> list[nn.Linear]:
        return cast("list[nn.Linear]", list(self.layers))

    def bounds(
        self, windows: Tensor, context: Tensor, epsilon_sigma: float | Tensor, baseline_epsilon_sigma: float = 0.0
    ) -> tuple[Tensor, Tensor]:
        """Between what the estimate stays when no reading of a window moves by more than ε.

        Args:
            windows: (B, L, C) float32 in σ.
            context: (B, 1 + C) float32, as in `forward`.
            epsilon_sigma: ε in σ, not negative: one for all, or a tensor that broadcasts to (L, C), 0 where the
                attacker has no hand.
            baseline_epsilon_sigma: By how much the attacker also moves every channel of the baseline; 0: it is trusted.

        Returns:
            Lowest and highest estimate, (B,) float32 each, in cycles. Sound; exact up to the first layer.
        """
        features = self.features(windows, context)
        first, *rest = self._stack
        centre = first((features - self.feature_mean) / self.feature_std)  # (B, H)
        stack = [(layer.weight, layer.bias) for layer in rest]
        reach = self._reach(epsilon_sigma, baseline_epsilon_sigma)
        low, high = crown_within(stack, centre, leak=self.config.leak, reach=reach)
        # Twice: the twin's arithmetic may err, and that of the centre here as well.
        slack = ROUNDING_CYCLES + 2 * self._rounding(windows, context, epsilon_sigma, baseline_epsilon_sigma)
        cap = self.config.rul_cap_cycles
        return outward(low * cap - slack, high * cap + slack)

    def _rounding(
        self, windows: Tensor, context: Tensor, epsilon_sigma: float | Tensor, baseline_epsilon_sigma: float
    ) -> Tensor:
        """How far rounding may take an estimate within the same box, (B,) float64, cycles; see `rounding`."""
        config, projection = self.config, self.projection.double().abs()
        epsilon = torch.as_tensor(epsilon_sigma, dtype=torch.float64).expand(config.window, config.channels)
        largest = (windows.double().abs() + epsilon)[..., self._inputs]
        baseline = (context[:, 1:].double().abs() + baseline_epsilon_sigma)[:, self._inputs]
        sizes, errors = through_sums(self.front_end.double(), largest)  # (B, F, I)
        projected = gamma(len(self._inputs) + EXTRA) if config.components else 0.0
        if config.components:
            sizes, errors, baseline = sizes @ projection.T, errors @ projection.T, baseline @ projection.T
        parts = [(sizes.flatten(1), errors.flatten(1) + projected * sizes.flatten(1))]
        age = context[:, :1].double().clamp(max=config.oldest_cycles).abs() / AGE_CYCLES
        parts += [(age, gamma(EXTRA) * age)] if config.age else []
        parts += [(baseline, projected * baseline)] if config.baseline else []
        sizes, errors = (torch.cat([part[side] for part in parts], dim=1) for side in (0, 1))
        sizes = sizes + self.feature_mean.double().abs()
        std = self.feature_std.double()
        return config.rul_cap_cycles * through_layers(self._stack, sizes / std, (errors + gamma(EXTRA) * sizes) / std)

    def interval_bounds(self, features: Tensor, epsilon_sigma: float) -> tuple[Tensor, Tensor]:
        """Interval bounds alone, from the features (B, W) of unmoved windows: looser, cheap, and easy to train by."""
        first, *rest = self._stack
        centre = first((features - self.feature_mean) / self.feature_std)  # (B, H)
        radius = (self._through().abs().sum((1, 2)) * epsilon_sigma).expand_as(centre)
        for layer in rest:
            low, high = (nn.functional.leaky_relu(centre + sign * radius, self.config.leak) for sign in (-1, 1))
            centre = layer((low + high) / 2)
            radius = nn.functional.linear((high - low) / 2, layer.weight.abs())
        cap = self.config.rul_cap_cycles
        return (centre - radius).squeeze(1) * cap, (centre + radius).squeeze(1) * cap

    def _scales(self, kind: torch.dtype) -> Tensor:
        """The first layer's weights of each mean and slope of each input, (H, F, I)."""
        weight, tracks = self._stack[0].weight.to(kind) / self.feature_std.to(kind), self.config.tracks
        scales = weight[:, : len(self.front_end) * tracks].reshape(len(weight), -1, tracks)  # (H, F, K)
        return scales @ self.projection.to(kind) if self.config.components else scales

    def _through(self) -> Tensor:
        """Front end and first layer as one map of the readings, (H, L, I)."""
        return torch.einsum("hfi,fl->hli", self._scales(torch.float32), self.front_end)

    def _reach(self, epsilon_sigma: float | Tensor, baseline_epsilon_sigma: float) -> Reach:
        """By how much the attacker can raise linear functions of the first layer; see `crown_within`."""
        config, weight = self.config, self._stack[0].weight.detach().double() / self.feature_std.double()
        front, scales = self.front_end.double(), self._scales(torch.float64).detach().mT.flatten(1)  # (H, I·F)
        by_baseline = weight[:, -config.tracks :] @ self.projection.double()
        pieces, shape = PiecewiseLinear.of(self.front_end.double()), (len(self._inputs), len(self.front_end))
        epsilon = torch.as_tensor(epsilon_sigma, dtype=torch.float64)
        each = epsilon.expand(config.window, config.channels)[:, self._inputs].T  # (I, L)

        def reach(slopes: Tensor) -> Tensor:
            by_scales = (slopes @ scales).reshape(*slopes.shape[:-1], *shape)  # (…, I, F)
            if epsilon.ndim:
                raised = ((by_scales @ front).abs() * each).sum((-2, -1))
            else:
                raised = epsilon * pieces.sums(by_scales).sum(-1)
            if config.baseline and baseline_epsilon_sigma:
                raised = raised + baseline_epsilon_sigma * (slopes @ by_baseline).abs().sum(-1)
            return raised

        return reach
