"""The step of the recorded digits: the greatest that all readings show, and none where they show none."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinseal.assets.channel_bounds import LEAST_VALUES, greatest_step

STEPS = [0.0001, 0.01, 0.05, 0.2, 0.5, 1.0, 5.0, 20.0, 1000.0, 1 / 8, 1 / 16, 1 / 64]


def on_grid(step: float, seed: int = 0, count: int = 300, at: float = 0.0) -> np.ndarray:
    numbers = np.random.default_rng(seed).integers(-200, 200, size=count)
    return ((numbers + round(at / step)) * step).astype(np.float32)


@pytest.mark.parametrize("step", STEPS)
def test_the_greatest_step_is_found(step: float) -> None:
    assert step == pytest.approx(greatest_step(on_grid(step)))
    assert step == pytest.approx(greatest_step(np.append(on_grid(step, at=50 * step), np.nan)))


@given(st.sampled_from(STEPS), st.integers(0, 1000), st.floats(0, 1e4))
def test_what_is_found_refuses_none_of_the_readings(step: float, seed: int, at: float) -> None:
    from twinseal.telemetry.rules import FLOAT32, OFF_STEP

    values = on_grid(step, seed, 60, at).astype(np.float64)
    found = greatest_step(values.astype(np.float32))
    away = np.abs(values - np.floor(values / found + 0.5) * found) if found else np.zeros(1)
    assert (away <= OFF_STEP * found + FLOAT32 * np.abs(values).max()).all()


def test_one_reading_between_the_steps_is_enough_for_none() -> None:
    assert 0 == greatest_step(np.append(on_grid(0.5), np.float32(0.51234)))


@pytest.mark.parametrize("scale", [1.0, 1e4, 1e-4])
def test_readings_without_steps_have_none(scale: float) -> None:
    for seed in range(20):
        values = np.random.default_rng(seed).normal(scale, scale / 10, size=LEAST_VALUES + seed)
        assert 0 == greatest_step(values.astype(np.float32))


@pytest.mark.parametrize("values", [[], [np.nan] * 20, [5.0] * 100, [0.0, 1.0] * 50, [np.inf] * 30, [1e30, -1e30] * 9])
def test_few_values_show_no_step(values: list[float]) -> None:
    assert 0 == greatest_step(np.array(values, dtype=np.float32))


def test_float32_that_is_as_coarse_as_the_step_shows_none() -> None:
    assert 0 == greatest_step(np.arange(9_000_000, 9_000_400, dtype=np.float32) + np.float32(0.5))
