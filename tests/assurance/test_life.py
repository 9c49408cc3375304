from __future__ import annotations

import numpy as np

from twinseal.assurance.life import median_unit


def test_the_unit_shown_has_the_median_error() -> None:
    units = np.array([3, 3, 5, 5, 9])
    assert median_unit(units, np.array([1.0, 3.0, 50.0, 60.0, 7.0])) == 9


def test_of_two_in_the_middle_the_lower_is_shown() -> None:
    assert median_unit(np.array([0, 1, 2, 3]), np.array([4.0, 1.0, 3.0, 2.0])) == 3
