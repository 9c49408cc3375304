"""The architecture of a model's networks: what there is, of what size, without a single weight.

It is read from outside, so what cannot be, or would be absurdly large, cannot be constructed. Training and attacks
build torch's networks from it (`network`, `ensemble`), the twin NumPy's (`inference`).

    >>> NetworkConfig.for_window(channels=2, window=30).width
    11
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from twinseal.config import Settings

MEANS, SLOPES = (3, 10, 30, 100), (10, 30, 100)
AGE_CYCLES = 200.0  # scale of the age: a typical life
MAX_AGE_CYCLES = 1_000_000
MAX_UNITS = 16_384  # of a hidden layer: a matrix is 1 GiB at most, a network of four little over 4 GiB
MAX_MEMBERS = 32


class NetworkConfig(Settings):
    """The architecture of one network: means and slopes of the window, then a small perceptron.

    Attributes:
        channels: C, the channels of a row.
        window: L, the rows of a window.
        inputs: Indices of the channels that are read, rising.
        components: Principal components that the inputs are projected on; 0 reads them as they are.
        means: Over how many of the newest rows means are taken.
        slopes: Over how many of the newest rows least-squares slopes are taken.
        age: Whether the unit's age is read.
        oldest_cycles: The oldest age that training saw.
        baseline: Whether the unit's trusted baseline is read.
        hidden: Units of each hidden layer.
        leak: Slope of the hidden units below zero: a unit that is off still tells where the window lies.
        rul_cap_cycles: Scale of the output, cycles.
    """

    channels: int
    window: int
    inputs: tuple[int, ...]
    components: int = 0
    means: tuple[int, ...]
    slopes: tuple[int, ...]
    age: bool = True
    oldest_cycles: int = MAX_AGE_CYCLES
    baseline: bool = False
    hidden: tuple[int, ...] = (64, 64)
    leak: float = 0.02
    rul_cap_cycles: float = 125.0

    def model_post_init(self, _context: Any, /) -> None:
        """Refuse sizes out of range."""
        scales_fit = all(2 <= scale <= self.window for scale in self.means + self.slopes)
        if not (1 <= self.channels <= 512 and 2 <= self.window <= 10_000 and scales_fit):
            raise ValueError("network: expected 1-512 channels, a window of 2-10000 rows, and scales within the window")
        rising = list(self.inputs) == sorted(set(self.inputs)) and set(self.inputs) <= set(range(self.channels))
        if not self.inputs or not rising:
            raise ValueError(f"network: expected inputs of 0 to {self.channels - 1}, rising, got {self.inputs}"[:200])
        if not 0 <= self.components <= len(self.inputs):
            raise ValueError(f"network: expected 0-{len(self.inputs)} components, got {self.components}")
        if not (1 <= len(self.means + self.slopes) <= 32 and 1 <= len(self.hidden) <= 4):
            raise ValueError("network: expected 1-32 scales and 1-4 hidden layers")
        if not (all(1 <= units <= MAX_UNITS for units in self.hidden) and 0 < self.rul_cap_cycles <= 1e6):
            raise ValueError(f"network: expected 1-{MAX_UNITS} units a layer and a cap of up to 1e6 cycles")
        if not 1 <= self.oldest_cycles <= MAX_AGE_CYCLES:
            raise ValueError(f"network: expected an oldest age of 1 to {MAX_AGE_CYCLES}, got {self.oldest_cycles}")
        if not 0 <= self.leak < 1:
            raise ValueError(f"network: expected a leak of 0 to 1, got {self.leak}")

    @classmethod
    def for_window(cls, channels: int, window: int, **others: Any) -> NetworkConfig:
        """Of every channel, at the default scales unless told otherwise; none is longer than the window."""
        for name, scales in (("means", MEANS), ("slopes", SLOPES)):
            others[name] = tuple(dict.fromkeys(min(scale, window) for scale in others.get(name, scales)))
        return cls(channels=channels, window=window, **({"inputs": tuple(range(channels))} | others))

    @property
    def tracks(self) -> int:
        """K, the series that the front end sees: the components, or the inputs themselves."""
        return self.components or len(self.inputs)

    @property
    def width(self) -> int:
        """W, the features: scales x tracks, then the age, then the baseline's tracks."""
        scales = len(self.means + self.slopes)
        return scales * self.tracks + self.age + (self.tracks if self.baseline else 0)


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


def front_end(config: NetworkConfig) -> npt.NDArray[np.float32]:
    """(F, L) float32: a row of weights over the window for each mean and each slope.

    A slope is the least-squares one times its length: the change over that stretch, in σ.
    """
    weights = np.zeros((len(config.means) + len(config.slopes), config.window))
    for row, scale in enumerate(config.means):
        weights[row, -scale:] = 1 / scale
    for row, scale in enumerate(config.slopes, start=len(config.means)):
        time = np.arange(scale) - (scale - 1) / 2
        weights[row, -scale:] = scale * time / np.square(time).sum()
    return weights.astype(np.float32)
