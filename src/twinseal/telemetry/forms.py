"""How delimited text is written: separator, decimal sign, encoding, and the words for a missing value.

A module of its own, and light: a mapping is part of what a twin verifies before it reads any file.

>>> Form(separator=";", decimal=",").encoding
'utf-8'
"""

from __future__ import annotations

import codecs
from dataclasses import dataclass

# What plants, spreadsheets and programs write where there is no value; pandas reads the same as missing.
MISSING = (
    *("", "NaN", "nan", "NAN", "-NaN", "-nan", "NA", "N/A", "n/a", "<NA>", "#N/A", "#NA", "NULL", "null", "None"),
    *("1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN"),
)
# By the names that `codecs` gives them. Others that Python calls text are none of files: unicode_escape, utf-7, idna.
ENCODINGS = frozenset((
    *("ascii", "utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"),
    *(f"iso8859-{part}" for part in range(1, 17) if part != 12),
    *(f"cp{page}" for page in (437, 850, 852, 855, 858, 866, 874, 932, 936, 949, 950, *range(1250, 1259))),
    *("koi8-r", "koi8-u", "mac-roman", "shift_jis", "euc_jp", "euc_kr", "gb2312", "gbk", "gb18030", "big5"),
))  # fmt: skip
MAX_MISSING, MAX_WORD = 50, 64
DECIMAL_SIGNS = (".", ",")


@dataclass(frozen=True)
class Form:
    """How a file of delimited text is written.

    Attributes:
        separator: Between two cells.
        decimal: In numbers.
        encoding: Of the bytes.
        missing: Cells that stand for no value, beside those of MISSING.

    Raises:
        ValueError: The separator is no single character, or could be part of a number or a quote; the decimal sign is
            neither a point nor a comma; the encoding is none of ENCODINGS; or a word is too long.
    """

    separator: str = ","
    decimal: str = "."
    encoding: str = "utf-8"
    missing: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if (
            len(self.separator) != 1
            or not self.separator.isascii()
            or self.separator.isalnum()
            or self.separator in "\"'\0\r\n.+-"
        ):
            raise ValueError(f"separator: expected one character such as , ; | or a tab, got {self.separator[:20]!r}")
        if self.decimal not in DECIMAL_SIGNS:
            raise ValueError(f"decimal: expected '.' or ',', got {self.decimal[:20]!r}")
        if self.decimal == self.separator:
            raise ValueError(f"decimal: expected another sign than the separator, got {self.decimal!r} for both")
        if not is_encoding(self.encoding):
            raise ValueError(f"encoding: expected one such as utf-8, latin-1 or cp1252, got {self.encoding[:40]!r}")
        if len(self.missing) > MAX_MISSING or any(len(word) > MAX_WORD for word in self.missing):
            raise ValueError(f"missing: expected at most {MAX_MISSING} words of at most {MAX_WORD} letters, got more")


def is_encoding(name: str) -> bool:
    """Whether a file may be written so: an encoding of text, by any name that Python has for it."""
    try:
        return len(name) <= MAX_WORD and codecs.lookup(name).name in ENCODINGS
    except (LookupError, ValueError):
        return False
