"""What few bad training units could have moved, in everything but the networks: the bounds, as measures.

For each number of bad units that so many tolerate (`telemetry.over_units`): if so many of the units that trained are
bad, in any way at all, what the others alone would have given lies within these bounds. They are computed for the
units in hand, not estimated. What networks estimate after training on bad units has no such bound (but for a median
against units, `median_certificates`): the bounds of the guard are for the relations of the channels as they are, which
move by their own bound, and those of the intervals for what the networks said. The stage poison measures all together.
"""

from __future__ import annotations

import math

import numpy as np

from twinseal.guard.calibration import Calibration
from twinseal.measures.keys import BadUnits, bad_units_key
from twinseal.measures.training import UnitsBound
from twinseal.prognostics import conformal
from twinseal.prognostics.conformal import Intervals
from twinseal.prognostics.normaliser import F64, sigma_bounds
from twinseal.prognostics.training import OutOfFold, ages, oldest_age
from twinseal.prognostics.windows import Prepared
from twinseal.telemetry.over_units import largest, reach


def units_bounds(
    prepared: Prepared, calibration: Calibration, unseen: OutOfFold, intervals: Intervals
) -> dict[BadUnits, UnitsBound]:
    """The bounds by number of bad units; none for a number of which one bound would be infinite.

    Args:
        prepared: What was learnt from.
        calibration: Of the guard.
        unseen: What the intervals were set on.
        intervals: As they are shipped.
    """
    bounds = {bad: _bound(prepared, calibration, unseen, intervals, bad) for bad in calibration.wear}
    return {bad_units_key(bad): UnitsBound(**found) for bad, found in bounds.items() if _finite(found)}


def _bound(
    prepared: Prepared, calibration: Calibration, unseen: OutOfFold, intervals: Intervals, bad: int
) -> dict[str, float]:
    sigma = sigma_bounds(prepared.normaliser, prepared.raw.rows, prepared.raw.lengths, bad)
    told = (unseen.estimates, unseen.truth, unseen.units)
    narrow, wide = conformal.reach(*told, cap_cycles=prepared.rul_cap_cycles, bad=bad)
    held = narrow.hold(unseen.estimates, unseen.truth)
    youngest, oldest = reach(largest, ages(prepared.train).astype(np.float64), bad)
    age = oldest_age(prepared.train)
    return {
        "wear_threshold_least_times": calibration.wear[bad].low,
        "wear_threshold_most_times": calibration.wear[bad].high,
        "channel_threshold_least_times": calibration.channels[bad].low,
        "channel_threshold_most_times": calibration.channels[bad].high,
        "relations_moved_share": min(1.0, calibration.relations_moved_share[bad]),
        "mean_moved_sigma": sigma.mean_sigma,
        "sigma_least_times": sigma.lowest,
        "sigma_most_times": sigma.highest,
        "interval_least_times": float((_widths(narrow) / _widths(intervals)).min()),
        "interval_most_times": float((_widths(wide) / _widths(intervals)).max()),
        "interval_coverage_least_share": float(
            np.mean([part.mean() for part in conformal.by_unit(held, unseen.units)])
        ),
        "oldest_age_least_times": float(youngest) / age,
        "oldest_age_most_times": float(oldest) / age,
    }


def _widths(intervals: Intervals) -> F64:
    return np.array([intervals.below, intervals.above])


def _finite(found: dict[str, float]) -> bool:
    return all(math.isfinite(value) for value in found.values())
