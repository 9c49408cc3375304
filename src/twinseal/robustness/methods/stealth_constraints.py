"""Stealth constraints: which changes of the last rows of a history the guard does not notice, as linear bounds.

The averages of a guard over its spans are linear in the readings; its disagreements z and its wear are linear in the
averages, and the wear may fall only so far below the highest before it (`guard.parameters`, `guard.wear`). So the
changes δ (H, C) of the last H rows of a unit about which nothing is said are those with `low <= A(δ) <= high`: a
polytope that holds the truth, δ = 0. Where the truth itself goes further than a bound, the bound is the truth.

The change a cycle that the contract allows is linear too; its range becomes bounds on each reading (`room`). Not here:
what the guard remembers of alarms of its own, and readings that stand still; whoever uses this asks the guard in the
end.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from twinseal.prognostics.checkpoint import Model
from twinseal.robustness.histories import Doubles, Histories, Ints

MARGIN = 0.985  # of each threshold: rounding, and a solution that is not quite one


@dataclass(frozen=True, eq=False)
class StealthConstraints:
    """A(δ), and its bounds for N units.

    Attributes:
        means: (S, H, H), changes → changes of the averages.
        scaled: (S, C, C), averages → z, in thresholds.
        wear: (S, C, 1), averages → wear, in the falls that are usual.
        later: (H, H + Q), wear → wear, and how far it is above each later one that it is the past of.
        step: (H, H), changes → by how much more a reading changes from the row before.
        allowed: (C,) σ, how much it may.
        low: (N, M).
        high: (N, M).
    """

    means: Tensor
    scaled: Tensor
    wear: Tensor
    later: Tensor
    step: Tensor
    allowed: Tensor
    low: Tensor
    high: Tensor

    @classmethod
    def of(cls, model: Model, histories: Histories, held: int) -> StealthConstraints:
        """The constraints about the last `held` rows of `histories`."""
        guard, longest = model.guard, model.guard.spans[-1]
        precision, thresholds, falls = guard.matrix, np.array(guard.thresholds), np.array(guard.falls)
        scaled = precision / np.sqrt(np.diag(precision)) / thresholds[:, None, :]  # (S, C, C)
        wear = np.array(guard.wear) / falls[:, None]  # (S, C)
        means = np.stack([_means(held, span, longest) for span in guard.spans])  # (S, H, longest + H)
        later, past = _later(held, longest)
        tails = _tails(histories.rows, longest + held)
        averages = np.einsum("sht,ntc->nshc", means, tails)
        at = np.array([len(rows) for rows in histories.rows])[:, None] - held + np.arange(held)  # (N, H), its row
        seen = at[:, None, :] + 1 >= np.array(guard.spans)[:, None]  # (N, S, H)
        z, worn = averages @ scaled, np.einsum("nshc,sc->nsh", averages, wear)
        highest = np.stack([_highest(rows, wear, guard.spans, held) for rows in histories.rows])  # (N, S, H)
        above = worn @ later[:, held:]  # (N, S, Q)
        allowed = _allowed(model)[0]  # with several regimes `room` sees to it
        steps = np.diff(tails, axis=1)[:, -held:] / allowed  # (N, H, C)
        usual = np.where(seen[..., None], MARGIN, np.inf)
        rate = np.where((at >= 1)[..., None] & (model.contract.regimes is None), MARGIN, np.inf)
        falling = np.where(seen, highest - worn - MARGIN, -np.inf)
        lows = (-usual - z, falling, np.full(above.shape, -np.inf), -rate - steps)
        highs = (
            usual - z,
            np.full(worn.shape, np.inf),
            np.where(seen[:, :, past], MARGIN - above, np.inf),
            rate - steps,
        )
        low, high = (np.concatenate([part.reshape(len(at), -1) for part in side], axis=1) for side in (lows, highs))
        parts = (means[:, :, longest:], scaled, wear[:, :, None], later, np.eye(held) - np.eye(held, k=-1), allowed)
        return cls(*map(_floats, (*parts, np.minimum(low, 0), np.maximum(high, 0))))

    def __call__(self, changes: Tensor) -> Tensor:
        """A(δ), (B, M), of changes (B, H, C)."""
        averages = torch.einsum("sht,btc->bshc", self.means, changes)
        worn = (averages @ self.wear)[..., 0] @ self.later  # (B, S, H + Q)
        parts = (
            averages @ self.scaled,
            worn[..., : self.held],
            worn[..., self.held :],
            self.step @ changes / self.allowed,
        )
        return torch.cat([part.flatten(1) for part in parts], dim=1)

    def transposed(self, values: Tensor) -> Tensor:
        """Aᵀ(y), (B, H, C), of values (B, M)."""
        spans, (held, channels) = len(self.means), (self.held, len(self.allowed))
        pairs, taken, parts = self.later.shape[1] - held, 0, []
        for shape in ((spans, held, channels), (spans, held), (spans, pairs), (held, channels)):
            parts.append(values[:, taken : taken + math.prod(shape)].reshape(len(values), *shape))
            taken += math.prod(shape)
        z, worn, above, steps = parts
        wear = torch.cat([worn, above], dim=2) @ self.later.T  # (B, S, H)
        averages = z @ self.scaled.mT + wear[..., None] * self.wear[:, None, :, 0]
        moved = torch.einsum("sht,bshc->btc", self.means, averages)
        return moved + self.step.T @ (steps / self.allowed)

    @property
    def held(self) -> int:
        """H, the rows that are changed."""
        return self.means.shape[1]


def room(model: Model, rows: Doubles, regimes: Ints, epsilon_sigma: float, held: int) -> tuple[Doubles, Doubles]:
    """How far each of the last `held` readings of a unit may move down and up, (H, C) σ each.

    By ε and within the contract's range. With several regimes a reading may not change by more than it can since the
    last one of its regime, and which that is differs from unit to unit: half of what is left of that on either side.
    """
    limits = [model.contract.all_channels[name] for name in model.channels]
    mean, std = model.normaliser.mean[regimes], model.normaliser.std[regimes]
    least, most = (
        (np.array([getattr(limit, end) for limit in limits]) - mean) / std - rows for end in ("minimum", "maximum")
    )
    far = np.full(rows.shape, epsilon_sigma)
    for regime, allowed in enumerate(_allowed(model) if model.contract.regimes else ()):
        at = np.flatnonzero(regimes == regime)
        half = np.maximum(MARGIN * allowed * np.diff(at)[:, None] - np.abs(np.diff(rows[at], axis=0)), 0) / 2
        far[at[1:]] = np.minimum(far[at[1:]], half)
        far[at[:-1]] = np.minimum(far[at[:-1]], half)
    return np.clip(least, -far, 0)[-held:], np.clip(most, 0, far)[-held:]


def _allowed(model: Model) -> Doubles:
    """How far each channel may move in a cycle, by regime, (K, C) σ."""
    changes = [model.contract.all_channels[name].max_change_per_cycle for name in model.channels]
    return np.array(changes) / model.normaliser.std


def _means(held: int, span: int, longest: int) -> Doubles:
    """Rows (longest + H) → their averages over each span that ends with one of the last H, (H, longest + H)."""
    ends, rows = np.arange(held)[:, None] + longest, np.arange(longest + held)
    return ((rows <= ends) & (rows > ends - span)) / span


def _later(held: int, longest: int) -> tuple[Doubles, NDArray[np.int64]]:
    """What `StealthConstraints.later` is, (H, H + Q), and which row is the past in each of the Q pairs."""
    past, now = np.triu_indices(held, longest) if held > longest else (np.zeros(0, dtype=np.int64),) * 2
    pairs = np.zeros((held, len(past)))
    pairs[past, np.arange(len(past))], pairs[now, np.arange(len(now))] = 1, -1
    return np.concatenate([np.eye(held), pairs], axis=1), past


def _highest(rows: Doubles, wear: Doubles, spans: tuple[int, ...], held: int) -> Doubles:
    """The highest average wear before each of the last rows that is old enough and true, (S, H); -inf for none."""
    highest = np.full((len(spans), held), -np.inf)
    for k, span in enumerate(spans):
        sums = np.concatenate([[0.0], np.cumsum(rows[: max(len(rows) - held, 0)] @ wear[k])])
        averages = np.maximum.accumulate((sums[span:] - sums[:-span]) / span)  # of rows span - 1 and later
        for row in range(held):
            old = min(len(rows) - held + row - spans[-1] - span + 2, len(averages))
            if old > 0:
                highest[k, row] = averages[old - 1]
    return highest


def _tails(rows: list[Doubles], length: int) -> Doubles:
    """The last rows of each unit, (N, length, C), zeros before the first."""
    return np.stack([np.concatenate([np.zeros((length, item.shape[1])), item])[-length:] for item in rows])


def _floats(values: Doubles) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))
