"""One machine's whole life as the network saw it: an example for the eye, chosen so that it does not flatter.

>>> median_unit(np.array([0, 0, 1, 1, 2, 2]), np.array([1.0, 1.0, 9.0, 9.0, 4.0, 4.0]))
2
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from twinseal.assurance.case import Life
from twinseal.prognostics.ensemble import Ensemble
from twinseal.prognostics.evaluation import estimates
from twinseal.prognostics.windows import Windows


def relive(network: Ensemble, windows: Windows) -> tuple[Life, ...]:
    """The estimates over the life of one unit of `windows`: the one whose error is the median of all units.

    The best would flatter, the worst would slander, a hand-picked one would do either. Empty without windows.

    Args:
        network: The candidate.
        windows: Of units that it did not learn from, every cycle of them: the validation split.
    """
    if not len(windows):
        return ()
    guessed = estimates(network, windows)
    chosen = windows.units == median_unit(windows.units, np.square(guessed - windows.rul))
    order = np.argsort(windows.cycles[chosen], kind="stable")
    cycles, truth, shown = (np.asarray(a)[chosen][order].tolist() for a in (windows.cycles, windows.rul, guessed))
    unit = windows.unit_names[int(windows.units[chosen][0])]
    return (Life(unit, tuple(map(float, cycles)), tuple(truth), tuple(shown)),)


def median_unit(units: npt.NDArray[np.int64], squares: npt.NDArray[np.floating]) -> int:
    """The unit whose mean square error is the median, the lower of two in the middle; ties go to the lower index.

    Args:
        units: (N,) int, the unit of each window; not empty.
        squares: (N,) float, squared error of each window, cycles².
    """
    known = np.unique(units)
    means = np.array([squares[units == unit].mean() for unit in known])
    return int(known[np.argsort(means, kind="stable")[(len(known) - 1) // 2]])
