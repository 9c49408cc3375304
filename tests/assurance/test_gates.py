from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tests.assurance.candidate import ABOUT, MODEL, build, holder, policy_for
from twinseal.assurance.gates import Bound, EvidenceResult, Gate, GateResult, Gates, Verdict, judge, observe
from twinseal.config import parse
from twinseal.errors import ConfigError, EvidenceError
from twinseal.evidence import Statement
from twinseal.evidence_chain import REQUIRED
from twinseal.policy_entries import Mark

LEAVES = (
    ("validate", "quarantined_share"),
    ("train", "plain/test/rmse_cycles"),
    ("evade", "evasion/certified/eps-0.1/missed_failure_share"),
    ("evade", "evasion/flags/raised"),
    ("poison", "worst_unnoticed/trigger_success_share"),
)
NO_NUMBER = st.one_of(
    st.sampled_from([math.nan, math.inf, -math.inf, True, False, None, "", "0", "0.0", [], [0.0], {}, {"value": 0.0}]),
    st.sampled_from([10**400, -(10**400), b"0", 0j]),
    st.text(),
    st.lists(st.floats(0, 1)),
    st.dictionaries(st.text(), st.floats(0, 1)),
)


def gate(**changes: Any) -> dict[str, Any]:
    given = {"name": "accuracy", "evidence": "evade", "measure": "evasion/clean/rmse_cycles", "at_most": 16.0}
    return {k: v for k, v in (given | {"unit": "cycles", "why": "because"} | changes).items() if v is not None}


def gates(*listed: dict[str, Any]) -> Gates:
    return parse(Gates, {"gates": list(listed)}, "gates.yaml")


def put(statements: dict[str, Statement], stage: str, path: str, value: Any) -> None:
    *parents, last = path.split("/")
    found = holder(statements[stage])
    for key in parents:
        found = found[key]
    found[last] = value


def test_evidence_in_order_passes_every_gate(policy: Gates, statements: dict[str, Statement]) -> None:
    verdict = judge(policy, statements, asset="pump", **ABOUT)
    assert verdict.failures == ()
    assert verdict.result == "PASSED"


def test_a_measure_beyond_its_bound_fails_its_gate_and_the_verdict(statements: dict[str, Statement]) -> None:
    put(statements, "evade", "evasion/clean/rmse_cycles", 16.5)
    verdict = judge(gates(gate()), statements, asset="pump", **ABOUT)
    assert verdict.gates[0].result == "FAILED"
    assert verdict.gates[0].reason == "expected at most 16 cycles, got 16.5 cycles"
    assert verdict.result == "FAILED"


@pytest.mark.parametrize(
    ("relation", "observed", "expected"),
    [
        ("at_most", 16.0, "PASSED"),
        ("at_most", 16.000001, "FAILED"),
        ("equals", 16, "PASSED"),
        ("equals", 16.000001, "FAILED"),
    ],
)
def test_a_bound_belongs_to_what_it_bounds(
    statements: dict[str, Statement], relation: str, observed: float, expected: str
) -> None:
    put(statements, "evade", "evasion/clean/rmse_cycles", observed)
    policy = gates(gate(**{"at_most": None, relation: 16.0}))
    assert judge(policy, statements, asset="pump", **ABOUT).gates[0].result == expected


@pytest.mark.parametrize(("observed", "expected"), [(16, "PASSED"), (15, "FAILED")])
def test_at_least_admits_the_bound_and_more(statements: dict[str, Statement], observed: int, expected: str) -> None:
    put(statements, "evade", "evasion/clean/units", observed)
    policy = gates(gate(measure="evasion/clean/units", unit="units", at_most=None, at_least=16))
    assert judge(policy, statements, asset="pump", **ABOUT).gates[0].result == expected


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.sampled_from(LEAVES), value=NO_NUMBER)
def test_what_is_no_finite_number_fails_its_gate(policy: Gates, place: tuple[str, str], value: Any) -> None:
    statements = build()
    put(statements, *place, value)
    verdict = judge(policy, statements, asset="pump", **ABOUT)
    judged = {(item.evidence, item.measure): item for item in verdict.gates}[place]
    assert (judged.result, judged.observed, verdict.result) == ("FAILED", None, "FAILED")
    assert place[1].rpartition("/")[2] in judged.reason


SPOILT: dict[str, tuple[str, Any, str]] = {
    "unknown key": (
        "evasion/clean/rmse_cycle",
        8.3,
        "evasion.clean.rmse_cycle: unknown key; did you mean 'rmse_cycles'?",
    ),
    "missing key": ("evasion/clean/rmse_cycles", ..., "evasion.clean.rmse_cycles: field required"),
    "missing group": ("repair_abuse", ..., "repair_abuse: field required"),
    "text": ("evasion/flags/raised", "0", "evasion.flags.raised: input should be a valid integer"),
    "truth value": ("guard/false_alarm_share", True, "guard.false_alarm_share: input should be a valid number"),
    "fraction of a unit": (
        "evasion/clean/failing_units",
        20.5,
        "evasion.clean.failing_units: input should be a valid int",
    ),
    "list": ("evasion/worst", [], "evasion.worst: input should be an object"),
    "NaN": ("false_age/rise_cycles", math.nan, "false_age.rise_cycles: input should be a finite number"),
    "infinity": ("false_age/rise_cycles", math.inf, "false_age.rise_cycles: input should be a finite number"),
    "null": (
        "evasion/worst/eps-0.1/missed_failure_share",
        None,
        "evasion/worst/eps-0.1/missed_failure_share: expected a",
    ),
    "odd key": ("evasion/worst/eps-x", {"rmse_cycles": 1.0}, "evasion.worst.eps-x"),
}


@pytest.mark.parametrize("defect", sorted(SPOILT))
def test_a_malformed_record_of_measures_fails_the_verdict_and_names_what_is_wrong(
    policy: Gates, statements: dict[str, Statement], defect: str
) -> None:
    assert judge(policy, statements, asset="pump", **ABOUT).result == "PASSED"
    path, value, reason = SPOILT[defect]
    if value is ...:
        *parents, last = path.split("/")
        found = holder(statements["evade"])
        for key in parents:
            found = found[key]
        del found[last]
    else:
        put(statements, "evade", path, value)
    verdict = judge(policy, statements, asset="pump", **ABOUT)
    assert verdict.result == "FAILED"
    assert f"record of evade: evade: measures: {reason}" in verdict.failures[0]
    assert {gate.result for gate in verdict.gates if gate.evidence == "evade"} == {"FAILED"}


def test_a_required_record_without_measures_fails_the_verdict(policy: Gates, statements: dict[str, Statement]) -> None:
    statements["poison"].predicate["twinseal_measures"] = {}
    verdict = judge(policy, statements, asset="pump", **ABOUT)
    assert "record of poison: poison: measures: expected PoisoningMeasures, got none" in verdict.failures


@settings(max_examples=60, deadline=None)
@given(value=NO_NUMBER, path=st.sampled_from(["a", "a/b", "a/b/c"]))
def test_observe_finds_nothing_where_there_is_no_number(value: Any, path: str) -> None:
    number, reason = observe({"a": {"b": {"c": value}}}, path)
    assert number is None
    assert reason


def test_an_absent_measure_is_named_with_the_place_where_the_way_ends() -> None:
    assert observe({"worst": {}}, "worst/eps-0.1/rmse_cycles") == (
        None,
        "no measure 'worst/eps-0.1/rmse_cycles' on record (nothing at 'worst/eps-0.1')",
    )


def _spots(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a JSON value from which something can be taken away."""
    keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    return [spot for key in keys for spot in ((*at, key), *_spots(value[key], (*at, key)))]


def _without(value: Any, at: tuple[Any, ...]) -> Any:
    copied = copy.deepcopy(value)
    found = copied
    for key in at[:-1]:
        found = found[key]
    del found[at[-1]]
    return copied


def _spoilt(statements: dict[str, Statement], draw: st.DataObject) -> None:
    """Make the evidence fail: a measure out of bounds, a failed test, another file, a missing record."""
    way = draw.draw(st.sampled_from(["measure", "result", "subject", "material", "record", "nothing"]))
    stage = draw.draw(st.sampled_from(sorted(REQUIRED)))
    if way == "measure":
        put(statements, *draw.draw(st.sampled_from(LEAVES)), 1e6)
    elif way == "result":
        stage = draw.draw(st.sampled_from(["validate", "evade", "poison"]))
        statements[stage].predicate["result"] = draw.draw(st.sampled_from(["FAILED", "WARNED", "passed", "", None]))
    elif way == "subject":
        old = statements[stage]
        at = draw.draw(st.integers(0, len(old.subjects) - 1))
        other = replace(old.subjects[at], sha256="0" * 64)
        statements[stage] = replace(old, subjects=(*old.subjects[:at], other, *old.subjects[at + 1 :]))
    elif way == "material":
        listed = statements["train"].predicate["buildDefinition"]["resolvedDependencies"]
        draw.draw(st.sampled_from(listed))["digest"] = {"sha256": "0" * 64}
    elif way == "record":
        del statements[stage]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(draw=st.data())
def test_removing_evidence_never_turns_failed_into_passed(policy: Gates, draw: st.DataObject) -> None:
    statements = build()
    _spoilt(statements, draw)
    assume(judge(policy, statements, asset="pump", **ABOUT).result == "FAILED")
    for _ in range(draw.draw(st.integers(1, 4))):
        if not statements:
            break
        stage = draw.draw(st.sampled_from(sorted(statements)))
        old = statements[stage]
        what = draw.draw(st.sampled_from(["record", "subject", "predicate"]))
        if what == "record":
            del statements[stage]
        elif what == "subject" and len(old.subjects) > 1:
            at = draw.draw(st.integers(0, len(old.subjects) - 1))
            statements[stage] = replace(old, subjects=old.subjects[:at] + old.subjects[at + 1 :])
        elif what == "predicate":
            spots = _spots(old.predicate)
            smaller = _without(old.predicate, draw.draw(st.sampled_from(spots))) if spots else {}
            if smaller:
                statements[stage] = replace(old, predicate=smaller)
    assert judge(policy, statements, asset="pump", **ABOUT).result == "FAILED"


@pytest.mark.parametrize("stage", sorted(REQUIRED))
def test_each_record_is_required_even_where_no_gate_reads_it(
    policy: Gates, statements: dict[str, Statement], stage: str
) -> None:
    del statements[stage]
    verdict = judge(policy, statements, asset="pump", **ABOUT)
    assert verdict.result == "FAILED"
    assert f"record of {stage}: no record of {stage}" in verdict.failures


@pytest.mark.parametrize("stage", ["validate", "evade", "poison"])
@pytest.mark.parametrize("stated", ["FAILED", "WARNED", "passed", "PASSED ", "", None, True])
def test_only_the_word_passed_is_a_pass(
    policy: Gates, statements: dict[str, Statement], stage: str, stated: object
) -> None:
    statements[stage].predicate["result"] = stated
    verdict = judge(policy, statements, asset="pump", **ABOUT)
    assert {g.result for g in verdict.gates if g.evidence == stage} == {"FAILED"}
    assert verdict.result == "FAILED"


def test_evidence_about_another_model_is_no_evidence(policy: Gates, statements: dict[str, Statement]) -> None:
    other = (replace(MODEL[0], sha256="0" * 64), *MODEL[1:])
    verdict = judge(policy, statements, asset="pump", **ABOUT | {"model": other})
    assert {item.result for item in verdict.gates} == {"FAILED"}
    assert verdict.gates[-1].observed is None
    assert "the files of the model differ (model/config.json)" in verdict.failures[0]


def test_no_evidence_at_all_fails_every_gate_and_every_record(policy: Gates) -> None:
    verdict = judge(policy, {}, asset="pump", **ABOUT)
    assert len(verdict.failures) == len(policy.asked_of("robust")) + len(REQUIRED)


def test_an_assets_own_bound_stands_instead_of_the_common_one(statements: dict[str, Statement]) -> None:
    policy, about = gates(gate(assets={"turbofan": {"at_most": 8.0}})), ABOUT | {"policy": policy_for("turbofan")}
    judged = judge(policy, build(asset="turbofan"), asset="turbofan", **about)
    assert judged.gates[0].reason == "expected at most 8 cycles, got 8.3 cycles"
    assert judge(policy, statements, asset="pump", **ABOUT).gates[0].result == "PASSED"


def test_an_asset_without_a_bound_is_denied() -> None:
    policy = gates(gate(at_most=None, assets={"turbofan": {"at_most": 99.0}}))
    about = ABOUT | {"policy": policy_for("transformer")}
    judged = judge(policy, build(asset="transformer"), asset="transformer", **about).gates[0]
    assert (judged.result, judged.observed) == ("FAILED", 8.3)
    assert (
        judged.reason
        == "policy/gates.yaml has no bound for the asset 'transformer': twinseal gates propose transformer"
    )


@pytest.mark.parametrize("default", [None, 99.0])
def test_a_bound_that_is_only_proposed_is_none_also_where_everybody_has_one(
    statements: dict[str, Statement], default: float | None
) -> None:
    seen = "1.15 × 8.3, seen in the run of 2026-11-26"
    policy = gates(gate(at_most=default, assets={"pump": {"at_most": 9.6, "proposed": seen}}))
    judged = judge(policy, statements, asset="pump", **ABOUT).gates[0]
    assert ("FAILED", 8.3, None) == (judged.result, judged.observed, judged.bound)
    assert judged.reason == (
        f"the bound at most 9.6 cycles is only proposed ({seen}); "
        "accept it: twinseal gates accept pump accuracy --as NAME"
    )


def test_a_bound_that_was_accepted_counts(statements: dict[str, Statement]) -> None:
    for number, expected in ((9.6, "PASSED"), (8.2, "FAILED")):
        policy = gates(gate(assets={"pump": {"at_most": number, "accepted": "gerda, 2026-11-26"}}))
        assert expected == judge(policy, statements, asset="pump", **ABOUT).gates[0].result


def test_a_contract_that_is_only_proposed_fails_the_verdict_and_says_who_accepts_it(
    policy: Gates, statements: dict[str, Statement]
) -> None:
    marks = (Mark("contract.yaml", "pump", proposed="twinseal asset new from pumps.csv"),)
    verdict = judge(policy, statements, asset="pump", unaccepted=marks, **ABOUT)
    assert {"PASSED"} == {item.result for item in (*verdict.gates, *verdict.evidence)}
    assert "FAILED" == verdict.result
    assert verdict.failures == (
        "contract of 'pump': proposed by twinseal asset new from pumps.csv, not yet accepted; "
        "accept it: twinseal asset accept pump --as NAME",
    )


def test_a_policy_that_leaves_a_measured_stage_unjudged_passes_nobody(statements: dict[str, Statement]) -> None:
    verdict = judge(gates(gate()), statements, asset="pump", **ABOUT)
    assert {item.result for item in verdict.gates} == {"PASSED"}
    assert verdict.result == "FAILED"
    assert verdict.failures == tuple(f"policy: no gate looks at {stage}" for stage in ("validate", "train", "poison"))


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        ([], "gates: tuple should have at least 1 item"),
        ([gate(at_most=None)], "gate accuracy: expected a bound, got none"),
        ([gate(at_least=1.0)], "exactly one of at_most, at_least, equals; got at_most, at_least"),
        ([gate(), gate()], "gate named twice: accuracy"),
        ([gate(at_most=math.nan)], "finite number"),
        ([gate(at_most=math.inf)], "finite number"),
        ([gate(at_most=True)], "valid number"),
        ([gate(at_most="16")], "valid number"),
        ([gate(at_mots=16.0)], "unknown key; did you mean 'at_most'"),
        ([gate(measure="a//b")], "should match pattern"),
        ([gate(evidence="ingest")], "should be 'validate', 'train', 'evade' or 'poison'"),
        ([gate(name="record-train")], "are the required records' own"),
        ([gate(why="")], "at least 1 character"),
        ([gate(assets={"pump": {}})], "exactly one of at_most, at_least, equals; got none"),
    ],
)
def test_a_policy_that_cannot_judge_cannot_be_read(listed: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(ConfigError, match=r"gates\.yaml") as refusal:
        gates(*listed)
    assert message in str(refusal.value)


def test_the_policy_in_the_repository_judges_every_measured_stage(policy: Gates) -> None:
    assert policy.unjudged("robust") == ()


def test_a_verdict_without_gates_or_records_cannot_be_built() -> None:
    records = tuple(EvidenceResult(stage) for stage in REQUIRED)
    fine = GateResult("accuracy", "evade", "evasion/clean/rmse_cycles", 1.0, Bound(at_most=2.0), "cycles", "because")
    assert Verdict("pump", (fine,), records).result == "PASSED"
    with pytest.raises(EvidenceError, match="expected at least one gate, got none"):
        Verdict("pump", (), records)
    with pytest.raises(EvidenceError, match="expected a result for each of"):
        Verdict("pump", (fine,), records[:-1])


@given(
    number=st.floats(allow_nan=True, allow_infinity=True), relation=st.sampled_from(["at_most", "at_least", "equals"])
)
def test_a_gate_result_cannot_pass_against_its_own_numbers(number: float, relation: str) -> None:
    bound = Bound(**{relation: 1.0})
    result = GateResult("a", "evade", "b", number, bound, "cycles", "because").result
    assert (result == "PASSED") == (math.isfinite(number) and bound.admits(number))


def test_gates_survive_a_round_trip(policy: Gates) -> None:
    assert Gates.model_validate_json(policy.model_dump_json(exclude_none=True)) == policy
    assert isinstance(policy.gates[0], Gate)
