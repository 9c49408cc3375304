"""Other families: shown only when the record is about exactly this model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from tests.assurance.candidate import MODEL, build, compared, holder
from twinseal.assurance.case import Case
from twinseal.assurance.report.blocks import Table, Text
from twinseal.assurance.report.sections.comparison import FAMILIES, SECTION
from twinseal.evidence import Statement

CaseOf = Callable[..., Case]


def with_comparison(case_of: CaseOf, statement: Statement) -> Case:
    return case_of(build() | {"compare": statement})


def only_text(case: Case) -> str:
    (block,) = SECTION.build(case).below
    assert isinstance(block, Text)
    return block.text


def test_every_family_has_its_price_and_what_it_buys(case_of: CaseOf) -> None:
    signed = Statement.from_bytes(compared().to_bytes())
    _, clean, bounds = SECTION.build(with_comparison(case_of, signed)).below
    assert isinstance(clean, Table)
    assert isinstance(bounds, Table)
    price = {row[0]: row[1] for row in clean.rows}
    bought = {row[0]: row[1:] for row in bounds.rows}
    assert "failing units" not in clean.headers  # those are of the test windows alone: another n than everywhere else
    assert [row[0] for row in clean.rows] == list(FAMILIES.values())[:4]
    assert price["accurate: no defence"] == "7.70"
    assert bought["accurate: no defence"] == ("11.45", "14.90", "—", "—")
    assert bought["certified against sensors"] == ("11.45", "14.90", "14.00", "18.00")
    assert bounds.headers[-2:] == ("1 member controlled", "2 members controlled")


def test_without_a_comparison_the_page_says_how_to_get_one(case_of: CaseOf) -> None:
    assert only_text(case_of()).startswith(
        "This model was not compared with the other families. With `make compare`, every"
    )


def test_a_comparison_of_another_model_is_not_shown(case_of: CaseOf) -> None:
    other = (replace(MODEL[0], sha256="0" * 64), *MODEL[1:])
    for files in (other, MODEL[:-1], ()):
        text = only_text(with_comparison(case_of, compared(files)))
        assert text.startswith("The comparison on record is of another model.")


def test_a_malformed_comparison_is_named_and_the_verdict_stands(case_of: CaseOf) -> None:
    statement = compared()
    holder(statement)["families"]["fastest"] = {}
    case = with_comparison(case_of, statement)
    assert "The record of the comparison cannot be read: compare: measures: families.fastest" in only_text(case)
    assert case.verdict.result == "PASSED"
