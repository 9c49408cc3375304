"""The target of an attack: anything that estimates the remaining life of windows. Each window's context is fixed.

An attacker of readings does not control the age or the trusted baseline of a unit. They belong to their window, and no
attack sees them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from twinseal.errors import EvidenceError
from twinseal.prognostics.windows import Windows

Floats = NDArray[np.float32]


class Target(Protocol):
    """Estimates (B,) in cycles of `x` (B, L, C) float32 in σ, versions of the windows numbered `at` (B,) int64."""

    def __call__(self, x: Tensor, at: Tensor) -> Tensor:
        """The estimates."""


@dataclass(frozen=True, eq=False)
class NetworkTarget:
    """A network or an ensemble, with the context of the windows under attack.

    Attributes:
        network: (B, L, C), (B, 1 + C) → (B,).
        context: (N, 1 + C) float32.
    """

    network: nn.Module
    context: Tensor

    @classmethod
    def of(cls, network: nn.Module, windows: Windows) -> NetworkTarget:
        """`network`, asked about `windows`."""
        return cls(network.eval(), torch.from_numpy(windows.context()))

    def __call__(self, x: Tensor, at: Tensor) -> Tensor:
        """The estimates; differentiable."""
        return cast(Tensor, self.network(x, self.context[at]))


@dataclass(frozen=True, eq=False)
class PredictorTarget:
    """Something that has no gradient, asked in numpy: gradient boosting, say.

    Attributes:
        predict: Windows (B, L, C) float32 and their contexts (B, 1 + C) float32 → (B,) cycles.
        context: (N, 1 + C) float32.
    """

    predict: Callable[[Floats, Floats], NDArray[np.floating]]
    context: Floats

    def __call__(self, x: Tensor, at: Tensor) -> Tensor:
        """The estimates."""
        said = self.predict(x.detach().numpy(), self.context[at.numpy()])
        return torch.from_numpy(np.asarray(said, dtype=np.float32))


def everyone(x: Tensor) -> Tensor:
    """The numbers of all windows of `x` (N, L, C), in order."""
    return torch.arange(len(x))


def estimates(target: Target, x: Floats) -> Floats:
    """What the target says of all windows `x` (N, L, C) float32, (N,) float32 in cycles.

    Raises:
        EvidenceError: An estimate is not finite, or not one number a window.
    """
    with torch.no_grad():
        tensor = torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32))
        said = target(tensor, everyone(tensor)).numpy()
    if said.shape != (len(x),) or not np.isfinite(said).all():
        raise EvidenceError(f"network: expected {len(x)} finite estimates, got {said.shape} {said[:3]}")
    return np.asarray(said, dtype=np.float32)
