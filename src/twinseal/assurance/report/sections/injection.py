"""Injection: a few sensors off by some percent (Mode, Calyam and Hoque 2020), single windows, without the guard."""

from __future__ import annotations

from twinseal.assurance.case import Case
from twinseal.assurance.report.blocks import Caveat, Content, Text
from twinseal.assurance.report.section import Section
from twinseal.assurance.report.tables import MEASURED_ON, Column, table
from twinseal.measures.robustness import InjectionMeasures, RobustnessMeasures
from twinseal.measures.words import signature_words

COLUMNS = (
    Column[InjectionMeasures](lambda m: m.rmse_cycles),
    Column[InjectionMeasures](lambda m: m.unnoticed_rmse_cycles),
    Column[InjectionMeasures](lambda m: m.missed_failure_share),
    Column[InjectionMeasures](lambda m: m.unnoticed_missed_failure_share),
    Column[InjectionMeasures](lambda m: m.noticed_share),
    Column[InjectionMeasures](lambda m: m.windows_touched_share),
    Column[InjectionMeasures](lambda m: m.largest_shift_sigma),
)


def build(case: Case) -> Content:
    """A row for each signature."""
    intro = Text(
        "An attacker who controls a few sensors scales their readings by some percent. Constant bias: always the same "
        "percentage. Random bias: one that is drawn for each unit and sensor. Continuous: from one cycle on, without "
        "end. Interim: in the last cycles only."
    )
    found = case.measures.evade
    rows = signatures_of(found) if found is not None else []
    signatures = table(
        f"False data injected into chosen sensors: {MEASURED_ON}", InjectionMeasures, rows, COLUMNS, first="signature"
    )
    if signatures is None:
        caveat = Caveat("No injection was tried on this model.")
        return Content((intro, Text("There are no injections on record.", muted=True)), caveats=(caveat,))
    caveat = Caveat(
        "Measured on the network alone. “Unnoticed” leaves out what the contract's ranges and rates notice; the rest "
        "of the twin's guard is not counted."
    )
    return Content((intro,), (signatures,), (caveat,))


def signatures_of(found: RobustnessMeasures) -> list[tuple[str, InjectionMeasures]]:
    """Each signature in words."""
    return [(signature_words(name), group) for name, group in found.injection.signatures.items()]


SECTION = Section("injection", "Injection", 80, build, in_card="analyses")
