"""Files as a source, played again at a rate."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pandas as pd
import pytest

from tests.twin.inputs.driving import Told, reasons, rows
from twinseal.config import parse
from twinseal.errors import ConfigError
from twinseal.telemetry.mapping import ColumnMapping
from twinseal.twin.inputs.replay import Columns, ReplaySettings, ReplaySource
from twinseal.twin.inputs.source import Item

COLUMNS = Columns(("vibration",))


def source(path: Path, told: Told | None = None, columns: Columns = COLUMNS, rate: float = 0.0) -> ReplaySource:
    settings = parse(ReplaySettings, {"kind": "replay", "path": str(path), "rows_a_second": rate}, "t")
    return ReplaySource("file", settings, told or Told(), columns)


def all_of(one: ReplaySource) -> list[Item]:
    async def run() -> list[Item]:
        return [item async for delivery in one.deliveries() for item in delivery]

    return asyncio.run(run())


def table(number: int) -> pd.DataFrame:
    return pd.DataFrame({"unit": ["a"] * number, "cycle": range(1, number + 1), "vibration": [0.5] * number})


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl"])
def test_each_format(suffix: str, tmp_path: Path) -> None:
    path, frame = tmp_path / f"t{suffix}", table(2_500)
    if suffix == ".csv":
        frame.to_csv(path, index=False)
    elif suffix == ".parquet":
        frame.to_parquet(path)
    else:
        frame.to_json(path, orient="records", lines=True)
    told = Told()
    found = rows(all_of(source(path, told)))
    assert [("a", cycle, 0.5) for cycle in range(1, 2_501)] == [tuple(row.values()) for row in found]
    assert ["connected", "ended"] == told.kinds()


def test_the_plants_own_files_by_their_mapping(tmp_path: Path) -> None:
    mapping = ColumnMapping(
        unit="Pumpe", cycle="Start", settings={}, sensors={"Vib": "vibration"}, scale={"Vib": (2, 1)}
    )
    (tmp_path / "t.csv").write_text("Pumpe,Start,Vib\na,1,3\n,2,4\n")
    found = all_of(source(tmp_path / "t.csv", columns=Columns(("vibration",), mapping)))
    assert ([{"unit": "a", "cycle": 1, "vibration": 7.0}], ["malformed"]) == (rows(found), reasons(found))


def test_rows_come_at_their_rate(tmp_path: Path) -> None:
    table(12).to_csv(tmp_path / "t.csv", index=False)
    begin = time.monotonic()
    assert 12 == len(rows(all_of(source(tmp_path / "t.csv", rate=60))))
    assert 0.19 <= time.monotonic() - begin <= 3


def test_a_slow_rate_delivers_row_by_row(tmp_path: Path) -> None:
    table(3).to_csv(tmp_path / "t.csv", index=False)

    async def run() -> list[int]:
        return [len(delivery) async for delivery in source(tmp_path / "t.csv", rate=19).deliveries()]

    assert [1, 1, 1] == asyncio.run(run())


def test_a_line_that_is_none_is_named_and_the_rest_is_read(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"cycle": 1}\nnonsense\n{"cycle": 2}\n')
    found = all_of(source(tmp_path / "t.jsonl"))
    assert ([{"cycle": 1}, {"cycle": 2}], ["malformed"]) == (rows(found), reasons(found))


@pytest.mark.parametrize("name", ["absent.csv", "t.xml", "."])
def test_a_file_that_can_never_be_read_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "t.xml").write_text("<a/>")
    with pytest.raises(ConfigError, match="file: .*expected") as refused:
        all_of(source(tmp_path / name))
    assert refused.value.remedy


@pytest.mark.parametrize(
    ("more", "message"), [({"path": "-"}, "of the kind lines"), ({"rows_a_second": -1}, "expected 0 to")]
)
def test_settings_that_are_refused(more: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse(ReplaySettings, {"kind": "replay", "path": "t.csv"} | more, "t")
    assert message in str(refused.value)
