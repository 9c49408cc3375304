"""A stand-in whose gradient never vanishes, for attacks on windows where the network's own does.

Where every unit of a ReLU layer is off, the network is flat: its gradient is zero, gradient attacks stay where they
are, and the number that they report is the clean one. That is no robustness: random noise moves such windows. Athalye,
Carlini & Wagner (Obfuscated Gradients, 2018, section 4.1: backward pass differentiable approximation) take the gradient
of something similar that has one; here, the same weights with a slope left below zero. What is made against the
stand-in is judged on the network itself.

Measured on the simulated pumps: 8 % of the failing windows were flat, and PGD moved none of them at ε = 0.5 σ.
"""

from __future__ import annotations

from torch import Tensor, nn

from twinseal.prognostics.network import RulNetwork

SLOPE = 0.1  # below zero: small enough to stay close to the network, large enough to be felt through two layers


class Smoothed(nn.Module):
    """A RUL network with leaky units, sharing the weights of `network`; it maps (B, L, C) → (B,) likewise."""

    def __init__(self, network: RulNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, windows: Tensor) -> Tensor:
        """Estimates (B,) float32 in cycles; those of the network where no unit is off."""
        own = self.network
        hidden = (own.features(windows) - own.feature_mean) / own.feature_std
        for layer in list(own.layers)[:-1]:
            hidden = nn.functional.leaky_relu(layer(hidden), SLOPE)
        estimates: Tensor = own.layers[-1](hidden).squeeze(1)
        return own.config.rul_cap_cycles * estimates
