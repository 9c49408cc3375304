"""Held sensors: what one to four sensors reach in the hand of somebody who knows network, guard and ledger."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from twinseal.assurance.case import Case
from twinseal.assurance.report.blocks import Caveat, Content, Text, Tile
from twinseal.assurance.report.section import Section
from twinseal.assurance.report.tables import DASH, Column, counted, shown, table
from twinseal.measures.keys import Count, Rows, number_of
from twinseal.measures.quantity import Group
from twinseal.measures.robustness import AlarmBySensors, HeldSensors, HiddenBySensors

G = TypeVar("G", bound=Group)

LABEL = "Failing machines hidden by who holds a few sensors"
HIDDEN = (
    Column[HiddenBySensors](lambda m: m.bare_missed_failure_share),
    Column[HiddenBySensors](lambda m: m.missed_failure_share),
    Column[HiddenBySensors](lambda m: m.answer_cycles),
)
ALARMED = (
    Column[AlarmBySensors](lambda m: m.false_alarm_share),
    Column[AlarmBySensors](lambda m: m.locked_early_share),
    Column[AlarmBySensors](lambda m: m.answer_cycles),
)


def build(case: Case) -> Content:
    """What is reached in words, then a row for each number of sensors and of rows, for either aim."""
    found = case.measures.evade
    if found is None:
        return Content(below=(Text("There is no attack with a few sensors on record.", muted=True),))
    held = found.held_sensors
    intro = (
        "This attacker knows the network, the guard's signed parameters and its memory, and the ledger. The guard "
        "notices none of what is counted here: held sensors agree with what the others say, and drift together. For "
        "each machine the worst counts that so many sensors and rows, or fewer, reach."
    )
    hide = table(
        f"To hide {counted(held.failing_units, 'failing machine')}",
        HiddenBySensors,
        listed(held.hide),
        HIDDEN,
        first="held",
    )
    alarm = table(
        f"To call {counted(held.healthy_units, 'healthy machine')} failing",
        AlarmBySensors,
        listed(held.alarm),
        ALARMED,
        first="held",
    )
    caveat = Caveat(
        "These are trials: a better attacker may reach more. Where all sensors that tell of one kind of wear are held, "
        "nothing is left that could contradict them. A life that is locked too early opens by a signed act only."
    )
    tables = tuple(one for one in (hide, alarm) if one)
    return Content(
        blocks=(Text(intro), *(Text(line) for line in words(held))),
        below=tables,
        caveats=(caveat,),
        tiles=(tile(held),),
    )


def listed(found: Mapping[Count, Mapping[Rows, G]]) -> list[tuple[str, G]]:
    """By number of sensors and of rows, in words."""
    return [
        (f"{counted(int(number_of(size)), 'sensor')}, {number_of(rows):.0f} rows", found[size][rows])
        for size in sorted(found, key=number_of)
        for rows in sorted(found[size], key=number_of)
    ]


def words(found: HeldSensors) -> list[str]:
    """What is reached with each number of sensors, at worst over the rows."""
    lines = []
    for size in sorted(found.hide, key=number_of):
        most = max(found.hide[size], key=number_of)
        hide, alarm = found.hide[size][most], found.alarm[size][most]
        lines.append(
            f"With {counted(int(number_of(size)), 'sensor')} for {number_of(most):.0f} rows, "
            f"{shown(hide.missed_failure_share, 'share')} of the failing machines are called healthy "
            f"(without the ledger {shown(hide.bare_missed_failure_share, 'share')}), and "
            f"{shown(alarm.false_alarm_share, 'share')} of the healthy ones failing."
        )
    return lines


def tile(found: HeldSensors) -> Tile:
    """With the most sensors and rows."""
    size = max(found.hide, key=number_of)
    hide = found.hide[size][max(found.hide[size], key=number_of)]
    if hide.missed_failure_share is None:
        return Tile(LABEL, DASH, "no unit is failing", 52, "open")
    bare = shown(hide.bare_missed_failure_share, "share")
    note = f"{counted(int(number_of(size)), 'sensor')}; without the ledger {bare}"
    return Tile(LABEL, shown(hide.missed_failure_share, "share"), note, 52)


SECTION = Section("held-sensors", "A few sensors in the hand of who knows the guard", 74, build)
