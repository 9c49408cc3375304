"""Comparison: what a candidate's signed evidence says, beside that of the release that it would replace.

Pure functions from verified statements to values. What got worse is marked; what is the same in both is left out, but
for the gates, which are all shown.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from twinseal.assurance.report.tables import quantity
from twinseal.evidence import TEST_RESULT, Statement, measures, source_of

Statements = Mapping[str, Statement]
Values = dict[tuple[str, ...], Any]  # by the stage that said it, and the names that lead to it
SIGNS = {"at_most": "≤", "at_least": "≥", "equals": "="}
MAX_ROWS = 1000  # of one table
_PEOPLE_READ = 300  # characters of one value
_BESIDE = 20  # characters before and after what differs


@dataclass(frozen=True)
class GateRow:
    """One gate.

    Attributes:
        name: Of the gate.
        result: PASSED or what else the verdict says.
        observed: With its unit.
        bound: With its sign and unit.
        margin: How far it is from its bound, as a share of the bound, in words; "" where the bound is 0 or equal.
        before: What the release before had; "" when there was none, or no such gate.
        worse: Whether it is nearer to its bound, or beyond it, than before.
        why: The policy's reason for the gate.
        reason: Why it failed; "" when it did not.
    """

    name: str
    result: str
    observed: str
    bound: str
    margin: str
    before: str
    worse: bool
    why: str
    reason: str


@dataclass(frozen=True)
class ChangeRow:
    """One value that differs.

    Attributes:
        name: Of the value.
        before: What it was; "" if it is new. Of a long one, where it differs.
        now: What it is; "" if it is gone.
    """

    name: str
    before: str
    now: str


@dataclass(frozen=True)
class Differences:
    """Values that differ.

    Attributes:
        rows: The first of them by name, MAX_ROWS at most.
        count: How many there are.
    """

    rows: tuple[ChangeRow, ...] = ()
    count: int = 0

    @property
    def more(self) -> int:
        """How many are in no row."""
        return self.count - len(self.rows)


@dataclass(frozen=True)
class Comparison:
    """A candidate beside the release before it.

    Attributes:
        gates: Every gate of the candidate's verdict.
        gone: Gates that the release before had, and this verdict has not.
        settings: Parameters of the stages that differ.
        data: Files of data and of windows whose digests differ, and counts of units and rows.
        packages: Packages whose versions differ.
        commits: The commit of the code, before and now.
        uncommitted: Files that differed from the commit.
        findings: What validation found, in words.
        doubts: Tests that ended with a doubt about the attack or the measurement.
    """

    gates: tuple[GateRow, ...]
    gone: tuple[str, ...]
    settings: Differences
    data: Differences
    packages: Differences
    commits: tuple[str, str]
    uncommitted: tuple[str, ...]
    findings: tuple[str, ...]
    doubts: tuple[str, ...]


def compare(now: Statements, before: Statements | None) -> Comparison:
    """The candidate's statements, verified, beside those of the release before; None before the first."""
    then = before or {}
    gates_then = {str(gate.get("name")): gate for gate in _gates(then)}
    gates = tuple(_gate_row(gate, gates_then.get(str(gate.get("name")))) for gate in _gates(now))
    names = {row.name for row in gates}
    source = source_of(now["assess"])
    changed = source.get("changed")
    return Comparison(
        gates=gates,
        gone=tuple(sorted(name for name in gates_then if name not in names)),
        settings=_differences(_settings(then), _settings(now)) if before else Differences(),
        data=_differences(_data(then), _data(now)) if before else Differences(),
        packages=_differences(_packages(then), _packages(now)) if before else Differences(),
        commits=(_commit(then), _commit(now)),
        uncommitted=tuple(map(str, changed)) if isinstance(changed, list) else (),
        findings=tuple(_findings(now)),
        doubts=tuple(_doubts(now)),
    )


def _gates(statements: Statements) -> list[Mapping[str, Any]]:
    verdict = statements.get("assess")
    listed = verdict.predicate.get("twinseal_gates") if verdict else None
    return [gate for gate in listed if isinstance(gate, dict)] if isinstance(listed, list) else []


def _gate_row(gate: Mapping[str, Any], before: Mapping[str, Any] | None) -> GateRow:
    unit, relation = str(gate.get("unit", "")), str(gate.get("relation", ""))
    observed, bound = _number(gate.get("observed")), _number(gate.get("bound"))
    last = _number(before.get("observed")) if before else None
    return GateRow(
        name=str(gate.get("name", "?")),
        result=str(gate.get("result", "?")),
        observed=quantity(observed, unit),
        bound=f"{SIGNS.get(relation, '?')} {quantity(bound, unit)}",
        margin=_margin(observed, bound, relation),
        before=quantity(last, unit) if before else "",
        worse=_is_worse(observed, last, bound, relation),
        why=str(gate.get("why", "")),
        reason=str(gate.get("reason", "")),
    )


def _margin(observed: float | None, bound: float | None, relation: str) -> str:
    if observed is None or bound is None or not bound or relation not in ("at_most", "at_least"):
        return ""
    room = (bound - observed if relation == "at_most" else observed - bound) / abs(bound)
    return f"{100 * room:.0f} %"


def _is_worse(observed: float | None, before: float | None, bound: float | None, relation: str) -> bool:
    """What is unknown now and was known before is worse."""
    if before is None:
        return False
    if observed is None or relation not in SIGNS:
        return True
    if relation == "equals":
        return bound is None or abs(observed - bound) > abs(before - bound)
    return observed > before if relation == "at_most" else observed < before


def _number(value: object) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf
    return float(value) if is_number else None  # type: ignore[arg-type]


def _settings(statements: Statements) -> Values:
    found: Values = {}
    for stage in ("ingest", "prepare", "train"):
        definition = statements[stage].predicate.get("buildDefinition") if stage in statements else None
        if isinstance(definition, dict):
            found |= _flat(definition.get("externalParameters"), (stage,))
    return found


def _packages(statements: Statements) -> Values:
    definition = statements["train"].predicate.get("buildDefinition") if "train" in statements else None
    inside = definition.get("internalParameters") if isinstance(definition, dict) else None
    if not isinstance(inside, dict):
        return {}
    named = {("train", name): inside[name] for name in ("python", "implementation", "machine") if name in inside}
    return named | dict(_flat(inside.get("packages"), ("packages",)))


def _data(statements: Statements) -> Values:
    found: Values = {}
    for stage in ("validate", "prepare"):
        if stage in statements:
            found |= {(stage, item.name): f"sha256 {item.sha256}" for item in statements[stage].subjects}
    counted = measures(statements["validate"]) if "validate" in statements else {}
    names = ("units_total", "rows_total", "units_quarantined", "values_filled")
    return found | {("counted", name.replace("_", " ")): counted[name] for name in names if name in counted}


def _findings(statements: Statements) -> Iterator[str]:
    counted = measures(statements["validate"]) if "validate" in statements else {}
    units, out = counted.get("units_total"), counted.get("units_quarantined")
    if units is not None:
        yield f"{out} of {units} units quarantined"
    by_rule = counted.get("findings_by_rule")
    for rule, count in sorted(by_rule.items()) if isinstance(by_rule, dict) else ():
        if count:
            yield f"{count} findings of the rule {rule}"
    if counted.get("values_filled"):
        yield f"{counted['values_filled']} missing values filled"


def _doubts(statements: Statements) -> Iterator[str]:
    for stage, statement in statements.items():
        warned = statement.predicate.get("warnedTests") if statement.predicate_type == TEST_RESULT else None
        for name in warned if isinstance(warned, list) else ():
            yield f"{stage}: {name}"


def _commit(statements: Statements) -> str:
    return str(source_of(statements["assess"]).get("commit", "")) if "assess" in statements else ""


def _flat(value: Any, where: tuple[str, ...]) -> Values:
    """Every value that is no object with something in it; a list is one value."""
    if not isinstance(value, dict) or not value:
        return {where: value}
    return {place: item for name, below in value.items() for place, item in _flat(below, (*where, str(name))).items()}


def _differences(before: Values, now: Values) -> Differences:
    """All values are compared whole, as JSON: what is shown of them is cut afterwards."""
    then, new = ({place: _json(value) for place, value in values.items()} for values in (before, now))
    places = sorted(place for place in then.keys() | new.keys() if then.get(place) != new.get(place))
    named = Counter(place[1:] for place in places)
    rows = []
    for place in places[:MAX_ROWS]:
        name = ".".join(place[1:]) + (f" ({place[0]})" if named[place[1:]] > 1 else "")
        one, other = (_plain(values[place]) if place in values else "" for values in (before, now))
        if one == other:  # 1 and "1"
            one, other = then.get(place, ""), new.get(place, "")
        rows.append(ChangeRow(name, *_where_they_differ(one, other)))
    return Differences(tuple(rows), len(places))


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def _plain(value: Any) -> str:
    return value if isinstance(value, str) and value else _json(value)


def _where_they_differ(one: str, other: str) -> tuple[str, str]:
    """Two texts, without most of what is the same at their beginnings and ends if they are long."""
    if max(len(one), len(other)) <= _PEOPLE_READ:
        return one, other
    start = _common(one, other)
    end = min(_common(one[::-1], other[::-1]), len(one) - start, len(other) - start)
    return _part(one, start, end), _part(other, start, end)


def _common(one: str, other: str) -> int:
    """How many characters they have in common at the beginning."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((index for index, (left, right) in pairs if left != right), min(len(one), len(other)))


def _part(text: str, start: int, end: int) -> str:
    """The text but for `start` characters at its beginning and `end` at its end, and a few more."""
    start, end = max(0, start - _BESIDE), len(text) - max(0, end - _BESIDE)
    part, half = text[start:end], _PEOPLE_READ // 2
    if len(part) > _PEOPLE_READ:
        part = f"{part[:half]} … {len(part) - 2 * half} characters … {part[-half:]}"
    return ("… " if start else "") + part + (" …" if end < len(text) else "")
