"""Validation on a real Spark on this machine finds what DuckDB finds; and what is said when it does not work."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from tests.telemetry.conftest import oven_table
from tests.telemetry.spark_rows import Rows
from tests.telemetry.test_scan import EDGES, ODD, OVEN, OVEN_OF_STEPS, OVEN_OF_TWO, near
from twinseal.errors import ConfigError, DataError
from twinseal.telemetry import parts
from twinseal.telemetry.blocks import MAX_BLOCKS
from twinseal.telemetry.contract import Contract
from twinseal.telemetry.engines import DUCKDB
from twinseal.telemetry.expectations import Count
from twinseal.telemetry.fleet import Fleet
from twinseal.telemetry.outcome import apply
from twinseal.telemetry.reference import Reference
from twinseal.telemetry.screening import Usual, row_rules
from twinseal.telemetry.spark_scan import Spark, spark
from twinseal.telemetry.validation import examine

pytestmark = pytest.mark.proof  # Spark takes half a minute to start and to compile


@pytest.fixture(scope="module")
def engine(spark_is_here: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spark]:
    with spark("local[2]", tmp_path_factory.mktemp("spark")) as found:
        yield found


def odd_fleet(seed: int) -> Fleet:
    """As many units as there can be blocks of one, of all that a plant could send."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 12, size=MAX_BLOCKS)
    rows = int(lengths.sum())

    def some(values: list[Any], usual: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return np.where(rng.random(rows) < 0.5, rng.choice(np.array(values, dtype=usual.dtype), rows), usual)

    place = np.concatenate([np.arange(length) for length in lengths])
    life = np.repeat(lengths, lengths)
    wild = rng.random(len(lengths)) < 0.5  # the other units are nearly right
    cycle = np.where(np.repeat(wild, lengths), rng.choice([1, 2, 3, 0, -3, 2**31 - 1, 1 - 2**31], rows), place + 1)
    rul = np.where(np.repeat(rng.random(len(lengths)) < 0.5, lengths), (life - place - 1.0), np.nan)
    odd = rng.random(rows) < 0.1
    rul[odd] = rng.choice([0.0, 1.0, np.nan, np.inf, -np.inf, -1.0, 1.001, 1.0009], int(odd.sum()))
    loads = [0.25, 0.75, 0.5, np.nan, np.inf, *near(0.35), *near(0.65), *near(1.0), *near(0.0)]
    table = pd.DataFrame(
        {
            "unit": np.repeat([f"u{n:03d}" for n in range(len(lengths))], lengths),
            "cycle": cycle.astype(np.int32),
            "censored": np.repeat(rng.random(len(lengths)) < 0.5, lengths) ^ (rng.random(rows) < 0.05),
            "rul": rul,
            "load": some(loads, np.full(rows, 0.25)),
            "heat": some(EDGES + ODD, rng.uniform(190, 410, rows)),
            "glow": some(EDGES + ODD, 300.0 + 7.0 * rng.integers(0, 3, rows)),
        }
    )
    return Fleet.of(table)


@pytest.mark.parametrize("contract", [OVEN, OVEN_OF_TWO, OVEN_OF_STEPS], ids=["one", "regimes", "steps"])
def test_law_spark_and_duckdb_count_the_same_rows_of_each_block(engine: Spark, contract: Contract) -> None:
    fleet = odd_fleet(3)
    rules = row_rules(contract, units=len(fleet.units))
    usual = Usual.of(fleet.table, rules)
    here, there = (some.count(fleet, contract, rules, usual) for some in (DUCKDB, engine))
    assert len(here) == MAX_BLOCKS
    names = [f"{rule.name} {rule.channel}" for rule in rules]
    assert dict(zip(names, here.T.tolist(), strict=True)) == dict(zip(names, there.T.tolist(), strict=True))
    quiet = [name for name, rows in zip(names, here.sum(axis=0), strict=True) if not rows]
    assert set() == {name.partition(" ")[0] for name in quiet} - {"copy", "consistency", "stuck"}


def test_law_spark_and_duckdb_find_the_same_distributions_to_the_last_bit(engine: Spark) -> None:
    fleet, edges = odd_fleet(5), {"heat": [199.9, 280.0, 320.0004], "load": [0.35, 0.5], "glow": []}
    for contract, regime in ((OVEN, None), (OVEN_OF_TWO, 0), (OVEN_OF_TWO, 1)):
        here, there = (some.distributions(fleet, contract, edges, regime) for some in (DUCKDB, engine))
        for name, expected in here.items():
            np.testing.assert_array_equal(expected.rows, there[name].rows)
            np.testing.assert_array_equal(expected.bins, there[name].bins)
            np.testing.assert_array_equal(expected.total, there[name].total)


def drifted(fleet: Fleet) -> Fleet:
    return Fleet.of(fleet.table.assign(supply_voltage=fleet.table["supply_voltage"] * np.float32(1.02)))


def spoiled(fleet: Fleet) -> Fleet:
    """Seven of twelve pumps, each with a fault of its own."""
    table, sensor = fleet.table.copy(), "high_pressure"
    stuck, wild, gone, labels, gaps, short, copied = (table["unit"] == unit for unit in fleet.units[:7])
    ninth = table["cycle"] == 9
    table.loc[stuck, sensor] = table.loc[stuck, sensor].iloc[0]
    table.loc[wild & ninth, sensor] = np.float32(np.inf)
    table.loc[gone & ninth, sensor] = np.float32(np.nan)
    table.loc[labels & (table["cycle"] > 9), "rul"] += np.float32(5)
    again = table[copied].assign(unit="zz-copy")
    table = table[~(gaps & table["cycle"].between(20, 30)) & ~(short & (table["cycle"] > 5))]
    return Fleet.of(pd.concat([table, again]).astype({"unit": "str"}))


@pytest.mark.parametrize(("change", "broken"), [(None, 0), (drifted, 2), (spoiled, 8)], ids=["good", "drifted", "bad"])
def test_a_fleet_is_examined_alike(
    engine: Spark, pumps: Fleet, pump: Contract, change: Callable[[Fleet], Fleet] | None, broken: int
) -> None:
    fleet, reference = change(pumps) if change else pumps, Reference.of(pumps, pump)
    here, there = (examine(fleet, pump, reference, some) for some in (DUCKDB, engine))
    assert here.findings == there.findings
    assert here.measures == there.measures
    assert here.pages == there.pages
    for name in ("passed", "warned", "failed", "refusal", "remedy"):
        assert getattr(here, name) == getattr(there, name)
    pd.testing.assert_frame_equal(here.accepted.table, there.accepted.table)
    assert broken <= len({finding.rule for finding in here.findings})


def test_an_empty_fleet_is_judged_alike(engine: Spark) -> None:
    empty = Fleet(Fleet.of(oven_table({"a": 3})).table.iloc[:0])
    assert apply(empty, OVEN, None) == apply(empty, OVEN, None, engine)


@pytest.mark.parametrize(("value", "met"), [(0.0, True), (1.0, False), (None, False), (float("nan"), False)])
def test_a_count_that_is_none_or_nan_is_never_met_on_spark(engine: Spark, value: float | None, met: bool) -> None:
    engine.count(Fleet(Fleet.of(oven_table({"a": 3})).table.iloc[:0]), OVEN, [], Usual(None, {}, {}))
    found = [
        some.judge("oven", [Count("range heat", value, None, 0, "nothing", "")]).broken for some in (DUCKDB, engine)
    ]
    assert [frozenset() if met else frozenset({"range heat"})] * 2 == found


# What goes wrong


def ask(engine: Spark, what: str, mark: Path, fleet: Fleet | None = None) -> list[list[float]]:
    fleet = fleet or Fleet.of(oven_table({f"u{n}": 3 for n in range(6)}))
    rows: Any = Rows(OVEN, what, mark, os.getpid())
    return engine._collect(engine._by_block(fleet, rows, ["count(*)"])).tolist()


def test_a_worker_that_dies_once_changes_no_number(engine: Spark, tmp_path: Path) -> None:
    assert [[1.0]] * 6 == ask(engine, "die once", tmp_path / "mark")
    assert (tmp_path / "mark").exists()


@pytest.mark.parametrize(
    ("what", "complaint", "remedy"),
    [
        ("die", "expected Spark to answer, got .*worker.*crashed", "too little memory"),
        ("refuse", "block: expected a fleet, got none", "Bring one."),
        ("fail", "expected Spark to answer, got KeyError: 'internals'", "set validation.engine to duckdb"),
    ],
)
def test_what_ends_badly_in_a_worker_is_refused(
    engine: Spark, tmp_path: Path, what: str, complaint: str, remedy: str
) -> None:
    with pytest.raises(DataError, match=complaint) as caught:
        ask(engine, what, tmp_path / "mark")
    assert remedy in caught.value.remedy


def test_a_worker_with_other_code_is_refused(engine: Spark, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its counts would be others."""
    other = replace(parts.this_machine(), code="0" * 64)
    monkeypatch.setattr(parts, "this_machine", lambda: other)
    with pytest.raises(ConfigError, match="expected workers with code 0000") as caught:
        ask(engine, "", tmp_path)
    assert "same lock files and the same commit" in caught.value.remedy


@pytest.mark.attack("P")
def test_rows_that_change_before_a_worker_reads_them(engine: Spark, tmp_path: Path) -> None:
    """Somebody exchanges the rows that the stage wrote for Spark's workers, before they read them."""
    fleet = Fleet.of(oven_table({f"u{n}": 3 for n in range(6)}))
    assert [[1.0]] * 6 == ask(engine, "", tmp_path, fleet)
    written = sorted(engine._folder.iterdir())
    written[0].write_bytes(written[1].read_bytes())
    with pytest.raises(DataError, match="expected the fleet that the stage began with, got another"):
        ask(engine, "", tmp_path, fleet)
    written[0].unlink()
    with pytest.raises(DataError, match="expected the folder of the checkout on every worker, got none"):
        ask(engine, "", tmp_path, fleet)


@pytest.mark.attack("P")
def test_spark_listens_on_loopback_only(engine: Spark) -> None:
    """Somebody on the network connects to the Spark that a stage starts on its machine."""
    java = engine._session.sparkContext._gateway.proc.pid
    sockets = {str(path.readlink()) for path in Path(f"/proc/{java}/fd").iterdir() if path.is_symlink()}
    open_to = {
        fields[1].rpartition(":")[0]
        for kind in ("tcp", "tcp6")
        for fields in (line.split() for line in Path(f"/proc/{java}/net/{kind}").read_text().splitlines()[1:])
        if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets
    }
    assert open_to
    assert open_to <= {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}
    about = engine._session.sparkContext.getConf()
    assert ("false", "", "true") == tuple(
        about.get(f"spark.{name}") for name in ("ui.enabled", "jars.packages", "authenticate")
    )
    assert 0o700 == engine._folder.parent.stat().st_mode & 0o777
