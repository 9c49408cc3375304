from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinseal.assets.names import channel_name, channel_names, description
from twinseal.assets.units_of_measure import measure_of
from twinseal.telemetry.contract import KEYS


@pytest.mark.parametrize(
    ("header", "name", "unit"),
    [
        ("Oil temp [°C]", "oil_temp", "°C"),
        ("Druck (kPa)", "druck", "kPa"),
        ("Ölstand in %", "oelstand", "%"),
        ("OilTemp", "oil_temp", "1"),
        ("T1 (new)", "t1_new", "1"),
        ("T1 (the new one, 2024)", "t1_the_new_one_2024", "1"),
        ("2nd stage", "channel_2nd_stage", "1"),
        ("=cmd()", "cmd", "1"),
        ("ΔT [K]", "delta_t", "K"),
        ("Straße", "strasse", "1"),
        ("温度", "channel", "1"),
        ("[°C]", "channel", "°C"),
        ("m³/h", "m3_h", "1"),
    ],
)
def test_a_header_gives_a_plain_name_and_its_unit_of_measure(header: str, name: str, unit: str) -> None:
    assert (name, unit) == (channel_name(header), measure_of(header).unit)


@given(st.lists(st.text(min_size=1, max_size=80), unique=True, max_size=20))
def test_whatever_stands_in_headers_names_are_plain_and_each_once(headers: list[str]) -> None:
    names = channel_names(headers)
    assert list(names) == headers
    assert len(set(names.values())) == len(headers)
    assert not set(names.values()) & set(KEYS)
    assert all(re.fullmatch(r"[a-z][a-z0-9_]{0,39}", name) for name in names.values())
    assert all(description(header).isprintable() for header in headers)
