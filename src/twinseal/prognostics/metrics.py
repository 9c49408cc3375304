"""How wrong an estimate of the remaining useful life is, in the measures that the field and the operator use.

All take estimates and true values (N,), in cycles, and refuse what would make a number mean nothing: no windows, NaN.
The difference d is estimate - truth: above 0 the machine fails before the plan says so, which is the dangerous side.

    >>> rmse_cycles([10.0, 20.0], [13.0, 16.0])
    3.5355339059327378
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from twinseal.measures.common import Accuracy

# A machine within FAILING_CYCLES of its end, estimated above HEALTHY_CYCLES, is a missed failure.
FAILING_CYCLES, HEALTHY_CYCLES = 30.0, 60.0


def rmse_cycles(estimate: npt.ArrayLike, truth: npt.ArrayLike) -> float:
    """Root of the mean squared difference, in cycles.

    Raises:
        ValueError: No windows, different shapes, or a value that is not finite.
    """
    return float(np.sqrt(np.mean(np.square(_differences(estimate, truth)))))


def nasa_score(estimate: npt.ArrayLike, truth: npt.ArrayLike) -> float:
    """The score of the PHM08 challenge: Σ exp(-d/13) - 1 for d < 0, exp(d/10) - 1 otherwise; 0 is perfect.

    Saxena, Goebel, Simon, Eklund: Damage Propagation Modeling for Aircraft Engine Run-to-Failure Simulation, PHM 2008,
    eq. 11. It is a sum, not a mean: compare it only over the same windows.

    Raises:
        ValueError: As `rmse_cycles`.
    """
    d = _differences(estimate, truth)
    # Beyond 300 cycles a float would soon overflow, and the score has long said all it can.
    return float(np.sum(np.expm1(np.where(d < 0, -d / 13.0, np.minimum(d, 300.0) / 10.0).clip(max=30.0))))


def late_share(estimate: npt.ArrayLike, truth: npt.ArrayLike) -> float:
    """Share of windows whose estimate is later than the truth (d > 0).

    Raises:
        ValueError: As `rmse_cycles`.
    """
    return float(np.mean(_differences(estimate, truth) > 0))


def missed_failure_share(estimate: npt.ArrayLike, truth: npt.ArrayLike) -> float:
    """Of the windows within 30 cycles of failure, the share estimated above 60 cycles.

    Raises:
        ValueError: As `rmse_cycles`; or no window is that close to failure, so that there is nothing to miss.
    """
    d = _differences(estimate, truth)
    failing = np.asarray(truth, dtype=np.float64) <= FAILING_CYCLES
    if not failing.any():
        raise ValueError(f"missed failures: expected a window within {FAILING_CYCLES:g} cycles of failure, got none")
    return float(np.mean((d + np.asarray(truth, dtype=np.float64))[failing] > HEALTHY_CYCLES))


def measure(estimate: npt.ArrayLike, truth: npt.ArrayLike, units: npt.ArrayLike) -> Accuracy:
    """All measures at once, as evidence reports them.

    `missed_failure_share` is absent when no window is close to failure: a gate that asks for it then finds no evidence
    and fails, as it should.

    Args:
        estimate: (N,) cycles.
        truth: (N,) cycles.
        units: (N,) which machine each window is of.

    Raises:
        ValueError: As `rmse_cycles`; or there is not one unit for each window.
    """
    machines, failing = np.asarray(units), np.asarray(truth, dtype=np.float64) <= FAILING_CYCLES
    if machines.shape != failing.shape:
        raise ValueError(f"measure: expected one unit for each truth, got {machines.shape} for {failing.shape}")
    return Accuracy(
        rmse_cycles=rmse_cycles(estimate, truth),
        missed_failure_share=missed_failure_share(estimate, truth) if failing.any() else None,
        nasa_score=nasa_score(estimate, truth),
        late_share=late_share(estimate, truth),
        windows=len(machines),
        units=len(np.unique(machines)),
        failing_windows=int(failing.sum()),
        failing_units=len(np.unique(machines[failing])),
    )


def _differences(estimate: npt.ArrayLike, truth: npt.ArrayLike) -> npt.NDArray[np.float64]:
    estimates, truths = np.asarray(estimate, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    if estimates.ndim != 1 or estimates.shape != truths.shape or not estimates.size:
        raise ValueError(f"measure: expected one estimate for each truth, got {estimates.shape} for {truths.shape}")
    if not (np.isfinite(estimates).all() and np.isfinite(truths).all()):
        raise ValueError("measure: expected finite cycles, got NaN or an infinity")
    return estimates - truths
