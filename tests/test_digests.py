from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinseal.digests import canonical_json, is_sha256, parse_json, sha256, sha256_file
from twinseal.errors import EvidenceError

JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(JSON_VALUES)
def test_canonical_json_reads_back_as_the_same_value(value: object) -> None:
    try:
        data = canonical_json(value)
    except UnicodeEncodeError:  # a lone surrogate is not Unicode text; it is refused, not mangled
        return
    assert value == parse_json(data, "value")


@given(st.dictionaries(st.text(st.characters(codec="utf-8")), st.integers(), max_size=6))
def test_the_order_of_keys_does_not_change_the_bytes(value: dict[str, int]) -> None:
    backwards = dict(reversed(list(value.items())))
    assert canonical_json(value) == canonical_json(backwards)


@given(st.binary())
def test_whatever_the_bytes_parse_json_gives_a_value_or_our_own_error(data: bytes) -> None:
    with contextlib.suppress(EvidenceError):
        parse_json(data, "fuzz")


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b'{"a":1,"a":2}', "a key is given twice"),
        (b"NaN", "NaN is not JSON"),
        (b"[-Infinity]", "-Infinity is not JSON"),
        (b"1e999", "1e999 is too large for a float"),
        (b"1" * 5000, "integer string conversion"),
        (b"[" * 100_000, "recursion"),
        (b"\xff\xfe", "utf-8"),
        (b"", "Expecting value"),
    ],
)
def test_json_that_could_mean_two_things_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(EvidenceError, match=why):
        parse_json(data, "record")


def test_json_longer_than_the_limit_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(EvidenceError, match="record: expected at most 10 bytes of JSON, got 11"):
        parse_json(b"[1,2,3,4,5]", "record", limit=10)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_is_none_is_never_written(value: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json({"rmse": value})


def test_a_key_that_is_no_string_is_refused_instead_of_converted() -> None:
    with pytest.raises(TypeError, match="expected a string, got 1"):
        canonical_json({1: "x"})


def test_digests_are_those_of_hashlib(tmp_path: Path) -> None:
    data = json.dumps(list(range(10_000))).encode()
    (tmp_path / "f").write_bytes(data)
    assert hashlib.sha256(data).hexdigest() == sha256(data) == sha256_file(tmp_path / "f")


@pytest.mark.parametrize("text", ["", "A" * 64, "a" * 63, "a" * 65, "g" * 64, "a" * 64 + "\n", None, 1])
def test_what_is_no_digest_is_not_taken_for_one(text: object) -> None:
    assert not is_sha256(text)
