"""Evasion: every reading changed a little by someone who knows the network, and what that does to the estimate.

The battery of policy/threats.yaml runs on every window of the evaluation set. What is reported is the worst case over
the battery, window by window (Croce & Hein, AutoAttack, 2020), beside the certified bounds that no attack at all can
leave, and the reasons to doubt any of it (`robustness.attack_checks`).

Where a unit's history is short, its window begins with copies of the first row; the attacker may change each copy by
itself, which is more than a real one could. The error is on the safe side.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import get_args

import numpy as np
import structlog
import torch
from numpy.typing import NDArray

from twinseal.measures.common import WorstCase
from twinseal.measures.keys import Epsilon, Name, epsilon_key, number_of
from twinseal.measures.quantity import NOT_WRITTEN, Keys
from twinseal.measures.robustness import AttackMeasures, CheckName, EvasionMeasures, FlagMeasures, RobustnessMeasures
from twinseal.measures.robustness import AttackName as MeasuredAttack
from twinseal.prognostics.ensemble import Ensemble, networks_of
from twinseal.prognostics.evaluation import bounds
from twinseal.prognostics.families import WITH_BASELINE
from twinseal.prognostics.fitting import Recipe, fit
from twinseal.prognostics.network import RulNetwork
from twinseal.prognostics.windows import Prepared
from twinseal.robustness.attack import Attack, Plan, Testbed
from twinseal.robustness.attack_checks import NOISE, AttackRuns, Flag, Run, damage, flags
from twinseal.robustness.methods.art import PGD_STEP, ArtTarget
from twinseal.robustness.methods.gradient import Box, ascend, climb
from twinseal.robustness.methods.gradient import attack as strong_attack
from twinseal.robustness.methods.square import search
from twinseal.robustness.methods.surrogate import smooth
from twinseal.robustness.target import NetworkTarget, estimates
from twinseal.robustness.threats import Aim, AttackName, EvasionThreat, Method, Threats

log = structlog.get_logger()

Floats = NDArray[np.float32]
Ascents = dict[AttackName, tuple[torch.Tensor, torch.Tensor]]


def run_plain(testbed: Testbed) -> EvasionMeasures:
    """The battery of small changes against the network that answers for any unit."""
    return evade(networks_of(testbed.model.inference).plain, testbed)


def run_commissioned(testbed: Testbed) -> EvasionMeasures | None:
    """The same against the network that reads the signed baseline; None where there is none."""
    network = networks_of(testbed.model.inference).commissioned
    return None if network is None else evade(network, testbed)


def keys_plain(plan: Plan) -> Keys:
    """Those of a network that reads no baseline record: without a certificate of a changed one."""
    return _keys(plan.threats) | {"certified_baseline_moved": NOT_WRITTEN}


def keys_commissioned(plan: Plan) -> Keys:
    """Those of a network that reads a baseline record, if the family has one."""
    return _keys(plan.threats) if plan.family in WITH_BASELINE else {"": NOT_WRITTEN}


def _keys(threats: Threats) -> dict[str, frozenset[str]]:
    """Which threats, attacks, aims and ε are measured."""
    everything = frozenset(map(epsilon_key, _budgets(threats)))
    found = {
        "attacks": frozenset(threat.name for threat in threats.evasion),
        "worst": everything,
        "certified": everything,
        "certified_baseline_moved": everything,
    }
    for threat in threats.evasion:
        attacks = (*threat.attacks, NOISE) if _beside_noise(threat) else threat.attacks
        found[f"attacks/{threat.name}"] = frozenset(attacks)
        for attack in attacks:
            found[f"attacks/{threat.name}/{attack}"] = frozenset(threat.aims)
            for aim in threat.aims:
                found[f"attacks/{threat.name}/{attack}/{aim}"] = frozenset(map(epsilon_key, threat.epsilon_sigma))
    return found


def evade(network: Ensemble, testbed: Testbed) -> EvasionMeasures:
    """Every attack of the policy on one network, over every window of the evaluation set.

    Raises:
        EvidenceError: An estimate is not finite, or ART cannot attack this network.
        ValueError: There is no test window.
    """
    runs = attack_all(network, testbed)
    found = flags(runs, testbed.threats.sanity)
    for flag in found:
        log.warning("evasion.doubt", name=flag.name, about=flag.about, observed=flag.observed)
    return measure_runs(runs, found, certify_moved_baseline(network, testbed))


def measure_runs(
    runs: AttackRuns, found: tuple[Flag, ...], moved: dict[Epsilon, WorstCase] | None = None
) -> EvasionMeasures:
    """The numbers for the evidence: clean, attacks, worst, certified, flags."""
    evaluation_set = runs.evaluation_set
    attacks: dict[Name, dict[MeasuredAttack, dict[Aim, dict[Epsilon, AttackMeasures]]]] = {}
    for run in runs.runs:
        by_aim = attacks.setdefault(run.threat, {}).setdefault(run.attack, {}).setdefault(run.aim, {})
        by_aim[epsilon_key(run.epsilon_sigma)] = AttackMeasures(
            damage_cycles=damage(run, runs), **evaluation_set.worst_case(run.estimates).fields()
        )
    return EvasionMeasures(
        clean=evaluation_set.clean(runs.clean),
        attacks=attacks,
        worst={epsilon_key(epsilon): worst_at(runs, epsilon) for epsilon in budgets(runs)},
        certified={epsilon_key(e): evaluation_set.worst_case(*runs.bounds[e]) for e in budgets(runs)},
        certified_baseline_moved=moved,
        zero_gradients_share=float(np.mean(runs.flat)),
        flags=FlagMeasures(
            raised=len(found),
            by_check={name: sum(flag.name == name for flag in found) for name in get_args(CheckName)},
            details=tuple(f"{flag.name}: {flag.about}: {flag.observed}" for flag in found),
        ),
    )


def curve(measures: RobustnessMeasures) -> list[dict[str, float]]:
    """RMSE in cycles by ε, to plot: the worst attack, the certified bound, gradient boosting attacked, and each attack.

    ε 0 is without an attack.
    """
    evasion, boosting = measures.evasion, measures.boosted_trees
    each: dict[str, Mapping[Epsilon, WorstCase]] = {
        f"{threat} {name} {aim}": by_epsilon
        for threat, by_attack in evasion.attacks.items()
        for name, by_aim in by_attack.items()
        for aim, by_epsilon in by_aim.items()
    }
    lines: dict[str, Mapping[Epsilon, WorstCase]] = {
        "worst attack": evasion.worst,
        "certified bound": evasion.certified,
        **each,
    }
    start = {"epsilon_sigma": 0.0, "gradient boosting, attacked": boosting.clean.rmse_cycles}
    rows = [start | dict.fromkeys(lines, evasion.clean.rmse_cycles)]
    for key in evasion.worst:
        at = {line: by_epsilon[key].rmse_cycles for line, by_epsilon in lines.items() if key in by_epsilon}
        trees = {"gradient boosting, attacked": boosting.worst[key].rmse_cycles} if key in boosting.worst else {}
        rows.append({"epsilon_sigma": number_of(key)} | at | trees)
    return rows


def budgets(runs: AttackRuns) -> tuple[float, ...]:
    """Every ε tried, rising."""
    return tuple(sorted({run.epsilon_sigma for run in runs.runs}))


def worst_at(runs: AttackRuns, epsilon_sigma: float) -> WorstCase:
    """The worst of all runs at one ε, for each window by itself; doing nothing is among the attacker's choices.

    Raises:
        ValueError: Nothing was run at this ε.
    """
    estimated = [run.estimates for run in runs.runs if run.epsilon_sigma == epsilon_sigma]
    if not estimated:
        raise ValueError(f"ε {epsilon_sigma:g}: expected one of {budgets(runs)}")
    tried = np.stack([runs.clean, *estimated])  # (A, N)
    return runs.evaluation_set.worst_case(tried.min(axis=0), tried.max(axis=0))


def certify_moved_baseline(network: Ensemble, testbed: Testbed) -> dict[Epsilon, WorstCase] | None:
    """What is certified where the attacker moves the signed baseline by ε as well: what the trust in it is worth."""
    if not network.config.baseline:
        return None
    evaluation_set, tried = testbed.evaluation_set, _budgets(testbed.threats)
    return {epsilon_key(e): evaluation_set.worst_case(*bounds(network, evaluation_set.windows, e, e)) for e in tried}


def _budgets(threats: Threats) -> tuple[float, ...]:
    return tuple(sorted({epsilon for threat in threats.evasion for epsilon in threat.epsilon_sigma}))


def attack_all(network: Ensemble, testbed: Testbed) -> AttackRuns:
    """Every attack of the policy on one network, and all that its numbers are measured against."""
    evaluation_set, prepared, threats = testbed.evaluation_set, testbed.prepared, testbed.threats
    x = evaluation_set.windows.batch()
    targets = _Targets(
        NetworkTarget.of(network, evaluation_set.windows),
        NetworkTarget.of(smooth(network), evaluation_set.windows),
        NetworkTarget.of(_surrogate(prepared, threats.seed), evaluation_set.windows),
        prepared.rul_cap_cycles,
    )
    clean = estimates(targets.network, x)
    runs = tuple(run for threat in threats.evasion for run in _runs(targets, x, evaluation_set.truth, threat, threats))
    return AttackRuns(
        evaluation_set=evaluation_set,
        clean=clean,
        again=estimates(targets.network, x),
        runs=runs,
        bounds={epsilon: bounds(network, evaluation_set.windows, epsilon) for epsilon in _budgets(threats)},
        flat=(ArtTarget(targets.network, prepared.rul_cap_cycles).gradients(x) == 0).all(axis=(1, 2)),
        longer=_longer(targets.network, x, evaluation_set.truth, threats),
    )


@dataclass(frozen=True)
class _Targets:
    """The target, and what stands in for it: a surrogate with gradients everywhere, and another network."""

    network: NetworkTarget
    stand_in: NetworkTarget
    surrogate: NetworkTarget
    rul_cap_cycles: float


def _surrogate(prepared: Prepared, seed: int) -> RulNetwork:
    """A network that an attacker trained himself on the same kind of telemetry, without any defence."""
    recipe = Recipe(epochs=5, hidden=(32, 32))
    config = recipe.network(len(prepared.channels), prepared.window, prepared.rul_cap_cycles)
    return fit(prepared.train, prepared.validation, config, recipe, seed=seed)[0]


def _runs(targets: _Targets, x: Floats, y: Floats, threat: EvasionThreat, threats: Threats) -> Iterator[Run]:
    for epsilon in threat.epsilon_sigma:
        ascents: Ascents = {}
        for aim in threat.aims:
            for attack in threat.attacks:
                changed = _attack_windows(targets, x, y, threat, attack, aim, epsilon, threats.seed, ascents)
                furthest = float(np.abs(changed.astype(np.float64) - x).max())
                yield Run(threat.name, attack, aim, epsilon, estimates(targets.network, changed), furthest)
        if not _beside_noise(threat):
            continue
        under = np.stack([estimates(targets.network, x + change) for change in _noise(x.shape, epsilon, threats)])
        for aim in threat.aims:  # (D, N)
            pick = np.abs(under - y).argmax(axis=0) if aim == "any" else under.argmax(axis=0)  # (N,)
            yield Run(threat.name, NOISE, aim, epsilon, np.take_along_axis(under, pick[None], axis=0)[0], epsilon)


def _beside_noise(threat: EvasionThreat) -> bool:
    """Whether random noise at the same ε is tried beside the attacks: beside those that follow the gradient."""
    return threat.attacks[0] in ("fgm", "bim", "pgd", "pgd-smoothed", "strong")


def _attack_windows(
    targets: _Targets,
    x: Floats,
    y: Floats,
    threat: EvasionThreat,
    attack: AttackName,
    aim: Aim,
    epsilon: float,
    seed: int,
    ascents: Ascents,
) -> Floats:
    """The windows that one attack makes; the climbs that aims share are kept in `ascents`."""
    network, cap = targets.network, targets.rul_cap_cycles
    if attack in ("strong", "transfer", "square"):
        box = Box.around(torch.from_numpy(x), epsilon)
        if attack == "square":
            return search(network, x, y, box, aim, queries=threat.queries, seed=seed).changed
        followed, effort = (network if attack == "strong" else targets.surrogate), threat.pgd_steps
        goal = y if attack == "strong" else _shift_label(targets.surrogate, network, x, y)
        if attack not in ascents:
            windows, up = torch.from_numpy(x), torch.ones(len(x))
            ascents[attack] = climb(followed, windows, box, up, steps=effort, restarts=threat.restarts, seed=seed)
        efforts = {"steps": effort, "restarts": threat.restarts, "seed": seed}
        return strong_attack(followed, x, goal, box, aim, **efforts, ascent=ascents[attack]).changed
    if attack == "pgd-smoothed":
        # The stand-in errs differently: with this label it is as far off, and to the same side, as the network with y.
        return _pgd(targets.stand_in, x, _shift_label(targets.stand_in, network, x, y), aim, epsilon, threat.pgd_steps)
    goal, target = y, ArtTarget(network, cap)
    method: Method = "bim" if attack == "bim" else "fgm" if attack == "fgm" else "pgd"
    steps = threat.bim_steps if method == "bim" else threat.pgd_steps
    return target.attack_windows(x, goal, method=method, aim=aim, epsilon_sigma=epsilon, steps=steps)


def _pgd(target: NetworkTarget, x: Floats, goal: Floats, aim: Aim, epsilon: float, steps: int) -> Floats:
    """PGD as ART has it: away from the goal, or up."""
    away = torch.from_numpy(np.sign(estimates(target, x) - goal)) if aim == "any" else torch.ones(len(x))
    step = PGD_STEP * epsilon / steps
    return ascend(target, torch.from_numpy(x), away, epsilon, steps=steps, step=step).numpy()


def _shift_label(other: NetworkTarget, network: NetworkTarget, x: Floats, y: Floats) -> Floats:
    return estimates(other, x) - estimates(network, x) + y


def _longer(network: NetworkTarget, x: Floats, y: Floats, threats: Threats) -> tuple[float, float, float]:
    """A middle budget, and the mean rises that the strong attack makes there: in its steps, and in twice as many."""
    threat = next((t for t in threats.evasion if "strong" in t.attacks), threats.evasion[0])
    epsilon = threat.epsilon_sigma[len(threat.epsilon_sigma) // 2]
    box, clean = Box.around(torch.from_numpy(x), epsilon), estimates(network, x)
    once, twice = (
        strong_attack(network, x, y, box, "healthy-washing", steps=steps, seed=threats.seed).estimates
        for steps in (threat.pgd_steps, 2 * threat.pgd_steps)
    )
    return epsilon, float(np.mean(once - clean)), float(np.mean(twice - clean))


def _noise(shape: tuple[int, ...], epsilon: float, threats: Threats) -> Iterator[Floats]:
    """Random corners of the budget, (N, L, C) each: every second draw holds its sign over a whole window and channel.

    Means over many rows cancel noise that changes from row to row, so that alone would be too easy to beat.
    """
    rng = np.random.default_rng([threats.seed, round(epsilon * 1e6)])
    count, rows, channels = shape
    for draw in range(threats.sanity.noise_draws):
        signs = rng.integers(0, 2, size=(count, rows if draw % 2 == 0 else 1, channels)) * 2 - 1
        yield (signs * epsilon).astype(np.float32)


ATTACKS = (
    Attack("evasion", run_plain, keys_plain, tests="attacks", seconds=13),
    Attack("commissioned", run_commissioned, keys_commissioned, tests="attacks", seconds=15),
)
