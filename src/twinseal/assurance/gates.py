"""The gates: evidence × policy → verdict. A candidate is denied unless there is evidence for it.

`policy/gates.yaml` says, for each property that matters, which measure of which stage must keep which bound. This
module reads no file and trusts no number that it was not given: a measure that is absent, empty, NaN, infinite, a
truth value, text, a list, or in a record that is not about the model in hand makes its gate FAILED, with the reason.

    >>> policy = Gates.model_validate_json('''{"gates": [
    ...   {"name": "quarantine", "evidence": "validate", "measure": "quarantined_share", "at_most": 0.05,
    ...    "unit": "share", "why": "a fleet that is mostly bad is no fleet"}]}''')
    >>> policy.gates[0].bound_for("pump").admits(0.02)
    True

Law: `judge(p, fewer, …).result == "PASSED"` implies `judge(p, more, …).result == "PASSED"` for evidence taken away.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from twinseal.config import Field, PolicyEntry, Settings
from twinseal.errors import ConfigError, EvidenceError
from twinseal.evidence import Statement, Subject, measures
from twinseal.evidence_chain import DEPENDS_ON, REQUIRED, broken_links
from twinseal.measures.quantity import Quantity, resolve
from twinseal.measures.stages import STAGES, StageMeasures
from twinseal.policy_entries import GATES, RELATIONS, Mark
from twinseal.prognostics.families import FAMILIES, Family

Result = Literal["PASSED", "FAILED"]
Relation = Literal["at_most", "at_least", "equals"]
MEASURED = ("validate", "train", "evade", "poison")


class Bound(PolicyEntry):
    """One limit on one number: exactly one of at_most, at_least, equals. One that is only proposed does not count.

    Raises:
        ConfigError: (through `config.parse`) None of the three, more than one, or not a finite number.
    """

    at_most: float | None = None
    at_least: float | None = None
    equals: float | None = None

    def model_post_init(self, _context: Any, /) -> None:
        """Refuse a bound that is none, or several."""
        super().model_post_init(_context)
        given = [name for name in ("at_most", "at_least", "equals") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"expected exactly one of at_most, at_least, equals; got {', '.join(given) or 'none'}")

    @property
    def relation(self) -> Relation:
        """Which of the three it is."""
        if self.at_most is not None:
            return "at_most"
        return "at_least" if self.at_least is not None else "equals"

    @property
    def number(self) -> float:
        """The limit itself."""
        return float(getattr(self, self.relation))

    def admits(self, observed: float) -> bool:
        """Whether `observed` keeps the bound. NaN keeps none: every comparison with it is false."""
        if self.relation == "at_most":
            return observed <= self.number
        return observed >= self.number if self.relation == "at_least" else observed == self.number


class Gate(Settings):
    """One property that a candidate must be shown to have.

    Attributes:
        name: Short, for tables: lower-case words joined by hyphens.
        evidence: The stage whose signed record holds the measure.
        measure: Where in that record's measures the number is: keys joined by slashes.
        at_most, at_least, equals: The bound for every asset without one of its own; at most one of them.
        assets: Bounds for single assets, which stand instead.
        families: The model families of which this is asked; of all when left out. What one kind of model is built for,
            another need not do, but policy says so, never the model.
        unit: What the number counts.
        why: What goes wrong for the operator if the bound does not hold, and how it was chosen.
    """

    name: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9.]+)*$", max_length=60)
    evidence: Literal["validate", "train", "evade", "poison"]
    measure: str = Field(pattern=r"^[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*$", max_length=200)
    at_most: float | None = None
    at_least: float | None = None
    equals: float | None = None
    assets: dict[str, Bound] = Field(default_factory=dict)
    families: tuple[Family, ...] = FAMILIES
    unit: str = Field(min_length=1, max_length=40)
    why: str = Field(min_length=1, max_length=600)

    def model_post_init(self, _context: Any, /) -> None:
        """Refuse a gate without a bound, or on what no stage measures.

        Raises:
            ValueError: No bound; no such measure, or in another unit; families twice.
        """
        self._check_measure()
        if self._default is None and not self.assets:
            raise ValueError(f"gate {self.name}: expected a bound, got none: a gate without one passes nothing")
        if not self.families or len(set(self.families)) != len(self.families):
            raise ValueError(f"gate {self.name}: expected families, each once, got {self.families}")

    def _check_measure(self) -> None:
        try:
            leaf = resolve(STAGES[self.evidence], self.measure, f"gate {self.name}")
        except ConfigError as error:
            raise ValueError(str(error)) from error
        for bound in filter(None, (self._default, *self.assets.values())):
            self._check_bound(bound, leaf.quantity)
        if leaf.quantity.unit != self.unit:
            raise ValueError(
                f"gate {self.name}: unit: expected '{leaf.quantity.unit}', that of {self.measure}, got '{self.unit}'"
            )

    def _check_bound(self, bound: Bound, quantity: Quantity) -> None:
        """Refuse a bound that limits the good side of a measure, or a share that no share can have."""
        if bound.relation == {"smaller": "at_least", "larger": "at_most"}.get(quantity.better):
            expected = "at_most" if quantity.better == "smaller" else "at_least"
            raise ValueError(
                f"gate {self.name}: expected {expected}, got {bound.relation}: {quantity.better} is better for "
                f"{self.measure}"
            )
        if quantity.unit == "share" and not 0 <= bound.number <= 1:
            raise ValueError(f"gate {self.name}: expected a share between 0 and 1, got {bound.number:g}")

    @property
    def has_default(self) -> bool:
        """Whether there is a bound for assets without one of their own."""
        return self._default is not None

    @property
    def _default(self) -> Bound | None:
        given = {k: v for k in ("at_most", "at_least", "equals") if (v := getattr(self, k)) is not None}
        return Bound(**given) if given else None

    def bound_for(self, asset: str) -> Bound | None:
        """The bound that holds for `asset`: its own, else everyone's, else none, and then the gate cannot pass.

        While its own is only proposed there is none: everyone's is not what its owner will decide on.
        """
        bound = self.assets.get(asset, self._default)
        return None if bound is None or bound.proposed else bound

    def no_bound(self, asset: str) -> str:
        """Why there is no bound for `asset`, and what to do."""
        own = self.assets.get(asset)
        if own is None:
            return f"policy/gates.yaml has no bound for the asset '{asset}': twinseal gates propose {asset}"
        bound = f"{RELATIONS[own.relation]} {_amount(own.number, self.unit)}"
        mark = Mark(GATES, asset, self.name, bound, proposed=own.proposed)
        return f"the bound {bound} is only proposed ({own.proposed}); accept it: {mark.command}"


class Gates(Settings):
    """All of policy/gates.yaml.

    Raises:
        ConfigError: (through `config.load`) A name twice, or a measured stage that no gate looks at.
    """

    gates: tuple[Gate, ...] = Field(min_length=1)

    def model_post_init(self, _context: Any, /) -> None:
        """Refuse names that would hide one another."""
        names = [gate.name for gate in self.gates]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"gate named twice: {', '.join(twice)}")
        taken = [name for name in names if name.startswith("record-")]
        if taken:  # the verdict lists its required records under these names
            raise ValueError(f"gate {taken[0]}: names from 'record-' on are the required records' own")

    def asked_of(self, family: Family) -> tuple[Gate, ...]:
        """The gates that a model of `family` must pass."""
        return tuple(gate for gate in self.gates if family in gate.families)

    def unjudged(self, family: Family) -> tuple[str, ...]:
        """The measured stages that no gate of the family looks at: what they found could be anything."""
        looked_at = {gate.evidence for gate in self.asked_of(family)}
        return tuple(stage for stage in MEASURED if stage not in looked_at)


@dataclass(frozen=True)
class GateResult:
    """How one gate went. The result follows from the rest, so it cannot contradict it.

    Attributes:
        name: The gate's.
        evidence: The stage whose record was read.
        measure: Where in it the number was looked for.
        observed: The finite number found; None when there is no evidence of any.
        bound: What it had to keep; None when policy has none for the asset.
        unit: What the number counts.
        why: Why the gate exists.
        reason: Why it FAILED, for people; "" when it PASSED.
    """

    name: str
    evidence: str
    measure: str
    observed: float | None
    bound: Bound | None
    unit: str
    why: str
    reason: str = ""

    @property
    def result(self) -> Result:
        """PASSED only for a finite number that keeps its bound and nothing said against it."""
        if self.reason or self.bound is None or self.observed is None or not math.isfinite(self.observed):
            return "FAILED"
        return "PASSED" if self.bound.admits(self.observed) else "FAILED"


@dataclass(frozen=True)
class EvidenceResult:
    """Whether one required record is evidence about the model in hand.

    Attributes:
        stage: Whose record.
        reason: Why it is none; "" when it is.
    """

    stage: str
    reason: str = ""

    @property
    def result(self) -> Result:
        """PASSED only when nothing was said against it."""
        return "FAILED" if self.reason else "PASSED"


@dataclass(frozen=True)
class Verdict:
    """What the policy says of one candidate.

    Attributes:
        asset: The kind of machine, whose bounds were used.
        gates: One result for each gate of the policy, in its order.
        evidence: One result for each required record, in the pipeline's order.
        unjudged: Measured stages that no gate of the policy looks at; any makes the verdict FAILED.
        unaccepted: The contract and the threats of the asset where they are only proposed; any makes it FAILED.

    Raises:
        EvidenceError: No gates, or not every required record was looked at: that would be no judgement.
    """

    asset: str
    gates: tuple[GateResult, ...]
    evidence: tuple[EvidenceResult, ...]
    unjudged: tuple[str, ...] = field(default=())
    unaccepted: tuple[Mark, ...] = field(default=())

    def __post_init__(self) -> None:
        if not self.gates:
            raise EvidenceError("verdict: expected at least one gate, got none")
        stages = [item.stage for item in self.evidence]
        if stages != list(REQUIRED):
            raise EvidenceError(f"verdict: expected a result for each of {list(REQUIRED)}, got {stages}")

    @property
    def result(self) -> Result:
        """PASSED only if every gate and every record PASSED, no stage went unjudged, and nothing is only proposed."""
        results = [*(gate.result for gate in self.gates), *(item.result for item in self.evidence)]
        every = all(result == "PASSED" for result in results)
        return "PASSED" if every and not self.unjudged and not self.unaccepted else "FAILED"

    @property
    def failures(self) -> tuple[str, ...]:
        """Everything that stands against the candidate, one line each; of broken links, the first break first."""
        broken = sorted(
            (item for item in self.evidence if item.reason), key=lambda item: item.reason.startswith(DEPENDS_ON)
        )
        records = tuple(f"record of {item.stage}: {item.reason}" for item in broken)
        gates = tuple(f"{gate.name}: {gate.reason}" for gate in self.gates if gate.result == "FAILED")
        proposed = tuple(f"{mark.complaint}; accept it: {mark.command}" for mark in self.unaccepted)
        return (*proposed, *records, *gates, *(f"policy: no gate looks at {stage}" for stage in self.unjudged))


def judge(
    gates: Gates,
    statements: Mapping[str, Statement],
    *,
    asset: str,
    family: Family,
    model: tuple[Subject, ...],
    policy: tuple[Subject, ...],
    code: Mapping[str, Subject] | None = None,
    contract_fault: str = "",
    fleet: Mapping[str, Any] | None = None,
    unaccepted: tuple[Mark, ...] = (),
) -> Verdict:
    """The verdict of `gates` on `model`, from `statements` alone.

    Args:
        gates: The policy.
        statements: Verified statements by stage; whoever calls has checked who signed them.
        asset: The kind of machine, as the model's own signed contract names it.
        family: The kind of model, as its own signed config names it; it says which gates are asked.
        model: The files in hand, named `model/…`, hashed from their bytes.
        policy: The parts of the policy in hand (`policy_entries.part_subjects`).
        code: The code in hand of each stage, as one digest.
        contract_fault: How the contract inside the model differs from that of the policy; "" if it does not.
        fleet: What policy says of the telemetry of this asset (`splitting.SplitPolicy.fleets`); None where it says
            nothing.
        unaccepted: Entries of policy for this asset that are only proposed (`policy_entries.unaccepted`).
    """
    links = broken_links(statements, model, policy, code, asset)
    links["train"] = links["train"] or contract_fault
    links["ingest"] = links["ingest"] or fleet_fault(statements.get("ingest"), fleet or {})
    faults = StageMeasures.read(statements).faults
    links = {stage: reason or faults.get(stage, "") for stage, reason in links.items()}
    results = tuple(_judge_one(gate, statements, links, asset) for gate in gates.asked_of(family))
    evidence = tuple(EvidenceResult(stage, reason) for stage, reason in links.items())
    return Verdict(asset, results, evidence, gates.unjudged(family), unaccepted)


def fleet_fault(ingest: Statement | None, fleet: Mapping[str, Any]) -> str:
    """Why the telemetry that ingest signed is not of the fleet that policy names; "" if it is, or policy names none."""
    definition = ingest.predicate.get("buildDefinition") if isinstance(ingest, Statement) else None
    parameters = definition.get("externalParameters") if isinstance(definition, dict) else None
    signed = parameters.get("data") if isinstance(parameters, dict) else None
    for path, expected in _leaves(fleet, ()):
        got: Any = signed
        for key in path:
            got = got.get(key) if isinstance(got, Mapping) else None
        if got != expected or isinstance(got, bool) != isinstance(expected, bool):
            return f"policy/evaluation.yaml: expected data.{'.'.join(path)}: {expected}, got {got}"
    return ""


def _leaves(value: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, item in value.items():
        yield from _leaves(item, (*path, key)) if isinstance(item, Mapping) else [((*path, key), item)]


def observe(values: Mapping[str, Any], path: str) -> tuple[float | None, str]:
    """The finite number at `path` in a record's measures; or None and why there is none.

    A truth value is refused although Python counts with it, and text although it may look like a number: a record that
    says `true` where a share belongs was not written by the stage that we know.
    """
    found: Any = values
    walked: list[str] = []
    for key in path.split("/"):
        if not isinstance(found, Mapping) or key not in found:
            return None, f"no measure '{path}' on record (nothing at '{'/'.join([*walked, key])}')"
        found = found[key]
        walked.append(key)
    if type(found) not in (int, float):
        return None, f"expected a number at '{path}', got {_kind(found)}"
    try:
        number = float(found)
    except OverflowError:
        return None, f"expected a finite number at '{path}', got one beyond a float"
    if not math.isfinite(number):
        return None, f"expected a finite number at '{path}', got {number}"
    return number, ""


def _judge_one(gate: Gate, statements: Mapping[str, Statement], links: Mapping[str, str], asset: str) -> GateResult:
    bound, observed, reason = gate.bound_for(asset), None, links[gate.evidence]
    if reason:
        reason = f"no evidence from {gate.evidence}: {reason}"
    else:
        observed, reason = observe(measures(statements[gate.evidence]), gate.measure)
    if not reason and bound is None:
        reason = gate.no_bound(asset)
    if observed is not None and bound is not None and not reason and not bound.admits(observed):
        wanted = f"{RELATIONS[bound.relation]} {_amount(bound.number, gate.unit)}"
        reason = f"expected {wanted}, got {_amount(observed, gate.unit)}"
    return GateResult(gate.name, gate.evidence, gate.measure, observed, bound, gate.unit, gate.why, reason)


def _amount(number: float, unit: str) -> str:
    """A number with its unit; a share in per cent."""
    return f"{100 * number:.4g} %" if unit == "share" else f"{number:.6g} {unit}"


def _kind(value: Any) -> str:
    names = {bool: "a truth value", str: "text", list: "a list", dict: "a group of measures", type(None): "nothing"}
    return names.get(type(value), type(value).__name__)
