r"""Text from outside, made harmless for the place where it is shown: one function for each place.

Names of units, channels and attacks come from telemetry and settings, comments and reasons from people. What is a plain
name in one place is a command in another: a tag in HTML, a formula in a spreadsheet, a jump of the cursor.

    html         Data Docs and other pages that no template escapes (the report's template escapes by itself)
    markdown     the model card
    mlflow_cell  a cell of a table in MLflow's description
    csv_cell     tables that people open in a spreadsheet; `csv_text` is its inverse
    visible      a log; for a terminal, `console.printable` makes it one line without rich's markup

    >>> html("<footer>"), markdown("a_b|c"), csv_cell("=1+1"), visible("a\x1b[2J")
    ('&lt;footer&gt;', 'a\\_b\\|c', "'=1+1", 'a�[2J')
"""

from __future__ import annotations

import html as _html
import re
from typing import Any

_MARKDOWN = re.compile(r"([\\`*_{}\[\]#|!~$])")
_REFERENCES = str.maketrans(
    {letter: f"&#{ord(letter)};" for letter in "\\*_~|[]!#"} | {"`": "'", "&": "&amp;", "<": "&lt;", ">": "&gt;"}
)
_FORMULA = frozenset("=+-@\uff1d\uff0b\uff0d\uff20")  # also the wide forms


def html(text: str) -> str:
    """Text as HTML that shows it and does nothing else, also within an attribute."""
    return _html.escape(text, quote=True)


def html_everywhere(value: Any) -> Any:
    """Plain data with every text in it, keys included, as `html` writes it."""
    if isinstance(value, str):
        return html(value)
    if isinstance(value, dict):
        return {html(key) if isinstance(key, str) else key: html_everywhere(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [html_everywhere(item) for item in value]
    return value


def markdown(text: str) -> str:
    """Text as Markdown that shows it and does nothing else: one line, no markup, no HTML, no links."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MARKDOWN.sub(r"\\\1", line).replace("://", ":&#47;&#47;").replace("www.", "www&#46;").replace("@", "&#64;")


def mlflow_cell(text: str) -> str:
    """One line as a cell of a Markdown table that shows it and does nothing else; markup becomes references."""
    return visible(text).translate(_REFERENCES).replace("://", ":&#47;&#47;")


def csv_cell(text: str) -> str:
    """Text as a cell that no spreadsheet takes for a formula: an apostrophe before what could begin one.

    A spreadsheet may skip spaces, control characters and invisible letters at the start. So a text gets its apostrophe
    when its first visible letter could begin a formula, and when its first letter is invisible.

    Law: `csv_text(csv_cell(text)) == text`.
    """
    seen = next((letter for letter in text if letter.isprintable() and not letter.isspace()), "")
    begins = text[:1] == "'" or seen in _FORMULA or not text[:1].isprintable()
    return f"'{text}" if begins else text


def csv_text(cell: str) -> str:
    """The text that `csv_cell` wrote."""
    return cell.removeprefix("'")


def visible(text: object) -> str:
    """Text for a terminal: no control character that could repaint the screen, no invisible or reversing letter."""
    return "".join(c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in str(text))
