from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinseal.telemetry.contract import Channel
from twinseal.twin.guard import MAX_HELD, Flag, Guard

NAMES = tuple("abcdefghijkl")
LIMITS = {name: Channel(unit="K", minimum=0.0, maximum=10.0, max_change_per_cycle=1.0) for name in NAMES}


def row(**changes: Any) -> dict[str, Any]:
    return dict.fromkeys(NAMES, 5.0) | changes


def guard() -> Guard:
    guard = Guard(NAMES, LIMITS)
    assert guard.look(1, row()).flagged == ()
    return guard


def test_honest_row_passes_unchanged() -> None:
    look = guard().look(2, row(a=5.9, b=4.1))
    assert (look.flagged, look.refusal) == ((), "")
    assert look.values is not None
    assert look.values.tolist() == [5.9, 4.1] + [5.0] * 10


@pytest.mark.parametrize(
    ("value", "flag"),
    [
        (-0.1, Flag("b", "minimum", -0.1, 0.0)),
        (10.1, Flag("b", "maximum", 10.1, 10.0)),
        (6.1, Flag("b", "change", 6.1, 1.0)),
        (3.9, Flag("b", "change", 3.9, 1.0)),
    ],
)
def test_flagged_value_is_replaced_by_the_last_good_one(value: float, flag: Flag) -> None:
    look = guard().look(2, row(b=value))
    assert look.flagged == (flag,)
    assert look.values is not None
    assert look.values.tolist() == [5.0] * 12


@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf, "5.0", True, [5.0], 10**400])
def test_what_is_no_number_is_missing(value: Any) -> None:
    (flag,) = guard().look(2, row(b=value)).flagged
    assert (flag.channel, flag.rule) == ("b", "missing")


def test_absent_channel_is_missing() -> None:
    absent = row()
    del absent["b"]
    assert [flag.rule for flag in guard().look(2, absent).flagged] == ["missing"]


def test_bounds_belong_to_what_they_bound() -> None:
    fresh = Guard(NAMES, LIMITS)
    assert fresh.look(1, row(a=0.0, b=10.0)).flagged == ()
    assert fresh.look(2, row(a=np.float32(1.0), b=9.0)).flagged == ()


def test_change_is_allowed_for_every_cycle_since_the_last_good_value() -> None:
    watch = guard()
    assert watch.look(4, row(b=8.0)).flagged == ()
    assert [flag.rule for flag in watch.look(5, row(b=4.0)).flagged] == ["change"]
    assert [flag.rule for flag in watch.look(6, row(b=4.0)).flagged] == ["change"]
    assert watch.look(8, row(b=4.0)).flagged == ()


def test_two_flagged_channels_are_repaired_three_are_refused() -> None:
    watch = guard()
    assert watch.look(2, row(a=None, b=None)).refusal == ""
    look = watch.look(3, row(a=None, b=None, c=None))
    assert look.refusal == "expected at most 2 flagged channels, got 3: a, b, c"
    assert look.values is None
    assert len(look.flagged) == 3


def test_few_channels_bear_less() -> None:
    few = Guard(NAMES[:4], LIMITS)
    few.look(1, row())
    assert few.look(2, row(a=None)).refusal == ""
    assert few.look(3, row(a=None, b=None)).refusal == "expected at most 1 flagged channels, got 2: a, b"


def test_channel_is_not_held_for_ever() -> None:
    watch = guard()
    for cycle in range(2, 2 + MAX_HELD):
        assert watch.look(cycle, row(b=99.0)).refusal == ""
    assert watch.look(2 + MAX_HELD, row(b=99.0)).refusal == "b: expected a good value within 5 cycles, got none"
    assert watch.look(3 + MAX_HELD, row()).refusal == ""


def test_first_value_cannot_be_made_up() -> None:
    fresh = Guard(NAMES, LIMITS)
    assert fresh.look(1, row(b=None)).refusal == "b: expected a first good value, got none yet"
    assert fresh.look(2, row()).refusal == ""


def test_refused_row_does_not_teach_the_guard_bad_values() -> None:
    watch = guard()
    assert watch.look(2, row(a=99.0, b=99.0, c=99.0)).refusal != ""
    look = watch.look(3, row(a=99.0))
    assert look.values is not None
    assert look.values[0] == 5.0


@given(st.lists(st.fixed_dictionaries({name: st.floats() | st.none() for name in NAMES}), max_size=8))
def test_whatever_comes_what_goes_on_is_within_the_contract(rows: list[dict[str, Any]]) -> None:
    watch, slack = Guard(NAMES, LIMITS), 1e-4
    before = None
    for cycle, values in enumerate(rows, 1):
        look = watch.look(cycle, values)
        assert (look.values is None) == bool(look.refusal)
        if look.values is not None:
            assert ((look.values >= -slack) & (look.values <= 10 + slack)).all()
            if before is not None and before[0] == cycle - 1:
                assert (np.abs(look.values - before[1]) <= MAX_HELD + 1 + slack).all()
            before = cycle, look.values
