from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.telemetry.conftest import POLICY
from twinseal.errors import ConfigError, DataError
from twinseal.sources.cmapss import Cmapss, CmapssParams
from twinseal.sources.simulated import DEMAND, SENSORS, SPEEDS, Simulated, SimulatedParams
from twinseal.telemetry.contract import Contract, Regimes
from twinseal.telemetry.fleet import Fleet
from twinseal.telemetry.outcome import apply
from twinseal.telemetry.regimes import NOWHERE, OperatingPoints, find_points, regimes
from twinseal.telemetry.screening import screen
from twinseal.telemetry.validation import validate


@pytest.fixture(scope="module")
def pump6() -> Contract:
    return Contract.load(POLICY, "pump6")


@pytest.fixture(scope="module")
def fleet(pump6: Contract) -> Fleet:
    """Thirty pumps, each mission at one of six speeds."""
    return Simulated(SimulatedParams(units=30, seed=3, six_regimes=True), pump6).read()


def found(fleet: Fleet, contract: Contract) -> set[tuple[str, str, str]]:
    return {(finding.unit, finding.rule, finding.channel) for finding in screen(fleet, contract)}


def rows_of(fleet: Fleet, number: int, speed: float) -> np.ndarray:
    """Rows of one unit at one speed."""
    table = fleet.table
    return np.flatnonzero((table["unit"] == fleet.units[number]) & np.isclose(table[DEMAND], speed))


def test_a_row_belongs_to_the_point_that_all_its_settings_are_at() -> None:
    points, within = np.array([[0.0, 100.0], [35.0, 60.0], [35.0, 100.0]]), np.array([0.05, 0.1])
    settings = np.array([[0.05, 100.0], [35.0, 60.05], [34.96, 99.95], [35.0, 80.0], [np.nan, 60.0], [np.inf, 60.0]])
    assert [0, 1, 2, NOWHERE, NOWHERE, NOWHERE] == regimes(settings, points, within).tolist()


def test_without_settings_all_is_one_regime() -> None:
    assert [0, 0] == regimes(np.zeros((2, 0)), np.zeros((1, 0)), np.zeros(0)).tolist()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"settings": ["none"]}, "expected a setting that is not used and never missing, got 'none'"),
        ({"settings": ["supply_voltage"]}, "expected a setting that is not used"),
        ({"settings": []}, "expected settings, each once"),
        ({"within": [0.0]}, "with a `within` above zero"),
        ({"within": [0.005, 0.005]}, "expected settings, each once and with a `within`"),
        ({"points": [[0.88]]}, "expected two points or more"),
        ({"points": [[0.88, 1.0], [0.9, 1.0]]}, "each with 1 values"),
        ({"points": [[0.9], [0.909]]}, "expected points further apart"),
        ({"points": [[0.9], [2.0]]}, "expected points within the bounds of 'speed_demand'"),
    ],
)
def test_regimes_that_cannot_be_told_are_no_contract(pump6: Contract, change: dict[str, object], message: str) -> None:
    plain = pump6.to_dict()
    with pytest.raises(ConfigError, match=message):
        Contract.from_dict(plain | {"regimes": plain["regimes"] | change})


def test_every_pump_visits_every_speed_and_sensors_follow_it(fleet: Fleet) -> None:
    visits = fleet.table.groupby("unit")[DEMAND].nunique()
    assert {len(SPEEDS)} == set(visits)
    level = fleet.table.groupby(DEMAND)["high_speed"].agg(["min", "max"]).sort_index()
    assert (level["min"].to_numpy()[1:] > level["max"].to_numpy()[:-1]).all()


def test_two_kinds_of_damage_and_more_end_their_lives(fleet: Fleet) -> None:
    """A pump that dies of its impeller loses flow, one that dies of a bearing heats: both are in the fleet."""
    last = fleet.table[~fleet.table["censored"]].groupby("unit").tail(6).groupby("unit")
    hot = last["high_thrust_temperature"].mean().max() - last["high_thrust_temperature"].mean().min()
    assert hot > 20
    assert last["high_pressure"].mean().max() > 1.15 * last["high_pressure"].mean().min()


def test_the_fleet_keeps_its_contract_and_is_accepted(fleet: Fleet, pump6: Contract) -> None:
    assert set() == found(fleet, pump6)
    assert fleet.units == validate(fleet, pump6, None, None).accepted.units


def test_a_contract_of_the_other_kind_is_refused(pump: Contract, pump6: Contract) -> None:
    with pytest.raises(ConfigError) as caught:
        Simulated(SimulatedParams(six_regimes=True), pump).read()
    assert "Set data.asset to pump6" in caught.value.remedy
    with pytest.raises(ConfigError, match="got 'pump6'"):
        Simulated(SimulatedParams(), pump6).read()


def test_a_speed_between_the_points_is_found_and_named(fleet: Fleet, pump6: Contract) -> None:
    table = fleet.table.copy()
    table.loc[rows_of(fleet, 2, 0.88)[4], DEMAND] = np.float32(0.9)
    assert (fleet.units[2], "regime", DEMAND) in found(Fleet.of(table), pump6)


def test_a_speed_that_is_not_told_is_missing_and_nothing_else(fleet: Fleet, pump6: Contract) -> None:
    table = fleet.table.copy()
    table.loc[rows_of(fleet, 2, 0.88)[4], DEMAND] = np.nan
    assert {(fleet.units[2], "missing", DEMAND)} == found(Fleet.of(table), pump6)


def test_a_leap_that_other_speeds_would_hide_is_found_within_its_own(fleet: Fleet, pump6: Contract) -> None:
    """Half of what a change of speed does, in one cycle: far within the range, and less than any change of speed."""
    table = fleet.table.copy()
    at = rows_of(fleet, 2, 0.94)[5]
    table.loc[at, "high_speed"] += np.float32(6.0)
    assert (fleet.units[2], "change", "high_speed") in found(Fleet.of(table), pump6)
    blind = pump6.to_dict() | {"regimes": None}
    assert not {item for item in found(Fleet.of(table), Contract.from_dict(blind)) if item[1] == "range"}


def test_a_sensor_that_disagrees_is_found_although_every_speed_has_its_level(fleet: Fleet, pump6: Contract) -> None:
    table = fleet.table.copy()
    mine = np.flatnonzero(table["unit"] == fleet.units[4])
    spread = table.groupby(DEMAND)["high_pressure"].std().mean()
    table.loc[mine, "high_pressure"] += np.float32(1.5 * spread)
    assert (fleet.units[4], "consistency", "high_pressure") in found(Fleet.of(table), pump6)


def test_great_expectations_and_screening_name_the_same_rows(fleet: Fleet, pump6: Contract) -> None:
    table = fleet.table.copy()
    table.loc[rows_of(fleet, 0, 0.88)[3], DEMAND] = np.float32(0.9)
    table.loc[rows_of(fleet, 1, 1.0)[7], "high_torque"] += np.float32(20.0)
    table.loc[table["unit"] == fleet.units[4], "high_pressure"] += np.float32(100.0)
    spoiled = Fleet.of(table)
    screened = screen(spoiled, pump6)
    assert {"regime", "change", "consistency"} <= {finding.rule for finding in screened}
    assert sorted(screened) == sorted(apply(spoiled, pump6, None).row_findings)


def test_a_fleet_operated_as_nobody_said_is_refused(fleet: Fleet, pump6: Contract) -> None:
    table = fleet.table.assign(**{DEMAND: fleet.table[DEMAND] + np.float32(0.01)})
    with pytest.raises(DataError, match="expected units that meet the contract, got none of 30"):
        validate(Fleet.of(pd.DataFrame(table)), pump6, None, None)


def test_a_speed_that_few_pumps_ran_at_does_not_show_what_is_usual_there(fleet: Fleet, pump6: Contract) -> None:
    seldom = fleet.table[~np.isclose(fleet.table[DEMAND], 0.88) | fleet.table["unit"].isin(fleet.units[:3])]
    outcome = apply(Fleet.of(seldom), pump6, None)
    found = [finding for finding in outcome.fleet_findings if finding.rule == "coverage"]
    assert [(DEMAND, 3.0, "10 units or more at each operating point")] == [
        (f.channel, f.observed, f.bound) for f in found
    ]
    assert "coverage" not in {finding.rule for finding in apply(fleet, pump6, None).fleet_findings}


def test_ranges_hold_at_every_speed(fleet: Fleet, pump6: Contract) -> None:
    for name in SENSORS:
        channel = pump6.sensors[name]
        assert channel.minimum < fleet.table[name].min()
        assert channel.maximum > fleet.table[name].max()


def points_of(fleet: Fleet, settings: tuple[str, ...]) -> OperatingPoints | None:
    sensors = [name for name in fleet.channels if name not in settings]
    return find_points(fleet.table[list(settings)].to_numpy(), fleet.table[sensors].to_numpy())


def test_the_six_speeds_of_the_pumps_are_found(fleet: Fleet) -> None:
    points = points_of(fleet, ("ambient_temperature", "supply_voltage", DEMAND))
    assert points is not None
    assert ((2,), SPEEDS) == (points.columns, tuple(speed for (speed,) in points.points))
    assert 1.0 == points.share


def test_of_pumps_at_one_speed_none_are_found(pumps: Fleet) -> None:
    assert points_of(pumps, ("ambient_temperature", "supply_voltage")) is None


def levels(noise: float, *, stray: int = 0, matters: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """A setting (R, 1) with three levels, and a sensor (R, 1) that depends on it, or does not."""
    rng = np.random.default_rng(5)
    which = rng.integers(0, 3, 3_000)
    setting = np.array([10.0, 20.0, 35.0])[which] + rng.normal(0, noise, 3_000)
    setting[:stray] = rng.uniform(10, 35, stray)
    sensor = (100.0 * which if matters else 0.0) + rng.normal(size=3_000)
    return setting[:, None], sensor[:, None]


def test_noise_and_a_few_rows_between_levels_hide_no_level() -> None:
    points = find_points(*levels(0.3, stray=20))
    assert points is not None
    assert [10.0, 20.0, 35.0] == [round(value) for (value,) in points.points]
    assert points.share > 0.98


def test_levels_that_no_sensor_depends_on_are_no_points() -> None:
    assert find_points(*levels(0.3, matters=False)) is None


def test_levels_that_run_into_each_other_are_none() -> None:
    assert find_points(*levels(6.0)) is None


def test_noise_in_steps_of_the_recorded_digits_has_no_levels() -> None:
    setting = np.random.default_rng(5).normal(0, 3e-4, (5_000, 1)).round(4)
    assert find_points(setting, 1e6 * setting) is None  # as the second setting of FD001, even if a sensor follows it


def test_what_is_found_is_a_contract_s_regimes_and_every_row_is_at_one(fleet: Fleet) -> None:
    points = points_of(fleet, (DEMAND,))
    assert points is not None
    known = Regimes(settings=(DEMAND,), within=points.within, points=points.points)
    place = regimes(fleet.table[[DEMAND]].to_numpy(), np.array(known.points), np.array(known.within))
    assert NOWHERE not in place


@pytest.mark.parametrize(("subset", "count"), [("FD001", 0), ("FD002", 6), ("FD003", 0)])
def test_the_conditions_of_cmapss_are_found(subset: str, count: int, cmapss_folder: Path, turbofan: Contract) -> None:
    engines = Cmapss.open(cmapss_folder, CmapssParams(subset=subset), turbofan).read()
    points = points_of(engines, ("setting1", "setting2", "setting3"))
    assert count == (len(points.points) if points else 0)
    if points:
        assert ((0.0, 0.0, 100.0), (42.0, 0.84, 100.0)) == (points.points[0], points.points[-1])
