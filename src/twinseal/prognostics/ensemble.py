"""An ensemble of networks: their mean, or their median where some of them may be in an attacker's hand.

A mean of members whose errors differ is a better estimate than any of them, and its bounds are the mean of their
bounds. A median holds against members that say anything at all: where members read disjoint sensors, or were trained on
disjoint units, an attacker who holds few of those holds few members (`prognostics.median_certificates`).

The median of an even number of members is the mean of the two in the middle.

    >>> from twinseal.prognostics.architecture import NetworkConfig
    >>> ensemble = Ensemble(EnsembleConfig(members=(NetworkConfig.for_window(channels=1, window=10),) * 3))
    >>> ensemble.each(torch.zeros(2, 10, 1), torch.zeros(2, 2)).shape
    torch.Size([3, 2])
"""

from __future__ import annotations

from typing import Literal, cast

import torch
from torch import Tensor, nn

from twinseal.prognostics.architecture import Architecture, EnsembleConfig
from twinseal.prognostics.inference import Inference
from twinseal.prognostics.network import RulNetwork
from twinseal.prognostics.rounding import gamma, outward


class Ensemble(nn.Module):
    """Remaining useful life by several networks."""

    def __init__(self, config: EnsembleConfig) -> None:
        super().__init__()
        self.config = config
        self.members = nn.ModuleList(RulNetwork(member) for member in config.members)

    @classmethod
    def of(cls, members: list[RulNetwork], aggregation: Literal["mean", "median"] = "mean") -> Ensemble:
        """The ensemble of networks that there are; they are shared, not copied.

        Raises:
            ConfigError, ValueError: They do not fit each other.
        """
        ensemble = cls.__new__(cls)
        nn.Module.__init__(ensemble)
        ensemble.config = EnsembleConfig(members=tuple(m.config for m in members), aggregation=aggregation)
        ensemble.members = nn.ModuleList(members)
        return ensemble

    def forward(self, windows: Tensor, context: Tensor) -> Tensor:
        """Estimates (B,) float32 in cycles, neither floored nor capped; arguments as in `RulNetwork.forward`."""
        return self._together(self.each(windows, context))

    def each(self, windows: Tensor, context: Tensor) -> Tensor:
        """Estimates of every member, (M, B) float32 in cycles."""
        members, estimates = self.networks, {}
        for group in self._same_features():
            if len(group) == 1:
                estimates[group[0]] = members[group[0]](windows, context)
                continue
            features = members[group[0]].features(windows, context)
            estimates |= {at: members[at].from_features(features) for at in group}
        return torch.stack([estimates[at] for at in range(len(members))])

    def bounds(
        self, windows: Tensor, context: Tensor, epsilon_sigma: float | Tensor, baseline_epsilon_sigma: float = 0.0
    ) -> tuple[Tensor, Tensor]:
        """As `RulNetwork.bounds`: mean and median grow with every member's estimate."""
        lows, highs = self.each_bounds(windows, context, epsilon_sigma, baseline_epsilon_sigma)
        sizes = torch.maximum(lows.abs(), highs.abs()).double().sum(dim=0)
        slack = gamma(len(lows)) * sizes  # of the mean's own arithmetic
        return outward(self._together(lows).double() - slack, self._together(highs).double() + slack)

    def each_bounds(
        self, windows: Tensor, context: Tensor, epsilon_sigma: float | Tensor, baseline_epsilon_sigma: float = 0.0
    ) -> tuple[Tensor, Tensor]:
        """Lowest and highest estimate of every member, (M, B) float32 each, in cycles."""
        pairs = [member.bounds(windows, context, epsilon_sigma, baseline_epsilon_sigma) for member in self.networks]
        return torch.stack([low for low, _ in pairs]), torch.stack([high for _, high in pairs])

    @property
    def networks(self) -> list[RulNetwork]:
        """The members."""
        return cast("list[RulNetwork]", list(self.members))

    def _same_features(self) -> list[list[int]]:
        """Members by what they make of a window before any weight: those of one group make the same features."""
        groups: dict[object, list[int]] = {}
        for at, member in enumerate(self.networks):
            config = member.config
            same = config.model_copy(update={"hidden": (1,), "leak": 0.0})
            own = bool(config.components) or type(member) is not RulNetwork
            groups.setdefault(at if own else same, []).append(at)
        return list(groups.values())

    def _together(self, estimates: Tensor) -> Tensor:
        """(M, B) → (B,)."""
        if self.config.aggregation == "mean":
            return estimates.mean(dim=0)
        ordered, count = estimates.sort(dim=0).values, len(estimates)
        return (ordered[(count - 1) // 2] + ordered[count // 2]) / 2


class Networks(nn.Module):
    """All networks of a model: one ensemble for any unit, and one for units with a trusted baseline."""

    def __init__(self, config: Architecture) -> None:
        super().__init__()
        self.config = config
        self.plain = Ensemble(config.plain)
        self.commissioned = None if config.commissioned is None else Ensemble(config.commissioned)

    @classmethod
    def of(cls, plain: Ensemble, commissioned: Ensemble | None = None) -> Networks:
        """The networks that there are; they are shared, not copied.

        Raises:
            ValueError: They do not fit each other.
        """
        networks = cls.__new__(cls)
        nn.Module.__init__(networks)
        other = None if commissioned is None else commissioned.config
        networks.config = Architecture(plain=plain.config, commissioned=other)
        networks.plain, networks.commissioned = plain, commissioned
        return networks

    def to_inference(self) -> Inference:
        """The same networks for NumPy: the weights are shared, not copied."""
        return Inference(self.config, {name: tensor.detach().numpy() for name, tensor in self.state_dict().items()})

    def modes(self) -> dict[str, Ensemble]:
        """The ensembles by name: `plain`, and `commissioned` where there is one."""
        both = {"plain": self.plain, "commissioned": self.commissioned}
        return {name: ensemble for name, ensemble in both.items() if ensemble is not None}


def networks_of(inference: Inference) -> Networks:
    """The networks of a model for torch, in evaluation mode: the weights are shared, not copied."""
    with torch.device("meta"):  # takes the tensors as they are: no memory for values that would be replaced
        networks = Networks(inference.config)
    tensors = {name: torch.from_numpy(array) for name, array in inference.arrays.items()}
    networks.load_state_dict(tensors, assign=True)
    return networks.eval().requires_grad_(False)
