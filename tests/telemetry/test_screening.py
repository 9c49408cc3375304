from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from tests.telemetry.conftest import oven_table
from twinseal.telemetry.contract import Contract
from twinseal.telemetry.fleet import Fleet
from twinseal.telemetry.rules import CHECKS
from twinseal.telemetry.screening import Finding, row_rules, screen, untested_rules

Spoil = Callable[[pd.DataFrame], pd.DataFrame]


def spoiled(spoil: Spoil) -> Fleet:
    """Three ovens, of which `b` (rows 4 … 11) is spoiled: cycles 1 … 8, rul 7 … 0, heat 301 … 308; `c` is censored."""
    table = oven_table({"a": 4, "b": 8, "c": 4}, censored=("c",))
    return Fleet.of(spoil(table))


def at(row: int, **values: object) -> Spoil:
    def spoil(table: pd.DataFrame) -> pd.DataFrame:
        for name, value in values.items():
            table.loc[row, name] = value  # type: ignore[call-overload]
        return table

    return spoil


def test_a_good_fleet_has_no_finding(oven: Contract) -> None:
    assert () == screen(spoiled(lambda table: table), oven)


def test_an_empty_fleet_has_no_finding_and_is_refused_by_validation_instead(oven: Contract) -> None:
    assert () == screen(Fleet(spoiled(lambda table: table).table.iloc[:0]), oven)


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (at(6, heat=401.0), {("range", "heat", 3, 3, 401.0), ("change", "heat", 3, 4, 99.0)}),
        (at(6, heat=np.inf), {("range", "heat", 3, 3, None), ("change", "heat", 3, 4, None)}),
        (at(6, heat=-np.inf), {("range", "heat", 3, 3, None), ("change", "heat", 3, 4, None)}),
        (at(6, heat=np.nan), {("missing", "heat", 3, 3, None)}),
        (at(6, heat=323.5), {("change", "heat", 3, 3, 21.5)}),
        (at(6, heat=322.0), set()),  # a change of exactly 20 belongs to the bound
        (at(6, load=1.5), {("range", "load", 3, 3, 1.5)}),
        (at(6, load=1.0), set()),
        (at(6, rul=4.0), {("label", "rul", 3, 4, 4.0)}),
        (at(6, rul=np.nan), {("label", "rul", 3, 3, None)}),
        (at(6, rul=np.inf), {("label", "rul", 3, 4, None)}),
        (at(11, rul=1.0), {("label", "rul", 8, 8, 1.0)}),
        (at(6, censored=True), {("label", "rul", 3, 3, 5.0)}),
        (at(11, censored=True), {("label", "rul", 1, 8, 7.0)}),
        (at(6, cycle=4), {("unique", "cycle", 4, 4, 4.0), ("cycles", "cycle", 4, 4, 4.0), ("label", "rul", 4, 4, 5.0)}),
        (at(4, cycle=0), {("cycles", "cycle", 0, 0, 0.0), ("label", "rul", 2, 2, 6.0)}),
    ],
)
def test_each_rule_names_the_cycles_the_worst_value_and_the_channel(
    oven: Contract, spoil: Spoil, expected: set[tuple[object, ...]]
) -> None:
    found = screen(spoiled(spoil), oven)
    assert {"b"} >= {finding.unit for finding in found}
    got = [(f.rule, f.channel, f.first_cycle, f.last_cycle, f.observed) for f in found]
    assert expected == set(got)
    assert len(expected) == len(got)


def test_a_gap_in_the_cycles_is_found_from_the_gap_on(oven: Contract) -> None:
    found = screen(spoiled(lambda table: table.drop(index=6)), oven)
    assert [("cycles", 4, 8)] == [(f.rule, f.first_cycle, f.last_cycle) for f in found]


def test_a_history_too_short_is_found(oven: Contract) -> None:
    found = screen(Fleet.of(oven_table({"a": 4, "b": 2})), oven)
    assert [("b", "history", 2.0)] == [(f.unit, f.rule, f.observed) for f in found]


def test_a_history_of_nobody_knows_when_is_good_only_when_it_is_cut(oven: Contract) -> None:
    unknown = oven_table({"a": 4, "c": 4}, censored=("c",)).assign(rul=np.nan)
    assert [("a", "label")] == [(f.unit, f.rule) for f in screen(Fleet.of(unknown), oven)]


def test_a_history_that_says_it_is_cut_and_reaches_the_failure_contradicts_itself(oven: Contract) -> None:
    table = oven_table({"a": 4, "c": 4}, censored=("c",))
    table.loc[table["unit"] == "c", "rul"] -= 5
    assert [("c", "label", 4)] == [(f.unit, f.rule, f.first_cycle) for f in screen(Fleet.of(table), oven)]


@pytest.mark.parametrize(
    ("rows", "found"),
    [([6], []), ([6, 9], []), ([5, 6, 9], ["missing"]), ([4], ["missing"]), ([4, 5, 6, 7, 8, 9, 10, 11], ["missing"])],
)
def test_a_channel_may_be_absent_as_often_as_the_contract_says_but_not_at_first(
    oven: Contract, rows: list[int], found: list[str]
) -> None:
    fleet = spoiled(lambda table: table.assign(glow=table["glow"].mask(table.index.isin(rows))))
    assert found == [f.rule for f in screen(fleet, oven)]


def test_nothing_can_hide_a_jump_behind_a_missing_value_for_ever(oven: Contract) -> None:
    """The change over a gap is not judged; the value after it is, by the range, and the gap by its share."""
    fleet = spoiled(lambda table: at(7, glow=399.0)(at(6, glow=np.nan)(table)))
    assert [("change", 5)] == [(f.rule, f.first_cycle) for f in screen(fleet, oven)]


def test_real_fleets_have_no_finding(pumps: Fleet, pump: Contract, engines: Fleet, turbofan: Contract) -> None:
    assert ((), ()) == (screen(pumps, pump), screen(engines, turbofan))


@pytest.mark.parametrize("sensor", ["low_flow", "high_oil_temperature", "low_pressure"])
def test_a_sensor_that_reads_one_sigma_high_is_inconsistent_within_range_and_rate(
    pumps: Fleet, pump: Contract, sensor: str
) -> None:
    table = pumps.table.copy()
    ours = table["unit"] == "pump-004"
    table.loc[ours, sensor] += np.float32(table[sensor].std())
    found = screen(Fleet(table), pump)
    assert ("pump-004", sensor) in {(f.unit, f.channel) for f in found if f.rule == "consistency"}
    assert {"pump-004"} == {f.unit for f in found}


def test_one_wild_unit_does_not_make_the_others_inconsistent(pumps: Fleet, pump: Contract) -> None:
    table = pumps.table.copy()
    table.loc[table["unit"] == "pump-004", "low_flow"] = np.float32(1e9)
    assert {"pump-004"} == {f.unit for f in screen(Fleet(table), pump)}


def test_a_fleet_too_small_to_say_what_is_usual_says_so(pumps: Fleet, pump: Contract) -> None:
    few = pumps.select(pumps.units[:9])
    assert ("consistency", "stuck", "copy") == untested_rules(pump, units=len(few.units))
    assert () == untested_rules(pump, units=len(pumps.units))
    assert not {"consistency", "stuck", "copy"} & {rule.name for rule in row_rules(pump, units=9)}


def test_a_finding_reads_as_expected_got_where() -> None:
    one = Finding("b", 3, 3, "heat", "range", 401.0, "200 … 400 K", 1)
    many = Finding("b", 3, 9, "heat", "missing", None, "a value", 4)
    fleet = Finding("", 0, 0, "heat", "drift", 0.3, "a stability index of at most 0.25", 0)
    assert "b, cycle 3, heat: range: expected 200 … 400 K, got 401" == str(one)
    assert "b, cycles 3–9, heat: missing: expected a value, got none (4 rows)" == str(many)
    assert "fleet, heat: drift: expected a stability index of at most 0.25, got 0.3" == str(fleet)


def test_many_bad_units_are_found_each(oven: Contract) -> None:
    table = oven_table({f"u{n:03d}": 4 for n in range(50)})
    table["heat"] = 500.0
    found = screen(Fleet.of(table), oven)
    assert [(f"u{n:03d}", 4) for n in range(50)] == [(f.unit, f.rows) for f in found]


@pytest.mark.attack("P")
def test_wild_units_do_not_hide_a_false_one() -> None:
    """Three of eighty units read wildly within the contract's ranges, so that another's false sensor looks usual"""
    rng = np.random.default_rng(5)
    ranges = {"heat": [-100.0, 100.0], "hum": [-100.0, 100.0], "flow": [-100.0, 100.0]}
    frames = []
    for unit in range(80):
        wear = np.linspace(-1.5, 1.5, 60)
        columns = {name: wear + rng.normal(0, 0.2, 60) for name in ranges}
        frames.append(pd.DataFrame({"unit": f"unit-{unit:02d}", "cycle": np.arange(1, 61), **columns}))
    frames[70]["heat"] += 2.0
    bounds = {"cycles": 10, "most_window": 8.0, "most_unit": 6.0, "least_correlation": 0.3}

    def found(parts: list[pd.DataFrame]) -> set[str]:
        table = pd.concat(parts, ignore_index=True)
        broken = CHECKS["consistency"](table, channel="heat", ranges=ranges, **bounds).broken
        return set(table["unit"][broken])

    assert {"unit-70"} == found(frames)
    wild = [frame.assign(**{name: rng.uniform(-100, 100, 60) for name in ranges}) for frame in frames[:3]]
    assert "unit-70" in found([*wild, *frames[3:]])


@pytest.mark.attack("P")
def test_readings_are_falsified_by_less_than_the_instrument_shows(oven: Contract) -> None:
    """Readings are raised by a smooth drift that no bound on range or change can see; the instrument shows 0.5 K."""
    heat = oven.sensors["heat"].model_copy(update={"resolution": 0.5})
    contract = oven.model_copy(update={"sensors": {**oven.sensors, "heat": heat}})
    table = oven_table({f"oven-{n}": 6 for n in range(4)})
    assert () == screen(Fleet.of(table), contract)
    drift = np.where(table["unit"] == "oven-2", 0.03 * table["cycle"], 0.0)
    found = screen(Fleet.of(table.assign(heat=table["heat"] + drift)), contract)
    assert [("oven-2", "heat", "resolution", "steps of 0.5 K")] == [
        (finding.unit, finding.channel, finding.rule, finding.bound) for finding in found
    ]
    assert () == screen(Fleet.of(table.assign(heat=table["heat"] + drift)), oven), "what the step alone finds"


@pytest.mark.parametrize("step", [0.01, 0.1, 0.05, 1.0, 1e-6])
def test_what_an_instrument_shows_is_on_its_steps(oven: Contract, step: float) -> None:
    heat = oven.sensors["heat"].model_copy(update={"resolution": step})
    contract = oven.model_copy(update={"sensors": {**oven.sensors, "heat": heat}})
    table = oven_table({"oven-1": 300})
    values = np.round(np.random.default_rng(1).uniform(200, 400, len(table)) / step) * step
    found = screen(Fleet.of(table.assign(heat=values)), contract)
    assert not [finding for finding in found if finding.rule == "resolution"]
