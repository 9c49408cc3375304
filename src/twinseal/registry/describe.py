"""What people read in MLflow about a candidate: Markdown made from evidence that was verified elsewhere.

Pure functions from values to text. Everyone who can write to MLflow can edit the text; it says so itself, and no
decision rests on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from twinseal.escaping import mlflow_cell
from twinseal.evidence import VERIFICATION_SUMMARY, Statement, outcome

APPROVAL = "## To approve"
MARKS = {"PASSED": "✓", "FAILED": "✗"}
MAX_CELL = 200
LAYOUT = "?workflowType=machine_learning"  # of an address in MLflow's pages: the one for model training
SIGNS = {"at_most": "≤", "at_least": "≥", "equals": "="}


def describe(
    model: str,
    verdict: Statement,
    evidence: Mapping[str, str],
    *,
    approve_command: str = "",
    state: str = "",
    review: str = "",
) -> str:
    """The description of a candidate: its verdict, the gates, the digests of the evidence, how to approve it.

    Args:
        model: Name of the model.
        verdict: The statement of `assess`.
        evidence: SHA-256 of each stage's signed record, by stage, in reading order.
        approve_command: The exact command with which a reviewer approves it; none when nothing waits for approval.
        state: One line on where the candidate stands, e.g. "waiting for 2 of 2 reviewers".
        review: Where its review page is on the same server; "" when there is none.
    """
    result = outcome(verdict) if verdict.predicate_type == VERIFICATION_SUMMARY else ""
    parts = [f"# {_cell(model)}: {MARKS.get(result, '?')} {_cell(result) or 'no verdict'}"]
    parts += [f"**{_cell(state)}**"] if state else []
    parts += [f"[Review page: read it, and decide]({review})"] if review else []
    parts += ["## Gates", gates_table(verdict)]
    parts += [APPROVAL, f"```\n{approve_command}\n```"] if approve_command else []
    parts += ["## Evidence", _evidence_table(evidence)]
    parts += ["*On a plain MLflow server anyone who can write can edit this page. Only the signatures count.*"]
    return "\n\n".join(parts)


def terminal_command(verb: str, server: str, model_id: str, name: str) -> str:
    """What a reviewer types who decides in a terminal about a candidate of a server that reviews.

    >>> terminal_command("reject", "https://plant.example", "m-1", "alice")
    'twinseal reject --from https://plant.example --candidate m-1 --as alice --anchor anchor --key file:alice.pem'
    """
    return f"twinseal {verb} --from {server} --candidate {model_id} --as {name} --anchor anchor --key file:{name}.pem"


def with_state(markdown: str, state: str, *, waits: bool) -> str:
    r"""A description in which the candidate stands where `state` says; how to approve it stays only while it waits.

    >>> with_state("# m: ✓ PASSED\n\n**waits**\n\n## Gates", "replaced", waits=False).splitlines()[2]
    '**replaced**'
    """
    parts = markdown.split("\n\n")
    if not waits:
        parts = [part for part in parts if part != APPROVAL and not part.startswith("```")]
    line = f"**{_cell(state)}**"
    if len(parts) > 1 and parts[1].startswith("**"):
        parts[1] = line
    else:
        parts.insert(1, line)
    return "\n\n".join(parts)


def gates_table(verdict: Statement) -> str:
    """The gates of a verdict as a Markdown table: observed value, bound, unit, result."""
    gates = verdict.predicate.get("twinseal_gates")
    rows = [gate for gate in gates if isinstance(gate, dict)] if isinstance(gates, list) else []
    if not rows:
        return "No gate was judged."
    lines = ["| gate | observed | bound | unit | result |", "|---|---:|---:|---|---|"]
    for gate in rows:
        result = str(gate.get("result", ""))
        bound = f"{SIGNS.get(str(gate.get('relation')), '')} {_cell(gate.get('bound'))}".strip()
        cells = [_cell(gate.get("name")), _cell(gate.get("observed")), bound, _cell(gate.get("unit"))]
        lines.append("| " + " | ".join([*cells, f"{MARKS.get(result, '?')} {_cell(result)}"]) + " |")
    return "\n".join(lines)


def candidate_page(experiment: str, model_id: str) -> str:
    """The address of a candidate within MLflow's own UI; relative to the server."""
    return f"#/experiments/{experiment}/models/{model_id}{LAYOUT}"


def candidate_links(experiment: str, run: str, model_id: str, stages: Iterable[str] = ()) -> str:
    """Links within MLflow's own UI to the run, its reports and the candidate's files; relative to the server.

    They open in the layout for model training, whatever layout was used last. MLflow 3.17 has no page for one file of a
    candidate: the signed record of each of `stages` is a download.
    """
    files = f"ajax-api/2.0/mlflow/logged-models/{model_id}/artifacts/files?artifact_file_path=evidence"
    records = [f"[{_cell(stage)}]({files}/{stage}.dsse.json)" for stage in stages]
    place, layout = f"#/experiments/{experiment}", LAYOUT
    return (
        f"[Run: parameters, measures]({place}/runs/{run}{layout}) · "
        f"[Report]({place}/runs/{run}/artifacts/reports/report.html{layout}) · "
        f"[Model card]({place}/runs/{run}/artifacts/reports/model_card.md{layout}) · "
        f"[Signed files and evidence]({place}/models/{model_id}/artifacts{layout}) · "
        f"[All candidates]({place}/runs{layout})" + (f"\n\nSigned records: {' · '.join(records)}" if records else "")
    )


def _evidence_table(evidence: Mapping[str, str]) -> str:
    if not evidence:
        return "None."
    lines = ["| stage | sha256 of its signed record |", "|---|---|"]
    return "\n".join([*lines, *(f"| {_cell(stage)} | `{_cell(digest)}` |" for stage, digest in evidence.items())])


def _cell(value: Any) -> str:
    """A value as the text of one table cell: no cell, line or tag of its own."""
    if value is None:
        return ""
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return mlflow_cell(" ".join(text.split())[:MAX_CELL])  # cut first: never in the middle of an escape
