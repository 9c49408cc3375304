"""Extraction and membership: what is learned from answers, in words and not in keys."""

from __future__ import annotations

from collections.abc import Callable

from twinseal.assurance.case import Case
from twinseal.assurance.report.blocks import Table
from twinseal.assurance.report.sections import extraction, injection, membership

CaseOf = Callable[..., Case]


def test_a_stolen_model_is_shown_by_questions_and_by_rounding(case_of: CaseOf) -> None:
    _, table = extraction.SECTION.build(case_of()).below
    assert isinstance(table, Table)
    names = [row[0] for row in table.rows]
    assert names == ["100 answers", "5 000 answers", "the most answers, rounded to 5 cycles"]
    assert table.headers[1] == "within 5 cycles of the model"


def test_membership_is_shown_in_words(case_of: CaseOf) -> None:
    _, table = membership.SECTION.build(case_of()).below
    assert isinstance(table, Table)
    assert ("windows told apart [AUC]", "0.510") == table.rows[0]
    assert ("windows told apart, answers rounded to 10 cycles [AUC]", "0.505") == table.rows[-1]


def test_injection_has_a_row_for_each_signature_and_what_the_contract_notices(case_of: CaseOf) -> None:
    (table,) = injection.SECTION.build(case_of()).below
    assert isinstance(table, Table)
    assert len(table.rows) == 8
    assert table.rows[0][0] == "constant bias, continuous, too low"
    assert table.headers[:3] == ("signature", "RMSE [cycles]", "RMSE, unnoticed [cycles]")
    assert injection.SECTION.build(case_of({})).caveats[0].text == "No injection was tried on this model."
