"""What a model's networks answer, in NumPy: all that a twin needs. Training and attacks use torch's (`ensemble`).

The formulas are those of `network` and `ensemble`; only the order of sums differs. `rounding` bounds what any order can
do, and every certificate is wider by that, so what is proven of the one holds for the other. A test holds both within
this bound, on trained and on hostile weights.

    >>> config = NetworkConfig.for_window(channels=1, window=10, hidden=(1,), means=(10,), slopes=(10,), age=False)
    >>> arrays = {"feature_mean": np.zeros(2), "feature_std": np.ones(2), "layers.0.weight": np.array([[-0.5, 0.0]])}
    >>> arrays |= {"layers.0.bias": np.ones(1), "layers.1.weight": np.ones((1, 1)), "layers.1.bias": np.zeros(1)}
    >>> windows, context = np.ones((1, 10, 1), np.float32), np.zeros((1, 2), np.float32)
    >>> network = Network(config, {name: array.astype(np.float32) for name, array in arrays.items()})
    >>> network.from_features(network.features(windows, context)).tolist()  # half of the cap
    [62.5]
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from twinseal.prognostics.architecture import AGE_CYCLES, Architecture, EnsembleConfig, NetworkConfig, front_end

F32 = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Network:
    """One network.

    Attributes:
        config: Its architecture.
        arrays: Its weights, by name: `feature_mean` (W,), `feature_std` (W,), `layers.0.weight` (H, W),
            `layers.0.bias` (H,), …; `projection` (K, I) where there are components.
        front: (F, L), from rows to means and slopes; it follows from the config.
    """

    config: NetworkConfig
    arrays: Mapping[str, F32]
    front: F32 = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "front", front_end(self.config))

    @property
    def layers(self) -> list[tuple[F32, F32]]:
        """Weight (O, H) and bias (O,) of each layer."""
        names = [f"layers.{number}" for number in range(len(self.config.hidden) + 1)]
        return [(self.arrays[f"{name}.weight"], self.arrays[f"{name}.bias"]) for name in names]

    def features(self, windows: F32, context: F32) -> F32:
        """Means and slopes of the tracks, then the context: (B, W) float32; see `RulNetwork.features`."""
        config, baseline = self.config, context[:, 1:]
        if len(config.inputs) != config.channels:
            windows, baseline = windows[..., config.inputs], baseline[:, config.inputs]
        scales = self.front @ windows  # (B, F, I)
        if config.components:
            scales, baseline = scales @ self.arrays["projection"].T, baseline @ self.arrays["projection"].T
        parts = [scales.reshape(len(windows), -1)]
        parts += [np.minimum(context[:, :1], np.float32(config.oldest_cycles)) / np.float32(AGE_CYCLES)] * config.age
        parts += [baseline] * config.baseline
        return np.concatenate(parts, axis=1)

    def from_features(self, features: F32) -> F32:
        """Estimates (B,) float32 in cycles, neither floored nor capped, from features (B, W)."""
        hidden = (features - self.arrays["feature_mean"]) / self.arrays["feature_std"]
        leak = np.float32(self.config.leak)
        *body, (weight, bias) = self.layers
        for each, offset in body:
            hidden = hidden @ each.T + offset
            hidden = np.where(hidden < 0, leak * hidden, hidden)
        return np.asarray((hidden @ weight.T + bias)[:, 0] * np.float32(self.config.rul_cap_cycles), dtype=np.float32)


@dataclass(frozen=True, eq=False)
class Ensemble:
    """A mean or a median of networks.

    Attributes:
        config: Its architecture.
        members: The networks.
    """

    config: EnsembleConfig
    members: tuple[Network, ...]
    _alike: tuple[tuple[int, ...], ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        groups: dict[object, list[int]] = {}
        for number, member in enumerate(self.members):
            # What a window becomes before any weight: members that see it alike share it.
            alike = member.config.model_copy(update={"hidden": (1,), "leak": 0.0})
            groups.setdefault(number if member.config.components else alike, []).append(number)
        object.__setattr__(self, "_alike", tuple(map(tuple, groups.values())))

    def estimates(self, windows: F32, context: F32) -> F32:
        """Estimates (B,) float32 in cycles, neither floored nor capped; not finite where a reading is too large.

        Args:
            windows: (B, L, C) float32 in σ.
            context: (B, 1 + C) float32: the age in cycles, the baseline in σ; what is not read is ignored.
        """
        each = np.empty((len(self.members), len(windows)), dtype=np.float32)
        with np.errstate(all="ignore"):  # whoever asks refuses what is not finite
            for alike in self._alike:
                features = self.members[alike[0]].features(windows, context)
                for number in alike:
                    each[number] = self.members[number].from_features(features)
            if self.config.aggregation == "mean":
                return np.asarray(each.mean(axis=0))
            ordered, count = np.sort(each, axis=0), len(each)
            return np.asarray((ordered[(count - 1) // 2] + ordered[count // 2]) / np.float32(2))


@dataclass(frozen=True, eq=False)
class Inference:
    """All networks of a model.

    Attributes:
        config: Their architecture.
        arrays: Their weights, float32, by the names of `weights.shapes`. They may be mapped from a file.
        plain: Answers for any unit.
        commissioned: Answers for units whose first cycles were signed; None: the plain one does.
    """

    config: Architecture
    arrays: Mapping[str, F32]
    plain: Ensemble = field(init=False, repr=False)
    commissioned: Ensemble | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        other = self.config.commissioned
        object.__setattr__(self, "plain", self._ensemble("plain", self.config.plain))
        object.__setattr__(self, "commissioned", other and self._ensemble("commissioned", other))

    def modes(self) -> dict[str, Ensemble]:
        """The ensembles by name: `plain`, and `commissioned` where there is one."""
        both = {"plain": self.plain, "commissioned": self.commissioned}
        return {name: ensemble for name, ensemble in both.items() if ensemble is not None}

    def _ensemble(self, mode: str, config: EnsembleConfig) -> Ensemble:
        members = []
        for number, member in enumerate(config.members):
            prefix = f"{mode}.members.{number}."
            own = {name.removeprefix(prefix): array for name, array in self.arrays.items() if name.startswith(prefix)}
            members.append(Network(member, own))
        return Ensemble(config, tuple(members))
