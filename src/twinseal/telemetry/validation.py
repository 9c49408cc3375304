"""Who is let in: bad units are set aside with their reason, a bad fleet is refused, the rest is accepted.

How a fleet is examined:

1. The whole suite is applied to it.
2. Units with a finding are set aside and the suite is applied to the others, until it finds nothing more. Whatever is
   accepted has passed all of it, by itself.
3. Values that the contract lets be absent are filled with the last one before: what the twin's guard does too.
4. Findings about the fleet, too many bad units, or nobody left: refused.

Rules: nothing is dropped in silence; a rule that could not be tested is a warning, never a pass.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from twinseal.errors import DataError
from twinseal.files import write_whole
from twinseal.measures.validation import ValidationMeasures
from twinseal.telemetry.contract import Contract
from twinseal.telemetry.expectations import Outcome, apply
from twinseal.telemetry.fleet import Fleet
from twinseal.telemetry.reference import Reference
from twinseal.telemetry.rules import CHECKS
from twinseal.telemetry.screening import Finding, untested

MAX_ROUNDS = 5


@dataclass(frozen=True, eq=False)
class Validation:
    """What an examination found.

    Attributes:
        accepted: The units that passed everything; values that may be absent are filled.
        quarantined: The units that did not, as they came.
        findings: Everything found wrong, by unit; those about the fleet first.
        measures: Every number, for the gates.
        passed: Names of the expectations that held for the whole fleet.
        warned: Names of those that held only after units were set aside, and of rules that could not be tested.
        failed: Names of those that do not hold for the fleet as a whole.
        pages: The Data Docs, file name → HTML.
        refusal: Why the fleet is refused; "" when it is not.
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

    @property
    def result(self) -> Literal["PASSED", "FAILED"]:
        """The outcome, as a test-result says it."""
        return "FAILED" if self.refusal else "PASSED"

    def require(self) -> Validation:
        """Itself, when the fleet is not refused.

        Raises:
            DataError: It is; the findings are attached.
        """
        if self.refusal:
            raise DataError(
                self.refusal,
                findings=tuple(map(str, self.findings)),
                remedy="Read reports/validation, mend the source, or have the contract's owners change it.",
            )
        return self


def validate(fleet: Fleet, contract: Contract, reference: Reference | None, docs_dir: Path | None) -> Validation:
    """Examine `fleet`, and refuse it or let it in.

    Args:
        fleet: What ingest made.
        contract: What it must be.
        reference: What it is compared with; None when there is none.
        docs_dir: Where the Data Docs are written, also of a refused fleet; None writes none.

    Raises:
        DataError: The fleet is refused; the findings are attached.
        OSError: The Data Docs cannot be written.
    """
    validation = examine(fleet, contract, reference)
    for name, page in validation.pages.items() if docs_dir else ():
        write_whole(Path(str(docs_dir), name), page.encode())
    return validation.require()


def examine(fleet: Fleet, contract: Contract, reference: Reference | None = None) -> Validation:
    """Apply the suite to `fleet`; says what is wrong, and does not raise for it. See the module for the steps.

    Raises:
        DataError: Great Expectations did not do its work.
    """
    first = last = apply(fleet, contract, reference)  # 1
    accepted, found = fleet, list(first.row_findings)
    for _ in range(MAX_ROUNDS):  # 2
        bad = {finding.unit for finding in last.row_findings}
        if not bad or bad == set(accepted.units):
            break
        accepted = accepted.without(bad)
        last = apply(accepted, contract, reference)
        found += last.row_findings
    accepted = accepted.without({finding.unit for finding in last.row_findings})
    quarantined = fleet.without(accepted.units)
    filled, count = fill(accepted, contract)  # 3
    not_tested = (*untested(contract, units=len(fleet.units)), *(() if reference else ("drift",)))
    return Validation(
        accepted=filled,
        quarantined=quarantined,
        findings=(*last.fleet_findings, *sorted(found)),
        measures=_measures(fleet, quarantined, [*found, *last.fleet_findings], first, last, values_filled=count),
        passed=tuple(sorted(first.names - first.broken - last.broken)),
        warned=tuple(sorted(first.broken - last.broken)) + tuple(f"{name} (not tested)" for name in not_tested),
        failed=tuple(sorted(last.broken)),
        pages=first.pages,
        refusal=_refusal(fleet, accepted, contract, last),  # 4
    )


def fill(fleet: Fleet, contract: Contract) -> tuple[Fleet, int]:
    """The fleet with absent values of channels that may be absent replaced by the last one before; and how many."""
    names = [name for name, channel in contract.all_channels.items() if channel.missing_share]
    absent = int(fleet.table[names].isna().to_numpy().sum()) if names else 0
    if not absent:
        return fleet, 0
    return Fleet(fleet.table.assign(**fleet.table.groupby("unit")[names].ffill())), absent


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
        return f"telemetry of '{contract.asset}': {last.fleet_findings[0]}"
    return ""
