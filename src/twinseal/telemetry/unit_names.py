r"""Unit names: one rule for every way in, so that no machine has two lives and no two machines have one.

- Text is taken as it is written: `007` and `7` are two machines, `a1` and `A1` too; `NA` is a name, no missing value.
- Of letters with marks, the one Unicode form (NFC). Spaces of every kind at the ends are dropped; each run of them
  inside is one space. What is then empty, longer than MAX_NAME, or has a character that is not shown, is no name.
- A whole number is its digits, also where a table of numbers with gaps holds it as 10.0. Another number is no name.
- Bytes are text in UTF-8.

    >>> unit_name("A\u00a0"), unit_name("u\u0308"), unit_name(10.0), unit_name(b"T 1"), unit_name("NA"), unit_name(1.5)
    ('A', 'ü', '10', 'T 1', 'NA', '')
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from numbers import Integral, Real
from typing import Any

_SPACES = re.compile(r"[ \u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]+")
MAX_NAME = 64  # letters
MAX_EXACT = 1 << 53  # beyond, a float may be another whole number than was written


def unit_name(value: Any) -> str:
    """The name that a value stands for; "" if it is none."""
    if isinstance(value, str):
        return _plain(value)
    if isinstance(value, bytes):
        try:
            return _plain(value.decode())
        except UnicodeDecodeError:
            return ""
    if isinstance(value, bool) or not isinstance(value, Real):
        return ""
    if isinstance(value, Integral):
        return _plain(str(int(value))) if abs(value) < 10**MAX_NAME else ""  # longer is no name, and slow to write
    number = float(value)
    return str(int(number)) if math.isfinite(number) and number.is_integer() and abs(number) < MAX_EXACT else ""


def alike(names: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """Pairs of names that people could take for one: they differ in case, leading zeros, or compatible letters alone.

    >>> alike(["A1", "a1", "007", "7", "B"])
    (('007', '7'), ('A1', 'a1'))
    """
    seen: dict[str, str] = {}
    found = []
    for name in sorted(names):
        other = seen.setdefault(_folded(name), name)
        if other != name:
            found.append((other, name))
    return tuple(found)


@lru_cache(maxsize=8192)
def _plain(text: str) -> str:
    if text.isascii() and text.isalnum() and len(text) <= MAX_NAME:
        return text
    shown = _SPACES.sub(" ", unicodedata.normalize("NFC", text).strip())
    return shown if shown.isprintable() and len(shown) <= MAX_NAME else ""


def _folded(name: str) -> str:
    return unicodedata.normalize("NFKC", name).casefold().lstrip("0") or "0"
