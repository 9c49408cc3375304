"""The parsers of telemetry that nobody signed: JSON by messages and by lines, and payloads of Sparkplug B."""

from __future__ import annotations

from tests.fuzz.harness import Parser, holds
from twinseal.errors import EvidenceError
from twinseal.twin.inputs.json_rows import MAX_ROWS, rows_of
from twinseal.twin.inputs.lines import LineBuffer
from twinseal.twin.inputs.machines import CycleSettings
from twinseal.twin.inputs.source import Item, Unreadable
from twinseal.twin.inputs.sparkplug_nodes import Nodes, Reading
from twinseal.twin.inputs.sparkplug_payload import DOUBLE, INT64, Metric, Payload, decode, encode

_ROWS = b'{"unit": "a", "cycle": 1, "heat": 0.5}\n{"unit": "b", "cycle": 1, "heat": null}\n'


def input_parsers() -> list[Parser]:
    """Each gives items, and names what it cannot read."""
    reading = Reading({"Heat": "heat"}, CycleSettings(of="Starts"), "frame", {}, rows=True)
    birth = encode(Payload(1, 0, (Metric("Heat", 1, DOUBLE, 0.5), Metric("Starts", 2, INT64, 7))))
    data = encode(Payload(2, 1, (Metric("", 1, 0, 0.75), Metric("", 2, 0, 8))))

    def messages(raw: bytes) -> None:
        _refuse(rows_of(raw, "topic"), len(raw))

    def lines(raw: bytes) -> None:
        buffer = LineBuffer("pipe")
        found = buffer.feed(raw[: len(raw) // 2]) + buffer.feed(raw[len(raw) // 2 :]) + buffer.end()
        whole = LineBuffer("pipe")
        holds(found == whole.feed(raw) + whole.end(), "lines: others came out of the same bytes")
        _refuse(found, len(raw))

    def payload(raw: bytes) -> None:
        found = decode(raw, "topic")
        holds(repr(decode(raw, "topic")) == repr(found), "sparkplug: another payload came out of the same bytes")
        nodes = Nodes(reading)
        for kind in ("NBIRTH/e", "DBIRTH/e/d", "DDATA/e/d"):
            nodes.take(f"spBv1.0/g/{kind}", raw)

    return [
        Parser("json_rows", (_ROWS, b'{"unit": "a"}'), messages),
        Parser("json_lines", (_ROWS,), lines),
        Parser("sparkplug", (birth, data), payload),
    ]


def _refuse(items: list[Item], length: int) -> None:
    holds(len(items) <= min(length + 1, MAX_ROWS + 1), "rows: more came out than went in")
    for item in items:
        if isinstance(item, Unreadable):
            raise EvidenceError(item.message)
