"""Extraction: what a student network learns from the model's answers."""

from __future__ import annotations

from twinseal.assurance.case import Case
from twinseal.assurance.report.blocks import Content, Text
from twinseal.assurance.report.section import Section
from twinseal.assurance.report.tables import Column, counted, table
from twinseal.measures.keys import number_of
from twinseal.measures.robustness import ExtractionMeasures

COLUMNS = (
    Column[ExtractionMeasures](lambda m: m.near_share),
    Column[ExtractionMeasures](lambda m: m.fidelity_rmse_cycles),
    Column[ExtractionMeasures](lambda m: m.student_rmse_cycles),
    Column[ExtractionMeasures](lambda m: m.transfer_rise_cycles),
    Column[ExtractionMeasures](lambda m: m.direct_rise_cycles),
)


def build(case: Case) -> Content:
    """A row for each number of questions, then for each rounding of the answers."""
    intro = Text(
        "Somebody who may ask a twin trains a network of their own on its answers. The more of its estimates are "
        "near the model's, the more of the model was stolen, and the better an attack on the copy works on the model."
    )
    found = case.measures.evade
    if found is None:
        return Content(below=(intro, Text("There is no extraction on record.", muted=True)))
    asked, rounded = found.extraction.by_queries, found.extraction.by_rounding
    rows = [(counted(number_of(k), "answer"), asked[k]) for k in sorted(asked, key=number_of)]
    for key in sorted(rounded, key=number_of):
        rows.append((f"the most answers, rounded to {counted(number_of(key), 'cycle')}", rounded[key]))
    stolen = table(
        "A copy trained on the model's answers", ExtractionMeasures, rows, COLUMNS, first="what the thief gets"
    )
    return Content(below=(intro, *((stolen,) if stolen else ())))


SECTION = Section("extraction", "Extraction", 90, build)
