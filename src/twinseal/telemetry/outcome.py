"""The outcome of one application of the contract to a fleet: what is broken, and by which unit.

1. For each rule, the rows that break it are counted (`engines`): in SQL, and in numpy, block by block, for the rules
   that compare units.
2. The fleet is compared with the reference (`drift`).
3. In the blocks where a rule is broken, `screening` applies the rule again and names units, cycles and values. Both
   must find the same rows.
4. Great Expectations judges the counts (`expectations`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from twinseal.errors import DataError
from twinseal.telemetry.blocks import blocks, rows_by_regime, units_by_regime
from twinseal.telemetry.contract import Contract, Drift
from twinseal.telemetry.drift import ChannelDrift, allow, compare, worst
from twinseal.telemetry.engines import DUCKDB, Engine
from twinseal.telemetry.expectations import Count, Judgement
from twinseal.telemetry.fleet import Fleet
from twinseal.telemetry.reference import Reference
from twinseal.telemetry.screening import Finding, Rule, Usual, findings, results, row_rules

_TYPES = {"unit": "str", "cycle": "int32", "censored": "bool", "rul": "float32"}
SHOWN = 5  # units of a broken rule, on the page
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Outcome:
    """The result of one application of the contract.

    Attributes:
        names: Every expectation of the suite.
        broken: Those that are not met, could not be evaluated, or gave no result.
        row_findings: Findings about rows, by unit.
        fleet_findings: Findings about the fleet as a whole.
        stability: The population stability index of each channel that was compared with a reference.
        pages: The Data Docs, file name → HTML.
        regime_rows: Rows at each operating point of the contract; none where it names none.
        regimes_compared: At how many of them channels were compared with the reference.
    """

    names: frozenset[str]
    broken: frozenset[str]
    row_findings: tuple[Finding, ...]
    fleet_findings: tuple[Finding, ...]
    stability: dict[str, float]
    pages: dict[str, str]
    regime_rows: tuple[int, ...] = ()
    regimes_compared: int = 0


def apply(fleet: Fleet, contract: Contract, reference: Reference | None, engine: Engine = DUCKDB) -> Outcome:
    """Apply the contract to `fleet`. The steps are numbered in the module's docstring.

    An expectation that gave no result, or could not be evaluated, counts as broken by the fleet as a whole.

    Raises:
        DataError: The engine or Great Expectations did not answer, or two ways of counting differ.
    """
    rules = row_rules(contract, units=len(fleet.units))
    usual = Usual.of(fleet.table, rules)
    broken = engine.count(fleet, contract, rules, usual)  # 1
    compared = (
        allow(compare(fleet, contract, reference, engine.distributions), contract.drift) if reference else ()
    )  # 2
    drift, known = worst(compared), contract.regimes.model_dump(mode="json") if contract.regimes else None
    rows = dict(zip(map(_name, rules), broken.sum(axis=0).tolist(), strict=True))
    found = _row_findings(fleet, rules, broken, usual)  # 3
    units: dict[str, list[str]] = {}
    for finding in found:
        units.setdefault(f"{finding.rule} {finding.channel}", []).append(finding.unit)
    counts = [
        *_fleet_counts(fleet, contract),
        *(_row_count(rule, rows[_name(rule)], len(fleet), units.get(_name(rule), [])) for rule in rules),
        *_drift_counts(drift, contract.drift),
    ]
    verdict = engine.judge(contract.asset, counts)  # 4
    by_row = frozenset(name for name in verdict.broken - verdict.raised if rows.get(name))
    return Outcome(
        names=frozenset(count.name for count in counts),
        broken=verdict.broken,
        row_findings=tuple(finding for finding in found if f"{finding.rule} {finding.channel}" in by_row),
        fleet_findings=tuple(_fleet_findings(counts, verdict, by_row, drift)),
        stability={name: item.by_shape.index for name, item in drift.items()},
        pages=verdict.pages,
        regime_rows=tuple(rows_by_regime(fleet, known).tolist()) if known else (),
        regimes_compared=len({item.where for item in compared if item.where}),
    )


def _name(rule: Rule) -> str:
    return f"{rule.name} {rule.channel}"


def _row_findings(fleet: Fleet, rules: Sequence[Rule], broken: Counts, usual: Usual) -> list[Finding]:
    found: list[Finding] = []
    for part, counts in zip(blocks(fleet), broken, strict=True):
        chosen = {_name(rule): int(rows) for rule, rows in zip(rules, counts, strict=True) if rows}
        table = part.rows(fleet) if chosen else fleet.table
        for rule, result in results(table, [rule for rule in rules if _name(rule) in chosen], usual):
            if int(result.broken.sum()) != chosen[_name(rule)]:
                raise DataError(
                    f"validation: {_name(rule)}: expected the scan and the screening to find as many rows in the same "
                    f"units, got {chosen[_name(rule)]} and {int(result.broken.sum())}"
                )
            found += findings(table, rule, result)
    return sorted(found, key=lambda item: (item.unit, item.rule, item.channel))


def _fleet_counts(fleet: Fleet, contract: Contract) -> Iterator[Count]:
    columns, rows, units = list(map(str, fleet.table.columns)), len(fleet), len(fleet.units)
    fits = "as expected" if columns == list(contract.columns) else "others"
    yield Count("schema", float(fits != "as expected"), None, 0, "the columns of the contract", fits)
    yield Count("rows", rows, 1, None, "one row or more", f"{rows:,} rows")
    yield Count("units", units, 2, None, "two units or more", f"{units:,} units")
    for name in contract.columns:
        kind, got = _TYPES.get(name, "float32"), str(fleet.table[name].dtype) if name in columns else "none"
        yield Count(f"type {name}", float(got != kind), None, 0, kind, got)
    if contract.regimes:
        visits = units_by_regime(fleet, contract.regimes.model_dump(mode="json"))
        least, seldom = min(contract.regimes.min_units, max(1, units // 2)), int(visits.min(initial=units))
        where = ", ".join(f"{value:g}" for value in contract.regimes.points[int(visits.argmin())])
        expects = f"{least} units or more at each operating point"
        yield Count("coverage " + contract.regimes.settings[0], seldom, least, None, expects, f"{seldom} at {where}")


def _row_count(rule: Rule, rows: int, of: int, units: Sequence[str]) -> Count:
    more = f" and {len(units) - SHOWN:,} more" if len(units) > SHOWN else ""
    where = f": {', '.join(units[:SHOWN])}{more}" if units else ""
    return Count(_name(rule), rows, None, 0, rule.expects, f"{rows:,} of {of:,} rows break it{where}")


def _drift_counts(drift: dict[str, ChannelDrift], bounds: Drift) -> Iterator[Count]:
    for name, found in drift.items():
        mean, known, widened = found.by_mean.mean, found.by_mean.known, found.by_mean.mean_allowance
        shift = bounds.max_mean_shift_sigma * widened * known.spread
        least, most = known.mean - shift, known.mean + shift
        expects = f"{found.by_mean.where}a mean of {least:.7g} … {most:.7g}, as in the reference{_why(widened)}"
        yield Count(f"drift-mean {name}", mean, least, most, expects, f"{mean:.7g}")
        index, widened = found.by_shape.index, found.by_shape.index_allowance
        expects = f"a stability index of at most {bounds.max_psi * widened:g}{_why(widened)}"
        got = f"{index:.4g} ({found.by_shape.difference})"
        yield Count(f"drift {name}", index, None, bounds.max_psi * widened, expects, got)


def _why(widened: float) -> str:
    return f" ({widened:g} × the contract's bound: so much is chance in a fleet of so few units)" if widened > 1 else ""


def _fleet_findings(
    counts: Sequence[Count], verdict: Judgement, by_row: frozenset[str], drift: dict[str, ChannelDrift]
) -> Iterator[Finding]:
    for count in counts:
        if count.name not in verdict.broken or count.name in by_row:
            continue
        rule, _, channel = count.name.partition(" ")
        expects, number = count.expects, count.observed
        if count.name in verdict.unanswered:
            expects, number = "an answer", None
        elif count.name in verdict.raised:
            expects += " (it could not be evaluated)"
        elif rule == "drift":
            expects += f" ({drift[channel].by_shape.difference})"
        observed = float(number) if number is not None and np.isfinite(number) else None
        yield Finding("", 0, 0, channel or "all", rule, observed, expects, 0)
