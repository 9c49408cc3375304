"""How many rows of a fleet break each rule of the contract, counted by DuckDB in one pass. Only this module imports it.

A fleet goes through in blocks of whole units, so memory does not grow with it. With each row goes what a rule needs to
know of its unit: its place, the row before it (in its regime), what the label is at the end. All else is SQL over
single rows, and the meaning of each rule is that of `rules`; a test holds both equal, also for NaN and infinities.

Rules: DuckDB reads no file and no network, loads no extension, and gets its bounds of memory and threads here. It never
sees a name or a text that came from outside: channels are `x0`, `x1`, …, units are numbers. NaN is greater than every
number to DuckDB, and equal to itself: each comparison says what it means for NaN.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from twinseal.errors import DataError
from twinseal.telemetry.blocks import Block, blocks
from twinseal.telemetry.contract import Contract
from twinseal.telemetry.fleet import Fleet
from twinseal.telemetry.regimes import NOWHERE
from twinseal.telemetry.rules import FLOAT32, OFF_STEP
from twinseal.telemetry.screening import Rule
from twinseal.telemetry.unit_rows import Known, lengths_of, previous, regimes_of, starts_of

MEMORY = "512MB"
Array = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]


def count_broken(fleet: Fleet, contract: Contract, rules: Sequence[Rule]) -> Counts:
    """How many rows of each block break each rule, (blocks, rules) int64.

    Args:
        fleet: The telemetry.
        contract: Its contract.
        rules: Rules about single rows and their unit: not `consistency`.

    Raises:
        DataError: DuckDB did not answer.
    """
    names = list(contract.all_channels)
    known = contract.regimes.model_dump(mode="json") if contract.regimes else None
    shares = [name for name, channel in contract.all_channels.items() if channel.missing_share]
    parts = blocks(fleet)
    batches = (_rule_batch(fleet, part, names, shares, known) for part in parts)
    counts = [f"sum(CAST({_condition(rule, names, shares)} AS INT))" for rule in rules]
    found = _by_block(batches, counts)
    return found.astype(np.int64) if len(parts) and rules else np.zeros((len(parts), len(rules)), dtype=np.int64)


@dataclass(frozen=True)
class Distribution:
    """How the values of one channel are distributed, by block.

    Attributes:
        rows: Rows with a value, (blocks,).
        total: Sum of the values, (blocks,).
        bins: Rows in each bin, (blocks, bins).
    """

    rows: Counts
    total: Array
    bins: Counts


def distributions(
    fleet: Fleet, contract: Contract, edges: dict[str, Sequence[float]], regime: int | None = None
) -> dict[str, Distribution]:
    """The distribution of each channel over bins; a value equal to an edge belongs to the bin below it.

    Args:
        fleet: The telemetry.
        contract: Its contract.
        edges: Inner edges of the bins of each channel.
        regime: Which regime of the contract; None for all rows.

    Raises:
        DataError: DuckDB did not answer.
    """
    known = contract.regimes.model_dump(mode="json") if contract.regimes and regime is not None else None
    batches = (_value_batch(fleet, part, list(edges), known, regime) for part in blocks(fleet))
    selected = []
    for at, inner in enumerate(edges.values()):
        selected += [
            f"sum(CAST(NOT isnan(x{at}) AS INT))",
            f"sum(CASE WHEN isnan(x{at}) THEN 0 ELSE x{at}::DOUBLE END)",
        ]
        selected += [f"sum(CAST(x{at} <= {_single(edge)} AS INT))" for edge in inner]
    found, at, result = _by_block(batches, selected), 0, {}
    for name, inner in edges.items():
        rows, total, *below = found[:, at : at + 2 + len(inner)].T
        bins = np.diff(np.vstack([np.zeros_like(rows), *below, rows]), axis=0).T.astype(np.int64)
        result[name] = Distribution(rows.astype(np.int64), total, bins)
        at += 2 + len(inner)
    return result


def _by_block(batches: Iterator[pa.RecordBatch], selected: Sequence[str]) -> Array:
    """What is selected of each block, (blocks, selected)."""
    first = next(batches, None)
    if first is None or not selected:
        return np.zeros((0, len(selected)))
    reader = pa.RecordBatchReader.from_batches(first.schema, _chain(first, batches))
    settings: dict[str, Any] = {
        "memory_limit": MEMORY,
        "threads": min(4, len(os.sched_getaffinity(0))),
        "enable_external_access": False,
        "autoload_known_extensions": False,
        "autoinstall_known_extensions": False,
        "allow_community_extensions": False,
        "python_enable_replacements": False,
        "lock_configuration": True,
    }
    try:
        with duckdb.connect(":memory:", config=settings) as connection:
            connection.register("fleet", reader)
            query = f"SELECT {', '.join(selected)} FROM fleet GROUP BY block ORDER BY block"  # noqa: S608  # no name from outside
            return np.array(connection.execute(query).fetchall(), dtype=np.float64)
    except duckdb.Error as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"validation: expected DuckDB to answer, got {type(error).__name__}: {reason}") from error


def _chain(first: pa.RecordBatch, others: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    yield first
    yield from others


def _rule_batch(fleet: Fleet, part: Block, names: list[str], shares: list[str], known: Known | None) -> pa.RecordBatch:
    """The rows of a block, with what the rules need to know of each row's unit."""
    table = part.rows(fleet)
    starts = starts_of(table)
    lengths = lengths_of(table, starts)
    last = starts + lengths - 1
    regime = regimes_of(table, known)
    before, gap = previous(table, regime)
    rul, cycle = table["rul"].to_numpy(), table["cycle"].to_numpy()
    place = np.arange(len(table)) - np.repeat(starts, lengths)
    above = np.where(place == 0, np.arange(len(table)), np.arange(len(table)) - 1)  # the row before in the unit
    columns = {
        "block": np.full(len(table), part.number, dtype=np.int32),
        "place": place,
        "length": np.repeat(lengths, lengths),
        "cycle": cycle,
        "cycle_before": cycle[above],
        "cycle_after": np.append(cycle[1:], 0),
        "rul": rul,
        "rul_before": rul[above],
        "labelled": np.repeat(np.add.reduceat(~np.isnan(rul), starts) > 0, lengths),
        "censored": table["censored"].to_numpy(),
        "cut": np.repeat(table["censored"].to_numpy()[last], lengths),
        "regime": regime,
        "gap": gap,
        "fresh": before == np.arange(len(table)),
    }
    for at, name in enumerate(names):
        values = table[name].to_numpy()
        columns |= {f"x{at}": values, f"p{at}": values[before] if known else np.concatenate([values[:1], values[:-1]])}
        if name in shares:
            columns[f"s{at}"] = np.repeat(np.add.reduceat(np.isnan(values), starts) / lengths, lengths)
    return _batch(columns)


def _value_batch(
    fleet: Fleet, part: Block, names: list[str], known: Known | None, regime: int | None
) -> pa.RecordBatch:
    table = part.rows(fleet)
    if regime is not None:
        table = table[regimes_of(table, known) == regime]
    columns = {f"x{at}": table[name].to_numpy() for at, name in enumerate(names)}
    return _batch({"block": np.full(len(table), part.number, dtype=np.int32)} | columns)


def _batch(columns: dict[str, npt.NDArray[Any]]) -> pa.RecordBatch:
    return pa.record_batch({name: pa.array(values, from_pandas=False) for name, values in columns.items()})


def _condition(rule: Rule, names: list[str], shares: list[str]) -> str:
    """When a row breaks a rule, in SQL; as in `rules`."""
    if rule.name not in _CONDITIONS:
        raise DataError(f"validation: expected a rule that can be counted in SQL, got '{rule.name}'")
    at = names.index(rule.channel) if rule.channel in names else -1
    settings = rule.bounds["known"]["settings"] if rule.name == "regime" else ()
    often = "(s{at} > {share} OR place = 0)" if rule.channel in shares else "TRUE"
    told = " AND ".join(f"NOT isnan(x{names.index(name)})" for name in settings)
    numbers = {key: _double(value) for key, value in rule.bounds.items() if isinstance(value, int | float)}
    template = _CONDITIONS[rule.name].replace("{often}", often)
    return template.format(at=at, told=told, nowhere=NOWHERE, **numbers)


_FALL = "((rul::DOUBLE - rul_before::DOUBLE) + (cycle::DOUBLE - cycle_before::DOUBLE))"
_CHANGE = "abs(x{at}::DOUBLE - p{at}::DOUBLE)"
_AWAY = "abs(x{at}::DOUBLE - floor(x{at}::DOUBLE / {step} + 0.5::DOUBLE) * {step})"
_CONDITIONS = {
    "unique": "(place > 0 AND cycle = cycle_before) OR (place < length - 1 AND cycle = cycle_after)",
    "cycles": "cycle <> place + 1",
    "history": "length < {least}",
    "label": f"""
        isinf(rul) OR (NOT isnan(rul) AND rul < 0) OR (isnan(rul) AND (labelled OR NOT censored)) OR censored <> cut
        OR (place > 0 AND NOT isnan({_FALL}) AND abs({_FALL}) > 1e-3)
        OR (place = length - 1 AND CASE WHEN cut THEN NOT isnan(rul) AND rul <= 0 ELSE isnan(rul) OR rul <> 0 END)""",
    "missing": "isnan(x{at}) AND {often}",
    "range": "NOT isnan(x{at}) AND (x{at}::DOUBLE < {minimum} OR x{at}::DOUBLE > {maximum})",
    "resolution": f"""
        NOT isnan({_AWAY}) AND NOT isinf({_AWAY})
        AND {_AWAY} > {OFF_STEP!r}::DOUBLE * {{step}} + {FLOAT32!r}::DOUBLE * abs(x{{at}}::DOUBLE)""",
    "regime": "regime = {nowhere} AND {told}",
    "change": f"NOT fresh AND NOT isnan({_CHANGE}) AND {_CHANGE} > {{most}} * gap + {{rounding}}",
}
"""Rule name → when a row breaks it. `x3` is a channel, `p3` the same a row before, `s3` its share of missing values."""


def _double(value: float) -> str:
    """A number in SQL; without the cast DuckDB takes 0.1 for a decimal."""
    return f"CAST('{float(value)!r}' AS DOUBLE)"


def _single(value: float) -> str:
    """The largest float32 that is not above a number: for one, `x <= value` is the same."""
    with np.errstate(over="ignore"):
        near = np.float32(value)
    return f"CAST('{float(np.nextafter(near, np.float32(-np.inf)) if float(near) > value else near)!r}' AS FLOAT)"
