"""Data: what validation found, and the drift by channel."""

from __future__ import annotations

import re
from collections.abc import Callable

from tests.assurance import measured
from tests.assurance.candidate import holder
from twinseal.assurance.case import Case
from twinseal.assurance.report.blocks import Bullets, Figure, Text
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
    assert "2 channels; largest drift from the reference 0.014, in flow" in figure.alt
    assert "refused above 0.25" in figure.svg
    assert ">0.014</text>" in figure.svg
    bare = measured.validation().model_copy(update={"drift_psi": {}})
    assert drift(bare, 0.25) is None


def test_channels_stand_in_the_order_of_their_numbers_however_far_they_drifted() -> None:
    psi = {"s10": 0.002, "s2": 0.001, "s9": 0.003, "altitude": 0.0}
    figure = drift(measured.validation().model_copy(update={"drift_psi": psi}), 0.25)
    assert figure is not None
    found = re.findall(r'y="([\d.]+)"[^>]*>(s\d+|altitude)</text>', figure.svg)
    heights = {name: float(y) for y, name in found}
    assert sorted(heights, key=heights.__getitem__) == ["altitude", "s2", "s9", "s10"]


def test_a_fleet_that_is_the_reference_has_a_sentence_and_no_empty_figure(
    case_of: CaseOf, statements: dict[str, Statement]
) -> None:
    (figure,) = SECTION.build(case_of()).below
    assert isinstance(figure, Figure)
    found = holder(statements["validate"])
    found["drift_psi"], found["drift_max_psi"] = {"flow": 0.0, "torque": 1e-9}, 1e-9
    (text,) = SECTION.build(case_of(statements)).below
    assert isinstance(text, Text)
    assert text.text.startswith("This fleet is the reference: there is nothing to compare it with.")


def test_a_fleet_without_a_reference_has_a_sentence_and_no_figure(
    case_of: CaseOf, statements: dict[str, Statement]
) -> None:
    found = holder(statements["validate"])
    found["drift_compared"], found["drift_psi"] = 0, {}
    del found["drift_max_psi"]
    (text,) = SECTION.build(case_of(statements)).below
    assert isinstance(text, Text)
    assert text.text.startswith("This fleet was compared with no other")


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
