from __future__ import annotations

import math

import numpy as np
import pytest
from guard.conftest import LOADS, NAMES, GuardOutcome, contract_of, life, untrained_params, watch
from hypothesis import given, settings
from hypothesis import strategies as st

from twinseal.guard.calibration import fit
from twinseal.guard.guard import MAX_ESTIMATED_CYCLES, MAX_REPLACED_CHANNELS, Guard
from twinseal.guard.judge import CYCLES_TO_REGAIN_TRUST
from twinseal.guard.parameters import GuardParams

STRUCK = 100  # the row from which on the attacker lies
HEALTHY = -np.sign(LOADS)  # the direction in which a channel decisions younger
UNIT = 60  # a machine that nothing was learned from, and that raises no false alarm


def lie(
    shift: float, channels: list[int], start: int = STRUCK, end: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The rows of a machine, and the same with some channels shifted towards health from `start` on."""
    truth = life(UNIT)
    rows = truth.copy()
    rows[start:end, channels] += shift * HEALTHY[channels]
    return truth, rows


def test_sound_machine_is_answered_for_unchanged(params: GuardParams) -> None:
    truth = life(UNIT)
    seen = watch(params, truth)
    assert not seen.flagged.any()
    assert not seen.silent.any()
    assert seen.known.tolist() == truth.tolist()


# One lying channel: found, repaired, trusted again


@pytest.mark.parametrize("channel", range(len(NAMES)))
def test_attack_shift_of_one_channel_is_found_at_once_and_repaired_for_good(params: GuardParams, channel: int) -> None:
    truth, rows = lie(3.0, [channel])
    seen = watch(params, rows)
    assert seen.flagged[STRUCK:, channel].all()
    assert set(seen.rules[STRUCK:, channel]) == {"cross-channel"}
    assert not np.delete(seen.flagged, channel, axis=1).any()
    assert not seen.silent.any()
    error = seen.known[STRUCK:, channel] - truth[STRUCK:, channel]
    assert float(np.sqrt(np.mean(error**2))) < 0.5  # the noise of a reading is 0.3
    assert seen.known[:STRUCK].tolist() == truth[:STRUCK].tolist()


def test_attack_too_small_for_one_row_is_found_by_an_average_which_is_rewritten(params: GuardParams) -> None:
    truth, rows = lie(0.6, [2])
    seen = watch(params, rows)
    found = int(np.argmax(seen.flagged[:, 2]))
    assert STRUCK + 2 < found < STRUCK + 25
    assert seen.flagged[found:, 2].all(), "trusted between whiles, the lie would come back every other row"
    back = int(seen.rewritten_rows[found, 2])
    assert back in {4, 19}
    rewritten = seen.known[found - back : found, 2]
    assert (rewritten != rows[found - back : found, 2]).all()
    assert abs(float((rewritten - truth[found - back : found, 2]).mean())) < 0.25


def test_attack_ramp_is_found_before_it_is_large(params: GuardParams) -> None:
    truth = life(UNIT)
    rows = truth.copy()
    rows[STRUCK:, 4] += HEALTHY[4] * 0.05 * np.arange(1, len(truth) - STRUCK + 1)
    seen = watch(params, rows)
    assert int(np.argmax(seen.flagged[:, 4])) < STRUCK + 25
    assert abs(float((seen.known[-20:, 4] - truth[-20:, 4]).mean())) < 0.3


def test_channel_that_agrees_again_is_trusted_again(params: GuardParams) -> None:
    truth, rows = lie(3.0, [5], end=STRUCK + 20)
    seen = watch(params, rows)
    assert seen.flagged[STRUCK : STRUCK + 20 + CYCLES_TO_REGAIN_TRUST - 1, 5].all()
    assert not seen.flagged[STRUCK + 50 :, 5].any()
    assert seen.known[-5:].tolist() == truth[-5:].tolist()


@pytest.mark.parametrize("pair", [[0, 1], [3, 7], [4, 9]])
def test_two_lying_channels_are_still_repaired(params: GuardParams, pair: list[int]) -> None:
    truth, rows = lie(3.0, pair)
    seen = watch(params, rows)
    assert seen.flagged[STRUCK:, pair].all()
    assert not seen.silent.any()
    assert float(np.abs((seen.known - truth)[-20:, pair].mean(axis=0)).max()) < 0.4


def test_stuck_channel_is_flagged_and_repaired(params: GuardParams) -> None:
    truth = life(UNIT)
    rows = truth.copy()
    rows[STRUCK:, 0] = rows[STRUCK - 1, 0]
    seen = watch(params, rows)
    assert seen.rules[STRUCK + 3, 0] == "stuck"
    assert not seen.silent.any()
    assert abs(float((seen.known[-10:, 0] - truth[-10:, 0]).mean())) < 0.4
    assert abs(float((rows[-10:, 0] - truth[-10:, 0]).mean())) > 0.8


# What cannot be repaired honestly


def test_attack_three_lying_channels_are_not_repaired_but_refused(params: GuardParams) -> None:
    _, rows = lie(3.0, [0, 1, 2])
    seen = watch(params, rows)
    assert not seen.silent[:STRUCK].any()
    assert seen.silent[STRUCK:].all()
    assert "expected at most 2 faulty, manipulated or missing channels, got 3: " in seen.refusals[STRUCK]


@pytest.mark.parametrize("shift", [1.0, 2.0, 4.0])
def test_attack_all_channels_healthier_together_is_refused(params: GuardParams, shift: float) -> None:
    _, rows = lie(shift, list(range(len(NAMES))), start=130)
    seen = watch(params, rows)
    assert not seen.silent[:130].any()
    assert seen.silent[140:].all()


def test_attack_replay_of_early_rows_is_refused(params: GuardParams) -> None:
    rows = life(UNIT)
    rows[-30:] = rows[10:40]  # every channel agrees with every other, and none is stuck
    seen = watch(params, rows)
    assert not seen.silent[:-30].any()
    assert seen.silent[-25:].all()
    assert "expected wear that never goes back, got readings of a less worn machine" in seen.refusals[-25]


def test_attack_of_three_among_few_witnesses_does_not_get_the_honest_ones_replaced() -> None:
    """Five channels know the wear; three of them lie alike, so the two that do not are the odd ones out."""
    contract, loads = contract_of(NAMES[:8]), np.array([1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0])

    def machine(seed: int) -> np.ndarray:
        rows = life(seed)[:, :8]
        wear = 3.0 * (np.arange(1, len(rows) + 1) / len(rows)) ** 2 - 1.0
        return rows + wear[:, None] * (loads - LOADS[:8])

    units = [(rows, np.zeros(len(rows), dtype=np.int64)) for rows in map(machine, range(14))]
    params = fit(units[:12], units[12:], contract, lambda rows, _: rows)
    truth = machine(UNIT)
    rows = truth.copy()
    rows[STRUCK:, :3] -= 0.01 * np.arange(1, len(rows) - STRUCK + 1)[:, None]
    seen = watch(params, rows, contract)
    answered = (seen.known - truth)[~seen.silent][:, :5].mean(axis=1)  # negative: younger than it is
    assert any("without d, e the machine would look less worn" in refusal for refusal in seen.refusals)
    assert float(answered.min()) > -0.95, "replaced by what the liars expect, they would be younger still, for ever"
    assert seen.silent[-20:].all()


def test_attack_that_ended_leaves_no_healthy_rows_behind(params: GuardParams) -> None:
    truth, rows = lie(2.0, list(range(len(NAMES))), start=90, end=100)
    seen = watch(params, rows)
    assert seen.silent[92]
    assert not seen.silent[-1]
    younger = (seen.known - truth) @ LOADS / (LOADS @ LOADS)  # (R,) negative: the row shows a younger machine
    assert float(younger[90:100].min()) > -0.3, "the lie would still be in the window"
    assert float(younger[90:100].mean()) > 0.0


def with_thresholds(params: GuardParams, factor: float) -> GuardParams:
    """A guard that has learned otherwise: how channels go together, how they wear, and what is much."""

    def times(row: tuple[float, ...], by: float) -> tuple[float, ...]:
        return tuple(by * one for one in row)

    keener = {"thresholds": tuple(times(row, factor) for row in params.thresholds)}
    precision, wear = tuple(times(row, 1 / factor) for row in params.precision), times(params.wear, factor)
    stuck = tuple(round(factor * one) for one in params.stuck_cycles)
    return params.model_copy(update=keener | {"precision": precision, "wear": wear, "stuck_cycles": stuck})


@pytest.mark.parametrize("factors", [(1.0, 1.0, 1.0), (1.0, 0.6, 0.6), (0.6, 1.0, 1.5)])
def test_lies_of_one_machine_do_not_touch_another(params: GuardParams, factors: tuple[float, ...]) -> None:
    """Law: B units at once are B guards of one unit each, also when one has fewer rows, or parameters of its own."""
    own = {factor: with_thresholds(params, factor) for factor in factors}
    _, lying = lie(3.0, [0])
    _, lost = lie(3.0, [0, 1, 2], start=80)
    all_rows = [lying, life(61), lost[:120]]
    each = [own[factor] for factor in factors]
    guard, length = Guard(each if len(own) > 1 else each[0], contract_of(), 3, window=250), max(map(len, all_rows))
    flagged, silent = np.zeros((3, length, len(NAMES)), dtype=bool), np.zeros((3, length), dtype=bool)
    for at in range(length):
        here = np.flatnonzero([at < len(rows) for rows in all_rows])
        row = np.stack([all_rows[unit][at] for unit in here])
        decision = guard.decide(np.full(len(here), at + 1), row, row, here)
        flagged[here, at], silent[here, at] = decision.flagged, [refusal != "" for refusal in decision.refusals]
    for unit, rows in enumerate(all_rows):
        alone = watch(each[unit], rows)
        assert flagged[unit, : len(rows)].tolist() == alone.flagged.tolist()
        assert silent[unit, : len(rows)].tolist() == alone.silent.tolist()
        assert guard.window(len(rows))[unit].tolist() == alone.known.tolist()


def test_copies_of_units_keep_the_parameters_of_each(params: GuardParams) -> None:
    each = [params, with_thresholds(params, 0.6)]
    guard = Guard(each, contract_of(), 2)
    _, lying = lie(3.0, [0])
    for at, row in enumerate(lying[:40]):
        guard.decide(np.full(2, at + 1), np.stack([row] * 2), np.stack([row] * 2))
    copies = guard.repeated(3)
    for at, row in enumerate(lying[40:], start=40):
        one, many = (g.decide(np.full(n, at + 1), *[np.stack([row] * n)] * 2) for g, n in ((guard, 2), (copies, 6)))
        assert (np.tile(one.flagged, (3, 1)) == many.flagged).all()
        assert one.refusals * 3 == many.refusals


# Before a median


def test_attack_that_has_honest_channels_replaced_does_not_reach_them_in_the_rows_as_they_came(
    params: GuardParams,
) -> None:
    """A median of members on disjoint sensors: what one group says may not change what another group reads."""
    truth = life(UNIT)
    rows = truth.copy()
    rows[STRUCK:, [0, 3]] -= 1.0  # two that lie alike
    rows[STRUCK + 5, 7] = math.nan  # and an honest one that falls silent
    guard = Guard(params, contract_of(), window=len(rows))
    seen = GuardOutcome(guard, rows)
    expected = rows.copy()
    expected[STRUCK + 5, 7] = rows[STRUCK + 4, 7]  # its own last reading
    assert expected.tolist() == guard.window(len(rows), repaired=False)[0].tolist()
    assert seen.known.tolist() != expected.tolist()
    assert seen.flagged[STRUCK:].any()


def test_what_is_held_and_forgotten_is_so_in_the_rows_as_they_came_too(params: GuardParams) -> None:
    truth = life(UNIT)[:30]
    guard = Guard(params, contract_of(), window=100)
    GuardOutcome(guard, truth)
    guard.fill_missing_cycle()
    assert [*truth.tolist(), truth[-1].tolist()] == guard.window(31, repaired=False)[0].tolist()
    guard.reset_window()
    assert not guard.window(100, repaired=False).any()


def test_cycles_without_rows_count_as_guessed_where_a_channel_is_replaced() -> None:
    """MAX_ESTIMATED_CYCLES is in cycles: leaving cycles out does not let a channel be guessed for longer."""
    guard = Guard(untrained_params(len(NAMES)), contract_of(), window=100)
    assert not step(guard, 1, row())[1]
    assert not step(guard, 2, row(a=math.nan))[1]
    for _ in range(MAX_ESTIMATED_CYCLES):
        guard.fill_missing_cycle()
    assert "a: expected a good reading within" in step(guard, 3 + MAX_ESTIMATED_CYCLES, row(a=math.nan))[1]


# The contract's rules


def row(**changes: float) -> np.ndarray:
    return np.array([[changes.get(name, 5.0) for name in NAMES]])


def ruled(change: float = 1.0, channels: int = len(NAMES)) -> Guard:
    guard = Guard(untrained_params(channels), contract_of(NAMES[:channels], change))
    assert not guard.decide(np.array([1]), row()[:, :channels], row()[:, :channels]).flagged.any()
    return guard


def step(guard: Guard, cycle: int, values: np.ndarray) -> tuple[dict[str, str], str]:
    decision = guard.decide(np.array([cycle]), values, values)
    return {NAMES[i]: str(rule) for i, rule in enumerate(decision.rules[0]) if rule}, decision.refusals[0]


def test_what_breaks_the_contract_is_flagged_by_its_rule() -> None:
    assert step(ruled(), 2, row(a=math.nan, b=6.5)) == ({"a": "missing", "b": "change"}, "")
    assert step(ruled(200.0), 2, row(a=-100.5, b=100.5)) == ({"a": "minimum", "b": "maximum"}, "")


def test_missing_cycles_allow_more_change() -> None:
    guard = ruled()
    assert step(guard, 4, row(b=8.0)) == ({}, "")
    assert step(guard, 5, row(b=4.0)) == ({"b": "change"}, "")
    assert step(guard, 6, row(b=4.0)) == ({"b": "change"}, "")
    assert step(guard, 8, row(b=4.0)) == ({}, "")


def test_more_broken_rules_than_can_be_replaced_are_refused_until_they_end() -> None:
    guard = ruled()
    _, refusal = step(guard, 2, row(a=math.nan, b=math.nan, c=math.nan))
    assert (
        refusal == f"expected at most {MAX_REPLACED_CHANNELS} faulty, manipulated or missing channels, got 3: a, b, c"
    )
    assert step(guard, 3, row()) == ({}, "")


def test_few_channels_bear_less() -> None:
    values = row()[:, :4]
    values[0, :2] = math.nan
    assert "expected at most 1 faulty, manipulated or missing channel, got" in step(ruled(channels=4), 2, values)[1]


def test_missing_channel_is_what_the_others_lead_one_to_expect(params: GuardParams) -> None:
    truth = life(UNIT)
    rows = truth.copy()
    rows[STRUCK:, 6] = math.nan
    seen = watch(params, rows)
    assert set(seen.rules[STRUCK:, 6]) == {"missing"}
    assert not seen.silent.any()
    assert float(np.sqrt(np.mean((seen.known - truth)[STRUCK:, 6] ** 2))) < 0.5


def test_parameters_of_another_machine_are_refused(params: GuardParams) -> None:
    with pytest.raises(ValueError, match="parameters of 4 channels, got 10"):
        Guard(params, contract_of(NAMES[:4]))
    with pytest.raises(ValueError, match="expected parameters of 3 units"):
        Guard([params, params], contract_of(), 3)


# Cycles without rows


def test_held_cycle_repeats_the_row_and_nothing_else(params: GuardParams) -> None:
    truth = life(UNIT)[:60]
    guard = Guard(params, contract_of(), window=100)
    GuardOutcome(guard, truth)
    guard.fill_missing_cycle()
    assert guard.window(61)[0].tolist() == [*truth.tolist(), truth[-1].tolist()]


def test_attack_leap_of_the_cycles_does_not_make_a_machine_young(params: GuardParams) -> None:
    rows = life(UNIT)
    guard = Guard(params, contract_of(), window=100)
    assert not GuardOutcome(guard, rows).silent.any()
    guard.reset_window()
    young = [guard.decide(np.array([1_000 + at]), row[None], row[None]).refusals[0] for at, row in enumerate(rows[:60])]
    assert all(young[20:])
    assert not guard.window(100)[0, :40].any(), "rows before the leap are gone"


# Whatever comes


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.lists(st.floats(width=32) | st.sampled_from([0.0, 5.0, math.nan]), min_size=10, max_size=10),
        min_size=1,
        max_size=40,
    )
)
def test_whatever_comes_what_goes_on_is_finite_and_every_replacement_is_said(
    params: GuardParams, values: list[list[float]]
) -> None:
    guard = Guard(params, contract_of(change=30.0))
    for cycle, reading in enumerate(values, 1):
        given = np.array([reading])
        with np.errstate(invalid="ignore"):
            decision = guard.decide(np.array([cycle]), given, given)
        assert np.isfinite(decision.repaired).all()
        if not decision.refusals[0]:
            kept = ~decision.flagged[0]
            assert decision.repaired[0, kept].tolist() == given[0, kept].tolist()
            assert decision.flagged.sum() <= MAX_REPLACED_CHANNELS
