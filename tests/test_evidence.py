from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.test_digests import JSON_VALUES
from twinseal import evidence
from twinseal.digests import canonical_json, sha256
from twinseal.errors import EvidenceError
from twinseal.evidence import Statement, Subject

MODEL = Subject("model/model.safetensors", sha256(b"weights"))
SUBJECTS = st.builds(
    Subject, st.text(st.characters(codec="utf-8"), min_size=1), st.from_regex(r"[0-9a-f]{64}", fullmatch=True)
)
PREDICATES = st.dictionaries(st.text(st.characters(codec="utf-8"), min_size=1), JSON_VALUES, min_size=1, max_size=4)


@given(
    st.lists(SUBJECTS, min_size=1, max_size=3, unique_by=lambda s: s.name),
    st.sampled_from(evidence.PREDICATE_TYPES),
    PREDICATES,
)
def test_a_statement_reads_back_as_itself(subjects: list[Subject], kind: str, predicate: dict[str, Any]) -> None:
    statement = Statement(tuple(subjects), kind, predicate)
    try:
        data = statement.to_bytes()
    except UnicodeEncodeError:
        return
    assert statement == Statement.from_bytes(data)


@given(st.binary(max_size=200))
def test_whatever_the_bytes_a_statement_or_our_own_error(data: bytes) -> None:
    with contextlib.suppress(EvidenceError):
        Statement.from_bytes(data)


def _with(**changes: object) -> bytes:
    good = {
        "_type": evidence.STATEMENT_TYPE,
        "subject": [MODEL.to_dict()],
        "predicateType": evidence.TEST_RESULT,
        "predicate": {"result": "PASSED"},
    }
    return canonical_json({k: v for k, v in (good | changes).items() if v is not None})


def test_the_statement_that_the_defects_below_are_made_of_is_good() -> None:
    assert "PASSED" == evidence.outcome(Statement.from_bytes(_with()))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (_with(_type="https://in-toto.io/Statement/v0.1"), "expected https://in-toto.io/Statement/v1"),
        (_with(subject=[]), "expected subjects with one name each"),
        (_with(subject=[MODEL.to_dict()] * 2), "expected subjects with one name each"),
        (_with(subject=[{"name": "x", "digest": {"md5": "0"}}]), "subject x: expected a SHA-256"),
        (_with(subject=["x"]), "expected a name and a digest"),
        (_with(subject={}), "expected https://in-toto.io/Statement/v1"),
        (_with(predicateType="https://evil.example/v1"), "unknown predicate type"),
        (_with(predicateType=["x"]), "unknown predicate type"),
        (_with(predicate={}), "expected a predicate, got none"),
        (_with(predicate="PASSED"), "expected a predicate, got none"),
        (_with(predicate=None), "expected an in-toto Statement"),
        (_with(extra=1), "expected an in-toto Statement"),
    ],
)
def test_a_malformed_statement_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(EvidenceError, match=why):
        Statement.from_bytes(data)


@pytest.mark.parametrize("result", ["passed", "PASS", "", None, True, ["PASSED"], "WARNED"])
def test_only_the_exact_word_is_a_pass(result: object) -> None:
    statement = Statement((MODEL,), evidence.TEST_RESULT, {"result": result, "x": 1})
    assert "PASSED" != evidence.outcome(statement)


def test_provenance_is_never_taken_for_a_result() -> None:
    statement = Statement((MODEL,), evidence.PROVENANCE, {"result": "PASSED", "verificationResult": "PASSED"})
    assert "" == evidence.outcome(statement)


def test_a_test_result_that_tested_nothing_cannot_be_built() -> None:
    with pytest.raises(EvidenceError, match="expected at least one test, got none"):
        evidence.test_result((MODEL,), result="PASSED", configuration=(), measures={})


def test_a_pass_with_a_failed_test_cannot_be_built() -> None:
    with pytest.raises(EvidenceError, match="expected no failed tests"):
        evidence.test_result((MODEL,), result="PASSED", configuration=(), failed=("x",), measures={})


@pytest.mark.parametrize("gates", [[], [{"result": "FAILED"}], [{"result": "PASSED"}, {}]])
def test_a_passed_verdict_needs_every_gate_passed_and_at_least_one(gates: list[dict[str, Any]]) -> None:
    with pytest.raises(EvidenceError, match="expected every gate PASSED"):
        evidence.verification_summary(
            (MODEL,),
            verifier="v",
            time_verified="2026-01-01T00:00:00Z",
            resource="r",
            policy=MODEL,
            inputs=(),
            result="PASSED",
            gates=gates,
        )


def test_provenance_gives_back_its_materials_and_measures() -> None:
    statement = evidence.provenance(
        (MODEL,),
        stage="train",
        builder="b",
        materials=(MODEL,),
        parameters={},
        environment={},
        measures={"rmse_cycles": 1.5},
    )
    assert (MODEL,) == evidence.materials(statement)
    assert {"rmse_cycles": 1.5} == evidence.measures(statement)
    assert MODEL.sha256 == statement.digest_of(MODEL.name)
    with pytest.raises(EvidenceError, match="expected a subject 'other'"):
        statement.digest_of("other")


def test_a_measure_that_is_no_number_cannot_be_written() -> None:
    statement = evidence.test_result(
        (MODEL,), result="PASSED", configuration=(), passed=("a",), measures={"x": float("nan")}
    )
    with pytest.raises(ValueError, match="not JSON compliant"):
        statement.to_bytes()
