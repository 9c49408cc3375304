"""Who knows the guard: what its constraints allows, as linear bounds and as the guard itself sees it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from twinseal.prognostics.checkpoint import Model
from twinseal.prognostics.ensemble import Networks, networks_of
from twinseal.prognostics.windows import Prepared
from twinseal.robustness.attack import Testbed
from twinseal.robustness.attacks.guard_aware import GuardReplay, falsify, measure_guard_aware, run
from twinseal.robustness.histories import Histories, answers, guard_outcome
from twinseal.robustness.methods.stealth_constraints import StealthConstraints, room
from twinseal.robustness.threats import AdaptiveThreat, Threats

HELD = 12


@pytest.fixture(scope="session")
def threat(threats: Threats) -> AdaptiveThreat:
    return threats.adaptive.model_copy(update={"rows": HELD, "epsilon_sigma": (0.1, 0.4), "rounds": 2, "steps": 60})


@pytest.fixture(scope="session")
def histories(prepared: Prepared) -> Histories:
    return Histories.of(prepared.test)


@pytest.fixture(scope="session")
def replay(model: Model, histories: Histories) -> GuardReplay:
    return GuardReplay(model, histories, HELD)


@pytest.fixture(scope="session")
def told(model: Model, histories: Histories, threat: AdaptiveThreat, replay: GuardReplay) -> list[list[np.ndarray]]:
    return falsify(model, networks_of(model.inference).plain, histories, threat, replay)


def alarms(model: Model, histories: Histories, rows: list[np.ndarray]) -> list[np.ndarray]:
    seen = guard_outcome(model, histories, rows)
    return [f | r for f, r in zip(seen.flagged, seen.refused, strict=True)]


def test_he_says_nothing_that_the_whole_guard_notices(
    model: Model, histories: Histories, told: list[list[np.ndarray]]
) -> None:
    before = alarms(model, histories, histories.rows)
    for rows in told:
        now = alarms(model, histories, rows)
        assert not any(bool((n & ~b).any()) for n, b in zip(now, before, strict=True))


def test_he_raises_estimates_more_with_more_room_and_stays_in_it(
    model: Model, histories: Histories, threat: AdaptiveThreat, told: list[list[np.ndarray]]
) -> None:
    clean = answers(model, histories, histories.rows)
    rises = [float(np.mean(answers(model, histories, rows) - clean)) for rows in told]
    assert 0.5 < rises[0] < rises[1]
    for epsilon, rows in zip(threat.epsilon_sigma, told, strict=True):
        for false, true in zip(rows, histories.rows, strict=True):
            assert float(np.abs(false - true).max()) <= epsilon * (1 + 1e-5)
            assert false[:-HELD].tolist() == true[:-HELD].tolist()


def test_whoever_does_not_know_the_guard_is_noticed_at_the_same_size(
    model: Model, histories: Histories, threat: AdaptiveThreat, replay: GuardReplay, told: list[list[np.ndarray]]
) -> None:
    """What the constraints costs: the same changes made larger, without asking, are heard."""
    loud = [t + 20 * (f - t) for f, t in zip(told[-1], histories.rows, strict=True)]
    assert replay.unnoticed_units(told[-1]).all()
    assert float(np.mean(replay.unnoticed_units(loud))) < 0.5


def test_the_measures_say_so(
    model: Model, histories: Histories, threat: AdaptiveThreat, told: list[list[np.ndarray]]
) -> None:
    found = measure_guard_aware(model, histories, threat)
    assert ["eps-0.1", "eps-0.4"] == list(found)
    assert {1.0} == {item.unnoticed_share for item in found.values()}
    small, large = (item.commissioned for item in found.values())
    assert small is not None and large is not None and small.rise_cycles < large.rise_cycles
    assert {0.0} == {item.detected_share for item in found.values()}
    clean = answers(model, histories, histories.rows)
    rises = [float(np.mean(answers(model, histories, rows) - clean)) for rows in told]
    assert rises == [item.rise_cycles for item in found.values()]


def test_the_battery_runs_it_at_every_budget_of_the_policy(
    testbed: Testbed, histories: Histories, threat: AdaptiveThreat
) -> None:
    short = threat.model_copy(update={"rounds": 1, "steps": 5})
    policy = replace(testbed, threats=testbed.threats.model_copy(update={"adaptive": short}))
    assert measure_guard_aware(testbed.model, histories, short) == run(policy)


def test_a_model_without_commissioned_network_has_no_rise_of_one(
    model: Model, histories: Histories, threat: AdaptiveThreat
) -> None:
    plain = Networks.of(networks_of(model.inference).plain)
    alone = replace(
        model,
        inference=plain.to_inference(),
        intervals={"plain": model.intervals["plain"]},
        life_bounds={"plain": model.life_bounds["plain"]},
    )
    short = threat.model_copy(update={"epsilon_sigma": (0.1,), "rounds": 1, "steps": 5})
    (found,) = measure_guard_aware(alone, histories, short).values()
    assert found.commissioned is None
    assert "commissioned" not in found.to_dict()


def test_the_ear_hears_what_the_whole_guard_hears(model: Model, histories: Histories, replay: GuardReplay) -> None:
    rng = np.random.default_rng(3)
    rows = [r.copy() for r in histories.rows]
    for r in rows[::2]:
        r[-HELD:] += rng.normal(0, 2.0, r[-HELD:].shape)
    pairs = zip(alarms(model, histories, histories.rows), alarms(model, histories, rows), strict=True)
    whole = [not (now & ~before)[-HELD:].any() for before, now in pairs]
    assert whole == replay.unnoticed_units(rows).tolist()
    assert 0 < sum(whole) < len(whole)


@pytest.fixture(scope="session")
def constraints(model: Model, histories: Histories) -> StealthConstraints:
    return StealthConstraints.of(model, histories, HELD)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10_000))
def test_its_transpose_is_its_transpose(constraints: StealthConstraints, seed: int) -> None:
    """Law: <A(δ), y> == <δ, Aᵀ(y)>."""
    generator = torch.Generator().manual_seed(seed)
    changes = torch.randn((3, HELD, len(constraints.allowed)), generator=generator)
    values = torch.randn((3, constraints.low.shape[1]), generator=generator)
    there, back = (constraints(changes) * values).sum((1,)), (changes * constraints.transposed(values)).sum((1, 2))
    torch.testing.assert_close(there, back, rtol=1e-3, atol=1e-2)


def test_the_truth_is_silent(constraints: StealthConstraints) -> None:
    assert bool((constraints.low <= 0).all()) and bool((constraints.high >= 0).all())


def test_what_is_within_the_bounds_is_within_the_thresholds_of_the_guard(
    model: Model, histories: Histories, constraints: StealthConstraints, replay: GuardReplay
) -> None:
    """Small random changes: where the linear bounds hold, the guard says nothing; far outside, it does."""
    rng = np.random.default_rng(0)
    agreed: list[tuple[bool, bool]] = []
    for size in (0.05, 0.2, 0.5, 1.0, 3.0):
        changes = rng.normal(0, size, (len(histories.rows), HELD, len(model.channels)))
        seen = constraints(torch.from_numpy(changes.astype(np.float32)))
        within = ((seen >= constraints.low - 1e-4) & (seen <= constraints.high + 1e-4)).all(dim=1).numpy()
        rows = [r.copy() for r in histories.rows]
        for r, change in zip(rows, changes, strict=True):
            r[-HELD:] += change
        agreed += list(zip(within.tolist(), replay.unnoticed_units(rows).tolist(), strict=True))
    assert not [pair for pair in agreed if pair == (True, False)], "the bounds promise a constraints that is none"
    assert {(True, True), (False, False)} <= set(agreed)


def test_nothing_may_move_out_of_the_contracts_range(model: Model, histories: Histories) -> None:
    rows, regimes = histories.rows[0], histories.regimes[0]
    down, up = room(model, rows, regimes, 1e9, HELD)
    limits: Any = [model.contract.all_channels[name] for name in model.channels]
    moved = model.normaliser.restore(rows[-HELD:] + up, regimes[-HELD:])
    np.testing.assert_allclose(moved, np.broadcast_to([limit.maximum for limit in limits], moved.shape), rtol=1e-9)
    moved = model.normaliser.restore(rows[-HELD:] + down, regimes[-HELD:])
    np.testing.assert_allclose(moved, np.broadcast_to([limit.minimum for limit in limits], moved.shape), rtol=1e-9)
