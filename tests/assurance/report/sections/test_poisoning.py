"""Poisoning: before and after screening, the worst that nobody notices, and what is chance."""

from __future__ import annotations

from collections.abc import Callable

from tests.assurance import measured
from tests.assurance.candidate import holder
from twinseal.assurance.case import Case
from twinseal.assurance.report.sections.poisoning import SECTION, attacks
from twinseal.evidence import Statement

CaseOf = Callable[..., Case]


def caveats(case: Case) -> list[str]:
    return [caveat.text for caveat in SECTION.build(case).caveats]


def test_poison_is_grouped_by_attack_and_shown_before_and_after_screening() -> None:
    table = attacks(measured.poisoning())
    assert table is not None
    assert [row[0] for row in table.rows[4:6]] == ["backdoor, 1 % of the units", "backdoor, 2 % of the units"]
    assert table.headers[3:5] == ("RMSE increase, no screening [cycles]", "RMSE increase, screened [cycles]")
    assert table.rows[4][-5:] == ("100.0 %", "0.0 %", "100.0 %", "1.1 %", "92.0 %")
    assert table.rows[0][-5:-3] == ("—", "—")  # no trigger


def test_the_tile_is_the_worst_that_screening_lets_through(case_of: CaseOf) -> None:
    (tile,) = SECTION.build(case_of()).tiles
    assert (tile.value, tile.holds) == ("+0.4 cycles", "open")
    assert tile.note == "clean-label backdoor, 1 % of the units; a hidden trigger works in 10.0 % of failing windows"


def test_poison_that_nobody_notices_is_named(case_of: CaseOf) -> None:
    assert any(
        text.startswith("Screening noticed none of the poisoned units of: clean-label backdoor.")
        for text in caveats(case_of())
    )


def test_poison_that_improves_the_model_is_called_chance(case_of: CaseOf, statements: dict[str, Statement]) -> None:
    found = holder(statements["poison"])["attacks"]["backdoor"]["share-0.01"]["undefended"]
    found["rmse_increase_cycles"] = -5.5
    expected = "1 of 12 poisonings made the error smaller, by up to 5.5 cycles"
    assert any(text.startswith(expected) for text in caveats(case_of(statements)))


def test_a_shorter_retraining_is_said(case_of: CaseOf, statements: dict[str, Statement]) -> None:
    assert any("trained for 10 epochs, the candidate for 20" in text for text in caveats(case_of()))
    holder(statements["poison"])["retraining"]["epochs"] = 20
    assert not any("epochs" in text for text in caveats(case_of(statements)))


def test_without_a_record_the_tile_is_a_dash(case_of: CaseOf) -> None:
    (tile,) = SECTION.build(case_of({})).tiles
    assert tile.value == "—"
