"""Fitting: one network from some windows, hardened against small false readings; same inputs, same bytes.

Robust training minimises `(1-κ)·(ŷ-y)² + κ·max((high-y)², (low-y)²)`, where low and high bound the estimate over every
change of up to ε σ of every reading (Gowal et al. 2018, eq. 12, for squared error). ε and κ grow over the first half.
The weights kept are a moving average over the steps. The front end is fixed, so features are made once.

Determinism: one thread, deterministic kernels, a seed of its own; the caller's random state and settings are restored.
The same inputs give the same bytes on one kind of machine with the locked packages; another processor may round
otherwise.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from twinseal.config import Settings
from twinseal.errors import DataError
from twinseal.prognostics.network import NetworkConfig, RulNetwork
from twinseal.prognostics.windows import Windows


class Recipe(Settings):
    """How a network is made.

    Attributes:
        members: Networks of one ensemble, each from a seed of its own.
        components: Principal components that the channels are projected on; 0 reads them as they are.
        means: Over how many of the newest rows means are taken.
        slopes: Likewise, slopes.
        age: Whether the unit's age is read.
        hidden: Units of each hidden layer.
        leak: Slope of the hidden units below zero.
        epochs: Passes over the training windows.
        least_steps: More passes where so few windows give fewer steps than this.
        batch: Windows of one step.
        learning_rate: The highest of the one-cycle schedule.
        weight_decay: Of AdamW.
        averaging: Share of the old in the moving average of the weights, a step.
        dropout: Share of the hidden units left out at a step.
        baseline_noise: Standard deviation of the noise added to the baseline at every step, in its own spread over the
            training units. Without, a network knows its hundred training units by their baselines: certified error on
            FD001 at 0.1 σ 17.4 cycles without, 16.0 with 0.5.
        epsilon_sigma: ε, the change of every reading to be withstood, in σ; 0 trains without defence.
        kappa: κ, the weight of the worst case against the clean one, 0 to 1.
    """

    members: int = 1
    components: int = 0
    means: tuple[int, ...] = (3, 10, 30, 100)
    slopes: tuple[int, ...] = (10, 30, 100)
    age: bool = True
    hidden: tuple[int, ...] = (64, 64)
    leak: float = 0.02
    epochs: int = 20
    least_steps: int = 0
    batch: int = 256
    learning_rate: float = 5e-3
    weight_decay: float = 1e-2
    averaging: float = 0.99
    dropout: float = 0.0
    baseline_noise: float = 0.5
    epsilon_sigma: float = 0.0
    kappa: float = 0.5

    def model_post_init(self, _context: Any, /) -> None:
        """Refuse values that no training can obey; what only the architecture limits is checked there."""
        limits = {
            "members": (self.members, 1, 32),
            "components": (self.components, 0, 512),
            "epochs": (self.epochs, 1, 10_000),
            "least_steps": (self.least_steps, 0, 1_000_000),
            "batch": (self.batch, 1, 1 << 20),
            "learning_rate": (self.learning_rate, 1e-8, 1.0),
            "weight_decay": (self.weight_decay, 0.0, 10.0),
            "averaging": (self.averaging, 0.0, 0.9999),
            "dropout": (self.dropout, 0.0, 0.9),
            "baseline_noise": (self.baseline_noise, 0.0, 10.0),
            "leak": (self.leak, 0.0, 0.9),
            "hidden, layers": (len(self.hidden), 1, 4),
            "hidden, smallest": (min(self.hidden, default=1), 1, 1024),
            "hidden, largest": (max(self.hidden, default=1), 1, 1024),
            "epsilon_sigma": (self.epsilon_sigma, 0.0, 10.0),
            "kappa": (self.kappa, 0.0, 1.0),
        }
        for name, (value, lowest, highest) in limits.items():
            if not lowest <= value <= highest:
                raise ValueError(f"{name}: expected {lowest} to {highest}, got {value}")

    def network(self, channels: int, window: int, rul_cap_cycles: float, **others: Any) -> NetworkConfig:
        """The architecture for windows of some size; `others` as in `NetworkConfig`: inputs, baseline."""
        chosen = {name: getattr(self, name) for name in ("means", "slopes", "age", "hidden", "leak")}
        tracks = len(others.get("inputs", range(channels)))
        return NetworkConfig.for_window(
            channels, window, components=min(self.components, tracks), rul_cap_cycles=rul_cap_cycles, **chosen, **others
        )


@dataclass(frozen=True)
class Epoch:
    """One pass over the training windows.

    Attributes:
        epoch: From 1.
        loss: Mean training loss, cycles².
        train_rmse_cycles: Of the clean part of it.
        validation_rmse_cycles: Of the averaged weights, afterwards.
        validation_worst_rmse_cycles: The same at the worst end of the interval bounds at the full ε.
    """

    epoch: int
    loss: float
    train_rmse_cycles: float
    validation_rmse_cycles: float
    validation_worst_rmse_cycles: float


@dataclass(frozen=True, eq=False)
class _Data:
    """Features (N, W) and labels (N,) in cycles."""

    features: Tensor
    rul: Tensor


def fit(
    windows: Windows,
    watched: Windows,
    config: NetworkConfig,
    recipe: Recipe,
    *,
    seed: int,
    progress: Callable[[Epoch], None] | None = None,
) -> tuple[RulNetwork, tuple[Epoch, ...]]:
    """A network fitted on `windows`; `watched` is watched and chooses nothing.

    Args:
        windows: To learn from.
        watched: For the history; may be none.
        config: The architecture.
        recipe: How to train.
        seed: Of the first weights, the order of the windows, and the dropout.
        progress: Told of every epoch.

    Returns:
        The network, in evaluation mode, and the history.

    Raises:
        DataError: There are no windows to learn from, or training did not stay finite.
    """
    if not len(windows):
        raise DataError("training: expected windows, got none")
    with reproducible(seed):
        network = RulNetwork(config)
        if config.components:
            network.projection.copy_(_components(windows, config))
        fitted, seen = _data(network, windows), _data(network, watched)
        _fit_scale(network, fitted.features)
        history = tuple(_epochs(network, fitted, seen, recipe, progress))
    return network.eval().requires_grad_(False), history


@contextmanager
def reproducible(seed: int) -> Iterator[None]:
    """Torch on one thread, with deterministic kernels and `seed`; everything is put back afterwards.

    Two threads divide a sum otherwise when the machine is busy (MKL_DYNAMIC): what is signed is measured on one.
    """
    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield
    finally:
        torch.use_deterministic_algorithms(strict)
        torch.set_num_threads(threads)


def loss(
    network: RulNetwork, features: Tensor, rul: Tensor, epsilon_sigma: float, kappa: float, dropout: float = 0.0
) -> tuple[Tensor, Tensor]:
    """The robust loss and its clean part, both means in cycles².

    Args:
        network: What is being trained.
        features: (B, W) float32.
        rul: (B,) float32, cycles.
        epsilon_sigma: ε, in σ of the readings.
        kappa: κ.
        dropout: Share of the hidden units left out of the clean part.
    """
    clean = (network.from_features(features, dropout) - rul).square().mean()
    if not epsilon_sigma or not kappa:
        return clean, clean
    low, high = network.interval_bounds(features, epsilon_sigma)
    worst = torch.maximum((high - rul).square(), (low - rul).square()).mean()
    return (1 - kappa) * clean + kappa * worst, clean


def _components(windows: Windows, config: NetworkConfig) -> Tensor:
    """The directions (K, I) in which the newest rows of the windows vary most; each points where it is largest."""
    rows = windows.rows[windows.ends - 1][:, list(config.inputs)].astype(np.float64)  # (N, I): no padding among them
    _, directions = np.linalg.eigh(np.cov(rows, rowvar=False, bias=True))
    chosen = directions[:, ::-1][:, : config.components].T
    at = np.abs(chosen).argmax(axis=1)
    signs = np.sign(chosen[np.arange(len(chosen)), at])
    return torch.from_numpy((chosen * signs[:, None]).astype(np.float32))


def _data(network: RulNetwork, windows: Windows) -> _Data:
    """The windows' features, made a thousand windows at a time: the windows themselves would be 100 times the rows."""
    starts, context = range(0, len(windows), 1_000), torch.from_numpy(windows.context())
    parts = [
        network.features(torch.from_numpy(windows.batch(slice(start, start + 1_000))), context[start : start + 1_000])
        for start in starts
    ]
    empty = network.feature_mean.new_zeros((0, len(network.feature_mean)))
    return _Data(torch.cat(parts) if parts else empty, torch.from_numpy(windows.rul))


def _fit_scale(network: RulNetwork, features: Tensor) -> None:
    std = features.std(dim=0, correction=0)
    network.feature_mean.copy_(features.mean(dim=0))
    # A feature that never moves carries nothing: leave it at its own scale rather than blow it up.
    network.feature_std.copy_(torch.where(std > 1e-6, std, torch.ones_like(std)))


def _epochs(
    network: RulNetwork, fitted: _Data, watched: _Data, recipe: Recipe, progress: Callable[[Epoch], None] | None
) -> Iterator[Epoch]:
    """Train epoch by epoch; leaves the averaged weights in `network`."""
    count = len(fitted.rul)
    steps = -(-count // recipe.batch)
    epochs = max(recipe.epochs, -(-recipe.least_steps // steps))
    training = _Training(network, recipe, total_steps=epochs * steps)
    for number in range(1, epochs + 1):
        total, clean_total = 0.0, 0.0
        for chosen in torch.split(torch.randperm(count), recipe.batch):
            shown = _with_noise(network, fitted.features[chosen], recipe.baseline_noise)
            robust, clean = training.step(shown, fitted.rul[chosen])
            total, clean_total = total + robust * len(chosen), clean_total + clean * len(chosen)
        if not math.isfinite(total):
            raise DataError(
                f"training: expected a finite loss, got {total} in epoch {number}",
                remedy="Lower the learning_rate of the family in params.yaml.",
            )
        watch = _watch(training.averaged(), watched, recipe.epsilon_sigma)
        epoch = Epoch(number, total / count, math.sqrt(clean_total / count), *watch)
        if progress:
            progress(epoch)
        yield epoch
    network.load_state_dict(training.averaged().state_dict())


def _with_noise(network: RulNetwork, features: Tensor, noise: float) -> Tensor:
    """Features (B, W) with noise on those of the baseline, the last ones; as they are where none is read."""
    tracks = network.config.tracks
    if not network.config.baseline or not noise:
        return features
    drawn = noise * network.feature_std[-tracks:] * torch.randn(len(features), tracks)
    return torch.cat([features[:, :-tracks], features[:, -tracks:] + drawn], dim=1)


class _Training:
    """The state of a training in progress: optimiser, schedules, averaged weights."""

    def __init__(self, network: RulNetwork, recipe: Recipe, total_steps: int) -> None:
        self._network, self._recipe, self._total, self._done = network, recipe, total_steps, 0
        self._average = copy.deepcopy(network)
        self._optimiser = torch.optim.AdamW(
            network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
        )
        # One step more than there are: its first and last learning rates are near 0, and one step alone must learn too.
        self._schedule = torch.optim.lr_scheduler.OneCycleLR(
            self._optimiser, recipe.learning_rate, total_steps=total_steps + 1, cycle_momentum=False
        )

    def step(self, features: Tensor, rul: Tensor) -> tuple[float, float]:
        """One step on (B, W) features and (B,) RULs; gives the loss and its clean part, cycles²."""
        ramp, recipe = min(1.0, 2 * self._done / self._total), self._recipe
        whole, clean = loss(
            self._network, features, rul, ramp * recipe.epsilon_sigma, ramp * recipe.kappa, recipe.dropout
        )
        self._optimiser.zero_grad()
        (whole / self._network.config.rul_cap_cycles**2).backward()  # type: ignore[no-untyped-call]
        self._optimiser.step()
        self._schedule.step()
        self._done += 1
        # The average forgets its start: early on it follows the weights closely.
        share = min(recipe.averaging, self._done / (self._done + 10))
        with torch.no_grad():
            for kept, weight in zip(self._average.parameters(), self._network.parameters(), strict=True):
                kept.lerp_(weight, 1 - share)
        return whole.item(), clean.item()

    def averaged(self) -> RulNetwork:
        """The network of averaged weights."""
        return self._average


def _watch(network: RulNetwork, data: _Data, epsilon_sigma: float) -> tuple[float, float]:
    """RMSE, clean and at the worst end of the interval bounds, in cycles; NaN without windows to watch."""
    with torch.no_grad():
        _, clean = loss(network, data.features, data.rul, 0.0, 0.0)
        worst, _ = loss(network, data.features, data.rul, epsilon_sigma, 1.0)
    return math.sqrt(clean.item()), math.sqrt(worst.item())
