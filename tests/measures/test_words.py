"""Words: every key that a page may show has some, and the documents use the same ones."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.measures.groups import keys
from twinseal.measures.keys import Aim, Name
from twinseal.measures.robustness import AttackName, RobustnessMeasures
from twinseal.measures.words import AIMS, ATTACKS, TESTS, name_words, signature_words, sized, word, words
from twinseal.robustness.attacks.injection import FORMS, SPANS
from twinseal.robustness.battery import all_attacks
from twinseal.robustness.threats import Threats

ROOT = Path(__file__).parents[2]


def test_every_attack_aim_and_test_has_words() -> None:
    assert set(get_args(AttackName)) == set(ATTACKS)
    assert set(get_args(Aim)) == set(AIMS)
    assert set(RobustnessMeasures.model_fields) - {"guard"} == set(TESTS)
    assert {attack.field for attack in all_attacks()} <= set(TESTS)


def test_no_two_attacks_have_the_same_words() -> None:
    for table in (ATTACKS, AIMS, TESTS):
        assert len(table) == len(set(table.values()))


@pytest.mark.parametrize("name", ATTACKS)
def test_the_page_of_the_methods_calls_each_attack_what_the_report_calls_it(name: AttackName) -> None:
    assert ATTACKS[name] in (ROOT / "docs/robustness/method.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("eps-0.1", "0.1 σ"),
        ("size-2", "2 σ"),
        ("rate-0.005", "0.5 % of the allowed change per cycle"),
        ("share-0.05", "5 % of the units"),
        ("strong", "PGD with several starts (APGD)"),
        ("slow-drift", "slow drift"),
        ("owned_sensors", "owned sensors"),
        ("label-healthy-washing", "label healthy-washing"),
        ("clean-label-backdoor", "clean-label backdoor"),
        ("eps-x", "eps x"),
    ],
)
def test_a_key_is_shown_with_its_unit_and_a_name_without_hyphens(key: str, expected: str) -> None:
    assert expected == word(key)


def test_a_test_is_named_by_all_its_keys() -> None:
    assert "white box, PGD, any error, 0.1 σ" == words("white-box/pgd/any/eps-0.1")


def test_a_size_has_the_unit_of_its_kind_and_none_is_not_shown() -> None:
    assert "one sensor, 0.5 σ" == sized("one-sensor", "size-0.5")
    assert "slow drift, 2 % of the allowed change per cycle" == sized("slow-drift", "rate-0.02")
    assert "replay" == sized("replay", "size-0")


def test_every_signature_is_in_words() -> None:
    names = [f"{form}-{span}-{way}" for form in FORMS for span in SPANS for way in ("down", "up")]
    found = [signature_words(name) for name in names]
    assert ("constant bias, continuous, too low", "random bias, interim, too high") == (found[0], found[-1])
    assert len(found) == len(set(found))


def test_no_two_threats_of_the_policy_have_the_same_words() -> None:
    threats = Threats.load(ROOT / "policy/threats.yaml")
    listed = [threat.name for threat in (*threats.evasion, *threats.scenarios, *threats.poisoning)]
    assert len(listed) == len({name_words(name) for name in listed})


@given(name=keys(Name) | st.text(max_size=80))
def test_any_name_has_words(name: str) -> None:
    assert isinstance(words(name), str)
