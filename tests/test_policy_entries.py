"""Entries of policy by asset: a record names its own part, and what is only proposed is found wherever it stands."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from twinseal.config import read_yaml
from twinseal.digests import canonical_json, parse_json
from twinseal.errors import ConfigError
from twinseal.policy_entries import (
    DIVIDED,
    marks,
    newly_accepted,
    part_bytes,
    part_for,
    part_subject,
    part_subjects,
    unaccepted,
)
from twinseal.policy_files import Policy

POLICY = Path(__file__).parents[1] / "policy"


@pytest.fixture
def content() -> dict[str, Any]:
    return copy.deepcopy(dict(Policy.read(POLICY).content))


def digests(content: dict[str, Any], asset: str = "pump") -> dict[str, str]:
    return {file: part_subject(file, content[file], asset).sha256 for file in DIVIDED}


@pytest.mark.parametrize("file", DIVIDED)
def test_what_is_said_of_another_asset_is_no_part_of_this_one(content: dict[str, Any], file: str) -> None:
    before, (key,) = digests(content), {"assets", "fleets"} & content[file].keys()
    content[file][key]["fan"] = {"size": 1}
    content[file][key].pop("turbofan", None)
    assert before == digests(content)
    assert part_for(content[file], "pump")[key].keys() == {"pump"}


@pytest.mark.attack("P")
@pytest.mark.parametrize(
    ("file", "path", "value"),
    [
        ("contract.yaml", ("assets", "pump", "sensors", "low_flow", "maximum"), 9.0),
        ("contract.yaml", ("assets", "pump", "regimes"), None),
        ("threats.yaml", ("assets", "pump", "trigger", "rows"), 1),
        ("threats.yaml", ("seed",), 21),
        ("threats.yaml", ("evasion",), []),
        ("evaluation.yaml", ("test_share",), 0.1),
        ("evaluation.yaml", ("fleets", "pump", "source"), "table"),
        ("reference.yaml", ("assets", "pump", "units"), 1),
    ],
)
def test_a_changed_entry_is_another_part(content: dict[str, Any], file: str, path: tuple[str, ...], value: Any) -> None:
    """Whatever a stage obeys is changed after it ran: the digest that its record must name is another one."""
    before, found = digests(content), content[file]
    for key in path[:-1]:
        found = found[key]
    found[path[-1]] = value
    after = digests(content)
    assert {file} == {name for name in DIVIDED if before[name] != after[name]}


def test_a_mark_is_no_part_of_what_is_measured(content: dict[str, Any]) -> None:
    before = digests(content)
    content["contract.yaml"]["assets"]["pump"]["proposed"] = "twinseal asset new"
    content["threats.yaml"]["assets"]["pump"]["accepted"] = "gerda, 2026-11-26"
    assert before == digests(content)


def test_what_owners_signed_has_the_same_parts_as_the_files(content: dict[str, Any]) -> None:
    """An approval holds the content as canonical JSON, which has another order."""
    signed = parse_json(canonical_json(content), "approval", limit=1 << 24)
    assert part_subjects(content) == tuple(sorted(part_subjects(signed), key=part_subjects(content).index))
    names = {subject.name for subject in part_subjects(content)}
    assert {f"policy/{file}#{asset}" for file in DIVIDED for asset in content["contract.yaml"]["assets"]} == names


def test_dvc_sees_the_order_of_channels(content: dict[str, Any]) -> None:
    value = content["contract.yaml"]
    before, sensors = part_bytes(value, "pump"), value["assets"]["pump"]["sensors"]
    value["assets"]["pump"]["sensors"] = dict(reversed(sensors.items()))
    assert before != part_bytes(value, "pump")


def test_what_json_has_no_form_for_is_refused() -> None:
    for wrong in ({"assets": {"pump": {1: 2}}}, {"assets": {"pump": {"a": float("nan")}}}):
        with pytest.raises(ConfigError, match=r"policy/contract\.yaml: expected values that JSON has a form for"):
            part_subject("contract.yaml", wrong, "pump")


@pytest.mark.parametrize("odd", [{}, {"contract.yaml": None}, {"contract.yaml": {"assets": []}}, {"gates.yaml": []}])
def test_a_policy_of_another_form_has_no_parts_and_no_marks(odd: dict[str, Any]) -> None:
    assert ((), ()) == (part_subjects(odd), marks(odd))


def test_the_shipped_policy_has_nothing_that_is_only_proposed(content: dict[str, Any]) -> None:
    assert [] == [str(mark) for mark in marks(content) if mark.proposed]


def test_marks_are_found_in_contracts_threats_and_gates(content: dict[str, Any]) -> None:
    before = copy.deepcopy(content)
    content["contract.yaml"]["assets"]["fan"] = {"proposed": "twinseal asset new from fans.csv"}
    content["threats.yaml"]["assets"]["fan"] = {"accepted": "gerda, 2026-11-26"}
    accuracy = next(gate for gate in content["gates.yaml"]["gates"] if gate["name"] == "accuracy")
    accuracy["assets"]["fan"] = {"at_most": 12.5, "proposed": "1.15 × 10.8"}
    assert [
        "contract of 'fan': proposed by twinseal asset new from fans.csv, not yet accepted",
        "threats of 'fan': accepted by gerda, 2026-11-26",
        "gate accuracy of 'fan' (at most 12.5): proposed by 1.15 × 10.8, not yet accepted",
    ] == [str(mark) for mark in marks(content) if mark.asset == "fan"]
    assert ["contract.yaml"] == [mark.file for mark in unaccepted(content, "fan")]
    assert () == unaccepted(content, "pump")
    assert ["threats of 'fan': accepted by gerda, 2026-11-26"] == list(map(str, newly_accepted(before, content)))
    assert () == newly_accepted(content, content)


def test_every_divided_file_is_there() -> None:
    assert all(isinstance(read_yaml(POLICY / file), dict) for file in DIVIDED)
