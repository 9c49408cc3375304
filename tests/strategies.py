"""Documents as an enemy would write them: valid ones, changed a little, and bytes that never were any.

`mutate` is a pure function of a document and a source of choices, so that hypothesis and the coverage-guided fuzzer
share one notion of hostile. A JSON document is changed as a tree (keys dropped, given twice, renamed; values of another
type, huge, nested deep), then written out again, and sometimes damaged as bytes; a document of another kind as bytes
alone.

    >>> from random import Random
    >>> mutate([b'{"a":1}'], Random(0)) != mutate([b'{"a":1}'], Random(1))
    True
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from hypothesis import strategies as st

MAX_BYTES = 1 << 20


class Raw(str):
    """Text that stands in the document as it is, unquoted."""


class Pairs(list[tuple[str, Any]]):
    """An object as the list of its members, so that a key can be there twice."""


# Each of these has broken some parser of JSON, of numbers, of names or of times.
SCALARS: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    1,
    -1,
    2**31,
    2**63,
    2**64,
    10**30,
    0.5,
    1.0,
    1e308,
    "",
    "\0",
    "a" * 300,
    "../x",
    "/etc/passwd",
    "İ",
    "ＡＢ",
    "\u202e",
    "1",
    "NaN",
    "2026-03-01T12:00:00Z",
    "0001-01-01T00:00:00+23:59",
    "9999-12-31T23:59:59-23:59",
    "0" * 64,
    "f" * 64,
    "A" * 64,
    [],
    {},
    [[]],
    [{}],
    {"": {}},
    Raw("NaN"),
    Raw("-Infinity"),
    Raw("1e999"),
    Raw("-0"),
    Raw("-0.0"),
    Raw("1" * 400),
    Raw("1" * 5000),
    Raw("1e-999"),
    Raw('"\\ud800"'),
    Raw('"\\ud83d\\ude00"'),
    Raw('{"\\udfff":1}'),
    Raw("[" * 100 + "]" * 100),
    Raw("[" * 900 + "]" * 900),
    Raw('{"a":' * 900 + "1" + "}" * 900),
    Raw("[" * 30_000 + "]" * 30_000),
)
JUNK: tuple[bytes, ...] = (
    b"",
    b"\0",
    b"\xff\xfe",
    b"\xc3\x28",
    b"\xed\xa0\x80",
    b"\xef\xbb\xbf",
    b"{",
    b"}",
    b"[",
    b'"',
    b",",
    b"\\u",
    b"\n",
    b" ",
    b"\x80" * 40,
)


CHOICES = st.one_of(*[st.integers(0, 2**32 - 1)] * 4, st.binary(max_size=400))
"""What `hostile` makes bytes of: mostly near misses of a document, now and then arbitrary bytes."""


def hostile(documents: Sequence[bytes], choice: int | bytes) -> bytes:
    """Bytes that a parser of `documents` may be given, as drawn from CHOICES."""
    return choice if isinstance(choice, bytes) else mutate(documents, Random(choice))


def mutate(documents: Sequence[bytes], random: Random) -> bytes:
    """One of `documents` with a few changes; the same for the same state of `random`."""
    data = random.choice(documents)
    try:
        value = json.loads(data)
        for _ in range(random.choice((1, 1, 1, 2, 4))):
            value = change(value, random)
        data = render(value, random).encode("utf-8", "surrogatepass")[:MAX_BYTES]
    except (ArithmeticError, ValueError, RecursionError):  # no JSON, or too large or too deep for us as well
        return damage(data, documents, random)
    return damage(data, documents, random) if random.random() < 0.15 else data


def damage(data: bytes, documents: Sequence[bytes], random: Random) -> bytes:
    """`data` with a few changes of its bytes."""
    for _ in range(random.choice((1, 1, 2, 8))):
        data = random.choice(_DAMAGES)(data, documents, random)[:MAX_BYTES]
    return data


def _flip(data: bytes, _: Sequence[bytes], random: Random) -> bytes:
    if not data:
        return data
    at = random.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << random.randrange(8)]) + data[at + 1 :]


def _cut(data: bytes, _: Sequence[bytes], random: Random) -> bytes:
    start, end = sorted((random.randint(0, len(data)), random.randint(0, len(data))))
    return data[start:end] if random.random() < 0.3 else data[:start] + data[end:]


def _truncate(data: bytes, _: Sequence[bytes], random: Random) -> bytes:
    return data[: random.randint(0, len(data))]


def _insert(data: bytes, _: Sequence[bytes], random: Random) -> bytes:
    at = random.randint(0, len(data))
    return data[:at] + random.choice(JUNK) + data[at:]


def _repeat(data: bytes, _: Sequence[bytes], random: Random) -> bytes:
    start, end = sorted((random.randint(0, len(data)), random.randint(0, len(data))))
    return data[:end] + data[start:end] * random.choice((1, 2, 20)) + data[end:]


def _join(data: bytes, documents: Sequence[bytes], random: Random) -> bytes:
    return data + random.choice(documents)


def _integer(data: bytes, _: Sequence[bytes], random: Random) -> bytes:
    """Binary formats keep their lengths in little-endian words."""
    at, size = random.randint(0, max(0, len(data) - 8)), random.choice((1, 2, 4, 8))
    word = random.choice((0, 1, 2**31 - 1, 2**32 - 1, 2**63, 2**64 - 1)) % 256**size
    return data[:at] + word.to_bytes(size, "little") + data[at + size :]


_DAMAGES: tuple[Callable[[bytes, Sequence[bytes], Random], bytes], ...] = (
    _flip,
    _flip,
    _cut,
    _truncate,
    _insert,
    _repeat,
    _join,
    _integer,
)


def change(value: Any, random: Random) -> Any:
    """A JSON value with one change somewhere in it."""
    path = random.choice(_paths(value))
    return _replaced(value, path, random)


def render(value: Any, random: Random) -> str:
    """A JSON value as text: in the canonical form, or in one of the others."""
    style = random.choice(((",", ":"), (",", ":"), (",", ":"), (", ", ": "), (" ,\n", "\t:")))
    return _text(value, *style)


def _text(value: Any, comma: str, colon: str) -> str:
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, dict | Pairs):
        items = value if isinstance(value, Pairs) else value.items()
        return "{" + comma.join(f"{_text(k, comma, colon)}{colon}{_text(v, comma, colon)}" for k, v in items) + "}"
    if isinstance(value, list):
        return "[" + comma.join(_text(item, comma, colon) for item in value) + "]"
    return json.dumps(value, ensure_ascii=False)


def _paths(value: Any, path: tuple[int, ...] = ()) -> list[tuple[int, ...]]:
    """Where something can be changed; objects and lists count their members."""
    found = [path]
    for index, item in enumerate(_members(value)):
        found += _paths(item, (*path, index))
    return found


def _members(value: Any) -> list[Any]:
    if isinstance(value, Pairs):
        return [item for _, item in value]
    return list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []


def _replaced(value: Any, path: tuple[int, ...], random: Random) -> Any:
    if not path:
        return _other(value, random)
    head, rest = path[0], path[1:]
    if isinstance(value, list) and not isinstance(value, Pairs):
        return [_replaced(item, rest, random) if index == head else item for index, item in enumerate(value)]
    pairs = Pairs(value if isinstance(value, Pairs) else value.items())
    key, item = pairs[head]
    if rest:
        pairs[head] = (key, _replaced(item, rest, random))
        return pairs
    kind = random.choice(("drop", "twice", "rename", "value", "value", "value", "last"))
    if kind == "drop":
        del pairs[head]
    elif kind == "twice":
        pairs.append((key, _other(item, random) if random.random() < 0.5 else item))
    elif kind == "rename":
        pairs[head] = (random.choice((key.upper(), key + " ", "", "__class__", key[:-1], "x-" + key)), item)
    elif kind == "last":
        pairs.append(pairs.pop(head))
    else:
        pairs[head] = (key, _other(item, random))
    return pairs


def _inside(text: str, random: Random) -> str:
    """Base64 with a change in the JSON that it stands for, as a DSSE payload; "" when it stands for none."""
    if len(text) < 40 or random.random() < 0.3:
        return ""
    try:
        value = json.loads(base64.b64decode(text, validate=True))
    except ValueError:
        return ""
    return base64.b64encode(render(change(value, random), random).encode("utf-8", "surrogatepass")).decode()


def _other(value: Any, random: Random) -> Any:
    """Something else in the place of `value`: often close to it."""
    near: list[Any] = []
    if isinstance(value, bool):
        near = [not value, int(value), str(value)]
    elif isinstance(value, int | float):
        near = [value + 1, -value, value * 2, float(value), str(value), [value]]
    elif isinstance(value, str) and not isinstance(value, Raw):
        inner = _inside(value, random)
        if inner:
            return inner
        near = [value + "\0", value[:-1], value.upper(), value + "/", " " + value, value * 2, [value], {value: value}]
        near += [value[:3] + "\u0301" + value[3:], value.replace("a", "а")]  # a Cyrillic a
    elif isinstance(value, list) and value and not isinstance(value, Pairs):
        near = [value[::-1], value[:-1], [*value, value[0]], value * 3, value[0], [value]]
    elif isinstance(value, dict | Pairs) and value:
        items = list(value if isinstance(value, Pairs) else value.items())
        near = [Pairs(items[::-1]), items[0][1], [value], Pairs([*items, ("x", 1)]), Pairs(items[:-1])]
    return random.choice(near) if near and random.random() < 0.6 else random.choice(SCALARS)
