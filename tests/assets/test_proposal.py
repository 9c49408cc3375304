"""From an export to a proposal: what is told of its columns, and what is refused, each with one clear message."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from markupsafe import escape

from tests.assets.conftest import request_for
from twinseal.assets import bounds
from twinseal.assets.exports import Asked
from twinseal.assets.moments import Choices
from twinseal.assets.page import render
from twinseal.assets.proposal import Proposal, Request, propose_cmapss, propose_table
from twinseal.config import parse
from twinseal.errors import ConfigError, DataError, TwinsealError
from twinseal.sources.table import TableParams
from twinseal.telemetry.contract import Channel, Contract

FAILS = Choices(ends_in_failure=True)


def proposed(path: Path, choices: Choices = FAILS, **more: Any) -> Proposal:
    return propose_table(request_for(path, choices=choices, **more))


def written(table: pd.DataFrame, path: Path, **how: Any) -> Path:
    table.to_csv(path, index=False, **how)
    return path


def left_out(proposal: Proposal) -> dict[str, str]:
    return {item.column: item.why for item in proposal.left_out}


def test_an_export_of_a_german_spreadsheet_is_read_as_it_is_written(pumps_table: pd.DataFrame, tmp_path: Path) -> None:
    names = {
        "high_oil_temperature": "Öl-Temperatur [°C]",
        "high_pressure": "Druck (kPa)",
        "ambient_temperature": "Umgebung",
    }
    table = pumps_table.rename(columns=names).assign(Werk="Süd")
    found = proposed(written(table, tmp_path / "Export Nord.csv", sep=";", decimal=",", encoding="cp1252"))
    assert ("Pump", "Mission", ";", ",", "cp1252") == tuple(
        found.mapping[key] for key in ("unit", "cycle", "separator", "decimal", "encoding")
    )
    assert {"Umgebung": "umgebung"} == found.mapping["settings"]
    assert "oel_temperatur" in found.contract.sensors and "druck" in found.contract.sensors
    assert ("°C", "kPa") == (found.contract.sensors["oel_temperatur"].unit, found.contract.sensors["druck"].unit)
    assert {"Werk": "text: 1 different, such as 'Süd'"} == left_out(found)


@pytest.mark.parametrize("encoding", ["bz2", "unicode_escape", "utf-7", "nonsense"])
def test_what_is_no_encoding_of_a_file_is_refused(pumps_table: pd.DataFrame, tmp_path: Path, encoding: str) -> None:
    with pytest.raises(ConfigError, match="--encoding: expected one such as utf-8 or cp1252"):
        proposed(written(pumps_table, tmp_path / "a.csv"), asked=Asked(encoding=encoding))


def test_what_is_proposed_is_what_the_source_reads(pumps_table: pd.DataFrame, tmp_path: Path) -> None:
    found = proposed(written(pumps_table, tmp_path / "a.csv"))
    source = parse(TableParams, dict(found.mapping), "data.table").open(tmp_path / "a.csv", found.contract)
    pd.testing.assert_frame_equal(found.fleet.table, source.read().table)


def test_parquet_has_no_form(pumps_table: pd.DataFrame, tmp_path: Path) -> None:
    pumps_table.to_parquet(tmp_path / "a.parquet")
    found = proposed(tmp_path / "a.parquet")
    assert {"unit", "cycle", "settings", "sensors", "ends_in_failure"} == set(found.mapping)
    assert len(pumps_table) == len(found.fleet)


def test_a_folder_of_files_named_after_machines(pumps_table: pd.DataFrame, tmp_path: Path) -> None:
    folder = tmp_path / "export"
    folder.mkdir()
    for number, (_, rows) in enumerate(pumps_table.groupby("Pump")):
        written(rows.drop(columns="Pump"), folder / f"P {number:02d}.csv")
    (folder / "failures.csv").write_text("machine,when\nA,1\n")
    found = proposed(folder)
    assert "P {unit}.csv" == found.mapping["unit_in_name"]
    assert ("00", "01") == found.fleet.units[:2]
    assert "failures.csv" not in found.mapping["files"] and 12 == len(found.mapping["files"])
    assert any("1 files have other columns" in said for said in found.said)


def with_stamps(table: pd.DataFrame, form: str) -> pd.DataFrame:
    stamps = pd.Timestamp("2024-01-03") + pd.to_timedelta(table["Mission"], "D")
    return table.assign(Stamp=stamps.dt.strftime(form)).drop(columns="Mission")


@pytest.mark.parametrize("form", ["%d.%m.%Y %H:%M", "%m/%d/%Y", "%d-%m-%Y %H:%M"])
def test_time_stamps_are_told_and_the_zone_that_is_assumed_is_said(
    form: str, pumps_table: pd.DataFrame, tmp_path: Path
) -> None:
    found = proposed(written(with_stamps(pumps_table, form), tmp_path / "a.csv"))
    assert {"column": "Stamp", "format": form, "zone": "UTC", "cycle": "sample"} == found.mapping["time"]
    assert any("in UTC (assumed: --zone if it is another)" in said for said in found.said)
    assert len(pumps_table) == len(found.fleet)


def test_days_and_months_that_nobody_can_tell_apart_are_asked_for(pumps_table: pd.DataFrame, tmp_path: Path) -> None:
    few = pumps_table[pumps_table["Mission"] <= 9]
    table = few.assign(Stamp=[f"0{n}/03/2024" for n in few["Mission"]]).drop(columns="Mission")
    with pytest.raises(ConfigError, match="days and months that can be told apart") as error:
        proposed(written(table, tmp_path / "a.csv"))
    assert '--time-format "%d/%m/%Y" or --time-format "%m/%d/%Y"' in error.value.remedy
    assert proposed(tmp_path / "a.csv", replace(FAILS, time_format="%m/%d/%Y")).mapping["time"]["format"] == "%m/%d/%Y"


def test_how_histories_end_is_never_assumed(pumps_table: pd.DataFrame, tmp_path: Path) -> None:
    path = written(pumps_table, tmp_path / "a.csv")
    with pytest.raises(ConfigError, match="expected to know how the histories end, got no such column") as error:
        proposed(path, Choices())
    assert "--ends-in-failure" in error.value.remedy and "--rul COLUMN" in error.value.remedy
    assert proposed(path, Choices(end_unknown=True)).fleet.table["rul"].isna().all()


def test_a_label_is_found_by_its_arithmetic_and_is_no_channel(pumps_table: pd.DataFrame, tmp_path: Path) -> None:
    last = pumps_table.groupby("Pump")["Mission"].transform("max")
    found = proposed(written(pumps_table.assign(x=last - pumps_table["Mission"]), tmp_path / "a.csv"), Choices())
    assert "x" == found.mapping["rul"]
    assert "x" not in found.contract.all_channels


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda t: 8.0 * t["Mission"], "it counts with the cycles"),
        (lambda t: (t.groupby("Pump")["Mission"].transform("max") == t["Mission"]).astype(int), "it marks the end"),
        (lambda t: t.groupby("Pump").ngroup() + 1000, "it says which unit it is"),
        (lambda t: "serial " + t["Mission"].astype(str), "text: "),
        (lambda t: "", "no value in any row"),
        (lambda t: t["high_flow"].where(t["Mission"] % 3 == 1), "% of the rows"),
    ],
)
def test_what_is_no_reading_is_left_out_and_said(
    make: Callable[[pd.DataFrame], Any], why: str, pumps_table: pd.DataFrame, tmp_path: Path
) -> None:
    found = proposed(written(pumps_table.assign(odd=make(pumps_table)), tmp_path / "a.csv"))
    assert why in left_out(found)["odd"]
    assert "odd" not in found.contract.all_channels


def test_words_for_no_value_are_found_and_a_stray_cell_is_not_one(pumps_table: pd.DataFrame, tmp_path: Path) -> None:
    flow = pumps_table["high_flow"].astype(object)
    bad = flow.mask((pumps_table["Mission"] % 40 == 3), "Bad")
    found = proposed(written(pumps_table.assign(high_flow=bad), tmp_path / "a.csv"))
    assert ["Bad"] == found.mapping["missing"]
    assert 0 < found.contract.sensors["high_flow"].missing_share < 0.1
    stray = flow.mask(pumps_table.index == 30, "0,1")
    with pytest.raises(DataError, match=r"b\.csv, line 32, unit pump-001, high_flow: expected a number, got '0,1'"):
        proposed(written(pumps_table.assign(high_flow=stray), tmp_path / "b.csv"))


def test_options_stand_above_what_is_found(pumps_table: pd.DataFrame, tmp_path: Path) -> None:
    choices = replace(
        FAILS,
        settings=(("high_flow", "demand"),),
        sensors=(("ambient_temperature", ""),),
        ignored=("high_pressure",),
    )
    found = proposed(written(pumps_table, tmp_path / "a.csv"), choices, asked=Asked(missing=("gone",)))
    assert ["demand"] == list(found.contract.settings)
    assert ["ambient_temperature", "high_oil_temperature"] == list(found.contract.sensors)
    assert "so it was asked" == left_out(found)["high_pressure"]
    assert ["gone"] == found.mapping["missing"]


def test_readings_are_converted_to_the_unit_of_the_contract_that_it_is_like(
    pumps_table: pd.DataFrame, tmp_path: Path
) -> None:
    celsius = pumps_table["high_oil_temperature"] - 273.15
    asked = replace(FAILS, measured=(("high_oil_temperature", "K", "°C"),))
    first = proposed(written(pumps_table, tmp_path / "a.csv"), asked)
    assert {"high_oil_temperature": "K"} == first.mapping["measured_in"]
    assert "°C" == first.contract.sensors["high_oil_temperature"].unit
    table = pumps_table.assign(high_oil_temperature=celsius * 1.8 + 32)
    path = written(table.rename(columns={"high_oil_temperature": "high oil temperature [°F]"}), tmp_path / "b.csv")
    found = proposed(path, like=first.contract)
    assert {"high oil temperature [°F]": "°F"} == found.mapping["measured_in"]
    np.testing.assert_allclose(celsius, found.fleet.table["high_oil_temperature"], atol=1e-4)
    np.testing.assert_allclose(celsius, first.fleet.table["high_oil_temperature"], atol=1e-4)


@pytest.mark.parametrize("column", ["Pump", "Mode", "high_flow"])
def test_a_unit_for_a_column_that_is_no_number_or_not_read_is_refused(
    column: str, pumps_table: pd.DataFrame, tmp_path: Path
) -> None:
    table = pumps_table.assign(Mode=np.where(np.random.default_rng(1).random(len(pumps_table)) < 0.5, "a", "b"))
    choices = replace(FAILS, ignored=("high_flow",), measured=((column, "bar", ""),))
    with pytest.raises(ConfigError, match=f"expected columns of numbers that are read, got {column}"):
        proposed(written(table, tmp_path / "a.csv"), choices)


HOSTILE = [
    "=cmd()",
    "a: {b} # [c",
    "No",
    "~",
    "- 'x\" & *y !!z %",
    "<script>alert(1)</script>",
    "{{ 7*7 }}",
    "[bold]x[/]",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_header_is_a_name_like_any_other(name: str, pumps_table: pd.DataFrame, tmp_path: Path) -> None:
    found = proposed(written(pumps_table.rename(columns={"high_flow": name}), tmp_path / "a.csv"))
    assert name in {**found.mapping["settings"], **found.mapping["sensors"]}
    page = render(found)
    assert "<script>" not in page
    assert str(escape(name)) in page  # shown as it is, and nothing of it is done
    assert all(channel.isascii() and channel.isidentifier() for channel in found.contract.all_channels)


def test_a_name_with_terminal_escapes_is_left_out(pumps_table: pd.DataFrame, tmp_path: Path) -> None:
    found = proposed(written(pumps_table.rename(columns={"high_flow": "\x1b[31mFlow"}), tmp_path / "a.csv"))
    assert {"\x1b[31mFlow": "its name has characters that cannot be seen"} == left_out(found)
    assert "\x1b" not in render(found)


def rows(text: str) -> Callable[[pd.DataFrame], str]:
    return lambda _table: text


REFUSED: dict[str, tuple[Callable[[pd.DataFrame], str], str]] = {
    "empty": (rows(""), "expected a table, got an empty file"),
    "blank": (rows("\n\n"), "expected a table, got an empty file"),
    "header alone": (rows("Pump,Mission,a\n"), "expected rows of several machines, got none"),
    "one row": (rows("Pump,Mission,a\nA,1,2\n"), "expected rows of several machines, got 1"),
    "no header": (rows("1,1,2.5\n1,2,2.5\n2,1,2.5\n2,2,2.5\n"), "expected names of columns in the first line"),
    "lines above the header": (
        lambda t: "Plant 7\n" + t.to_csv(index=False),
        "expected a header with columns, got one",
    ),
    "one unit": (
        lambda t: t[t["Pump"] == "pump-001"].to_csv(index=False),
        "expected histories of two machines or more",
    ),
    "one row a unit": (lambda t: t[t["Mission"] == 1].to_csv(index=False), "expected a column that names the machine"),
    "all missing": (
        lambda t: t.assign(**dict.fromkeys(t.columns[2:], "")).to_csv(index=False),
        "expected columns of readings, got none",
    ),
    "no unit": (lambda t: t.drop(columns="Pump").to_csv(index=False), "expected a column that names the machine"),
    "no moment": (lambda t: t.drop(columns="Mission").to_csv(index=False), "expected cycles 1, 2, 3, …"),
    "10,000 columns": (
        lambda t: (
            ",".join(["Pump", "Mission", *(f"c{i}" for i in range(10_000))]) + "\n" + ("A,1" + ",0" * 10_000 + "\n") * 2
        ),
        "expected at most 2048 columns, got 10002",
    ),
    "600 channels": (
        lambda t: t[["Pump", "Mission"]][:400].join(pd.DataFrame(_noise(400, 600)).add_prefix("c")).to_csv(index=False),
        "expected at most 512 channels, got 600",
    ),
    "two that could be the unit": (
        rows("a,n,b,v\nx,1,p,1\nx,2,p,2\ny,1,p,3\ny,2,p,1\nx,1,q,1\nx,2,q,2\n"),
        "expected",
    ),
    "a longer row": (lambda t: t.to_csv(index=False) + "x,1,2,3,4,5,6\n", "expected 6 cells, as in the header"),
    "nothing moves": (
        rows("Pump,Mission,a,b\n" + "".join(f"{u},{n},1,2\n" for u in "ABC" for n in range(1, 30))),
        "expected a channel that a model can read, got none: a: it never moves; b: it never moves",
    ),
    "binary": (rows("\x00\x01\x02" * 50), "expected"),
}


def _noise(count: int, columns: int) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(count, columns)).round(3)


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_cannot_be_an_export_is_refused_in_one_sentence(
    name: str, pumps_table: pd.DataFrame, tmp_path: Path
) -> None:
    make, message = REFUSED[name]
    path = tmp_path / "a.csv"
    path.write_text(make(pumps_table))
    with pytest.raises(TwinsealError, match=message):
        proposed(path)


def used(contract: Contract) -> dict[str, bool]:
    return {name: channel.used for name, channel in contract.all_channels.items()}


def with_used(contract: Contract, **chosen: bool) -> Contract:
    def of(channels: dict[str, Channel]) -> dict[str, Channel]:
        return {k: channel.model_copy(update={"used": chosen.get(k, channel.used)}) for k, channel in channels.items()}

    return contract.model_copy(update={"settings": of(contract.settings), "sensors": of(contract.sensors)})


def test_an_asset_like_another_uses_the_channels_that_the_other_uses(pumps_table: pd.DataFrame, tmp_path: Path) -> None:
    path = written(pumps_table.assign(still=1.0), tmp_path / "a.csv")
    first = proposed(path).contract
    names = [name for name, is_used in used(first).items() if is_used]
    assert len(names) >= 2 and not first.all_channels["still"].used
    other = with_used(first, **{names[0]: False, "still": True})
    found = proposed(path, like=other)
    assert used(first) | {names[0]: False} == used(found.contract)
    assert "it never moves" == found.proposed.reasons["still"]
    assert bounds.AS_THERE == found.proposed.reasons[names[0]]
    (said,) = [text for text in found.said if "as in" in text]
    assert said == f"{len(used(first))} channels are used, or not, as in oven; but for still (it never moves)"


def test_an_asset_like_another_says_which_channels_are_not_in_both(pumps_table: pd.DataFrame, tmp_path: Path) -> None:
    path = written(pumps_table, tmp_path / "a.csv")
    first = proposed(path).contract
    gone, *rest = first.sensors
    other = first.model_copy(
        update={"sensors": {**{name: first.sensors[name] for name in rest}, "elsewhere": first.sensors[gone]}}
    )
    (said,) = [text for text in proposed(path, like=other).said if "as in" in text]
    assert "; elsewhere of oven are not here; " in said
    assert said.endswith(f"{gone} are not in oven, so that the data decide")


def test_an_asset_like_one_that_uses_none_of_its_channels_uses_what_moves(
    pumps_table: pd.DataFrame, tmp_path: Path
) -> None:
    path = written(pumps_table, tmp_path / "a.csv")
    first = proposed(path).contract
    found = proposed(path, like=with_used(first, **dict.fromkeys(first.all_channels, False)))
    assert found.contract.channels
    assert any("else none would be used" in text for text in found.said)


@pytest.mark.parametrize("name", ["", "Oven", "1oven", "o" * 41, "oven; rm", "../x"])
def test_a_name_that_no_asset_has_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="expected a name of a-z"):
        Request(asset=name, paths=(), date="2026-11-26")


@pytest.mark.parametrize(
    ("subset", "points"),
    [
        ("FD001", 0),
        pytest.param("FD002", 6, marks=pytest.mark.proof),
        pytest.param("FD003", 0, marks=pytest.mark.proof),
    ],
)
def test_cmapss_gives_the_contract_that_was_measured_by_hand(
    subset: str, points: int, cmapss_folder: Path, turbofan: Contract
) -> None:
    found = propose_cmapss(replace(request_for(cmapss_folder), like=turbofan), subset)
    contract = found.contract
    assert points == (len(contract.regimes.points) if contract.regimes else 0)
    assert 125.0 == contract.rul_cap_cycles
    assert len(found.refused_units) <= contract.max_quarantined_share * len(found.fleet.units)
    if subset == "FD001":
        assert set(turbofan.channels) == set(contract.channels)
        for name in turbofan.channels:
            mine, known = contract.sensors[name], turbofan.sensors[name]
            span = known.maximum - known.minimum
            assert abs(mine.minimum - known.minimum) < 0.15 * span and abs(mine.maximum - known.maximum) < 0.15 * span
            assert 0.8 * known.max_change_per_cycle <= mine.max_change_per_cycle <= known.max_change_per_cycle
