"""Provenance: digests, the stages that ran with something else, and which tests ran."""

from __future__ import annotations

from collections.abc import Callable

from twinseal.assurance.case import Case
from twinseal.assurance.report.section import all_caveats, build_all
from twinseal.assurance.report.sections.provenance import SECTION, counts_of_tests, envelopes, environment, parameters
from twinseal.evidence import Statement

CaseOf = Callable[..., Case]


def test_stages_that_ran_with_different_code_are_said(case_of: CaseOf, statements: dict[str, Statement]) -> None:
    listed = statements["train"].predicate["buildDefinition"]["resolvedDependencies"]
    next(item for item in listed if item["name"] == "code")["digest"] = {"sha256": "0" * 64}
    found = [caveat.text for caveat in SECTION.build(case_of(statements)).caveats]
    assert any("same code" in text and "train 00000000" in text for text in found)


def test_tests_that_ran_are_counted_by_attack(case_of: CaseOf, statements: dict[str, Statement]) -> None:
    statements["evade"].predicate["passedTests"] = [
        "evasion/attacks/a/pgd/any/eps-0.1",
        "evasion/attacks/b",
        "false_age",
    ]
    statements["evade"].predicate["warnedTests"] = ["evasion/attacks/c"]
    table = counts_of_tests(case_of(statements))
    assert table is not None
    assert ("evade", "evasion", "2", "1") in table.rows
    assert ("poison", "backdoor", "1", "0") in table.rows
    assert ("evade", "a false age", "1", "0") in table.rows
    assert ("validate", "expectations of the contract", "1", "0") in table.rows


def test_tables_of_no_evidence_are_none(case_of: CaseOf) -> None:
    case = case_of({}, estimates=())
    assert environment(case) is parameters(case) is envelopes(case) is counts_of_tests(case) is None


def test_caveats_are_found_without_any_evidence_and_every_section_has_its_own(case_of: CaseOf) -> None:
    assert all_caveats(build_all(case_of({}, estimates=(), history=(), lives=(), findings=())))
    with_caveats = {item.section.id for item in build_all(case_of()) if item.content.caveats}
    assert {"data", "accuracy", "evasion", "sensors", "guard", "guard-aware", "injection"} <= with_caveats
    assert {"poisoning", "provenance"} <= with_caveats
