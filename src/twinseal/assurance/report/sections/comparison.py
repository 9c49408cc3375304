"""Comparison: what each model family costs in accuracy without an attack, and what it buys. Not part of the verdict."""

from __future__ import annotations

from twinseal.assurance.case import Case
from twinseal.assurance.report.blocks import Content, Table, Text
from twinseal.assurance.report.section import Section
from twinseal.assurance.report.tables import Column, counted, measure_of, named, shown, table
from twinseal.errors import EvidenceError
from twinseal.evidence import materials
from twinseal.measures.common import WorstCase
from twinseal.measures.comparison import ComparisonMeasures, FamilyMeasures, FamilyName
from twinseal.measures.keys import Epsilon, Liars, number_of

FAMILIES: dict[FamilyName, str] = {
    "accurate": "accurate: no defence",
    "robust": "robust, for any unit",
    "robust-commissioned": "robust, reads the signed baseline",
    "certified-sensors": "certified against sensors",
    "certified-units": "certified against training units",
}
CLEAN = (
    Column[FamilyMeasures](lambda m: m.clean.rmse_cycles),
    Column[FamilyMeasures](lambda m: m.clean.nasa_score),
    Column[FamilyMeasures](lambda m: m.clean.late_share),
    Column[FamilyMeasures](lambda m: m.clean.units),
)
MOST_LIARS = 3


def build(case: Case) -> Content:
    """The table, or how to get it."""
    found = case.measures.compare
    if found is None or not about_this_model(case):
        return Content(below=(Text(_missing(case), muted=True),))
    text = Text(
        "Every family was trained on the same windows. The last columns are for an attacker who controls the sensors "
        "that one member of a median reads, or the telemetry of training units that it learned from: only a certified "
        "family has a bound then. Bounds within σ are those of the networks, which no cap limits; bounds against "
        "controlled members are those of the twin, whose estimate stays between 0 and its cap."
    )
    tables = (clean(found), bounds(found))
    return Content(below=(text, *(item for item in tables if item is not None)))


def about_this_model(case: Case) -> bool:
    """Whether the record was made from exactly the model files that are judged here."""
    statement = case.statements.get("compare")
    try:
        made_from = materials(statement) if statement else ()
    except EvidenceError:
        return False
    return sorted(item for item in made_from if item.name.startswith("model/")) == sorted(case.model)


def clean(found: ComparisonMeasures) -> Table | None:
    """Each family without an attack."""
    rows = [(FAMILIES[name], found.families[name]) for name in _names(found)]
    return table("Each family on the test windows, without an attack", FamilyMeasures, rows, CLEAN, first="family")


def bounds(found: ComparisonMeasures) -> Table | None:
    """What is certified of each family: within ε on every reading, and against members under an attacker's control."""
    measure = measure_of(lambda m: m.rmse_cycles, WorstCase)
    epsilons = _keys([family.certified for family in found.families.values()])
    liars = [key for key in _keys([f.liars for f in found.families.values()]) if 1 <= number_of(key) <= MOST_LIARS]
    rows = tuple(
        (
            FAMILIES[name],
            *(shown(_error(found.families[name].certified, key), measure.unit) for key in epsilons),
            *(shown(_error(found.families[name].liars, key), measure.unit) for key in liars),
        )
        for name in _names(found)
    )
    headers = ("family", *(f"within {number_of(key):g} σ" for key in epsilons), *map(_members, liars))
    return Table(f"Certified upper bounds: {named(measure.label, measure.unit)}", headers, rows) if rows else None


def _names(found: ComparisonMeasures) -> list[FamilyName]:
    """The families that were compared, in the order of FAMILIES."""
    return [name for name in FAMILIES if name in found.families]


def _keys(groups: list[dict[Epsilon, WorstCase]] | list[dict[Liars, WorstCase]]) -> list[str]:
    return sorted({key for group in groups for key in group}, key=number_of)


def _error(group: dict[str, WorstCase], key: str) -> float | None:
    return group[key].rmse_cycles if key in group else None


def _members(key: str) -> str:
    return f"{counted(number_of(key), 'member')} controlled"


def _missing(case: Case) -> str:
    remedy = "With `make compare`, every family is trained; then `dvc repro --force assess` shows them here."
    if "compare" in case.measures.faults:
        return f"The record of the comparison cannot be read: {case.measures.faults['compare']}. {remedy}"
    if case.measures.compare is not None:
        return f"The comparison on record is of another model. {remedy}"
    return f"This model was not compared with the other families. {remedy}"


SECTION = Section("comparison", "Other families", 30, build)
