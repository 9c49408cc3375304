"""The tables of the report and the card: measures as text, with their units, ready to be escaped by whoever shows them.

A measure that is absent is shown as a dash, never as a zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from twinseal.assurance.case import Case
from twinseal.assurance.gates import GateResult
from twinseal.assurance.report.measured import Curve, columns, curves, group, number, poisonings, records
from twinseal.errors import EvidenceError
from twinseal.evidence import PROVENANCE, TEST_RESULT, VERIFICATION_SUMMARY, Statement, Subject, materials, outcome

DASH = "—"
RELATIONS = {"at_most": "≤", "at_least": "≥", "equals": "="}
TYPES = {PROVENANCE: "provenance", TEST_RESULT: "test result", VERIFICATION_SUMMARY: "verification summary"}
PACKAGES = (
    "adversarial-robustness-toolbox",
    "great_expectations",
    "numpy",
    "pandas",
    "progpy",
    "safetensors",
    "scikit-learn",
    "torch",
)
# Signed records sort their keys; people read in this order, and what is not listed comes last.
_ORDER = (
    "",
    "case",
    "name",
    "share",
    "rmse_cycles",
    "unnoticed_rmse_cycles",
    "rmse_increase_cycles",
    "trigger_success_share",
    "missed_failure_share",
    "unnoticed_missed_failure_share",
    "noticed_share",
    "screened_rmse_increase_cycles",
    "screened_trigger_success_share",
    "late_share",
    "nasa_score",
    "rows_total",
    "units_total",
    "units_quarantined",
    "quarantined_share",
    "expectations_total",
    "expectations_failed",
    "drift_compared",
    "drift_max_psi",
)
_POISONING = ("name", "share", "rmse_increase_cycles", "trigger_success_share", "noticed_share")
_LABELS = {
    "rmse_cycles": "RMSE [cycles]",
    "rmse_increase_cycles": "RMSE lost [cycles]",
    "nasa_score": "NASA score",
    "name": "attack",
    "late_share": "late estimates",
    "missed_failure_share": "missed failures",
    "trigger_success_share": "trigger success",
    "noticed_share": "noticed",
    "drift_compared": "compared with a reference fleet",
    "drift_max_psi": "largest drift from it [PSI]",
    "unnoticed_rmse_cycles": "RMSE, unnoticed [cycles]",
    "unnoticed_missed_failure_share": "missed, unnoticed",
    "largest_shift_sigma": "largest shift [σ]",
    "share": "units poisoned",
    "screened_rmse_increase_cycles": "RMSE lost, screened [cycles]",
    "screened_trigger_success_share": "trigger success, screened",
    "epsilon_sigma": "ε [σ]",
}


@dataclass(frozen=True)
class Table:
    """One table: text only.

    Attributes:
        caption: What it shows.
        headers: Of the columns.
        rows: Cells by row, as long as the headers; the first of each names the row.
        marked: Index of the row to set apart (a bound, a total); None for none.
    """

    caption: str
    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    marked: int | None = None


def label(key: str) -> str:
    """A measure's name as people read it, with its unit."""
    for suffix, unit in (("_cycles", "cycles"), ("_sigma", "σ"), ("_percent", "%")):
        if key not in _LABELS and key.endswith(suffix):
            return f"{key.removesuffix(suffix).replace('_', ' ')} [{unit}]"
    return _LABELS.get(key, key.removesuffix("_share").replace("_", " "))


def shown(key: str, value: Any) -> str:
    """A measure's value as people read it; text stays text, what is no finite number becomes a dash."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        return ", ".join(value)
    found = number(value)
    if found is None:
        return DASH
    if abs(found) >= 1e9:
        return f"{found:.4g}"
    if key == "share" or key.endswith("_share"):
        return f"{100 * found:.1f} %"
    whole = abs(found) >= 1000 or (found == int(found) and not key.endswith("_cycles"))
    return f"{found:,.0f}".replace(",", " ") if whole else f"{found:.2f}"


def quantity(value: float | None, unit: str) -> str:
    """A gate's number with its unit; shares as per cent."""
    if value is None:
        return DASH
    if unit == "share":
        return f"{100 * value:.3g} %"
    return f"{value:.4g} {unit.removesuffix('s') if value == 1 else unit}"


def bound(gate: GateResult) -> str:
    """What a gate had to keep, as people write it."""
    return f"{RELATIONS[gate.bound.relation]} {quantity(gate.bound.number, gate.unit)}" if gate.bound else "no bound"


def data(case: Case) -> tuple[Table, ...]:
    """Validation: how much there was, and what was found by which rule."""
    found = group(case.statements, "validate")
    keys = sorted((key for key, value in found.items() if number(value) is not None), key=_rank)
    counts = tuple((label(key), shown(key, found[key])) for key in keys)
    tables = [Table("What validation looked at", ("measure", "value"), counts)] if counts else []
    rules = found.get("findings_by_rule")
    if isinstance(rules, dict) and rules:
        listed = sorted(rules.items(), key=lambda item: (-(number(item[1]) or 0.0), item[0]))
        rows = tuple((str(rule), shown("", count)) for rule, count in listed)
        tables.append(Table("Findings by rule of the contract", ("rule", "findings"), rows))
    return tuple(tables)


def accuracy(case: Case) -> Table | None:
    """The network beside the baseline on the same test windows, and on validation where it was measured."""
    test, rows = group(case.statements, "train", "test"), []
    for name in sorted(test, reverse=True):  # the network, then the baseline
        rows.append({"": f"{name}, test"} | _leaf(test[name]))
    validation = group(case.statements, "train", "validation")
    nested = {key: value for key, value in validation.items() if isinstance(value, dict)}
    for name, values in (nested or {"network": validation} if validation else {}).items():
        rows.append({"": f"{name}, validation"} | _leaf(values))
    return _from_records("Accuracy on units that training never saw", rows)


def evasion(case: Case) -> tuple[Table, ...]:
    """For RMSE and for missed failures: each attack by ε, and the certified upper bound as the last row."""
    pairs = (("rmse_cycles", "RMSE in cycles"), ("missed_failure_share", "Missed failures"))
    tables = (_by_epsilon(curves(case.statements, key), key, f"{name} under evasion, by ε [σ]") for key, name in pairs)
    return tuple(table for table in tables if table is not None)


def injection(case: Case) -> Table | None:
    """False data injection, one row a case."""
    cases = group(case.statements, "evade", "injection")
    rows = [{"case": name} | _leaf(values) for name, values in cases.items() if isinstance(values, dict)]
    return _from_records("False data injected into chosen sensors (Mode, Calyam and Hoque 2020)", rows)


def poisoning(case: Case) -> Table | None:
    """Poisoning, one row an attack and share."""
    if not poisonings(case.statements):
        return None
    listed = records(case.statements, "poison", "attacks")
    order = list(dict.fromkeys(str(item.get("name")) for item in listed))
    rows = [_screened(item) for item in sorted(listed, key=lambda item: order.index(str(item.get("name"))))]
    return _from_records("Retraining on poisoned telemetry, before and after validation's screening", rows)


def subjects(case: Case) -> Table:
    """What each signed record is about, and the candidate's own files, by SHA-256."""
    rows = [("candidate", item.name, item.sha256) for item in case.model]
    for stage, statement in case.statements.items():
        rows += [(stage, item.name, item.sha256) for item in statement.subjects if not item.name.startswith("model/")]
    return Table("What the records are about, by SHA-256", ("record", "file", "sha256"), tuple(rows))


def made_from(case: Case) -> Table:
    """Everything that was read to make the candidate (data, code, params, policy, locks), once each, by SHA-256."""
    users: dict[Subject, list[str]] = {}
    for stage, statement in case.statements.items():
        for item in _materials(statement):
            users.setdefault(item, []).append(stage)
    rows = tuple((item.name, ", ".join(stages), item.sha256) for item, stages in sorted(users.items()))
    judged = (("policy judged by", "assess", case.policy.sha256),)
    return Table("What it was made from and judged by", ("material", "read by", "sha256"), rows + judged)


def envelopes(case: Case) -> Table | None:
    """The signed envelopes that were read, by SHA-256."""
    rows = tuple((item.name, item.sha256) for item in case.inputs)
    return Table("The signed envelopes that this verdict was read from", ("envelope", "sha256"), rows) if rows else None


def environment(case: Case) -> Table | None:
    """Python, machine and the packages that matter, as training recorded them."""
    found = _build(case).get("internalParameters")
    if not isinstance(found, dict):
        return None
    packages = found.get("packages")
    rows = [(key, str(value)) for key, value in found.items() if isinstance(value, str)]
    if isinstance(packages, dict):
        rows += [(name, str(packages[name])) for name in PACKAGES if name in packages]
        rows.append(("packages in all", str(len(packages))))
    return Table("Where it was trained", ("what", "version"), tuple(rows))


def parameters(case: Case) -> Table | None:
    """The params that training obeyed."""
    rows = tuple(_flat(_build(case).get("externalParameters")))
    return Table("The params that training obeyed", ("param", "value"), rows) if rows else None


def record_type(statement: Statement | None) -> str:
    """A statement's type and result in words."""
    if statement is None:
        return DASH
    stated = outcome(statement)
    return TYPES.get(statement.predicate_type, "unknown") + (f", {stated}" if stated else "")


def _build(case: Case) -> dict[str, Any]:
    train = case.statements.get("train")
    found = train.predicate.get("buildDefinition") if train else None
    return found if isinstance(found, dict) else {}


def _flat(value: Any, prefix: str = "") -> list[tuple[str, str]]:
    if isinstance(value, dict):
        return [row for key, item in value.items() for row in _flat(item, f"{prefix}.{key}" if prefix else str(key))]
    return [(prefix, str(value))] if prefix else []


def _materials(statement: Statement) -> tuple[Subject, ...]:
    try:
        return materials(statement) if statement.predicate_type == PROVENANCE else ()
    except EvidenceError:
        return ()


def _screened(item: dict[str, Any]) -> dict[str, Any]:
    """One attack as a row: what stands nested under after_screening becomes columns of its own."""
    kept = {key: item.get(key) for key in _POISONING}
    after = _leaf(item.get("after_screening"))
    return kept | {f"screened_{key}": after.get(key) for key in ("rmse_increase_cycles", "trigger_success_share")}


def _leaf(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _from_records(caption: str, rows: list[dict[str, Any]]) -> Table | None:
    keys = sorted(columns(rows), key=_rank)
    if not rows or not keys:
        return None
    body = tuple(tuple(shown(key, row.get(key)) for key in keys) for row in rows)
    return Table(caption, tuple(map(label, keys)), body)


def _rank(key: str) -> int:
    return _ORDER.index(key) if key in _ORDER else len(_ORDER)


def _by_epsilon(found: tuple[Curve, ...], key: str, caption: str) -> Table | None:
    epsilons = sorted({epsilon for curve in found for epsilon, _ in curve.points})
    if not epsilons:
        return None
    rows = tuple((curve.name, *_along(dict(curve.points), epsilons, key)) for curve in found)
    marked = len(rows) - 1 if found[-1].kind == "certified" else None
    return Table(caption, ("attack", *("clean" if e == 0 else f"{e:g}" for e in epsilons)), rows, marked)


def _along(points: Mapping[float, float], epsilons: list[float], key: str) -> tuple[str, ...]:
    return tuple(shown(key, points.get(epsilon)) for epsilon in epsilons)
