"""The small part of CBOR that frames use: what is written is read, in one form; every bomb is refused at once."""

from __future__ import annotations

import time
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinseal.errors import EvidenceError
from twinseal.trust.signing import cbor
from twinseal.trust.signing.cbor import MAX_DEPTH, MAX_ITEMS

numbers = st.integers(-(2**63), 2**63 - 1)
leaves = numbers | st.binary(max_size=300) | st.text(st.characters(exclude_categories=("Cs",)), max_size=300)
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(numbers | st.text(max_size=8), inner, max_size=5),
    max_leaves=20,
)


def depth(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(depth, inner), default=0)


@given(values.filter(lambda value: depth(value) <= MAX_DEPTH))
def test_a_value_reads_back_as_itself_and_as_another_decoder_reads_it(value: Any) -> None:
    data = cbor.encode(value)
    assert value == cbor.decode(data, "") == cbor2.loads(data)


@given(st.binary(max_size=60) | values.map(cbor2.dumps))
def test_what_is_taken_has_one_form(data: bytes) -> None:
    try:
        value = cbor.decode(data, "")
    except EvidenceError:
        return
    assert data == cbor.encode(value)
    assert value == cbor2.loads(data)


BOMBS = {
    "a list of 2^63 items": "9b7fffffffffffffff",
    "a list of 2^32 items in 40 bytes": "9affffffff" + "00" * 40,
    "a map of 2^63 pairs": "bb7fffffffffffffff",
    "bytes of 2^62": "5b4000000000000000",
    "text of 2^62": "7b4000000000000000",
    "lists in lists": "81" * 500 + "00",
    "maps in maps": "a100" * 500 + "00",
    "a list without an end": "9f" + "00" * 8,
    "bytes in pieces": "5f4100ff",
    "text in pieces": "7f6161ff",
    "a map without an end": "bf0000ff",
    "a big number": "c25801" + "ff",
    "a reference to itself": "d81c81d81d00",
    "a regular expression": "d8236a" + b"(a+)+(a+)+".hex(),
    "a time": "c11a5e0be100",
    "a fraction": "d81e820103",
    "a message in a message": "d28440a04040",
    "a NaN as a key": "a1fb7ff800000000000000",
    "a float": "fb3ff0000000000000",
    "null": "f6",
    "true": "f5",
    "a simple value": "f0",
    "a break": "ff",
    "a reserved length": "1c",
    "a key twice": "a201000101",
    "keys out of order": "a202000100",
    "a list as a key": "a1800",
    "bytes as a key": "a1410000",
    "a number in a longer form": "1817",
    "a length in a longer form": "580100",
    "zero in eight bytes": "1b0000000000000000",
    "a number of more than 64 bits": "1bffffffffffffffff",
    "text that is no Unicode": "62c328",
    "a surrogate": "63eda080",
    "more after it": "0000",
    "nothing": "",
    "half a number": "19ff",
}


@pytest.mark.attack("T")
@pytest.mark.parametrize("bomb", BOMBS)
def test_a_cbor_bomb_is_refused_at_once(bomb: str) -> None:
    """A frame is a bomb for its decoder: huge lengths, endless or nested lists, tags, NaN as a key, a key twice."""
    data = bytes.fromhex(BOMBS[bomb] if len(BOMBS[bomb]) % 2 == 0 else BOMBS[bomb] + "0")
    began = time.perf_counter()
    with pytest.raises(EvidenceError, match="frame: expected canonical CBOR, got something else"):
        cbor.decode(data, "frame")
    assert time.perf_counter() - began < 0.5


def test_there_are_limits_for_bytes_and_for_items() -> None:
    assert [0] * (MAX_ITEMS - 1) == cbor.decode(cbor.encode([0] * (MAX_ITEMS - 1)), "")
    with pytest.raises(EvidenceError, match=f"more than {MAX_ITEMS} items"):
        cbor.decode(cbor.encode([0] * MAX_ITEMS), "frame")
    with pytest.raises(EvidenceError, match="frame: expected at most 10 bytes of CBOR, got 11"):
        cbor.decode(bytes(11), "frame", limit=10)


@pytest.mark.parametrize("value", [1.0, None, True, {1.5: 0}, {b"a": 0}, object(), [{True: 1}]])
def test_only_its_own_types_are_written(value: Any) -> None:
    with pytest.raises(TypeError, match="expected"):
        cbor.encode(value)


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, "\ud800"])
def test_what_has_no_form_is_not_written(value: Any) -> None:
    with pytest.raises(ValueError, match=r"64 bits|surrogates"):
        cbor.encode(value)
