"""Training: the network from prepared windows, hardened against small false readings; same inputs, same bytes.

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

import structlog
import torch
from torch import Tensor

from twinseal.config import Settings
from twinseal.errors import DataError
from twinseal.prognostics.network import NetworkConfig, RulNetwork
from twinseal.prognostics.windows import Prepared, Windows

log = structlog.get_logger()


class RobustParams(Settings):
    """How hard training defends.

    Attributes:
        epsilon_sigma: ε, the change of every reading to be withstood, in σ; 0 trains without defence.
        kappa: κ, the weight of the worst case against the clean one, 0 to 1.
    """

    epsilon_sigma: float = 0.1
    kappa: float = 0.5


class TrainParams(Settings):
    """The section `train` of params.yaml.

    Attributes:
        seed: Of the first weights and the order of the windows.
        epochs: Passes over the training windows.
        batch: Windows of one step.
        learning_rate: The highest of the one-cycle schedule.
        weight_decay: Of AdamW.
        averaging: Share of the old in the moving average of the weights, a step.
        hidden: Units of each hidden layer.
        robust: The defence.
    """

    seed: int = 7
    epochs: int = 30
    batch: int = 256
    learning_rate: float = 5e-3
    weight_decay: float = 1e-2
    averaging: float = 0.99
    hidden: tuple[int, ...] = (64, 64)
    robust: RobustParams = RobustParams()

    def model_post_init(self, _context: Any, /) -> None:
        """Refuse values that no training can obey."""
        limits = {
            "seed": (self.seed, 0, 2**32 - 1),
            "epochs": (self.epochs, 1, 10_000),
            "batch": (self.batch, 1, 1 << 20),
            "learning_rate": (self.learning_rate, 1e-8, 1.0),
            "weight_decay": (self.weight_decay, 0.0, 10.0),
            "averaging": (self.averaging, 0.0, 0.9999),
            "hidden, layers": (len(self.hidden), 1, 4),
            "hidden, smallest": (min(self.hidden, default=1), 1, 1024),
            "hidden, largest": (max(self.hidden, default=1), 1, 1024),
            "robust.epsilon_sigma": (self.robust.epsilon_sigma, 0.0, 10.0),
            "robust.kappa": (self.robust.kappa, 0.0, 1.0),
        }
        for name, (value, lowest, highest) in limits.items():
            if not lowest <= value <= highest:
                raise ValueError(f"{name}: expected {lowest} to {highest}, got {value}")


@dataclass(frozen=True)
class Epoch:
    """One pass over the training windows.

    Attributes:
        epoch: From 1.
        loss: Mean training loss, cycles².
        train_rmse_cycles: Of the clean part of it.
        validation_rmse_cycles: Of the averaged weights, afterwards.
        validation_worst_rmse_cycles: The same at the worst end of the bounds at the full ε.
    """

    epoch: int
    loss: float
    train_rmse_cycles: float
    validation_rmse_cycles: float
    validation_worst_rmse_cycles: float


@dataclass(frozen=True, eq=False)
class _Data:
    """Features (N, F·C) and labels (N,) in cycles."""

    features: Tensor
    rul: Tensor


def train(
    prepared: Prepared, params: TrainParams, *, progress: Callable[[Epoch], None] | None = None
) -> tuple[RulNetwork, tuple[Epoch, ...]]:
    """A network trained on `prepared.train`; `prepared.validation` is watched and chooses nothing.

    Args:
        prepared: The windows.
        params: How to train.
        progress: Told of every epoch.

    Returns:
        The network, in evaluation mode, and the history.

    Raises:
        DataError: There are no windows to learn from, or training did not stay finite.
    """
    if not len(prepared.train):
        raise DataError("training: expected windows, got none")
    config = NetworkConfig.for_window(len(prepared.channels), prepared.window, params.hidden, prepared.rul_cap_cycles)
    with reproducible(params.seed):
        network = RulNetwork(config)
        fitted, watched = _data(network, prepared.train), _data(network, prepared.validation)
        _fit_scale(network, fitted.features)
        history = tuple(_epochs(network, fitted, watched, params, progress))
    log.info(
        "network.trained", epochs=len(history), validation_rmse_cycles=round(history[-1].validation_rmse_cycles, 2)
    )
    return network.eval().requires_grad_(False), history


@contextmanager
def reproducible(seed: int) -> Iterator[None]:
    """Torch on one thread, with deterministic kernels and `seed`; everything is put back afterwards."""
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
    network: RulNetwork, features: Tensor, rul: Tensor, epsilon_sigma: float, kappa: float
) -> tuple[Tensor, Tensor]:
    """The robust loss and its clean part, both means in cycles².

    Args:
        network: What is being trained.
        features: (B, F·C) float32.
        rul: (B,) float32, cycles.
        epsilon_sigma: ε, in σ of the readings.
        kappa: κ.
    """
    clean = (network.from_features(features) - rul).square().mean()
    if not epsilon_sigma or not kappa:
        return clean, clean
    low, high = network.bounds_from_features(features, epsilon_sigma)
    worst = torch.maximum((high - rul).square(), (low - rul).square()).mean()
    return (1 - kappa) * clean + kappa * worst, clean


def _data(network: RulNetwork, windows: Windows) -> _Data:
    """The windows' features, made a thousand windows at a time: the windows themselves would be 100 times the rows."""
    starts = range(0, len(windows), 1_000)
    parts = [network.features(torch.from_numpy(windows.batch(slice(start, start + 1_000)))) for start in starts]
    empty = network.feature_mean.new_zeros((0, len(network.feature_mean)))
    return _Data(torch.cat(parts) if parts else empty, torch.from_numpy(windows.rul))


def _fit_scale(network: RulNetwork, features: Tensor) -> None:
    std = features.std(dim=0, correction=0)
    network.feature_mean.copy_(features.mean(dim=0))
    # A feature that never moves carries nothing: leave it at its own scale rather than blow it up.
    network.feature_std.copy_(torch.where(std > 1e-6, std, torch.ones_like(std)))


def _epochs(
    network: RulNetwork, fitted: _Data, watched: _Data, params: TrainParams, progress: Callable[[Epoch], None] | None
) -> Iterator[Epoch]:
    """Train epoch by epoch; leaves the averaged weights in `network`."""
    count = len(fitted.rul)
    fit = _Fit(network, params, total_steps=params.epochs * -(-count // params.batch))
    for number in range(1, params.epochs + 1):
        total, clean_total = 0.0, 0.0
        for chosen in torch.split(torch.randperm(count), params.batch):
            robust, clean = fit.step(fitted.features[chosen], fitted.rul[chosen])
            total, clean_total = total + robust * len(chosen), clean_total + clean * len(chosen)
        if not math.isfinite(total):
            raise DataError(
                f"training: expected a finite loss, got {total} in epoch {number}", remedy="Lower train.learning_rate."
            )
        watch = _watch(fit.averaged(), watched, params.robust.epsilon_sigma)
        epoch = Epoch(number, total / count, math.sqrt(clean_total / count), *watch)
        if progress:
            progress(epoch)
        yield epoch
    network.load_state_dict(fit.averaged().state_dict())


class _Fit:
    """The state of a training in progress: optimiser, schedules, averaged weights."""

    def __init__(self, network: RulNetwork, params: TrainParams, total_steps: int) -> None:
        self._network, self._params, self._total, self._done = network, params, total_steps, 0
        self._average = copy.deepcopy(network)
        self._optimiser = torch.optim.AdamW(
            network.parameters(), lr=params.learning_rate, weight_decay=params.weight_decay
        )
        # One step more than there are: its first and last learning rates are near 0, and one step alone must learn too.
        self._schedule = torch.optim.lr_scheduler.OneCycleLR(
            self._optimiser, params.learning_rate, total_steps=total_steps + 1, cycle_momentum=False
        )

    def step(self, features: Tensor, rul: Tensor) -> tuple[float, float]:
        """One step on (B, F·C) features and (B,) RULs; gives the loss and its clean part, cycles²."""
        ramp = min(1.0, 2 * self._done / self._total)
        robust = self._params.robust
        whole, clean = loss(self._network, features, rul, ramp * robust.epsilon_sigma, ramp * robust.kappa)
        self._optimiser.zero_grad()
        (whole / self._network.config.rul_cap_cycles**2).backward()  # type: ignore[no-untyped-call]
        self._optimiser.step()
        self._schedule.step()
        self._done += 1
        # The average forgets its start: early on it follows the weights closely.
        share = min(self._params.averaging, self._done / (self._done + 10))
        with torch.no_grad():
            for kept, weight in zip(self._average.parameters(), self._network.parameters(), strict=True):
                kept.lerp_(weight, 1 - share)
        return whole.item(), clean.item()

    def averaged(self) -> RulNetwork:
        """The network of averaged weights."""
        return self._average


def _watch(network: RulNetwork, data: _Data, epsilon_sigma: float) -> tuple[float, float]:
    """RMSE, clean and at the worst end of the bounds, in cycles; NaN without windows to watch."""
    with torch.no_grad():
        _, clean = loss(network, data.features, data.rul, 0.0, 0.0)
        worst, _ = loss(network, data.features, data.rul, epsilon_sigma, 1.0)
    return math.sqrt(clean.item()), math.sqrt(worst.item())
