"""The verdict as a record: the SLSA verification summary that the assessor signs, and the metric that DVC compares.

The law stated in `gates` (deny unless there is evidence) is all that decides; this module only writes it down. Every
gate rides along with what was observed, so a reader need not run anything to see why.
"""

from __future__ import annotations

from typing import Any

from twinseal.assurance.gates import EvidenceResult, GateResult, Verdict
from twinseal.evidence import Statement, Subject, verification_summary
from twinseal.policy_entries import Mark

VERIFIER = "https://twinseal.dev/assessor/v1"


def summarise(
    verdict: Verdict,
    *,
    model_name: str,
    model: tuple[Subject, ...],
    policy: Subject,
    inputs: tuple[Subject, ...],
    time_verified: str,
    reports: tuple[Subject, ...] = (),
    source: dict[str, Any] | None = None,
    built_by: tuple[str, ...] = (),
) -> Statement:
    """The verification summary of `verdict` about the files of `model`.

    Args:
        verdict: What was judged.
        model_name: The name under which the model would be released.
        model: The files judged, named `model/…`.
        policy: All of policy/, as one digest.
        inputs: The evidence read: each envelope by its own digest.
        time_verified: RFC 3339, UTC; the only time in the record.
        reports: The pages and figures for the reviewer, by their digests.
        source: The commit of the code, and what differs from it.
        built_by: The login that judges, the author and the committer of the commit.
    """
    records = map(_gate_record, verdict.gates)
    return verification_summary(
        model,
        verifier=VERIFIER,
        time_verified=time_verified,
        resource=f"https://twinseal.dev/model/{model_name}",
        policy=policy,
        inputs=inputs,
        result=verdict.result,
        gates=[*records, *map(_evidence_record, verdict.evidence), *map(_mark_record, verdict.unaccepted)],
        reports=reports,
        source=source,
        built_by=built_by,
    )


def metrics(verdict: Verdict) -> dict[str, Any]:
    """The verdict as reports/verdict.json: every gate with its bound and what was observed. No time in it."""
    failed = [gate for gate in verdict.gates if gate.result == "FAILED"]
    return {
        "result": verdict.result,
        "asset": verdict.asset,
        "gates_total": len(verdict.gates),
        "gates_failed": len(failed),
        "records_failed": sum(item.result == "FAILED" for item in verdict.evidence),
        "failures": list(verdict.failures),
        "gates": {gate.name: _short(gate) for gate in verdict.gates},
    }


def _mark_record(mark: Mark) -> dict[str, Any]:
    """An entry that is only proposed, in the shape of a gate that FAILED."""
    return {
        "name": f"record-{mark.file.removesuffix('.yaml')}-accepted",
        "evidence": "policy",
        "measure": "",
        "observed": 0.0,
        "relation": "equals",
        "bound": 1.0,
        "unit": "record",
        "result": "FAILED",
        "why": "an entry of policy that a program proposed counts once a person has accepted it",
        "reason": f"{mark.complaint}; accept it: {mark.command}",
    }


def _short(gate: GateResult) -> dict[str, Any]:
    bound: dict[str, Any] = {gate.bound.relation: gate.bound.number} if gate.bound else {}
    return {"result": gate.result, "observed": gate.observed, **bound, "unit": gate.unit}


def _gate_record(gate: GateResult) -> dict[str, Any]:
    return {
        "name": gate.name,
        "evidence": gate.evidence,
        "measure": gate.measure,
        "observed": gate.observed,
        "relation": gate.bound.relation if gate.bound else None,
        "bound": gate.bound.number if gate.bound else None,
        "unit": gate.unit,
        "result": gate.result,
        "why": gate.why,
        "reason": gate.reason,
    }


def _evidence_record(item: EvidenceResult) -> dict[str, Any]:
    """A required record, in the shape of a gate, so that whoever reads the summary needs to know one shape."""
    return {
        "name": f"record-{item.stage}",
        "evidence": item.stage,
        "measure": "",
        "observed": 1.0 if item.result == "PASSED" else 0.0,
        "relation": "equals",
        "bound": 1.0,
        "unit": "record",
        "result": item.result,
        "why": "a required record must be there, of its type, PASSED, and about this model",
        "reason": item.reason,
    }
