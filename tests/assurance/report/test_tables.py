from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from twinseal.assurance.case import Case
from twinseal.assurance.report import tables
from twinseal.evidence import Statement

CaseOf = Callable[..., Case]


@pytest.mark.parametrize("value", [None, math.nan, math.inf, True, [], {}, [1], 10**400])
def test_what_is_no_number_is_shown_as_a_dash_never_as_zero(value: Any) -> None:
    assert tables.shown("rmse_cycles", value) == "—"


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("missed_failure_share", 0.031, "3.1 %"),
        ("share", 0.02, "2.0 %"),
        ("rmse_cycles", 12, "12.00"),
        ("windows", 100, "100"),
        ("rows_total", 29373, "29 373"),
        ("nasa_score", 2742.246, "2 742"),
        ("name", "backdoor", "backdoor"),
    ],
)
def test_a_measure_is_shown_in_its_unit(key: str, value: Any, expected: str) -> None:
    assert tables.shown(key, value) == expected


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [(0.0132, "share", "1.32 %"), (1.0, "flags", "1 flag"), (0.0, "flags", "0 flags"), (None, "cycles", "—")],
)
def test_a_gates_number_is_shown_in_its_unit(value: float | None, unit: str, expected: str) -> None:
    assert tables.quantity(value, unit) == expected


def test_columns_stand_in_reading_order_though_records_sort_their_keys(
    case_of: CaseOf, statements: dict[str, Statement]
) -> None:
    signed = {stage: Statement.from_bytes(item.to_bytes()) for stage, item in statements.items()}
    case = case_of(signed)
    accuracy, injection = tables.accuracy(case), tables.injection(case)
    assert accuracy
    assert injection
    assert [row[0] for row in accuracy.rows] == ["network, test", "baseline, test", "network, validation"]
    assert accuracy.headers[1] == "RMSE [cycles]"
    assert injection.headers[:3] == ("case", "RMSE [cycles]", "RMSE, unnoticed [cycles]")


def test_the_certified_bound_is_the_last_row_beside_the_attacks(case_of: CaseOf) -> None:
    rmse, missed = tables.evasion(case_of())
    assert rmse.headers == ("attack", "clean", "0.05", "0.1", "0.25", "0.5")
    assert rmse.rows[-1] == ("certified upper bound", "8.30", "11.45", "14.90", "27.05", "53.30")
    assert missed.marked == len(missed.rows) - 1


def test_poison_is_grouped_by_attack_and_shown_before_and_after_screening(case_of: CaseOf) -> None:
    table = tables.poisoning(case_of())
    assert table
    assert [row[:2] for row in table.rows[4:6]] == [("backdoor", "1.0 %"), ("backdoor", "2.0 %")]
    assert table.headers[-2:] == ("RMSE lost, screened [cycles]", "trigger success, screened")


def test_tables_of_no_evidence_are_none_or_empty(case_of: CaseOf) -> None:
    case = case_of({}, estimates=())
    assert tables.data(case) == tables.evasion(case) == ()
    assert tables.accuracy(case) is tables.injection(case) is tables.poisoning(case) is None
    assert tables.environment(case) is tables.parameters(case) is tables.envelopes(case) is None
