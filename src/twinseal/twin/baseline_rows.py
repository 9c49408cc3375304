"""Baseline rows: the readings of units' first cycles, taken complete and within the contract, or refused.

What is taken here is signed and trusted for the life of a machine. So nothing is repaired, filled or skipped. One cycle
that is missing or there twice, one reading that is absent, out of range, or changed faster than the machine can, is
enough: then nothing is signed.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinseal.errors import DataError, EvidenceError
from twinseal.telemetry.columns import list_names, nearest
from twinseal.telemetry.contract import Contract
from twinseal.telemetry.regimes import regimes
from twinseal.telemetry.unit_names import unit_name
from twinseal.trust.baseline_record import CYCLES, check_unit
from twinseal.twin.rows import cycle_of, number_of, records

Rows = NDArray[np.float64]

# float32 telemetry, read back as float64, may differ by this much from what the bounds were written as; as the guard's.
_ROUNDING = 1e-6
MAX_COMPARED = 1000  # names of units, to find the one that was meant


def take_first_rows(
    telemetry: Iterable[Mapping[str, Any]],
    contract: Contract,
    units: Collection[str] = (),
    begins: Mapping[str, int] = MappingProxyType({}),
) -> dict[str, Rows]:
    """The first cycles of each unit: (CYCLES, I) float64, the contract's inputs in raw units, the first cycle first.

    Args:
        telemetry: Rows with `unit`, `cycle` and the contract's inputs, in any order.
        contract: The limits for the readings.
        units: Which units; every unit of the telemetry when empty.
        begins: By unit, the operating count after which its first cycles are; 0 for one that is not in it.

    Raises:
        DataError: A unit's first cycles are incomplete or outside the contract; with a finding for each.
    """
    seen: dict[str, dict[int, list[list[float]]]] = {unit: {} for unit in units}
    names: dict[str, None] = {}
    for row in records(telemetry):
        unit, cycle = unit_name(row.get("unit")), cycle_of(row.get("cycle"))
        names[unit] = None
        if unit in seen or (unit and not units):
            cycles = seen.setdefault(unit, {})
            first = cycle - begins.get(unit, 0)
            if 1 <= first <= CYCLES:
                cycles.setdefault(first, []).append([number_of(row.get(name)) for name in contract.inputs])
    if not seen:
        raise DataError(
            "telemetry: expected rows of a unit, got none",
            remedy=f"Give a table with a row for each unit and cycle, from cycle 1 to {CYCLES} on.",
        )
    _refuse_unknown([unit for unit in units if unit not in names], tuple(names))
    findings = [
        f"{unit}: {text}"
        for unit, cycles in seen.items()
        for text in _findings(unit, cycles, contract, begins.get(unit, 0))
    ]
    if findings:
        raise DataError(
            f"telemetry: expected the first {CYCLES} cycles of each unit, complete and within the contract, got "
            f"{len(findings)} that are not ({findings[0]})",
            findings=tuple(findings),
            remedy="Name the units that can be commissioned with --unit; for the others, find out why.",
        )
    return {unit: _stack_rows(cycles) for unit, cycles in seen.items()}


def _refuse_unknown(unknown: Sequence[str], names: Sequence[str]) -> None:
    if not unknown:
        return
    near = [f"--unit {name}" for name in nearest(unknown, names[:MAX_COMPARED]).values()]
    raise DataError(
        f"telemetry: expected units that it has ({list_names(names)}), got {', '.join(unknown)}",
        remedy=f"Did you mean {' '.join(near)}?"
        if near
        else "Name its units with --unit; without --unit, all are taken.",
    )


def contract_violations(rows: Rows, contract: Contract) -> tuple[str, ...]:
    """What in a unit's first cycles, (R, I) raw units, is outside the contract: a line for each reading."""
    limits = [contract.all_channels[name] for name in contract.inputs]
    low, high = (np.array([getattr(item, name) for item in limits]) for name in ("minimum", "maximum"))
    slack = _ROUNDING * np.maximum(np.abs(low), np.abs(high))  # (I,)
    with np.errstate(invalid="ignore", over="ignore"):
        outside = ~((rows >= low - slack) & (rows <= high + slack))  # (R, I); a NaN is within nothing
        most = np.array([item.max_change_per_cycle for item in limits]) + slack  # (I,)
    found = []
    for index, column in zip(*np.nonzero(outside), strict=True):
        limit = limits[column]
        got = f"{rows[index, column]:g}" if math.isfinite(rows[index, column]) else "none"
        found.append(
            f"cycle {index + 1}: {contract.inputs[column]}: expected {limit.minimum:g} to {limit.maximum:g} "
            f"{limit.unit}, got {got}"
        )
    regime = _regimes(rows, contract)
    found += [f"cycle {at + 1}: expected settings at an operating point of the contract" for at in _where(regime < 0)]
    for before, after in _pairs(regime):
        change = (rows[after] - rows[before]) / (after - before)  # in each cycle it may change by as much as it can
        for column in _where(np.abs(change) > most):
            limit, within = limits[column], " within a regime" if contract.regimes else ""
            found.append(
                f"cycle {after + 1}: {contract.inputs[column]}: expected a change of at most "
                f"{limit.max_change_per_cycle:g} {limit.unit}{within}, got {change[column]:g}"
            )
    return tuple(found)


def _regimes(rows: Rows, contract: Contract) -> NDArray[np.int64]:
    """The regime of each row; where the contract knows only one, it is 0."""
    known = contract.regimes
    if known is None:
        return np.zeros(len(rows), dtype=np.int64)
    return regimes(rows[:, : len(known.settings)], np.array(known.points), np.array(known.within))


def _pairs(regime: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Each row and the last one before it that was taken in the same regime."""
    last: dict[int, int] = {}
    for at, mine in enumerate(regime.tolist()):
        if mine in last:
            yield last[mine], at
        last[mine] = at


def _where(mask: NDArray[np.bool_]) -> list[int]:
    return [int(at) for at in np.flatnonzero(mask)]


def _findings(unit: str, cycles: Mapping[int, list[list[float]]], contract: Contract, begin: int) -> Iterator[str]:
    try:
        check_unit(unit)
    except EvidenceError as error:
        yield str(error)
    missing = [str(begin + cycle) for cycle in range(1, CYCLES + 1) if cycle not in cycles]
    twice = [str(begin + cycle) for cycle, rows in sorted(cycles.items()) if len(rows) > 1]
    if missing:
        yield f"expected cycles {begin + 1} to {begin + CYCLES}, got none of {', '.join(missing)}"
    if twice:
        yield f"expected each cycle once, got {', '.join(twice)} more often"
    if not missing and not twice:
        yield from contract_violations(_stack_rows(cycles), contract)


def _stack_rows(cycles: Mapping[int, list[list[float]]]) -> Rows:
    return np.array([cycles[cycle][0] for cycle in range(1, CYCLES + 1)], dtype=np.float64)
