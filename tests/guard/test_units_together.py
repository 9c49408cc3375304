"""Law: a guard of many units, told their rows in any order and grouping, decides of each as a guard of it alone."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.guard.conftest import NAMES, Doubles, contract_of, life
from twinseal.guard.guard import Guard
from twinseal.guard.memory import OWN, RECEIVED, REPAIRED, RowMemory
from twinseal.guard.parameters import GuardParams

UNITS, ROWS, WINDOW = 5, 90, 100
Seen = list[list[object]]
Step = tuple[str, np.ndarray]


def falsified(seed: int) -> list[Doubles]:
    """Of each unit some rows with all that a guard reacts to."""
    rng, found = np.random.default_rng(seed), []
    for unit in range(UNITS):
        rows = life(200 + unit)[40 : 40 + ROWS].copy()
        for _ in range(3):
            start, length = rng.integers(5, ROWS - 10), rng.integers(1, 30)
            channels = rng.choice(len(NAMES), rng.integers(1, 6), replace=False)
            rows[start : start + length, channels] += rng.normal(0.0, 2.0, len(channels))
        rows[rng.random(rows.shape) < 0.005] = math.nan
        rows[rng.random(rows.shape) < 0.002] = 1e9
        rows[60:75, 2] = rows[60, 2]
        found.append(rows)
    return found


def steps(data: st.DataObject) -> Iterator[Step]:
    """What happens, and to which units."""
    rng = np.random.default_rng(data.draw(st.integers(0, 1_000)))
    for _ in range(3 * ROWS):
        kind = str(rng.choice(["rows", "missing", "reset"], p=[0.95, 0.04, 0.01]))
        yield kind, rng.choice(UNITS, rng.integers(1, UNITS + 1), replace=False)


def tell(guard: Guard, kind: str, units: np.ndarray, cycles: np.ndarray, rows: Doubles, seen: Seen) -> None:
    if kind != "rows":
        (guard.fill_missing_cycle if kind == "missing" else guard.reset_window)(units)
        return
    decision = guard.decide(cycles, rows, rows, units)
    windows = [guard.window(WINDOW, units, repaired=which) for which in (True, False)]
    assert ((windows[0] != windows[1]).any(axis=2) == guard.repaired_rows(units)).all()
    for at, unit in enumerate(units):
        parts = (decision.repaired, decision.rules, decision.rewritten_rows, *windows)
        seen[unit].append([decision.refusals[at], *(part[at].tolist() for part in parts)])


@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_any_order_and_grouping_gives_what_each_unit_gets_alone(params: GuardParams, data: st.DataObject) -> None:
    told = falsified(data.draw(st.integers(0, 1_000)))
    together, alone = Guard(params, contract_of(), 1, window=WINDOW), []
    together.grow(UNITS - 1)
    alone = [Guard(params, contract_of(), window=WINDOW) for _ in told]
    one: Seen = [[] for _ in told]
    many: Seen = [[] for _ in told]
    heard, cycles = np.zeros(UNITS, dtype=int), np.zeros(UNITS, dtype=int)
    for kind, drawn in steps(data):
        units = drawn[heard[drawn] < ROWS]
        if not len(units):
            continue
        rows = np.stack([told[unit][heard[unit]] for unit in units])
        cycles[units] += 1
        heard[units] += kind == "rows"
        tell(together, kind, units, cycles[units], rows, many)
        for at, unit in enumerate(units):
            only: Seen = [[]]
            tell(alone[unit], kind, np.array([0]), cycles[unit : unit + 1], rows[at : at + 1], only)
            one[unit] += only[0]
    assert one == many
    assert sum(bool(row[0]) for unit in many for row in unit), "nothing was refused: the law would say little"


def test_a_unit_costs_what_it_says_and_ten_thousand_fit_a_gateway(params: GuardParams) -> None:
    guard = Guard(params, contract_of(), 4, window=WINDOW)
    before = guard.unit_bytes
    guard.grow(60)
    assert 64 == guard.units
    assert before == guard.unit_bytes
    assert 10_000 * guard.unit_bytes < 10**9


def test_units_of_parameters_of_their_own_cannot_be_joined_by_more(params: GuardParams) -> None:
    with pytest.raises(ValueError, match="expected parameters for all units, got some for each"):
        Guard([params, params.model_copy()], contract_of(), 2).grow(1)


def test_two_rows_of_one_unit_at_once_are_refused(params: GuardParams) -> None:
    """The second would be written over the first."""
    row = np.zeros((2, len(NAMES)))
    with pytest.raises(ValueError, match="expected each unit once, got one twice"):
        Guard(params, contract_of(), 3).decide(np.array([1, 2]), row, row, np.array([1, 1]))


def test_rows_move_when_their_room_is_used_up_and_stay_what_they_were() -> None:
    memory, kept = RowMemory(units=3, rows=4, channels=1), np.array([2])
    for number in range(1, 200):
        memory.append(kept, np.array([[[number]], [[-number]], [[2.0 * number]]]), np.array([number % 2 == 0]))
        expected = [max(0, number - back) for back in (3, 2, 1, 0)]
        assert expected == memory.of(REPAIRED, 2)[:, 0].tolist() == memory.runs(REPAIRED, kept, 4)[0, :, 0].tolist()
        assert [-value for value in expected[:3]] == memory.runs(RECEIVED, kept, 3, before=1)[0, :, 0].tolist()
        assert [2 * value for value in expected] == memory.runs(OWN, kept, 4)[0, :, 0].tolist()
        assert [bool(value) and value % 2 == 0 for value in expected] == memory.differs(kept)[0].tolist()
    assert not memory.runs(REPAIRED, np.array([0, 1]), 4).any()
