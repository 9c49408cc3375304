"""Rows with the plant's own columns, one by one, by the signed mapping."""

from __future__ import annotations

import asyncio
import csv
import json
import math
import os
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.twin.inputs.driving import Told, reasons, rows
from twinseal.config import parse
from twinseal.errors import ConfigError
from twinseal.telemetry.mapping import ColumnMapping
from twinseal.twin import plant_reader
from twinseal.twin.inputs.lines import LinesSource
from twinseal.twin.inputs.plant_rows import contract_row
from twinseal.twin.inputs.replay import Columns
from twinseal.twin.inputs.settings import InputSettings, sources_of
from twinseal.twin.inputs.source import Item, UnsignedRow

MAPPING = ColumnMapping(
    unit="Pumpe",
    cycle="Start",
    settings={"Modus": "mode"},
    sensors={"Temp": "heat", "heat": "speed"},  # a column of theirs has the name of another channel
    scale={"Temp": (0.1, -20)},
    categories={"Modus": {"an": 1, "aus": 0}},
    missing=("Bad",),
)
CHANNELS = ("mode", "heat", "speed", "starts")
_NUMBERS = st.floats(-1e6, 1e6).map(lambda number: float(f"{number:.6g}"))
_CELLS = st.fixed_dictionaries(
    {"Temp": _NUMBERS | st.none(), "heat": _NUMBERS | st.sampled_from(["Bad", "often"]), "starts": st.integers(0, 9)}
    | {"Modus": st.sampled_from(["an", "aus", " an", "halb", "Bad", None])}
)


@settings(max_examples=25)
@given(st.lists(_CELLS, min_size=1, max_size=5))
def test_row_by_row_it_is_what_the_file_gives(
    tmp_path_factory: pytest.TempPathFactory, cells: list[dict[str, Any]]
) -> None:
    lines = [{"Pumpe": "a", "Start": number, **row} for number, row in enumerate(cells, start=1)]
    path = tmp_path_factory.mktemp("plant") / "t.csv"
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, ["Pumpe", "Start", "Modus", "Temp", "heat", "starts"])
        writer.writeheader()
        writer.writerows(lines)
    expected = list(plant_reader.read(path, MAPPING, CHANNELS, lambda _: None, None))
    found = rows(item for line in lines for item in contract_row(UnsignedRow(line, "x"), MAPPING, ["starts"]))
    assert [_plain(row) for row in expected] == [_plain(row) for row in found]


def _plain(row: Any) -> list[Any]:
    return [
        None if isinstance(row[name], float) and math.isnan(row[name]) else row[name]
        for name in ("unit", "cycle", *CHANNELS)
    ]


def _sources(mapping: ColumnMapping | None) -> list[Any]:
    value = {"sources": {"pipe": {"kind": "lines", "carries": "rows", "plant_columns": True}}}
    return sources_of(parse(InputSettings, value, "t"), Told(), Columns(CHANNELS, mapping))


def test_a_source_whose_rows_have_the_plants_columns() -> None:
    end, write = os.pipe()
    os.write(write, json.dumps({"Pumpe": "a", "Start": 1, "Modus": "halb", "Temp": 300, "heat": 2}).encode() + b"\nx\n")
    os.close(write)
    (source,) = _sources(MAPPING)
    assert isinstance(source._source, LinesSource)
    with os.fdopen(end, "rb") as stream:
        source._source._stream = stream

        async def run() -> list[Item]:
            return [item async for delivery in source.deliveries() for item in delivery]

        found = asyncio.run(run())
    assert "pipe" == source.name
    assert [{"unit": "a", "cycle": 1, "mode": None, "heat": 10.0, "speed": 2.0, "starts": None}] == rows(found)
    assert ["wrong datatype", "malformed"] == reasons(found)
    assert "Modus: expected one of an, aus, got 'halb'" in found[1].message


@pytest.mark.parametrize("kind", ["none", "time stamps", "the name of a file"])
def test_a_mapping_that_cannot_read_single_rows_is_refused(kind: str) -> None:
    plain = {"settings": {}, "sensors": {"T": "heat"}}
    mappings = {
        "none": None,
        "time stamps": parse(ColumnMapping, plain | {"unit": "P", "time": {"column": "t", "cycle": "1h"}}, "t"),
        "the name of a file": parse(ColumnMapping, plain | {"unit_in_name": "{unit}.csv", "cycle": "n"}, "t"),
    }
    with pytest.raises(ConfigError, match=f"sources: pipe: plant_columns: expected a model .* got .*{kind}") as refused:
        _sources(mappings[kind])
    assert refused.value.remedy
