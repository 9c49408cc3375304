"""Bounds against bad training units: how far few of them could have moved what was learnt beside the networks."""

from __future__ import annotations

from twinseal.assurance.case import Case
from twinseal.assurance.report.blocks import Caveat, Content, Text
from twinseal.assurance.report.section import Section
from twinseal.assurance.report.tables import Column, counted, table
from twinseal.measures.keys import number_of
from twinseal.measures.training import UnitsBound

COLUMNS = (
    Column[UnitsBound](lambda m: m.wear_threshold_least_times),
    Column[UnitsBound](lambda m: m.wear_threshold_most_times),
    Column[UnitsBound](lambda m: m.channel_threshold_least_times),
    Column[UnitsBound](lambda m: m.channel_threshold_most_times),
    Column[UnitsBound](lambda m: m.relations_moved_share),
    Column[UnitsBound](lambda m: m.mean_moved_sigma),
    Column[UnitsBound](lambda m: m.sigma_least_times),
    Column[UnitsBound](lambda m: m.sigma_most_times),
    Column[UnitsBound](lambda m: m.interval_least_times),
    Column[UnitsBound](lambda m: m.interval_most_times),
    Column[UnitsBound](lambda m: m.interval_coverage_least_share),
    Column[UnitsBound](lambda m: m.oldest_age_least_times),
    Column[UnitsBound](lambda m: m.oldest_age_most_times),
)
NONE_TOLERATED = Caveat(
    "So few units trained that none of them can be left out: a single bad one moves the guard, σ and the intervals "
    "without a bound.",
    grave=True,
)


def build(case: Case) -> Content:
    """A row for each number of bad units."""
    found = case.measures.train
    if found is None:
        return Content()
    bounds = sorted(found.units_bound.items(), key=lambda item: number_of(item[0]))
    rows = [(f"{counted(number_of(key), 'unit')} of those that trained", group) for key, group in bounds]
    intro = Text(
        "If so many training units are bad, in any way, what the others alone would have given is at least and at most "
        "so many times what the model has. Computed, not tried: each of these numbers is a statistic over units in "
        "which the few most extreme ones count as the next ones do."
    )
    if not rows:
        return Content((intro,), caveats=(NONE_TOLERATED,))
    shown = table("Bounds if units are bad: guard, σ, intervals, oldest age", UnitsBound, rows, COLUMNS, first="bad")
    given = Caveat(
        "The bounds of thresholds are for the relations of the channels as they are, those of intervals for what the "
        "networks said. Only a median against units bounds the networks themselves; Poisoning shows all together."
    )
    return Content((intro, *((shown,) if shown else ())), caveats=(given,))


SECTION = Section("bad-units", "If some training units are bad", 95, build, in_card="analyses")
