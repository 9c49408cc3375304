"""Resolution: the step in which the values of a channel were recorded.

An instrument that shows two decimals gives 21.60 and 21.61 and nothing between. A bound on the change per cycle that is
finer than this step would refuse a healthy machine, and two such values are not two operating points.

    >>> recorded_step(np.array([21.6, 21.61, 21.61], dtype=np.float32)), recorded_step(np.array([3.0, 7.0]))
    (0.01, 1.0)
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

MAX_DISTINCT, FEW = 2_000, 20  # values that are looked at; and that show no grid


def recorded_step(values: npt.NDArray[np.floating[Any]]) -> float:
    """The step of values (R,): of their last decimal, or of a coarser grid that they all lie on; 0 if there is none.

    The decimals are the fewest that tell the float32 from its neighbours: 0.1 has one, whatever its exact value is.
    """
    known = np.unique(values[np.isfinite(values)].astype(np.float32))
    if not len(known):
        return 0.0
    looked_at = known[:: max(1, len(known) // MAX_DISTINCT)]
    decimals = int(np.quantile([_decimals(value) for value in looked_at], 0.99, method="higher"))
    distances = np.diff(known.astype(np.float64))
    return max(10.0**-decimals, _grid(distances))


def _grid(distances: npt.NDArray[np.float64]) -> float:
    """The step of which all distances (N,) between neighbours are multiples; 0 if there is none, or they are few."""
    if len(distances) <= FEW:
        return 0.0
    step = float(np.quantile(distances, 0.01, method="lower"))
    away = np.abs(distances / step - np.round(distances / step))
    return float(f"{step:.3g}") if np.quantile(away, 0.99) < 0.05 else 0.0


def _decimals(value: np.float32) -> int:
    return len(np.format_float_positional(value, unique=True, trim="-").partition(".")[2])
