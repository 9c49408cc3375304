"""Guard-aware: an attacker who knows the network and the guard, and makes only changes that the guard does not notice.

A defence must hold when the attacker knows it (Tramèr, Carlini, Brendel & Madry, On Adaptive Attacks to Adversarial
Example Defenses, 2020). The attacker changes the last rows of a history, each reading by at most ε and within the
contract, and raises the estimate as far as possible without a flag of the guard.

The guard's tests are linear in the readings (`methods.stealth_constraints`) and the network is nearly linear, so the
task is nearly a linear programme: take the gradient, move along it within the constraints, repeat. It is solved for all
units and sizes together by ADMM (Stellato et al., OSQP: an Operator Splitting Solver for Quadratic Programs, 2020,
algorithm 1). Sign steps with a penalty find a tenth of it, because they do not follow a constraint.

The constraints are a model of the guard. So each result is given to the real guard, and moved back towards the true
readings, unit by unit, until the guard flags no row that it did not flag in the true readings.

Unchanged: sensors that the attacker does not control, earlier rows, and the first PADDING_ROWS of a unit.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from twinseal.measures.keys import Epsilon, epsilon_key
from twinseal.measures.quantity import NOT_WRITTEN, Keys
from twinseal.measures.robustness import GuardAwareMeasures, Rise
from twinseal.prognostics.checkpoint import Model
from twinseal.prognostics.ensemble import Ensemble, networks_of
from twinseal.prognostics.families import WITH_BASELINE
from twinseal.prognostics.normaliser import PADDING_ROWS, in_float32
from twinseal.robustness.attack import Attack, Plan, Testbed
from twinseal.robustness.attacks.falsified_histories import measure_falsified
from twinseal.robustness.histories import Doubles, Flags, Histories, answers, guard_decisions, worst_answers
from twinseal.robustness.methods.gradient import Box
from twinseal.robustness.methods.stealth_constraints import StealthConstraints, room
from twinseal.robustness.target import NetworkTarget, everyone
from twinseal.robustness.threats import AdaptiveThreat

HALVINGS = 5  # of the way back to the truth
RELAXED = 1.6  # OSQP's α
STRICT, LOOSE = 1.0, 1e-6  # OSQP's ρ and σ
SLOPE = 0.1


def run(testbed: Testbed) -> dict[Epsilon, GuardAwareMeasures]:
    """The attack at each ε of the policy, on the network for any unit and on the one that reads the signed baseline."""
    return measure_guard_aware(testbed.model, testbed.histories, testbed.threats.adaptive)


def keys(plan: Plan) -> Keys:
    """Which ε its measures have."""
    tried = frozenset(map(epsilon_key, plan.threats.adaptive.epsilon_sigma))
    absent = {} if plan.family in WITH_BASELINE else {f"{epsilon}/commissioned": NOT_WRITTEN for epsilon in tried}
    return {"": tried} | absent


def measure_guard_aware(
    model: Model, histories: Histories, threat: AdaptiveThreat
) -> dict[Epsilon, GuardAwareMeasures]:
    """As `run`, of any model and histories."""
    replay, networks = GuardReplay(model, histories, threat.rows), networks_of(model.inference)
    plain = falsify(model, networks.plain, histories, threat, replay)
    true = answers(model, histories, histories.rows)
    rises: list[Rise | None] = [None] * len(plain)
    if networks.commissioned is not None:
        false = falsify(model, networks.commissioned, histories, threat, replay, histories.baselines)
        rises = [_rise(model, histories, rows, histories.baselines) for rows in false]
    found: dict[Epsilon, GuardAwareMeasures] = {}
    for size, rows, commissioned in zip(threat.epsilon_sigma, plain, rises, strict=True):
        measures = measure_falsified(model, histories, rows, -threat.rows)
        found[epsilon_key(size)] = GuardAwareMeasures(
            rise_cycles=float(np.mean(answers(model, histories, rows) - true)),
            unnoticed_share=float(np.mean(replay.unnoticed_units(rows))),
            commissioned=commissioned,
            **measures.fields(),
        )
    return found


def _rise(model: Model, histories: Histories, rows: list[Doubles], baselines: NDArray[np.float32]) -> Rise:
    true = answers(model, histories, histories.rows, baselines)
    estimated = answers(model, histories, rows, baselines)
    rise = float(np.mean(estimated - true))
    return Rise(rise_cycles=rise, **worst_answers(estimated, histories.truth).fields())


def falsify(
    model: Model,
    network: Ensemble,
    histories: Histories,
    threat: AdaptiveThreat,
    replay: GuardReplay,
    baselines: NDArray[np.float32] | None = None,
) -> list[list[Doubles]]:
    """The falsified histories, at each size: of each unit (R, C) σ.

    Boxes lie within each other, so where a smaller size has raised an estimate further, it stands for the larger.

    Args:
        model: Whose guard is evaded.
        network: Whose estimate is raised.
        histories: As they were.
        threat: How many rows the attacker controls, and how far they may move.
        replay: The model's guard over these histories.
        baselines: (U, C) σ, where the network reads them.
    """
    held = min(threat.rows, model.window)
    constraints = StealthConstraints.of(model, histories, held)
    x = torch.from_numpy(np.concatenate([model.inputs(in_float32(rows)) for rows in histories.rows]))  # (N, L, C)
    lengths = np.array([len(rows) for rows in histories.rows])
    context = torch.from_numpy(np.column_stack([lengths, histories.baselines]).astype(np.float32))
    target = NetworkTarget(network.eval(), context)
    found, best = [], [rows.copy() for rows in histories.rows]
    for size in threat.epsilon_sigma:
        change = strong_attack(target, x, _box(model, histories, size, held), constraints, threat)
        now = _move_until_unnoticed(replay, histories, change.double().numpy())
        gained = answers(model, histories, now, baselines) > answers(model, histories, best, baselines)
        best = [new if more else old for new, old, more in zip(now, best, gained, strict=True)]
        found.append(best)
    return found


def strong_attack(
    target: NetworkTarget, x: Tensor, box: Box, constraints: StealthConstraints, threat: AdaptiveThreat
) -> Tensor:
    """Changes of the last rows that raise the estimates, in the box and, nearly, in constraints, (N, H, C) σ."""
    held, change = box.low.shape[1], torch.zeros_like(box.low)
    solver = _Solver(box, constraints)
    for _ in range(threat.rounds):
        moved = x.clone()
        moved[:, -held:] += change
        moved.requires_grad_()
        (gradient,) = torch.autograd.grad(target(moved, everyone(moved)).sum(), moved)
        change = solver.solve(gradient[:, -held:], threat.steps)
    return change


class _Solver:
    """Linear programmes over one box, one after the other: max g·δ subject to low <= A(δ) <= high and δ in the box.

    Args:
        box: Around 0, (N, H, C).
        constraints: A and its bounds.
    """

    def __init__(self, box: Box, constraints: StealthConstraints) -> None:
        self._box, self._constraints = box, constraints
        self._width = float(torch.maximum(box.high, -box.low).max().clamp(min=1e-9))  # of δ: solved for δ / width
        held, channels = box.low.shape[1:]
        every = torch.eye(held * channels).view(-1, held, channels)
        matrix = constraints(every).double() * self._width  # (H·C, M)
        own = (LOOSE + STRICT) * torch.eye(len(matrix), dtype=torch.float64)
        self._inverse = torch.linalg.inv(own + STRICT * matrix @ matrix.T).float()
        self._change = self._within = self._pull = torch.zeros_like(box.low)
        self._seen = self._push = torch.zeros_like(constraints.low)

    def solve(self, gradient: Tensor, steps: int) -> Tensor:
        """The change after so many steps, from where the last programme ended."""
        low, high = self._box.low / self._width, self._box.high / self._width
        slope = gradient / gradient.abs().mean((1, 2), keepdim=True).clamp(min=1e-12) * SLOPE
        for _ in range(steps):
            wanted = LOOSE * self._change + slope + STRICT * self._within - self._pull
            wanted = wanted + self._width * self._constraints.transposed(STRICT * self._seen - self._push)
            new = (wanted.flatten(1) @ self._inverse).view_as(wanted)
            seen = RELAXED * self._width * self._constraints(new) + (1 - RELAXED) * self._seen
            within = RELAXED * new + (1 - RELAXED) * self._within
            self._change = RELAXED * new + (1 - RELAXED) * self._change
            self._seen = torch.clamp(seen + self._push / STRICT, self._constraints.low, self._constraints.high)
            self._within = torch.clamp(within + self._pull / STRICT, low, high)
            self._push = self._push + STRICT * (seen - self._seen)
            self._pull = self._pull + STRICT * (within - self._within)
        return self._within * self._width


def _box(model: Model, histories: Histories, epsilon_sigma: float, held: int) -> Box:
    """How far each reading may move, (N, H, C) σ."""
    low, high = np.zeros((2, len(histories.rows), held, len(model.channels)))
    for unit, (rows, regimes) in enumerate(zip(histories.rows, histories.regimes, strict=True)):
        count = min(held, len(rows) - PADDING_ROWS)
        if count > 0:
            low[unit, -count:], high[unit, -count:] = room(model, rows, regimes, epsilon_sigma, count)
    return Box(torch.from_numpy(low.astype(np.float32)), torch.from_numpy(high.astype(np.float32)))


def _move_until_unnoticed(replay: GuardReplay, histories: Histories, changes: Doubles) -> list[Doubles]:
    """Of each unit as much of its change as the real guard says nothing about, by halving."""
    least, most = np.zeros(len(changes)), np.ones(len(changes))
    share = most.copy()
    for _ in range(1 + HALVINGS):
        silent = replay.unnoticed_units(_apply_changes(histories, changes, share))
        least, most = np.where(silent, share, least), np.where(silent, most, share)
        share = np.where(least == 1, 1.0, (least + most) / 2)
    return _apply_changes(histories, changes, least)


def _apply_changes(histories: Histories, changes: Doubles, shares: Doubles) -> list[Doubles]:
    false = [rows.copy() for rows in histories.rows]
    for rows, change, share in zip(false, changes, shares, strict=True):
        count = min(len(rows), len(change))
        rows[-count:] += share * change[-count:]
    return false


class GuardReplay:
    """The guard over histories whose last rows change again and again; the rows before them pass through it once.

    Args:
        model: Whose guard.
        histories: As they were.
        held: How many of the last rows may be falsified.
    """

    def __init__(self, model: Model, histories: Histories, held: int) -> None:
        self._model, self._histories = model, histories
        before = max(map(len, histories.rows)) - held
        self._last = slice(max(before, 0), None)
        self._guard = model.guard_of(len(histories.rows))
        for _ in guard_decisions(self._guard, model, histories, histories.rows, slice(max(before, 0))):
            pass
        self._true_alarms = self._alarms(histories.rows)

    def unnoticed_units(self, false: list[Doubles]) -> Flags:
        """Of which units the guard flags and refuses no row but those that it flags and refuses of the truth, (N,)."""
        return np.asarray(~(self._alarms(false) & ~self._true_alarms).any(axis=1))

    def _alarms(self, false: list[Doubles]) -> Flags:
        """Which of the last rows it flags or refuses, (N, H)."""
        seen = guard_decisions(copy.deepcopy(self._guard), self._model, self._histories, false, self._last)
        return np.stack([look.flagged.any(axis=1) | (np.array(look.refusals) != "") for look in seen], axis=1)


ATTACKS = (Attack("guard_aware", run, keys, seconds=11),)
