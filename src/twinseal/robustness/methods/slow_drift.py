"""Slow drifts: the histories that raise or lower what the twin says most, told by a few sensors, unnoticed by a guard.

The attacker knows what the other sensors will read, and lets the own ones read what those predict for them
(`guard.cross_channel`) plus a drift that is linear between knots: so the own noise, which would use up a part of the
thresholds, is gone. All that the guard looks at is linear in the drift (`stealth_constraints`), the network nearly so:
a linear programme, made again where its solution leads (Frank & Wolfe 1956: each solution is taken in part).

Two objectives: the newest estimate; and what the ledger would let the twin say at the end, which the lowest statement
of all rows decides: their soft minimum.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from twinseal.guard.cross_channel import CrossChannel
from twinseal.guard.guard import MAX_UNEXPLAINED_VARIANCE
from twinseal.prognostics.checkpoint import Model
from twinseal.prognostics.ensemble import Ensemble, networks_of
from twinseal.prognostics.normaliser import PADDING_ROWS, in_float32, pad
from twinseal.robustness.histories import Doubles, Histories
from twinseal.robustness.methods.linear_programmes import solve
from twinseal.robustness.methods.stealth_constraints import StealthConstraints

NEWEST_ROWS = 20  # each a knot of its own: a network looks at the newest rows most
KNOT_ROWS = 10  # between two knots before them
BLOCK_ROWS = 2  # there so many rows share their tightest bounds: a drift hardly moves within them
APART_ROWS = 5  # between rows whose wear is compared
ASKED_BACK = (0, 3, 6, 10, 15, 20, 30, 40, 50, 60, 80, 100, 120, 140)  # rows before the newest whose statements count
SOFT_CYCLES, LARGE = 4.0, 1e4  # of the soft minimum; no statement
USED_SHARE = 0.6  # of thresholds, that a drift has beside the other sensors' noise, when sensors are chosen
MOST_SETS = 500  # of sensors that are enlarged by one more
SHIFT_STEPS = 300  # of a linear programme of constant shifts
SKETCHED = 10  # sets that are favoured, of each size and for shifts of so many rows
SKETCH_STEPS = 60  # of a linear programme, when sensors are chosen

Sensors = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class SlowDrifts:
    """What an attacker of the last rows of N units can do.

    Args:
        model: Under attack.
        histories: Of the units.
        held: H, how many of the last rows the attacker writes.
        sign: 1 to raise what is said, -1 to lower it.
    """

    model: Model
    histories: Histories
    held: int
    sign: float

    @cached_property
    def _constraints(self) -> StealthConstraints:
        """Of the falls of wear, which are between two rows, only those of every few rows."""
        every, spans = StealthConstraints.of(self.model, self.histories, self.held), len(self.model.guard.spans)
        past, later = np.triu_indices(self.held, self.model.guard.spans[-1])
        some = torch.from_numpy((past % APART_ROWS == 0) & (later % APART_ROWS == 0))[
            : every.later.shape[1] - self.held
        ]
        rows = torch.cat([torch.ones(self.held, dtype=torch.bool), some])
        before, after = spans * self.held * (len(every.allowed) + 1), self.held * len(every.allowed)
        kept = torch.ones(before, dtype=torch.bool), some.repeat(spans), torch.ones(after, dtype=torch.bool)
        low, high = every.low[:, torch.cat(kept)], every.high[:, torch.cat(kept)]
        return replace(every, later=every.later[:, rows], low=low, high=high)

    @cached_property
    def _tails(self) -> Tensor:
        """(N, H + L - 1, C) σ: a window ends with each of the last H rows."""
        length = self.held + self.model.window
        return torch.from_numpy(
            np.stack([pad(in_float32(rows), length)[-length + 1 :] for rows in self.histories.rows])
        )

    @cached_property
    def _basis(self) -> Tensor:
        """(H, K), the weight of each knot in each row."""
        newest = max(0, self.held - NEWEST_ROWS)
        knots = np.union1d(np.arange(newest, 0, -KNOT_ROWS), np.append(np.arange(newest, self.held), 0))
        rows = np.arange(self.held)
        return torch.from_numpy(np.stack([np.interp(rows, knots, one) for one in np.eye(len(knots))], 1)).float()

    @cached_property
    def _blocks(self) -> Tensor:
        """(H,), which rows share their bounds: the number of the block of each."""
        rows = np.arange(self.held)
        alone = (rows < BLOCK_ROWS) | (rows >= self.held - NEWEST_ROWS) | (rows % BLOCK_ROWS == 0)
        return torch.from_numpy(np.cumsum(alone) - 1)

    def falsify(self, sensors: Sensors, *, ledger: bool, rounds: int, steps: int) -> Doubles:
        """The changes (N, H, C) σ of these sensors' readings.

        Args:
            sensors: By index.
            ledger: Whether the objective is what the ledger lets the twin say.
            rounds: How often the gradient is taken.
            steps: Of each linear programme.
        """
        if not sensors:
            return np.zeros((len(self.histories.rows), self.held, len(self.model.channels)))
        change, _ = self._solve(sensors, ledger=ledger, rounds=rounds, steps=steps)
        return self._within(change.double().numpy(), list(sensors))

    def _solve(self, sensors: Sensors, *, ledger: bool, rounds: int, steps: int) -> tuple[Tensor, Tensor]:
        """As `falsify`, and what the attacker gets, (N,) cycles."""
        base, programme = self._base(sensors), self._programme(sensors)
        at, shape = list(sensors), (len(base), self._basis.shape[1], len(sensors))
        drift, best = torch.zeros(shape).flatten(1), base
        worth, gradient = self._objective(base, ledger=ledger)
        for turn in range(rounds):
            slope = torch.einsum("hk,nhs->nks", self._basis, gradient[..., at]).flatten(1)
            drift = drift + 2 / (turn + 2) * (solve(*programme, slope, steps=steps) - drift)
            change = base.clone()
            change[..., at] += torch.einsum("hk,nks->nhs", self._basis, drift.view(shape))
            value, gradient = self._objective(change, ledger=ledger)
            better = value > worth
            best, worth = torch.where(better[:, None, None], change, best), torch.where(better, value, worth)
        return best, worth

    def worth(self, change: Doubles, *, ledger: bool) -> Doubles:
        """What changes (N, H, C) σ are worth to the attacker, (N,) cycles; as `falsify`."""
        return self._objective(torch.from_numpy(change).float(), ledger=ledger)[0].double().numpy()

    def sketch(self, sensors: Sensors, *, ledger: bool) -> Doubles:
        """What the sensors are worth, (N,) cycles, roughly; as `falsify`."""
        return self._solve(sensors, ledger=ledger, rounds=1, steps=SKETCH_STEPS)[1].double().numpy()

    def favoured(self, most: int) -> dict[int, list[Sensors]]:
        """By number of sensors, up to the largest, some sets with which a constant, unnoticed shift does much."""
        _, gradient = self._objective(torch.zeros(len(self._tails), self.held, self._tails.shape[2]), ledger=False)
        spans = sorted({min(self.held, rows) for rows in (NEWEST_ROWS, 2 * NEWEST_ROWS, self.held)})
        tried = [self._favoured(gradient[:, -rows:].sum(1).mean(0), most) for rows in spans]
        return {size: sorted({one for each in tried for one in each[size]}) for size in tried[0]}

    def _favoured(self, worth: Tensor, most: int) -> dict[int, list[Sensors]]:
        """By number of sensors the sets with which a constant, unnoticed shift is worth most, (C,) a σ: some."""
        seen, found, enlarged = self._constraints, dict[int, list[Sensors]](), [Sensors()]
        matrix = torch.cat([seen.scaled[-1], seen.wear[-1]], dim=1)  # (C, C + 1)
        low, high = -torch.full((1, matrix.shape[1]), USED_SHARE), torch.full((1, matrix.shape[1]), USED_SHARE)
        low[0, -1], high[0, -1] = low[0, -1] - max(0.0, self._wear_since()), torch.inf
        for size in range(1, most + 1):
            tried = sorted({tuple(sorted((*one, i))) for one in enlarged for i in range(len(worth)) if i not in one})
            at = torch.tensor(tried)
            bounds = [end.expand(len(tried), 1, -1) for end in (low, high)]
            shift = solve(matrix[at].mT, bounds[0], bounds[1], worth[at][:, None], steps=SHIFT_STEPS)
            order = torch.argsort(-(shift[:, 0] * worth[at]).sum(-1), stable=True)[:MOST_SETS].tolist()
            enlarged = [tried[i] for i in order]
            found[size] = enlarged[:SKETCHED]
        return found

    def _wear_since(self) -> float:
        """By how many usual falls the average wear of these units rises in the last rows."""
        weights, longest = self._constraints.wear[-1, :, 0].double().numpy(), self.model.guard.spans[-1]
        ends = [(rows, rows[: max(1, len(rows) - self.held)]) for rows in self.histories.rows]
        rises = [now[-longest:].mean(axis=0) - before[-longest:].mean(axis=0) for now, before in ends]
        return float(np.mean(rises, axis=0) @ weights)

    def _base(self, sensors: Sensors) -> Tensor:
        """What the other sensors predict for these, less what they read, (N, H, C).

        Only of sensors that the others predict well. Of a unit that the guard would notice so, nothing.
        """
        precision = self.model.guard.matrix
        alike = np.linalg.inv(precision[np.ix_(sensors, sensors)]).diagonal() <= MAX_UNEXPLAINED_VARIANCE
        told = [channel for channel, known in zip(sensors, alike, strict=True) if known]
        rows = self._tails[:, -self.held :].double().numpy()
        base = np.zeros(rows.shape)
        if told:
            base[..., told] = rows @ self._channels.leave_out(frozenset(told)).expected - rows[..., told]
        change, seen = torch.from_numpy(base).float(), self._constraints
        within = (self._tails[:, -self.held :] + change).clamp(*self._range) - self._tails[:, -self.held :]
        found = seen(within)
        unnoticed = ((found >= seen.low) & (found <= seen.high)).all(1)
        return torch.where(unnoticed[:, None, None], within, 0.0)

    @cached_property
    def _channels(self) -> CrossChannel:
        return CrossChannel(self.model.guard)

    @cached_property
    def _network(self) -> Ensemble:
        return networks_of(self.model.inference).plain

    def _programme(self, sensors: Sensors) -> tuple[Tensor, Tensor, Tensor]:
        """A (M, K·k) of the knots' drifts, and its bounds (N, M) beside what the sensors read without one."""
        knots, channels, seen = self._basis.shape[1], self._tails.shape[2], self._constraints
        every = torch.zeros(knots, len(sensors), self.held, channels)
        for place, channel in enumerate(sensors):
            every[:, place, :, channel] = self._basis.T
        base = self._base(sensors)
        now = seen(base)
        matrix, low, high = seen(every.flatten(0, 1)), seen.low - now, seen.high - now
        flat = [self._fewer(part, how, sensors) for part, how in ((matrix, "mean"), (low, "amax"), (high, "amin"))]
        weights = torch.zeros(self.held, len(sensors), *every.shape[:2])  # (H, k, K, k)
        for place in range(len(sensors)):
            weights[:, place, :, place] = self._basis
        read = self._tails[:, -self.held :, list(sensors)] + base[..., list(sensors)]
        least, most = (end[..., list(sensors)] - read for end in self._range)
        own = [weights.flatten(2).flatten(0, 1), least.flatten(1), most.flatten(1)]
        return torch.cat([flat[0].T, own[0]]), torch.cat([flat[1], own[1]], 1), torch.cat([flat[2], own[2]], 1)

    def _fewer(self, values: Tensor, how: str, sensors: Sensors) -> Tensor:
        """Of constraints (B, M) one for each block of rows, (B, M'); on the change a cycle those of these sensors."""
        seen, spans, channels = self._constraints, len(self._constraints.means), self._tails.shape[2]
        pairs = seen.later.shape[1] - self.held
        sizes = [spans * self.held * channels, spans * self.held, spans * pairs, self.held * channels]
        z, worn, above, change = torch.split(values, sizes, dim=1)
        each = (
            z.view(len(values), spans, self.held, channels),
            worn.view(len(values), spans, self.held, 1),
            change.view(len(values), 1, self.held, channels)[..., list(sensors)],
        )
        count, kept = int(self._blocks[-1]) + 1, [above]
        for part in each:
            found = torch.zeros(*part.shape[:2], count, part.shape[3])
            index = self._blocks[:, None].expand(part.shape)
            kept.append(found.scatter_reduce(2, index, part, how, include_self=False).flatten(1))
        return torch.cat(kept, dim=1)

    def _objective(self, change: Tensor, *, ledger: bool) -> tuple[Tensor, Tensor]:
        """What the attacker gets (N,), cycles, and the gradient of it (N, H, C), both with the sign."""
        change = change.clone().requires_grad_()
        back = [rows for rows in (ASKED_BACK if ledger else (0,)) if rows < self.held]
        said, ages = self._said(change, back)
        newest = said[:, :1].detach()
        if not ledger:
            (gradient,) = torch.autograd.grad(said.sum() * self.sign, change)
            return newest[:, 0] * self.sign, gradient
        answers = said.detach().clamp(0, self.model.rul_cap_cycles).double().numpy()
        stated = torch.from_numpy(self.model.at_most("plain", answers) - np.array(back)).float()
        left = torch.cat([stated.where(ages >= 1, torch.inf), newest], dim=1)  # by each statement; by the newest answer
        weights = torch.softmax(-left.clamp(max=LARGE) / SOFT_CYCLES, dim=1)  # the least decides, for either aim
        shares = torch.cat([weights[:, :1] + weights[:, -1:], weights[:, 1:-1]], dim=1)
        (gradient,) = torch.autograd.grad((shares * said).sum() * self.sign, change)
        return left.amin(dim=1) * self.sign, gradient

    def _said(self, change: Tensor, back: list[int]) -> tuple[Tensor, Tensor]:
        """Estimates (N, T) after the rows that are so far back from the newest, and the units' ages then."""
        moved = torch.cat([self._tails[:, : -self.held], self._tails[:, -self.held :] + change], dim=1)
        ends, window = [moved.shape[1] - rows for rows in back], self.model.window
        windows = torch.stack([moved[:, end - window : end] for end in ends], dim=1).flatten(0, 1)  # (N · T, L, C)
        ages = torch.tensor([len(rows) for rows in self.histories.rows])[:, None] - torch.tensor(back)
        context = torch.zeros(ages.numel(), 1 + windows.shape[-1])
        context[:, 0] = ages.flatten().clamp(min=1)
        return self._network(windows, context).view(len(ages), -1), ages

    @cached_property
    def _range(self) -> tuple[Tensor, Tensor]:
        """The contract's range, (N, H, C) σ each, as wide as to hold the truth."""
        limits = [self.model.contract.all_channels[name] for name in self.model.channels]
        regimes = np.stack([np.resize(item[::-1], self.held)[::-1] for item in self.histories.regimes])
        mean, std = self.model.normaliser.mean[regimes], self.model.normaliser.std[regimes]
        ends = (np.array([getattr(limit, end) for limit in limits]) for end in ("minimum", "maximum"))
        low, high = (torch.from_numpy((end - mean) / std).float() for end in ends)
        true = self._tails[:, -self.held :]
        return torch.minimum(low, true), torch.maximum(high, true)

    def _within(self, change: Doubles, at: list[int]) -> Doubles:
        """The change where readings stay in the contract's range; none in the first rows of a unit."""
        true, (low, high) = self._tails[:, -self.held :].double().numpy(), (end.double().numpy() for end in self._range)
        found = np.zeros(change.shape)
        found[..., at] = (np.clip(true + change, low, high) - true)[..., at]
        for unit, rows in enumerate(self.histories.rows):
            found[unit, : max(0, self.held - len(rows) + PADDING_ROWS)] = 0.0
        return found
