"""Data: what validation found, and the drift by channel."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tests.assurance import measured
from tests.assurance.candidate import holder
from twinseal.assurance.candidate_config import operating_points
from twinseal.assurance.case import Case
from twinseal.assurance.report.blocks import Bullets, Figure, Table, Text, flat
from twinseal.assurance.report.sections.data import SECTION, by_rule, drift
from twinseal.evidence import Statement
from twinseal.telemetry.contract import Contract

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


def test_the_operating_points_of_the_contract_stand_with_their_rows(
    case_of: CaseOf, statements: dict[str, Statement]
) -> None:
    def said(case: Case) -> tuple[str, tuple[tuple[str, ...], ...]]:
        blocks = flat(SECTION.build(case).blocks)
        tables = [block for block in blocks if isinstance(block, Table) and "operating point" in block.headers]
        texts = " ".join(block.text for block in blocks if isinstance(block, Text))
        return texts, tables[0].rows if tables else ()

    assert ((), False) == (said(case_of(statements))[1], "operating points" in said(case_of(statements))[0])
    points = ("altitude 0 kft, mach 0.25", "altitude 35 kft, mach 0.84")
    found = holder(statements["validate"])
    found["regime_rows"], found["drift_regimes"] = {"point-1": 1200, "point-2": 34812}, 2
    case = case_of(statements)
    text, rows = said(replace(case, config=replace(case.config, operating_points=points)))
    assert [(name, int("".join(filter(str.isdigit, count)))) for name, count in rows] == [
        (points[0], 1200),
        (points[1], 34812),
    ]
    assert "The contract names 2 operating points." in text and "Drift was measured within 2 of them" in text
    found["drift_regimes"] = 0
    case = case_of(statements)
    assert (
        "Drift was not measured within them."
        in said(replace(case, config=replace(case.config, operating_points=points)))[0]
    )


def test_operating_points_are_told_in_the_words_of_the_contract() -> None:
    contract = Contract.load(Path("policy/contract.yaml"), "turbofan_fd002")
    assert contract.regimes is not None
    told = operating_points(contract)
    assert len(told) == len(contract.regimes.points) == 6
    assert all(name in told[0] for name in contract.regimes.settings)
    assert () == operating_points(Contract.load(Path("policy/contract.yaml"), "turbofan"))
