"""Controlled sensors: k sensors report any value within their physical range, as the attacker chooses.

The attacker chooses the sensors for each window: first the best single sensor, then the best second one beside it, and
so on. This greedy choice is a lower bound of the worst case for two and more sensors. For one sensor all choices are
tried.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from twinseal.measures.keys import Count, count_key
from twinseal.measures.quantity import Keys
from twinseal.measures.robustness import OneSensor, OwnedSensorCount, OwnedSensors
from twinseal.prognostics.checkpoint import Model
from twinseal.prognostics.ensemble import networks_of
from twinseal.prognostics.evaluation_set import EvaluationSet
from twinseal.robustness.attack import Attack, Plan, Testbed
from twinseal.robustness.methods.gradient import AttackResult, Box, climb, further
from twinseal.robustness.target import Floats, NetworkTarget, Target, estimates
from twinseal.robustness.threats import Aim, SensorThreat

UP: Aim = "healthy-washing"
AIMS: tuple[Aim, ...] = ("any", "healthy-washing")
PAIRED_SENSORS, PAIRED_WINDOWS = 16, 40  # of the heat map: at most


@dataclass(frozen=True, eq=False)
class Reached:
    """What an attacker reaches with more and more sensors.

    Attributes:
        attacks: With 1, 2, … sensors.
        chosen: (K, N) int64, the sensor added at each size.
        alone: (C, N) float32 cycles, what each sensor does alone.
    """

    attacks: tuple[AttackResult, ...]
    chosen: NDArray[np.int64]
    alone: Floats


def run(testbed: Testbed) -> OwnedSensors:
    """The threat `sensors` of the policy against the model's network for any unit."""
    return measure_owned(testbed.model, testbed.evaluation_set, testbed.threats.sensors)


def keys(plan: Plan) -> Keys:
    """Which numbers of sensors, and which channels, its measures have."""
    counts = frozenset(map(count_key, range(1, plan.threats.sensors.most + 1)))
    pairs_of = {f"pairs/{channel}": plan.channels for channel in plan.channels}
    return {f"by_count/{aim}": counts for aim in AIMS} | {"alone": plan.channels, "pairs": plan.channels} | pairs_of


def measure_owned(model: Model, evaluation_set: EvaluationSet, threat: SensorThreat) -> OwnedSensors:
    """As `run`, of any model and windows."""
    windows, names = evaluation_set.windows, model.channels
    x, regimes = windows.batch(), windows.batch_regimes()
    limits = [model.contract.all_channels[name] for name in names]
    low, high = (
        torch.from_numpy(
            (
                (np.array([getattr(c, end) for c in limits]) - model.normaliser.mean[regimes])
                / model.normaliser.std[regimes]
            ).astype(np.float32)
        )
        for end in ("minimum", "maximum")
    )
    target, read = NetworkTarget.of(networks_of(model.inference).plain, windows), torch.from_numpy(x)
    box = Box(torch.minimum(low, read), torch.maximum(high, read))
    clean = estimates(target, x)
    by_count: dict[Aim, dict[Count, OwnedSensorCount]] = {}
    for aim in AIMS:
        reached = attack_sensors(
            target, x, evaluation_set.truth, box, aim, most=min(threat.most, len(names)), steps=threat.steps
        )
        needed = fewest_sensors(reached, clean, threat.far_cycles)
        by_count[aim] = {
            count_key(k): OwnedSensorCount(
                moved_share=float(np.mean((needed > 0) & (needed <= k))),
                **evaluation_set.worst_case(attack.estimates).fields(),
            )
            for k, attack in enumerate(reached.attacks, start=1)
        }
    rises = (reached.alone - clean).mean(axis=1)
    first = np.bincount(reached.chosen[0], minlength=len(names)) / len(x)
    alone = {
        name: OneSensor(rise_cycles=float(rise), chosen_first_share=float(share))
        for name, rise, share in zip(names, rises, first, strict=True)
    }
    return OwnedSensors(by_count=by_count, alone=alone, pairs=_pairs(model, evaluation_set, box, rises, threat.steps))


def _pairs(
    model: Model, evaluation_set: EvaluationSet, box: Box, rises: Floats, steps: int
) -> dict[str, dict[str, float]]:
    """How high a failing machine's estimate goes on average, 0 to the cap, while two sensors are controlled, or one.

    Of the sensors that raise most alone, so many that the pairs stay few; of the failing windows, so many likewise.
    """
    failing = np.flatnonzero(evaluation_set.failing)
    failing = failing[:: -(-len(failing) // PAIRED_WINDOWS)] if len(failing) else failing
    if not len(failing):
        return {}
    most = np.sort(np.argsort(-rises, kind="stable")[:PAIRED_SENSORS])
    windows = evaluation_set.windows.take(failing)
    target, at = NetworkTarget.of(networks_of(model.inference).plain, windows), torch.from_numpy(failing)
    reached = pairs(target, windows.batch(), Box(box.low[at], box.high[at]), most, steps=steps)
    means = np.clip(reached, 0, model.rul_cap_cycles).mean(axis=2)  # (K, K)
    names = [model.channels[channel] for channel in most]
    return {a: {b: float(means[i, j]) for j, b in enumerate(names)} for i, a in enumerate(names)}


def pairs(target: Target, x: Floats, box: Box, channels: NDArray[np.int64], *, steps: int) -> Floats:
    """How high estimates go when two of `channels` (K,) are controlled, (K, K, N) cycles; on the diagonal, one.

    Args:
        target: Differentiable.
        x: (N, L, C) float32 windows.
        box: The physical range of every reading.
        channels: Indices of sensors.
        steps: Of each climb.
    """
    windows, y, nobody = torch.from_numpy(x), np.zeros(len(x), dtype=np.float32), torch.zeros(len(x), x.shape[2]) > 0
    start, reached = (
        AttackResult(estimates(target, x), x, 1),
        np.zeros((len(channels),) * 2 + (len(x),), dtype=np.float32),
    )
    for i, first in enumerate(channels):
        alone = further(start, _with(target, windows, y, box, UP, nobody, int(first), start, steps), y, UP)
        reached[i, i] = alone.estimates
        controlled = nobody.clone()
        controlled[:, first] = True
        for j in range(i):
            both = _with(target, windows, y, box, UP, controlled, int(channels[j]), alone, steps).estimates
            reached[i, j] = reached[j, i] = np.maximum.reduce([both, alone.estimates, reached[j, j]])
    return reached


def attack_sensors(target: Target, x: Floats, y: Floats, box: Box, aim: Aim, *, most: int, steps: int) -> Reached:
    """Let an attacker choose up to `most` sensors for each window, and set their readings.

    Args:
        target: Differentiable.
        x: (N, L, C) float32 windows.
        y: (N,) float32, true RUL in cycles.
        box: The physical range of every reading.
        aim: any, healthy-washing.
        most: Largest number of sensors.
        steps: Of each climb.

    Raises:
        ValueError: `most` is not within 1 to C.
    """
    count, channels = len(x), x.shape[2]
    if not 1 <= most <= channels:
        raise ValueError(f"sensors: expected 1 to {channels}, got {most}")
    windows, controlled = torch.from_numpy(x), torch.zeros((count, channels), dtype=torch.bool)
    attacks: list[AttackResult] = []
    chosen, alone = np.zeros((most, count), dtype=np.int64), np.zeros((channels, count), dtype=np.float32)
    best = AttackResult(estimates(target, x), x, 1)
    for size in range(most):
        tried = [_with(target, windows, y, box, aim, controlled, channel, best, steps) for channel in range(channels)]
        gains = np.stack([_gain(item.estimates, y, aim) for item in tried])  # (C, N)
        gains[controlled.numpy().T] = -np.inf
        chosen[size] = gains.argmax(axis=0)
        alone = np.stack([item.estimates for item in tried]) if size == 0 else alone
        rows = np.arange(count)
        picked = AttackResult(
            np.stack([item.estimates for item in tried])[chosen[size], rows],
            np.stack([item.changed for item in tried])[chosen[size], rows],
            sum(item.queries for item in tried),
        )
        best = further(best, picked, y, aim)
        controlled[torch.arange(count), torch.from_numpy(chosen[size])] = True
        attacks.append(best)
    return Reached(tuple(attacks), chosen, alone)


def fewest_sensors(reached: Reached, clean: Floats, cycles: float) -> NDArray[np.int64]:
    """The least number of sensors that moves each estimate by so many cycles, (N,); 0 where those tried do not.

    Args:
        reached: What the attacker reached.
        clean: (N,) cycles, the estimates of the windows unmoved.
        cycles: How far is far.
    """
    far = np.stack([np.abs(item.estimates - clean) >= cycles for item in reached.attacks])  # (K, N)
    return np.where(far.any(axis=0), far.argmax(axis=0) + 1, 0).astype(np.int64)


def _with(
    target: Target,
    x: Tensor,
    y: Floats,
    box: Box,
    aim: Aim,
    controlled: Tensor,
    channel: int,
    begun: AttackResult,
    steps: int,
) -> AttackResult:
    """One more sensor: its readings start at either end of their range, those of the others where they are."""
    chosen = controlled.clone()
    chosen[:, channel] = True
    # Only the controlled channels move, as many in each window: what an attack steps through is that much smaller.
    order = torch.sort(chosen.int(), dim=1, descending=True, stable=True).indices[:, : int(chosen.sum(1).max())]
    at, start = order[:, None, :].expand(-1, x.shape[1], -1), torch.from_numpy(begun.changed)  # (N, L, K)
    within = box.only(x, chosen[:, None, :])
    low, high = (end.gather(2, at) for end in (within.low, within.high))
    own, of_channel = _PartialTarget(target, start, at), (at == channel)
    best: AttackResult | None = None
    for sign in (1.0,) if aim == "healthy-washing" else (1.0, -1.0):
        for end in (low, high):
            begin = torch.where(of_channel, end, start.gather(2, at))
            value, version = climb(own, begin, Box(low, high), torch.full((len(x),), sign), steps=steps)
            found = AttackResult((value * sign).numpy(), start.scatter(2, at, version).numpy(), steps + 2)
            best = found if best is None else further(best, found, y, aim)
    assert best is not None  # noqa: S101 - the loops run
    return best


@dataclass(frozen=True, eq=False)
class _PartialTarget:
    """A target whose input is only some channels of each window; the others stay.

    Attributes:
        target: Of whole windows.
        windows: (N, L, C), where the others stay.
        at: (N, L, K), which channels move.
    """

    target: Target
    windows: Tensor
    at: Tensor

    def __call__(self, x: Tensor, at: Tensor) -> Tensor:
        """The estimates, of `x` (N, L, K)."""
        return self.target(self.windows.scatter(2, self.at, x), at)


def _gain(estimated: Floats, y: Floats, aim: Aim) -> Floats:
    return np.abs(estimated - y) if aim == "any" else estimated


ATTACKS = (Attack("owned_sensors", run, keys, tests="by_count", seconds=10),)
