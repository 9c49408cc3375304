r"""The columns of a table that somebody brings: what to do when they are not those that were expected.

Pure functions over the names in the header. Who reads the table refuses it; this module only helps to say how to go on.

    >>> nearest(("unit", "cycle"), ["unit_nr", "time_cycles", "T24"])
    {'unit': 'unit_nr', 'cycle': 'time_cycles'}
    >>> print(how_to_separate("fleet.csv", ["unit;cycle;T24"]))  # doctest: +NORMALIZE_WHITESPACE
    Its columns are separated by semicolons. Write it with commas: python -c 'import pandas;
    pandas.read_csv("fleet.csv", sep=";", decimal=",").to_csv("fleet-commas.csv", index=False)'
"""

from __future__ import annotations

import difflib
import json
import re
import shlex
from collections.abc import Iterable, Sequence
from pathlib import PurePath

SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars", " ": "spaces"}
MAX_SHOWN = 400  # letters of a header in a message
MAX_COMPARED = 80  # letters of one name
MIN_LIKENESS = 0.7


def nearest(expected: Iterable[str], names: Iterable[str]) -> dict[str, str]:
    """For each of the expected names that has one, the name in the header that probably means it.

    Upper and lower case, spelling (`uint`) and more words (`unit_nr`, `time_cycles`) may differ.
    """
    names, found = tuple(names), {}
    for name in expected:
        score, near = max(((_likeness(name, other), other) for other in names), default=(0.0, ""))
        if score >= MIN_LIKENESS:
            found[name] = near
    return found


def how_to_separate(path: str, names: Sequence[str]) -> str:
    """The command that writes a table with commas whose header came out as one column; empty for any other header.

    Where columns are separated by semicolons, numbers often have a decimal comma: it becomes a point.
    """
    mark = separator_in(names)
    if not mark:
        return ""
    old, new = PurePath(path), PurePath(path).with_stem(f"{PurePath(path).stem}-commas")
    separator = "\\s+" if mark == " " else mark
    read = f'pandas.read_csv({_text(old)}, sep={_text(separator)}, decimal=",")'
    program = f"import pandas; {read}.to_csv({_text(new)}, index=False)"
    return f"Its columns are separated by {SEPARATORS[mark]}. Write it with commas: python -c {shlex.quote(program)}"


def separator_in(names: Sequence[str]) -> str:
    """What separates the columns of a table whose header came out as one; "" for any other header."""
    return next((mark for mark in SEPARATORS if mark in names[0]), "") if len(names) == 1 else ""


def list_names(names: Iterable[str]) -> str:
    """The names in a header, for a message; a long header is cut short."""
    text = ", ".join(map(str, names)) or "none"
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"


def _likeness(name: str, other: str) -> float:
    """0 to 1: of the whole name, or of the word in it that is most alike."""
    other = other[:MAX_COMPARED].casefold()  # a hostile header must not hold up the refusal
    words = (other.strip(), *re.split(r"[^a-z0-9]+", other))
    return max(difflib.SequenceMatcher(None, name.casefold(), word).ratio() for word in words)


def _text(value: object) -> str:
    """As Python writes a text in double quotes: the shell has the single ones."""
    return json.dumps(str(value), ensure_ascii=False)
