"""Keys: one form for a number, from which it comes back."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from twinseal.measures import keys
from twinseal.measures.keys import number_of

REALS: dict[str, tuple[Callable[[float], str], Any]] = {
    "eps": (keys.epsilon_key, keys.Epsilon),
    "rounding": (keys.rounding_key, keys.Rounding),
    "size": (keys.size_key, keys.Size),
    "rate": (keys.rate_key, keys.Size),
    "share": (keys.share_key, keys.Share),
}
COUNTS: dict[str, tuple[Callable[[int], str], Any]] = {
    "liars": (keys.liars_key, keys.Liars),
    "k": (keys.count_key, keys.Count),
    "queries": (keys.queries_key, keys.Queries),
}
NUMBERS = st.just(0.0) | st.floats(1e-9, 1e15, exclude_max=True) | st.decimals(0, 1000, places=3).map(float)


def test_keys_as_the_documents_have_them() -> None:
    assert ("eps-0.1", "liars-2", 0.25) == (keys.epsilon_key(0.1), keys.liars_key(2), number_of("eps-0.25"))
    assert ("rounding-1", "rounding-10", "size-0") == (
        keys.rounding_key(1.0),
        keys.rounding_key(10.0),
        keys.size_key(0.0),
    )
    assert ("queries-5000", "k-3", "share-0.05") == (keys.queries_key(5000), keys.count_key(3), keys.share_key(0.05))


@pytest.mark.parametrize("kind", REALS)
@settings(max_examples=200)
@given(number=NUMBERS)
def test_the_number_comes_back_from_its_key_and_the_key_has_its_form(kind: str, number: float) -> None:
    """Law: number_of(key(x)) == x."""
    key_of, form = REALS[kind]
    key = key_of(number)
    assert key == TypeAdapter(form).validate_python(key)
    assert key.startswith(f"{kind}-")
    assert number == number_of(key)
    assert "e" not in key.removeprefix(f"{kind}-"), "no exponent: another form of the same number"


@pytest.mark.parametrize("kind", COUNTS)
@given(count=st.integers(0, 10**9))
def test_a_count_comes_back_from_its_key(kind: str, count: int) -> None:
    key_of, form = COUNTS[kind]
    key = key_of(count)
    assert key == TypeAdapter(form).validate_python(key) == f"{kind}-{count}"
    assert count == number_of(key)


@given(one=NUMBERS, other=NUMBERS)
def test_two_numbers_have_two_keys(one: float, other: float) -> None:
    assert (one == other) == (keys.epsilon_key(one) == keys.epsilon_key(other))


def test_small_numbers_and_large_ones_have_no_exponent() -> None:
    assert ("eps-0.00001", "eps-100000000000000") == (keys.epsilon_key(1e-5), keys.epsilon_key(1e14))
    assert "eps-0" == keys.epsilon_key(-0.0)


@pytest.mark.parametrize("number", [-0.1, math.nan, math.inf, -math.inf, 1e15, 1e-10])
def test_what_has_no_plain_form_has_no_key(number: float) -> None:
    with pytest.raises(ValueError, match="key: expected 0, or a number from 1e-9 to 1e15, got"):
        keys.epsilon_key(number)


@pytest.mark.parametrize("key", ["eps", "", "threshold", "eps-", "eps-x"])
def test_a_key_without_a_number_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match="could not convert"):
        number_of(key)


@pytest.mark.parametrize(
    "key",
    [
        "eps-1e-05",
        "eps--0.1",
        "eps-.5",
        "eps-01",
        "eps-0.10",
        "eps-1.",
        "eps-inf",
        "eps-0.1 ",
        "eps-0.1\n",
        "Eps-0.1",
        "0.1",
    ],
)
def test_another_form_of_a_number_is_no_key(key: str) -> None:
    with pytest.raises(ValidationError, match="string_pattern_mismatch"):
        TypeAdapter(keys.Epsilon).validate_python(key)


@pytest.mark.parametrize("key", ["liars-1.5", "liars--1", "liars-01", "liars-x"])
def test_members_are_counted_whole(key: str) -> None:
    with pytest.raises(ValidationError, match="string_pattern_mismatch"):
        TypeAdapter(keys.Liars).validate_python(key)


@pytest.mark.parametrize("name", ["", "a/b", "-a", " a", "a:b", "ä", "a\n", "x" * 81])
def test_a_name_that_would_break_a_path_or_a_line_is_none(name: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(keys.Name).validate_python(name)
