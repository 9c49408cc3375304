from __future__ import annotations

from collections.abc import Callable

from tests.assurance import measured
from tests.assurance.candidate import build
from twinseal.assurance.case import Case
from twinseal.assurance.report.blocks import Table
from twinseal.assurance.report.sections.bad_units import NONE_TOLERATED, SECTION
from twinseal.evidence import measures


def test_a_row_for_each_number_of_bad_units(case_of: Callable[..., Case]) -> None:
    content = SECTION.build(case_of())
    (table,) = (block for block in content.blocks if isinstance(block, Table))
    assert ["1 unit of those that trained", "2 units of those that trained", "3 units of those that trained"] == [
        row[0] for row in table.rows
    ]
    assert f"{measured.units_bound(3).sigma_most_times:.2f}" in table.rows[2]
    assert not any(caveat.grave for caveat in content.caveats)


def test_where_one_bad_unit_has_no_bound_it_is_said_beside_the_verdict(case_of: Callable[..., Case]) -> None:
    statements = build()
    measures(statements["train"])["units_bound"] = {}
    content = SECTION.build(case_of(statements))
    assert (NONE_TOLERATED,) == content.caveats
    assert "three-bad-units-sigma" in {gate.name for gate in case_of(statements).verdict.gates if gate.reason}
