"""Beyond small changes of one window: owned sensors, falsified histories, the guard, the trees, theft, membership."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twinseal.prognostics.checkpoint import Model
from twinseal.prognostics.evaluation_set import EvaluationSet
from twinseal.prognostics.fitting import reproducible
from twinseal.prognostics.median_certificates import certificates
from twinseal.prognostics.processes import processes
from twinseal.prognostics.windows import Prepared
from twinseal.robustness.attacks.boosted_trees import attack_trees
from twinseal.robustness.attacks.extraction import extract
from twinseal.robustness.attacks.false_age import false_ages
from twinseal.robustness.attacks.falsified_histories import experiment, informative, scenario
from twinseal.robustness.attacks.guard_aware import adaptive
from twinseal.robustness.attacks.membership import infer
from twinseal.robustness.attacks.owned_sensors import owned
from twinseal.robustness.attacks.repair_abuse import repair_abuse
from twinseal.robustness.example_life import lives
from twinseal.robustness.histories import Histories
from twinseal.robustness.threats import Threats


def beyond(
    model: Model, prepared: Prepared, threats: Threats, *, workers: int = 1
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The measures that no ε of `evasion` has, by threat, and the rows of `life.lives`.

    Args:
        model: Under attack.
        prepared: Its windows.
        threats: The policy.
        workers: Processes that attack at the same time; the numbers do not depend on it.
    """
    with processes(min(workers, 2)) as mapped:
        (told, lived), asked = mapped(_one, ((part, model, prepared, threats) for part in (_told, _asked)))
    return told | asked, lived


def _one(task: tuple[Callable[[Model, Prepared, Threats], Any], Model, Prepared, Threats]) -> Any:
    part, model, prepared, threats = task
    with reproducible(threats.seed):
        return part(model, prepared, threats)


def _told(model: Model, prepared: Prepared, threats: Threats) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What is made of histories that are told otherwise, with the guard and without."""
    injection, informed = threats.asset(model.contract.asset).injection, informative(prepared.train)
    three, tested = [model.channels.index(sensor) for sensor in injection.sensors], Histories.of(prepared.test)
    held = {"first": informed[:1], "three": three, "informative": informed}
    measures = {
        "experiment": experiment(model, tested, injection, seed=threats.seed),
        "scenarios": {
            threat.name: list(scenario(model, tested, threat, held[threat.sensors])) for threat in threats.scenarios
        },
        "adaptive": adaptive(model, tested, threats.adaptive),
        "provoked": repair_abuse(model, tested, threats.adaptive.epsilon_sigma[0]),
        "guard": {"false_alarm_share": model.guard.measured_false_alarm_share},
    }
    return measures, lives(model, prepared.validation, threats, held)


def _asked(model: Model, prepared: Prepared, threats: Threats) -> dict[str, Any]:
    """What is made of single windows: sensors owned, trees in the network's place, questions that steal."""
    plain, evaluation_set, seed = model.networks.plain, EvaluationSet.of(prepared), threats.seed
    return {
        "sensors": owned(model, evaluation_set, threats.sensors),
        "ages": false_ages(plain, evaluation_set),
        "certificate": certificates(plain, evaluation_set),
        "trees": attack_trees(plain, prepared, threats.boosting, seed=seed),
        "theft": extract(plain, prepared, threats.theft, seed=seed),
        "membership": infer(plain, prepared, threats.theft.rounding_cycles, seed=seed),
    }
