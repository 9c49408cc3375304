"""CBOR as signed frames use it: a small part of RFC 8949, in its one canonical form (section 4.2.1).

Whole numbers from -2^63 to 2^63 - 1, bytes, text, lists, and maps whose keys are whole numbers or text. No tags,
floats, indefinite lengths, or values such as null: what these are for in an attack (a tag makes a decoder run code of
its own, a length reserves memory, a NaN is a key that equals nothing) never reaches a general decoder. A reading is a
number in bytes of known length; see `twinseal.twin.frames`.

    >>> encode({"b": [1, b"x"], "a": -1}).hex()
    'a2616120616282014178'
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twinseal.errors import EvidenceError

MAX_DEPTH = 6
MAX_ITEMS = 20_000  # numbers, texts, lists and maps
_LEAST = (24, 1 << 8, 1 << 16, 1 << 32)  # that need a head of one, two, four, eight more bytes
_LIMIT = 1 << 63
_NUMBER, _NEGATIVE, _BYTES, _TEXT, _LIST, _MAP = range(6)


def encode(value: Any) -> bytes:
    """The canonical bytes of `value`.

    Law: `decode(encode(value), "") == value`, unless it is too large or too deep for `decode`.

    Raises:
        TypeError: It holds something else than the types above; a boolean is none of them.
        ValueError: A number is out of range, or text is not valid Unicode.
    """
    kind = type(value)
    if kind is int:
        if not -_LIMIT <= value < _LIMIT:
            raise ValueError(f"CBOR: expected a number of 64 bits, got one of {value.bit_length()}")
        return _head(_NUMBER, value) if value >= 0 else _head(_NEGATIVE, -1 - value)
    if kind is bytes:
        return _head(_BYTES, len(value)) + bytes(value)
    if kind is str:
        text = value.encode()
        return _head(_TEXT, len(text)) + bytes(text)
    if kind in (list, tuple):
        return _head(_LIST, len(value)) + b"".join(map(encode, value))
    if kind is dict:
        return _encode_map(value)
    raise TypeError(f"CBOR: expected numbers, bytes, text, lists and maps, got {kind.__name__}")


def decode(data: bytes, where: str, *, limit: int = 1 << 20, items: int = MAX_ITEMS) -> Any:
    """The value of untrusted bytes, if they are its canonical form.

    Law: `encode(decode(data, where)) == data`.

    Args:
        data: The untrusted bytes.
        where: What they are, for the message.
        limit: The most bytes that are looked at.
        items: The most items; fewer where it is known how many there are, so that nobody can make this take long.

    Raises:
        EvidenceError: They are more, end early, go on after the value, nest deeper than MAX_DEPTH, have more than
            `items` items, or are not canonical.
    """
    if len(data) > limit:
        raise EvidenceError(f"{where}: expected at most {limit} bytes of CBOR, got {len(data)}")
    try:
        reader = _Reader(data, items)
        value = reader.value(MAX_DEPTH)
        if reader.at != len(data):
            raise ValueError(f"{len(data) - reader.at} bytes after its end")
    except ValueError as error:  # UnicodeDecodeError is one
        raise EvidenceError(f"{where}: expected canonical CBOR, got something else ({error})") from error
    return value


class _Reader:
    """Reads from the front; every length is compared with what is left before anything is made of it."""

    def __init__(self, data: bytes, items: int) -> None:
        self.data, self.at, self._most, self._left = data, 0, items, items

    def value(self, depth: int) -> Any:
        self._left -= 1
        if self._left < 0:
            raise ValueError(f"more than {self._most} items")
        major, number = self._head()
        if major <= _NEGATIVE:
            if number >= _LIMIT:
                raise ValueError("a number of more than 64 bits")
            return number if major == _NUMBER else -1 - number
        if major <= _TEXT:
            found = self._take(number)
            return found if major == _BYTES else found.decode()
        if major > _MAP:
            raise ValueError("a tag, a float, or another value that has no place here")
        if not depth:
            raise ValueError(f"nested deeper than {MAX_DEPTH}")
        if number > len(self.data) - self.at:  # an item takes a byte at least
            raise ValueError("a length beyond the end")
        return [self.value(depth - 1) for _ in range(number)] if major == _LIST else self._map(number, depth - 1)

    def _map(self, pairs: int, depth: int) -> dict[int | str, Any]:
        value: dict[int | str, Any] = {}
        before = b""
        for _ in range(pairs):
            start = self.at
            key = self.value(0)
            if not isinstance(key, int | str):
                raise ValueError("a key that is neither a number nor text")
            spelled = self.data[start : self.at]
            if spelled <= before:  # so no key is given twice either
                raise ValueError("a key twice, or keys out of order")
            before = spelled
            value[key] = self.value(depth)
        return value

    def _head(self) -> tuple[int, int]:
        first = self._take(1)[0]
        major, short = first >> 5, first & 31
        if short < _LEAST[0]:
            return major, short
        if short > 27:
            raise ValueError("an indefinite length, or a reserved one")
        number = int.from_bytes(self._take(1 << (short - 24)))
        if number < _LEAST[short - 24]:
            raise ValueError("a number in a longer form than it needs")
        return major, number

    def _take(self, count: int) -> bytes:
        end = self.at + count
        if end > len(self.data):
            raise ValueError("it ends early")
        found, self.at = self.data[self.at : end], end
        return found


def _head(major: int, number: int) -> bytes:
    if number < _LEAST[0]:
        return bytes((major << 5 | number,))
    size = sum(number >= least for least in _LEAST[1:])
    return bytes((major << 5 | 24 + size,)) + number.to_bytes(1 << size)


def _encode_map(value: Mapping[Any, Any]) -> bytes:
    if not all(type(key) in (int, str) for key in value):
        raise TypeError("CBOR key: expected a number or text, got something else")
    pairs = sorted((encode(key), encode(item)) for key, item in value.items())
    return _head(_MAP, len(pairs)) + b"".join(key + item for key, item in pairs)
