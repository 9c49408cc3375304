"""Courses: the training of several networks of one shape, step by step, at the same time.

A course is what one network has for itself: its windows in an order of its own, its features in its own scale, noise
and dropout from its own generator, and a schedule as long as it needs. `Together` takes a step of each at once
(`stacked`).

Robust training minimises `(1-κ)·(ŷ-y)² + κ·max((high-y)², (low-y)²)`, where low and high bound the estimate over every
change of up to ε σ of every reading (Gowal et al. 2018, eq. 12, for squared error). ε and κ grow over the first half.
The weights kept are a moving average over the steps. The front end is fixed, so features are made once.
"""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from twinseal.errors import DataError
from twinseal.prognostics.architecture import NetworkConfig
from twinseal.prognostics.network import RulNetwork
from twinseal.prognostics.stacked import AdamW, Batch, Stack, one_cycle

if TYPE_CHECKING:
    from twinseal.prognostics.fitting import Fit, Recipe
    from twinseal.prognostics.windows import Windows

_GLOBAL_GENERATOR = threading.Lock()  # torch draws first weights from the one that all threads share


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


def _first_weights(config: NetworkConfig, seed: int) -> tuple[RulNetwork, torch.Generator]:
    """A network with random weights, and a generator that goes on from there."""
    generator = torch.Generator()
    with _GLOBAL_GENERATOR, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = RulNetwork(config)
        generator.set_state(torch.get_rng_state())
    return network, generator


def _features(network: RulNetwork, windows: Windows) -> Tensor:
    """The windows' features (N, W), made a thousand windows at a time: the windows would be 100 times the rows."""
    starts, context = range(0, len(windows), 1_000), torch.from_numpy(windows.context())
    parts = [
        network.features(torch.from_numpy(windows.batch(slice(start, start + 1_000))), context[start : start + 1_000])
        for start in starts
    ]
    return torch.cat(parts) if parts else network.feature_mean.new_zeros((0, len(network.feature_mean)))


def _fit_scale(network: RulNetwork, features: Tensor) -> None:
    std = features.std(dim=0, correction=0)
    network.feature_mean.copy_(features.mean(dim=0))
    # A feature that never moves carries nothing: leave it at its own scale rather than blow it up.
    network.feature_std.copy_(torch.where(std > 1e-6, std, torch.ones_like(std)))


@dataclass(eq=False)
class Course:
    """One network's way through its windows: what it reads, in which order, and what was seen on the way.

    Attributes:
        network: With its scale, and the first weights until training has ended.
        features: (N, W) standardised.
        truth: (N,) in caps.
        watched: Features (V, W), and labels (V,) in cycles; none: it is not watched.
        recipe: How to train.
        generator: Of all that is random from here on.
        order: Of the windows in the epoch at hand.
    """

    network: RulNetwork
    features: Tensor
    truth: Tensor
    watched: tuple[Tensor, Tensor] | None
    recipe: Recipe
    generator: torch.Generator
    order: Tensor

    @classmethod
    def of(cls, one: Fit) -> Course:
        """The course of a network with its first weights.

        Raises:
            DataError: There are no windows to learn from.
        """
        if not len(one.windows):
            raise DataError("training: expected windows, got none")
        network, generator = _first_weights(one.config, one.seed)
        if one.config.components:
            network.projection.copy_(_components(one.windows, one.config))
        features = _features(network, one.windows)
        _fit_scale(network, features)
        watched = None
        if one.watched is not None:
            watched = _features(network, one.watched), torch.from_numpy(one.watched.rul)
        standardised = features.sub_(network.feature_mean).div_(network.feature_std)
        truth = torch.from_numpy(one.windows.rul) / one.config.rul_cap_cycles
        return cls(network, standardised, truth, watched, one.recipe, generator, torch.arange(0))

    @property
    def epoch_steps(self) -> int:
        """Steps of a pass over the windows."""
        return -(-len(self.truth) // self.recipe.batch)

    @property
    def steps(self) -> int:
        """Steps of the whole training."""
        epochs = max(self.recipe.epochs, -(-self.recipe.least_steps // self.epoch_steps))
        return epochs * self.epoch_steps

    def ends_epoch(self, step: int) -> bool:
        """Whether a pass over the windows ends with this step."""
        return step < self.steps and (step + 1) % self.epoch_steps == 0

    def chosen(self, step: int) -> Tensor:
        """The windows of one step, by index; none when all steps are done."""
        at, batch = step % self.epoch_steps, self.recipe.batch
        if step >= self.steps:
            return self.order[:0]
        if at == 0:
            self.order = torch.randperm(len(self.truth), generator=self.generator)
        return self.order[at * batch : (at + 1) * batch]

    def noise(self, count: int) -> Tensor | float:
        """What is added to the features of the baseline, (B, K)."""
        config, size = self.network.config, self.recipe.baseline_noise
        return size * torch.randn(count, config.tracks, generator=self.generator) if config.baseline and size else 0.0

    def left_out(self, count: int, size: int) -> list[Tensor]:
        """Of each hidden layer (size, H): 0 for the share of the units that is left out, else what makes up for it."""
        share, hidden = self.recipe.dropout, self.network.config.hidden
        masks = [torch.zeros(size, units) for units in hidden] if share else []
        for mask in masks:
            mask[:count].bernoulli_(1 - share, generator=self.generator).div_(1 - share)
        return masks


class Together:
    """The state of a training in progress: weights, optimiser, schedules, averaged weights, of M networks."""

    def __init__(self, courses: Sequence[Course], recipe: Recipe) -> None:
        self._courses, self._recipe = courses, recipe
        self._stack = Stack([course.network for course in courses])
        self._features, self._truth = (
            torch.cat([getattr(course, name) for course in courses]) for name in ("features", "truth")
        )
        self._starts = [0, *itertools.accumulate(len(course.truth) for course in courses)]
        for course, start in zip(courses, self._starts, strict=False):  # no second copy of them
            course.features = self._features[start : start + len(course.truth)]
        self._optimiser = AdamW(self._stack.values, recipe.weight_decay)
        self.averages = self._stack.values.clone()
        totals = [course.steps for course in courses]
        self._rates = torch.stack([one_cycle(recipe.learning_rate, total, max(totals)) for total in totals], dim=1)
        done = torch.arange(max(totals))[:, None]
        self._ramps = (2 * done / torch.tensor(totals)).clamp(max=1.0)  # (S, M)
        # The average forgets its start: early on it follows the weights closely.
        kept = ((done + 1) / (done + 11)).clamp(max=recipe.averaging)
        self._new = torch.where(done < torch.tensor(totals), 1 - kept, 0.0)  # (S, M)
        self._losses = torch.zeros(2, len(courses))

    def step(self, step: int) -> None:
        """One step of every network that has not ended."""
        recipe, batch = self._recipe, self._batch(step)
        ramp = self._ramps[step][:, None]
        losses = self._stack.descend(batch, ramp * recipe.epsilon_sigma, ramp * recipe.kappa)
        self._losses += torch.stack(losses) * (batch.shares > 0).sum(1)
        self._optimiser.step(self._stack.gradients, self._rates[step][:, None])
        self.averages.lerp_(self._stack.values, self._new[step][:, None])

    def _batch(self, step: int) -> Batch:
        """The windows of one step; where a network has fewer than the others, some that do not count."""
        chosen = [course.chosen(step) for course in self._courses]
        size = max(map(len, chosen))
        rows, shares = torch.zeros((len(chosen), size), dtype=torch.int64), torch.zeros(len(chosen), size)
        for at, (own, start) in enumerate(zip(chosen, self._starts, strict=False)):
            torch.add(own, start, out=rows[at, : len(own)])
            shares[at, : len(own)] = 1 / max(len(own), 1)
        features = self._features.index_select(0, rows.flatten()).view(len(chosen), size, -1)
        for at, course in enumerate(self._courses if self._courses[0].network.config.baseline else ()):
            features[at, : len(chosen[at]), -course.network.config.tracks :] += course.noise(len(chosen[at]))
        masks = [course.left_out(len(own), size) for course, own in zip(self._courses, chosen, strict=True)]
        left_out = [torch.stack(layer) for layer in zip(*masks, strict=True)]
        return Batch(features, self._truth[rows], shares, left_out)

    def end_epoch(self, at: int, number: int) -> tuple[float, float, float, float]:
        """What an `Epoch` says of one network after its `number`.

        Raises:
            DataError: Its loss was not finite.
        """
        course = self._courses[at]
        loss, clean = (float(part[at]) * course.network.config.rul_cap_cycles**2 for part in self._losses)
        self._losses[:, at] = 0
        if not math.isfinite(loss):
            raise DataError(
                f"training: expected a finite loss, got {loss} in epoch {number}",
                remedy="Lower the learning_rate of the family in params.yaml.",
            )
        count = len(course.truth)
        if course.watched is None:
            return loss / count, math.sqrt(clean / count), math.nan, math.nan
        Stack.write(self.averages[at : at + 1], [course.network])
        return loss / count, math.sqrt(clean / count), *_watch(course.network, *course.watched, self._recipe)


def _watch(network: RulNetwork, features: Tensor, rul: Tensor, recipe: Recipe) -> tuple[float, float]:
    """RMSE, clean and at the worst end of the interval bounds, in cycles; NaN without windows to watch."""
    with torch.no_grad():
        _, clean = loss(network, features, rul, 0.0, 0.0)
        worst, _ = loss(network, features, rul, recipe.epsilon_sigma, 1.0)
    return math.sqrt(clean.item()), math.sqrt(worst.item())
