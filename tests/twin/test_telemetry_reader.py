"""What the reader refuses, and what it tells a person to do then; hostile bytes are in tests/fuzz/test_found.py."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from twinseal.errors import DataError
from twinseal.telemetry.mapping import ColumnMapping
from twinseal.telemetry.time_params import TimeParams
from twinseal.twin import telemetry_reader


def refused(path: Path, channels: tuple[str, ...] = ()) -> tuple[str, str]:
    """The message of the refusal, and what to do."""
    with pytest.raises(DataError) as refusal:
        telemetry_reader.read(path, channels)
    return str(refusal.value), refusal.value.remedy


def frame(rows: Any) -> pd.DataFrame:
    """The rows that were read, as a table."""
    return pd.DataFrame(rows.columns)


def put(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_a_table_without_the_keys_says_what_it_has_and_which_to_rename(tmp_path: Path) -> None:
    path = put(tmp_path / "bad.csv", "unit_nr,Cycle,T24\n1,1,5\n")
    message, remedy = refused(path, ("T24", "T30"))
    expected = "expected the columns unit and cycle beside the channels (T24, T30), got unit_nr, Cycle, T24"
    assert f"{path}: {expected}" == message
    renames = "Rename in its header 'unit_nr' to 'unit', 'Cycle' to 'cycle'."
    assert f"{renames} Then run the same command again." == remedy
    assert 1 == len(telemetry_reader.read(put(path, "unit,cycle,T24\n1,1,5\n")))  # type: ignore[arg-type]


def test_a_key_that_is_nowhere_is_to_be_added(tmp_path: Path) -> None:
    message, remedy = refused(put(tmp_path / "bad.csv", "Unit,T24\n1,5\n"))
    assert "expected the columns unit and cycle, got Unit, T24" in message
    assert "Rename in its header 'Unit' to 'unit'. Add the column 'cycle', which counts 1, 2, 3 and so on." in remedy
    assert "Add the column 'unit', which names the machine, and 'cycle'" in refused(put(tmp_path / "e.csv", ""))[1]


@pytest.mark.parametrize("mark", [";", "\t"])
def test_a_table_with_another_separator_gets_the_command_that_writes_it_anew(tmp_path: Path, mark: str) -> None:
    """Also with decimal commas, which make rows longer than the header."""
    text = "unit,cycle,T24\n1,1,3.5\n".replace(",", mark).replace(".", ",")
    message, remedy = refused(put(tmp_path / "bad.csv", text))
    assert message.endswith(f"got unit{mark}cycle{mark}T24")
    assert "Write it with commas: python -c 'import pandas; " in remedy
    assert "bad-commas.csv" in remedy


def test_a_parquet_file_without_the_keys_is_not_rewritten_with_commas(tmp_path: Path) -> None:
    pd.DataFrame({"unit;cycle": [1]}).to_parquet(tmp_path / "bad.parquet")
    message, remedy = refused(tmp_path / "bad.parquet")
    assert "got unit;cycle" in message
    assert "Rename in its header" in remedy


def test_what_is_no_file_or_of_no_format_says_how_to_go_on(tmp_path: Path) -> None:
    message, remedy = refused(tmp_path / "none.csv")
    assert "none.csv: expected a file of telemetry, got none" in message
    assert remedy.endswith(f"ls {tmp_path}")
    assert "got a folder" in refused(tmp_path)[0]
    message, remedy = refused(put(tmp_path / "T.CSV", "unit,cycle\n"))
    assert "got .CSV" in message
    assert f"mv {tmp_path}/T.CSV {tmp_path}/T.csv" == remedy
    for text in ("unit,cycle\n1,1,1\n", "unit,cycle,cycle\n", 'unit,cycle\n"1,1\n'):
        assert "Write it again as CSV with commas" in refused(put(tmp_path / "broken.csv", text))[1]
    assert "Write it again as CSV with commas" in refused(put(tmp_path / "t.xlsx", "PK"))[1]


@pytest.mark.parametrize("line", [b'{"unit": 1,', b"[1, 2]"])
def test_a_line_that_is_no_object_shows_what_one_is(line: bytes) -> None:
    with pytest.raises(DataError, match="feed, line 2: expected") as refusal:
        list(telemetry_reader.lines(io.BytesIO(b"\n" + line + b"\n"), "feed"))
    assert 'Send one JSON object a line, such as {"unit": "pump-1", "cycle": 1,' in refusal.value.remedy


@pytest.fixture
def pipe() -> Iterator[tuple[io.BufferedReader, int]]:
    """A stream, and where what it gives is written."""
    come, go = os.pipe()
    with os.fdopen(come, "rb") as stream:
        yield stream, go


def test_a_row_of_a_stream_waits_for_no_other_and_those_that_have_come_go_together(
    pipe: tuple[io.BufferedReader, int],
) -> None:
    """Each `next` would block for ever if a row were kept waiting: neither an open line nor a bad one may do that."""
    stream, go = pipe
    aside: list[str] = []
    batches = telemetry_reader.lines_at_once(stream, "feed", aside.append)
    os.write(go, b'{"unit": 1}\n')
    assert [{"unit": 1}] == next(batches)
    os.write(go, b'\n{"unit": 2}\n\n{"unit": 3}\n{"unit"')
    assert [{"unit": 2}, {"unit": 3}] == next(batches)
    os.write(go, b": 4}\nno row\n\n")
    assert [{"unit": 4}] == next(batches)
    assert ["feed, line 7: expected JSON, got"] == [why[:32] for why in aside]
    os.write(go, b'{"unit": 5}\n{"unit": 6}')
    os.close(go)
    assert [5, 6] == [row["unit"] for batch in batches for row in batch]


def test_a_long_burst_comes_in_batches_in_order(pipe: tuple[io.BufferedReader, int]) -> None:
    stream, go = pipe
    os.write(go, b"".join(b'{"unit": %d}\n' % number for number in range(3_000)))
    os.close(go)
    batches = list(telemetry_reader.lines_at_once(stream, "feed"))
    assert list(range(3_000)) == [row["unit"] for batch in batches for row in batch]
    assert 1 < len(batches) < 300


def test_a_stream_that_is_no_file_of_the_systems_is_read_too() -> None:
    text = b'{"unit": 1}\n' + b"x" * 70_000 + b'{"unit": 2}\n{"unit": 3}'
    aside: list[str] = []
    batches = list(telemetry_reader.lines_at_once(io.BytesIO(text), "feed", aside.append))
    assert [1, 3] == [row["unit"] for batch in batches for row in batch]
    assert 1 == len(aside), "a line longer than any row"


def test_rows_before_a_line_that_ends_all_come_first(tmp_path: Path, pipe: tuple[io.BufferedReader, int]) -> None:
    stream, go = pipe
    text = b'{"unit": 1}\n{"unit": 2}\n[]\n'
    os.write(go, text)
    (tmp_path / "feed.jsonl").write_bytes(text)
    os.close(go)
    of_file = telemetry_reader.read_batches(tmp_path / "feed.jsonl", (), None, None, print)
    for batches in (of_file, telemetry_reader.lines_at_once(stream, "feed")):
        seen: list[Any] = []
        with pytest.raises(DataError, match="line 3: expected a JSON object, got list"):
            for batch in batches:
                seen += batch
        assert [{"unit": 1}, {"unit": 2}] == seen


def test_line_that_is_none_is_that_lines_trouble(tmp_path: Path) -> None:
    good = [json.dumps({"unit": "A", "cycle": cycle, "heat": 1.0}).encode() for cycle in range(1, 6)]
    bad = [b'{"unit": "A", "cycle": 2, "heat": NaN}', b'{"unit": "A", "cyc', b"12:00 started", b"[1]", b"x" * 200_000]
    path = tmp_path / "feed.jsonl"
    path.write_bytes(b"\n".join(line for pair in zip(good, bad, strict=True) for line in pair))
    said: list[str] = []
    rows: Any = telemetry_reader.read(path, (), said.append)
    assert [1, 2, 3, 4, 5] == [found["cycle"] for found in rows]
    assert [2, 4, 6, 8, 10] == [int(text.removeprefix(f"{path}, line ").partition(":")[0]) for text in said]
    with pytest.raises(DataError, match="line 2"):
        list(telemetry_reader.read(path))  # type: ignore[arg-type]


PLANTS = ColumnMapping(
    unit_in_name="{unit}.csv",
    time=TimeParams(column="Zeit", format="%d.%m.%Y %H:%M", zone="Europe/Berlin", cycle="1d", gather="mean"),
    settings={"Last [%]": "load"},
    sensors={"Öl [°F]": "oil", "H2": "hydrogen", "Modus": "mode"},
    scale={"Last [%]": (0.01, 0.0), "Öl [°F]": (5 / 9, 255.3722222)},
    categories={"Modus": {"aus": 0, "ein": 1}},
    separator=";",
    decimal=",",
    encoding="cp1252",
    missing=("Bad",),
)
HEAD = "Zeit;Last [%];Öl [°F];H2;Modus\n"


def test_the_plants_file_is_read_as_the_training_read_it(tmp_path: Path) -> None:
    rows = "01.02.2024 06:00;50;32,0;7;ein\n01.02.2024 18:00;60;32,0;9;ein\n02.02.2024 06:00;40;50,0;Bad;aus\n"
    (tmp_path / "T 1.csv").write_bytes((HEAD + rows).encode("cp1252"))
    (tmp_path / "T 2.csv").write_bytes((HEAD + rows).encode("cp1252"))
    (tmp_path / "readme.md").write_text("no telemetry")
    channels = ("load", "oil", "hydrogen")
    for path, units in ((tmp_path / "T 1.csv", ["T 1"]), (tmp_path, ["T 1", "T 2"])):
        table: Any = frame(telemetry_reader.read(path, channels, mapping=PLANTS))
        assert ["unit", "cycle", *channels] == list(table.columns)
        assert units == sorted(set(table["unit"]))
        first = table[table["unit"] == "T 1"]
        assert [1, 2] == first["cycle"].tolist()
        assert [0.55, 0.4] == pytest.approx(first["load"].tolist())
        assert [273.15, 283.15] == pytest.approx(first["oil"].tolist(), abs=1e-4)
        assert 8 == first["hydrogen"].iloc[0]
        assert first["hydrogen"].isna().iloc[1]


def test_where_cycles_begin_is_said_once_for_each_file_unless_a_column_counts_them(tmp_path: Path) -> None:
    rows = [f"{day:02d}.0{month}.2024 06:00;50;32,0;7;ein\n" for month in (2, 3) for day in range(1, 29)]
    for name, own in (("T 1.csv", rows), ("T 2.csv", rows[:28]), ("2025/T 2.csv", rows[28:])):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes((HEAD + "".join(own)).encode("cp1252"))
    said: list[str] = []
    telemetry_reader.read(tmp_path, ("load",), mapping=PLANTS, note=said.append)
    begins = "cycles are counted from the first row of each unit, as if it was new then: "
    remedy = "If a unit was in use before, give its rows since it was new"
    assert said == [
        f"{name}.csv: {begins}{name} from 2024-02-01 05:00 UTC (56.0 days). {remedy}" for name in ("T 1", "T 2")
    ]
    said.clear()
    mapping = ColumnMapping(unit="u", cycle="n", settings={}, sensors={"oil": "oil"})
    telemetry_reader.read(put(tmp_path / "a.csv", "u,n,oil\n1,400,50\n"), ("oil",), mapping=mapping, note=said.append)
    telemetry_reader.read(
        put(tmp_path / "a.csv", "unit,cycle,oil\n1,4,50\n"), ("oil",), mapping=PLANTS, note=said.append
    )
    assert [] == said


def test_of_many_units_in_a_file_some_are_named(tmp_path: Path) -> None:
    mapping = ColumnMapping(unit="T", time=TimeParams(column="t"), settings={}, sensors={"oil": "oil"})
    said: list[str] = []
    rows = "".join(f"{unit},2024-01-0{day},50\n" for unit in range(8) for day in (1, 2))
    telemetry_reader.read(put(tmp_path / "a.csv", "T,t,oil\n" + rows), ("oil",), mapping=mapping, note=said.append)
    (text,) = said
    assert "0 from 2024-01-01 00:00 UTC (1.0 days), 1 from" in text and " and 3 more units. If" in text


def test_a_column_of_the_plant_that_is_called_as_a_channel_is_converted_all_the_same(tmp_path: Path) -> None:
    mapping = ColumnMapping(unit="unit", cycle="cycle", settings={}, sensors={"oil": "oil"}, scale={"oil": (0.1, 0.0)})
    path = put(tmp_path / "a.csv", "unit,cycle,oil\n1,1,50\n")
    table: Any = frame(telemetry_reader.read(path, ("oil",), mapping=mapping))
    assert [5] == table["oil"].tolist()


def test_a_file_in_the_long_form_is_still_read_and_another_is_told_both(tmp_path: Path) -> None:
    table: Any = frame(
        telemetry_reader.read(put(tmp_path / "a.csv", "unit,cycle,oil\n1,1,50\n"), ("oil",), mapping=PLANTS)
    )
    assert [50] == table["oil"].tolist()
    with pytest.raises(DataError, match="expected the columns unit and cycle beside .* trained it .Zeit, Öl"):
        telemetry_reader.read(put(tmp_path / "b.csv", "when,oil\n1,50\n"), ("oil",), mapping=PLANTS)


def test_a_bad_row_of_the_plants_file_is_that_rows_trouble(tmp_path: Path) -> None:
    rows = "01.02.2024 06:00;50;32,0;7;ein\nlog: restart\n02.02.2024 06:00;40;50,0;x;aus\n31.02.2024 06:00;1;1;1;aus\n"
    path = tmp_path / "T 1.csv"
    path.write_bytes((HEAD + rows).encode("cp1252"))
    said: list[str] = []
    table: Any = frame(telemetry_reader.read(path, ("load", "hydrogen"), said.append, PLANTS))
    assert [1, 2] == table["cycle"].tolist()
    assert [7.0, None] == [None if value != value else value for value in table["hydrogen"]]
    assert 2 == len(said)
    assert "T 1.csv, line 3: expected 5 cells, as in the header, got '1: log: restart'" == said[0]
    assert "T 1.csv, line 5, unit T 1, Zeit: expected a time like %d.%m.%Y %H:%M" in said[1]
    with pytest.raises(DataError, match="line 3: expected 5 cells"):
        telemetry_reader.read(path, ("load", "hydrogen"), mapping=PLANTS)


@pytest.mark.parametrize("text", ["unit,cycle,oil,H2\n1,1,50,7\n", "unit;cycle;oil\n1;1;50\n"])
def test_a_file_of_the_plant_that_lacks_something_is_not_read_without_conversion(tmp_path: Path, text: str) -> None:
    mapping = ColumnMapping(
        unit="unit", cycle="cycle", settings={}, sensors={"oil": "oil", "H2": "hydrogen"}, scale={"oil": (0.1, 0.0)},
        separator=";",
    )  # fmt: skip
    path = put(tmp_path / "a.csv", text)
    with pytest.raises(DataError, match="column oil may be theirs or the channel of that name"):
        telemetry_reader.read(path, ("oil", "hydrogen"), mapping=mapping)


def test_counts_add_up_in_a_cycle_as_in_the_training(tmp_path: Path) -> None:
    mapping = ColumnMapping(
        unit="T", time=TimeParams(column="t", cycle="1h", gather="mean"), settings={}, sensors={"oil": "oil"},
        sums=("errors",),
    )  # fmt: skip
    path = put(tmp_path / "a.csv", "T,t,oil,errors\n1,2024-01-01 00:00,50,1\n1,2024-01-01 00:30,60,2\n")
    table: Any = frame(telemetry_reader.read(path, ("oil", "errors"), mapping=mapping))
    assert [[55, 3]] == table[["oil", "errors"]].to_numpy().tolist()
