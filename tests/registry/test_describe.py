from __future__ import annotations

import pytest

from twinseal.evidence import Statement, Subject, verification_summary
from twinseal.registry.describe import candidate_links, describe, gates_table


def verdict(**gate: object) -> Statement:
    fields = {
        "name": "accuracy",
        "observed": 14.25,
        "relation": "at_most",
        "bound": 16,
        "unit": "cycles",
        "result": "PASSED",
    }
    return verification_summary(
        (Subject("model/model.safetensors", "0" * 64),),
        verifier="https://twinseal.dev/assess",
        time_verified="2026-01-01T00:00:00Z",
        resource="pump-rul",
        policy=Subject("policy", "1" * 64),
        inputs=(),
        result="FAILED" if gate.get("result") == "FAILED" else "PASSED",
        gates=[fields | gate],
    )


def test_reviewer_reads_verdict_gates_evidence_and_the_command() -> None:
    text = describe(
        "pump-rul", verdict(), {"ingest": "a" * 64}, approve_command="twinseal approve pump-rul", state="waits for 2"
    )
    assert text.startswith("# pump-rul: ✓ PASSED\n\n**waits for 2**")
    assert "| accuracy | 14.25 | ≤ 16 | cycles | ✓ PASSED |" in text
    assert f"| ingest | `{'a' * 64}` |" in text
    assert "```\ntwinseal approve pump-rul\n```" in text


def test_failed_verdict_shows_as_failed() -> None:
    assert describe("m", verdict(result="FAILED"), {}).startswith("# m: ✗ FAILED")


def test_statement_that_is_no_verdict_shows_as_none() -> None:
    other = Statement(verdict().subjects, "https://slsa.dev/provenance/v1", {"verificationResult": "PASSED"})
    assert describe("m", other, {}).startswith("# m: ? no verdict")
    assert gates_table(other) == "No gate was judged."


def test_text_from_a_gate_cannot_break_out_of_its_cell() -> None:
    table = gates_table(verdict(name="a | b\n<script>x</script> [c](http://d)"))
    assert table.splitlines()[2].startswith(
        "| a &#124; b &lt;script&gt;x&lt;/script&gt; &#91;c&#93;(http:&#47;&#47;d) | 14.25 |"
    )
    assert len(table.splitlines()) == 3


@pytest.mark.attack("P")
@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("**approved** _by_ ~~two~~", "&#42;&#42;approved&#42;&#42; &#95;by&#95; &#126;&#126;two&#126;&#126;"),
        ("![x](https://evil.example/p.png)", "&#33;&#91;x&#93;(https:&#47;&#47;evil.example/p.png)"),
        ("a\u202egnp\u2066\x1b[2J", "a\ufffdgnp\ufffd\ufffd&#91;2J"),
        ("a\r\n\u2028# Approved", "a &#35; Approved"),
        ("\\| x", "&#92;&#124; x"),
        ("x" * 199 + "<b>", "x" * 199 + "&lt;"),
    ],
)
def test_a_text_in_mlflows_description_is_text_and_nothing_else(name: str, shown: str) -> None:
    """Text that MLflow shows to reviewers has Markdown, links, HTML or a change of direction: shown as plain text."""
    lines = gates_table(verdict(name=name)).splitlines()
    assert (3, True) == (len(lines), lines[2].startswith(f"| {shown} | 14.25 |"))
    described = describe("m", verdict(), {}, state=name)
    assert f"\n\n**{shown}**\n\n" in described


def test_links_stay_on_the_server() -> None:
    assert all(
        part.split(")")[0].startswith("#/experiments/1/") for part in candidate_links("1", "r", "m").split("](")[1:]
    )
