"""Accuracy: one evaluation set, one n, and what chance may have done."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.assurance.candidate import Kind, estimates, holder
from twinseal.assurance.case import Case, Estimate
from twinseal.assurance.report.blocks import Folded
from twinseal.assurance.report.sections.accuracy import (
    SECTION,
    accuracy,
    errors_as_built,
    errors_by_unit,
    failures,
    failures_as_built,
    intervals,
    rmse_interval,
    unit_errors,
)
from twinseal.evidence import Statement

CaseOf = Callable[..., Case]


def caveats(case: Case) -> list[str]:
    return [caveat.text for caveat in SECTION.build(case).caveats]


def grave(case: Case) -> list[str]:
    return [caveat.text for caveat in SECTION.build(case).caveats if caveat.grave]


def test_network_and_boosting_are_measured_on_the_same_units(case_of: CaseOf) -> None:
    table = accuracy(case_of())
    assert table is not None
    assert [row[0] for row in table.rows] == [
        "network",
        "network that reads the signed baseline",
        "gradient boosting, for comparison",
    ]
    assert table.headers[:3] == ("estimates of", "RMSE [cycles]", "NASA score")
    counts = {row[table.headers.index("windows") :] for row in table.rows}
    assert counts == {("100", "100")}


def test_errors_and_missed_failures_stand_apart_each_with_its_own_windows(case_of: CaseOf) -> None:
    """RMSE is of the test windows, missed failures of the failing windows of test and validation: two n, two tables."""
    errors, missed = accuracy(case_of()), failures(case_of())
    assert errors is not None
    assert missed is not None
    assert "test windows" in errors.caption
    assert "failing windows of test and validation" in missed.caption
    assert not any("fail" in header for header in errors.headers)
    assert missed.headers == ("estimates of", "missed failures", "failing windows", "failing units")
    assert [row[0] for row in missed.rows] == [row[0] for row in errors.rows]
    assert {row[1:] for row in missed.rows} == {("0.0 %", "129", "34")}


def test_a_family_without_a_signed_baseline_has_no_row_for_it(case_of: CaseOf) -> None:
    table = accuracy(case_of(kind="accurate"))
    assert table is not None
    assert [row[0] for row in table.rows] == ["network", "gradient boosting, for comparison"]


def test_columns_stand_in_the_order_of_the_section_though_records_sort_their_keys(
    case_of: CaseOf, statements: dict[str, Statement]
) -> None:
    signed = {stage: Statement.from_bytes(item.to_bytes()) for stage, item in statements.items()}
    assert accuracy(case_of(signed)) == accuracy(case_of(statements))
    train = case_of(signed).measures.train
    assert train is not None
    held = intervals(train)
    assert held is not None
    assert [row[0] for row in held.rows] == ["network for any unit", "network that reads the signed baseline"]


def test_what_the_builder_measured_stands_apart_by_split(case_of: CaseOf) -> None:
    train = case_of().measures.train
    assert train is not None
    built, missed, held = errors_as_built(train), failures_as_built(train), intervals(train)
    assert built is not None
    assert missed is not None
    assert held is not None
    assert [row[0] for row in missed.rows] == [row[0] for row in built.rows]
    assert not set(missed.headers[1:]) & set(built.headers[1:])
    by_name = {row[0]: row[1] for row in built.rows}
    assert by_name["network, validation windows"] == "12.20"
    assert by_name["cross-validation: network for any unit"] == "9.10"
    assert held.rows[0] == ("network for any unit", "90.5 %", "1.2 %", "24.00", "90.0 %", "100")
    assert held.headers[-2:] == ("intervals hold on the test", "test windows")


def test_errors_by_unit_begin_with_the_largest_and_the_rest_is_folded(case_of: CaseOf) -> None:
    first, rest = errors_by_unit(estimates())
    assert first is not None
    assert isinstance(rest, Folded)
    assert len(first.rows) == 10
    assert sum(len(block.rows) for block in rest.blocks if hasattr(block, "rows")) == 90
    assert first.headers == ("unit", "windows", "RMSE [cycles]", "largest overestimate [cycles]")
    errors = [float(row[2]) for row in first.rows]
    assert errors == sorted(errors, reverse=True)
    assert errors_by_unit(()) == (None, None)


def test_the_latest_estimate_of_a_unit_is_the_one_furthest_above_the_truth() -> None:
    listed = [Estimate("a", 10.0, 7.0, None), Estimate("a", 10.0, 14.0, None), Estimate("b", 10.0, 9.0, None)]
    a, b = unit_errors(listed)
    assert (a.unit, a.windows, a.rmse, a.latest) == ("a", 2, pytest.approx(12.5**0.5), 4.0)
    assert (b.unit, b.latest) == ("b", 0.0)


@pytest.mark.parametrize(
    ("kind", "price"),
    [
        ("accurate", ""),
        ("robust", " That is the price of the defence."),
        ("certified-sensors", " That is the price of the median's certificate."),
    ],
)
def test_the_price_of_a_defence_is_named_only_where_there_is_one(case_of: CaseOf, kind: Kind, price: str) -> None:
    expected = f"Gradient boosting has an error 1.1 cycles smaller than the network's.{price} See under evasion"
    assert any(text.startswith(expected) for text in caveats(case_of(kind=kind)))


def test_no_missed_failure_in_n_units_is_not_none_and_units_are_counted(case_of: CaseOf) -> None:
    assert any(
        "No missed failure in 34 failing units still allows a true share of up to 9 %" in c for c in caveats(case_of())
    )


def test_where_a_failure_was_missed_nothing_is_said_of_none(case_of: CaseOf, statements: dict[str, Statement]) -> None:
    holder(statements["evade"])["evasion"]["clean"]["missed_failure_share"] = 0.03
    assert not any("rule of three" in text for text in caveats(case_of(statements)))


def test_a_builder_and_an_assessor_who_disagree_are_grave(case_of: CaseOf, statements: dict[str, Statement]) -> None:
    assert grave(case_of()) == []
    holder(statements["evade"])["evasion"]["clean"]["rmse_cycles"] = 14.0
    expected = "The builder reports an RMSE of 8.30 cycles, the assessor measured 14.00"
    assert any(text.startswith(expected) for text in grave(case_of(statements)))


def test_a_figure_that_contradicts_the_signed_number_is_grave(case_of: CaseOf) -> None:
    better = tuple(replace(item, network=item.true_rul) for item in estimates())
    assert grave(case_of(estimates=better)) == [
        "The windows in the figure give an RMSE of 0.00 cycles, the signed record says 8.30. One of them is wrong."
    ]


def test_without_estimates_the_page_says_what_is_missing(case_of: CaseOf) -> None:
    assert any("No estimates of single windows were kept" in text for text in caveats(case_of(estimates=())))


def test_the_interval_holds_the_error_and_is_the_same_every_time() -> None:
    low, high = rmse_interval(estimates())
    assert low < 8.3 < high
    assert rmse_interval(estimates()) == (low, high)


def test_the_interval_of_one_unit_is_a_point_and_of_none_is_refused() -> None:
    one = [Estimate("a", 10.0, 13.0, None), Estimate("a", 10.0, 14.0, None)]
    assert rmse_interval(one) == pytest.approx((12.5**0.5, 12.5**0.5))
    with pytest.raises(ValueError, match="expected at least one estimate"):
        rmse_interval([])
