"""What a reviewer sees beside the release before: what is worse is marked, what is unknown is never better."""

from __future__ import annotations

from typing import Any

import pytest

from tests.twin.deployment import MODEL, statements, verdict_on
from twinseal.digests import sha256
from twinseal.evidence import Statement, Subject, provenance
from twinseal.server.comparison import MAX_ROWS, compare

FILES = (Subject("model/config.json", sha256(b"config")),)


def evidence(gates: list[dict[str, Any]], **changes: Any) -> dict[str, Statement]:
    """The statements of a candidate whose verdict has these gates."""
    found = statements(FILES, MODEL)
    verdict = verdict_on(FILES, MODEL, ())
    source = {"commit": changes.get("commit", "a" * 40), "changed": changes.get("changed", [])}
    predicate = verdict.predicate | {"twinseal_gates": gates, "twinseal_source": source}
    found["assess"] = Statement(verdict.subjects, verdict.predicate_type, predicate)
    parameters = {"train": {"epochs": changes.get("epochs", 20), "hidden": [64, 64]}} | changes.get("parameters", {})
    found["train"] = provenance(
        FILES,
        stage="train",
        materials=(),
        builder="test",
        parameters=parameters,
        environment={"python": "3.11.9", "packages": {"torch": changes.get("torch", "2.13.0"), "numpy": "2.4.0"}},
    )
    measured = {
        "units_total": 180,
        "units_quarantined": changes.get("out", 0),
        "findings_by_rule": {"range": 3, "label": 0},
    }
    said = found["validate"].predicate | {"twinseal_measures": measured}
    found["validate"] = Statement(found["validate"].subjects, found["validate"].predicate_type, said)
    warned = found["evade"].predicate | {"warnedTests": changes.get("warned", [])}
    found["evade"] = Statement(found["evade"].subjects, found["evade"].predicate_type, warned)
    return found


def gate(
    name: str = "accuracy", observed: float | None = 5.0, relation: str = "at_most", **more: Any
) -> dict[str, Any]:
    return {
        "name": name,
        "observed": observed,
        "bound": 9.0,
        "relation": relation,
        "unit": "cycles",
        "result": "PASSED",
    } | more


@pytest.mark.parametrize(
    ("relation", "before", "now", "worse"),
    [
        ("at_most", 5.0, 6.0, True),
        ("at_most", 6.0, 5.0, False),
        ("at_most", 5.0, 5.0, False),
        ("at_least", 12.0, 11.0, True),
        ("at_least", 11.0, 12.0, False),
        ("equals", 9.0, 8.5, True),
        ("equals", 8.5, 9.0, False),
        ("at_most", 5.0, None, True),
        ("at_most", 5.0, float("nan"), True),
        ("at_most", None, 6.0, False),
        ("new relation", 5.0, 5.0, True),
    ],
)
def test_worse_is_nearer_to_the_bound_or_unknown(
    relation: str, before: float | None, now: float | None, worse: bool
) -> None:
    row = compare(
        evidence([gate(observed=now, relation=relation)]), evidence([gate(observed=before, relation=relation)])
    )
    assert worse == row.gates[0].worse


def test_gate_says_how_much_room_is_left() -> None:
    (row,) = compare(evidence([gate(observed=6.0, why="because")]), None).gates
    assert ("6 cycles", "≤ 9 cycles", "33 %", "", False, "because") == (
        row.observed, row.bound, row.margin, row.before, row.worse, row.why,
    )  # fmt: skip
    assert "-11 %" == compare(evidence([gate(observed=10.0)]), None).gates[0].margin
    assert "" == compare(evidence([gate(bound=0.0, observed=0.0)]), None).gates[0].margin


def test_gate_that_is_gone_is_said() -> None:
    found = compare(evidence([gate()]), evidence([gate(), gate("missed-failures")]))
    assert ("missed-failures",) == found.gone


def test_what_differs_is_listed_and_the_same_is_not() -> None:
    before = evidence([gate()], epochs=20, torch="2.13.0")
    found = compare(evidence([gate()], epochs=5, torch="2.14.1", commit="b" * 40, changed=["src/x.py"], out=9), before)
    assert [("train.epochs", "20", "5")] == [(row.name, row.before, row.now) for row in found.settings.rows]
    assert [("torch", "2.13.0", "2.14.1")] == [(row.name, row.before, row.now) for row in found.packages.rows]
    assert ("units quarantined", "0", "9") in [(row.name, row.before, row.now) for row in found.data.rows]
    assert ("a" * 40, "b" * 40) == found.commits
    assert ("src/x.py",) == found.uncommitted
    same = compare(before, before)
    assert (0, 0, 0, ()) == (same.settings.count, same.packages.count, same.data.count, same.gone)


LONG = "x" * 5000


@pytest.mark.attack("S")
@pytest.mark.parametrize(
    ("before", "now", "shown"),
    [
        ({"a": LONG + "1"}, {"a": LONG + "2"}, ("a", "… " + "x" * 20 + "1", "… " + "x" * 20 + "2")),
        ({"a": [0] * 500 + [1]}, {"a": [0] * 500 + [2]}, ("a", "… , 0, 0, 0, 0, 0, 0, 1]", "… , 0, 0, 0, 0, 0, 0, 2]")),
        ({"a": [1, 2]}, {"a": [2, 1]}, ("a", "[1, 2]", "[2, 1]")),
        ({"a": [{"b": 1}]}, {"a": [{"b": 2}]}, ("a", '[{"b": 1}]', '[{"b": 2}]')),
        ({"a": 1}, {"a": "1"}, ("a", "1", '"1"')),
        ({"a": 1}, {"a": True}, ("a", "1", "true")),
        ({"a": 1}, {"a": 1.0}, ("a", "1", "1.0")),
        ({}, {"a": ""}, ("a", "", '""')),
        ({}, {"a": {}}, ("a", "", "{}")),
        ({}, {"a": None}, ("a", "", "null")),
        ({"a.b": 1, "a": {"b": 2}}, {"a.b": 1, "a": {"b": 3}}, ("a.b", "2", "3")),
        ({"a.b": 1, "a": {"b": 2}}, {"a.b": 3, "a": {"b": 2}}, ("a.b", "1", "3")),
    ],
)
def test_change_is_not_hidden(before: dict[str, Any], now: dict[str, Any], shown: tuple[str, str, str]) -> None:
    """An engineer changes the end of what a page cuts off, an item of a list, a kind, or one of two equal names."""
    found = compare(evidence([], parameters=now), evidence([], parameters=before)).settings
    assert (1, [shown]) == (found.count, [(row.name, row.before, row.now) for row in found.rows])


@pytest.mark.attack("S")
def test_change_of_one_stage_is_not_hidden_by_another() -> None:
    """Two stages have a parameter of one name; the change is in the one that is read first."""
    before, now = evidence([], parameters={"data": 1}), evidence([], parameters={"data": 1})
    for found, value in ((before, "old"), (now, "new")):
        found["ingest"] = provenance(
            FILES, stage="ingest", materials=(), builder="test", parameters={"data": value}, environment={}
        )
    assert [("data", "old", "new")] == [(row.name, row.before, row.now) for row in compare(now, before).settings.rows]


@pytest.mark.attack("S")
def test_file_whose_digest_begins_alike_is_another() -> None:
    """A file of data is made so that its digest begins as that of the one before."""
    before, now = evidence([]), evidence([])
    for found, digit in ((before, "1"), (now, "2")):
        said = found["validate"]
        found["validate"] = Statement((Subject("data.csv", "a" * 63 + digit),), said.predicate_type, said.predicate)
    assert ["data.csv"] == [row.name for row in compare(now, before).data.rows]


@pytest.mark.attack("S")
def test_changes_that_have_no_row_are_counted() -> None:
    """So many parameters change that those which matter are in no row."""
    many = {f"a{number:05d}": 1 for number in range(MAX_ROWS)}
    found = compare(evidence([], parameters=many, epochs=1), evidence([], epochs=2)).settings
    assert (MAX_ROWS + 1, MAX_ROWS, 1) == (found.count, len(found.rows), found.more)


def test_findings_and_doubts_are_said() -> None:
    found = compare(evidence([gate()], out=2, warned=["evasion/pgd: did not converge"]), None)
    assert ("2 of 180 units quarantined", "3 findings of the rule range") == found.findings
    assert ("evade: evasion/pgd: did not converge",) == found.doubts


@pytest.mark.parametrize("gates", [None, "gates", [1, "x", None], [{}], [{"name": 1, "observed": "5", "bound": []}]])
def test_malformed_gates_are_shown_as_unknown(gates: Any) -> None:
    for row in compare(evidence(gates), evidence([gate()])).gates:
        assert "PASSED" != row.result
        assert "—" in row.observed
