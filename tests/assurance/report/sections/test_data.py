"""Data: what validation found, and the drift by channel."""

from __future__ import annotations

from collections.abc import Callable

from tests.assurance import measured
from tests.assurance.candidate import holder
from twinseal.assurance.case import Case
from twinseal.assurance.report.blocks import Bullets, Text
from twinseal.assurance.report.sections.data import SECTION, by_rule, drift
from twinseal.evidence import Statement

CaseOf = Callable[..., Case]


def test_rules_stand_with_the_most_findings_first() -> None:
    table = by_rule(measured.validation())
    assert table is not None
    assert table.rows == (("range", "3"), ("change", "1"))


def test_drift_is_drawn_by_channel_beside_the_limit_of_the_contract() -> None:
    figure = drift(measured.validation(), 0.25)
    assert figure is not None
    assert "2 channels; largest drift from it 0.014, in flow" in figure.alt
    assert "refused above 0.25" in figure.svg
    bare = measured.validation().model_copy(update={"drift_psi": {}})
    assert drift(bare, 0.25) is None


def test_a_fleet_that_was_compared_with_nothing_is_said_to_be(
    case_of: CaseOf, statements: dict[str, Statement]
) -> None:
    found = holder(statements["validate"])
    found["drift_compared"], found["drift_psi"] = 0, {}
    del found["drift_max_psi"]
    caveats = [caveat.text for caveat in SECTION.build(case_of(statements)).caveats]
    assert any(text.startswith("There is no reference fleet of this asset") for text in caveats)


def test_units_left_out_and_warnings_are_caveats(case_of: CaseOf, statements: dict[str, Statement]) -> None:
    statements["validate"].predicate["warnedTests"] = ["consistency (not tested)"]
    caveats = [caveat.text for caveat in SECTION.build(case_of(statements)).caveats]
    assert any(text.startswith("2 units were left out") for text in caveats)
    assert "Passed with a warning: consistency (not tested)." in caveats


def test_the_first_findings_are_listed_and_the_others_counted(case_of: CaseOf) -> None:
    blocks = SECTION.build(case_of(findings=tuple(f"pump-{index}" for index in range(23)))).blocks
    (listed,) = (block for block in blocks if isinstance(block, Bullets))
    assert listed.items == tuple(f"pump-{index}" for index in range(20))
    assert Text("3 more are in data/quarantine/findings.json.", muted=True) in blocks
