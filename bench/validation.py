"""Validation of a large fleet beside Great Expectations on pandas and beside a plain DuckDB scan: memory and time.

    UNITS=50000 python -m bench validation --repeats 1     10 million rows; some minutes
    python -m bench.validation ours FILE                   one way alone, as the benchmark runs it

Each way runs in a process of its own, on a fleet of `bench.fleet`. Great Expectations on pandas gets at most
PANDAS_UNITS units: processor seconds are stated for a million rows. It has its own expectations for ranges, missing
values and unique cycles, and calls our numpy rules for the others. `ours` is the same rules, counted by DuckDB and
judged by Great Expectations; `all rules` includes those that compare units with others (consistency, stuck, copy). The
stage is the whole of what validate does: read, examine, write what is accepted. `spark`, where it is installed, does
what `all rules` does, on two threads of this machine; processor seconds (without its start) and memory are those of all
its processes.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from os import environ
from pathlib import Path
from shutil import which
from typing import Any

import duckdb
import pandas as pd

from bench.fleet import contract, family, held_mib, stat, write_fleet
from bench.table import Row, ratio
from twinseal.telemetry.expectations import Count, judge
from twinseal.telemetry.fleet import Fleet
from twinseal.telemetry.outcome import apply
from twinseal.telemetry.rules import CHECKS
from twinseal.telemetry.scan import count_broken
from twinseal.telemetry.screening import row_rules
from twinseal.telemetry.validation import examine

ROOT = Path(__file__).parents[1]
PANDAS_UNITS = 10_000
REACH_MIB = 3e9 / (1 << 20)  # for 10 million rows
REACH = 0.1  # of the time of Great Expectations on pandas


def ours(path: Path) -> float:
    """The rules about single units, counted and judged: what Great Expectations on pandas is compared with."""
    fleet, rules = Fleet.read(path, contract()), row_rules(contract(), units=2)
    begun = time.process_time()
    broken = count_broken(fleet, contract(), rules).sum(axis=0).tolist()
    counts = [
        Count(f"{rule.name} {rule.channel}", rows, None, 0, rule.expects, "")
        for rule, rows in zip(rules, broken, strict=True)
    ]
    if judge("machine", counts).broken:
        raise SystemExit("expected a fleet that keeps its contract, got another")
    return time.process_time() - begun


def all_rules(path: Path) -> float:
    """The whole contract, counted and judged."""
    fleet = Fleet.read(path, contract())
    begun = time.process_time()
    if apply(fleet, contract(), None).broken:
        raise SystemExit("expected a fleet that keeps its contract, got another")
    return time.process_time() - begun


def spark(path: Path) -> float:
    """The same rules, counted on Spark by two threads of this machine."""
    from twinseal.telemetry.spark_scan import spark as start

    fleet = Fleet.read(path, contract())
    with start("local[2]", path.parent) as engine:
        begun, clock = used_s(), time.perf_counter()
        if apply(fleet, contract(), None, engine).broken:
            raise SystemExit("expected a fleet that keeps its contract, got another")
        print(f"spark: {len(fleet) / (time.perf_counter() - clock):,.0f} rows a second", file=sys.stderr)
        return used_s() - begun


def used_s() -> float:
    """Processor seconds of this process and of all below it that run."""
    ticks = [int(field) for pid in family(os.getpid()) for field in stat(pid)[11:13]]
    return sum(ticks) / os.sysconf("SC_CLK_TCK")


def stage(path: Path) -> float:
    """All that validate does with a fleet."""
    begun = time.process_time()
    validation = examine(Fleet.read(path, contract()), contract())
    validation.require().accepted.write(path.with_suffix(".accepted"))
    return time.process_time() - begun


def scan(path: Path) -> float:
    """Each value read once: the least that DuckDB must do. No file's own statistics answer it."""
    begun = time.process_time()
    counted = ", ".join(f"sum({name})" for name in contract().all_channels)
    duckdb.connect().execute(f"SELECT {counted} FROM read_parquet('{path}')").fetchall()  # noqa: S608
    return time.process_time() - begun


def pandas(path: Path) -> float:
    """The same rules, but for those that compare units, row by row."""
    import great_expectations as gx
    import great_expectations.expectations as gxe
    from great_expectations.data_context.types.base import ProgressBarsConfig
    from great_expectations.execution_engine import PandasExecutionEngine
    from great_expectations.expectations.expectation import MulticolumnMapExpectation
    from great_expectations.expectations.metrics.map_metric_provider import MulticolumnMapMetricProvider
    from great_expectations.expectations.metrics.map_metric_provider.multicolumn_condition_partial import (
        multicolumn_condition_partial,
    )

    class Condition(MulticolumnMapMetricProvider):  # type: ignore[misc]  # untyped
        condition_metric_name = "bench.keep_rule"
        condition_value_keys = ("rule", "bounds")

        @multicolumn_condition_partial(engine=PandasExecutionEngine)  # type: ignore[untyped-decorator]
        def _pandas(cls, column_list: pd.DataFrame, rule: str, bounds: dict[str, Any], **_: Any) -> Any:  # noqa: N805
            return pd.Series(~CHECKS[rule](column_list, **bounds).broken, index=column_list.index)

    class ExpectRowsToKeepRule(MulticolumnMapExpectation):  # type: ignore[misc]  # untyped
        map_metric = "bench.keep_rule"
        success_keys = ("rule", "bounds", "mostly")
        rule: str
        bounds: dict[str, Any]

    expectations: list[Any] = []
    fleet = Fleet.read(path, contract())
    for rule in row_rules(contract(), units=2):
        columns, bounds = list(rule.columns), dict(rule.bounds)
        if rule.name == "unique":
            expected = gxe.ExpectCompoundColumnsToBeUnique(column_list=columns)
        elif rule.name == "missing":
            expected = gxe.ExpectColumnValuesToNotBeNull(column=rule.channel)
        elif rule.name == "range":
            least, most = bounds["minimum"], bounds["maximum"]
            expected = gxe.ExpectColumnValuesToBeBetween(column=rule.channel, min_value=least, max_value=most)
        else:
            expected = ExpectRowsToKeepRule(column_list=columns, rule=rule.name, bounds=bounds)
        expectations.append(expected)
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    asset = context.data_sources.add_pandas("bench").add_dataframe_asset("rows")
    batch = asset.add_batch_definition_whole_dataframe("all").get_batch({"dataframe": fleet.table})
    suite = gx.ExpectationSuite(name="rows", expectations=expectations)
    begun = time.process_time()
    if not batch.validate(suite, result_format="COMPLETE").success:
        raise SystemExit("expected a fleet that keeps its contract, got another")
    return time.process_time() - begun


WAYS: dict[str, Callable[[Path], float]] = {
    "ours": ours,
    "all rules": all_rules,
    "stage": stage,
    "scan": scan,
    "pandas": pandas,
}
if find_spec("pyspark") and which("java"):
    WAYS["spark"] = spark


def measure(folder: Path, repeats: int) -> list[Row]:
    """Processor seconds for a million rows, memory of the stage; the fleet has UNITS units (environment), or 2,000."""
    units = int(environ.get("UNITS") or 2_000)
    rows = write_fleet(folder / "fleet.parquet", units)
    few = write_fleet(folder / "few.parquet", min(units, PANDAS_UNITS))
    if "spark" not in WAYS:
        print("validation: Spark is not measured: bash requirements/install.sh --with-spark, and Java 17")
    memory: dict[str, list[float]] = {"stage": [], "spark": []}
    samples: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(repeats):
        for way in WAYS:
            seconds, peak = _run(way, folder / ("few.parquet" if way == "pandas" else "fleet.parquet"))
            samples[way].append(seconds / (few if way == "pandas" else rows) * 1e6)
            memory.get(way, []).append(peak)
    found = {way: Row("validation", f"{way}, for a million rows", tuple(samples[way]), "s") for way in WAYS}
    most = [
        Row("validation", f"{way}, {rows:,} rows: memory", tuple(peaks), "MiB", reach if rows < 11e6 else None)
        for (way, peaks), reach in zip(memory.items(), (REACH_MIB, None), strict=True)
        if peaks
    ]
    beside = "ours beside Great Expectations on pandas"
    return [*found.values(), *most, ratio("validation", beside, found["ours"], [found["pandas"]], REACH)]


def _run(way: str, path: Path) -> tuple[float, float]:
    """Processor seconds, and MiB at the peak of the process; of Spark, of all its processes together."""
    command = [sys.executable, "-m", "bench.validation", way, str(path)]
    together = 0.0
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as running:
        while way == "spark" and running.poll() is None:
            together = max(together, held_mib(running.pid))
            time.sleep(0.2)
        said = running.communicate()[0]
    if running.returncode:
        raise SystemExit(f"{way} ended with {running.returncode}")
    seconds, peak = map(float, said.split()[-2:])
    return seconds, together or peak


if __name__ == "__main__":
    print(WAYS[sys.argv[1]](Path(sys.argv[2])), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
