from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from assurance.candidate import estimates
from twinseal.assurance.report.caveats import find, rmse_interval

from twinseal.assurance.case import Case, Estimate
from twinseal.evidence import Statement

CaseOf = Callable[..., Case]


def measured(statements: dict[str, Statement], stage: str) -> dict[str, Any]:
    found: dict[str, Any] = statements[stage].predicate["twinseal_measures"]
    return found


def grave(case: Case) -> list[str]:
    return [caveat.text for caveat in find(case) if caveat.grave]


def test_evidence_in_order_has_doubts_but_no_grave_one(case_of: CaseOf) -> None:
    found = find(case_of())
    assert [caveat for caveat in found if caveat.grave] == []
    assert {caveat.section for caveat in found} == {
        "data",
        "accuracy",
        "evasion",
        "injection",
        "poisoning",
        "provenance",
    }


def test_an_attack_beyond_the_certificate_is_grave(case_of: CaseOf, statements: dict[str, Statement]) -> None:
    measured(statements, "evade")["worst"]["eps-0.1"]["rmse_cycles"] = 99.0
    assert grave(case_of(statements)) == [
        "An attack beats the certificate: worst attack on each window at ε 0.1 reaches 99, certified at most 14.9 "
        "(rmse_cycles). One of them is wrong."
    ]


def test_a_builder_and_an_assessor_who_disagree_are_grave(case_of: CaseOf, statements: dict[str, Statement]) -> None:
    measured(statements, "evade")["clean"]["rmse_cycles"] = 14.0
    expected = "The builder says 8.30 cycles (test/network), the assessor measured 14.00"
    assert any(text.startswith(expected) for text in grave(case_of(statements)))


def test_raised_flags_are_grave(case_of: CaseOf, statements: dict[str, Statement]) -> None:
    measured(statements, "evade")["flags"] = {"raised": 1, "names": ["no-growth"]}
    assert grave(case_of(statements)) == ["Sanity check raised: no-growth."]


def test_a_figure_that_contradicts_the_signed_number_is_grave(case_of: CaseOf) -> None:
    better = tuple(replace(item, network=item.true_rul) for item in estimates())
    assert grave(case_of(estimates=better)) == [
        "The windows in the figure give an RMSE of 0.00 cycles, the signed record says 8.30. One of them is wrong."
    ]


def test_a_missing_certificate_is_said(case_of: CaseOf, statements: dict[str, Statement]) -> None:
    del measured(statements, "evade")["certified"]
    del statements["train"].predicate["runDetails"]["twinseal_measures"]["certified"]
    assert any(caveat.text.startswith("No certificate") for caveat in find(case_of(statements)))


def test_a_shorter_retraining_is_said(case_of: CaseOf) -> None:
    assert any("10 epochs, the candidate for 20" in caveat.text for caveat in find(case_of()))


def test_stages_that_ran_with_different_code_are_said(case_of: CaseOf, statements: dict[str, Statement]) -> None:
    listed = statements["train"].predicate["buildDefinition"]["resolvedDependencies"]
    next(item for item in listed if item["name"] == "code")["digest"] = {"sha256": "0" * 64}
    assert any("same code" in caveat.text and "train 00000000" in caveat.text for caveat in find(case_of(statements)))


def test_no_missed_failure_in_n_windows_is_not_none(case_of: CaseOf) -> None:
    assert any("No missed failure in 17 failing windows still allows" in caveat.text for caveat in find(case_of()))


def test_doubts_are_found_without_any_evidence(case_of: CaseOf) -> None:
    assert find(case_of({}, estimates=(), history=(), lives=(), findings=()))


def test_the_interval_holds_the_error_and_is_the_same_every_time() -> None:
    low, high = rmse_interval(estimates())
    assert low < 8.3 < high
    assert rmse_interval(estimates()) == (low, high)


def test_the_interval_of_one_unit_is_a_point_and_of_none_is_refused() -> None:
    one = [Estimate("a", 10.0, 13.0, None), Estimate("a", 10.0, 14.0, None)]
    assert rmse_interval(one) == pytest.approx((12.5**0.5, 12.5**0.5))
    with pytest.raises(ValueError, match="expected at least one estimate"):
        rmse_interval([])


def test_poison_that_improves_the_model_is_called_chance(case_of: CaseOf, statements: dict[str, Statement]) -> None:
    measured(statements, "poison")["attacks"][0]["rmse_increase_cycles"] = -5.5
    expected = "1 of 12 poisonings made the error smaller, by up to 5.5 cycles"
    assert any(caveat.text.startswith(expected) for caveat in find(case_of(statements)))
