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
        (
            "Ofen,Charge,Last,Temp °C,Glut,Rest\n7,1,0,warm,1,0\n",
            "ovens.csv, line 2, unit 7, Temp °C: expected a number, got 'warm'",
        ),
        ("Ofen,Charge,Last,Temp °C,Glut,Rest\n7,2024-01-01,0,1,1,0\n", "line 2, unit 7, Charge: expected a number"),
        ("Ofen,Charge,Last,Temp °C,Glut,Rest\n,1,0,1,1,0\n", "line 2, Ofen: expected the name of a machine"),
        (
            "Ofen,Charge,Last,Temp °C,Glut,Rest\n7,,0,1,1,0\n",
            "line 2, unit 7, Charge: expected a whole number, got 'nan'",
        ),
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
    near = "for 'Temp °C' it has 'Temp C'; for 'Rest' it has 'rest'"
    assert f"Name its columns in the mapping in params.yaml ({near}); then: dvc repro" == refusal.value.remedy
    (tmp_path / "ovens.csv").write_text("Ofen;Charge;Last;Temp °C;Glut;Rest\n7;1;0;1,5;1;0\n")
    with pytest.raises(DataError, match="got Ofen;Charge") as refusal:
        read(tmp_path / "ovens.csv", oven)
    assert "Set separator in the mapping in params.yaml to ';', and decimal: \",\"" in refusal.value.remedy
    fleet = read(tmp_path / "ovens.csv", oven, separator=";", decimal=",")
    assert (("7",), [1.5]) == (fleet.units, fleet.table["heat"].tolist())


def test_dates_for_cycles_are_refused_also_when_labels_are_counted(tmp_path: Path, oven: Contract) -> None:
    (tmp_path / "ovens.csv").write_text("Ofen,Charge,Last,Temp °C,Glut\n7,2024-01-01,0,1,1\n")
    with pytest.raises(DataError, match="line 2, unit 7, Charge: expected a number, got '2024-01-01'"):
        read(tmp_path / "ovens.csv", oven, rul=None, ends_in_failure=True)


def test_a_broken_parquet_is_refused(tmp_path: Path, oven: Contract) -> None:
    (tmp_path / "ovens.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match="expected Parquet"):
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


@pytest.mark.parametrize("name", ["absent.csv", "ovens.xlsx"])
def test_what_is_no_table_is_refused(tmp_path: Path, oven: Contract, name: str) -> None:
    (tmp_path / "ovens.xlsx").write_bytes(b"PK")
    with pytest.raises(ConfigError, match=r"expected a folder, or a \.csv or .*\.parquet file") as refusal:
        read(tmp_path / name, oven)
    assert "set data.path in params.yaml; then: dvc repro" in refusal.value.remedy


HEAD = "Ofen,Zeit,Last,Temp °C,Glut\n"
BY_TIME: dict[str, Any] = {"cycle": None, "rul": None, "ends_in_failure": True}


def by_time(folder: Path, oven: Contract, rows: str, **time: str) -> Fleet:
    (folder / "ovens.csv").write_text(HEAD + rows)
    return read(folder / "ovens.csv", oven, **BY_TIME, time={"column": "Zeit", **time})


@pytest.mark.parametrize(
    ("stamps", "time", "cycles"),
    [
        (["2024-01-03", "2024-01-01", "2024-02-01"], {}, [1, 2, 3]),
        (["2024-01-01T00:30", "2024-01-01T01:00Z", "2024-01-01T03:10+01:00"], {"cycle": "1h"}, [1, 1, 2]),
        (["2024-01-01T00:30+00", "2024-01-01 01:30"], {"cycle": "1h"}, [1, 2]),
        (["2024-01-01 00:30:00+02", "2024-01-01 00:30:00+01"], {}, [1, 2]),
        (["31.12.2023 23:00", "01.01.2024 01:30"], {"format": "%d.%m.%Y %H:%M", "cycle": "1h"}, [1, 3]),
        (["2024-03-31 01:30", "2024-03-31 03:30"], {"zone": "Europe/Berlin", "cycle": "1h"}, [1, 2]),
        (["2024-10-27 01:30", "2024-10-27 03:30"], {"zone": "Europe/Berlin", "cycle": "1h"}, [1, 4]),
        (["1969-12-31", "1970-01-02"], {"cycle": "1d"}, [1, 3]),
    ],
)
def test_time_stamps_become_cycles(
    tmp_path: Path, oven: Contract, stamps: list[str], time: dict[str, str], cycles: list[int]
) -> None:
    rows = "".join(f"7,{stamp},0,{number},1\n" for number, stamp in enumerate(stamps))
    if cycles != sorted(set(cycles)):
        with pytest.raises(DataError, match="expected one row in a cycle, or `gather`"):
            by_time(tmp_path, oven, rows, **time)
        time = time | {"gather": "last"}
    fleet = by_time(tmp_path, oven, rows, **time)
    assert sorted(set(cycles)) == fleet.table["cycle"].tolist()
    assert 0 == fleet.table["rul"].iloc[-1]


def test_rows_in_one_cycle_are_gathered(tmp_path: Path, oven: Contract) -> None:
    rows = "7,2024-01-01T00:50,0,3,1\n7,2024-01-01T00:10,0,1,NaN\n7,2024-01-01T01:10,0,5,2\n"
    found = {
        how: by_time(tmp_path, oven, rows, cycle="1h", gather=how).table["heat"].tolist()
        for how in ("mean", "last", "first")
    }
    assert {"mean": [2, 5], "last": [3, 5], "first": [1, 5]} == found


def test_each_run_of_the_machine_is_a_cycle(tmp_path: Path, oven: Contract) -> None:
    speeds = [0, 5, 7, 0, 0, 9, 0, 4, 4, 4]
    rows = "".join(f"7,2024-01-01T{hour:02d}:00,{load},{hour},1\n" for hour, load in enumerate(speeds))
    rows += "8,2024-01-01,9,1,1\n"
    (tmp_path / "ovens.csv").write_text(HEAD + rows)
    time = {"column": "Zeit", "cycle": "start", "running": "Last", "above": 1, "gather": "mean"}
    fleet = read(tmp_path / "ovens.csv", oven, **BY_TIME, time=time)
    assert [1.5, 5, 8] == fleet.trajectory("7").frame["heat"].tolist()
    assert [1, 2, 3] == fleet.trajectory("7").frame["cycle"].tolist()
    assert [1] == fleet.trajectory("8").frame["cycle"].tolist()
    with pytest.raises(DataError, match="one row in a cycle, or `gather`"):
        read(tmp_path / "ovens.csv", oven, **BY_TIME, time=time | {"gather": ""})


@pytest.mark.parametrize(
    ("rows", "time", "complaint"),
    [
        ("7,2024-13-01,0,1,1\n", {}, "line 2, unit 7, Zeit: expected a time like"),
        ("7,1.1.2024,0,1,1\n", {}, "line 2, unit 7, Zeit: expected a time like"),
        ("7,2024-03-31 02:30,0,1,1\n", {"zone": "Europe/Berlin"}, "Europe/Berlin has once, got '2024-03-31 02"),
        ("7,2024-10-27 02:30,0,1,1\n", {"zone": "Europe/Berlin"}, "Europe/Berlin has once, got '2024-10-27 02"),
        ("7,2024-01-01,0,1,1\n8,2024-01-01,0,1,1\n" * 2, {}, "line 4, unit 7, Zeit: expected one row"),
        ("7,,0,1,1\n", {}, "line 2, unit 7, Zeit: expected a time"),
    ],
)  # fmt: skip
def test_time_stamps_that_are_none_are_refused(
    tmp_path: Path, oven: Contract, rows: str, time: dict[str, str], complaint: str
) -> None:
    with pytest.raises(DataError, match=complaint):
        by_time(tmp_path, oven, rows, **time)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"cycle": "Charge", "time": {"column": "Zeit"}}, "expected cycle .* or time"),
        ({"cycle": None}, "expected cycle .* or time"),
        ({"cycle": None, "time": {"column": "Zeit", "zone": "Mars/Base"}}, "zone: expected a name"),
        ({"cycle": None, "time": {"column": "Zeit", "format": "%Q"}}, "format: expected one as Python's strptime"),
        ({"cycle": None, "time": {"column": "Zeit", "format": "%d.%m.%Y %Z"}}, "format: expected %z for an offset"),
        (
            {"cycle": None, "time": {"column": "Zeit", "cycle": "1 fortnight"}},
            "cycle: expected 'sample', 'start' or a length",
        ),
        ({"cycle": None, "time": {"column": "Zeit", "cycle": "start"}}, "running: expected the column"),
        ({"cycle": None, "time": {"column": "Zeit", "running": "Last"}}, "running: expected the column"),
        ({"cycle": None, "time": {"column": "Zeit", "gather": "mean"}}, "gather: expected a length as cycle"),
        ({"cycle": None, "time": {"column": "Zeit", "cycle": "1h"}}, "rul: expected cycles that are in the table"),
        ({"decimal": ","}, "decimal: expected another sign"),
        ({"encoding": "nonsense"}, "encoding: expected one such as"),
    ],
)
def test_a_mapping_that_means_nothing_is_refused(
    tmp_path: Path, oven: Contract, wrong: dict[str, Any], why: str
) -> None:
    with pytest.raises(ConfigError, match=why):
        read(tmp_path / "ovens.csv", oven, **wrong)


def test_one_machine_has_one_life_however_its_name_is_written(tmp_path: Path, oven: Contract) -> None:
    rows = ["A", "A ", " A", "A\u00a0", "A", "NA", "007", "7", "u\u0308", "ü"]
    cycles = [1, 2, 3, 4, 5, 1, 1, 1, 1, 2]
    lines = "".join(f"{unit},{cycle},0,1,1\n" for unit, cycle in zip(rows, cycles, strict=True))
    (tmp_path / "ovens.csv").write_text("Ofen,Charge,Last,Temp °C,Glut\n" + lines)
    params = {"source": "table", "asset": "oven", "path": str(tmp_path / "ovens.csv")}
    mapping = MAPPING | {"rul": None, "ends_in_failure": True}
    source = open_source(parse(DataParams, params | {"table": mapping}, "data"), oven)
    fleet = source.read()
    assert ("007", "7", "A", "NA", "ü") == fleet.units
    assert [4, 3, 2, 1, 0] == fleet.trajectory("A").rul_cycles.tolist()
    assert (
        "unit A: written in 4 ways, read as one",
        "unit ü: written in 2 ways, read as one",
        "units 007 and 7: alike, read as two",
    ) == source.remarks()


@pytest.mark.parametrize(
    ("units", "names"), [([10.0, 2.0], ("10", "2")), ([10, 2], ("10", "2")), (["10", "2 "], ("10", "2"))]
)
def test_units_in_parquet_are_called_as_in_csv(tmp_path: Path, oven: Contract, units: list[Any], names: Any) -> None:
    table = pd.DataFrame({"Ofen": units, "Charge": 1, "Last": 0.0, "Temp °C": 1.0, "Glut": 1.0})
    table.to_parquet(tmp_path / "ovens.parquet")
    assert names == read(tmp_path / "ovens.parquet", oven, rul=None).units


@pytest.mark.parametrize("unit", [1.5, None])
def test_units_in_parquet_that_are_no_names_are_refused(tmp_path: Path, oven: Contract, unit: Any) -> None:
    table = pd.DataFrame({"Ofen": [1.0, unit], "Charge": 1, "Last": 0.0, "Temp °C": 1.0, "Glut": 1.0})
    table.to_parquet(tmp_path / "ovens.parquet")
    with pytest.raises(DataError, match="row 2, Ofen: expected the name of a machine"):
        read(tmp_path / "ovens.parquet", oven, rul=None)


def test_policy_takes_words_for_missing_readings_and_no_more_of_them(tmp_path: Path, oven: Contract) -> None:
    rows = "".join(f"7,{cycle},0,{'Bad' if cycle == 3 else 1},1\n" for cycle in range(1, 11))
    path = tmp_path / "ovens.csv"
    path.write_text("Ofen,Charge,Last,Temp °C,Glut\n" + rows)
    with pytest.raises(DataError, match="line 4, unit 7, Temp °C: expected a number, got 'Bad'") as refusal:
        read(path, oven, rul=None)
    assert "max_unreadable_share in policy/contract.yaml" in refusal.value.remedy
    assert np.isnan(read(path, oven, rul=None, missing=["Bad"]).table["heat"].iloc[2])
    lenient = oven.model_copy(update={"max_unreadable_share": 0.1})
    params = {"source": "table", "asset": "oven", "path": str(path), "table": MAPPING | {"rul": None}}
    source = open_source(parse(DataParams, params, "data"), lenient)
    assert np.isnan(source.read().table["heat"].iloc[2])
    assert ("10.00% of the rows cannot be read whole" in source.remarks()[0], 1) == (
        True,
        len(source.remarks()),
    )


def lenient(path: Path, contract: Contract, share: float, **mapping: Any) -> Any:
    params = {"source": "table", "asset": "oven", "path": str(path), "table": MAPPING | mapping}
    return open_source(parse(DataParams, params, "data"), contract.model_copy(update={"max_unreadable_share": share}))


def test_a_row_of_another_width_is_set_aside_by_policy_and_its_cycle_kept(tmp_path: Path, oven: Contract) -> None:
    rows = [f"{unit},{cycle},0,1,1,{10 - cycle}\n" for unit in (7, 8) for cycle in range(1, 11)]
    rows[4] = "7,5,0,1,5,1,5\n"
    path = tmp_path / "ovens.csv"
    path.write_text("Ofen,Charge,Last,Temp °C,Glut,Rest\n" + "".join(rows))
    with pytest.raises(DataError, match="line 6: expected 6 cells, as in the header, got '7: 7,5,0,1,5,1,5'"):
        lenient(path, oven, 0.04).read()
    source = lenient(path, oven, 0.05)
    kept = source.read().trajectory("7").frame
    assert (list(range(1, 11)), [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]) == (kept["cycle"].tolist(), kept["rul"].tolist())
    assert [False] * 4 + [True] + [False] * 5 == kept["heat"].isna().tolist()
    assert "5.00% of the rows cannot be read whole" in source.remarks()[0]


@pytest.mark.parametrize("line", [",5,0,1,1,5", "7,,0,1,1,5", "7,5.5,0,1,1,5", "7,1e99,0,1,1,5"])
def test_a_row_of_no_machine_or_cycle_is_set_aside_by_policy(tmp_path: Path, oven: Contract, line: str) -> None:
    rows = [f"7,{cycle},0,1,1,{10 - cycle}\n" for cycle in range(1, 11)]
    rows[4] = line + "\n"
    path = tmp_path / "ovens.csv"
    path.write_text("Ofen,Charge,Last,Temp °C,Glut,Rest\n" + "".join(rows))
    with pytest.raises(DataError, match="line 6,"):
        lenient(path, oven, 0.0).read()
    kept = lenient(path, oven, 0.1).read().table
    assert ([5], 10) == (kept["cycle"][kept["heat"].isna()].tolist(), len(kept))


def test_a_gap_that_no_lost_row_explains_stays_a_gap(tmp_path: Path, oven: Contract) -> None:
    rows = [f"7,{cycle},0,1,1,{10 - cycle}\n" for cycle in (1, 2, 3, 6, 7, 8, 9, 10)] + ["7,x,0,1,1,0\n"]
    path = tmp_path / "ovens.csv"
    path.write_text("Ofen,Charge,Last,Temp °C,Glut,Rest\n" + "".join(rows))
    assert [1, 2, 3, 6, 7, 8, 9, 10] == lenient(path, oven, 0.2).read().table["cycle"].tolist()


def test_rows_that_one_machine_lost_fill_no_gap_of_another(tmp_path: Path, oven: Contract) -> None:
    rows = [f"7,{cycle},0,1,1,{10 - cycle}\n" for cycle in (1, 2, 3, 6, 7, 8, 9, 10)]
    rows += [f"8,{'x' if cycle in (4, 5) else cycle},0,1,1,{10 - cycle}\n" for cycle in range(1, 11)]
    path = tmp_path / "ovens.csv"
    path.write_text("Ofen,Charge,Last,Temp °C,Glut,Rest\n" + "".join(rows))
    fleet = lenient(path, oven, 0.2).read()
    assert [1, 2, 3, 6, 7, 8, 9, 10] == fleet.trajectory("7").frame["cycle"].tolist()
    assert list(range(1, 11)) == fleet.trajectory("8").frame["cycle"].tolist()


@pytest.mark.parametrize(
    ("rows", "advice"),
    [
        ("7,2024-01-01,0,1,1,0\n", "in place of cycle, write time: {column: Charge}."),
        ("7,1,0,Bad,1,0\n7,2,0,I/O Timeout,1,0\n", "missing: [Bad, I/O Timeout] beside the mapping."),
        ("7,1,0,1,5,1,0\n", "was it written with decimal commas"),
        ("7,1,0,1 K,1,0\n", "say how it is written: separator, decimal"),
    ],
)
def test_a_refusal_says_what_would_probably_read_it(tmp_path: Path, oven: Contract, rows: str, advice: str) -> None:
    (tmp_path / "ovens.csv").write_text("Ofen,Charge,Last,Temp °C,Glut,Rest\n" + rows)
    with pytest.raises(DataError) as refusal:
        read(tmp_path / "ovens.csv", oven)
    assert advice in refusal.value.remedy


@pytest.mark.parametrize("row", [",1,0,1,1,0\n", "7,1,0,x,1,0\n", "7,1,0,1,1,0,9\n", "7,x,0,1,1,0\n"])
def test_more_faults_than_are_named_count_all_the_same(tmp_path: Path, oven: Contract, row: str) -> None:
    path = tmp_path / "ovens.csv"
    sound = "".join(f"8,{cycle},0,1,1,{1500 - cycle}\n" for cycle in range(1, 1501))
    path.write_text("Ofen,Charge,Last,Temp °C,Glut,Rest\n" + 1500 * row + sound)
    with pytest.raises(DataError) as refusal:
        lenient(path, oven, 0.45).read()
    assert "here it is 50.00% of the rows" in refusal.value.remedy
