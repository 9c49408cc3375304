from __future__ import annotations

import numpy as np
import pytest

from twinseal.telemetry.resolution import recorded_step


@pytest.mark.parametrize(
    ("values", "step"),
    [
        ([21.6, 21.61, 21.6], 0.01),
        ([518.67], 0.01),
        ([3.0, 7.0], 1.0),
        ([1200.0, np.nan, np.inf], 1.0),
        ([7.5e-5, 8e-5], 1e-6),
        ([np.nan], 0.0),
        ([], 0.0),
        (np.arange(100) * 0.25, 0.25),  # a converter of quarter steps
    ],
)
def test_the_step_is_that_of_the_recorded_digits(values: list[float], step: float) -> None:
    assert step == pytest.approx(recorded_step(np.array(values, dtype=np.float32)))


def test_of_computed_values_it_is_as_fine_as_the_type() -> None:
    assert recorded_step(np.random.default_rng(1).normal(size=500)) < 1e-6
