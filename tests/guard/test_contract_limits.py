from __future__ import annotations

import math

import numpy as np
import pytest

from twinseal.guard.contract_limits import ContractLimits
from twinseal.telemetry.contract import Channel

LIMITS = ContractLimits([Channel(unit="K", minimum=0.0, maximum=10.0, max_change_per_cycle=1.0)] * 2)


def broken_rules(value: float, good: float = 5.0, gap: float = 1.0) -> str:
    found = LIMITS.broken_rules(np.array([[5.0, value]]), np.array([[5.0, good]]), np.full((1, 2), gap))
    assert found[0, 0] == ""
    return str(found[0, 1])


@pytest.mark.parametrize(
    ("value", "rule"),
    [(math.nan, "missing"), (-0.1, "minimum"), (10.1, "maximum"), (6.1, "change"), (3.9, "change"), (5.9, "")],
)
def test_what_no_machine_could_say_is_named_by_the_rule_it_breaks(value: float, rule: str) -> None:
    assert broken_rules(value) == rule


@pytest.mark.parametrize("value", [math.inf, -math.inf, 1e300])
def test_what_is_too_large_for_any_machine_is_out_of_range(value: float) -> None:
    assert broken_rules(value) in {"minimum", "maximum"}


def test_bounds_belong_to_what_they_bound() -> None:
    assert (broken_rules(0.0, good=0.5), broken_rules(10.0, good=9.0), broken_rules(6.0), broken_rules(4.0)) == (
        "",
        "",
        "",
        "",
    )


def test_reading_that_was_float32_once_is_not_outside_for_a_rounding() -> None:
    limits = ContractLimits([Channel(unit="psia", minimum=21.599, maximum=21.611, max_change_per_cycle=0.012)])
    readings = np.array([[float(np.float32(21.611))]])
    assert limits.broken_rules(readings, np.array([[float(np.float32(21.599))]]), np.ones((1, 1)))[0, 0] == ""


def test_change_is_allowed_for_every_cycle_since_the_last_good_reading() -> None:
    assert (broken_rules(8.0, gap=2.0), broken_rules(8.0, gap=3.0)) == ("change", "")


def test_first_reading_of_all_has_nothing_to_change_from() -> None:
    assert broken_rules(9.9, good=math.nan) == ""
