"""One contract, three enforcers: SQL, numpy and the twin's guard decide the same on the same rows."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.telemetry.conftest import oven_contract, oven_table
from twinseal.errors import DataError
from twinseal.guard.contract_limits import ContractLimits
from twinseal.telemetry import scan
from twinseal.telemetry.blocks import MAX_BLOCKS, blocks, units_by_regime
from twinseal.telemetry.conditions import batch
from twinseal.telemetry.contract import Contract
from twinseal.telemetry.fleet import Fleet
from twinseal.telemetry.reference import bin_shares
from twinseal.telemetry.scan import count_broken, distributions
from twinseal.telemetry.screening import Rule, row_rules
from twinseal.telemetry.unit_rows import previous, regimes_of

OVEN = Contract.from_dict(oven_contract())
REGIMES = {"settings": ["load"], "within": [0.1], "points": [[0.25], [0.75]]}
TWO_LOADS = oven_contract()
TWO_LOADS["settings"]["load"]["used"] = False
OVEN_OF_TWO = Contract.from_dict(TWO_LOADS | {"regimes": REGIMES})

STEPS = oven_contract()
STEPS["sensors"]["heat"]["resolution"], STEPS["sensors"]["glow"]["resolution"] = 0.01, 7.0
OVEN_OF_STEPS = Contract.from_dict(STEPS)


def near(value: float) -> list[float]:
    """A bound, as float32, and the float32 on both sides of it."""
    here = np.float32(value)
    return [float(np.nextafter(here, np.float32(side))) for side in (-np.inf, np.inf)] + [float(here)]


EDGES = [*near(200.0), *near(400.0), *near(400.0 + 400e-6), *near(200.0 - 400e-6), *near(300.0), *near(320.0)]
ODD = [math.nan, math.inf, -math.inf, 0.0, -0.0, 3.4e38, 1e-45, *near(320.0004), 280.0, *near(279.9996)]
HEATS = st.sampled_from(EDGES + ODD) | st.floats(190, 410, width=32)
LOADS = st.sampled_from([0.25, 0.75, 0.5, math.nan, math.inf, *near(0.35), *near(0.65), *near(1.0), *near(0.0)])
ROWS = st.lists(
    st.tuples(
        st.sampled_from("abc"),
        st.sampled_from([1, 1, 2, 2, 3, 3, 4, 5, 6, 0, -3, 2**31 - 1, 1 - 2**31]),
        st.booleans(),
        st.sampled_from([0.0, 1.0, 2.0, 3.0, math.nan, math.inf, -math.inf, -1.0, 1.001, 1.0009]),
        LOADS,
        HEATS,
        HEATS,
    ),
    max_size=14,
)


def fleet_of(rows: list[tuple[Any, ...]]) -> Fleet:
    table = pd.DataFrame(rows, columns=["unit", "cycle", "censored", "rul", "load", "heat", "glow"])
    return Fleet.of(table.astype({"unit": "str", "censored": "bool"}))


@settings(deadline=None, max_examples=30)  # a busy machine is no bug
@given(ROWS, st.sampled_from([OVEN, OVEN_OF_TWO, OVEN_OF_STEPS]))
def test_law_sql_and_numpy_find_the_same_rows_broken(rows: list[tuple[Any, ...]], contract: Contract) -> None:
    fleet, rules = fleet_of(rows), row_rules(contract, units=2)
    counted = count_broken(fleet, contract, rules)
    expected = [[int(rule.check(part.rows(fleet)).broken.sum()) for rule in rules] for part in blocks(fleet)]
    names = [f"{rule.name} {rule.channel}" for rule in rules]
    assert [dict(zip(names, row, strict=True)) for row in expected] == [
        dict(zip(names, row, strict=True)) for row in counted.tolist()
    ]
    assert [int(rule.check(fleet.table).broken.sum()) for rule in rules] == counted.sum(axis=0).tolist()


@settings(deadline=None, max_examples=30)
@given(ROWS, st.sampled_from([OVEN, OVEN_OF_TWO, OVEN_OF_STEPS]))
def test_law_the_contract_and_the_guard_of_the_twin_decide_the_same(
    rows: list[tuple[Any, ...]], contract: Contract
) -> None:
    """Present, in range, not too fast: by the same bounds, with the same room for float32; NaN is missing, no more.

    Also where the contract knows steps of the recorded digits, which only validation looks at.
    """
    fleet = fleet_of(rows)
    known = contract.regimes.model_dump(mode="json") if contract.regimes else None
    names = list(contract.all_channels)
    readings = fleet.table[names].to_numpy(dtype=np.float64)
    before, gap = previous(fleet.table, regimes_of(fleet.table, known))
    with np.errstate(invalid="ignore"):
        last = np.where((before == np.arange(len(fleet)))[:, None], np.nan, readings[before])
        guarded = ContractLimits(list(contract.all_channels.values())).broken_rules(readings, last, gap[:, None])
    rules = {(rule.name, rule.channel): rule for rule in row_rules(contract, units=2)}
    for at, name in enumerate(names):
        out, fast = (rules[kind, name].check(fleet.table).broken for kind in ("range", "change"))
        expected = np.where(np.isnan(readings[:, at]), "missing", np.where(out, "out", np.where(fast, "change", "")))
        got = np.where(np.isin(guarded[:, at], ["minimum", "maximum"]), "out", guarded[:, at])
        assert expected.tolist() == got.tolist()


@settings(deadline=None, max_examples=30)
@given(ROWS, st.lists(HEATS.filter(math.isfinite), max_size=4, unique=True))
def test_law_bins_are_those_of_numpy(rows: list[tuple[Any, ...]], edges: list[float]) -> None:
    fleet, inner = fleet_of(rows), sorted({float(f"{edge:.9g}") for edge in edges})
    values = fleet.table["heat"].to_numpy(dtype=np.float64)
    known = np.sort(values[~np.isnan(values)])
    found = distributions(fleet, OVEN, {"heat": inner})["heat"]
    assert len(known) == found.rows.sum()
    counts = found.bins.sum(axis=0)
    assert bin_shares(known, inner) == tuple(float(count) / max(1, len(known)) for count in counts)
    total = found.total.sum()
    with np.errstate(invalid="ignore"):
        assert pytest.approx(known.sum(), nan_ok=True) == total


def test_a_distribution_is_of_one_regime_where_one_is_named() -> None:
    table = oven_table({"a": 4, "b": 4}).assign(load=[0.25, 0.75, 0.25, 0.5] * 2)
    found = [distributions(Fleet.of(table), OVEN_OF_TWO, {"heat": [302.0]}, k)["heat"] for k in (0, 1)]
    assert [[[1, 1], [1, 1]], [[1, 0], [1, 0]]] == [item.bins.tolist() for item in found]
    assert [2, 2] == units_by_regime(Fleet.of(table), REGIMES).tolist()


def test_a_large_fleet_is_few_blocks_of_whole_units() -> None:
    fleet = Fleet.of(oven_table({f"u{n:04d}": 3 + n % 5 for n in range(700)}))
    parts = blocks(fleet)
    assert len(parts) <= MAX_BLOCKS
    assert (0, len(fleet), 700) == (parts[0].start, parts[-1].stop, sum(part.units for part in parts))
    assert {part.start for part in parts} <= set(fleet.starts.tolist())
    assert [part.stop for part in parts[:-1]] == [part.start for part in parts[1:]]


def test_what_the_scan_says_of_nothing_is_nothing() -> None:
    empty = Fleet(Fleet.of(oven_table({"a": 3})).table.iloc[:0])
    assert (0, 2) == count_broken(empty, OVEN, row_rules(OVEN, units=0)[:2]).shape


def test_a_rule_that_sql_does_not_know_is_refused() -> None:
    with pytest.raises(DataError, match="expected a rule that can be counted in SQL, got 'taste'"):
        count_broken(Fleet.of(oven_table({"a": 3})), OVEN, [Rule("taste", "heat", (), {}, "")])


@pytest.mark.attack("P")
@pytest.mark.parametrize(
    "query",
    [
        "(SELECT count(*) FROM read_csv('/etc/passwd'))",
        "(SELECT count(*) FROM read_parquet('https://localhost/x.parquet'))",
        "(SELECT count(*) FROM 'pyproject.toml')",
        "(SELECT count(*) FROM pd)",
    ],
)
def test_the_scan_reads_nothing_but_the_fleet(query: str) -> None:
    """A table makes the engine that scans it read a file, the network, or a variable of the program."""
    fleet = Fleet.of(oven_table({"a": 3}))
    some = next(batch({"block": np.zeros(3, np.int32)}) for _ in fleet.units)
    assert [[3.0]] == scan._by_block(iter([some]), ["count(*)"]).tolist()
    with pytest.raises(DataError, match="expected DuckDB to answer, got"):
        scan._by_block(iter([some]), [f"any_value({query})"])
