r"""Rows that nobody signed, as JSON: one object, or one object a line.

>>> rows_of(b'{"unit": "pump-1", "cycle": 1}', "a/b")
[UnsignedRow(row={'unit': 'pump-1', 'cycle': 1}, origin='a/b')]
>>> [item.reason for item in rows_of(b'{"unit": 1}\n[2]\n\n{', "a/b")[1:]]
['malformed', 'malformed']
"""

from __future__ import annotations

from twinseal.digests import parse_json
from twinseal.errors import EvidenceError
from twinseal.twin.inputs.source import Item, Unreadable, UnsignedRow

MAX_ROWS = 8192  # in one message, as in a frame
MAX_ROW_BYTES = 64 << 10


def rows_of(data: bytes, origin: str) -> list[Item]:
    """What one message says: a row for each object, and an Unreadable for each line that is none."""
    if b"\n" not in data.strip():
        return [row_of(data, origin)]
    if len(data) <= MAX_ROW_BYTES and isinstance(one := row_of(data, origin), UnsignedRow):
        return [one]  # an object over several lines
    lines = [line for line in data.split(b"\n", 4 * MAX_ROWS) if line.strip()]
    items: list[Item] = [
        row_of(line, f"{origin}, line {number}") for number, line in enumerate(lines[:MAX_ROWS], start=1)
    ]
    if len(lines) > MAX_ROWS:
        message = f"{origin}: expected at most {MAX_ROWS} rows in one message, got more"
        items.append(Unreadable("too long", message, origin, len(lines) - MAX_ROWS))
    return items


def row_of(line: bytes, origin: str) -> UnsignedRow | Unreadable:
    """What one line says."""
    if len(line) > MAX_ROW_BYTES:
        message = f"{origin}: expected a row of at most {MAX_ROW_BYTES} bytes, got {len(line)}"
        return Unreadable("too long", message, origin)
    try:
        row = parse_json(line, origin, limit=MAX_ROW_BYTES)
    except EvidenceError as error:
        return Unreadable("malformed", str(error), origin)
    if not isinstance(row, dict):
        return Unreadable("malformed", f"{origin}: expected a JSON object, got {type(row).__name__}", origin)
    return UnsignedRow(row, origin)
