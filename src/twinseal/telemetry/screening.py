"""The row rules of the contract, in numpy: which rows of which unit break which rule, without Great Expectations.

`twinseal.telemetry.scan` counts the same rows in SQL, for fleets of any size, and Great Expectations judges the counts.
Here the rules are applied directly, for callers that ask often (would validation have noticed this poisoned unit?) or
cannot wait seconds for an import; and to the units in which the scan found a broken rule. A test holds both equal.

    unique       (unit, cycle) occurs once
    cycles       a unit's cycles are 1, 2, 3, … without gaps
    history      a unit has `min_cycles` rows or more
    label        rul falls by one a cycle; to 0 in a unit that failed, to more than 0 in a censored one; or it is
                 unknown in every row of a censored unit
    missing      a value is present; it may be missing as often as the contract allows, but not in the first cycle
    range        minimum <= value <= maximum
    resolution   where the contract knows it: a reading is a whole number of steps of the recorded digits
    regime       if the contract has several operating points: the row was taken at one of them
    change       |value - previous value| <= max_change_per_cycle for each cycle in between; within one regime.
                 This and the range leave room for the rounding of float32, as the twin's guard does: `Channel.rounding`
    consistency  a sensor agrees with the others, over ten cycles and over the whole unit; within one regime
    stuck        a sensor that is read does not repeat a value for longer than sensors of this fleet do
    copy         the history is not that of another unit, also shifted in time or with a little noise

Rules: NaN breaks `missing` and nothing else; infinities break `range`. `untested_rules` names the
rules that cannot be applied, so that they do not count as passed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from twinseal.telemetry.consistency import Agreement
from twinseal.telemetry.contract import Channel, Contract
from twinseal.telemetry.copies import Copy, find_copies
from twinseal.telemetry.fleet import Fleet
from twinseal.telemetry.rules import CHECKS, RuleResult
from twinseal.telemetry.stuck import allowed_runs, longest_runs
from twinseal.telemetry.unit_rows import parts_of

MIN_UNITS_FOR_CONSISTENCY = 10
"""Fewer units do not show what is usual in the fleet."""

BESIDE_OTHERS = ("consistency", "stuck", "copy")
"""The rules that compare a unit with the other units."""


@dataclass(frozen=True, order=True)
class Finding:
    """One rule broken by one channel of one unit, or by the fleet as a whole.

    Attributes:
        unit: Which machine; "" for the fleet as a whole.
        first_cycle: Cycle of the first row that breaks the rule; 0 for the fleet as a whole.
        last_cycle: Cycle of the last such row.
        channel: Which channel, or key column.
        rule: Which rule.
        observed: The worst value; None if there is none.
        bound: What was expected, in words, with its unit.
        rows: How many rows break the rule.
    """

    unit: str
    first_cycle: int
    last_cycle: int
    channel: str
    rule: str
    observed: float | None
    bound: str
    rows: int

    def __str__(self) -> str:
        """One line for people: where, expected, got."""
        if not self.unit:
            return f"fleet, {self.channel}: {self.rule}: expected {self.bound}, got {_number_in_words(self.observed)}"
        cycles = f"cycle {self.first_cycle}" if self.rows == 1 else f"cycles {self.first_cycle}–{self.last_cycle}"
        count = "" if self.rows == 1 else f" ({self.rows} rows)"
        where = f"{self.unit}, {cycles}, {self.channel}"
        return f"{where}: {self.rule}: expected {self.bound}, got {_number_in_words(self.observed)}{count}"

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Rule:
    """One rule of the contract about one channel (or the keys).

    Attributes:
        name: One of CHECKS.
        channel: The channel that a finding names.
        columns: The columns that the rule reads.
        bounds: The numbers of the rule, as plain data.
        expects: The bound in words, with its unit.
    """

    name: str
    channel: str
    columns: tuple[str, ...]
    bounds: Mapping[str, Any]
    expects: str

    def check(self, table: pd.DataFrame) -> RuleResult:
        """Apply the rule to rows sorted by unit and cycle."""
        return CHECKS[self.name](table, **self.bounds)


def screen(fleet: Fleet, contract: Contract) -> tuple[Finding, ...]:
    """Every finding of a row rule of the contract, by unit.

    Law: `outcome.apply(fleet, contract, None).row_findings` are the same.
    """
    rules = row_rules(contract, units=len(fleet.units))
    found = [
        finding
        for rule, result in results(fleet.table, rules, Usual.of(fleet.table, rules))
        for finding in findings(fleet.table, rule, result)
    ]
    return tuple(sorted(found, key=lambda item: (item.unit, item.rule, item.channel)))


@dataclass(frozen=True)
class Usual:
    """What is usual in a fleet: for the rules that compare a unit with the others.

    Attributes:
        agreement: How its sensors agree; None if that is not compared.
        runs: For how many rows a sensor may repeat a value, by channel.
        copies: The units that have the history of another one, by name.
    """

    agreement: Agreement | None
    runs: Mapping[str, float]
    copies: Mapping[str, Copy]

    @classmethod
    def of(cls, table: pd.DataFrame, rules: Sequence[Rule]) -> Usual:
        """What is usual in a fleet, by its rows in order of unit and cycle."""
        by_name = {rule.name: rule.bounds for rule in rules}
        agreement = by_name.get("consistency")
        sensors = [rule.channel for rule in rules if rule.name == "stuck"]
        longest = [longest_runs(part, sensors) for part in parts_of(table)] if sensors else []
        return cls(
            Agreement.of(table, **{key: value for key, value in agreement.items() if key != "channel"})
            if agreement
            else None,
            allowed_runs(np.concatenate(longest), sensors) if longest else {},
            find_copies(table, **by_name["copy"]) if "copy" in by_name else {},
        )


def results(table: pd.DataFrame, rules: Iterable[Rule], usual: Usual) -> Iterator[tuple[Rule, RuleResult]]:
    """The result of each rule.

    Args:
        table: The rows of whole units, sorted by unit and cycle; all of a fleet or some.
        rules: The rules.
        usual: What is usual in the fleet.
    """
    excess = None
    for rule in rules:
        if rule.name == "consistency" and usual.agreement is not None:
            excess = usual.agreement.excess(table) if excess is None else excess  # of every channel
            mine = excess[:, usual.agreement.names.index(rule.channel)]
            yield rule, RuleResult(mine > 1, mine, mine)
        elif rule.name == "stuck":
            yield rule, CHECKS["stuck"](table, channel=rule.channel, most=usual.runs[rule.channel])
        elif rule.name == "copy":
            yield rule, CHECKS["copy"](table, **rule.bounds, copies=usual.copies)
        else:
            yield rule, rule.check(table)


def findings(table: pd.DataFrame, rule: Rule, result: RuleResult) -> tuple[Finding, ...]:
    """One finding for each unit that breaks `rule`."""
    rows = np.flatnonzero(result.broken)
    units = table["unit"].to_numpy(dtype=object)[rows]
    parts = np.split(rows, np.flatnonzero(units[1:] != units[:-1]) + 1) if len(rows) else []
    return tuple(_finding(table, rule, result, part) for part in parts)


def _finding(table: pd.DataFrame, rule: Rule, result: RuleResult, rows: npt.NDArray[np.intp]) -> Finding:
    cycles = table["cycle"].to_numpy()[rows]
    worst = rows[np.argmax(np.nan_to_num(result.excess[rows], nan=-np.inf))]
    observed = float(result.observed[worst])
    return Finding(
        unit=str(table["unit"].iloc[rows[0]]),
        first_cycle=int(cycles.min()),
        last_cycle=int(cycles.max()),
        channel=rule.channel,
        rule=rule.name,
        observed=observed if np.isfinite(observed) else None,
        bound=rule.expects,
        rows=len(rows),
    )


def row_rules(contract: Contract, *, units: int) -> tuple[Rule, ...]:
    """Every row rule of the contract that can be applied to a fleet of so many units, in reading order."""
    least = contract.min_cycles
    keys: tuple[Rule, ...] = (
        Rule("unique", "cycle", ("unit", "cycle"), {}, "each cycle once"),
        Rule("cycles", "cycle", ("unit", "cycle"), {}, "1, 2, 3, … without gaps"),
        Rule("history", "cycle", ("unit", "cycle"), {"least": least}, f"{least} cycles or more"),
        Rule(
            "label",
            "rul",
            ("unit", "cycle", "censored", "rul"),
            {},
            "one less each cycle, down to 0 at a failure and to more than 0 where the history is cut",
        ),
    )
    known = contract.regimes.model_dump(mode="json") if contract.regimes else None
    if known:
        settings = tuple(known["settings"])
        expects = f"{', '.join(settings)} at an operating point of the contract"
        keys += (Rule("regime", settings[0], ("unit", "cycle", *settings), {"known": known}, expects),)
    by_channel = (
        rule for name, channel in contract.all_channels.items() for rule in _channel_rules(name, channel, known)
    )
    return (*keys, *by_channel, *(_rules_beside_others(contract) if units >= MIN_UNITS_FOR_CONSISTENCY else ()))


def untested_rules(contract: Contract, *, units: int) -> tuple[str, ...]:
    """The rules that cannot be applied to a fleet of so few units."""
    every = _rules_beside_others(contract)
    return tuple(dict.fromkeys(rule.name for rule in every)) if units < MIN_UNITS_FOR_CONSISTENCY else ()


def _channel_rules(name: str, channel: Channel, known: dict[str, Any] | None) -> tuple[Rule, ...]:
    share, change, slack = channel.missing_share, channel.max_change_per_cycle, channel.rounding
    bounds = {"minimum": channel.minimum - slack, "maximum": channel.maximum + slack}
    allowed = f"missing in at most {share:.1%} of a unit's cycles, and not in the first" if share else "a value"
    step = channel.resolution
    recorded = Rule(
        "resolution", name, (name,), {"channel": name, "step": step}, f"steps of {_with_unit(step, channel)}"
    )
    return (
        Rule("missing", name, ("unit", "cycle", name), {"channel": name, "share": share}, allowed),
        Rule("range", name, (name,), {"channel": name} | bounds, _range_in_words(channel)),
        *((recorded,) if step else ()),
        Rule(
            "change",
            name,
            _columns(("unit", "cycle", name), known),
            {"channel": name, "most": change, "rounding": slack} | ({"known": known} if known else {}),
            f"a change of at most {_with_unit(change, channel)} a cycle" + (" within a regime" if known else ""),
        ),
    )


def _columns(columns: tuple[str, ...], known: dict[str, Any] | None) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*columns, *(known["settings"] if known else ()))))


def _rules_beside_others(contract: Contract) -> tuple[Rule, ...]:
    sensors = [name for name, channel in contract.sensors.items() if channel.used]
    known = contract.regimes.model_dump(mode="json") if contract.regimes else None
    stuck = "a value that changes, as in the other units (got: rows in a row with the same value)"
    copy = "a history of its own, not another unit's (got: its distance from one, as a share of the usual distance)"
    return (
        *_consistency_rules(contract),
        *(Rule("stuck", name, ("unit", name), {"channel": name}, stuck) for name in sensors),
        *((Rule("copy", "unit", ("unit", *sensors), {"sensors": sensors, "known": known}, copy),) if sensors else ()),
    )


def _consistency_rules(contract: Contract) -> tuple[Rule, ...]:
    compared, bounds = _compared_channels(contract), contract.consistency
    if len(compared) < 2:
        return ()
    shared = {
        "ranges": {name: [channel.minimum, channel.maximum] for name, channel in compared.items()},
        "cycles": bounds.window_cycles,
        "most_window": bounds.max_window_sigma,
        "most_unit": bounds.max_unit_sigma,
        "least_correlation": bounds.min_correlation,
    }
    known = contract.regimes.model_dump(mode="json") if contract.regimes else None
    if known:
        shared["known"] = known
    expects = (
        f"agreement with the other sensors, within {bounds.max_window_sigma:g} σ over {bounds.window_cycles} cycles "
        f"and {bounds.max_unit_sigma:g} σ over the unit (got: σ as a share of its bound)"
    )
    return tuple(
        Rule("consistency", name, _columns(("unit", "cycle", *compared), known), {"channel": name, **shared}, expects)
        for name in compared
        if name in contract.sensors
    )


def _compared_channels(contract: Contract) -> dict[str, Channel]:
    return {name: channel for name, channel in contract.all_channels.items() if channel.used}


def _range_in_words(channel: Channel) -> str:
    return f"{channel.minimum:g} … {_with_unit(channel.maximum, channel)}"


def _with_unit(value: float, channel: Channel) -> str:
    return f"{value:g}" if channel.unit == "1" else f"{value:g} {channel.unit}"


def _number_in_words(value: float | None) -> str:
    return "none" if value is None else f"{value:.7g}"
