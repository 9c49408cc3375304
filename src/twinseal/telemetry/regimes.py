"""Regimes: at which of the contract's operating points a row was taken.

A machine that is operated at several points (an aircraft engine at several altitudes, speeds and throttles) says other
things at each of them. The contract names the points, so that the validation of training data, the normaliser and the
twin's guard tell them alike, and a row taken at none of them is refused: it is not the nearest one's.

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
        settings: (R, S), each in its unit; a row in which one is missing was taken nowhere.
        points: (K, S), the operating points, further apart than twice `within`; without settings all is one regime.
        within: (S,), how far from its point a setting may lie.
    """
    near = np.abs(settings.astype(np.float64)[:, None] - points) <= within  # (R, K, S); NaN is near nothing
    here: NDArray[np.bool_] = np.asarray(near.all(axis=2))
    return np.where(here.any(axis=1), np.argmax(here, axis=1), NOWHERE).astype(np.int64)
