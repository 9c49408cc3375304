"""One machine's whole life under each attack, as a twin would have shown it: an example to look at, not a measure.

The unit is chosen so that it does not flatter: of those that training never saw, the one whose error is the median.
Every attack here is one history, which the guard sees row by row as it would in the plant; attacks that change each
window by itself, as if the past had been another one every cycle, are not of this kind.

>>> median_unit(np.array([0, 0, 1, 1, 2, 2]), np.array([1.0, 1.0, 9.0, 9.0, 4.0, 4.0]))
2
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from twinseal.measures.keys import epsilon_key
from twinseal.measures.words import name_words, sized, words
from twinseal.prognostics.checkpoint import Model
from twinseal.prognostics.ensemble import networks_of
from twinseal.prognostics.evaluation import estimates
from twinseal.prognostics.normaliser import PADDING_ROWS, in_float32
from twinseal.robustness.attack import Testbed
from twinseal.robustness.attacks.falsified_histories import falsify_histories, inject_histories, key_of
from twinseal.robustness.attacks.guard_aware import GuardReplay, falsify
from twinseal.robustness.histories import Doubles, Histories, guard_decisions
from twinseal.robustness.methods.gradient import Box, climb
from twinseal.robustness.target import NetworkTarget, everyone

STEPS = 30


@dataclass(frozen=True)
class LifeRow:
    """The estimates after one cycle of the unit, under one attack: a row of lives.csv.

    Attributes:
        unit: The machine.
        attack: Its name and size; "no attack" for the truth.
        cycle: Of the unit.
        true_rul: Cycles left, capped.
        network: What the network estimates without a guard, cycles.
        guarded: The same with the guard; None where it abstains.
    """

    unit: str
    attack: str
    cycle: int
    true_rul: float
    network: float
    guarded: float | None


def example_lives(testbed: Testbed) -> Iterator[LifeRow]:
    """The estimates over the life of one validation unit, without an attack and under each, at a middle size."""
    model, windows = testbed.model, testbed.prepared.validation
    squares = np.square(estimates(networks_of(model.inference).plain, windows) - windows.rul)
    chosen = windows.take(windows.units == median_unit(windows.units, squares))
    history, name = Histories.of(chosen), chosen.unit_names[int(chosen.units[0])]
    truth = dict(zip(chosen.cycles.tolist(), chosen.rul.tolist(), strict=True))
    for attack, rows in _histories_under_attack(testbed, history):
        for cycle, (bare, guarded) in enumerate(_estimates_by_cycle(model, history, rows), start=1):
            if cycle in truth:
                yield LifeRow(name, attack, cycle, truth[cycle], bare, guarded)


def median_unit(units: NDArray[np.int64], squares: NDArray[np.floating]) -> int:
    """The unit whose mean square error is the median, the lower of two in the middle; ties go to the lower index.

    Args:
        units: (N,) int, the unit of each window; not empty.
        squares: (N,) float, squared error of each window, cycles².
    """
    known = np.unique(units)
    means = np.array([squares[units == unit].mean() for unit in known])
    return int(known[np.argsort(means, kind="stable")[(len(known) - 1) // 2]])


def _histories_under_attack(testbed: Testbed, history: Histories) -> Iterator[tuple[str, list[Doubles]]]:
    """The history as it was, and falsified by each attacker."""
    model, threats = testbed.model, testbed.threats
    yield "no attack", history.rows
    everything = threats.evasion[0]
    epsilon = _middle(everything.epsilon_sigma)
    yield words(f"{everything.name}/{epsilon_key(epsilon)}"), [raise_estimates(model, history.rows[0], epsilon)]
    injection = threats.asset(model.contract.asset).injection
    percent = np.full((1, len(injection.sensors)), max(injection.random_percent))
    yield name_words(threats.injection.name), inject_histories(model, history, injection, percent, interim=False)
    for threat in threats.scenarios:
        size = _middle(threat.sizes)
        false = falsify_histories(model, history, threat, size, testbed.channels[threat.sensors])
        yield sized(threat.name, key_of(threat, size)), false
    replay = GuardReplay(model, history, threats.adaptive.rows)
    rows = falsify(model, networks_of(model.inference).plain, history, threats.adaptive, replay)[-1]
    yield words(f"{threats.adaptive.name}/{epsilon_key(threats.adaptive.epsilon_sigma[-1])}"), rows


def raise_estimates(model: Model, rows: Doubles, epsilon: float) -> Doubles:
    """One history (R, C) in which every reading is off by at most ε, and the estimates are high over all its life."""
    length, ages = model.window, torch.arange(1, len(rows) + 1, dtype=torch.float32)
    context = torch.cat([ages[:, None], torch.zeros(len(rows), rows.shape[1])], dim=1)
    network = NetworkTarget(networks_of(model.inference).plain.eval(), context)

    def whole(x: Tensor, at: Tensor) -> Tensor:
        padded = torch.cat([x[0, :PADDING_ROWS].mean(0).expand(length - 1, -1), x[0]])
        every = padded.unfold(0, length, 1).transpose(1, 2)  # (R, L, C)
        return network(every, everyone(every)).sum().expand(len(at))

    x = torch.from_numpy(in_float32(rows))[None]
    return climb(whole, x, Box.around(x, epsilon), torch.ones(1), steps=STEPS)[1][0].double().numpy()


def _estimates_by_cycle(model: Model, history: Histories, false: list[Doubles]) -> Iterator[tuple[float, float | None]]:
    """After each cycle, the estimate without a guard and with it."""
    guard, rows = model.guard_of(window=model.window), in_float32(false[0])
    for cycle, decision in enumerate(guard_decisions(guard, model, history, false), start=1):
        bare = model.answer(rows[:cycle], cycle)
        yield (
            bare,
            None
            if decision.refusals[0]
            else model.answer(in_float32(guard.window(min(cycle, model.window))[0]), cycle),
        )


def _middle(sizes: tuple[float, ...]) -> float:
    return sizes[len(sizes) // 2]
