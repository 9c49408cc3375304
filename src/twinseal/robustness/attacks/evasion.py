"""Evasion: every reading changed a little by someone who knows the network, and what that does to the estimate.

The battery of policy/threats.yaml runs on every window of the evaluation set. What is reported is the worst case over
the battery, window by window (Croce & Hein, AutoAttack, 2020), beside the certified bounds that no attack at all can
leave, and the reasons to doubt any of it (`robustness.attack_checks`).

Where a unit's history is short, its window begins with copies of the first row; the attacker may change each copy by
itself, which is more than a real one could. The error is on the safe side.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import structlog
import torch
from numpy.typing import NDArray

from twinseal.prognostics.checkpoint import Model
from twinseal.prognostics.ensemble import Ensemble
from twinseal.prognostics.evaluation import bounds
from twinseal.prognostics.evaluation_set import EvaluationSet
from twinseal.prognostics.fitting import Recipe, fit, reproducible
from twinseal.prognostics.network import RulNetwork
from twinseal.prognostics.processes import processes
from twinseal.prognostics.windows import Prepared
from twinseal.robustness.attack_checks import NOISE, Battery, Flag, Run, damage, flags
from twinseal.robustness.methods.art import PGD_STEP, ArtTarget
from twinseal.robustness.methods.gradient import Box, ascend, climb
from twinseal.robustness.methods.gradient import attack as climbed
from twinseal.robustness.methods.square import search
from twinseal.robustness.methods.surrogate import smoothed
from twinseal.robustness.target import NetworkTarget, estimates
from twinseal.robustness.threats import Aim, AttackName, EvasionThreat, Method, Threats

log = structlog.get_logger()

Floats = NDArray[np.float32]
Ascents = dict[AttackName, tuple[torch.Tensor, torch.Tensor]]


@dataclass(frozen=True, eq=False)
class Evasion:
    """What the battery did to a network.

    Attributes:
        battery: The runs, and what they are measured against.
        flags: Reasons to doubt the numbers.
        moved: Of a network that reads the trusted baseline, by ε, what is certified where the attacker moves that by ε
            as well: what the trust in it is worth.
    """

    battery: Battery
    flags: tuple[Flag, ...]
    moved: dict[float, dict[str, float]]

    def measures(self) -> dict[str, Any]:
        """The numbers for the evidence: clean, attacks, worst, certified, flags."""
        return {
            "clean": self.battery.evaluation_set.clean(self.battery.clean),
            "attacks": [self._attack(run) for run in self.battery.runs],
            "worst": {_key(epsilon): self.worst(epsilon) for epsilon in self.budgets},
            "certified": {_key(epsilon): self.certified(epsilon) for epsilon in self.budgets},
            **({"certified_baseline_moved": {_key(e): harm for e, harm in self.moved.items()}} if self.moved else {}),
            "zero_gradients_share": float(np.mean(self.battery.flat)),
            "flags": {
                "raised": len(self.flags),
                "names": sorted({flag.name for flag in self.flags}),
                "details": [f"{flag.name}: {flag.about}: {flag.observed}" for flag in self.flags],
            },
        }

    @property
    def budgets(self) -> tuple[float, ...]:
        """Every ε tried, rising."""
        return tuple(sorted({run.epsilon_sigma for run in self.battery.runs}))

    def worst(self, epsilon_sigma: float) -> dict[str, float]:
        """The worst of all runs at one ε, for each window by itself; doing nothing is among the attacker's choices.

        Raises:
            ValueError: Nothing was run at this ε.
        """
        runs = [run.estimates for run in self.battery.runs if run.epsilon_sigma == epsilon_sigma]
        if not runs:
            raise ValueError(f"ε {epsilon_sigma:g}: expected one of {self.budgets}")
        tried = np.stack([self.battery.clean, *runs])  # (A, N)
        return self.battery.evaluation_set.worst_case(tried.min(axis=0), tried.max(axis=0))

    def certified(self, epsilon_sigma: float) -> dict[str, float]:
        """What no attack within ε can exceed, by the network's bounds."""
        return self.battery.evaluation_set.worst_case(*self.battery.bounds[epsilon_sigma])

    def curve(self) -> list[dict[str, float]]:
        """RMSE in cycles against ε, for the plot: each attack's, the worst, the certified; ε 0 is the clean network."""
        clean = self.battery.evaluation_set.rmse_cycles(self.battery.clean)
        columns = [*dict.fromkeys(run.name for run in self.battery.runs), "rmse_cycles", "certified_rmse_cycles"]
        rows = [{"epsilon_sigma": 0.0} | dict.fromkeys(columns, clean)]
        for epsilon in self.budgets:
            at = [run for run in self.battery.runs if run.epsilon_sigma == epsilon]
            row = {run.name: self.battery.evaluation_set.rmse_cycles(run.estimates) for run in at}
            row |= {"rmse_cycles": self.worst(epsilon)["rmse_cycles"]}
            row |= {"certified_rmse_cycles": self.certified(epsilon)["rmse_cycles"]}
            rows.append({"epsilon_sigma": epsilon} | row)
        return rows

    def _attack(self, run: Run) -> dict[str, Any]:
        return {
            "name": run.attack,
            "threat": run.threat,
            "aim": run.aim,
            "epsilon_sigma": run.epsilon_sigma,
            "damage_cycles": damage(run, self.battery),
            **self.battery.evaluation_set.worst_case(run.estimates),
        }


def evade(model: Model, prepared: Prepared, threats: Threats, *, workers: int = 1) -> dict[str, Evasion]:
    """Let the battery of `threats` loose on every network of a model, over every window of the evaluation set, by mode.

    Args:
        model: Under attack.
        prepared: Its windows.
        threats: The policy.
        workers: Processes that attack at the same time; the numbers do not depend on it.

    Raises:
        EvidenceError: An estimate is not finite, or ART cannot attack this network.
        ValueError: There is no test window.
    """
    modes, other = model.networks.modes(), _surrogate(prepared, threats.seed)
    tasks = [(network, other, prepared, threats) for network in modes.values()]
    with processes(min(workers, len(tasks))) as mapped:
        found = dict(zip(modes, mapped(_evade, tasks), strict=True))
    for mode, evasion in found.items():
        for flag in evasion.flags:
            log.warning("evasion.doubt", mode=mode, name=flag.name, about=flag.about, observed=flag.observed)
    return found


def _evade(task: tuple[Ensemble, RulNetwork, Prepared, Threats]) -> Evasion:
    with reproducible(task[3].seed):
        return _attack_all(*task)


def _attack_all(network: Ensemble, other: RulNetwork, prepared: Prepared, threats: Threats) -> Evasion:
    evaluation_set = EvaluationSet.of(prepared)
    x = evaluation_set.windows.batch()
    targets = _Targets(
        NetworkTarget.of(network, evaluation_set.windows),
        NetworkTarget.of(smoothed(network), evaluation_set.windows),
        NetworkTarget.of(other, evaluation_set.windows),
        prepared.rul_cap_cycles,
    )
    clean = estimates(targets.network, x)
    runs = tuple(run for threat in threats.evasion for run in _runs(targets, x, evaluation_set.truth, threat, threats))
    budgets = sorted({run.epsilon_sigma for run in runs})
    battery = Battery(
        evaluation_set=evaluation_set,
        clean=clean,
        again=estimates(targets.network, x),
        runs=runs,
        bounds={epsilon: bounds(network, evaluation_set.windows, epsilon) for epsilon in budgets},
        flat=(ArtTarget(targets.network, prepared.rul_cap_cycles).gradients(x) == 0).all(axis=(1, 2)),
        longer=_longer(targets.network, x, evaluation_set.truth, threats),
    )
    moved = {}
    if network.config.baseline:
        moved = {
            epsilon: evaluation_set.worst_case(*bounds(network, evaluation_set.windows, epsilon, epsilon))
            for epsilon in budgets
        }
    return Evasion(battery, flags(battery, threats.sanity), moved)


@dataclass(frozen=True)
class _Targets:
    """Who is attacked, and who in his place: a stand-in with gradients everywhere, and another network."""

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
                changed = _attacked(targets, x, y, threat, attack, aim, epsilon, threats.seed, ascents)
                furthest = float(np.abs(changed.astype(np.float64) - x).max())
                yield Run(threat.name, attack, aim, epsilon, estimates(targets.network, changed), furthest)
        if threat.attacks[0] not in ("fgm", "bim", "pgd", "pgd-smoothed", "strong"):
            continue
        under = np.stack([estimates(targets.network, x + change) for change in _noise(x.shape, epsilon, threats)])
        for aim in threat.aims:  # (D, N)
            pick = np.abs(under - y).argmax(axis=0) if aim == "any" else under.argmax(axis=0)  # (N,)
            yield Run(threat.name, NOISE, aim, epsilon, np.take_along_axis(under, pick[None], axis=0)[0], epsilon)


def _attacked(
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
        goal = y if attack == "strong" else _shifted(targets.surrogate, network, x, y)
        if attack not in ascents:
            windows, up = torch.from_numpy(x), torch.ones(len(x))
            ascents[attack] = climb(followed, windows, box, up, steps=effort, restarts=threat.restarts, seed=seed)
        efforts = {"steps": effort, "restarts": threat.restarts, "seed": seed}
        return climbed(followed, x, goal, box, aim, **efforts, ascent=ascents[attack]).changed
    if attack == "pgd-smoothed":
        # The stand-in errs differently: with this label it is as far off, and to the same side, as the network with y.
        return _ascended(targets.stand_in, x, _shifted(targets.stand_in, network, x, y), aim, epsilon, threat.pgd_steps)
    goal, target = y, ArtTarget(network, cap)
    method: Method = "bim" if attack == "bim" else "fgm" if attack == "fgm" else "pgd"
    steps = threat.bim_steps if method == "bim" else threat.pgd_steps
    return target.attacked(x, goal, method=method, aim=aim, epsilon_sigma=epsilon, steps=steps)


def _ascended(target: NetworkTarget, x: Floats, goal: Floats, aim: Aim, epsilon: float, steps: int) -> Floats:
    """PGD as ART has it: away from the goal, or up."""
    away = torch.from_numpy(np.sign(estimates(target, x) - goal)) if aim == "any" else torch.ones(len(x))
    step = PGD_STEP * epsilon / steps
    return ascend(target, torch.from_numpy(x), away, epsilon, steps=steps, step=step).numpy()


def _shifted(other: NetworkTarget, network: NetworkTarget, x: Floats, y: Floats) -> Floats:
    return estimates(other, x) - estimates(network, x) + y


def _longer(network: NetworkTarget, x: Floats, y: Floats, threats: Threats) -> tuple[float, float, float]:
    """A middle budget, and the mean rises that the strong attack makes there: in its steps, and in twice as many."""
    threat = next((t for t in threats.evasion if "strong" in t.attacks), threats.evasion[0])
    epsilon = threat.epsilon_sigma[len(threat.epsilon_sigma) // 2]
    box, clean = Box.around(torch.from_numpy(x), epsilon), estimates(network, x)
    once, twice = (
        climbed(network, x, y, box, "healthy-washing", steps=steps, seed=threats.seed).estimates
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


def _key(epsilon: float) -> str:
    return f"eps-{epsilon:g}"
