"""Which units are accepted: bad units go to quarantine with their reason, a bad fleet is refused, the rest is accepted.

How a fleet is examined:

1. Single values out of range count as missing, where the contract bears them (`outlier_share`); each is a finding.
   Then the whole contract is applied to it (`outcome`).
2. Units with a finding go to quarantine, and the suite is applied to the other units, until there are no more findings.
   The accepted units have passed the whole suite by themselves.
3. Missing values that the contract allows are filled with the last value before, as the guard in the twin does.
4. The fleet is refused if there are findings about the fleet as a whole, too many bad units, or no unit is left.

Rules: nothing is dropped in silence; a rule that could not be tested is a warning, never a pass.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from twinseal.errors import DataError
from twinseal.files import write_whole
from twinseal.measures.keys import regime_key
from twinseal.measures.validation import ValidationMeasures
from twinseal.telemetry.contract import Contract
from twinseal.telemetry.engines import DUCKDB, Engine
from twinseal.telemetry.fleet import Fleet
from twinseal.telemetry.outcome import Outcome, apply
from twinseal.telemetry.reference import FEW_UNITS, Reference
from twinseal.telemetry.rules import CHECKS
from twinseal.telemetry.screening import Finding, findings, row_rules, untested_rules

MAX_ROUNDS = 5
OUTLIER = "outlier"  # of a finding about a value that counts as missing


@dataclass(frozen=True, eq=False)
class Validation:
    """The result of an examination.

    Attributes:
        accepted: The units that passed everything; missing values that the contract allows are filled.
        quarantined: The units that did not, unchanged.
        findings: All findings, by unit; those about the fleet as a whole come first.
        measures: Every number, for the gates.
        passed: Names of the expectations that the whole fleet meets.
        warned: Names of those met only without the quarantined units, and of rules that could not be tested.
        failed: Names of those that the fleet does not meet.
        pages: The Data Docs, file name → HTML.
        refusal: Why the fleet is refused; "" if it is not.
        remedy: What to do about a refusal.
    """

    accepted: Fleet
    quarantined: Fleet
    findings: tuple[Finding, ...]
    measures: ValidationMeasures
    passed: tuple[str, ...]
    warned: tuple[str, ...]
    failed: tuple[str, ...]
    pages: dict[str, str]
    refusal: str
    remedy: str = ""

    @property
    def result(self) -> Literal["PASSED", "FAILED"]:
        """The outcome, in the words of a test-result."""
        return "FAILED" if self.refusal else "PASSED"

    def require(self) -> Validation:
        """This validation, if the fleet is accepted.

        Raises:
            DataError: It is refused; the findings are attached.
        """
        if self.refusal:
            raise DataError(self.refusal, findings=tuple(map(str, self.findings)), remedy=self.remedy)
        return self


def validate(fleet: Fleet, contract: Contract, reference: Reference | None, docs_dir: Path | None) -> Validation:
    """Examine `fleet`, and accept or refuse it.

    Args:
        fleet: The telemetry from ingest.
        contract: What it must be.
        reference: What it is compared with; None if there is no reference.
        docs_dir: Where the Data Docs are written, also for a refused fleet; None writes none.

    Raises:
        DataError: The fleet is refused; the findings are attached.
        OSError: The Data Docs cannot be written.
    """
    validation = examine(fleet, contract, reference)
    for name, page in validation.pages.items() if docs_dir else ():
        write_whole(Path(str(docs_dir), name), page.encode())
    return validation.require()


def examine(
    fleet: Fleet, contract: Contract, reference: Reference | None = None, engine: Engine = DUCKDB
) -> Validation:
    """Apply the suite to `fleet`. Findings are returned, not raised. The steps are numbered in the module's docstring.

    Raises:
        DataError: The engine or Great Expectations did not do its work.
    """
    kept, outliers = without_outliers(fleet, contract)  # 1
    first = last = apply(kept, contract, reference, engine)
    accepted, found = kept, list(first.row_findings)
    for _ in range(MAX_ROUNDS):  # 2
        bad = {finding.unit for finding in last.row_findings}
        if not bad or bad == set(accepted.units):
            break
        accepted = accepted.without(bad)
        last = apply(accepted, contract, reference, engine)
        found += last.row_findings
    accepted = accepted.without({finding.unit for finding in last.row_findings})
    quarantined = fleet.without(accepted.units)
    filled, count = fill(accepted, contract)  # 3
    not_tested = (*untested_rules(contract, units=len(fleet.units)), *(() if reference else ("drift",)))
    return Validation(
        accepted=filled,
        quarantined=quarantined,
        findings=(*last.fleet_findings, *sorted([*found, *outliers])),
        measures=_measures(
            fleet, quarantined, [*found, *outliers, *last.fleet_findings], first, last, values_filled=count
        ),
        passed=tuple(sorted(first.names - first.broken - last.broken)),
        warned=(
            *sorted(first.broken - last.broken),
            *sorted({f"outlier {finding.channel} (taken as missing)" for finding in outliers}),
            *(f"{name} (not tested)" for name in not_tested),
        ),
        failed=tuple(sorted(last.broken)),
        pages=first.pages,
        refusal=_refusal(fleet, accepted, contract, last),  # 4
        remedy=_remedy(accepted, last),
    )


def without_outliers(fleet: Fleet, contract: Contract) -> tuple[Fleet, tuple[Finding, ...]]:
    """The fleet with single values out of range taken as missing, where the contract bears them; and what they were."""
    found: list[Finding] = []
    changed = {}
    for rule in row_rules(contract, units=len(fleet.units)):
        share = contract.all_channels[rule.channel].outlier_share if rule.name == "range" else 0.0
        if not share or not len(fleet):
            continue
        result = rule.check(fleet.table)
        often = np.add.reduceat(result.broken, fleet.starts) > share * fleet.lengths
        single = result.broken & ~np.repeat(often, fleet.lengths)
        if single.any():
            changed[rule.channel] = np.where(single, np.float32(np.nan), fleet.table[rule.channel].to_numpy())
            single_values = replace(result, broken=single)
            found += [replace(item, rule=OUTLIER) for item in findings(fleet.table, rule, single_values)]
    return (Fleet(fleet.table.assign(**changed)) if changed else fleet), tuple(found)


def fill(fleet: Fleet, contract: Contract) -> tuple[Fleet, int]:
    """The fleet with allowed missing values replaced by the last value before, and how many were replaced."""
    names = [name for name, channel in contract.all_channels.items() if channel.missing_share]
    starts, row = np.repeat(fleet.starts, fleet.lengths), np.arange(len(fleet))
    filled, count = {}, 0
    for name in names:
        values = fleet.table[name].to_numpy()
        absent = np.isnan(values)
        if absent.any():
            # The last row with a value; the unit's first row, present or not, if there is none before.
            last = np.maximum(np.maximum.accumulate(np.where(absent, 0, row)), starts)
            filled[name], count = values[last], count + int(absent.sum())
    return (Fleet(fleet.table.assign(**filled)), count) if count else (fleet, 0)


def _measures(
    fleet: Fleet, quarantined: Fleet, found: list[Finding], first: Outcome, last: Outcome, *, values_filled: int
) -> ValidationMeasures:
    by_rule = Counter(finding.rule for finding in found)
    units = len(fleet.units)
    return ValidationMeasures(
        rows_total=len(fleet),
        units_total=units,
        units_quarantined=len(quarantined.units),
        quarantined_share=len(quarantined.units) / units if units else 1.0,
        expectations_total=len(first.names),
        expectations_failed=len(first.broken),
        findings_by_rule={str(rule): by_rule.get(rule, 0) for rule in sorted({*CHECKS, *by_rule})},
        drift_compared=int(bool(last.stability)),
        drift_psi={channel: round(index, 9) for channel, index in sorted(last.stability.items())},
        drift_max_psi=round(max(last.stability.values()), 9) if last.stability else None,
        drift_regimes=last.regimes_compared if last.regime_rows else None,
        regime_rows={regime_key(k): rows for k, rows in enumerate(last.regime_rows)} or None,
        values_filled=values_filled,
    )


def _refusal(fleet: Fleet, accepted: Fleet, contract: Contract, last: Outcome) -> str:
    units, bad = len(fleet.units), len(fleet.units) - len(accepted.units)
    if not len(accepted):
        return f"telemetry of '{contract.asset}': expected units that meet the contract, got none of {units}"
    if bad > contract.max_quarantined_share * units:
        most = f"{contract.max_quarantined_share:.0%}"
        return f"telemetry of '{contract.asset}': expected at most {most} bad units, got {bad} of {units}"
    if last.row_findings:
        return f"telemetry of '{contract.asset}': expected no more findings after {MAX_ROUNDS} rounds, got some"
    if last.fleet_findings:
        broken = _by_rule(last.fleet_findings)
        whole = "expected a fleet that meets the contract as a whole"
        return f"telemetry of '{contract.asset}': {whole}, got findings: {broken}"
    return ""


def _by_rule(findings: tuple[Finding, ...]) -> str:
    """The broken rules and their channels in one line; the findings themselves are shown below it."""
    channels: dict[str, list[str]] = {}
    for finding in findings:
        channels.setdefault(finding.rule, []).append(finding.channel)
    return "; ".join(f"{rule} ({', '.join(names)})" for rule, names in channels.items())


def _remedy(accepted: Fleet, last: Outcome) -> str:
    advice = "Read reports/validation, correct the source, or ask the owners of the contract to change it."
    drifted = any(finding.rule.startswith("drift") for finding in last.fleet_findings)
    if drifted and len(accepted.units) < FEW_UNITS:
        return (
            f"Bring {FEW_UNITS} units or more: {len(accepted.units)} units can differ from policy/reference.yaml by "
            f"chance alone. If more units differ too: {advice[:1].lower()}{advice[1:]}"
        )
    return advice
