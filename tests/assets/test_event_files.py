"""An export as a plant keeps it: a file for each machine, named after it, time stamps, and failures in a table."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.assets.conftest import request_for
from twinseal.assets.entries import contract_text
from twinseal.assets.moments import Choices
from twinseal.assets.proposal import Proposal, propose_table
from twinseal.errors import ConfigError

WEEKS = Choices(cycle_length="2d", gather="mean", zone="Europe/Berlin")
FAILURES = replace(WEEKS, failures="failures.csv")


@pytest.fixture(scope="module")
def plant(pumps_table: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """telemetry/P001.csv, …, and failures.csv: nine of twelve pumps failed an hour after their last row."""
    folder = tmp_path_factory.mktemp("plant")
    (folder / "telemetry").mkdir()
    stamps = pd.Timestamp("2024-01-03 06:00") + pd.to_timedelta(pumps_table["Mission"], "D")
    table = pumps_table.assign(Zeit=stamps.dt.strftime("%d.%m.%Y %H:%M")).rename(columns={"high_flow": "Flow [m³/h]"})
    ends = {}
    for number, (_, rows) in enumerate(table.groupby("Pump"), 1):
        mine = rows.drop(columns=["Pump", "Mission"])
        mine.to_csv(folder / f"telemetry/P{number:03d}.csv", index=False, sep=";", decimal=",")
        ends[f"P{number:03d}"] = (stamps[rows.index[-1]] + pd.Timedelta("1h")).strftime("%d.%m.%Y %H:%M")
    failed = pd.DataFrame(list(ends.items())[:9], columns=["Pumpe", "Ausfall"]).assign(Grund="Lager")
    failed.to_csv(folder / "failures.csv", index=False, sep=";")
    return folder


def proposed(path: Path, choices: Choices, **more: Any) -> Proposal:
    return propose_table(request_for(path, choices=choices, **more))


@pytest.fixture(scope="module")
def found(plant: Path) -> Proposal:
    return proposed(plant, FAILURES)


def test_a_table_of_failures_becomes_events_with_the_columns_it_has(found: Proposal) -> None:
    assert {"failures": {"path": "failures.csv", "unit": "Pumpe", "time": "Ausfall"}} == found.mapping["events"]
    assert "ends_in_failure" not in found.mapping
    last = found.fleet.table.groupby("unit")["rul"].last()
    assert (9, 3) == (int((last == 0).sum()), int(last.isna().sum()))


def test_files_named_after_machines_name_them_whole(found: Proposal) -> None:
    assert "{unit}.csv" == found.mapping["unit_in_name"]
    assert ("P001", "P002") == found.fleet.units[:2]


def test_a_cycle_of_gathered_rows_is_said_and_their_digits_are_not(found: Proposal) -> None:
    assert "2 days, the mean of their readings" == found.contract.cycle
    assert "recorded to" not in contract_text(found)


def test_a_measure_without_readings_below_zero_has_no_bound_there(pumps_table: pd.DataFrame, tmp_path: Path) -> None:
    table = pumps_table.assign(**{"Share [%]": pumps_table["high_flow"] * 0 + pumps_table["Mission"] % 50 / 10})
    table["Cold [°C]"] = table["Side [mm]"] = table["Plain"] = table["Share [%]"]
    table.loc[7, "Side [mm]"] = -0.1
    table.to_csv(tmp_path / "a.csv", index=False)
    channels = proposed(tmp_path / "a.csv", Choices(ends_in_failure=True)).contract.all_channels
    assert 0 == channels["share"].minimum
    assert all(channels[name].minimum < 0 for name in ("cold", "side", "plain"))


def test_how_histories_end_is_asked_for_with_the_table_that_says_it(plant: Path) -> None:
    with pytest.raises(ConfigError, match=r"machines with times in failures\.csv") as error:
        proposed(plant, WEEKS)
    assert '--failures "failures.csv"' in error.value.remedy


def test_columns_are_taken_as_they_are_named(plant: Path, found: Proposal) -> None:
    named = proposed(plant, replace(WEEKS, failures="failures.csv:Pumpe:Ausfall"), patterns=("telemetry/*.csv",))
    assert found.mapping["events"] == named.mapping["events"]
    assert ["telemetry/*.csv"] == named.mapping["files"]


def test_failures_beside_one_table_with_cycles(pumps_table: pd.DataFrame, tmp_path: Path) -> None:
    pumps_table.to_csv(tmp_path / "all.csv", index=False)
    last = pumps_table.groupby("Pump")["Mission"].max().reset_index()
    last.to_csv(tmp_path / "ends.csv", index=False)
    found = proposed(tmp_path / "all.csv", Choices(failures="ends.csv", replacements="ends.csv"))
    assert ["all.csv"] == found.mapping["files"]
    assert {"path": "ends.csv", "unit": "Pump", "time": "Mission"} == found.mapping["events"]["replacements"]
    assert (found.fleet.table.groupby("unit")["rul"].last() == 0).all()


@pytest.mark.parametrize(
    ("choices", "message", "remedy"),
    [
        ({"failures": "none.csv"}, "expected a file below .*, got none at 'none.csv'", "FILE:UNIT_COLUMN:TIME_COLUMN"),
        ({"failures": "../failures.csv"}, "expected a file below", "the folder that has both"),
        ({"failures": "failures.csv:Pumpe:When"}, "expected a column 'When'", "as it stands in the header"),
        ({"failures": "two.csv"}, "one column that has times like .*, got 2 that could: a, b", "two.csv:UNIT_COLUMN"),
        ({"failures": "others.csv"}, "expected one column that names machines of the telemetry", "others.csv:UNIT"),
        ({"replacements": "failures.csv"}, "expected --failures beside it", "failures"),
        ({"failures": "failures.csv", "ends_in_failure": True}, "got several", ""),
    ],
)
def test_a_table_of_which_nobody_can_tell_the_columns_is_refused(
    choices: dict[str, Any], message: str, remedy: str, plant: Path
) -> None:
    (plant / "two.csv").write_text("Pumpe;a;b\nP001;01.03.2024 06:00;02.03.2024 06:00\n")
    (plant / "others.csv").write_text("Pumpe;a\nX1;01.03.2024 06:00\nX2;01.03.2024 06:00\n")
    with pytest.raises(ConfigError, match=message) as error:
        proposed(plant, replace(WEEKS, **choices), patterns=("telemetry/*.csv",))
    assert remedy in (error.value.remedy or "")


def test_parquet_with_moments_of_its_own(pumps_table: pd.DataFrame, tmp_path: Path) -> None:
    stamps = pd.Timestamp("2024-01-03 06:00", tz="UTC") + pd.to_timedelta(pumps_table["Mission"], "D")
    pumps_table.drop(columns="Mission").assign(Stamp=stamps).to_parquet(tmp_path / "all.parquet")
    ends = pd.DataFrame({"Pump": pumps_table["Pump"], "Failed": stamps}).groupby("Pump").max().reset_index()
    ends.to_parquet(tmp_path / "ends.parquet")
    found = proposed(tmp_path / "all.parquet", Choices(failures="ends.parquet", cycle_length="1d"))
    assert "Stamp" == found.mapping["time"]["column"]
    assert len(pumps_table) == len(found.fleet)
    assert (found.fleet.table.groupby("unit")["rul"].last() == 0).all()
