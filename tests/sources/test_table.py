from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.telemetry.conftest import oven_table
from twinseal.config import parse
from twinseal.digests import sha256_file
from twinseal.errors import ConfigError, DataError
from twinseal.sources.data_params import DataParams, open_source
from twinseal.telemetry.contract import Contract
from twinseal.telemetry.fleet import Fleet

THEIRS = {"unit": "Ofen", "cycle": "Charge", "load": "Last", "heat": "Temp °C", "glow": "Glut", "rul": "Rest"}
MAPPING: dict[str, Any] = {
    "unit": "Ofen",
    "cycle": "Charge",
    "settings": {"Last": "load"},
    "sensors": {"Temp °C": "heat", "Glut": "glow"},
    "rul": "Rest",
}


def read(path: Path, oven: Contract, **mapping: Any) -> Fleet:
    params = {"source": "table", "asset": "oven", "path": str(path), "table": MAPPING | mapping}
    return open_source(parse(DataParams, params, "data"), oven).read()


@pytest.fixture
def theirs() -> pd.DataFrame:
    table = oven_table({"7": 3, "11": 4}, censored=("11",)).drop(columns="censored")
    return table.rename(columns=THEIRS).assign(comment="not read")


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_table_of_ones_own_needs_a_mapping_and_no_code(
    tmp_path: Path, oven: Contract, theirs: pd.DataFrame, kind: str
) -> None:
    path = tmp_path / f"ovens.{kind}"
    theirs.to_csv(path, index=False) if kind == "csv" else theirs.to_parquet(path)
    fleet = read(path, oven)
    expected = Fleet.of(oven_table({"7": 3, "11": 4}, censored=("11",)))
    pd.testing.assert_frame_equal(expected.table, fleet.table)


def test_units_that_look_like_numbers_keep_their_zeros(tmp_path: Path, oven: Contract, theirs: pd.DataFrame) -> None:
    theirs["Ofen"] = "00" + theirs["Ofen"]
    theirs.to_csv(tmp_path / "ovens.csv", index=False)
    assert ("0011", "007") == read(tmp_path / "ovens.csv", oven).units


def test_histories_that_end_in_the_failure_need_no_column(tmp_path: Path, oven: Contract, theirs: pd.DataFrame) -> None:
    theirs.to_csv(tmp_path / "ovens.csv", index=False)
    fleet = read(tmp_path / "ovens.csv", oven, rul=None, ends_in_failure=True)
    assert [3, 2, 1, 0, 2, 1, 0] == fleet.table["rul"].tolist()
    assert not fleet.table["censored"].any()


def test_when_nobody_says_how_histories_end_nothing_is_known(
    tmp_path: Path, oven: Contract, theirs: pd.DataFrame
) -> None:
    theirs.to_csv(tmp_path / "ovens.csv", index=False)
    fleet = read(tmp_path / "ovens.csv", oven, rul=None)
    assert (True, True) == (bool(fleet.table["censored"].all()), bool(fleet.table["rul"].isna().all()))


def test_origin_is_the_digest_of_the_file(tmp_path: Path, oven: Contract, theirs: pd.DataFrame) -> None:
    path = tmp_path / "ovens.csv"
    theirs.to_csv(path, index=False)
    params = {"source": "table", "asset": "oven", "path": str(path), "table": MAPPING}
    (origin,) = open_source(parse(DataParams, params, "data"), oven).origin()
    assert ("ovens.csv", sha256_file(path)) == (origin.name, origin.sha256)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "expected a table"),
        ("Ofen,Charge,Last,Temp °C,Glut\n7,1,0,1,1\n", "missing \\['Rest'\\]"),
        ("Ofen,Charge,Last,Temp °C,Glut,Rest,Glut\n7,1,0,1,1,0,5\n", "twice \\['Glut'\\]"),
        ("Ofen,Charge,Last,Temp °C,Glut,Rest\n7,1,0,warm,1,0\n", "heat: expected float32"),
        ("Ofen,Charge,Last,Temp °C,Glut,Rest\n7,2024-01-01,0,1,1,0\n", "cycle: expected int32"),
        ("Ofen,Charge,Last,Temp °C,Glut,Rest\n,1,0,1,1,0\n", "unit: expected str"),
        ("Ofen,Charge,Last,Temp °C,Glut,Rest\n7,,0,1,1,0\n", "cycle: expected int32"),
        ('Ofen,Charge,Last,Temp °C,Glut,Rest\n7,1,0,1,1,0\n"7,2,0,1,1,0\n', "expected"),
    ],
)
def test_a_broken_csv_is_refused(tmp_path: Path, oven: Contract, text: str, complaint: str) -> None:
    (tmp_path / "ovens.csv").write_text(text)
    with pytest.raises(DataError, match=complaint):
        read(tmp_path / "ovens.csv", oven)


def test_a_table_with_other_names_or_separators_says_how_to_go_on(tmp_path: Path, oven: Contract) -> None:
    (tmp_path / "ovens.csv").write_text("Ofen,Charge,Last,Temp C,Glut,rest\n7,1,0,1,1,0\n")
    with pytest.raises(DataError, match="got Ofen, Charge, Last, Temp C, Glut, rest") as refusal:
        read(tmp_path / "ovens.csv", oven)
    near = "for 'Rest' it has 'rest'; for 'Temp °C' it has 'Temp C'"
    assert f"Name its columns under data.table in params.yaml ({near}); then: dvc repro" == refusal.value.remedy
    (tmp_path / "ovens.csv").write_text("Ofen;Charge;Last;Temp °C;Glut;Rest\n7;1;0;1,5;1;0\n")
    with pytest.raises(DataError, match="got Ofen;Charge") as refusal:
        read(tmp_path / "ovens.csv", oven)
    assert "Write it with commas: python -c" in refusal.value.remedy


def test_dates_for_cycles_are_refused_also_when_labels_are_counted(tmp_path: Path, oven: Contract) -> None:
    (tmp_path / "ovens.csv").write_text("Ofen,Charge,Last,Temp °C,Glut\n7,2024-01-01,0,1,1\n")
    with pytest.raises(DataError, match="cycle: expected int32"):
        read(tmp_path / "ovens.csv", oven, rul=None, ends_in_failure=True)


def test_a_broken_parquet_is_refused(tmp_path: Path, oven: Contract) -> None:
    (tmp_path / "ovens.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match="expected a table"):
        read(tmp_path / "ovens.parquet", oven)


def test_absent_values_stay_absent(tmp_path: Path, oven: Contract, theirs: pd.DataFrame) -> None:
    theirs.loc[1, "Glut"] = np.nan
    theirs.to_csv(tmp_path / "ovens.csv", index=False)
    assert 1 == int(read(tmp_path / "ovens.csv", oven).table["glow"].isna().sum())


@pytest.mark.parametrize(
    ("mapping", "complaint"),
    [
        ({"sensors": {"Temp °C": "heat"}}, "missing \\['glow'\\]"),
        ({"sensors": {"Temp °C": "heat", "Glut": "glow", "X": "smoke"}}, "unknown \\['smoke'\\]"),
        ({"sensors": {"Temp °C": "heat", "Glut": "heat"}}, "mapped once"),
        ({"settings": {"Glut": "load"}}, "mapped once"),
        ({"ends_in_failure": True}, "rul or ends_in_failure, got both"),
    ],
)
def test_a_mapping_that_is_not_the_contracts_is_refused(
    tmp_path: Path, oven: Contract, theirs: pd.DataFrame, mapping: dict[str, Any], complaint: str
) -> None:
    theirs.to_csv(tmp_path / "ovens.csv", index=False)
    with pytest.raises(ConfigError, match=complaint):
        read(tmp_path / "ovens.csv", oven, **mapping)


@pytest.mark.parametrize("name", ["absent.csv", "ovens.xlsx", "."])
def test_what_is_no_table_is_refused(tmp_path: Path, oven: Contract, name: str) -> None:
    (tmp_path / "ovens.xlsx").write_bytes(b"PK")
    with pytest.raises(ConfigError, match=r"\.csv or \.parquet") as refusal:
        read(tmp_path / name, oven)
    assert "set data.path in params.yaml; then: dvc repro" in refusal.value.remedy
