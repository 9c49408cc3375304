"""Spent life: attackers who falsify no reading, without the ledger of a unit's life and with it."""

from __future__ import annotations

from twinseal.assurance.case import Case
from twinseal.assurance.report.blocks import Caveat, Content, Text, Tile
from twinseal.assurance.report.section import Section
from twinseal.assurance.report.tables import DASH, Column, counted, cycles, shown, table
from twinseal.measures.robustness import SpentLife, SpentLives
from twinseal.measures.words import SPENT_LIFE

LABEL = "Failing machines hidden by lost, repeated or renamed rows"
COLUMNS = (
    Column[SpentLife](lambda m: m.units),
    Column[SpentLife](lambda m: m.failing_units),
    Column[SpentLife](lambda m: m.bare_missed_failure_share),
    Column[SpentLife](lambda m: m.missed_failure_share),
    Column[SpentLife](lambda m: m.refused_share),
    Column[SpentLife](lambda m: m.locked_early_share),
)


def build(case: Case) -> Content:
    """Honest telemetry, then a row for each attack."""
    found = case.measures.evade
    if found is None:
        return Content(below=(Text("There is no attack on the ledger on record.", muted=True),))
    intro = (
        "Once the twin has said that a unit has at most so many cycles left, it never says more than that minus the "
        "cycles since; lost rows count as life spent, and above the contract's share of a window it says “inspect "
        f"now”. On honest telemetry this moves the error by {cycles(found.spent_life.rise_cycles)}."
    )
    listed = [(SPENT_LIFE[name], group) for name, group in by_attack(found.spent_life)]
    rows = table("No reading is falsified: which rows arrive", SpentLife, listed, COLUMNS, first="telemetry")
    caveat = Caveat(
        "An attacker who lets nothing arrive at all leaves the last answer as it is: its cycle says how old it is."
    )
    return Content(
        blocks=(Text(intro),), below=(rows,) if rows else (), caveats=(caveat,), tiles=(tile(found.spent_life),)
    )


def by_attack(found: SpentLives) -> list[tuple[str, SpentLife]]:
    """Honest telemetry first, then the attacks that were measured, in the order of their words."""
    return [("clean", found.clean), *((name, found.attacks[name]) for name in SPENT_LIFE if name in found.attacks)]


def tile(found: SpentLives) -> Tile:
    """The worst of all attacks."""
    most = found.worst_missed_failure_share
    if most is None:
        return Tile(LABEL, DASH, "no unit is failing", 55)
    bare = max((group.bare_missed_failure_share or 0.0 for group in found.attacks.values()), default=0.0)
    failing = counted(found.clean.failing_units, "failing unit")
    return Tile(LABEL, shown(most, "share"), f"without the ledger {shown(bare, 'share')}; {failing}", 55)


SECTION = Section("spent-life", "A life is spent, never earned back", 75, build)
