"""What the evidence says beyond small changes of one window, as tables: families, intervals, sensors, the guard, theft.

Text only, like `tables`; a measure that is absent is a dash, and a group that is absent is no table.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twinseal.assurance.case import Case
from twinseal.assurance.report.measured import group, of, records
from twinseal.assurance.report.tables import DASH, Table, shown

_FAMILIES = {
    "accurate": "accurate: no defence",
    "robust": "robust, any unit",
    "robust-commissioned": "robust, with a trusted baseline",
    "certified-sensors": "certified against sensors",
    "certified-units": "certified against units",
}


def families(case: Case) -> Table | None:
    """What each family costs in clean accuracy, and what it buys."""
    found = group(case.statements, "train", "families")
    headers = ("family", "clean", "NASA score", "late", "certified 0.05 σ", "0.1 σ", "one liar", "two", "three")
    rows = []
    for name, measures in found.items():
        if not isinstance(measures, Mapping):
            continue
        clean, liars = _at(measures, "clean"), _at(measures, "liars")
        rows.append(
            (
                _FAMILIES.get(name, name),
                shown("rmse_cycles", clean.get("rmse_cycles")),
                shown("nasa_score", clean.get("nasa_score")),
                shown("late_share", clean.get("late_share")),
                *(
                    shown("rmse_cycles", _at(measures, "certified", f"eps-{e:g}").get("rmse_cycles"))
                    for e in (0.05, 0.1)
                ),
                *(shown("rmse_cycles", _at(liars, f"liars-{r}").get("rmse_cycles")) for r in (1, 2, 3)),
            )
        )
    return Table("The price of each family: RMSE in cycles on the test windows", headers, tuple(rows)) if rows else None


def unseen(case: Case) -> Table | None:
    """Cross-validation and intervals, by network."""
    validated = group(case.statements, "train", "cross_validation")
    intervals = group(case.statements, "train", "intervals")
    rows = tuple(
        (
            mode,
            shown("rmse_cycles", _at(validated, mode).get("rmse_cycles")),
            shown("coverage_share", _at(intervals, mode).get("coverage")),
            shown("error_share", _at(intervals, mode).get("standard_error")),
            shown("test_share", _at(intervals, mode).get("test_coverage")),
            shown("width_cycles", _at(intervals, mode).get("width_cycles")),
        )
        for mode in sorted({*validated, *intervals}, reverse=True)
    )
    headers = ("network", "RMSE, cross-validated", "intervals hold", "standard error", "on the test", "mean width")
    return (
        Table("Training units that a network did not see: errors in cycles, and the 90 % intervals", headers, rows)
        if rows
        else None
    )


def commissioned(case: Case) -> Table | None:
    """The network that reads the trusted baseline: attacked, certified, and certified without that trust."""
    groups = ("worst", "certified", "certified_baseline_moved")
    found = {name: group(case.statements, "evade", "commissioned", name) for name in groups}
    budgets = [key for key in found["certified"] if key.startswith("eps-")]
    rows = tuple(
        (
            key.removeprefix("eps-"),
            *(shown("rmse_cycles", _at(found[name], key).get("rmse_cycles")) for name in groups),
            *(shown("missed_share", _at(found[name], key).get("missed_failure_share")) for name in groups[:2]),
        )
        for key in budgets
    )
    headers = (
        "ε [σ]",
        "worst attack",
        "certified",
        "certified, baseline moved too",
        "missed, attacked",
        "missed, certified",
    )
    return Table("Units with a trusted baseline: RMSE in cycles and missed failures", headers, rows) if rows else None


def owned(case: Case) -> tuple[Table, ...]:
    """Sensors wholly owned: by how many, and by which."""
    tables = []
    rows = []
    for aim in ("any", "healthy-washing"):
        for size, values in group(case.statements, "evade", "sensors", aim).items():
            keys = ("rmse_cycles", "missed_failure_share", "moved_share")
            rows.append((aim, size.removeprefix("k-"), *(shown(key, _leaf(values).get(key)) for key in keys)))
    ages = group(case.statements, "evade", "ages")
    if ages:
        harm = (shown(key, ages.get(key)) for key in ("rmse_cycles", "missed_failure_share"))
        rows.append(("a false age instead", DASH, *harm, DASH))
    if rows:
        headers = ("aim", "sensors", "RMSE [cycles]", "missed failures", "estimates moved by 20 cycles")
        tables.append(Table("Sensors wholly owned by an attacker, chosen for each window", headers, tuple(rows)))
    alone = group(case.statements, "evade", "sensors", "alone")
    if alone:
        listed = sorted(alone.items(), key=lambda item: -_number(_leaf(item[1]).get("rise_cycles")))
        told = tuple(
            (
                name,
                shown("rise_cycles", _leaf(v).get("rise_cycles")),
                shown("share", _leaf(v).get("chosen_first_share")),
            )
            for name, v in listed
        )
        columns = ("sensor", "mean rise [cycles]", "windows in which it is the best choice")
        tables.append(Table("Each sensor owned alone: how far it raises the estimate", columns, told))
    return tuple(tables)


def guarded(case: Case) -> Table | None:
    """Falsified histories, without the guard and with it: what it finds, and where it is blind."""
    cases = [
        (f"Mode et al.: {name}", DASH, values) for name, values in group(case.statements, "evade", "experiment").items()
    ]
    for name in group(case.statements, "evade", "scenarios"):
        for values in records(case.statements, "evade", "scenarios", name):
            size, aim = values.get("size"), " · any error" if values.get("aim") == "any" else ""
            cases.append((name + aim, f"{size:g}" if isinstance(size, float) and size else DASH, values))
    keys: tuple[str, ...] = ("detected_share", "abstained_share", "rmse_cycles", "guarded_rmse_cycles")
    missed = ("missed_failure_share", "guarded_missed_failure_share")
    rows = tuple((name, size, *(shown(key, _leaf(v).get(key)) for key in (*keys, *missed))) for name, size, v in cases)
    headers = (
        "what is done",
        "size",
        "found",
        "abstained",
        "RMSE bare",
        "RMSE guarded",
        "missed bare",
        "missed guarded",
    )
    return Table("The guard against falsified histories", headers, rows) if rows else None


def adaptive(case: Case) -> Table | None:
    """What is left of the guard against somebody who knows it."""
    guarded = ("unnoticed_share", "rise_cycles", "guarded_rmse_cycles", "guarded_missed_failure_share")
    commissioned = ("commissioned_rise_cycles", "commissioned_rmse_cycles", "commissioned_missed_failure_share")
    rows = tuple(
        (
            shown("epsilon_sigma", values.get("epsilon_sigma")),
            *(shown(key, values.get(key)) for key in (*guarded, *commissioned)),
        )
        for values in records(case.statements, "evade", "adaptive")
    )
    headers = (
        "ε [σ]",
        "units unnoticed",
        "mean rise",
        "RMSE",
        "missed",
        "rise, trusted baseline",
        "RMSE",
        "missed",
    )
    caption = "Who knows the guard and holds the last rows: what he achieves without a word from it, in cycles"
    return Table(caption, headers, rows) if rows else None


def repair_abuse(case: Case) -> str:
    """Whether the guard can be provoked into a longer life, in a sentence; nothing where it was not measured."""
    found = group(case.statements, "evade", "provoked")
    if not found:
        return ""
    epsilon, share = shown("epsilon_sigma", found.get("epsilon_sigma")), shown("share", found.get("beyond_share"))
    return (
        "A repair may only shorten a life, so that nobody provokes one that leads above what is certified for the rows "
        f"as they came. Tried within ε {epsilon} σ: {share} of the units were led above it, by at most "
        f"{shown('excess_cycles', found.get('largest_excess_cycles'))} cycles; missed failures "
        f"{shown('share', found.get('guarded_missed_failure_share'))}."
    )


def trees(case: Case) -> Table | None:
    """The boosted trees attacked, beside the network attacked."""
    found = group(case.statements, "evade", "trees", "worst")
    network = {name: group(case.statements, "evade", name) for name in ("worst", "certified")}
    clean = (group(case.statements, "evade", "trees", "clean"), group(case.statements, "evade", "clean"))
    keys = ("rmse_cycles", "missed_failure_share")
    rows = [("clean", *(shown(key, item.get(key)) for key in keys for item in clean), DASH)]
    for epsilon, values in found.items():
        both = (_leaf(values), _at(network["worst"], epsilon))
        bound = shown("rmse_cycles", _at(network["certified"], epsilon).get("rmse_cycles"))
        rows.append(
            (epsilon.removeprefix("eps-"), *(shown(key, item.get(key)) for key in keys for item in both), bound)
        )
    headers = ("ε [σ]", "RMSE, trees", "RMSE, network", "missed, trees", "missed, network", "certified, network")
    caption = "Gradient boosting in the network's place, attacked by questions and by transfer (lower bounds)"
    return Table(caption, headers, tuple(rows)) if found else None


def theft(case: Case) -> tuple[Table, ...]:
    """Extraction by queries and rounding, and membership."""
    rows = tuple(
        (name.replace("-", " "), *(shown(key, _leaf(values).get(key)) for key in _STOLEN))
        for name, values in group(case.statements, "evade", "theft").items()
    )
    headers = ("what the thief gets", "within 5 cycles of the model", "RMSE to the model", "RMSE to the truth")
    tables = [Table("A model stolen by questions", headers, rows)] if rows else []
    told = tuple(
        (key.replace("_", " "), shown("", value))
        for key, value in group(case.statements, "evade", "membership").items()
    )
    return (
        (*tables, Table("Who was in training? 0.5 is a guess", ("measure", "value"), told)) if told else tuple(tables)
    )


_STOLEN = ("near_share", "fidelity_rmse_cycles", "student_rmse_cycles")


def false_alarms(case: Case) -> str:
    """The share of sound rows that the guard flags, as people read it."""
    return shown("share", of(case.statements, "evade", "guard", "false_alarm_share"))


def _at(values: Any, *path: str) -> dict[str, Any]:
    for key in path:
        values = values.get(key) if isinstance(values, Mapping) else None
    return _leaf(values)


def _leaf(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {}


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
