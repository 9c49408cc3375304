"""Certificate of the median: the worst case if an attacker controls r of its members. Nothing for a mean."""

from __future__ import annotations

from twinseal.assurance.case import Case
from twinseal.assurance.report.blocks import Content, Text, Tile
from twinseal.assurance.report.section import Section
from twinseal.assurance.report.tables import MEASURED_ON, Column, cycles, shown, table
from twinseal.measures.common import WorstCase
from twinseal.measures.keys import liars_key, number_of

CONTROLLED = {  # what an attacker has to control to control one member
    "sensors": ("group of sensors", "groups of sensors"),
    "units": ("part of the training units", "parts of the training units"),
}
COLUMNS = (Column[WorstCase](lambda m: m.rmse_cycles), Column[WorstCase](lambda m: m.missed_failure_share))


def build(case: Case) -> Content:
    """A row for each number of members."""
    found = case.measures.evade
    against = case.config.against
    if found is None or not found.median_certificate or against is None:
        return Content()
    one, many = CONTROLLED[against]
    rows = [
        (f"{number_of(key):g} of {case.config.plain.members} {many}", group)
        for key, group in sorted(found.median_certificate.items(), key=lambda item: number_of(item[0]))
    ]
    what = {"sensors": "sensors", "units": "training units"}[against]
    intro = (
        f"The estimate is the median of {case.config.plain.members} networks, and no two of them share {what}. An "
        f"attacker who controls one {one} controls one member and can let it estimate anything. How far the median "
        "can move then is computed exactly: these are bounds, not trials."
    )
    caption = f"If members estimate anything at all, certified: {many} under an attacker's control; {MEASURED_ON}"
    bounds = table(caption, WorstCase, rows, COLUMNS, first="under control")
    return Content(below=(Text(intro), *((bounds,) if bounds else ())), tiles=tiles(case, one))


def tiles(case: Case, one: str) -> tuple[Tile, ...]:
    """The bound if one member is controlled."""
    found = case.measures.evade
    bound = found.median_certificate.get(liars_key(1)) if found else None
    if bound is None:
        return ()
    note = f"proved, not tested; missed failures ≤ {shown(bound.missed_failure_share, 'share')}"
    label = f"Error if an attacker controls one {one}, without limit"
    return (Tile(label, f"≤ {cycles(bound.rmse_cycles)}", note, 30, "proved"),)


SECTION = Section("median", "Certificate of the median", 45, build, in_card="analyses")
