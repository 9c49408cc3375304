"""Fitting: one network from some windows, hardened against small false readings; same inputs, same bytes.

How is in `course`, what is computed in a step in `stacked`.

Determinism: one thread, deterministic kernels, a seed of its own; the caller's random state and settings are restored.
The same inputs give the same bytes on one kind of machine with the locked packages; another processor may round
otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from twinseal.config import Settings
from twinseal.prognostics.architecture import NetworkConfig
from twinseal.prognostics.course import Course, Together
from twinseal.prognostics.network import RulNetwork
from twinseal.prognostics.stacked import Stack
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
class Fit:
    """One network to be fitted.

    Attributes:
        windows: To learn from.
        config: The architecture.
        recipe: How to train.
        seed: Of the first weights, the order of the windows, the noise and the dropout.
        watched: For the history, of which they are; they choose nothing. Without, there is no history.
    """

    windows: Windows
    config: NetworkConfig
    recipe: Recipe
    seed: int
    watched: Windows | None = None

    @property
    def kind(self) -> tuple[NetworkConfig, Recipe]:
        """What must be the same in networks that are fitted together."""
        return self.config.model_copy(update={"oldest_cycles": 1}), self.recipe


def fit(
    windows: Windows,
    watched: Windows,
    config: NetworkConfig,
    recipe: Recipe,
    *,
    seed: int,
    progress: Callable[[Epoch], None] | None = None,
) -> tuple[RulNetwork, tuple[Epoch, ...]]:
    """A network fitted on `windows`; `guard_outcome` is watched and chooses nothing.

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
    return fit_together([Fit(windows, config, recipe, seed, watched)], progress)[0]


def fit_together(
    fits: Sequence[Fit], progress: Callable[[Epoch], None] | None = None
) -> list[tuple[RulNetwork, tuple[Epoch, ...]]]:
    """Networks of one shape by one recipe, fitted at the same time; each is what it would be alone, but for rounding.

    Args:
        fits: Their configs differ in `oldest_cycles` at most, their recipes not at all.
        progress: Told of every epoch of those that are watched.

    Returns:
        As `fit`, in the order of `fits`.

    Raises:
        ValueError: They differ in more.
        DataError: As `fit`.
    """
    kinds = {one.kind for one in fits}
    if len(kinds) != 1:
        raise ValueError(f"fit: expected networks of one shape and one recipe, got {len(kinds)} kinds")
    histories: list[list[Epoch]] = [[] for _ in fits]
    with _deterministic(), torch.no_grad():
        courses = [Course.of(one) for one in fits]
        together = Together(courses, fits[0].recipe)
        for step in range(max(course.steps for course in courses)):
            together.step(step)
            for at in (at for at, course in enumerate(courses) if course.ends_epoch(step)):
                number = len(histories[at]) + 1
                histories[at].append(Epoch(number, *together.end_epoch(at, number)))
                if progress and fits[at].watched is not None:
                    progress(histories[at][-1])
        Stack.write(together.averages, [course.network for course in courses])
    networks = [course.network.eval().requires_grad_(False) for course in courses]
    return list(zip(networks, map(tuple, histories), strict=True))


@contextmanager
def reproducible(seed: int) -> Iterator[None]:
    """Torch on one thread, with deterministic kernels and `seed`; everything is put back afterwards."""
    with _deterministic(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


@contextmanager
def _deterministic() -> Iterator[None]:
    """Torch on one thread, with deterministic kernels.

    Two threads divide a sum otherwise when the machine is busy (MKL_DYNAMIC): what is signed is measured on one.
    """
    threads, strict = torch.get_num_threads(), torch.get_deterministic_debug_mode()
    torch.set_num_threads(1)
    torch.set_deterministic_debug_mode("error")  # as `use_deterministic_algorithms`, which imports a compiler first
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(strict)
        torch.set_num_threads(threads)
