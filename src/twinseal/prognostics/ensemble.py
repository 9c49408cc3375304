"""An ensemble of networks: their mean, or their median where some of them may be in an attacker's hand.

A mean of members whose errors differ is a better estimate than any of them, and its bounds are the mean of their
bounds. A median holds against members that say anything at all: where members read disjoint sensors, or were trained on
disjoint units, an attacker who holds few of those holds few members (`prognostics.median_certificates`).

The median of an even number of members is the mean of the two in the middle.

    >>> ensemble = Ensemble(EnsembleConfig(members=(NetworkConfig.for_window(channels=1, window=10),) * 3))
    >>> ensemble.each(torch.zeros(2, 10, 1), torch.zeros(2, 2)).shape
    torch.Size([3, 2])
"""

from __future__ import annotations

from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from twinseal.config import Settings
from twinseal.prognostics.network import MAX_AGE_CYCLES, NetworkConfig, RulNetwork
from twinseal.prognostics.rounding import gamma, outward

MAX_MEMBERS = 32


class EnsembleConfig(Settings):
    """The architecture of an ensemble.

    Attributes:
        members: Of each member; all of the same channels, window and cap.
        aggregation: What is made of their estimates.
    """

    members: tuple[NetworkConfig, ...]
    aggregation: Literal["mean", "median"] = "mean"

    def model_post_init(self, _context: Any, /) -> None:
        """Refuse members that do not see the same windows."""
        if not 1 <= len(self.members) <= MAX_MEMBERS:
            raise ValueError(f"ensemble: expected 1-{MAX_MEMBERS} members, got {len(self.members)}")
        if len({(m.channels, m.window, m.rul_cap_cycles) for m in self.members}) != 1:
            raise ValueError("ensemble: expected members of the same channels, window and cap")

    @property
    def channels(self) -> int:
        """C, the channels of a row."""
        return self.members[0].channels

    @property
    def window(self) -> int:
        """L, the rows of a window."""
        return self.members[0].window

    @property
    def rul_cap_cycles(self) -> float:
        """The longest remaining life that the members were trained on."""
        return self.members[0].rul_cap_cycles

    @property
    def oldest_cycles(self) -> int:
        """The oldest age that the members that read ages have seen: any of them, or of a median the middle one.

        A member of a median may have been made by an attacker: it must not choose the age up to which there are
        answers, no more than it chooses the answer.
        """
        seen = sorted(m.oldest_cycles for m in self.members if m.age) or [MAX_AGE_CYCLES]
        return seen[len(seen) // 2] if self.aggregation == "median" else seen[-1]

    @property
    def baseline(self) -> bool:
        """Whether any member reads the trusted baseline."""
        return any(member.baseline for member in self.members)


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


class Architecture(Settings):
    """Of all networks of a model.

    Attributes:
        plain: Answers for any unit.
        commissioned: Answers for units whose first cycles were signed; None: the plain one does.
    """

    plain: EnsembleConfig
    commissioned: EnsembleConfig | None = None

    def model_post_init(self, _context: Any, /) -> None:
        """Refuse two that do not see the same windows, or that read a baseline where there may be none."""
        if self.plain.baseline:
            raise ValueError("plain: expected members that do without a baseline, got one that reads it")
        if self.commissioned is not None:
            seen = [(e.channels, e.window, e.rul_cap_cycles) for e in (self.plain, self.commissioned)]
            if seen[0] != seen[1]:
                raise ValueError(f"networks: expected the same channels, window and cap in both, got {seen}")


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

    def modes(self) -> dict[str, Ensemble]:
        """The ensembles by name: `plain`, and `commissioned` where there is one."""
        both = {"plain": self.plain, "commissioned": self.commissioned}
        return {name: ensemble for name, ensemble in both.items() if ensemble is not None}
