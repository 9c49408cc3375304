from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twinseal.assurance.case import Case
from twinseal.assurance.report import beyond
from twinseal.evidence import Statement

CaseOf = Callable[..., Case]


def measured(statements: dict[str, Statement], stage: str) -> Any:
    predicate = statements[stage].predicate
    return predicate["twinseal_measures"] if stage == "evade" else predicate["runDetails"]["twinseal_measures"]


def test_every_family_has_its_price_and_what_it_buys(case_of: CaseOf) -> None:
    table = beyond.families(case_of())
    assert table is not None
    by_name = {row[0]: row for row in table.rows}
    assert ("7.70", "—", "—", "—") == (by_name["accurate: no defence"][1], *by_name["accurate: no defence"][-3:])
    assert ("9.90", "14.00", "18.00", "—") == (
        by_name["certified against sensors"][1],
        *by_name["certified against sensors"][-3:],
    )


def test_what_was_not_seen_in_training_is_told_by_network(case_of: CaseOf) -> None:
    table = beyond.unseen(case_of())
    assert table is not None
    assert ("plain", "9.10", "90.5 %", "1.2 %", "90.0 %", "24.00") == table.rows[0]


def test_what_a_trusted_baseline_buys_stands_beside_what_it_would_cost_without(case_of: CaseOf) -> None:
    table = beyond.commissioned(case_of())
    assert table is not None
    row = next(row for row in table.rows if row[0] == "0.1")
    worst, certified, moved = (float(cell) for cell in row[1:4])
    assert worst < certified < moved


def test_owned_sensors_are_told_by_number_and_by_name(case_of: CaseOf) -> None:
    by_number, by_name = beyond.owned(case_of())
    assert 6 == len(by_number.rows)
    assert ["d", "c", "b", "a"] == [row[0] for row in by_name.rows]  # the one that does most comes first


def test_the_guard_is_told_bare_and_guarded(case_of: CaseOf) -> None:
    table = beyond.guarded(case_of())
    assert table is not None
    assert 4 + 3 == len(table.rows)
    assert "one-sensor · any error" == table.rows[4][0]
    replay = next(row for row in table.rows if row[0] == "replay")
    assert ("—", "100.0 %", "10.0 %", "30.00", "8.50", "20.0 %", "0.0 %") == replay[1:]
    assert "1.1 %" == beyond.false_alarms(case_of())


def test_who_knows_the_guard_is_told_by_size(case_of: CaseOf) -> None:
    table = beyond.adaptive(case_of())
    assert table is not None
    assert [("0.10", "100.0 %", "4.00"), ("0.50", "100.0 %", "20.00")] == [row[:3] for row in table.rows]


def test_trees_stand_beside_the_network_at_every_size(case_of: CaseOf) -> None:
    table = beyond.trees(case_of())
    assert table is not None
    assert ["clean", "0.05", "0.1", "0.25", "0.5"] == [row[0] for row in table.rows]
    assert ("7.20", "8.30", "—") == (table.rows[0][1], table.rows[0][2], table.rows[0][-1])
    assert all(float(row[1]) > float(row[2]) for row in table.rows[1:])


def test_theft_and_membership_are_told(case_of: CaseOf) -> None:
    stolen, members = beyond.theft(case_of())
    assert "queries 100" == stolen.rows[0][0]
    assert ("windows auc", "0.51") == members.rows[0]


def test_what_is_absent_or_malformed_is_no_table(case_of: CaseOf, statements: dict[str, Statement]) -> None:
    for name in ("families", "intervals", "cross_validation"):
        measured(statements, "train")[name] = [1, 2]
    for name in (
        "commissioned",
        "sensors",
        "experiment",
        "scenarios",
        "theft",
        "membership",
        "guard",
        "adaptive",
        "trees",
    ):
        measured(statements, "evade")[name] = "none"
    case = case_of(statements)
    assert (None, None, None, None) == (
        beyond.families(case),
        beyond.unseen(case),
        beyond.commissioned(case),
        beyond.guarded(case),
    )
    assert ((), ()) == (beyond.owned(case), beyond.theft(case))
    assert (None, None) == (beyond.adaptive(case), beyond.trees(case))
    assert "—" == beyond.false_alarms(case)
