"""An attacker who knows the guard: what is left of it, and whether its repairs can be abused."""

from __future__ import annotations

from collections.abc import Mapping

from twinseal.assurance.case import Case
from twinseal.assurance.report.blocks import Caveat, Content, Table, Text, Tile
from twinseal.assurance.report.section import Section
from twinseal.assurance.report.tables import DASH, Column, counted, cycles, shown, table
from twinseal.measures.keys import Epsilon, number_of
from twinseal.measures.robustness import GuardAwareMeasures, RepairAbuseMeasures

LABEL = "Failing machines hidden by an attacker who knows the guard"
COLUMNS = (
    Column[GuardAwareMeasures](lambda m: m.units),
    Column[GuardAwareMeasures](lambda m: m.unnoticed_share),
    Column[GuardAwareMeasures](lambda m: m.rise_cycles),
    Column[GuardAwareMeasures](lambda m: m.guarded_rmse_cycles),
    Column[GuardAwareMeasures](lambda m: m.failing_units),
    Column[GuardAwareMeasures](lambda m: m.guarded_missed_failure_share),
    Column[GuardAwareMeasures](
        lambda m: m.commissioned.rise_cycles if m.commissioned else None, "mean rise, signed baseline"
    ),
    Column[GuardAwareMeasures](
        lambda m: m.commissioned.rmse_cycles if m.commissioned else None, "RMSE, signed baseline"
    ),
    Column[GuardAwareMeasures](
        lambda m: m.commissioned.missed_failure_share if m.commissioned else None, "missed failures, signed baseline"
    ),
)


def build(case: Case) -> Content:
    """By ε, then the abuse of repairs in a sentence."""
    found = case.measures.evade
    if found is None:
        return Content(below=(Text("There is no attack by somebody who knows the guard on record.", muted=True),))
    intro = (
        "This attacker controls every sensor in the last rows, has read the guard's signed parameters, and stays below "
        "its thresholds."
    )
    by_epsilon = rows(found.guard_aware)
    text = Caveat("These are trials: no bound holds above the ε that is certified under evasion.")
    return Content(
        blocks=(Text(intro), Text(repair_abuse(found.repair_abuse))),
        below=(by_epsilon,) if by_epsilon else (),
        caveats=(text,),
        tiles=tiles(found.guard_aware),
    )


def rows(found: Mapping[Epsilon, GuardAwareMeasures]) -> Table | None:
    """A row for each ε, ascending."""
    listed = [(f"{number_of(key):g} σ", found[key]) for key in sorted(found, key=number_of)]
    caption = "An attacker who knows the guard and changes the last rows by at most ε"
    return table(caption, GuardAwareMeasures, listed, COLUMNS, first="ε")


def repair_abuse(found: RepairAbuseMeasures) -> str:
    """Whether honest readings were replaced to the attacker's advantage."""
    above = (
        f"{shown(found.beyond_share, 'share')} of the units went above their bound, by at most "
        f"{cycles(found.largest_excess_cycles)}"
    )
    return (
        "The guard repairs readings that contradict the others, and a repair may only shorten an estimate: otherwise "
        "an attacker could provoke a repair that leads above the certified bound. Tried within "
        f"{found.epsilon_sigma:g} σ: {above if found.beyond_share else 'no unit went above its bound'}; missed "
        f"failures {shown(found.guarded_missed_failure_share, 'share')}."
    )


def tiles(found: Mapping[Epsilon, GuardAwareMeasures]) -> tuple[Tile, ...]:
    """The worst over ε, at the smallest ε that reaches it, and from which ε on anything is hidden."""
    shares = {number_of(key): group.guarded_missed_failure_share for key, group in found.items()}
    known = sorted((epsilon, share) for epsilon, share in shares.items() if share is not None)
    if not known:
        return (Tile(LABEL, DASH, "no unit is failing", 50, "open"),)
    most = max(share for _, share in known)
    failing = counted(max(group.failing_units for group in found.values()), "failing unit")
    if most <= 0:
        note = f"by changes of up to {known[-1][0]:g} σ of the last rows; tried, not proved; {failing}"
        return (Tile(LABEL, shown(0.0, "share"), note, 50, "open"),)
    reached = next(epsilon for epsilon, share in known if share == most)
    first, hidden = next((epsilon, share) for epsilon, share in known if share > 0)
    note = f"by changes of up to {reached:g} σ of the last rows"
    if first < reached:
        note += f"; {shown(hidden, 'share')} by {first:g} σ"
    note += f"; {failing}"
    return (Tile(LABEL, shown(most, "share"), note, 50, "open"),)


SECTION = Section("guard-aware", "An attacker who knows the guard", 70, build)
