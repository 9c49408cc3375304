"""Spent life: what lost, repeated and renamed rows hide, without the ledger and with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twinseal.assurance.case import Case
from twinseal.assurance.report.blocks import Table
from twinseal.assurance.report.sections import spent_life
from twinseal.measures.words import SPENT_LIFE
from twinseal.robustness.attacks.spent_life import FAILING, WORN

CaseOf = Callable[..., Case]


def test_every_attack_has_words() -> None:
    assert {"clean", *FAILING, *WORN} == set(SPENT_LIFE)
    assert len(set(SPENT_LIFE.values())) == len(SPENT_LIFE)


def test_honest_telemetry_stands_first_and_each_attack_in_words(case_of: CaseOf) -> None:
    built = spent_life.SECTION.build(case_of())
    (rows,) = built.below
    assert isinstance(rows, Table)
    assert [row[0] for row in rows.rows] == [SPENT_LIFE["clean"], SPENT_LIFE["reset"], SPENT_LIFE["lost-worn"]]
    assert built.tiles[0].value == "1.0 %"
    assert "without the ledger 90.0 %" in built.tiles[0].note


def test_without_a_record_it_says_so(case_of: CaseOf) -> None:
    built: Any = spent_life.SECTION.build(case_of({}))
    assert built.below[0].text == "There is no attack on the ledger on record."
