"""Folders of files, machines named by their files, words and units of measurement: as plants export them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from twinseal.config import parse
from twinseal.digests import sha256
from twinseal.errors import ConfigError, DataError
from twinseal.sources.data_params import DataParams, open_source
from twinseal.sources.source import Source
from twinseal.telemetry.contract import Contract

MAPPING: dict[str, Any] = {
    "unit": "Ofen",
    "cycle": "Charge",
    "settings": {"Last": "load"},
    "sensors": {"Temp": "heat", "Glut": "glow"},
    "ends_in_failure": True,
}
HEAD = "Ofen,Charge,Last,Temp,Glut\n"


def source(path: Path, oven: Contract, **mapping: Any) -> Source:
    table = {key: value for key, value in (MAPPING | mapping).items() if value is not None}
    params = {"source": "table", "asset": "oven", "path": str(path), "table": table}
    return open_source(parse(DataParams, params, "data"), oven)


def rows(unit: str, cycles: range, heat: float = 300.0) -> str:
    return "".join(f"{unit},{cycle},0.5,{heat},{heat}\n" for cycle in cycles)


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def test_a_folder_is_one_fleet_and_a_machine_may_be_in_many_files(tmp_path: Path, oven: Contract) -> None:
    write(
        tmp_path,
        {
            "2024/january.csv": HEAD + rows("7", range(1, 4)) + rows("8", range(1, 3)),
            "2024/february.csv": HEAD + rows("7", range(4, 6)),
            "notes.docx": "no telemetry",
            ".hidden.csv": "x",
        },
    )
    pd.DataFrame({"Ofen": "9", "Charge": [1, 2], "Last": 0.5, "Temp": 300.0, "Glut": 300.0}).to_parquet(
        tmp_path / "more.parquet"
    )
    found = source(tmp_path, oven)
    fleet = found.read()
    assert ("7", "8", "9") == fleet.units
    assert [5, 2, 2] == fleet.lengths.tolist()
    assert [4, 3, 2, 1, 0] == fleet.trajectory("7").rul_cycles.tolist()
    names = ["2024/february.csv", "2024/january.csv", "more.parquet"]
    assert names == [subject.name for subject in found.origin()]
    assert found.origin()[0].sha256 == sha256((tmp_path / names[0]).read_bytes())
    assert ("1 other files in that folder were not read: notes.docx",) == found.remarks()


def test_patterns_choose_among_the_files(tmp_path: Path, oven: Contract) -> None:
    write(tmp_path, {"a/1.csv": HEAD + rows("1", range(1, 3)), "b/2.csv": HEAD + rows("2", range(1, 3))})
    assert ("2",) == source(tmp_path, oven, files=["b/*.csv"]).read().units
    with pytest.raises(ConfigError, match=r"expected files like c/\*\.csv .*, got none"):
        source(tmp_path, oven, files=["a/*.csv", "c/*.csv"])


@pytest.mark.parametrize("pattern", ["../*.csv", "/etc/*.csv", "a/../../b.csv", ""])
def test_patterns_that_lead_out_of_the_folder_are_refused(tmp_path: Path, oven: Contract, pattern: str) -> None:
    with pytest.raises(ConfigError, match=r"expected paths below data\.path"):
        source(tmp_path, oven, files=[pattern])


@pytest.mark.parametrize(
    ("pattern", "names", "units"),
    [
        ("trafo-{unit}.csv", ["trafo-T 1.csv", "trafo-T 2.csv"], ("T 1", "T 2")),
        ("{unit}/log.csv", ["T1/log.csv", "north/T2/log.csv"], ("T1", "T2")),
        ("{unit}.csv", ["007.csv", "7.csv"], ("007", "7")),
        ("{unit} (*).csv", ["A (*).csv"], ("A",)),
    ],
)
def test_the_machine_is_named_by_its_file(
    tmp_path: Path, oven: Contract, pattern: str, names: list[str], units: tuple[str, ...]
) -> None:
    body = "Charge,Last,Temp,Glut\n" + "".join(f"{cycle},0.5,300,300\n" for cycle in range(1, 4))
    write(tmp_path, dict.fromkeys(names, body))
    assert units == source(tmp_path, oven, unit=None, unit_in_name=pattern).read().units


def test_a_file_that_names_no_machine_is_refused(tmp_path: Path, oven: Contract) -> None:
    write(tmp_path, {"trafo-1.csv": "Charge,Last,Temp,Glut\n1,0,1,1\n", "list.csv": "Charge,Last,Temp,Glut\n1,0,1,1\n"})
    with pytest.raises(DataError, match=r"list\.csv: expected a file named as trafo-{unit}\.csv") as refusal:
        source(tmp_path, oven, unit=None, unit_in_name="trafo-{unit}.csv").read()
    assert "files: ['…']" in refusal.value.remedy


def test_a_fault_names_its_file_line_unit_and_column(tmp_path: Path, oven: Contract) -> None:
    write(tmp_path, {"a.csv": HEAD + rows("1", range(1, 3)), "b.csv": HEAD + "2,1,0.5,hot,1\n"})
    with pytest.raises(DataError, match=r"b\.csv, line 2, unit 2, Temp: expected a number, got 'hot'"):
        source(tmp_path, oven).read()


def test_words_become_numbers_and_other_words_are_refused(tmp_path: Path, oven: Contract) -> None:
    write(tmp_path, {"a.csv": HEAD + "1,1,idle,300,300\n1,2, run,300,300\n"})
    words = {"Last": {"idle": 0, "run": 1}}
    assert [0, 1] == source(tmp_path, oven, categories=words).read().table["load"].tolist()
    write(tmp_path, {"a.csv": HEAD + "1,1,idle,300,300\n1,2,broken,300,300\n1,3,,300,300\n"})
    with pytest.raises(DataError, match="line 3, unit 1, Last: expected one of idle, run, got 'broken'"):
        source(tmp_path, oven, categories=words).read()


def test_units_of_measurement_become_those_of_the_contract_and_the_twin_gets_the_factors(
    tmp_path: Path, oven: Contract
) -> None:
    write(tmp_path, {"a.csv": HEAD + "1,1,50,80.33,300\n1,2,60,NaN,300\n"})
    found = source(tmp_path, oven, measured_in={"Temp": "degF"}, scale={"Last": [0.01, 0]})
    table = found.read().table
    np.testing.assert_allclose(table["heat"], [300.0, np.nan], rtol=1e-6)
    np.testing.assert_allclose(table["load"], [0.5, 0.6], rtol=1e-6)
    mapping = found.mapping()
    assert mapping is not None
    assert {"Temp": (0.555555555556, 255.372222222), "Last": (0.01, 0.0)} == mapping.scale


@pytest.mark.parametrize(
    ("mapping", "complaint"),
    [
        ({"measured_in": {"Temp": "kg"}}, "Temp: expected a unit of measurement that becomes K, got 'kg'"),
        ({"measured_in": {"Rest": "K"}}, "measured_in: expected mapped columns"),
        ({"measured_in": {"Temp": "degF"}, "scale": {"Temp": [2, 0]}}, "measured_in: expected mapped columns"),
        ({"scale": {"Temp": [0, 1]}}, "expected a factor that is not 0"),
        ({"scale": {"Temp": [float("inf"), 1]}}, "scale"),
        ({"scale": {"Other": [1, 1]}}, "scale: expected columns of settings or sensors"),
        ({"categories": {"Temp": {}}}, "categories: Temp: expected 1 to"),
        ({"categories": {"Temp": {"a": 1}}, "scale": {"Temp": [1, 1]}}, "which has categories"),
        ({"unit_in_name": "{unit}.csv"}, "expected unit .* or unit_in_name"),
        ({"unit": None}, "expected unit .* or unit_in_name"),
        ({"unit": None, "unit_in_name": "trafo.csv"}, "expected {unit} once"),
        ({"unit": None, "unit_in_name": "{unit}-{unit}.csv"}, "expected {unit} once"),
    ],
)
def test_a_mapping_that_means_nothing_is_refused(
    tmp_path: Path, oven: Contract, mapping: dict[str, Any], complaint: str
) -> None:
    write(tmp_path, {"a.csv": HEAD + rows("1", range(1, 3))})
    with pytest.raises(ConfigError, match=complaint):
        source(tmp_path, oven, **mapping)


def test_whole_numbers_that_readings_cannot_hold_are_said(tmp_path: Path, oven: Contract) -> None:
    write(tmp_path, {"a.csv": HEAD + "1,1,0,16777217,300\n1,2,0,16777216,300\n"})
    (said,) = source(tmp_path, oven).remarks()
    assert "heat: 1 whole numbers beyond 16,777,216 lose their last digits: readings are float32" == said


def test_the_same_time_in_two_files_is_one_row_too_many(tmp_path: Path, oven: Contract) -> None:
    head = "Ofen,Zeit,Last,Temp,Glut\n"
    write(tmp_path, {"a.csv": head + "1,2024-01-01,0,300,300\n", "b.csv": head + "1,2024-01-01,0,300,300\n"})
    with pytest.raises(DataError, match=r"b\.csv, line 2, unit 1, Zeit: expected one row for each unit and time"):
        source(tmp_path, oven, cycle=None, time={"column": "Zeit"}).read()
    lenient = oven.model_copy(update={"max_unreadable_share": 0.5})
    found = source(tmp_path, lenient, cycle=None, time={"column": "Zeit"})
    assert 1 == len(found.read())
    assert "50.00% of the rows cannot be read whole" in found.remarks()[0]


@pytest.mark.parametrize("pattern", [".", "**.csv", "***"])
def test_a_pattern_that_is_none_is_refused(tmp_path: Path, oven: Contract, pattern: str) -> None:
    write(tmp_path, {"a.csv": HEAD + rows("7", range(1, 4))})
    with pytest.raises(ConfigError, match="files: expected a pattern such as"):
        source(tmp_path, oven, files=[pattern])
