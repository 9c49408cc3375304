from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from tests.telemetry.conftest import oven_contract, oven_table
from twinseal.telemetry.contract import Contract, Drift
from twinseal.telemetry.drift import MOST_ALLOWANCE, Compared, allow, compare, worst
from twinseal.telemetry.fleet import Fleet
from twinseal.telemetry.outcome import apply
from twinseal.telemetry.reference import Reference
from twinseal.telemetry.validation import examine


def restless(units: int, seed: int, *, spread: float = 5.0, **shift: float) -> Fleet:
    """Ovens whose heat differs from oven to oven by `spread` kelvin, and whose glow does not."""
    table = oven_table({f"oven-{n:03d}": 20 for n in range(units)})
    rng = np.random.default_rng(seed)
    table["heat"] = 300.0 + np.repeat(rng.normal(0, spread, units), 20) + rng.normal(0, 1, len(table))
    table["glow"] = 310.0 + rng.normal(0, 1, len(table))
    for name, by in shift.items():
        table[name] += by
    return Fleet.of(table)


OVEN = Contract.from_dict(oven_contract())
REFERENCE = Reference.of(restless(150, seed=1), OVEN)


def compared(fleet: Fleet) -> dict[str, Compared]:
    return {item.channel: item for item in allow(compare(fleet, OVEN, REFERENCE), OVEN.drift)}


def test_bounds_are_widened_where_chance_needs_it_and_nowhere_else() -> None:
    few, many = compared(restless(8, seed=2)), compared(restless(600, seed=2))
    assert 1.2 < few["heat"].index_allowance <= MOST_ALLOWANCE
    assert 1.0 == few["glow"].mean_allowance < few["heat"].mean_allowance
    assert few["glow"].index_allowance < 0.7 * few["heat"].index_allowance
    assert {1.0} == {item.index_allowance for item in many.values()} | {item.mean_allowance for item in many.values()}


def test_fleets_of_few_units_are_seldom_refused_by_chance() -> None:
    """Without the widening, a third of such fleets is refused."""
    drift, refused = OVEN.drift, np.zeros(2)
    for seed in range(40):
        heat = compared(restless(6, seed=100 + seed))["heat"]
        refused += [heat.index > drift.max_psi * heat.index_allowance, heat.index > drift.max_psi]
    assert refused[0] <= 3
    assert refused[1] >= 12


@pytest.mark.attack("P")
def test_a_steady_channel_cannot_hide_its_shift_behind_a_restless_one() -> None:
    """In a fleet of few, wildly different units, one channel that was steady is shifted."""
    assert set() == {f.channel for f in apply(restless(8, seed=2), OVEN, REFERENCE).fleet_findings}
    found = apply(restless(8, seed=2, glow=1.0), OVEN, REFERENCE).fleet_findings
    assert {"glow"} == {finding.channel for finding in found}


@pytest.mark.attack("P")
def test_wild_units_widen_the_bounds_only_so_far() -> None:
    """Units differ so wildly that any shift looks like chance."""
    found = compared(restless(6, seed=3, spread=25.0, heat=40.0))["heat"]
    assert found.index_allowance <= MOST_ALLOWANCE
    assert found.index > OVEN.drift.max_psi * MOST_ALLOWANCE


def test_the_worst_regime_is_where_a_channel_is_furthest_beyond_its_own_bound() -> None:
    one = compared(restless(12, seed=2, heat=3.0))["heat"]
    other = replace(one, where="at 2: ", index_allowance=one.index_allowance / 2)
    assert "at 2: " == worst([one, other])["heat"].by_shape.where


def test_a_fleet_is_compared_within_each_operating_point() -> None:
    """The same heat over all rows, but of the other operating point."""
    plain = oven_contract()
    plain["settings"]["load"]["used"] = False
    regimes = {"settings": ["load"], "within": [0.1], "points": [[0.25], [0.75]]}
    two = Contract.from_dict(plain | {"regimes": regimes})
    table = oven_table({f"oven-{n}": 12 for n in range(30)})
    low = np.arange(len(table)) % 2 == 0
    table = table.assign(load=np.where(low, 0.25, 0.75), heat=np.where(low, 300.0, 320.0) + table["cycle"] / 10)
    reference = Reference.of(Fleet.of(table), two)
    same = apply(Fleet.of(table), two, reference)
    assert ((), (180, 180), 2) == (same.fleet_findings, same.regime_rows, same.regimes_compared)
    swapped = pd.DataFrame(table).assign(load=np.where(low, 0.75, 0.25))
    found = apply(Fleet.of(swapped), two, reference).fleet_findings
    assert {("drift", "heat"), ("drift-mean", "heat")} <= {(f.rule, f.channel) for f in found}
    assert "at 0." in next(f.bound for f in found if (f.rule, f.channel) == ("drift-mean", "heat"))
    over_all = replace_regimes(reference)
    assert 0 == apply(Fleet.of(table), two, over_all).regimes_compared
    measures = examine(Fleet.of(table), two, reference).measures
    assert ({"point-1": 180, "point-2": 180}, 2) == (measures.regime_rows, measures.drift_regimes)
    alone = examine(Fleet.of(table), Contract.from_dict(plain), None).measures
    assert (None, None) == (alone.regime_rows, alone.drift_regimes)
    assert ("drift", "heat") not in {
        (f.rule, f.channel) for f in apply(Fleet.of(swapped), two, over_all).fleet_findings
    }


def replace_regimes(reference: Reference) -> Reference:
    """A reference of before: without operating points."""
    return reference.model_copy(update={"regimes": ()})


def test_a_chance_that_is_none_cannot_be_a_contracts() -> None:
    with pytest.raises(ValueError, match="expected 0 < chance < 1, got 1"):
        Drift(chance=1.0)
