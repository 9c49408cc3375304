from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.telemetry.conftest import oven_table
from twinseal.errors import DataError
from twinseal.telemetry import expectations, scan
from twinseal.telemetry.contract import Contract
from twinseal.telemetry.expectations import Count, build_suite, judge
from twinseal.telemetry.fleet import Fleet
from twinseal.telemetry.outcome import apply
from twinseal.telemetry.reference import Reference
from twinseal.telemetry.screening import row_rules, screen

OVENS = Fleet.of(oven_table({"a": 4, "b": 4}))


def ruined(pumps: Fleet) -> Fleet:
    """Every row rule broken somewhere, most of them in units of their own."""
    table = pumps.table.copy()
    rows = {unit: np.flatnonzero(table["unit"] == unit) for unit in pumps.units}
    a, b, c, d, e, f, g, h = (rows[unit] for unit in pumps.units[:8])
    table.loc[a[10:13], "low_flow"] = np.float32(9.0)  # range, change
    table.loc[b[20], "low_torque"] = np.nan  # missing
    table.loc[c[5], "cycle"] = 5  # unique, cycles, label
    table.loc[d[30:], "rul"] += np.float32(7)  # label
    table.loc[e, "high_pressure"] += np.float32(table["high_pressure"].std())  # consistency
    table.loc[f[3], "ambient_temperature"] = np.inf
    table.loc[h[-1], "censored"] = ~table.loc[h[-1], "censored"]  # label
    table.loc[rows[pumps.units[8]][10:45], "low_speed"] = np.float32(297.5)  # stuck
    again = table.loc[rows[pumps.units[9]]].assign(unit="pump-copy")  # copy
    return Fleet.of(pd.concat([table.drop(index=g[20:]), again]).astype({"unit": "str"}))  # history, label


def test_great_expectations_and_screening_name_the_same_rows(pumps: Fleet, pump: Contract) -> None:
    fleet = ruined(pumps)
    screened = screen(fleet, pump)
    assert {rule.name for rule in row_rules(pump, units=12)} == {finding.rule for finding in screened}
    assert sorted(screened) == sorted(apply(fleet, pump, None).row_findings)


def test_a_good_fleet_breaks_nothing(engines: Fleet, turbofan: Contract) -> None:
    outcome = apply(engines, turbofan, Reference.of(engines, turbofan))
    assert (frozenset(), (), ()) == (outcome.broken, outcome.row_findings, outcome.fleet_findings)
    assert max(outcome.stability.values()) < 1e-9


def test_the_suite_is_the_contract_every_rule_once(pump: Contract, pumps: Fleet) -> None:
    expected = {"schema", "rows", "units", "unique cycle", "cycles cycle", "history cycle", "label rul"}
    expected |= {f"{kind} {name}" for kind in ("missing", "range", "change", "drift") for name in pump.all_channels}
    expected |= {f"drift-mean {name}" for name in pump.all_channels}
    expected |= {f"type {name}" for name in pump.columns} | {f"consistency {name}" for name in pump.sensors}
    expected |= {f"stuck {name}" for name in pump.sensors} | {"copy unit"}
    assert expected == apply(pumps, pump, Reference.of(pumps, pump)).names


def test_a_suite_survives_json() -> None:
    import great_expectations as gx  # the test looks behind the door

    suite = build_suite("oven", [Count("range heat", 3, None, 0, "200 … 400 K", "3 of 8 rows break it")])
    value = {key: item for key, item in suite.to_json_dict().items() if key in ("name", "expectations", "meta")}
    again = gx.ExpectationSuite(**value)
    assert [e.meta["name"] for e in suite.expectations] == [e.meta["name"] for e in again.expectations]


@pytest.mark.parametrize("observed", [None, np.nan, 1.0, np.inf])
def test_a_number_that_is_none_is_never_met(observed: float | None) -> None:
    counts = [Count("range heat", observed, None, 0, "", ""), Count("range glow", 0, None, 0, "", "")]
    assert {"range heat"} == judge("oven", counts).broken


def test_great_expectations_own_rules_alone_would_pass_an_empty_fleet(oven: Contract) -> None:
    """The trap: nothing is null, nothing is twice, nothing is out of range, where nothing is."""
    outcome = apply(Fleet(Fleet.of(oven_table({"a": 3})).table.iloc[:0]), oven, None)
    assert {"rows", "units"} == outcome.broken
    assert ["rows", "units"] == sorted(finding.rule for finding in outcome.fleet_findings)


def test_a_fleet_that_drifted_is_found_by_mean_and_by_shape(pumps: Fleet, pump: Contract) -> None:
    reference = Reference.of(pumps, pump)
    table = pumps.table.copy()
    table["supply_voltage"] += np.float32(1.5)
    middle = np.float32(table["low_torque"].mean())
    table["low_torque"] = middle + (table["low_torque"] - middle) * np.float32(0.3)
    outcome = apply(Fleet(table), pump, reference)
    drifted = {(f.rule, f.channel) for f in outcome.fleet_findings}
    assert {("drift", "supply_voltage"), ("drift-mean", "supply_voltage"), ("drift", "low_torque")} == drifted
    assert all(finding.observed is not None for finding in outcome.fleet_findings)


class Spoiled:
    """Great Expectations with one answer that is not as it should be."""

    def __init__(self, spoil: Callable[[list[Any]], list[Any]], counts: list[Count]) -> None:
        self.batch, self.spoil = REAL(counts), spoil

    def validate(self, suite: Any, **keywords: Any) -> Any:
        result = self.batch.validate(suite, **keywords)
        result.results = self.spoil(result.results)
        return result


REAL = expectations._great_expectations_batch


def name_of(item: Any) -> str:
    return str(item.expectation_config.meta["name"])


def test_an_expectation_that_raises_counts_as_broken(oven: Contract, monkeypatch: pytest.MonkeyPatch) -> None:
    def spoil(items: list[Any]) -> list[Any]:
        for item in items:
            if name_of(item) == "cycles cycle":
                item.success, item.exception_info = False, {"metric": {"raised_exception": True}}
        return items

    monkeypatch.setattr(expectations, "_great_expectations_batch", partial(Spoiled, spoil))
    outcome = apply(OVENS, oven, None)
    assert {"cycles cycle"} == outcome.broken
    assert ["could not be evaluated" in finding.bound for finding in outcome.fleet_findings] == [True]


def test_an_expectation_without_a_result_counts_as_broken(oven: Contract, monkeypatch: pytest.MonkeyPatch) -> None:
    def forget(items: list[Any]) -> list[Any]:
        return [item for item in items if name_of(item) != "label rul"]

    monkeypatch.setattr(expectations, "_great_expectations_batch", partial(Spoiled, forget))
    outcome = apply(OVENS, oven, None)
    assert {"label rul"} == outcome.broken
    assert ["label"] == [finding.rule for finding in outcome.fleet_findings]


def test_what_great_expectations_throws_becomes_ours(oven: Contract, monkeypatch: pytest.MonkeyPatch) -> None:
    def thrown(_: list[Count]) -> Any:
        raise KeyError("internals")

    monkeypatch.setattr(expectations, "_great_expectations_batch", thrown)
    with pytest.raises(DataError, match="expected Great Expectations to answer, got KeyError"):
        apply(OVENS, oven, None)


def test_a_scan_and_a_screening_that_differ_are_refused(oven: Contract, monkeypatch: pytest.MonkeyPatch) -> None:
    def more(fleet: Fleet, *_: Any) -> Any:
        return count(fleet, *_) + 1

    count = scan.count_broken
    monkeypatch.setattr(scan, "count_broken", more)
    with pytest.raises(
        DataError, match="the scan and the screening to find as many rows in the same units, got 1 and 0"
    ):
        apply(OVENS, oven, None)


def test_the_pages_are_offline_free_of_times_and_say_how_many_rows_of_how_many(oven: Contract) -> None:
    table = pd.concat([oven_table({"a": 3}), oven_table({"<img src=x onerror=alert(1)>": 3}).assign(heat=500.0)])
    pages = [apply(Fleet.of(table), oven, None).pages for _ in range(2)]
    assert pages[0] == pages[1]
    assert {"index.html", "suite.html"} == set(pages[0])
    for page in pages[0].values():
        assert [] == re.findall(r"https?:|<script|<link|<img", page, re.IGNORECASE)
    assert "heat, range: expected 200 … 400 K" in pages[0]["index.html"]
    assert "3 of 6 rows break it" in pages[0]["index.html"]
    assert "heat, change: expected a change of at most 20 K a cycle" in pages[0]["suite.html"]
