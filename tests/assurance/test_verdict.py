from __future__ import annotations

import math
from typing import Any

from tests.assurance.candidate import ABOUT, MODEL, holder, subject
from twinseal.assurance.gates import Gates, Verdict, judge
from twinseal.assurance.verdict import metrics, summarise
from twinseal.evidence import VERIFICATION_SUMMARY, Statement, outcome


def summary(verdict: Verdict) -> Statement:
    return summarise(
        verdict,
        model_name="pump-rul",
        model=MODEL,
        policy=subject("policy"),
        inputs=(subject("reports/evidence/train.dsse.json"),),
        time_verified="2026-01-02T03:04:05Z",
    )


def test_the_summary_of_a_pass_is_signable_and_about_the_models_files(
    policy: Gates, statements: dict[str, Statement]
) -> None:
    written = summary(judge(policy, statements, asset="pump", **ABOUT))
    assert (written.predicate_type, outcome(written)) == (VERIFICATION_SUMMARY, "PASSED")
    assert written.subjects == MODEL
    assert Statement.from_bytes(written.to_bytes()) == written


def test_every_gate_and_every_record_is_in_the_summary(policy: Gates, statements: dict[str, Statement]) -> None:
    listed = summary(judge(policy, statements, asset="pump", **ABOUT)).predicate["twinseal_gates"]
    names = [item["name"] for item in listed]
    assert names[: len(policy.asked_of("robust"))] == [gate.name for gate in policy.asked_of("robust")]
    assert names[len(policy.asked_of("robust")) :] == [
        f"record-{s}" for s in ("ingest", "validate", "prepare", "train", "evade", "poison")
    ]
    assert len({frozenset(item) for item in listed}) == 1  # one shape


def test_a_failure_is_signable_too_and_says_why(policy: Gates, statements: dict[str, Statement]) -> None:
    holder(statements["evade"])["evasion"]["clean"]["rmse_cycles"] = math.nan
    written = summary(judge(policy, statements, asset="pump", **ABOUT))
    found: dict[str, Any] = {item["name"]: item for item in written.predicate["twinseal_gates"]}
    assert outcome(written) == "FAILED"
    assert (found["accuracy"]["result"], found["accuracy"]["observed"]) == ("FAILED", None)
    reason = "evade: measures: evasion.clean.rmse_cycles: input should be a finite number"
    assert found["accuracy"]["reason"] == f"no evidence from evade: {reason}"
    assert written.to_bytes()


def test_the_metric_counts_and_names_failures(policy: Gates, statements: dict[str, Statement]) -> None:
    del statements["poison"]
    written = metrics(judge(policy, statements, asset="pump", **ABOUT))
    assert (written["result"], written["gates_failed"], written["records_failed"]) == ("FAILED", 4, 1)
    assert written["gates"]["accuracy"] == {"result": "PASSED", "observed": 8.3, "at_most": 9.0, "unit": "cycles"}


def test_the_metric_of_the_same_verdict_is_the_same(policy: Gates, statements: dict[str, Statement]) -> None:
    verdict = judge(policy, statements, asset="pump", **ABOUT)
    assert metrics(verdict) == metrics(judge(policy, dict(reversed(statements.items())), asset="pump", **ABOUT))
