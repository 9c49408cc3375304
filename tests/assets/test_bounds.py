"""The proposed contract accepts its own fleet, refuses a fleet with a fault, and is not moved by a few bad units."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from twinseal.assets.bounds import Proposed, propose_contract
from twinseal.assets.channel_bounds import outward
from twinseal.assets.plans import About, ChannelPlan
from twinseal.errors import DataError
from twinseal.sources.simulated import DEMAND, SETTINGS, SimulatedParams, simulate
from twinseal.telemetry.fleet import Fleet
from twinseal.telemetry.validation import validate

ABOUT = About("oven", "oven-rul", "An oven", "One day")


def proposed(fleet: Fleet, **about: Any) -> Proposed:
    kinds = {name: "setting" if name in (*SETTINGS, DEMAND) else "sensor" for name in fleet.channels}
    plans = [ChannelPlan(name, kind) for name, kind in kinds.items()]  # type: ignore[arg-type]
    return propose_contract(fleet, plans, About(**{**vars(ABOUT), **about}))


@pytest.fixture(scope="module")
def fleet() -> Fleet:
    return simulate(SimulatedParams(units=24, seed=5))


@pytest.fixture(scope="module")
def found(fleet: Fleet) -> Proposed:
    return proposed(fleet)


def changed(fleet: Fleet, units: int, channel: str, change: Any) -> Fleet:
    """The fleet with the last rows of its first units changed in one channel."""
    table = fleet.table.copy()
    values = table[channel].to_numpy(copy=True)
    for number in range(units):
        end = fleet.starts[number] + fleet.lengths[number]
        values[end - 20 : end] = change(values[end - 20 : end])
    return Fleet(table.assign(**{channel: values}))


def test_it_accepts_its_own_fleet(fleet: Fleet, found: Proposed) -> None:
    accepted = validate(fleet, found.contract, None, None)
    assert () == accepted.findings
    assert fleet.units == accepted.accepted.units


FAULTS: list[tuple[str, Any, str]] = [
    ("high_pressure", lambda v: v * 1.5, "range"),
    ("high_flow", lambda v: np.where(np.arange(len(v)) % 2, v, v + 0.01), "change"),
    ("high_oil_temperature", lambda v: v * np.nan, "missing"),
    ("high_oil_temperature", lambda v: v * 0 + v.mean() - 12, "consistency"),
]


def test_it_refuses_a_fleet_with_injected_faults(fleet: Fleet, found: Proposed) -> None:
    table = fleet.table.copy()
    for unit, (channel, change, _) in zip(fleet.units, FAULTS, strict=False):
        mine = table["unit"] == unit
        table.loc[mine, channel] = np.asarray(change(table.loc[mine, channel].to_numpy()), dtype=np.float32)
    with pytest.raises(DataError, match="expected at most 5% bad units, got 4 of 24") as refusal:
        validate(Fleet(table), found.contract, None, None)
    said = "\n".join(refusal.value.findings)
    for unit, (channel, _, rule) in zip(fleet.units, FAULTS, strict=False):
        assert re.search(f"{unit}, .*{channel}: {rule}: ", said)


@pytest.mark.attack("P")
def test_a_faulty_unit_in_the_export_sets_no_bound_and_is_named(fleet: Fleet, found: Proposed) -> None:
    """A poisoned unit of an export would widen the contract that later poison has to meet."""
    worse = proposed(changed(fleet, 1, "high_pressure", lambda v: v * 3))
    assert found.contract.sensors["high_pressure"] == worse.contract.sensors["high_pressure"]
    (odd,) = worse.odd
    assert ("pump-001", "high_pressure", True) == (odd.unit, odd.channel, odd.is_left_out)
    assert "others" in str(odd)


def test_a_unit_that_a_person_keeps_sets_bounds(fleet: Fleet) -> None:
    wide = proposed(changed(fleet, 1, "high_pressure", lambda v: v * 3), kept=frozenset({"pump-001"}))
    assert wide.contract.sensors["high_pressure"].maximum > 6000
    assert [False] == [odd.is_left_out for odd in wide.odd]


def test_more_odd_units_than_can_be_left_out_are_named_all_the_same(fleet: Fleet) -> None:
    few = fleet.select(fleet.units[:10])
    found = proposed(changed(few, 1, "high_pressure", lambda v: v * 3))
    assert [("pump-001", False)] == [(odd.unit, odd.is_left_out) for odd in found.odd]


@pytest.mark.proof
def test_six_speeds_are_found_and_changes_are_measured_within_each() -> None:
    found = proposed(simulate(SimulatedParams(units=20, seed=5, six_regimes=True)))
    assert found.contract.regimes is not None
    assert ((0.88,), (0.91,), (0.94,), (0.97,), (1.0,), (1.03,)) == found.contract.regimes.points
    assert (DEMAND,) == found.contract.regimes.settings
    assert not found.contract.settings[DEMAND].used
    assert found.contract.sensors["high_pressure"].max_change_per_cycle < 100  # 1,400 from speed to speed


def two_points(rows: int = 60, units: int = 24) -> Fleet:
    """A fleet that runs at 10 or at 1,000, where a temperature moves by ± 2 about 100 or about 500."""
    rng = np.random.default_rng(7)
    cycles = np.tile(np.arange(1, rows + 1), units)
    high = rng.random(rows * units) < 0.5
    heat = np.where(high, 500.0, 100.0) + rng.uniform(-2, 2, size=rows * units) + cycles / rows
    return Fleet.of({
        "unit": np.repeat([f"u{u:02d}" for u in range(units)], rows), "cycle": cycles, "censored": False,
        "rul": rows - cycles, "ambient_temperature": np.where(high, 1000.0, 10.0), "heat": heat.round(3),
        "steps": (heat * 8).round() / 8,
    })  # fmt: skip


def test_the_margin_is_a_share_of_the_range_at_one_operating_point() -> None:
    found = proposed(two_points())
    heat = found.contract.sensors["heat"]
    assert found.contract.regimes is not None
    assert 97 < heat.minimum < 98 and 503 < heat.maximum < 504  # a tenth of all would be 40 on each side
    assert "at one operating point over 4.87" in found.basis["heat"]
    assert validate(two_points(), found.contract, None, None).findings == ()


@pytest.mark.parametrize(("shift", "points"), [(0.0, 2), (4.0, 4)])
def test_a_setting_that_no_sensor_depends_on_divides_no_operating_point(shift: float, points: int) -> None:
    table = two_points().table
    shut = np.random.default_rng(4).integers(2, size=len(table)).astype(np.float32)
    heat = table["heat"] + np.float32(shift) * shut
    found = proposed(Fleet(table.assign(supply_voltage=shut, heat=heat)))
    assert found.contract.regimes is not None
    assert points == len(found.contract.regimes.points)
    assert ("supply_voltage" in found.contract.regimes.settings) == (points == 4)


@pytest.mark.attack("P")
def test_a_unit_that_is_odd_at_one_operating_point_alone_sets_no_margin() -> None:
    """Between the points there is room for poison that the range over all of them does not show."""
    fleet = Fleet(two_points().table.drop(columns="steps"))  # which agrees with it, and would tell
    table = fleet.table.copy()
    mine = (table["unit"] == "u03") & (table["ambient_temperature"] == 10)
    table.loc[mine, "heat"] += np.float32(200)
    worse = proposed(Fleet(table))
    heat = proposed(fleet).contract.sensors["heat"]
    assert ["u03"] == [odd.unit for odd in worse.odd if odd.is_left_out]
    assert "at an operating point up to" in str(worse.odd[0])
    assert (heat.minimum, heat.maximum) == pytest.approx(
        (worse.contract.sensors["heat"].minimum, worse.contract.sensors["heat"].maximum), abs=0.05
    )


def test_steps_are_proposed_where_all_readings_show_them_and_not_for_means() -> None:
    found = proposed(two_points())
    assert (0.125, 0.001) == tuple(found.contract.sensors[name].resolution for name in ("steps", "heat"))
    assert 0 == found.contract.settings["ambient_temperature"].resolution  # two values show nothing
    assert "all in steps of 0.125" in found.basis["steps"]
    assert 0 == proposed(two_points(), averaged=True).contract.sensors["steps"].resolution
    finer = two_points().table
    finer.loc[finer["unit"] == "u01", "steps"] += np.float32(0.01)
    said = {f.rule for f in validate(Fleet(finer), found.contract, None, None).findings if f.channel == "steps"}
    assert "resolution" in said


def test_no_bound_is_finer_than_the_digits_that_were_recorded() -> None:
    rng = np.random.default_rng(3)
    units, cycles = np.repeat([f"u{u}" for u in range(12)], 59), np.tile(np.arange(1, 60), 12)
    fine, wear = np.where(rng.random(len(units)) < 0.02, 21.61, 21.60), cycles + rng.normal(size=len(units))
    fleet = Fleet.of({
        "unit": units, "cycle": cycles, "censored": False, "rul": 59 - cycles,
        "fine": fine, "still": 5.0, "wear": wear,
    })  # fmt: skip
    found = proposed(fleet)
    fine_bounds, still_bounds = found.contract.sensors["fine"], found.contract.sensors["still"]
    assert fine_bounds.max_change_per_cycle >= 0.01
    assert fine_bounds.minimum <= 21.59 and fine_bounds.maximum >= 21.62
    assert still_bounds.max_change_per_cycle >= 1 and still_bounds.minimum < 5 < still_bounds.maximum
    assert "it never moves" == found.reasons["still"]
    assert ("wear",) == found.contract.channels


def test_what_each_number_rests_on_is_said(found: Proposed) -> None:
    assert "all in steps of 0.1" in found.basis["high_pressure"]
    assert "0.63 of the median life" in found.basis["rul_cap_cycles"]
    assert "σ, × 1.5" in found.basis["consistency"]


@pytest.mark.parametrize(
    ("value", "grain", "way", "expected"),
    [(1.234, 0.01, 1, 1.24), (1.234, 0.01, -1, 1.23), (1.23, 0.01, 1, 1.23), (-5.1, 1.0, -1, -6.0)],
)
def test_bounds_are_rounded_outward(value: float, grain: float, way: Any, expected: float) -> None:
    assert expected == outward(value, grain, way)
