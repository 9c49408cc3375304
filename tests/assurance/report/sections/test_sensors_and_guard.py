"""Sensors under an attacker's control, falsified histories, an attacker who knows the guard, and the median."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from tests.assurance import measured
from tests.assurance.candidate import holder, lives
from twinseal.assurance.case import Case
from twinseal.assurance.report.blocks import Text
from twinseal.assurance.report.sections import falsified_histories, guard_aware, median_certificate, owned_sensors
from twinseal.evidence import Statement

CaseOf = Callable[..., Case]


def test_controlled_sensors_are_listed_by_number_and_by_name() -> None:
    found = measured.owned_sensors()
    by_number, by_name = owned_sensors.by_count(found), owned_sensors.alone(found)
    assert by_number is not None
    assert by_name is not None
    assert [row[0] for row in by_number.rows[:2]] == ["1 sensor, aim: any error", "2 sensors, aim: any error"]
    assert len(by_number.rows) == 6
    assert [row[0] for row in by_name.rows] == ["d", "c", "b", "a"]  # the one that does most comes first


def test_sensors_of_the_heat_map_stand_in_the_order_of_their_numbers() -> None:
    names = ("s10", "s2", "s9")
    found = measured.owned_sensors().model_copy(update={"pairs": {a: dict.fromkeys(names, 20.0) for a in names}})
    figure = owned_sensors.pairs(found)
    assert figure is not None
    assert re.findall(r">(s\d+)</text>", figure.svg)[:3] == ["s2", "s9", "s10"]


def test_the_title_of_a_panel_is_broken_not_cut() -> None:
    attack = "slow drift, 2 % of the allowed change per cycle"
    figure = falsified_histories.lives(lives(attack=attack))
    assert figure is not None
    assert attack in figure.alt
    assert "…" not in figure.svg
    assert all(word in figure.svg for word in ("slow drift, 2 % of the allowed", "per cycle"))


def test_the_tile_of_one_sensor_says_that_nothing_bounds_it(case_of: CaseOf) -> None:
    (tile,) = owned_sensors.SECTION.build(case_of()).tiles
    assert (tile.value, tile.holds) == ("20.0 %", "open")


def test_falsified_histories_stand_without_the_guard_and_with_it(case_of: CaseOf) -> None:
    table, any_error = (falsified_histories.histories(measured.histories(), aim) for aim in ("healthy-washing", "any"))
    assert table is not None
    assert any_error is not None
    assert table.rows[0][0] == "injection (Mode et al.): constant bias, continuous"
    assert [row[0] for row in table.rows[4:]] == [
        "one sensor, 2 σ",
        "slow drift, 0.5 % of the allowed change per cycle",
        "slow drift, 2 % of the allowed change per cycle",
        "replay",
    ]
    assert [row[0] for row in any_error.rows] == ["one sensor, 0.5 σ"]
    replay = next(row for row in table.rows if row[0] == "replay")
    assert replay[1:] == ("37", "100.0 %", "10.0 %", "30.00", "8.50", "12", "20.0 %", "0.0 %")
    assert table.headers[4:7] == (
        "RMSE, no guard [cycles]",
        "RMSE where the guard answers [cycles]",
        "failing units",
    )
    (intro,) = falsified_histories.SECTION.build(case_of()).blocks
    assert isinstance(intro, Text)
    assert "refuses 1.1 % of the rows of sound units" in intro.text


def test_an_attacker_who_knows_the_guard_is_shown_by_size() -> None:
    table = guard_aware.rows(measured.guard_aware())
    assert table is not None
    assert [row[:4] for row in table.rows] == [("0.1 σ", "37", "100.0 %", "4.00"), ("0.5 σ", "37", "100.0 %", "20.00")]
    assert "RMSE, signed baseline [cycles]" in table.headers


def test_without_a_signed_baseline_its_columns_are_left_out() -> None:
    bare = {key: group.model_copy(update={"commissioned": None}) for key, group in measured.guard_aware().items()}
    table = guard_aware.rows(bare)
    assert table is not None
    assert not any("baseline" in header for header in table.headers)


@pytest.mark.parametrize(
    ("shares", "value", "note"),
    [
        ({0.1: 0.0, 0.5: 0.42}, "42.0 %", "by changes of up to 0.5 σ of the last rows; 12 failing units"),
        (
            {0.1: 0.1, 0.5: 0.42, 4.0: 0.42},
            "42.0 %",
            "by changes of up to 0.5 σ of the last rows; 10.0 % by 0.1 σ; 12 failing units",
        ),
        (
            {0.1: 0.0, 4.0: 0.0},
            "0.0 %",
            "by changes of up to 4 σ of the last rows; tried, not proved; 12 failing units",
        ),
        ({0.1: None}, "—", "no unit is failing"),
    ],
)
def test_the_tile_names_the_smallest_change_that_hides_most(
    shares: dict[float, float | None], value: str, note: str
) -> None:
    whole = measured.guard_aware()["eps-0.1"]
    found = {
        f"eps-{epsilon:g}": whole.model_copy(update={"guarded_missed_failure_share": share})
        for epsilon, share in shares.items()
    }
    (tile,) = guard_aware.tiles(found)
    assert (tile.value, tile.note, tile.holds) == (value, note, "open")


def test_the_abuse_of_repairs_is_a_sentence(case_of: CaseOf, statements: dict[str, Statement]) -> None:
    holder(statements["evade"])["repair_abuse"]["beyond_share"] = 0.25
    blocks = guard_aware.SECTION.build(case_of(statements)).blocks
    assert any(
        "25.0 % of the units went above their bound" in block.text for block in blocks if isinstance(block, Text)
    )
    blocks = guard_aware.SECTION.build(case_of()).blocks
    assert any("no unit went above its bound; missed" in block.text for block in blocks if isinstance(block, Text))


def test_a_median_has_a_bound_for_each_number_of_members_and_a_mean_has_none(case_of: CaseOf) -> None:
    content = median_certificate.SECTION.build(case_of(kind="certified-sensors"))
    assert content.tiles[0].value == "≤ 14.0 cycles"
    assert content.tiles[0].holds == "proved"
    assert median_certificate.SECTION.build(case_of()).below == ()


def test_without_evidence_each_section_says_so(case_of: CaseOf) -> None:
    for module in (owned_sensors, falsified_histories, guard_aware):
        (text,) = module.SECTION.build(case_of({})).below
        assert isinstance(text, Text)
        assert "on record" in text.text
