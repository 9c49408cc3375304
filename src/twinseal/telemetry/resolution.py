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

MAX_DISTINCT = 2_000  # values that are looked at


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
    coarser = float(np.quantile(distances, 0.01, method="lower")) if len(distances) > 20 else 0.0
    return max(10.0**-decimals, float(f"{coarser:.3g}"))


def _decimals(value: np.float32) -> int:
    return len(np.format_float_positional(value, unique=True, trim="-").partition(".")[2])
