"""What changed from one policy to another: said in words, and never mild about a change that is not understood."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinseal.config import read_yaml
from twinseal.policy_changes import Change, policy_changes

POLICY = Path(__file__).parents[1] / "policy"
SHIPPED = {path.name: read_yaml(path) for path in sorted(POLICY.glob("*.yaml"))}
Edit = Callable[[dict[str, Any]], Any]


def changed(edit: Edit) -> tuple[Change, ...]:
    new = copy.deepcopy(SHIPPED)
    edit(new)
    return policy_changes(SHIPPED, new)


def gate(policy: dict[str, Any], name: str) -> dict[str, Any]:
    return next(item for item in policy["gates.yaml"]["gates"] if item["name"] == name)


def remove_gate(policy: dict[str, Any]) -> None:
    policy["gates.yaml"]["gates"].remove(gate(policy, "missed-failures"))


LOOSER: dict[str, tuple[Edit, str]] = {
    "a gate removed": (remove_gate, "looser: gates.yaml: missed-failures: removed"),
    "a bound raised": (
        lambda p: gate(p, "quarantined-units").update(at_most=0.5),
        "looser: gates.yaml: quarantined-units: at_most: 0.05 → 0.5",
    ),
    "a bound raised for one asset": (
        lambda p: gate(p, "accuracy")["assets"]["pump"].update(at_most=90),
        "looser: gates.yaml: accuracy: assets: pump: at_most: 9 → 90",
    ),
    "a least count lowered": (
        lambda p: gate(p, "enough-failures").update(at_least=1),
        "looser: gates.yaml: enough-failures: at_least: 20 → 1",
    ),
    "a family left out": (
        lambda p: gate(p, "accuracy").update(families=["certified"]),
        "looser: gates.yaml: accuracy: families: [robust] → [certified]",
    ),
    "another measure": (
        lambda p: gate(p, "accuracy").update(measure="evasion/clean/late_share"),
        "looser: gates.yaml: accuracy: measure: evasion/clean/rmse_cycles → evasion/clean/late_share",
    ),
    "a threat dropped": (
        lambda p: p["threats.yaml"]["evasion"].pop(0),
        "looser: threats.yaml: evasion: all-sensors: removed",
    ),
    "a budget dropped": (
        lambda p: p["threats.yaml"]["evasion"][0]["epsilon_sigma"].pop(),
        "looser: threats.yaml: evasion: all-sensors: epsilon_sigma: [0.05, 0.1, 0.25, 0.5] → [0.05, 0.1, 0.25]",
    ),
    "fewer steps": (
        lambda p: p["threats.yaml"]["evasion"][0].update(pgd_steps=1),
        "looser: threats.yaml: evasion: all-sensors: pgd_steps: 30 → 1",
    ),
    "a range widened": (
        lambda p: p["contract.yaml"]["assets"]["pump"]["sensors"]["high_flow"].update(maximum=1e6),
        "looser: contract.yaml: assets: pump: sensors: high_flow: maximum:",
    ),
    "one reviewer less": (
        lambda p: p["roles.yaml"]["roles"]["reviewer"].update(threshold=1),
        "looser: roles.yaml: roles: reviewer: threshold: 2 → 1",
    ),
    "a file removed": (lambda p: p.pop("threats.yaml"), "looser: threats.yaml: removed"),
}


@pytest.mark.parametrize("case", sorted(LOOSER))
def test_what_may_let_a_worse_model_through_is_called_looser(case: str) -> None:
    edit, line = LOOSER[case]
    found = changed(edit)
    assert found[0].loosens
    assert any(str(change).startswith(line) for change in found), found


STRICTER: dict[str, tuple[Edit, str]] = {
    "a bound lowered": (
        lambda p: gate(p, "quarantined-units").update(at_most=0.01),
        "stricter: gates.yaml: quarantined-units: at_most: 0.05 → 0.01",
    ),
    "a gate added": (
        lambda p: p["gates.yaml"]["gates"].append({"name": "new", "at_most": 1}),
        "stricter: gates.yaml: new: added",
    ),
    "a budget added": (
        lambda p: p["threats.yaml"]["evasion"][0]["epsilon_sigma"].append(1.0),
        "stricter: threats.yaml: evasion: all-sensors: epsilon_sigma: [0.05, 0.1, 0.25, 0.5] → ",
    ),
}


@pytest.mark.parametrize("case", sorted(STRICTER))
def test_what_can_only_ask_for_more_is_called_stricter(case: str) -> None:
    edit, line = STRICTER[case]
    (found,) = changed(edit)
    assert str(found).startswith(line)
    assert not found.loosens


def test_words_for_people_change_nothing() -> None:
    assert () == changed(lambda p: gate(p, "accuracy").update(why="another reason"))
    assert () == policy_changes(SHIPPED, copy.deepcopy(SHIPPED))


def test_what_may_loosen_comes_first() -> None:
    def both(policy: dict[str, Any]) -> None:
        gate(policy, "quarantined-units").update(at_most=0.01)
        gate(policy, "enough-failures").update(at_least=1)

    assert [True, False] == [change.loosens for change in changed(both)]


def test_a_text_from_outside_stays_one_short_line() -> None:
    (found,) = policy_changes({"a.yaml": {"x": "y"}}, {"a.yaml": {"x": "one\nline more " + "z" * 500}})
    assert "\n" not in str(found)
    assert len(str(found)) < 150


def test_who_proposed_and_who_accepted_is_said_in_a_line_each() -> None:
    old, new = copy.deepcopy(SHIPPED), copy.deepcopy(SHIPPED)
    for policy in (old, new):
        policy["contract.yaml"]["assets"]["fan"] = {"model": "fan-rul"}
        gate(policy, "accuracy")["assets"]["fan"] = {"at_most": 12.5}
    contract, bound = (policy["contract.yaml"]["assets"]["fan"] for policy in (old, new))
    contract["proposed"], bound["accepted"] = "twinseal asset new", "gerda, 2026-11-26"
    gate(new, "accuracy")["assets"]["fan"]["proposed"] = "1.15 × 10.8"
    assert [
        "looser: contract.yaml: contract of 'fan': accepted by gerda, 2026-11-26",
        "stricter: gates.yaml: gate accuracy of 'fan' (at most 12.5): proposed by 1.15 × 10.8, not yet accepted",
    ] == list(map(str, policy_changes(old, new)))
    del bound["accepted"]
    assert "looser: contract.yaml: contract of 'fan': no longer only proposed, and accepted by nobody" in list(
        map(str, policy_changes(old, new))
    )


def test_a_key_called_like_a_mark_elsewhere_is_a_change_as_any_other() -> None:
    for old, new in (
        ({"contract.yaml": {"proposed": "a"}}, {"contract.yaml": {}}),
        ({"contract.yaml": {"assets": {"fan": {"proposed": 0}}}}, {"contract.yaml": {"assets": {"fan": {}}}}),
        ({"roles.yaml": {"assets": {"fan": {"accepted": "a"}}}}, {"roles.yaml": {"assets": {"fan": {}}}}),
        ({"gates.yaml": {"assets": {"fan": {"accepted": "a"}}}}, {"gates.yaml": {"assets": {"fan": {}}}}),
    ):
        assert ["removed"] == [change.what.split()[0] for change in policy_changes(old, new)]


leaves = st.none() | st.booleans() | st.integers(-9, 9) | st.text("abc", max_size=3)
trees = st.recursive(
    leaves, lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text("abc"), below), max_leaves=6
)
policies = st.dictionaries(st.sampled_from(["gates.yaml", "threats.yaml"]), trees, min_size=1)


@given(policies, policies)
def test_every_difference_is_said_and_the_same_is_silent(old: dict[str, Any], new: dict[str, Any]) -> None:
    assert () == policy_changes(old, old)
    assert (canonical(old) == canonical(new)) == (not policy_changes(old, new))


def canonical(value: Any) -> Any:
    """The same with the types of numbers and truth values told apart."""
    if isinstance(value, dict):
        return {key: canonical(item) for key, item in value.items()}
    return [canonical(item) for item in value] if isinstance(value, list) else (type(value).__name__, value)
