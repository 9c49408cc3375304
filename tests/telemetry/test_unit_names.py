from __future__ import annotations

import unicodedata
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinseal.telemetry.unit_names import alike, unit_name


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("pump-1", "pump-1"), (" A ", "A"), ("A\u00a0", "A"), ("T  1", "T 1"), ("T\u20091", "T 1"), ("007", "007"),
        ("NA", "NA"), ("nan", "nan"), ("No", "No"), ("u\u0308", "\u00fc"), ("", ""), (" \u00a0", ""), ("A\n", "A"),
        ("A\nB", ""), ("A\u200bB", ""), ("A\x00", ""), (7, "7"), (np.int64(7), "7"), (10.0, "10"), (np.float32(3), "3"),
        (1.5, ""), (float("nan"), ""), (float("inf"), ""), (2.0**53, ""), (True, ""), (np.True_, ""), (None, ""),
        (b"T 1", "T 1"), (b"\xff", ""), ([], ""), (2**70, str(2**70)),
    ],
)  # fmt: skip
def test_one_rule_for_names(value: Any, name: str) -> None:
    assert name == unit_name(value)


@given(st.text())
def test_a_name_is_its_own_name(text: str) -> None:
    name = unit_name(text)
    assert name == unit_name(name) == unit_name(f" {name}\u00a0")
    assert name == "" or (name.isprintable() and name == name.strip())
    assert name == unit_name(unicodedata.normalize("NFD", text))


def test_names_that_people_take_for_one_are_said() -> None:
    assert (("007", "7"), ("A1", "a1"), ("m2", "m²")) == alike(["A1", "a1", "B", "007", "7", "m²", "m2"])
