"""Held sensors: what so many of them hide, in words and rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twinseal.assurance.case import Case
from twinseal.assurance.report.blocks import Table, Text
from twinseal.assurance.report.sections import held_sensors
from twinseal.measures.robustness import AlarmBySensors, HeldSensors, HiddenBySensors

CaseOf = Callable[..., Case]


def test_each_number_of_sensors_has_a_sentence_and_a_row_for_each_number_of_rows(case_of: CaseOf) -> None:
    built = held_sensors.SECTION.build(case_of())
    lines = [block.text for block in built.blocks if isinstance(block, Text)]
    assert lines[1].startswith("With 1 sensor for 150 rows, 0.0 % of the failing machines are called healthy")
    assert "With 4 sensors for 150 rows, 20.0 %" in lines[4]
    assert "without the ledger 40.0 %" in lines[4]
    hide, alarm = built.below
    assert isinstance(hide, Table) and isinstance(alarm, Table)
    assert [row[0] for row in hide.rows][:4] == [
        "1 sensor, 40 rows",
        "1 sensor, 100 rows",
        "1 sensor, 150 rows",
        "2 sensors, 40 rows",
    ]
    assert len(hide.rows) == len(alarm.rows) == 12
    assert built.tiles[0].value == "20.0 %"


def test_where_no_machine_is_failing_there_is_a_dash() -> None:
    nothing = HiddenBySensors(bare_missed_failure_share=None, missed_failure_share=None, answer_cycles=None)
    nobody = AlarmBySensors(false_alarm_share=None, locked_early_share=None, answer_cycles=None)
    found = HeldSensors(
        failing_units=0, healthy_units=0, hide={"k-1": {"rows-40": nothing}}, alarm={"k-1": {"rows-40": nobody}}
    )
    assert held_sensors.tile(found).note == "no unit is failing"
    assert "—" in held_sensors.words(found)[0]


def test_without_a_record_it_says_so(case_of: CaseOf) -> None:
    built: Any = held_sensors.SECTION.build(case_of({}))
    assert built.below[0].text == "There is no attack with a few sensors on record."
