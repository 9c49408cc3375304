from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinseal.sources.measurement_units import conversion


@pytest.mark.parametrize(
    ("written", "wanted", "reading", "becomes"),
    [
        ("°F", "K", 212.0, 373.15),
        ("degF", "°C", -40.0, -40.0),
        ("°C", "°R", 0.0, 491.67),
        ("psia", "kPa", 14.696, 101.325),
        ("bar", "kPa", 2.0, 200.0),
        ("l/min", "m3/s", 60_000.0, 1.0),
        ("%", "1", 35.0, 0.35),
        ("ppm", "1", 5.0, 5e-6),
        ("rpm", "rad/s", 60.0, 6.283185307),
        ("mm/s", "m/s", 3.0, 0.003),
        ("lbm/s", "kg/s", 1.0, 0.45359237),
        ("N·m", "N*m", 7.0, 7.0),
        ("kWh", "J", 1.0, 3.6e6),
    ],
)
def test_readings_become_those_of_the_contract(written: str, wanted: str, reading: float, becomes: float) -> None:
    factor, offset = conversion(written, wanted)
    assert factor * reading + offset == pytest.approx(becomes, rel=1e-5, abs=1e-9)


@pytest.mark.parametrize(
    ("written", "wanted", "why"),
    [
        ("m", "s", "Cannot convert"),
        ("g", "m/s^2", "Cannot convert"),
        ("parsnip", "K", "not defined"),
        ("", "K", "no unit of measurement"),
        ("dB", "1", "by a factor and an offset"),
        ("9**9**9**9", "1", "no unit of measurement"),
        ("m**9999999", "m", "no unit of measurement"),
        ("kPa; import os", "kPa", "no unit of measurement"),
        ("__import__('os')", "kPa", "no unit of measurement"),
        ("K", "no such unit", "expected a unit"),
    ],
)
def test_what_is_no_unit_of_that_quantity_is_refused(written: str, wanted: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        conversion(written, wanted)


@given(st.text(max_size=45), st.sampled_from(["K", "kPa", "1", "m/s"]))
def test_any_text_is_a_unit_or_refused(written: str, wanted: str) -> None:
    try:
        factor, _ = conversion(written, wanted)
    except ValueError:
        return
    assert factor
