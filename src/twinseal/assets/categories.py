"""Columns of words: which of them is a state of the machine, so that its words can be numbered, and which is none.

A state has few words, changes within the histories of units, and is known to more than one of them. A word that is
there in last rows only marks the end, and a model that is given it learns nothing else. The numbers are in the order
of the alphabet: whether words have another one (low, medium, high), no file says.
"""

from __future__ import annotations

import re

import pandas as pd

from twinseal.assets.exports import Export
from twinseal.escaping import visible
from twinseal.telemetry.forms import MISSING

MOST_WORDS, MOST_ASKED = 20, 1000  # found out; and where a person says that it is a channel
LEAST_ROWS = 10  # for each word, on average
MOST_MISSING = 0.5
_DATE = re.compile(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}")


def is_text(export: Export, column: str) -> bool:
    """Whether fewer than half of the cells that have a value are numbers."""
    known = _known(export, column)
    return bool(len(known)) and bool(export.numbers[column].notna().sum() < 0.5 * len(known))


def words_of(export: Export, column: str, order: pd.DataFrame, *, is_asked: bool) -> tuple[tuple[str, ...], str]:
    """The words of a column of text in the order of their numbers, or () and why it is no state.

    Args:
        export: The export.
        column: A column of text.
        order: Its rows in order, as `moments.ordered_rows` gives them.
        is_asked: Whether a person said that it is a channel: then only the number of words counts.
    """
    known = _known(export, column)
    words = tuple(sorted(known.unique()))
    text = f"text: {len(words):,} different, such as {visible(known.iloc[0][:30])!r}"
    if len(words) < 2 or len(words) > (MOST_ASKED if is_asked else MOST_WORDS):
        return (), text
    why = "" if is_asked else _why_no_state(export, column, order, words)
    return (() if why else words), f"{text}; {why}"


def _known(export: Export, column: str) -> pd.Series[str]:
    cells = export.texts[column].str.strip()
    return cells[~cells.isin((*MISSING, *(export.form.missing if export.form else ())))]


def _why_no_state(export: Export, column: str, order: pd.DataFrame, words: tuple[str, ...]) -> str:
    known = _known(export, column)
    if len(known) < (1 - MOST_MISSING) * len(export.texts):
        return f"no value in {1 - len(known) / len(export.texts):.0%} of the rows"
    if len(known) < LEAST_ROWS * len(words) or any(map(_DATE.search, words)):
        return "too many, or dates: no state of the machine"
    at = order["row"].isin(known.index)  # rows of the export are numbered from 0
    here = pd.DataFrame({"unit": order["unit"][at], "word": known.reindex(order["row"][at]).to_numpy()})
    here["is_last"] = (order["unit"] != order["unit"].shift(-1))[at]
    by_word = here.groupby("word")
    if (here.groupby("unit")["word"].nunique() < 2).all():
        return "it is the same in all rows of each unit: it says which unit it is, not how it is"
    ends = by_word["is_last"].all()
    if ends.any():
        return (
            f"{visible(str(ends[ends].index[0])[:30])!r} is there in the last row of histories only: it marks the end"
        )
    alone = by_word["unit"].nunique() < 2
    if alone.any():
        return f"{visible(str(alone[alone].index[0])[:30])!r} is there in one unit only"
    return ""
