"""How many rows of a fleet break each rule of the contract, counted by DuckDB in one pass. Only this module imports it.

A fleet goes through in blocks of whole units, so memory does not grow with it. What is counted is in `conditions`.

Rules: DuckDB reads no file and no network, loads no extension, and gets its bounds of memory and threads here. It never
sees a name or a text that came from outside.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from twinseal.errors import DataError
from twinseal.telemetry.blocks import blocks
from twinseal.telemetry.conditions import (
    Array,
    Counts,
    Distribution,
    Edges,
    batch,
    distributions_of,
    rows_that_break,
    rule_rows,
    value_rows,
    values_in_bins,
)
from twinseal.telemetry.contract import Contract
from twinseal.telemetry.fleet import Fleet
from twinseal.telemetry.screening import Rule

MEMORY = "512MB"


def count_broken(fleet: Fleet, contract: Contract, rules: Sequence[Rule]) -> Counts:
    """How many rows of each block break each rule, (blocks, rules) int64.

    Args:
        fleet: The telemetry.
        contract: Its contract.
        rules: Rules about single rows and their unit: not `consistency`.

    Raises:
        DataError: DuckDB did not answer.
    """
    parts = blocks(fleet)
    batches = (batch(rule_rows(fleet, part, contract)) for part in parts)
    found = _by_block(batches, [rows_that_break(rule, contract) for rule in rules])
    return found.astype(np.int64) if len(parts) and rules else np.zeros((len(parts), len(rules)), dtype=np.int64)


def distributions(fleet: Fleet, contract: Contract, edges: Edges, regime: int | None = None) -> dict[str, Distribution]:
    """The distribution of each channel over bins; a value equal to an edge belongs to the bin below it.

    Args:
        fleet: The telemetry.
        contract: Its contract.
        edges: Inner edges of the bins of each channel.
        regime: Which regime of the contract; None for all rows.

    Raises:
        DataError: DuckDB did not answer.
    """
    batches = (batch(value_rows(fleet, part, contract, list(edges), regime)) for part in blocks(fleet))
    return distributions_of(_by_block(batches, values_in_bins(edges)), edges)


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
