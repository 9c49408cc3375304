from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinseal.config import parse
from twinseal.errors import ConfigError, DataError
from twinseal.guard import calibration
from twinseal.guard.guard import MAX_ESTIMATED_CYCLES, Guard, GuardDecision
from twinseal.guard.judge import CYCLES_TO_REGAIN_TRUST
from twinseal.guard.parameters import GuardParams
from twinseal.telemetry.contract import Contract

COUNT = 12
NAMES = tuple(f"c{index:02d}" for index in range(COUNT))
History = tuple[np.ndarray, np.ndarray]


def contract(count: int = COUNT) -> Contract:
    channel = {"unit": "K", "minimum": 0.0, "maximum": 100.0, "max_change_per_cycle": 30.0}
    return Contract.from_dict(
        {
            "asset": "toy",
            "model": "toy-rul",
            "description": "A machine",
            "cycle": "One turn",
            "rul_cap_cycles": 90.0,
            "min_cycles": 10,
            "max_quarantined_share": 0.1,
            "settings": {},
            "sensors": dict.fromkeys(NAMES[:count], channel),
        }
    )


def restore(known: np.ndarray, _regimes: Any = None) -> np.ndarray:
    """σ is 5 K, the mean 50 K."""
    return 50.0 + 5.0 * known


def history(seed: int, rows: int = 120, count: int = COUNT) -> History:
    """A wear that every channel shows, some against it, and noise of its own; the last channel tells nothing."""
    rng = np.random.default_rng(seed)
    wear = np.linspace(-1.5, 1.5, rows)[:, None] + rng.normal(0, 0.1, (rows, 1)).cumsum(axis=0) / 5
    signs = np.where(np.arange(count) % 3 == 0, -1.0, 1.0)
    known = signs * wear + rng.normal(0, 0.3, (rows, count))
    known[:, -1] = rng.normal(0, 1, rows)
    return known, np.zeros(rows, dtype=np.int64)


@pytest.fixture(scope="module")
def params() -> GuardParams:
    return calibration.fit([history(s) for s in range(20)], [history(s) for s in range(100, 130)], contract(), restore)


def watch(params: GuardParams, known: np.ndarray, start: int = 1) -> tuple[Guard, list[GuardDecision]]:
    guard, decisions = Guard(params, contract(), window=len(known)), []
    for cycle, row in enumerate(known, start):
        decisions.append(guard.decide(np.array([cycle]), restore(row[None]), row[None]))
    return guard, decisions


def flagged(decision: GuardDecision) -> dict[str, str]:
    return {NAMES[i]: str(decision.rules[0, i]) for i in np.flatnonzero(decision.flagged[0])}


def test_false_alarms_are_as_rare_as_was_said(params: GuardParams) -> None:
    """On units that neither set thresholds nor measured anything."""
    fresh = [history(s) for s in range(200, 240)]
    shares = calibration.alarm_shares(params, fresh, contract(), restore)
    assert params.measured_false_alarm_share < 0.03
    assert 0.0 < shares.mean() < 0.03


def test_an_honest_row_passes_unchanged(params: GuardParams) -> None:
    known, _ = history(300)
    guard, decisions = watch(params, known[:30])
    quiet = [decision for decision in decisions if not decision.flagged.any()]
    assert len(quiet) > 25
    np.testing.assert_allclose(known[:3], guard.window(30)[0, :3])


@pytest.mark.parametrize(
    ("value", "rule"),
    [(-0.1, "minimum"), (100.1, "maximum"), (math.nan, "missing"), (95.0, "change")],
)
def test_what_the_contract_forbids_is_replaced_by_what_the_others_expect(
    params: GuardParams, value: float, rule: str
) -> None:
    known, _ = history(301)
    guard, _ = watch(params, known[:40])
    raw = restore(known[40:41])
    raw[0, 2] = value
    decision = guard.decide(np.array([41]), raw, (raw - 50) / 5)
    assert {"c02": rule} == flagged(decision)
    assert ("",) == decision.refusals
    assert abs(decision.repaired[0, 2] - known[40, 2]) < 1.5  # the truth, as well as the others can tell


def test_two_may_be_replaced_three_may_not(params: GuardParams) -> None:
    known, _ = history(302)
    for count, refused in ((2, False), (3, True)):
        guard, _ = watch(params, known[:40])
        raw = restore(known[40:41])
        raw[0, :count] = math.nan
        decision = guard.decide(np.array([41]), raw, (raw - 50) / 5)
        assert refused == bool(decision.refusals[0])
    assert "expected at most 2 faulty, manipulated or missing channels, got 3: c00, c01, c02" == decision.refusals[0]


def test_few_channels_bear_less() -> None:
    few = calibration.fit(
        [history(s, count=4) for s in range(20)], [history(s, count=4) for s in range(50, 55)], contract(4), restore
    )
    guard = Guard(few, contract(4))
    known, _ = history(303, count=4)
    raw = restore(known[:1])
    raw[0, :2] = math.nan
    assert (
        guard.decide(np.array([1]), raw, (raw - 50) / 5)
        .refusals[0]
        .startswith("expected at most 1 faulty, manipulated or missing channel, got")
    )


@pytest.mark.parametrize("shift", [2.0, -3.0])
def test_a_sensor_that_lies_is_found_replaced_and_trusted_again(params: GuardParams, shift: float) -> None:
    known, _ = history(304)
    false = known.copy()
    false[50:70, 4] += shift
    guard, decisions = watch(params, false)
    found = [i for i, decision in enumerate(decisions) if decision.flagged[0, 4]]
    assert found[0] <= 52
    assert set(range(53, 70)) <= set(found)
    assert (
        70 + CYCLES_TO_REGAIN_TRUST - 2 <= found[-1] <= 70 + 20 + 2 * CYCLES_TO_REGAIN_TRUST
    )  # the longest average must forget it first
    errors = guard.window(120)[0, 50:70, 4] - known[50:70, 4]
    assert float(np.sqrt(np.mean(errors**2))) < 0.5 < abs(shift)
    assert not any(decision.refusals[0] for decision in decisions)


def test_what_is_too_small_for_one_row_shows_over_twenty(params: GuardParams) -> None:
    """And what was told before it showed is rewritten."""
    known, _ = history(305)
    false = known.copy()
    false[60:, 5] += 0.8
    guard, decisions = watch(params, false)
    first = next(i for i, decision in enumerate(decisions) if decision.flagged[0, 5])
    assert 60 < first < 90
    assert decisions[first].rewritten_rows[0, 5] >= 4
    rewritten = guard.window(120)[0, first - 4 : first, 5]
    assert abs(float(np.mean(rewritten - known[first - 4 : first, 5]))) < 0.5


def test_sensors_that_move_together_as_wear_does_are_not_flagged_but_refused(params: GuardParams) -> None:
    """No sensor disagrees with another; but a machine does not heal."""
    known, _ = history(306)
    false = known.copy()
    false[60:] -= 1.5 * np.where(np.arange(COUNT) % 3 == 0, -1.0, 1.0) * (np.arange(COUNT) < COUNT - 1)
    _, decisions = watch(params, false)
    assert float(np.mean([decision.flagged.any() for decision in decisions[60:]])) < 0.2
    assert not any(decision.refusals[0] for decision in decisions[:60])
    assert all("expected wear that never goes back" in decision.refusals[0] for decision in decisions[80:])


def test_many_liars_that_disagree_mean_silence_until_all_agree_again(params: GuardParams) -> None:
    known, _ = history(307)
    false = known.copy()
    false[50:60, 1:6] += np.array([4.0, -4.0, 4.0, -4.0, 4.0])
    _, decisions = watch(params, false)
    silent = [i for i, decision in enumerate(decisions) if decision.refusals[0]]
    assert {*range(50, 60)} <= set(silent)
    assert (
        60 + CYCLES_TO_REGAIN_TRUST <= silent[-1] + 1 <= 60 + 20 + 4 * CYCLES_TO_REGAIN_TRUST
    )  # the longest average must forget it first
    back = int(
        decisions[silent[-1] + 1].rewritten_rows[0].max()
    )  # what stood for the rows until then is said to be a guess
    assert silent[-1] + 1 - back <= silent[0]
    assert "to agree again for 10 cycles" in decisions[61].refusals[0]


def test_a_stuck_sensor_is_found(params: GuardParams) -> None:
    known, _ = history(308)
    false = known.copy()
    false[50:, 3] = false[49, 3]
    _, decisions = watch(params, false)
    stuck = params.stuck_cycles[3]
    assert "stuck" in {flagged(decision).get("c03") for decision in decisions[50 : 51 + stuck]}


def test_a_channel_that_others_tell_nothing_of_is_guessed_for_a_few_rows_only(params: GuardParams) -> None:
    known, _ = history(309)
    raw = restore(known)
    raw[40:, -1] = math.nan
    guard = Guard(params, contract(), window=120)
    refusals = [
        guard.decide(np.array([c + 1]), raw[c : c + 1], ((raw - 50) / 5)[c : c + 1]).refusals[0] for c in range(60)
    ]
    assert not any(refusals[40 : 40 + MAX_ESTIMATED_CYCLES])
    assert refusals[40 + MAX_ESTIMATED_CYCLES].startswith("c11: expected a good reading within 5 cycles, got none")


def test_change_is_allowed_for_every_cycle_since_the_last_good_reading(params: GuardParams) -> None:
    known, _ = history(310)
    guard, _ = watch(params, known[:20])
    far = restore(known[20:21])
    far[0, -1] = restore(known[19:20])[0, -1] + 40.0
    decision = guard.decide(np.array([22]), far, (far - 50) / 5)
    assert "change" not in flagged(decision).values()


def test_many_units_are_watched_as_each_would_be_alone(params: GuardParams) -> None:
    told = [history(s)[0] for s in (400, 401, 402)]
    told[1] = told[1][:70]
    told[2][40:60, 2] += 3.0
    together = Guard(params, contract(), 3, window=120)
    for cycle in range(120):
        here = np.flatnonzero([cycle < len(rows) for rows in told])
        known = np.stack([told[unit][cycle] for unit in here])
        together.decide(np.full(len(here), cycle + 1), restore(known), known, here)
    for unit, rows in enumerate(told):
        alone, _ = watch(params, rows)
        np.testing.assert_array_equal(alone.window(len(rows))[0], together.window(120)[unit, 120 - len(rows) :])


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), data=st.data())
def test_whatever_comes_what_goes_on_is_a_number(params: GuardParams, seed: int, data: st.DataObject) -> None:
    known, _ = history(seed, rows=15)
    raw = restore(known)
    for _ in range(data.draw(st.integers(0, 20))):
        at = data.draw(st.integers(0, 14)), data.draw(st.integers(0, COUNT - 1))
        raw[at] = data.draw(st.sampled_from([math.nan, -1e9, 1e9, 0.0, 100.0]))
    guard = Guard(params, contract(), window=15)
    for cycle in range(15):
        decision = guard.decide(np.array([cycle + 1]), raw[cycle : cycle + 1], ((raw - 50) / 5)[cycle : cycle + 1])
        assert np.isfinite(decision.repaired).all()
        assert bool(decision.refusals[0]) or np.abs(decision.repaired).max() <= 10 + 1e-6  # the range is ±10 σ


def test_parameters_come_back_from_plain_data(params: GuardParams) -> None:
    assert params == parse(GuardParams, params.model_dump(mode="json"), "guard.json")


def test_fitting_twice_gives_the_same(params: GuardParams) -> None:
    again = calibration.fit([history(s) for s in range(20)], [history(s) for s in range(100, 130)], contract(), restore)
    assert params == again


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"spans": [5, 1, 20]}, "spans"),
        ({"widen": 0.5}, "widen of 1 to 100"),
        ({"stuck_cycles": [1] * COUNT}, "stuck_cycles >= 2"),
        ({"measured_false_alarm_share": 1.5}, "share of false alarms"),
        ({"thresholds": [[1.0] * COUNT]}, "a row of them for each span"),
        ({"precision": [[1.0] * COUNT] * COUNT}, "positive definite"),
    ],
)
def test_parameters_by_which_nothing_can_be_judged_are_refused(
    params: GuardParams, change: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(GuardParams, params.model_dump(mode="json") | change, "guard.json")


def test_too_few_units_are_refused() -> None:
    with pytest.raises(DataError, match="expected at least 5 training units and one more, got 3, 1"):
        calibration.fit([history(s) for s in range(3)], [history(9)], contract(), restore)


def test_parameters_of_another_machine_are_refused(params: GuardParams) -> None:
    with pytest.raises(ValueError, match="expected parameters of 4 channels, got 12"):
        Guard(params, contract(4))
