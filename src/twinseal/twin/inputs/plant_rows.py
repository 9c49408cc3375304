"""Rows that come one by one with the plant's own columns, by the mapping that is signed with the model.

Law: a table of the plant's, row by row, gives what `plant_reader` gives of it as a file; held by a test. A mapping by
which cycles come from time stamps is refused: they are counted, and gathered, over whole lives.

>>> mapping = ColumnMapping(unit="P", cycle="n", settings={}, sensors={"T": "heat"}, scale={"T": (2.0, 1.0)})
>>> [item.row for item in contract_row(UnsignedRow({"P": "a", "n": 3, "T": 5, "other": 1}, "topic"), mapping, ())]
[{'unit': 'a', 'cycle': 3, 'heat': 11.0}]
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

import numpy as np

from twinseal.errors import ConfigError
from twinseal.telemetry.forms import MISSING
from twinseal.telemetry.mapping import ColumnMapping
from twinseal.twin.inputs.source import Item, Source, Unreadable, UnsignedRow
from twinseal.twin.rows import number_of


class PlantRows:
    """A source whose rows have the plant's columns, as one whose rows have the contract's channels.

    Args:
        source: Where they come from.
        mapping: Of the plant's files that trained the model.
        channels: That the model reads.

    Raises:
        ConfigError: There is no mapping, or rows that come one by one cannot be read by it.
    """

    def __init__(self, source: Source, mapping: ColumnMapping | None, channels: Sequence[str]) -> None:
        if mapping is None or mapping.time is not None or not mapping.unit:
            reason = "the name of a file" if mapping and not mapping.unit else "time stamps"
            got = f"one by {reason}" if mapping else "none"
            raise ConfigError(
                f"sources: {source.name}: plant_columns: expected a model whose mapping has a column for the unit and "
                f"one for the cycle, got {got}",
                remedy="Send the contract's channels with unit and cycle; then leave plant_columns out.",
            )
        self._source, self._mapping = source, mapping.only(channels)
        self._more = [name for name in channels if name not in mapping.channels.values()]

    @property
    def name(self) -> str:
        """As `Source` says."""
        return self._source.name

    async def deliveries(self) -> AsyncGenerator[Sequence[Item], None]:
        """As `Source` says."""
        async with aclosing(self._source.deliveries()) as deliveries:
            async for delivery in deliveries:
                items: list[Item] = []
                for item in delivery:
                    if isinstance(item, UnsignedRow):
                        items += contract_row(item, self._mapping, self._more)
                    else:
                        items.append(item)
                yield items


def contract_row(item: UnsignedRow, mapping: ColumnMapping, more: Sequence[str]) -> list[Item]:
    """The row with the contract's channels, and what was no reading in it.

    Args:
        item: A row with the plant's columns.
        mapping: With a column for the unit and one for the cycle.
        more: Channels that are columns of their own names.
    """
    items: list[Item] = []
    row: dict[str, Any] = {"unit": item.row.get(mapping.unit), "cycle": item.row.get(str(mapping.cycle))}
    for column, channel in (*mapping.channels.items(), *((name, name) for name in more)):
        cell = item.row.get(column)
        words = mapping.categories.get(column)
        number = number_of(cell) if words is None else words.get(str(cell).strip(), math.nan)
        factor, offset = mapping.scale.get(column, (1.0, 0.0))
        with np.errstate(over="ignore"):
            row[channel] = float(np.float32(factor * number + offset))  # as training read it
        if math.isnan(number):
            row[channel] = None
            if cell is not None and str(cell).strip() not in (*MISSING, *mapping.missing):
                expected = "a number" if words is None else f"one of {', '.join(list(words)[:8])}"
                text = f"{item.origin}: {column}: expected {expected}, got {cell!r:.40}"
                items.append(Unreadable("wrong datatype", text, item.origin))
    return [UnsignedRow(row, item.origin), *items]
