"""Digests of bytes and files, and the one canonical form of JSON.

Everything that is signed or compared here is compared by SHA-256 over exact bytes (FIPS 180-4). Values that must have
one byte form are written by `canonical_json`. A digest is a lower-case hexadecimal string of 64 characters.

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

MAX_DEPTH = 64  # of lists and objects within each other; a root has 7
MAX_NODES = 100_000  # lists and objects: each takes some 200 bytes of memory, and a few microseconds
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_HALF = re.compile(rb"\\u[dD][89a-fA-F]")  # the escape of a surrogate, lone or one of a pair


def sha256(data: bytes) -> str:
    """The SHA-256 of `data`."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """The SHA-256 of the bytes of the file at `path`, read as a stream.

    Raises:
        OSError: The file cannot be read.
    """
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def is_sha256(text: object) -> bool:
    """Whether `text` is written as a SHA-256 digest: 64 lower-case hexadecimal digits."""
    return isinstance(text, str) and _SHA256.match(text) is not None


def canonical_json(value: Any) -> bytes:
    """The one byte form of a JSON value: sorted keys, no spaces, UTF-8, no NaN or infinity.

    Law: `parse_json(canonical_json(v)) == v` for every value of dict[str, …], list, str, int, float, bool, None.

    Raises:
        ValueError: `value` holds NaN or an infinity, or text that is not Unicode.
        TypeError: `value` holds something that JSON has no form for, or a key that is not a string.
    """
    _only_string_keys(value)
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    return text.encode("utf-8")


def _only_string_keys(value: Any) -> None:
    # json.dumps would turn {1: x} into {"1": x} in silence, and the law above would not hold.
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f"JSON key: expected a string, got {key!r}")
            _only_string_keys(item)
    elif isinstance(value, list | tuple):
        for item in value:
            _only_string_keys(item)


def parse_json(data: bytes, where: str, *, limit: int = 4 << 20) -> Any:
    """The value that untrusted JSON bytes stand for, strictly.

    Refused: more than `limit` bytes, more than MAX_NODES lists and objects, nesting deeper than MAX_DEPTH, a key given
    twice, NaN and infinities, numbers too long to be honest, anything that is not UTF-8, also behind an escape.

    Law: what is returned can be written again, by `canonical_json` and into a message: it nests no deeper than a
    recursive function follows, and its text is Unicode.

    Args:
        data: The bytes, from outside.
        where: What they are, for the message.
        limit: The most bytes that are looked at.

    Raises:
        EvidenceError: The bytes are refused.
    """
    if len(data) > limit:
        raise EvidenceError(f"{where}: expected at most {limit} bytes of JSON, got {len(data)}")
    if data.count(b"{") + data.count(b"[") > MAX_NODES:  # those in texts are counted, too: honest texts have few
        raise EvidenceError(f"{where}: expected at most {MAX_NODES} lists and objects, got more")
    try:
        value = json.loads(
            data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refuse_constant, parse_float=_finite
        )
        _refuse_depth(value)
        if _HALF.search(data):
            json.dumps(value, ensure_ascii=False).encode("utf-8")  # refuses half a character: "\ud800"
        return value
    except (ValueError, RecursionError) as error:  # ValueError covers JSONDecodeError and UnicodeDecodeError
        raise EvidenceError(f"{where}: expected JSON, got something else ({error})") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
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


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError(f"{text[:20]} is beyond a float")
    return number
