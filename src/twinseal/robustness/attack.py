"""What an attack is to the battery, and what every attack is given.

One file in `robustness/attacks/` is one attack: it ends with `ATTACKS`, which names the field of `RobustnessMeasures`
that it fills, and the function that fills it. The battery finds it there; nothing else lists it.

    >>> def run(testbed: Testbed) -> Rise: ...
    >>> ATTACKS = (Attack("false_age", run),)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

from twinseal.errors import EvidenceError
from twinseal.measures.quantity import Group, Keys, groups_by_key
from twinseal.prognostics.checkpoint import Model
from twinseal.prognostics.evaluation_set import EvaluationSet
from twinseal.prognostics.families import Family
from twinseal.prognostics.windows import Prepared
from twinseal.robustness.histories import Histories, informative_channels
from twinseal.robustness.threats import Attacker, Threats

Result = Group | Mapping[str, Group] | None


@dataclass(frozen=True, eq=False)
class Testbed:
    """The candidate, its windows and the policy; what several attacks need is computed once.

    Attributes:
        model: Under attack.
        prepared: Its windows.
        threats: The policy.

    Raises:
        EvidenceError: The windows were not prepared as the model's were.
    """

    __test__ = False  # no pytest class

    model: Model
    prepared: Prepared
    threats: Threats

    def __post_init__(self) -> None:
        model, prepared = self.model, self.prepared
        expected, got = (tuple(model.channels), model.window), (prepared.channels, prepared.window)
        if expected != got:
            raise EvidenceError(f"windows: expected the model's channels and window {expected}, got {got}")
        if model.normaliser.to_dict() != prepared.normaliser.to_dict():
            raise EvidenceError("windows: expected the normaliser of the model, got another one")

    @cached_property
    def evaluation_set(self) -> EvaluationSet:
        """The windows that attacks on single windows are measured on."""
        return EvaluationSet.of(self.prepared)

    @cached_property
    def histories(self) -> Histories:
        """The whole histories of the test units."""
        return Histories.of(self.prepared.test)

    @cached_property
    def channels(self) -> dict[str, list[int]]:
        """The indices of the channels that `ScenarioThreat.sensors` names."""
        informative = informative_channels(self.prepared.train)
        injection = self.threats.asset(self.model.contract.asset).injection
        three = [self.model.channels.index(sensor) for sensor in injection.sensors]
        return {"first": informative[:1], "three": three, "informative": informative}


@dataclass(frozen=True)
class Plan:
    """What decides, before anything runs, which measures the attacks write.

    Attributes:
        threats: The policy.
        family: Of the model.
        channels: Of the asset's contract.
    """

    threats: Threats
    family: Family
    channels: frozenset[str]


def no_keys(_plan: Plan) -> Keys:
    """An attack whose measures have no keys, or keys that the types fix."""
    return {}


@dataclass(frozen=True)
class Attack:
    """One entry of the battery.

    Attributes:
        field: The field of `RobustnessMeasures` that the result fills.
        run: The attack. It is called with torch's seed set and on one thread.
        keys: The keys that its measures have under a plan, by path below `field`.
        tests: The mapping of the result whose entries are single tests; "" for all mappings that it has.
        threat: The type of its entry under `attacks` in policy/threats.yaml; None: it reads other sections.
        seconds: Roughly how long it takes on one core: the battery starts long ones first.
    """

    field: str
    run: Callable[[Testbed], Result]
    keys: Callable[[Plan], Keys] = no_keys
    tests: str = ""
    threat: type[Attacker] | None = None
    seconds: float = 1.0

    def names(self, result: Result) -> tuple[str, ...]:
        """The single tests that `result` is of, by path: of mappings, one for each entry; else the field itself."""
        if isinstance(result, Group):
            found = [path for path, _ in groups_by_key(result)]
            within = tuple("/".join((self.field, *path)) for path in found if self.tests in ("", path[0]))
            return within or (() if self.tests else (self.field,))
        return tuple(f"{self.field}/{key}" for key in result or ())
