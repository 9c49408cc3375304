"""What is counted, whatever counts it: the rows that go to SQL, and in SQL when a row breaks a rule.

With each row goes what a rule needs to know of its unit: its place, the row before it (in its regime), what the label
is at the end. All else is SQL over single rows, and the meaning of each rule is that of `rules`; a test holds both
equal, also for NaN and infinities.

Rules: no name and no text from outside is in it: channels are `x0`, `x1`, …, units are numbers. The same SQL goes to
DuckDB (`scan`) and to Spark (`spark_scan`), so it says only what both understand alike. NaN is greater than every
number to both, and equal to itself: each comparison says what it means for NaN.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from twinseal.errors import DataError
from twinseal.telemetry.blocks import Block
from twinseal.telemetry.contract import Contract
from twinseal.telemetry.fleet import Fleet
from twinseal.telemetry.regimes import NOWHERE
from twinseal.telemetry.rules import FLOAT32, OFF_STEP
from twinseal.telemetry.screening import Rule
from twinseal.telemetry.unit_rows import Known, lengths_of, previous, regimes_of, starts_of

Array = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
Edges = Mapping[str, Sequence[float]]


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


def rule_rows(fleet: Fleet, part: Block, contract: Contract) -> dict[str, npt.NDArray[Any]]:
    """The columns of a block's rows, with what the rules need to know of each row's unit."""
    table, names, shares, known = part.rows(fleet), list(contract.all_channels), _shares(contract), _known(contract)
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
    return columns


def value_rows(
    fleet: Fleet, part: Block, contract: Contract, names: Sequence[str], regime: int | None
) -> dict[str, npt.NDArray[Any]]:
    """The columns of a block's rows in one regime, or in all."""
    table = part.rows(fleet)
    if regime is not None:
        table = table[regimes_of(table, _known(contract)) == regime]
    columns = {f"x{at}": table[name].to_numpy() for at, name in enumerate(names)}
    return {"block": np.full(len(table), part.number, dtype=np.int32)} | columns


def batch(columns: Mapping[str, npt.NDArray[Any]]) -> pa.RecordBatch:
    """Columns for SQL; NaN stays NaN."""
    return pa.record_batch({name: pa.array(values, from_pandas=False) for name, values in columns.items()})


def rows_that_break(rule: Rule, contract: Contract) -> str:
    """How many rows of a block break a rule, in SQL over `rule_rows`.

    Raises:
        DataError: The rule is none about single rows and their unit.
    """
    return f"sum(CAST({_condition(rule, list(contract.all_channels), _shares(contract))} AS INT))"


def values_in_bins(edges: Edges) -> list[str]:
    """Of each channel, in SQL over `value_rows`: its values, their sum, and how many are not above each edge."""
    selected = []
    for at, inner in enumerate(edges.values()):
        selected += [
            f"sum(CAST(NOT isnan(x{at}) AS INT))",
            f"sum(CASE WHEN isnan(x{at}) THEN 0 ELSE x{at}::DOUBLE END)",
        ]
        selected += [f"sum(CAST(x{at} <= {_single(edge)} AS INT))" for edge in inner]
    return selected


def distributions_of(found: Array, edges: Edges) -> dict[str, Distribution]:
    """The distribution of each channel, from the answers to `values_in_bins`, (blocks, answers)."""
    at, result = 0, {}
    for name, inner in edges.items():
        rows, total, *below = found[:, at : at + 2 + len(inner)].T
        bins = np.diff(np.vstack([np.zeros_like(rows), *below, rows]), axis=0).T.astype(np.int64)
        result[name] = Distribution(rows.astype(np.int64), total, bins)
        at += 2 + len(inner)
    return result


def _shares(contract: Contract) -> list[str]:
    return [name for name, channel in contract.all_channels.items() if channel.missing_share]


def _known(contract: Contract) -> Known | None:
    return contract.regimes.model_dump(mode="json") if contract.regimes else None


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
_INFINITE = "CAST('Infinity' AS DOUBLE)"
_STEPS = "(x{at}::DOUBLE / {step} + 0.5::DOUBLE)"
# Spark's floor is a whole number of 64 bits; from 2**52 on a double is whole already.
_WHOLE = f"CASE WHEN abs({_STEPS}) < {2.0**52!r}::DOUBLE THEN floor({_STEPS})::DOUBLE ELSE {_STEPS} END"
_AWAY = f"abs(x{{at}}::DOUBLE - {_WHOLE} * {{step}})"
_CONDITIONS = {
    "unique": "(place > 0 AND cycle = cycle_before) OR (place < length - 1 AND cycle = cycle_after)",
    "cycles": "cycle <> place + 1",
    "history": "length < {least}",
    "label": f"""
        abs(rul::DOUBLE) = {_INFINITE} OR (NOT isnan(rul) AND rul < 0)
        OR (isnan(rul) AND (labelled OR NOT censored)) OR censored <> cut
        OR (place > 0 AND NOT isnan({_FALL}) AND abs({_FALL}) > 1e-3)
        OR (place = length - 1 AND CASE WHEN cut THEN NOT isnan(rul) AND rul <= 0 ELSE isnan(rul) OR rul <> 0 END)""",
    "missing": "isnan(x{at}) AND {often}",
    "range": "NOT isnan(x{at}) AND (x{at}::DOUBLE < {minimum} OR x{at}::DOUBLE > {maximum})",
    "resolution": f"""
        NOT isnan({_AWAY}) AND {_AWAY} <> {_INFINITE}
        AND {_AWAY} > {OFF_STEP!r}::DOUBLE * {{step}} + {FLOAT32!r}::DOUBLE * abs(x{{at}}::DOUBLE)""",
    "regime": "regime = {nowhere} AND {told}",
    "change": f"NOT fresh AND NOT isnan({_CHANGE}) AND {_CHANGE} > {{most}} * gap + {{rounding}}",
}
"""Rule name → when a row breaks it. `x3` is a channel, `p3` the same a row before, `s3` its share of missing values."""


def _double(value: float) -> str:
    """A number in SQL; without the cast 0.1 is taken for a decimal."""
    return f"CAST('{float(value)!r}' AS DOUBLE)"


def _single(value: float) -> str:
    """The largest float32 that is not above a number: for one, `x <= value` is the same."""
    with np.errstate(over="ignore"):
        near = np.float32(value)
    return f"CAST('{float(np.nextafter(near, np.float32(-np.inf)) if float(near) > value else near)!r}' AS FLOAT)"
