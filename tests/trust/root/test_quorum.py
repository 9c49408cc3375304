"""Who counts towards a role's threshold: the laws of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.trust.scenes import Scene
from twinseal.digests import canonical_json, parse_json
from twinseal.errors import RootError
from twinseal.trust.root.pins import Pins
from twinseal.trust.root.quorum import Quorum

NAMES = st.from_regex(r"[a-z]{1,6}", fullmatch=True)
ACCOUNTS = st.from_regex(r"[a-zA-Z]{1,6}(@[a-z]{1,5}\.example)?", fullmatch=True)
MODELS = st.sampled_from(["pump-rul", "turbofan-rul", "fan-rul"])


@st.composite
def quorums(draw: st.DrawFn) -> Quorum:
    groups = draw(st.dictionaries(NAMES, NAMES, max_size=4))
    names = draw(st.lists(ACCOUNTS, unique_by=str.casefold, max_size=8))
    accounts: dict[str, list[str]] = {}
    for name in names:
        accounts.setdefault(draw(NAMES), []).append(name)
    models = draw(st.dictionaries(NAMES, st.lists(MODELS, min_size=1, unique=True), max_size=4))
    return Quorum.of(draw(st.integers(0, 5)), groups, draw(st.integers(1, 5)), accounts, models)


@given(quorums())
def test_a_quorum_reads_back_as_itself(quorum: Quorum) -> None:
    assert quorum == Quorum.from_dict(parse_json(canonical_json(quorum.to_dict()), "quorum"))
    assert (quorum == Quorum()) == (quorum.to_dict() == {})


@given(quorums(), NAMES)
def test_a_holder_who_has_left_is_in_no_part_of_it(quorum: Quorum, holder: str) -> None:
    left = quorum.without(holder)
    assert holder not in (*dict(left.groups), *dict(left.accounts), *dict(left.models))
    assert left == left.without(holder)


@given(quorums(), MODELS)
def test_of_one_model_it_names_its_reviewers_alone(quorum: Quorum, model: str) -> None:
    of_model = quorum.of_model(model)
    assert of_model == of_model.of_model(model)
    named = {*dict(of_model.groups), *dict(of_model.accounts)}
    assert named == {name for name in (*dict(quorum.groups), *dict(quorum.accounts)) if quorum.reviews(name, model)}
    assert all(quorum.reviews(name, model) == (model in models) for name, models in quorum.models)


@given(quorums(), NAMES, st.lists(ACCOUNTS, max_size=4))
def test_more_builders_exclude_no_fewer_holders(quorum: Quorum, holder: str, built_by: list[str]) -> None:
    assert not quorum.is_among(holder, [])
    assert quorum.is_among(holder, [*built_by, holder.upper()])
    assert quorum.is_among(holder, [*built_by, f"{holder}@plant.example"])
    if quorum.is_among(holder, built_by):
        assert quorum.is_among(holder, [*built_by, "root"])


@given(st.lists(st.sampled_from(["alice", "bruno", "chiara"]), unique=True, min_size=1))
def test_more_signatures_are_never_worse(some: list[str]) -> None:
    groups = {"alice": "a", "bruno": "a", "chiara": "c"}
    quorum = Quorum.of(1, groups, 2)
    assert set(quorum.groups_of(some)) <= set(quorum.groups_of(groups))


@pytest.mark.parametrize(
    "edit",
    [
        {"min_without_passkey": 0},
        {"min_without_passkey": True},
        {"min_without_passkey": "1"},
        {"min_groups": 1},
        {"min_groups": 3},
        {"groups": {}},
        {"groups": []},
        {"groups": {"alice": ["a"]}},
        {"groups": {"mallory": "a"}},
        {"accounts": {"alice": "asmith"}},
        {"accounts": {"alice": [1]}},
        {"accounts": {"alice": ["b", "a"]}},
        {"accounts": {"alice": ["a", "a"]}},
        {"models": {"alice": []}},
        {"models": {"alice": "pump-rul"}},
        {"models": {"alice": ["other-rul"]}},
        {"models": {"mallory": ["pump-rul"]}},
        {"models": {"alice": ["turbofan-rul"], "bruno": ["turbofan-rul"]}},
        {"min_passkeys": 1},
    ],
)
def test_a_root_with_another_form_of_it_is_none(scene: Scene, edit: dict[str, Any]) -> None:
    value = scene.anchor.pins.to_dict()
    assert Pins.from_dict(value) == scene.anchor.pins
    value["roles"]["reviewer"] |= edit
    with pytest.raises(RootError, match="reviewer"):
        Pins.from_dict(value)


@pytest.mark.parametrize("role", ["builder", "root", "owner"])
def test_only_reviewers_have_one(scene: Scene, role: str) -> None:
    pins = scene.anchor.pins
    name = pins.roles[role].holders[0].name
    more = replace(pins.roles[role], quorum=Quorum.of(accounts={name: ["other"]}))
    with pytest.raises(RootError, match=f"expected {role} to have a threshold alone"):
        replace(pins, roles={**pins.roles, role: more})


def test_pins_with_a_quorum_and_with_none_read_back_as_themselves(scene: Scene) -> None:
    pins = scene.anchor.pins
    quorum = Quorum.of(1, {"alice": "a", "bruno": "b"}, 2, {"chiara": ["c@plant.example"]}, {"chiara": ["pump-rul"]})
    more = replace(pins, roles={**pins.roles, "reviewer": replace(pins.roles["reviewer"], quorum=quorum)})
    assert more == Pins.from_dict(parse_json(canonical_json(more.to_dict()), "pins"))
    assert more != pins
