"""Digests of bytes and files, and the one canonical form of JSON.

Whatever is signed or compared is compared by SHA-256 over exact bytes (FIPS 180-4). `canonical_json` writes values that
must have exactly one byte form. A digest is a lower-case hexadecimal string of 64 characters.

    >>> sha256(b"")[:8]
    'e3b0c442'
    >>> canonical_json({"b": 1, "a": [True, None]})
    b'{"a":[true,null],"b":1}'
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from twinseal.errors import EvidenceError
from twinseal.reading import open_regular

MAX_DEPTH = 64  # of nested lists and objects; a TUF root has 7
MAX_NODES = 100_000  # lists and objects: each takes some 200 bytes of memory, and a few microseconds
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")  # the escape of a surrogate, lone or one of a pair


def sha256(data: bytes) -> str:
    """The SHA-256 of `data`."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """The SHA-256 of the bytes of the regular file at `path`, read as a stream.

    Raises:
        OSError: The file cannot be read, or is a link, a fifo or a device.
    """
    with open_regular(path) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def is_sha256(text: object) -> bool:
    """Whether `text` has the form of a SHA-256 digest: 64 lower-case hexadecimal digits."""
    return isinstance(text, str) and _SHA256.match(text) is not None


def canonical_json(value: Any) -> bytes:
    """The one byte form of a JSON value: sorted keys, no spaces, UTF-8, no NaN or infinity.

    Law: `parse_json(canonical_json(v)) == v` for every value of dict[str, …], list, str, int, float, bool, None.

    Raises:
        ValueError: `value` holds NaN or an infinity, or text that is not valid Unicode.
        TypeError: `value` holds something that JSON cannot express, or a key that is not a string.
    """
    _refuse_other_keys(value)
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    return text.encode("utf-8")


def _refuse_other_keys(value: Any) -> None:
    # json.dumps would turn {1: x} into {"1": x} without a word, and the law above would not hold.
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f"JSON key: expected a string, got {key!r}")
            _refuse_other_keys(item)
    elif isinstance(value, list | tuple):
        for item in value:
            _refuse_other_keys(item)


def parse_json(data: bytes, where: str, *, limit: int = 4 << 20, nodes: int = MAX_NODES) -> Any:
    """The value of untrusted JSON bytes, parsed strictly.

    Refused: more than `limit` bytes, more than `nodes` lists and objects, nesting deeper than MAX_DEPTH, duplicate
    keys, NaN and infinities, numbers that are too long, anything that is not UTF-8, also behind an escape.

    Law: the returned value can be written again, by `canonical_json` and in a message: a recursive function can walk
    it, and its text is valid Unicode.

    Args:
        data: The untrusted bytes.
        where: What they are, for the message.
        limit: The most bytes that are parsed.
        nodes: The most lists and objects in them.

    Raises:
        EvidenceError: The bytes are refused.
    """
    if len(data) > limit:
        raise EvidenceError(f"{where}: expected at most {limit} bytes of JSON, got {len(data)}")
    if (
        data.count(b"{") + data.count(b"[") > nodes
    ):  # also counts those inside strings, of which valid documents have few
        raise EvidenceError(f"{where}: expected at most {nodes} lists and objects, got more")
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_refuse_duplicate_keys,
            parse_constant=_refuse_constant,
            parse_float=_finite_float,
        )
        _refuse_depth(value)
        if _SURROGATE_ESCAPE.search(data):
            json.dumps(value, ensure_ascii=False).encode("utf-8")  # refuses a lone surrogate: "\ud800"
        return value
    except (ValueError, RecursionError) as error:  # ValueError covers JSONDecodeError and UnicodeDecodeError
        raise EvidenceError(f"{where}: expected JSON, got something else ({error})") from error


def _refuse_duplicate_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key is given twice")
    return value


def _refuse_depth(value: Any) -> None:
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        inner = [node.values() if isinstance(node, dict) else node for node in level if isinstance(node, dict | list)]
        if not inner:
            return
        level = [item for items in inner for item in items]
    raise ValueError(f"nested deeper than {MAX_DEPTH}")


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _finite_float(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError(f"{text[:20]} is too large for a float")
    return number
