"""Evasion: attacks beside bounds, and contradictions between them."""

from __future__ import annotations

from collections.abc import Callable

from tests.assurance.candidate import holder
from twinseal.assurance.case import Case
from twinseal.assurance.report.sections.evasion import SECTION, error, every_attack, missed, summary
from twinseal.evidence import Statement

CaseOf = Callable[..., Case]


def grave(case: Case) -> list[str]:
    return [caveat.text for caveat in SECTION.build(case).caveats if caveat.grave]


def test_the_certified_bound_stands_under_the_worst_attack_and_is_set_apart(case_of: CaseOf) -> None:
    found = case_of().measures.evade
    assert found is not None
    table = summary(found, error)
    assert table is not None
    assert table.headers == ("RMSE [cycles]", "no attack", "0.05 σ", "0.1 σ", "0.25 σ", "0.5 σ")
    by_name = dict(zip([row[0] for row in table.rows], table.rows, strict=True))
    assert by_name["network, certified"][1:] == ("8.30", "11.45", "14.90", "27.05", "53.30")
    assert {table.rows[index][0] for index in table.marked} == {name for name in by_name if name.endswith("certified")}


def test_errors_and_missed_failures_say_on_how_many_windows_they_were_measured(case_of: CaseOf) -> None:
    found = case_of().measures.evade
    assert found is not None
    errors, failures = summary(found, error), summary(found, missed)
    assert errors is not None
    assert failures is not None
    assert "(100 test windows of 100 units)" in errors.caption
    assert "(129 failing windows of 34 units, test and validation)" in failures.caption


def test_what_a_signed_baseline_buys_stands_beside_what_holds_when_it_moves_too(case_of: CaseOf) -> None:
    found = case_of().measures.evade
    assert found is not None
    table = summary(found, error)
    assert table is not None
    at = {row[0]: float(row[table.headers.index("0.1 σ")]) for row in table.rows}
    attacked, certified = at["with signed baseline, attacked"], at["with signed baseline, certified"]
    assert attacked < certified < at["signed baseline moved too, certified"]


def test_boosted_trees_stand_beside_the_network_at_every_size(case_of: CaseOf) -> None:
    found = case_of().measures.evade
    assert found is not None
    for get in (error, missed):
        table = summary(found, get)
        assert table is not None
        assert table.rows[-1][0] == "gradient boosting, attacked"
        assert "—" not in table.rows[-1]


def test_each_attack_is_listed_by_aim_and_network(case_of: CaseOf, statements: dict[str, Statement]) -> None:
    """Whatever the order in the record, which sorts its keys: the weakest gradient attack first."""
    signed = {stage: Statement.from_bytes(item.to_bytes()) for stage, item in statements.items()}
    found = case_of(signed).measures.evade
    assert found is not None
    tables = list(every_attack(found))
    assert len(tables) == 4
    names = [row[0] for row in tables[0].rows]
    assert names[:3] == ["FGM, any error", "FGM, healthy-washing", "BIM, any error"]
    assert "PGD with several starts (APGD), any error" in names


def test_evidence_in_order_has_no_grave_caveat(case_of: CaseOf) -> None:
    assert grave(case_of()) == []


def test_an_attack_beyond_the_certificate_is_grave(case_of: CaseOf, statements: dict[str, Statement]) -> None:
    holder(statements["evade"])["evasion"]["worst"]["eps-0.1"]["rmse_cycles"] = 99.0
    assert grave(case_of(statements)) == [
        "An attack beats the certificate: worst attack at ε 0.1 σ reaches 99, certified at most 14.9 (RMSE [cycles]). "
        "One of them is wrong."
    ]


def test_an_attack_beyond_the_certificate_of_the_other_network_is_grave_too(
    case_of: CaseOf, statements: dict[str, Statement]
) -> None:
    attacks = holder(statements["evade"])["commissioned"]["attacks"]["small-changes"]
    attacks["pgd"]["any"]["eps-0.1"]["missed_failure_share"] = 0.5
    assert any(
        text.startswith("An attack beats the certificate: PGD, any error at ε 0.1 σ")
        for text in grave(case_of(statements))
    )


def test_a_builder_and_an_assessor_who_certify_differently_are_grave(
    case_of: CaseOf, statements: dict[str, Statement]
) -> None:
    holder(statements["train"])["plain"]["certified"]["eps-0.1"]["rmse_cycles"] = 11.0
    expected = "The builder reports a certified RMSE of 11.00 cycles at 0.1 σ, the assessor measured 14.90"
    assert any(text.startswith(expected) for text in grave(case_of(statements)))


def test_raised_flags_are_grave(case_of: CaseOf, statements: dict[str, Statement]) -> None:
    flags = {"raised": 1, "by_check": {"no-growth": 1, "over-budget": 0}, "details": []}
    holder(statements["evade"])["evasion"]["flags"] = flags
    assert grave(case_of(statements)) == [
        "A check of the attacks found a fault: no-growth. Their numbers do not count."
    ]
    flags["details"] = ["no-growth: small-changes/pgd/any: 3.0 at 0.1 σ, 2.0 at 0.25 σ"]
    assert grave(case_of(statements)) == [
        "A check of the attacks found a fault: no-growth: small changes, PGD, any error: 3.0 at 0.1 σ, 2.0 at 0.25 σ. "
        "Their numbers do not count."
    ]
    flags["details"] = ["a line of another form"]
    assert "found a fault: a line of another form." in grave(case_of(statements))[0]


def test_a_missing_certificate_is_said(case_of: CaseOf, statements: dict[str, Statement]) -> None:
    holder(statements["evade"])["evasion"]["certified"] = {}
    content = SECTION.build(case_of(statements))
    assert any(caveat.text.startswith("There is no certificate") for caveat in content.caveats)
    assert {tile.value for tile in content.tiles} == {"—"}


def test_bounds_beyond_the_cap_are_explained(case_of: CaseOf) -> None:
    texts = [caveat.text for caveat in SECTION.build(case_of()).caveats]
    assert any("A twin states 0 to 125 cycles and nothing beyond" in text for text in texts)


def test_tiles_say_their_budget_in_words(case_of: CaseOf) -> None:
    tiles = SECTION.build(case_of()).tiles
    assert all("every reading changes by at most 0.1 σ" in tile.label for tile in tiles)
    assert [tile.holds for tile in tiles] == ["proved", "proved"]
