"""What the reader refuses, and what it tells a person to do then; hostile bytes are in tests/fuzz/test_found.py."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from twinseal.errors import DataError
from twinseal.twin import telemetry_reader


def refused(path: Path, channels: tuple[str, ...] = ()) -> tuple[str, str]:
    """The message of the refusal, and what to do."""
    with pytest.raises(DataError) as refusal:
        telemetry_reader.read(path, channels)
    return str(refusal.value), refusal.value.remedy


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
