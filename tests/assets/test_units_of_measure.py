"""A unit of measure is told from a name where it clearly is one, and nowhere else; a conversion is never silent."""

from __future__ import annotations

import pytest

from twinseal.assets.moments import Choices
from twinseal.assets.readings import Reading, reading_of
from twinseal.assets.units_of_measure import ENDINGS, LETTERS, NONE, PAIRS, hints_at_factor, measure_of
from twinseal.errors import ConfigError
from twinseal.sources.measurement_units import conversion


@pytest.mark.parametrize(
    ("header", "unit"),
    [
        ("oil_temp_C", "°C"),
        ("temp [°F]", "°F"),
        ("pressure (bar)", "bar"),
        ("speed_rpm", "rpm"),
        ("I_A", "A"),
        ("U1 V", "V"),
        ("flow_m3_h", "m3/h"),
        ("vib.mm_s", "mm/s"),
        ("I (A)", "A"),
        ("Durchfluss (m³/h)", "m³/h"),
    ],
)
def test_an_ending_or_brackets_tell_it_and_say_so(header: str, unit: str) -> None:
    found = measure_of(header, [header, "other"])
    assert unit == found.unit
    assert "its name" in found.rests_on
    conversion(found.unit, found.unit)  # pint knows it


@pytest.mark.parametrize(
    "header",
    [
        "phase_C",
        "L1 (A)",
        "Temp (min)",
        "T_max",
        "T1 (new)",
        "zone (hot)",
        "bar",
        "A",
        "C",
        "s1",
        "valve_A",
        "M_s",
        "_",
    ],
)
def test_what_may_be_a_name_is_no_unit(header: str) -> None:
    assert (NONE, "") == (measure_of(header).unit, measure_of(header).rests_on)


@pytest.mark.parametrize("columns", [["I_A", "I_B", "I_C"], ["temp_C", "temp_D"], ["U1_V", "U1_W"]])
def test_a_letter_that_numbers_columns_is_no_unit(columns: list[str]) -> None:
    assert all(measure_of(column).unit != NONE for column in columns[:1])  # alone it would be one
    assert {NONE} == {measure_of(column, columns).unit for column in columns}


def test_pint_knows_every_unit_that_a_name_may_tell() -> None:
    units = {*ENDINGS.values(), *PAIRS.values(), *(unit for unit, _ in LETTERS.values())}
    assert {(1.0, 0.0)} == {conversion(unit, unit) for unit in units}


def read(column: str, known_unit: str = NONE, **choices: object) -> Reading:
    return reading_of(column, Choices(**choices), known_unit=known_unit, words=(), beside=[column])  # type: ignore[arg-type]


def test_a_conversion_is_proposed_where_the_contract_has_another_unit_and_is_said() -> None:
    found = read("temp [°F]", "°C")
    assert ("°C", "°F") == (found.unit, found.measured_in)
    assert "temp [°F]: °F → °C, × 0.555556 -17.7778, because [°F] in its name; the contract that it is like" in str(
        found
    )
    assert "" == read("temp [degC]", "°C").measured_in  # the same unit by another name
    assert ("°C", "") == (read("temp", "°C").unit, read("temp", "°C").becomes)  # no name says another
    assert ("°F", "") == (read("temp [°F]").unit, read("temp [°F]").measured_in)


def test_a_unit_that_does_not_become_that_of_the_contract_is_asked_for() -> None:
    with pytest.raises(ConfigError, match=r"temp \[bar\]: expected a unit of measurement that becomes °C") as error:
        read("temp [bar]", "°C")
    assert '--measured "temp [bar]=UNIT"' in error.value.remedy


def test_a_person_stands_above_the_name() -> None:
    found = read("oil_temp_C", measured=(("oil_temp_C", "degF", "K"),))
    assert ("K", "degF", "a person said so") == (found.unit, found.measured_in, found.because)
    assert "in V" == read("I_A", measured=(("I_A", "V", ""),)).becomes


@pytest.mark.parametrize("header", ["Temp x10", "Druck 1/100", "load (x0.1)", "p_x100"])
def test_a_factor_in_a_name_is_said_and_not_applied(header: str) -> None:
    found = read(header)
    assert hints_at_factor(header) and found.scale is None
    assert "--scale COLUMN=FACTOR" in found.because
    asked = read(header, scaled=((header, 0.1, -20.0),))
    assert ((0.1, -20.0), "× 0.1 -20") == (asked.scale, asked.becomes)


@pytest.mark.parametrize("header", ["x10", "max10", "s10", "1/2 load"])
def test_a_name_with_a_number_hints_at_no_factor(header: str) -> None:
    assert not hints_at_factor(header)
