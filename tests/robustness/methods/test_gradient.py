"""The engine against ART, against what can be worked out by hand, and against itself."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from twinseal.prognostics.ensemble import Ensemble
from twinseal.prognostics.gradient_boosting import fit_boosting
from twinseal.prognostics.windows import Prepared
from twinseal.robustness.attacks.owned_sensors import attack_sensors, fewest_sensors
from twinseal.robustness.methods.art import PGD_STEP, UNREACHABLE, ArtTarget
from twinseal.robustness.methods.gradient import Box, ascend, attack, climb
from twinseal.robustness.methods.square import search
from twinseal.robustness.target import Floats, NetworkTarget, PredictorTarget, estimates

ROWS, CHANNELS = 6, 4


def linear(weights: Tensor) -> object:
    return lambda x, at: (x * weights).sum((1, 2))


def bent(x: Tensor, at: Tensor) -> Tensor:
    """A target with hills and valleys."""
    return 20 * torch.sin(x.sum((1, 2))) + (x**2).sum((1, 2))


def windows(seed: int, count: int = 5) -> Floats:
    return np.random.default_rng(seed).normal(size=(count, ROWS, CHANNELS)).astype(np.float32)


@pytest.mark.parametrize(("method", "steps"), [("fgm", 1), ("bim", 10), ("pgd", 20)])
@pytest.mark.parametrize("aim", ["any", "healthy-washing"])
def test_the_same_settings_give_what_art_gives(
    network: Ensemble, prepared: Prepared, method: str, aim: str, steps: int
) -> None:
    x, y, epsilon = prepared.test.batch(), prepared.test.rul, 0.2
    attacked = NetworkTarget.of(network, prepared.test)
    target = ArtTarget(attacked, prepared.rul_cap_cycles)
    by_art = target.attack_windows(x, y, method=method, aim=aim, epsilon_sigma=epsilon, steps=steps)  # type: ignore[arg-type]
    step = epsilon / steps * (PGD_STEP if method == "pgd" else 1.0)
    goal = UNREACHABLE * prepared.rul_cap_cycles
    direction = torch.from_numpy(target.estimates(x) - y if aim == "any" else np.full_like(y, goal)).sign()
    ours = ascend(attacked, torch.from_numpy(x), direction, epsilon, steps=steps, step=step)
    assert float(np.abs(target.estimates(by_art) - estimates(attacked, ours.numpy())).max()) < 1e-4 * 125


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_of_a_linear_victim_the_strong_attack_finds_the_optimum(sign: float) -> None:
    weights = torch.from_numpy(windows(9, 1)[0])
    x, epsilon = torch.from_numpy(windows(1)), 0.3
    value, version = climb(linear(weights), x, Box.around(x, epsilon), torch.full((5,), sign), steps=5)  # type: ignore[arg-type]
    best = sign * (x * weights).sum((1, 2)) + epsilon * weights.abs().sum()
    torch.testing.assert_close(best, value)
    assert float((version - x).abs().max()) <= epsilon * (1 + 1e-5)


def test_any_goes_to_whichever_side_is_further_from_the_truth() -> None:
    weights = torch.ones(ROWS, CHANNELS)
    x = np.zeros((2, ROWS, CHANNELS), dtype=np.float32)
    y = np.array([5.0, -5.0], dtype=np.float32)
    found = attack(linear(weights), x, y, Box.around(torch.from_numpy(x), 0.1), "any", steps=5)  # type: ignore[arg-type]
    np.testing.assert_allclose([-2.4, 2.4], found.estimates, rtol=1e-4)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), epsilon=st.floats(0.01, 2.0), aim=st.sampled_from(["any", "healthy-washing"]))
def test_no_attack_leaves_its_box_or_helps_its_victim(seed: int, epsilon: float, aim: str) -> None:
    x = windows(seed)
    y = np.random.default_rng(seed).normal(0, 20, 5).astype(np.float32)
    box, clean = Box.around(torch.from_numpy(x), epsilon), estimates(bent, x)
    strong = attack(bent, x, y, box, aim, steps=6, restarts=2, seed=seed)  # type: ignore[arg-type]
    blind = search(bent, x, y, box, aim, queries=40, seed=seed)  # type: ignore[arg-type]
    for found in (strong, blind):
        assert float(np.abs(found.changed - x).max()) <= epsilon * (1 + 1e-5) + 1e-6
        np.testing.assert_allclose(found.estimates, estimates(bent, found.changed), rtol=1e-4, atol=1e-3)
        gained = np.abs(found.estimates - y) - np.abs(clean - y) if aim == "any" else found.estimates - clean
        assert float(gained.min()) >= -1e-4


def test_more_starts_find_no_less() -> None:
    x = windows(3, 20)
    box, up = Box.around(torch.from_numpy(x), 1.0), torch.ones(20)
    one, many = (climb(bent, torch.from_numpy(x), box, up, steps=8, restarts=n, seed=1)[0] for n in (1, 6))
    assert bool((many >= one).all()) and float((many - one).max()) > 1.0


def test_one_owned_sensor_is_the_best_of_all() -> None:
    x, low, high = windows(5), -torch.ones(5, ROWS, CHANNELS) * 3, torch.ones(5, ROWS, CHANNELS) * 3
    weights = torch.from_numpy(windows(6, 1)[0])
    y = np.zeros(5, dtype=np.float32)
    found = attack_sensors(linear(weights), x, y, Box(low, high), "healthy-washing", most=2, steps=4)  # type: ignore[arg-type]
    alone = (3 * weights.abs()).sum(0).numpy() - (torch.from_numpy(x) * weights).sum(1).numpy()  # (N, C) gains
    assert alone.argmax(axis=1).tolist() == found.chosen[0].tolist()
    clean = estimates(linear(weights), x)  # type: ignore[arg-type]
    np.testing.assert_allclose(clean + alone.max(axis=1), found.attacks[0].estimates, rtol=1e-4)
    pairs = [alone[:, list(pair)].sum(axis=1) for pair in itertools.combinations(range(CHANNELS), 2)]
    np.testing.assert_allclose(clean + np.max(pairs, axis=0), found.attacks[1].estimates, rtol=1e-4)
    needed = fewest_sensors(found, clean, float(alone.max(axis=1).min()) * 0.99)
    assert {1} == set(needed.tolist())
    assert {0} == set(fewest_sensors(found, clean, 1e9).tolist())


def test_sensors_that_are_not_held_stay_as_they_are() -> None:
    x = windows(7)
    box = Box(torch.full((5, ROWS, CHANNELS), -3.0), torch.full((5, ROWS, CHANNELS), 3.0))
    found = attack_sensors(bent, x, np.zeros(5, dtype=np.float32), box, "any", most=2, steps=4)
    for size, item in enumerate(found.attacks, start=1):
        moved = (item.changed != x).any(axis=1).sum(axis=1)  # sensors moved, by window
        assert int(moved.max()) <= size


def test_more_sensors_than_there_are_cannot_be_owned() -> None:
    box = Box.around(torch.zeros(5, ROWS, CHANNELS), 1.0)
    with pytest.raises(ValueError, match="sensors: expected 1 to 4, got 5"):
        attack_sensors(bent, windows(1), np.zeros(5, dtype=np.float32), box, "any", most=5, steps=1)


def test_trees_are_attacked_by_asking(prepared: Prepared) -> None:
    """Gradient boosting has no gradient: questions find what moves it, and more questions find more."""
    predict = fit_boosting(prepared, seed=1, rounds=20)
    test = prepared.test
    target = PredictorTarget(predict, test.context())
    x, box = test.batch(), Box.around(torch.from_numpy(test.batch()), 0.3)
    clean = estimates(target, x)
    few, many = (search(target, x, test.rul, box, "healthy-washing", queries=n, seed=2) for n in (15, 120))
    assert float((few.estimates - clean).mean()) >= 0
    assert float((many.estimates - clean).mean()) > float((few.estimates - clean).mean())
    assert float((many.estimates - clean).mean()) > 0.5


def test_aims_may_share_a_climb() -> None:
    x, y = windows(3), np.full(5, 60.0, dtype=np.float32)
    box, efforts = Box.around(torch.from_numpy(x), 0.2), {"steps": 9, "restarts": 2, "seed": 4}
    shared = climb(bent, torch.from_numpy(x), box, torch.ones(5), **efforts)
    for aim in ("any", "healthy-washing"):
        alone, other = (attack(bent, x, y, box, aim, **efforts, ascent=given) for given in (None, shared))  # type: ignore[arg-type]
        np.testing.assert_array_equal(alone.estimates, other.estimates)
        np.testing.assert_array_equal(alone.changed, other.changed)


@pytest.mark.parametrize("aim", ["any", "healthy-washing"])
def test_what_a_black_box_attack_reports_is_what_its_windows_say(aim: str) -> None:
    """Blocks are set and taken back in place: the windows that are kept must be those that were asked about."""
    x, y = windows(5, count=20), np.linspace(20, 90, 20).astype(np.float32)
    found = search(bent, x, y, Box.around(torch.from_numpy(x), 0.3), aim, queries=60, seed=1)  # type: ignore[arg-type]
    np.testing.assert_allclose(found.estimates, estimates(bent, found.changed), rtol=1e-6)
    assert float(np.abs(found.changed - x).max()) <= 0.3 + 1e-6
    clean = estimates(bent, x)
    gain = np.abs(found.estimates - y) - np.abs(clean - y) if aim == "any" else found.estimates - clean
    assert (gain >= 0).all()
    assert (gain > 0).any()


def test_what_the_holder_of_sensors_reports_is_what_his_windows_say() -> None:
    x, y = windows(6), np.full(5, 60.0, dtype=np.float32)
    read = torch.from_numpy(x)
    reached = attack_sensors(
        bent, x, y, Box(torch.full_like(read, -3.0), torch.full_like(read, 3.0)), "any", most=2, steps=4
    )
    for size, found in enumerate(reached.attacks, start=1):
        np.testing.assert_allclose(found.estimates, estimates(bent, found.changed), rtol=1e-5)
        assert int((found.changed != x).any(axis=1).sum(axis=1).max()) <= size
