"""The network: many-scale means and slopes of the window, a small perceptron, and bounds that nothing within ε leaves.

The front end is linear in the window, so together with the first layer it is one linear map, and the bounds of that map
over a box of radius ε are exact; after it come interval bounds (IBP: Gowal et al., On the Effectiveness of Interval
Bound Propagation, 2018, eq. 6). There is no age among the inputs unless the contract names it as a channel.

    >>> network = RulNetwork(NetworkConfig.for_window(channels=2, window=30))
    >>> low, high = network.bounds(torch.zeros(1, 30, 2), 0.1)
    >>> bool(low <= network(torch.zeros(1, 30, 2)) <= high)
    True
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn

from twinseal.config import Settings

MEANS, SLOPES = (3, 10, 30, 100), (10, 30, 100)
# Outward widening of every bound, for what float32 rounds differently on its two ways: cycles, and relative.
ROUNDING_CYCLES, ROUNDING = 1e-3, 1e-5
MAX_UNITS = 16_384  # of a hidden layer: a matrix is 1 GiB at most, a network of four little over 4 GiB


class NetworkConfig(Settings):
    """The architecture. What cannot be, or would be absurdly large, cannot be constructed: it is read from outside.

    Attributes:
        channels: C, the channels of a row.
        window: L, the rows of a window.
        means: Over how many of the newest rows means are taken.
        slopes: Over how many of the newest rows least-squares slopes are taken.
        hidden: Units of each hidden layer.
        rul_cap_cycles: Scale of the output, cycles.
    """

    channels: int
    window: int
    means: tuple[int, ...]
    slopes: tuple[int, ...]
    hidden: tuple[int, ...] = (64, 64)
    rul_cap_cycles: float = 125.0

    def model_post_init(self, _context: Any, /) -> None:
        """Refuse sizes out of range."""
        scales_fit = all(2 <= scale <= self.window for scale in self.means + self.slopes)
        if not (1 <= self.channels <= 512 and 2 <= self.window <= 10_000 and scales_fit):
            raise ValueError("network: expected 1-512 channels, a window of 2-10000 rows, and scales within the window")
        if not (1 <= len(self.means + self.slopes) <= 32 and 1 <= len(self.hidden) <= 4):
            raise ValueError("network: expected 1-32 scales and 1-4 hidden layers")
        if not (all(1 <= units <= MAX_UNITS for units in self.hidden) and 0 < self.rul_cap_cycles <= 1e6):
            raise ValueError(f"network: expected 1-{MAX_UNITS} units a layer and a cap of up to 1e6 cycles")

    @classmethod
    def for_window(
        cls, channels: int, window: int, hidden: tuple[int, ...] = (64, 64), rul_cap_cycles: float = 125.0
    ) -> NetworkConfig:
        """The default scales, none longer than the window."""
        means = tuple(dict.fromkeys(min(scale, window) for scale in MEANS))
        slopes = tuple(dict.fromkeys(min(scale, window) for scale in SLOPES))
        return cls(
            channels=channels, window=window, means=means, slopes=slopes, hidden=hidden, rul_cap_cycles=rul_cap_cycles
        )


class RulNetwork(nn.Module):
    """Remaining useful life from one window of normalised rows.

    Attributes:
        config: The architecture.
        feature_mean: (F·C,) float32, of the training features; part of the checkpoint.
        feature_std: (F·C,) float32, likewise, above 0.
    """

    front_end: Tensor
    feature_mean: Tensor
    feature_std: Tensor

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("front_end", _front_end(config), persistent=False)  # (F, L), follows from the config
        width = self.front_end.shape[0] * config.channels
        self.register_buffer("feature_mean", torch.zeros(width))
        self.register_buffer("feature_std", torch.ones(width))
        sizes = (width, *config.hidden, 1)
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))

    def forward(self, windows: Tensor) -> Tensor:
        """Estimates (B,) float32 in cycles, neither floored nor capped, from windows (B, L, C) float32 in σ."""
        return self.from_features(self.features(windows))

    def features(self, windows: Tensor) -> Tensor:
        """Means and slopes (B, F·C) float32 of windows (B, L, C): the fixed, linear front end."""
        return torch.einsum("fl,blc->bfc", self.front_end, windows).flatten(1)

    def from_features(self, features: Tensor) -> Tensor:
        """Estimates (B,) in cycles from features (B, F·C)."""
        hidden = (features - self.feature_mean) / self.feature_std
        *body, head = self._stack
        for layer in body:
            hidden = torch.relu(layer(hidden))
        return cast(Tensor, head(hidden)).squeeze(1) * self.config.rul_cap_cycles

    @property
    def _stack(self) -> list[nn.Linear]:
        return cast("list[nn.Linear]", list(self.layers))

    def bounds(self, windows: Tensor, epsilon_sigma: float | Tensor) -> tuple[Tensor, Tensor]:
        """Between what the estimate stays when no reading of a window moves by more than ε.

        Args:
            windows: (B, L, C) float32 in σ.
            epsilon_sigma: ε in σ, not negative: one for all, or a tensor that broadcasts to (L, C), 0 where the
                attacker has no hand.

        Returns:
            Lowest and highest estimate, (B,) float32 each, in cycles. Sound; exact up to the first layer.
        """
        return self.bounds_from_features(self.features(windows), epsilon_sigma)

    def bounds_from_features(self, features: Tensor, epsilon_sigma: float | Tensor) -> tuple[Tensor, Tensor]:
        """As `bounds`, from the features (B, F·C) of unmoved windows; ε is still about the windows' readings."""
        epsilon = torch.as_tensor(epsilon_sigma, dtype=torch.float32).expand(self.config.window, self.config.channels)
        first, *rest = self._stack
        scaled = (first.weight / self.feature_std).reshape(len(first.weight), -1, self.config.channels)  # (H, F, C)
        through = torch.einsum("hfc,fl->hlc", scaled, self.front_end)  # front end and first layer as one map
        centre = first((features - self.feature_mean) / self.feature_std)  # (B, H)
        radius = (through.abs() * epsilon).sum((1, 2)).expand_as(centre)
        for layer in rest:
            low, high = torch.relu(centre - radius), torch.relu(centre + radius)
            centre = layer((low + high) / 2)
            radius = nn.functional.linear((high - low) / 2, layer.weight.abs())
        low, high = ((centre + sign * radius).squeeze(1) * self.config.rul_cap_cycles for sign in (-1, 1))
        slack = ROUNDING_CYCLES + ROUNDING * (low.abs() + high.abs())
        return low - slack, high + slack


def _front_end(config: NetworkConfig) -> Tensor:
    """(F, L) float32: a row of weights over the window for each mean and each slope.

    A slope is the least-squares one times its length: the change over that stretch, in σ. On the CPU also where a
    network is being made without memory ("meta", see `checkpoint`): it follows from the config and is not loaded.
    """
    weights = torch.zeros(len(config.means) + len(config.slopes), config.window, dtype=torch.float64, device="cpu")
    for row, scale in enumerate(config.means):
        weights[row, -scale:] = 1 / scale
    for row, scale in enumerate(config.slopes, start=len(config.means)):
        time = torch.arange(scale, dtype=torch.float64, device="cpu") - (scale - 1) / 2
        weights[row, -scale:] = scale * time / time.square().sum()
    return weights.float()
