"""Evasion: every reading changed a little by someone who knows the network, and what that does to the estimate.

The battery of policy/threats.yaml runs on every window of the trial. What is reported is the worst case over the
battery, window by window (Croce & Hein, AutoAttack, 2020), beside the certified bounds that no attack at all can leave,
and the reasons to doubt any of it (`robustness.sanity`).

Where a unit's history is short, its window begins with copies of the first row; the attacker may change each copy by
itself, which is more than a real one could. The error is on the safe side.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import structlog
from numpy.typing import NDArray

from twinseal.prognostics.evaluation import bounds
from twinseal.prognostics.network import RulNetwork
from twinseal.prognostics.training import reproducible
from twinseal.prognostics.windows import Prepared
from twinseal.robustness.art_adapter import Target
from twinseal.robustness.sanity import NOISE, Battery, Flag, Run, damage, flags
from twinseal.robustness.smoothed import Smoothed
from twinseal.robustness.threats import EvasionThreat, Method, Threats
from twinseal.robustness.trial import Trial

log = structlog.get_logger()

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Evasion:
    """What the battery did to a network.

    Attributes:
        battery: The runs, and what they are measured against.
        flags: Reasons to doubt the numbers.
    """

    battery: Battery
    flags: tuple[Flag, ...]

    def measures(self) -> dict[str, Any]:
        """The numbers for the evidence: clean, attacks, worst, certified, flags."""
        return {
            "clean": self.battery.trial.clean(self.battery.clean),
            "attacks": [self._attack(run) for run in self.battery.runs],
            "worst": {_key(epsilon): self.worst(epsilon) for epsilon in self.budgets},
            "certified": {_key(epsilon): self.certified(epsilon) for epsilon in self.budgets},
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
        return self.battery.trial.harm(tried.min(axis=0), tried.max(axis=0))

    def certified(self, epsilon_sigma: float) -> dict[str, float]:
        """What no attack within ε can exceed, by the network's bounds."""
        return self.battery.trial.harm(*self.battery.bounds[epsilon_sigma])

    def curve(self) -> list[dict[str, float]]:
        """RMSE in cycles against ε, for the plot: each attack's, the worst, the certified; ε 0 is the clean network."""
        clean = self.battery.trial.rmse_cycles(self.battery.clean)
        columns = [*dict.fromkeys(run.name for run in self.battery.runs), "rmse_cycles", "certified_rmse_cycles"]
        rows = [{"epsilon_sigma": 0.0} | dict.fromkeys(columns, clean)]
        for epsilon in self.budgets:
            at = [run for run in self.battery.runs if run.epsilon_sigma == epsilon]
            row = {run.name: self.battery.trial.rmse_cycles(run.estimates) for run in at}
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
            **self.battery.trial.harm(run.estimates),
        }


def evade(network: RulNetwork, prepared: Prepared, threats: Threats) -> Evasion:
    """Let the battery of `threats` loose on `network`, over every window of the trial.

    Raises:
        EvidenceError: An estimate is not finite, or ART cannot attack this network.
        ValueError: There is no test window.
    """
    trial = Trial.of(prepared)
    x, truth = trial.windows.batch(), trial.truth
    with reproducible(threats.seed):
        target = Target(network, prepared.rul_cap_cycles)
        stand_in = Target(Smoothed(network), prepared.rul_cap_cycles)
        runs = tuple(run for threat in threats.evasion for run in _runs(target, stand_in, x, truth, threat, threats))
        battery = Battery(
            trial=trial,
            clean=target.estimates(x),
            runs=runs,
            bounds={run.epsilon_sigma: bounds(network, trial.windows, run.epsilon_sigma) for run in runs},
            flat=(target.gradients(x) == 0).all(axis=(1, 2)),
        )
    raised = flags(battery, threats.sanity)
    for flag in raised:
        log.warning("evasion.doubt", name=flag.name, about=flag.about, observed=flag.observed)
    return Evasion(battery, raised)


def _runs(
    target: Target, stand_in: Target, x: Floats, y: Floats, threat: EvasionThreat, threats: Threats
) -> Iterator[Run]:
    # The stand-in errs differently: with this label it is as far off, and to the same side, as the network with y.
    label = stand_in.estimates(x) - target.estimates(x) + y
    for epsilon in threat.epsilon_sigma:
        under_noise = np.stack([target.estimates(x + change) for change in _noise(x.shape, epsilon, threats)])  # (D, N)
        for aim in threat.aims:
            for attack in threat.attacks:
                method: Method = "pgd" if attack == "pgd-smoothed" else attack
                followed, goal = (stand_in, label) if attack == "pgd-smoothed" else (target, y)
                steps = threat.bim_steps if method == "bim" else threat.pgd_steps
                changed = followed.attacked(x, goal, method=method, aim=aim, epsilon_sigma=epsilon, steps=steps)
                furthest = float(np.abs(changed.astype(np.float64) - x).max())
                yield Run(threat.name, attack, aim, epsilon, target.estimates(changed), furthest)
            pick = np.abs(under_noise - y).argmax(axis=0) if aim == "any" else under_noise.argmax(axis=0)  # (N,)
            worst = np.take_along_axis(under_noise, pick[None], axis=0)[0]
            yield Run(threat.name, NOISE, aim, epsilon, worst, epsilon)


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
