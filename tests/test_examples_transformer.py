"""The simulated transformers of the tutorial: by hand-computed physics, the same bytes for a seed, clear refusals."""

from __future__ import annotations

import subprocess
import sys
from datetime import datetime
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest

FOLDER = Path(__file__).parents[1] / "docs/examples/transformer"


@pytest.fixture(scope="module")
def physics() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FOLDER)
        return import_module("physics")


@pytest.fixture(scope="module")
def simulation(physics: ModuleType) -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FOLDER)
        return import_module("simulate")


@pytest.fixture(scope="module")
def lives(simulation: ModuleType) -> list:
    return simulation.simulate(6, 7)


def step(before: float, after: float, steps: int = 200) -> np.ndarray:
    return np.concatenate([[before], np.full(steps, after)])


def test_at_rated_load_and_20_degrees_the_hot_spot_has_98_and_ages_by_1(physics: ModuleType) -> None:
    oil, hot_spot = physics.temperatures(np.ones(5), np.full(5, 20.0))
    assert oil == pytest.approx(20 + 52)
    assert hot_spot == pytest.approx(20 + 52 + 26)
    assert physics.relative_ageing(hot_spot) == pytest.approx(1.0)


def test_ageing_doubles_each_6_kelvin(physics: ModuleType) -> None:
    assert physics.relative_ageing(104.0) == 2.0
    assert physics.relative_ageing(116.0) == 8.0
    assert physics.relative_ageing(92.0) == 0.5


def test_at_half_load_the_rises_follow_the_exponents(physics: ModuleType) -> None:
    oil, hot_spot = physics.temperatures(np.full(5, 0.5), np.zeros(5))
    assert oil == pytest.approx(52 * (2.5 / 7) ** 0.8)  # (1 + 6·0.25)/(1 + 6)
    assert hot_spot - oil == pytest.approx(26 * 0.5**1.3)


def test_after_one_time_constant_the_oil_has_made_63_percent_of_its_way(physics: ModuleType) -> None:
    oil, _ = physics.temperatures(step(0.0, 1.0), np.full(201, 20.0), step=0.5 * 210 / 10)
    idle = 52 * (1 / 7) ** 0.8
    assert oil[0] == pytest.approx(20 + idle)
    assert (oil[10] - oil[0]) / (52 - idle) == pytest.approx(1 - np.exp(-1))  # 10 steps of a tenth of k11·τo


def test_the_hot_spot_overshoots_because_the_oil_around_the_winding_moves_late(physics: ModuleType) -> None:
    oil, hot_spot = physics.temperatures(step(0.0, 1.0), np.full(201, 20.0), step=5.0)
    over = hot_spot - oil
    # 2·26·(1 − exp(−t/20)) − 26·(1 − exp(−t/105)) after 60 minutes
    assert over[12] == pytest.approx(52 * (1 - np.exp(-3)) - 26 * (1 - np.exp(-60 / 105)))
    assert over.max() > 26 + 8
    assert over[-1] == pytest.approx(26, abs=0.01)


def test_dry_paper_at_98_degrees_goes_from_1000_to_200_in_18_years(physics: ModuleType) -> None:
    # A·exp(−E/RT) = 1.07e8/h · exp(−111000/(8.314·371.15)) = 2.553e-8/h; (1/200 − 1/1000) / that = 156,700 h
    an_hour = physics.chains_broken(0.0, physics.arrhenius(98.0))
    assert an_hour == pytest.approx(2.553e-8, rel=1e-3)
    assert physics.WHOLE_LIFE / an_hour / 8766 == pytest.approx(17.88, abs=0.02)
    assert physics.chains_broken(2.0, 1.0) / physics.chains_broken(0.0, 1.0) == pytest.approx(7.78 / 1.07)


def test_what_is_in_the_oil_follows_paper_and_temperature(physics: ModuleType) -> None:
    assert physics.furfural(200.0) == pytest.approx(6.457, abs=0.001)  # 10^(1.51 − 0.7)
    # Paper of 2 % at 60 °C: p = (0.02/2.173e-7·exp(−4725.6/333.15))^(1/0.6685) = 0.01623 atm, 8.2 % of 0.1968 atm;
    # the oil can hold 10^(7.09 − 1567/333.15) = 243 ppm
    assert physics.water_in_oil(2.0, 60.0) == pytest.approx(20.0, abs=0.1)
    assert physics.water_in_oil(2.0, 70.0) > physics.water_in_oil(2.0, 60.0) > physics.water_in_oil(1.0, 60.0)
    assert physics.water_in_oil(50.0, 20.0) == pytest.approx(10 ** (7.09 - 1567 / 293.15))  # saturated, not more


def test_each_life_falls_to_its_end_and_stops_there(lives: list) -> None:
    for life in lives:
        assert (np.diff(life.dp) < 0).all()
        assert life.ends
        assert life.dp[-1] <= 200 < life.dp[-2]
        assert life.unit.dp > life.dp[0]
    weeks = [len(life.dp) / 7 for life in lives]
    assert 90 < min(weeks) < max(weeks) < 530
    assert {True, False} == {life.failed for life in lives}


def test_a_unit_is_the_same_in_a_larger_fleet_and_another_with_another_seed(
    simulation: ModuleType, lives: list
) -> None:
    (same,) = simulation.simulate(1, 7)
    (other,) = simulation.simulate(1, 8)
    assert simulation.exported(lives[0]) == simulation.exported(same)
    assert simulation.exported(other) != simulation.exported(same)


def test_the_export_is_as_a_plant_writes_it(simulation: ModuleType, lives: list, tmp_path: Path) -> None:
    simulation.write(tmp_path / "a", lives, as_plain=False)
    simulation.write(tmp_path / "b", lives, as_plain=False)
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.csv"))
    assert [f"T00{n}.csv" for n in range(1, 7)] == [path.name for path in files if path.parent.name == "export"]
    assert all((tmp_path / "a" / path).read_bytes() == (tmp_path / "b" / path).read_bytes() for path in files)
    header, *rows = (tmp_path / "a/export/T001.csv").read_bytes().decode("cp1252").split("\r\n")[:-1]
    assert (
        "Zeit;Last [%];Umgebung [°C];Öltemperatur [°C];H2 [ppm];CO [ppm];CO2 [ppm];Wasser [ppm];2-FAL [ppm]" == header
    )
    assert any(";Bad" in row for row in rows)
    assert {9} == {len(row.split(";")) for row in rows}
    times = [datetime.strptime(row.split(";")[0], "%d.%m.%Y %H:%M") for row in rows]
    assert {1} == {(after - before).days for before, after in pairwise(times)}
    assert {(6, 0)} == {(time.hour, time.minute) for time in times}


def test_failures_come_within_a_day_of_the_last_record(simulation: ModuleType, lives: list) -> None:
    header, *rows = simulation.failures(lives).split("\r\n")[:-1]
    assert "Transformator;Ausfall" == header
    ends = dict(row.split(";") for row in rows)
    assert {life.unit.name for life in lives if life.failed} == set(ends)
    for life in lives:
        last = simulation.exported(life).split("\r\n")[-2].split(";")[0]
        if not life.failed:
            assert "31.12.2024 06:00" == last  # it still runs
            continue
        wait = datetime.strptime(ends[life.unit.name], "%d.%m.%Y %H:%M") - datetime.strptime(last, "%d.%m.%Y %H:%M")
        assert 1 <= wait.total_seconds() / 3600 <= 12


def test_the_plain_table_counts_down_to_each_end(simulation: ModuleType, lives: list, tmp_path: Path) -> None:
    simulation.write(tmp_path / "plain", lives, as_plain=True)
    table = pd.read_csv(tmp_path / "plain/transformers.csv")
    for life in lives:
        rows = table[table.unit == life.unit.name]
        assert [*range(1, life.recorded // 7 + 1)] == rows.cycle.tolist()
        assert {len(life.dp) // 7} == set(rows.cycle + rows.rul)
        assert life.failed == (rows.rul.iloc[-1] == 0)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, FOLDER / "simulate.py", *arguments],
        check=False,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=60,
    )


def test_it_runs_as_the_tutorial_says(tmp_path: Path) -> None:
    done = run(str(tmp_path / "grid"), "--units", "2", "--seed", "7", "--plain")
    assert (0, "") == (done.returncode, done.stderr)
    assert f"2 transformers in {tmp_path / 'grid'}: 1 failed, after" in done.stdout
    assert ["transformers.csv"] == [path.name for path in (tmp_path / "grid").iterdir()]
    assert ["grid"] == [path.name for path in tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--units", "0"], "--units: expected a whole number from 1 to 999, got '0'"),
        (["--units", "1e9"], "--units: expected a whole number from 1 to 999, got '1e9'"),
        (["--units", "-3"], "--units: expected a whole number from 1 to 999, got '-3'"),
        (["--units", "²"], "--units: expected a whole number from 1 to 999, got '²'"),
        (["--seed", "x"], "--seed: expected a whole number from 0 to 4294967295, got 'x'"),
        (["--seed", "4294967296"], "--seed: expected a whole number from 0 to 4294967295, got '4294967296'"),
    ],
)
def test_hostile_options_are_refused(
    simulation: ModuleType, arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        simulation.main([str(tmp_path / "grid"), *arguments])
    assert message in capsys.readouterr().err
    assert [] == list(tmp_path.iterdir())


def test_what_is_there_stays(simulation: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine").write_text("mine")
    for out, message in (
        (tmp_path, "expected a new or an empty folder, got"),
        (tmp_path / "mine", "expected a new or an empty folder, got"),
        (tmp_path / "no/grid", "expected a folder that exists at"),
    ):
        with pytest.raises(SystemExit, match="2"):
            simulation.main([str(out), "--units", "1"])
        assert message in capsys.readouterr().err
    assert ["mine"] == [path.name for path in tmp_path.iterdir()]
    assert "mine" == (tmp_path / "mine").read_text()
