from __future__ import annotations

import math
from typing import Any

import pytest

from tests.assurance.measured import by_epsilon, poisoning, worst_case
from twinseal.assurance.report import tables
from twinseal.assurance.report.tables import Column, Curve
from twinseal.errors import ConfigError
from twinseal.measures.common import WorstCase
from twinseal.measures.poisoning import PoisoningResult
from twinseal.measures.robustness import GuardAwareMeasures


@pytest.mark.parametrize("value", [None, math.nan, math.inf, True, [], {}, [1], 10**400])
def test_what_is_no_number_is_shown_as_a_dash_never_as_zero(value: Any) -> None:
    assert tables.shown(value, "cycles") == "—"


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [
        (0.031, "share", "3.1 %"),
        (0.02, "share", "2.0 %"),
        (12, "cycles", "12.00"),
        (0.5051, "AUC", "0.505"),
        (100, "windows", "100"),
        (29373, "rows", "29 373"),
        (2742.246, "points", "2 742"),
        (1e308, "cycles", "1e+308"),
    ],
)
def test_a_measure_is_shown_in_its_unit(value: float, unit: str, expected: str) -> None:
    assert tables.shown(value, unit) == expected


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [(0.0132, "share", "1.32 %"), (1.0, "flags", "1 flag"), (0.0, "flags", "0 flags"), (None, "cycles", "—")],
)
def test_a_gates_number_is_shown_in_its_unit(value: float | None, unit: str, expected: str) -> None:
    assert tables.quantity(value, unit) == expected


@pytest.mark.parametrize(
    ("number", "expected"), [(1, "1 cycle"), (5, "5 cycles"), (0.5, "0.5 cycles"), (5000, "5 000 cycles")]
)
def test_a_number_of_things_is_said_in_words(number: float, expected: str) -> None:
    assert tables.counted(number, "cycle") == expected


def test_names_with_numbers_are_sorted_by_the_numbers() -> None:
    assert sorted(["s10", "s2", "s1", "altitude", "s2b", "2", "10"], key=tables.natural) == [
        "altitude",
        "s1",
        "s2",
        "s2b",
        "s10",
        "2",
        "10",
    ]


def test_a_header_has_the_label_and_the_unit_of_the_type() -> None:
    assert tables.header(Column[WorstCase](lambda m: m.rmse_cycles), WorstCase) == "RMSE [cycles]"
    assert tables.header(Column[WorstCase](lambda m: m.missed_failure_share), WorstCase) == "missed failures"
    nested = Column[PoisoningResult](lambda m: m.after_screening.rmse_increase_cycles, "RMSE increase, screened")
    assert tables.header(nested, PoisoningResult) == "RMSE increase, screened [cycles]"
    optional = Column[GuardAwareMeasures](lambda m: m.commissioned.rise_cycles if m.commissioned else None)
    assert tables.header(optional, GuardAwareMeasures) == "mean rise [cycles]"


def test_a_column_that_reads_no_measure_is_refused() -> None:
    with pytest.raises(ConfigError, match="WorstCase: no stage writes the measure 'rmse_cycle'; did you mean"):
        tables.header(Column[WorstCase](lambda m: m.rmse_cycle), WorstCase)  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match="WorstCase: no stage writes the measure ''"):
        tables.header(Column[WorstCase](lambda _: 3.0), WorstCase)


def test_a_table_keeps_the_order_of_its_rows_and_leaves_out_what_nobody_knows() -> None:
    columns = [Column[WorstCase](lambda m: m.rmse_cycles), Column[WorstCase](lambda m: m.missed_failure_share)]
    bare = WorstCase(rmse_cycles=3.0)
    both = tables.table(
        "caption", WorstCase, [("b", bare), ("a", worst_case(1.0, 0.5)), ("c", None)], columns, first="x"
    )
    assert both is not None
    assert both.headers == ("x", "RMSE [cycles]", "missed failures")
    assert both.rows == (("b", "3.00", "—"), ("a", "53.30", "56.0 %"), ("c", "—", "—"))
    one = tables.table("caption", WorstCase, [("b", bare)], columns)
    assert one is not None
    assert one.headers == ("", "RMSE [cycles]")
    assert tables.table("caption", WorstCase, [], columns) is None


def test_by_epsilon_begins_without_an_attack_and_sets_apart_what_is_proved() -> None:
    clean = worst_case(0.0, 0.1)
    curves = [Curve("attack", clean, by_epsilon(0.9)), Curve("bound", clean, by_epsilon(1.0, (0.05, 0.1)), proved=True)]
    found = tables.by_epsilon("caption", curves, lambda m: m.rmse_cycles)
    assert found is not None
    assert found.headers == ("RMSE [cycles]", "no attack", "0.05 σ", "0.1 σ", "0.25 σ", "0.5 σ")
    assert found.rows[1] == ("bound", "8.30", "11.45", "14.90", "—", "—")
    assert found.marked == (1,)
    assert tables.by_epsilon("caption", [], lambda m: m.rmse_cycles) is None


def test_a_listing_has_a_row_for_each_measure() -> None:
    result = poisoning().attacks["backdoor"]["share-0.1"]
    columns = [Column[PoisoningResult](lambda m: m.units_poisoned), Column[PoisoningResult](lambda m: m.noticed_share)]
    found = tables.listing("caption", result, columns, more=[("more", "1")])
    assert found.rows == (("units poisoned", "10"), ("noticed by screening", "100.0 %"), ("more", "1"))
