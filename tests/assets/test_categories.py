"""Columns of words: a state of the machine becomes numbers, with its words; what is none is left out, and said."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.assets.conftest import request_for
from twinseal.assets.entries import edits, write
from twinseal.assets.moments import Choices
from twinseal.assets.proposal import Proposal, propose_table
from twinseal.config import load
from twinseal.errors import ConfigError, DataError
from twinseal.sources.data_params import DataParams, open_source

FAILS = Choices(ends_in_failure=True)


def proposed(table: pd.DataFrame, folder: Path, choices: Choices = FAILS) -> Proposal:
    table.to_csv(folder / "a.csv", index=False)
    return propose_table(request_for(folder / "a.csv", choices=choices))


def cycling(*words: str) -> Callable[[pd.DataFrame], Any]:
    return lambda table: np.array(words)[np.random.default_rng(2).integers(len(words), size=len(table))]


@pytest.mark.parametrize("words", [("idle", "run"), ("No", "Yes"), ("0", "a: {b}", "x # y"), ("off", "on"), ("é", "ü")])
def test_words_become_numbers_in_the_order_of_the_alphabet(
    words: tuple[str, ...], pumps_table: pd.DataFrame, tmp_path: Path, project: Path
) -> None:
    table = pumps_table.assign(Mode=cycling(*words)(pumps_table))
    table["Mode"] = np.where(np.arange(len(table)) % 9 == 4, "", table["Mode"])
    found = proposed(table, tmp_path)
    assert {"Mode": {word: at for at, word in enumerate(words)}} == found.mapping["categories"]
    mode = found.contract.settings["mode"]
    last = len(words) - 1
    assert (0, last, last, 1) == (mode.minimum, mode.maximum, mode.max_change_per_cycle, mode.resolution)
    assert f"{last} {words[-1]}" in found.proposed.basis["mode"]
    assert any(item.column == "Mode" and "its" not in item.becomes for item in found.readings)
    assert {*range(len(words))} == set(found.fleet.table["mode"].dropna().astype(int))
    write(project, edits(project, found, replace=False))  # and the stages read these words
    params = load(DataParams, project / "params.yaml", section="data")
    again = open_source(params, found.contract).read()
    pd.testing.assert_series_equal(found.fleet.table["mode"], again.table["mode"])


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda t: t["Pump"].str.replace("pump", "made in"), "it says which unit it is"),
        (lambda t: np.where(t["Mission"] == t.groupby("Pump")["Mission"].transform("max"), "dead", "well"), "the end"),
        (lambda t: "serial " + t["Mission"].astype(str), "text: "),
        (lambda t: np.where(t.index % 3 == 0, cycling("a", "b")(t), ""), "no value in 67% of the rows"),
        (lambda t: np.where(t.index == 5, "rare", cycling("a", "b")(t)), "'rare' is there in one unit only"),
        (cycling("2024-01-01", "2024-01-02"), "dates"),
    ],
)
def test_words_that_are_no_state_are_left_out(
    make: Callable[[pd.DataFrame], Any], why: str, pumps_table: pd.DataFrame, tmp_path: Path
) -> None:
    found = proposed(pumps_table.assign(odd=make(pumps_table)), tmp_path)
    assert why in {item.column: item.why for item in found.left_out}["odd"]
    assert "odd" not in found.contract.all_channels and "categories" not in found.mapping


def test_a_person_may_say_that_words_are_measured_or_of_one_unit_alone(
    pumps_table: pd.DataFrame, tmp_path: Path
) -> None:
    words = np.where(pumps_table.index == 5, "rare", cycling("a", "b")(pumps_table))
    found = proposed(pumps_table.assign(Alarm=words), tmp_path, replace(FAILS, sensors=(("Alarm", "alarm"),)))
    assert {"a": 0, "b": 1, "rare": 2} == found.mapping["categories"]["Alarm"]
    assert "alarm" in found.contract.sensors


def test_text_that_is_asked_for_and_has_too_many_words_is_refused(pumps_table: pd.DataFrame, tmp_path: Path) -> None:
    words = [f"note {n}" for n in range(len(pumps_table))]
    with pytest.raises(ConfigError, match="Alarm: expected numbers or up to 1000 words, got text") as error:
        proposed(pumps_table.assign(Alarm=words), tmp_path, replace(FAILS, sensors=(("Alarm", ""),)))
    assert '--ignore "Alarm"' in error.value.remedy


def test_a_word_that_the_proposal_did_not_see_is_refused_by_the_source(
    pumps_table: pd.DataFrame, tmp_path: Path
) -> None:
    found = proposed(pumps_table.assign(Mode=cycling("idle", "run")(pumps_table)), tmp_path)
    text = (tmp_path / "a.csv").read_text().replace(",idle", ",walk", 1)
    (tmp_path / "a.csv").write_text(text)
    params = DataParams(source="table", asset="oven", path=str(tmp_path / "a.csv"), table=dict(found.mapping))
    with pytest.raises(DataError, match="Mode: expected one of idle, run, got 'walk'"):
        open_source(params, found.contract).read()
