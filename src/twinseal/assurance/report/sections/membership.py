"""Membership: whether somebody can tell which units the model was trained on."""

from __future__ import annotations

from twinseal.assurance.case import Case
from twinseal.assurance.report.blocks import Content, Text
from twinseal.assurance.report.section import Section
from twinseal.assurance.report.tables import Column, counted, listing, named, shown
from twinseal.measures.keys import number_of
from twinseal.measures.robustness import MembershipMeasures

COLUMNS = (
    Column[MembershipMeasures](lambda m: m.windows_auc),
    Column[MembershipMeasures](lambda m: m.units_auc),
    Column[MembershipMeasures](lambda m: m.windows_found_share),
    Column[MembershipMeasures](lambda m: m.advantage),
    Column[MembershipMeasures](lambda m: m.art_accuracy),
)


def build(case: Case) -> Content:
    """Each measure of the attack, and what rounding the answers changes."""
    intro = Text("Can an attacker who has a unit's telemetry and true life tell that the model was trained on it?")
    found = case.measures.evade
    if found is None:
        return Content(below=(intro, Text("There is no test of membership on record.", muted=True)))
    unit = MembershipMeasures.quantity("rounded_auc").unit
    rounded = [
        (named(f"windows told apart, answers rounded to {counted(number_of(key), 'cycle')}", unit), shown(value, unit))
        for key, value in sorted(found.membership.rounded_auc.items(), key=lambda item: number_of(item[0]))
    ]
    caption = "Which units were in the training? An AUC or an accuracy of 0.5 is a guess"
    return Content(below=(intro, listing(caption, found.membership, COLUMNS, more=rounded)))


SECTION = Section("membership", "Membership", 95, build)
