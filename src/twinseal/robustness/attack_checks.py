"""Reasons to doubt an attack's numbers: a weak attack makes any model look strong.

Follows the checklists of Athalye, Carlini & Wagner (Obfuscated Gradients, 2018) and Carlini et al. (On Evaluating
Adversarial Robustness, 2019). Each flag is one observation about one attack; a flag does not fail a model, it fails the
comfort that the number would give, and the gates decide how many may be raised.

    flag                     raised if                                      why                        what to do
    attack-without-effect    an attack moves no estimate                    it did not run             see its inputs
    no-growth                a larger ε does less damage than a smaller     the search is stuck        more starts
    weaker-than-noise        random noise at the same ε does more           the gradient misleads      use square
    one-step-beats-many      FGM does more than PGD                         PGD did not converge       smaller steps
    zero-gradients           windows without a gradient that nothing        the gradient is masked     a stand-in
                             moved though the certificate leaves room
    black-box-beats-white    square or transfer does more than all attacks  the gradient is masked     trust square
                             together that know the network
    not-converged            twice the steps gain a tenth more              the search was cut off     more steps
    random-output            asked twice, the network says two things       averages hide the attack   fix its seed
    over-budget              a reading moved further than ε                 the attack cheats          mend it
    outside-certificate      an estimate left the certified bounds          certificate or attack      mend it, sign
                                                                            is wrong                   nothing

Attacks without a label cannot be raised: `art_adapter` refuses to run one, see there.

Damage is what the aim wants: for `any` the RMSE in cycles, for `healthy-washing` the mean rise of the estimate.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from twinseal.measures.keys import Aim, epsilon_key
from twinseal.measures.robustness import AttackName, CheckName
from twinseal.prognostics.evaluation_set import EvaluationSet
from twinseal.robustness.threats import Sanity

Floats = NDArray[np.float32]

NOISE: Final = "noise"
BLACK_BOX = ("square", "transfer")
GAIN_SLACK = 0.1  # of the damage, that twice the steps may add
STEP_SLACK = 0.01  # of FGM's damage: on a nearly linear network both end in the same corner, PGD a step short of it
BUDGET_SLACK = 1e-5  # of ε, and in σ: ART adds and subtracts in float32


@dataclass(frozen=True, eq=False)
class Run:
    """One attack at one budget.

    Attributes:
        threat: Name of the threat.
        attack: What was run, noise among it.
        aim: any or healthy-washing.
        epsilon_sigma: The budget, σ.
        estimates: (N,) float32, cycles, under attack.
        largest_change_sigma: The furthest that a reading moved, σ.
    """

    threat: str
    attack: AttackName
    aim: Aim
    epsilon_sigma: float
    estimates: Floats
    largest_change_sigma: float

    @property
    def name(self) -> str:
        """How flags and tables call it."""
        return f"{self.threat}/{self.attack}/{self.aim}"


@dataclass(frozen=True, order=True)
class Flag:
    """One reason for doubt: which, about what, and what was seen."""

    name: CheckName
    about: str
    observed: str


@dataclass(frozen=True, eq=False)
class AttackRuns:
    """All that was tried, and what it is measured against.

    Attributes:
        evaluation_set: The windows, and how harm to them is measured.
        clean: (N,) float32, estimates without an attack.
        runs: The attacks, noise among them.
        bounds: For each budget, the certified lowest and highest estimates, (N,) float32 each.
        flat: (N,) bool, windows without any gradient.
        again: (N,) float32, the clean estimates once more.
        longer: An ε, and the mean rise there of the strong attack in its steps and in twice as many, cycles.
    """

    evaluation_set: EvaluationSet
    clean: Floats
    runs: tuple[Run, ...]
    bounds: dict[float, tuple[Floats, Floats]]
    flat: NDArray[np.bool_]
    again: Floats
    longer: tuple[float, float, float]


def damage(run: Run, runs: AttackRuns) -> float:
    """What the aim wanted, in cycles: RMSE for `any`, mean rise of the estimate for `healthy-washing`."""
    if run.aim == "any":
        return runs.evaluation_set.rmse_cycles(run.estimates)
    return float(np.mean(run.estimates.astype(np.float64) - runs.clean))


def flags(runs: AttackRuns, limits: Sanity) -> tuple[Flag, ...]:
    """Every reason to doubt the numbers of `runs`, sorted; empty when there is none."""
    attacks = [run for run in runs.runs if run.attack != NOISE]
    found = [
        *_without_effect(attacks, runs, limits.least_effect_cycles),
        *_no_growth(attacks, runs),
        *_weaker_than_noise(attacks, runs),
        *_one_step_beats_many(attacks, runs),
        *_over_budget(runs.runs),
        *_outside_certificate(runs),
        *_black_box_beats_white(attacks, runs),
    ]
    epsilon, once, twice = runs.longer
    if twice > once * (1 + GAIN_SLACK) + limits.least_effect_cycles:
        found.append(
            Flag(
                "not-converged", f"strong/{epsilon_key(epsilon)}", f"{once:.3g} cycles, {twice:.3g} in twice the steps"
            )
        )
    if not np.array_equal(runs.clean, runs.again):
        apart = float(np.abs(runs.clean - runs.again).max())
        found.append(Flag("random-output", "network", f"up to {apart:.3g} cycles apart"))
    stuck = float(np.mean(_stuck(runs, limits.least_effect_cycles)))
    if stuck > limits.most_zero_gradients_share:
        found.append(Flag("zero-gradients", "network", f"{stuck:.1%} of the windows"))
    return tuple(sorted(found))


def _without_effect(attacks: Iterable[Run], runs: AttackRuns, least: float) -> Iterator[Flag]:
    for run in attacks:
        moved = float(np.abs(run.estimates - runs.clean).max())
        if moved < least:
            yield Flag("attack-without-effect", _at(run), f"no estimate moved more than {moved:.3g} cycles")


def _no_growth(attacks: Iterable[Run], runs: AttackRuns) -> Iterator[Flag]:
    """FGM is exempt: one long step overshoots on a curved surface, which says nothing about the model."""
    series: dict[str, list[Run]] = defaultdict(list)
    for run in attacks:
        if run.attack != "fgm":
            series[run.name].append(run)
    for rising in series.values():
        ordered = sorted(rising, key=lambda run: run.epsilon_sigma)
        for small, large in itertools.pairwise(ordered):
            before, after = damage(small, runs), damage(large, runs)
            if after <= before:
                seen = f"{after:.3g} cycles after {before:.3g} at ε {small.epsilon_sigma:g}"
                yield Flag("no-growth", _at(large), seen)


def _weaker_than_noise(attacks: Iterable[Run], runs: AttackRuns) -> Iterator[Flag]:
    noise = {_place(run): damage(run, runs) for run in runs.runs if run.attack == NOISE}
    for run in attacks:
        by_noise, by_attack = noise.get(_place(run), -np.inf), damage(run, runs)
        if by_attack < by_noise:
            yield Flag("weaker-than-noise", _at(run), f"{by_attack:.3g} cycles, noise {by_noise:.3g}")


def _one_step_beats_many(attacks: list[Run], runs: AttackRuns) -> Iterator[Flag]:
    one_step = {_place(run): damage(run, runs) for run in attacks if run.attack == "fgm"}
    for run in attacks:
        by_one, by_many = one_step.get(_place(run), -np.inf), damage(run, runs)
        if run.attack == "pgd" and by_many < by_one - STEP_SLACK * abs(by_one):
            yield Flag("one-step-beats-many", _at(run), f"{by_many:.3g} cycles, fgm {by_one:.3g}")


def _black_box_beats_white(attacks: list[Run], runs: AttackRuns) -> Iterator[Flag]:
    """Against the best that any attack that knows the network found of each window: that is what is reported."""
    blind = [run for run in attacks if run.attack in BLACK_BOX]
    for run in blind:
        rivals = [r for r in attacks if r.attack not in BLACK_BOX and _goal(r) == _goal(run)]
        if not rivals:
            continue
        said = np.stack([rival.estimates for rival in rivals])  # (A, N)
        harm = np.abs(said - runs.evaluation_set.truth) if run.aim == "any" else said
        best = np.take_along_axis(said, harm.argmax(axis=0)[None], axis=0)[0]
        by_asking, by_knowing = damage(run, runs), damage(replace(run, estimates=best), runs)
        if by_asking > by_knowing:
            yield Flag("black-box-beats-white", _at(run), f"{by_asking:.3g} cycles, knowing {by_knowing:.3g}")


def _goal(run: Run) -> tuple[str, float]:
    return run.aim, run.epsilon_sigma


def _over_budget(runs: Iterable[Run]) -> Iterator[Flag]:
    for run in runs:
        if run.largest_change_sigma > run.epsilon_sigma * (1 + BUDGET_SLACK) + BUDGET_SLACK:
            yield Flag("over-budget", _at(run), f"a reading moved {run.largest_change_sigma:.6g} σ")


def _outside_certificate(runs: AttackRuns) -> Iterator[Flag]:
    for run in runs.runs:
        if run.epsilon_sigma not in runs.bounds:
            raise ValueError(f"bounds: expected some at ε {run.epsilon_sigma:g}, got {sorted(runs.bounds)}")
        low, high = runs.bounds[run.epsilon_sigma]
        outside = (run.estimates < low) | (run.estimates > high)
        if outside.any():
            yield Flag("outside-certificate", _at(run), f"{int(outside.sum())} of {outside.size} windows")


def _stuck(runs: AttackRuns, least: float) -> NDArray[np.bool_]:
    """Flat windows (N,) that no attack moved at the largest budget though the bounds leave room.

    Noise does not count: where it finds a way that the attacks did not, they are the weaker for it.
    """
    largest = max(runs.bounds)
    tried = [run.estimates for run in runs.runs if run.epsilon_sigma == largest and run.attack != NOISE]
    moved = np.abs(np.stack(tried) - runs.clean).max(axis=0) >= least
    low, high = runs.bounds[largest]
    return np.asarray(runs.flat & ~moved & (high - low >= least))


def _place(run: Run) -> tuple[str, str, float]:
    return run.threat, run.aim, run.epsilon_sigma


def _at(run: Run) -> str:
    return f"{run.name}/{epsilon_key(run.epsilon_sigma)}"
