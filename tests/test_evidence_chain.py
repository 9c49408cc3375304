from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tests.assurance.candidate import ACCEPTED, MODEL, POLICY, RAW, WINDOWS, build, policy_for
from twinseal.evidence import (
    POLICY_APPROVAL,
    PROVENANCE,
    TEST_RESULT,
    VERIFICATION_SUMMARY,
    Statement,
    Subject,
    materials,
)
from twinseal.evidence_chain import OBEYED, REQUIRED, WALK, broken_links, first_broken_link
from twinseal.trust.root import pins

FORGED = "0" * 64


@pytest.fixture
def statements() -> dict[str, Statement]:
    return build()


def swapped(statement: Statement, name: str) -> Statement:
    subjects = tuple(replace(s, sha256=FORGED) if s.name == name else s for s in statement.subjects)
    assert subjects != statement.subjects
    return replace(statement, subjects=subjects)


def remade(statement: Statement, name: str) -> Statement:
    definition = statement.predicate["buildDefinition"]
    listed = [Subject(m.name, FORGED if m.name == name else m.sha256) for m in materials(statement)]
    changed = definition | {"resolvedDependencies": [item.to_dict() for item in listed]}
    return replace(statement, predicate=statement.predicate | {"buildDefinition": changed})


def test_every_link_holds(statements: dict[str, Statement]) -> None:
    assert broken_links(statements, MODEL, POLICY) == dict.fromkeys(REQUIRED, "")


@pytest.mark.parametrize(
    ("stage", "name", "broken"),
    [
        ("train", MODEL[2].name, {"train", "prepare", "evade", "poison", "validate", "ingest"}),
        ("evade", MODEL[2].name, {"evade"}),
        ("poison", MODEL[0].name, {"poison"}),
        ("prepare", WINDOWS[1].name, {"prepare", "evade", "validate", "poison", "ingest"}),
        ("evade", WINDOWS[0].name, {"evade"}),
        ("validate", ACCEPTED.name, {"validate", "poison", "ingest"}),
        ("poison", ACCEPTED.name, {"poison"}),
        ("validate", RAW.name, {"ingest"}),
        ("ingest", RAW.name, {"ingest"}),
    ],
)
def test_another_digest_breaks_the_link_and_what_depends_on_it(
    statements: dict[str, Statement], stage: str, name: str, broken: set[str]
) -> None:
    statements[stage] = swapped(statements[stage], name)
    reasons = broken_links(statements, MODEL, POLICY)
    assert {key for key, reason in reasons.items() if reason} == broken


def test_windows_that_train_did_not_read_break_the_link(statements: dict[str, Statement]) -> None:
    statements["train"] = remade(statements["train"], WINDOWS[1].name)
    reasons = broken_links(statements, MODEL, POLICY)
    assert reasons["prepare"] == (
        "about something else: the windows that train read differ (data/windows/windows.safetensors)"
    )
    assert reasons["ingest"] == "depends on validate, which is no evidence"


def test_a_file_that_nobody_signed_breaks_every_link(statements: dict[str, Statement]) -> None:
    reasons = broken_links(statements, (*MODEL, Subject("model/extra.py", FORGED)), POLICY)
    assert reasons["train"] == "about something else: the files of the model differ (model/extra.py)"
    assert all(reasons.values())


def test_an_empty_model_is_about_nothing(statements: dict[str, Statement]) -> None:
    reasons = broken_links(statements, (), POLICY)
    assert reasons["train"] == "about something else: no files of the model on record"


@pytest.mark.parametrize("kind", [PROVENANCE, TEST_RESULT, VERIFICATION_SUMMARY])
@pytest.mark.parametrize("stage", sorted(REQUIRED))
def test_a_record_of_another_type_is_no_record(statements: dict[str, Statement], stage: str, kind: str) -> None:
    statements[stage] = replace(statements[stage], predicate_type=kind)
    expected = "" if kind == REQUIRED[stage] else f"expected a record of type {REQUIRED[stage]}, got {kind}"
    assert broken_links(statements, MODEL, POLICY)[stage] == expected


def test_malformed_materials_break_the_link(statements: dict[str, Statement]) -> None:
    statements["train"].predicate["buildDefinition"]["resolvedDependencies"] = ["data/windows/windows.safetensors"]
    assert (
        broken_links(statements, MODEL, POLICY)["prepare"]
        == "about something else: no windows that train read on record"
    )


def test_one_of_the_two_windows_files_is_not_enough(statements: dict[str, Statement]) -> None:
    """Taking the same file out of every record at once must not make a link."""
    only = WINDOWS[1]
    statements["prepare"] = replace(statements["prepare"], subjects=(only,))
    statements["evade"] = replace(statements["evade"], subjects=(*MODEL, only))
    definition = statements["train"].predicate["buildDefinition"]
    definition["resolvedDependencies"] = [only.to_dict()]
    assert (
        broken_links(statements, MODEL, POLICY)["prepare"]
        == "about something else: no windows that train read on record"
    )


@pytest.mark.attack("P")
@pytest.mark.parametrize("stage", ["validate", "evade", "poison", "train"])
def test_a_stage_that_obeyed_another_policy_is_no_evidence(statements: dict[str, Statement], stage: str) -> None:
    """An entry of policy is changed while a stage runs and restored before the verdict."""
    milder = tuple(replace(item, sha256=FORGED) for item in POLICY)
    assert not broken_links(statements, MODEL, POLICY)[stage]
    if stage == "train":
        statements[stage] = remade(statements[stage], POLICY[0].name)
    else:
        said = [item.to_dict() for item in milder if item.name.removesuffix("#pump") in OBEYED[stage]]
        predicate = statements[stage].predicate | {"configuration": said}
        statements[stage] = replace(statements[stage], predicate=predicate)
    reason = broken_links(statements, MODEL, POLICY)[stage]
    assert "about something else: the entries of policy for 'pump' differ" in reason


def test_a_stage_that_does_not_say_which_policy_it_obeyed_is_no_evidence(statements: dict[str, Statement]) -> None:
    for said in ([], None, "policy/threats.yaml#pump", [{"name": "policy/threats.yaml#pump"}]):
        predicate = statements["evade"].predicate | {"configuration": said}
        silent = statements | {"evade": replace(statements["evade"], predicate=predicate)}
        assert "no entries of policy for 'pump' on record" in broken_links(silent, MODEL, POLICY)["evade"]


def obeying(statement: Statement, asset: str) -> Statement:
    """The record of the same work, by the entries of another asset."""
    text = json.dumps(statement.predicate)
    for pump, other in zip(POLICY, policy_for(asset), strict=True):
        text = text.replace(pump.sha256, other.sha256).replace(pump.name, other.name)
    return replace(statement, predicate=json.loads(text))


@pytest.mark.attack("P")
@pytest.mark.parametrize("stage", sorted(REQUIRED))
def test_a_stage_that_obeyed_the_entry_of_another_asset(statements: dict[str, Statement], stage: str) -> None:
    """Policy has two assets; one stage ran by the milder entries of the other: no evidence, with or without a name."""
    both = (*POLICY, *policy_for("fan"))
    assert dict.fromkeys(REQUIRED, "") == broken_links(statements, MODEL, both, None, "pump")
    statements[stage] = obeying(statements[stage], "fan")
    expected = "about something else: no entries of policy for 'pump' on record"
    assert expected == broken_links(statements, MODEL, both, None, "pump")[stage]
    assert first_broken_link(statements, MODEL, both)


@pytest.mark.attack("P")
def test_all_stages_obeyed_the_entries_of_another_asset(statements: dict[str, Statement]) -> None:
    """A whole chain made by the entries of fans: no evidence for a pump."""
    both = (*POLICY, *policy_for("fan"))
    others = {stage: obeying(statement, "fan") for stage, statement in statements.items()}
    assert "" == first_broken_link(others, MODEL, both)
    assert all(broken_links(others, MODEL, both, None, "pump").values())


def test_entries_of_other_assets_may_come_and_go(statements: dict[str, Statement]) -> None:
    for policy in (POLICY, (*POLICY, *policy_for("fan")), (*policy_for("fan"), *POLICY)):
        assert dict.fromkeys(REQUIRED, "") == broken_links(statements, MODEL, policy, None, "pump")


# What a bundle is verified by: the same walk, without code, and the first break alone.


def test_the_walk_visits_every_required_record_and_the_root_demands_each() -> None:
    assert sorted(WALK) == sorted(REQUIRED)
    demanded = {item.name: item.predicate_type for item in pins.REQUIRED}
    assert demanded == {**REQUIRED, "assess": VERIFICATION_SUMMARY, "policy": POLICY_APPROVAL}


def test_a_whole_chain_has_no_broken_link_with_or_without_policy_files(statements: dict[str, Statement]) -> None:
    assert "" == first_broken_link(statements, MODEL, POLICY)
    assert "" == first_broken_link(statements, MODEL)


def test_without_policy_files_only_the_policy_step_is_left_out(statements: dict[str, Statement]) -> None:
    predicate = statements["evade"].predicate | {"configuration": []}
    statements["evade"] = replace(statements["evade"], predicate=predicate)
    assert "" == first_broken_link(statements, MODEL)
    assert first_broken_link(statements, MODEL, POLICY).startswith("evade: about something else: no entries of policy")


@pytest.mark.parametrize(
    ("stage", "name", "first"),
    [
        ("train", MODEL[2].name, "train: about something else: the files of the model differ (model/guard.json)"),
        ("prepare", WINDOWS[1].name, "prepare: about something else: the windows that train read differ"),
        ("validate", ACCEPTED.name, "validate: about something else: the telemetry that prepare read differ"),
        ("ingest", RAW.name, "ingest: about something else: the telemetry that validate read differ"),
        ("evade", WINDOWS[0].name, "evade: about something else: the windows it ran on differ"),
    ],
)
def test_the_first_break_is_named_and_not_what_depends_on_it(
    statements: dict[str, Statement], stage: str, name: str, first: str
) -> None:
    statements[stage] = swapped(statements[stage], name)
    assert first in first_broken_link(statements, MODEL)


def test_a_record_of_telemetry_beside_the_accepted_one_breaks_the_link(statements: dict[str, Statement]) -> None:
    """A longer name with the same beginning, in both records at once, is not what validate accepted."""
    more = Subject(f"{ACCEPTED.name}.bak", FORGED)
    for stage in ("validate", "poison"):
        statements[stage] = replace(statements[stage], subjects=(*statements[stage].subjects, more))
    assert "telemetry that prepare read differ" in first_broken_link(statements, MODEL)
    listed = [*materials(statements["prepare"]), more]
    definition = statements["prepare"].predicate["buildDefinition"]
    definition["resolvedDependencies"] = [item.to_dict() for item in listed]
    assert "telemetry that prepare read differ" in first_broken_link(statements, MODEL)
