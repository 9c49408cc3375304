from __future__ import annotations

import numpy as np
from guard.conftest import untrained_params

from twinseal.guard.parameters import GuardParams
from twinseal.guard.wear import WearMonitor

SPANS = (1, 5)
ROWS = 200


def params() -> GuardParams:
    return untrained_params(2, spans=SPANS, thresholds=((1e6, 1e6),) * 2, wear=(1.0, 0.0), falls=(1.0, 0.5))


def fallen(wear: np.ndarray) -> np.ndarray:
    """What is open after each row of one machine that wears so; (R,) its span."""
    rows = np.stack([wear, np.zeros_like(wear)], axis=1)
    watch, found = WearMonitor(params(), 1), []
    for at in range(1, len(rows) + 1):
        newest = np.stack([rows[max(0, at - span) : at].mean(axis=0) for span in SPANS])
        old = max(1, at - SPANS[-1])
        before = np.stack([rows[max(0, old - span) : old].mean(axis=0) for span in SPANS])
        found.append(watch.longest_open_fall(newest[None], before[None], np.array([at]), np.array([0]))[0])
    return np.array(found)


def worn() -> np.ndarray:
    return np.linspace(0.0, 10.0, ROWS)


def test_machine_that_wears_has_not_fallen() -> None:
    assert not fallen(worn()).any()


def test_machine_that_heals_has_fallen_at_once_and_stays_so() -> None:
    wear = worn()
    wear[100:] -= 4.0
    found = fallen(wear)
    assert not found[:100].any()
    assert found[100:].all()


def test_wear_that_goes_on_under_the_lie_does_not_undo_the_fall() -> None:
    wear = worn()
    wear[100:] -= 2.0  # 40 rows later the lie is overtaken: the readings are as high as they ever were
    assert wear[150] > wear[:100].max()
    assert fallen(wear)[100:].all()


def test_small_slow_fall_is_found_by_the_longer_average() -> None:
    wear = worn()
    wear[100:] -= 0.9  # less than the shortest span would notice
    found = fallen(wear)
    assert not found[:101].any()
    assert found[105] == 5


def test_fall_is_undone_when_the_readings_leap_back() -> None:
    wear = worn()
    wear[100:120] -= 4.0
    found = fallen(wear)
    assert found[100:120].all()
    assert not found[130:].any()


def test_fall_that_was_chance_is_forgotten() -> None:
    wear = worn()
    wear[100] -= 1.4
    found = fallen(wear)
    assert found[100] > 0
    assert not found[112:].any()


def test_unit_without_a_row_is_not_judged() -> None:
    watch = WearMonitor(params(), 2)
    both, high, low = np.array([0, 1]), np.full((2, 2, 2), 5.0), np.zeros((2, 2, 2))
    assert watch.longest_open_fall(high, high, np.array([20, 20]), both).tolist() == [0, 0]
    assert watch.longest_open_fall(low[:1], high[:1], np.array([21]), both[:1]).tolist() == [5]
    assert watch.longest_open_fall(high[:1], high[:1], np.array([21]), both[1:]).tolist() == [0]


def test_gap_of_more_wear_than_machines_lose_is_said() -> None:
    watch = WearMonitor(params(), 1)
    assert not watch.is_implausible_recovery(0, np.array([[0.9, 9.0], [0.4, 9.0]]))
    assert watch.is_implausible_recovery(0, np.array([[0.9, 0.0], [0.6, 0.0]]))
