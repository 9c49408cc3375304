"""Regimes: the operating point of the contract at which a row was taken.

A machine with several operating points (an aircraft engine at several altitudes, speeds and throttles) has other sensor
levels at each of them. The contract names the points, so that the validation of training data, the normaliser and the
twin's guard decide in the same way. A row at none of the points is refused; it is not assigned to the nearest one.

    >>> points, within = np.array([[0.0, 100.0], [35.0, 60.0]]), np.array([0.05, 0.1])
    >>> regimes(np.array([[0.01, 100.0], [35.0, 60.05], [20.0, 80.0]]), points, within).tolist()
    [0, 1, -1]
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

NOWHERE = -1


def regimes(
    settings: NDArray[np.floating], points: NDArray[np.float64], within: NDArray[np.float64]
) -> NDArray[np.int64]:
    """The regime of each row, (R,) int64: the number of its operating point, or NOWHERE.

    Args:
        settings: (R, S), each in its unit; a row with a missing setting is at no operating point.
        points: (K, S), the operating points, further apart than twice `within`; without settings there is one regime.
        within: (S,), how far a setting may be from its point.
    """
    near = np.abs(settings.astype(np.float64)[:, None] - points) <= within  # (R, K, S); NaN is near nothing
    here: NDArray[np.bool_] = np.asarray(near.all(axis=2))
    return np.where(here.any(axis=1), np.argmax(here, axis=1), NOWHERE).astype(np.int64)
