"""The battery: every attack in `robustness/attacks/` that has an `ATTACKS`, run on one candidate.

The measures, the names of the tests that ran, and the keys that a gate may name all come from the same attacks, so none
can be run and not listed, or listed and not run. Each attack runs with the policy's seed, by itself: the numbers do not
depend on the others, or on how many processes there are.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module

from twinseal.errors import ConfigError
from twinseal.measures.quantity import Keys
from twinseal.measures.robustness import RobustnessMeasures
from twinseal.measures.training import GuardMeasures
from twinseal.prognostics.checkpoint import Model
from twinseal.prognostics.fitting import reproducible
from twinseal.prognostics.processes import ONE, Workers, processes
from twinseal.prognostics.windows import Prepared
from twinseal.robustness import attacks as package
from twinseal.robustness.attack import Attack, Plan, Result, Testbed
from twinseal.robustness.example_life import LifeRow, example_lives
from twinseal.robustness.threats import Threats


@dataclass(frozen=True)
class BatteryResult:
    """What the battery found.

    Attributes:
        measures: For the evidence.
        passed: Names of the tests that ran without a doubt.
        warned: Names of those in which a check found a fault.
        lives: One unit's life under each attack, to draw.
    """

    measures: RobustnessMeasures
    passed: tuple[str, ...]
    warned: tuple[str, ...]
    lives: tuple[LifeRow, ...]


def all_attacks() -> tuple[Attack, ...]:
    """Every attack of the package `attacks`, by the names of its modules."""
    modules = (import_module(f"{package.__name__}.{item.name}") for item in pkgutil.iter_modules(package.__path__))
    return tuple(attack for module in modules for attack in getattr(module, "ATTACKS", ()))


def writable_keys(plan: Plan) -> Keys:
    """The keys that `RobustnessMeasures` have under `plan`.

    Raises:
        ConfigError: An attack's own entry in the policy is missing, unknown or not allowed.
    """
    check_own_threats(plan.threats)
    found: dict[str, frozenset[str]] = {}
    for attack in all_attacks():
        for path, keys in attack.keys(plan).items():
            found["/".join(part for part in (attack.field, path) if part)] = keys
    return found


def check_own_threats(threats: Threats) -> None:
    """Refuse a policy whose `attacks` has no entry for an attack with a threat type of its own, or an entry for none.

    Raises:
        ConfigError: An entry is missing, unknown, or has a value that is not allowed.
    """
    kinds = {attack.field: attack.threat for attack in all_attacks() if attack.threat is not None}
    for field in threats.attacks:
        if field not in kinds:
            raise ConfigError(f"threats: attacks: expected one of {sorted(kinds)}, got {field}")
    for field, kind in kinds.items():
        threats.own(field, kind)


def run_battery(model: Model, prepared: Prepared, threats: Threats, *, workers: Workers = ONE) -> BatteryResult:
    """Run every attack on a candidate.

    Args:
        model: Under attack.
        prepared: Its windows.
        threats: The policy.
        workers: What attacks at the same time; the numbers do not depend on it.

    Raises:
        EvidenceError: An attack could not run, or an estimate is not finite.
        ConfigError: The policy has no entry for the asset, or names a channel that it has not.
    """
    check_own_threats(threats)
    testbed, attacks = Testbed(model, prepared, threats), all_attacks()
    shares = _divide(attacks, workers.at_once(len(attacks)))
    shortest = min(range(len(shares)), key=lambda at: sum(attack.seconds for attack in shares[at]))
    tasks = [(testbed, [attack.field for attack in share], at == shortest) for at, share in enumerate(shares)]
    with processes(workers, len(shares)) as mapped:
        parts = list(mapped(_run_share, tasks))
    results = {field: result for found, _ in parts for field, result in found.items()}
    lives = tuple(row for _, rows in parts for row in rows)
    fields = {field: result for field, result in results.items() if result is not None}
    guard = GuardMeasures(false_alarm_share=model.guard.measured_false_alarm_share)
    measures = RobustnessMeasures.model_validate(fields | {"guard": guard})
    names = tuple(name for attack in attacks for name in attack.names(results[attack.field]))
    warned = doubted_tests(names, measures)
    return BatteryResult(measures, tuple(name for name in names if name not in warned), warned, lives)


def _run_share(task: tuple[Testbed, list[str], bool]) -> tuple[dict[str, Result], list[LifeRow]]:
    """Some of the attacks, in this process; and the example lives if they are asked for."""
    testbed, fields, with_lives = task
    found: dict[str, Result] = {}
    for attack in all_attacks():
        if attack.field in fields:
            with reproducible(testbed.threats.seed):
                found[attack.field] = attack.run(testbed)
    if not with_lives:
        return found, []
    with reproducible(testbed.threats.seed):
        return found, list(example_lives(testbed))


def _divide(attacks: Iterable[Attack], workers: int) -> list[list[Attack]]:
    """The attacks in as many shares as there are workers, of about the same length; long ones are dealt first."""
    shares: list[list[Attack]] = [[] for _ in range(max(1, workers))]
    for attack in sorted(attacks, key=lambda attack: (-attack.seconds, attack.field)):
        min(shares, key=lambda share: sum(item.seconds for item in share)).append(attack)
    return [share for share in shares if share]


def doubted_tests(names: tuple[str, ...], measures: RobustnessMeasures) -> tuple[str, ...]:
    """Those of the tests called `names` in which a check of `attack_checks` found a fault.

    A fault says what it is about by parts of the name, `threat/attack/aim/eps-0.1` or fewer. One that is about no
    single test, as a network without gradients is, puts every test of that network in doubt.
    """
    doubted: set[str] = set()
    for field, found in {"evasion": measures.evasion, "commissioned": measures.commissioned}.items():
        own = [name for name in names if name.startswith(f"{field}/")]
        for line in found.flags.details if found else ():
            about = set(line.split(": ")[1].split("/"))
            doubted |= {name for name in own if about <= set(name.split("/"))} or set(own)
    return tuple(name for name in names if name in doubted)
