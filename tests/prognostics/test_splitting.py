from __future__ import annotations

import hashlib
import itertools
from typing import get_args

import pytest

from twinseal.config import parse
from twinseal.errors import ConfigError
from twinseal.prognostics.splitting import Purpose, Split, SplitPolicy, seed, split_units, unit_part

NAMES = [f"unit-{n:03d}" for n in range(100)]
POLICY = SplitPolicy(validation_share=0.1, test_share=0.2)
SALTS = [hashlib.sha256(str(n).encode()).hexdigest() for n in range(40)]  # as they are drawn: 64 hexadecimal digits


def names_for(wanted: int, of: int, known_salt: str) -> list[str]:
    """Names that an attacker tries until each is in another part, under the salt that the attacker believes in."""
    found: list[str] = []
    for number in itertools.count():
        name = f"evil-{number}"
        if unit_part(name, of, known_salt) == len(found):
            found.append(name)
        if len(found) == wanted:
            return found
    raise AssertionError


@pytest.mark.attack("P")
def test_names_chosen_to_be_in_every_part() -> None:
    """Names are tried until three bad units would be in three parts of ten: under the salt they fall by chance"""
    guessed = "what the attacker believes"
    chosen = names_for(3, 10, guessed)
    assert 3 == len({unit_part(name, 10, guessed) for name in chosen})  # works against whom they know
    spread = [len({unit_part(name, 10, salt) for name in chosen}) for salt in SALTS]
    strangers = [len({unit_part(name, 10, salt) for name in ("a", "b", "c")}) for salt in SALTS]
    assert min(spread) < 3
    assert abs(sum(spread) - sum(strangers)) / len(SALTS) < 0.35  # no better spread than any three names


@pytest.mark.attack("P")
def test_names_chosen_to_validate() -> None:
    """Names are tried until one's units are all of what validates; under the salt they train like any others"""
    guess = Split(POLICY, "what the attacker believes")
    evil = [f"evil-{n}" for n in range(3_000)]
    placed = split_units(evil, guess, with_test=True)["validation"][:12]
    known = split_units(NAMES + placed, guess, with_test=True)["validation"]
    assert set(placed) <= set(known)  # works against whom they know
    shares = [
        len(set(placed) & set(split_units(NAMES + placed, Split(POLICY, salt), with_test=True)["validation"])) / 12
        for salt in SALTS
    ]
    assert 0.05 < sum(shares) / len(shares) < 0.16
    assert max(shares) < 0.6


def test_another_salt_is_another_split_and_the_same_the_same() -> None:
    splits = [split_units(NAMES, Split(POLICY, salt), with_test=True) for salt in (SALTS[0], SALTS[0], SALTS[1])]
    assert splits[0] == splits[1] != splits[2]


def test_no_unit_moves_another() -> None:
    split = Split(POLICY, SALTS[0])
    whole, fewer = split_units(NAMES, split, with_test=True), split_units(NAMES[1:], split, with_test=True)
    for name in ("train", "validation", "test"):
        assert set(fewer[name]) == set(whole[name]) - {NAMES[0]}


def test_no_salt_leaves_too_few_units_to_judge_by() -> None:
    """Found by a demo: its salt put 6 of 126 pumps into validation, and a gate asked for more failures than those."""
    units = [f"pump-{n:03d}" for n in range(126)]
    salts = [hashlib.sha256(f"many {n}".encode()).hexdigest() for n in range(300)]
    sizes = [
        {name: len(part) for name, part in split_units(units, Split(POLICY, salt), with_test=True).items()}
        for salt in salts
    ]
    assert 9 == min(size["validation"] for size in sizes) and 17 == min(size["test"] for size in sizes)
    assert max(size["validation"] for size in sizes) > 15, "else nothing is left to chance"
    assert {126} == {sum(size.values()) for size in sizes}


def test_what_is_drawn_for_one_purpose_tells_nothing_of_another() -> None:
    seeds = {seed(SALTS[0], purpose) for purpose in get_args(Purpose)}
    assert len(get_args(Purpose)) == len(seeds)
    assert all(0 <= found < 2**32 for found in seeds)
    validating = split_units(NAMES, Split(POLICY, SALTS[0]), with_test=True)["validation"]
    assert len({unit_part(name, 10, SALTS[0]) for name in validating}) > 3


def test_without_a_salt_there_is_no_split() -> None:
    with pytest.raises(ValueError, match="expected a salt, got none"):
        Split(POLICY, "")


@pytest.mark.parametrize("wrong", [{"validation_share": 0.9}, {"test_share": -0.1}, {"cuts_per_unit": 0}, {"seed": 1}])
def test_a_policy_out_of_range_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        parse(SplitPolicy, wrong, "policy/evaluation.yaml")
