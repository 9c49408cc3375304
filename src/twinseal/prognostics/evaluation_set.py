"""The evaluation set: the windows that attackers are measured on, and how.

RMSE is over the test windows. Missed failures are over the failing windows of test and validation together (training
watched the validation and chose nothing by it): a test of one window a unit may hold two failing machines, and a share
of two is no number. Neighbouring windows of one unit say nearly the same, so of the validation's every third is taken.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from twinseal.measures.common import Accuracy, WorstCase
from twinseal.prognostics.metrics import FAILING_CYCLES, measure, missed_failure_share, rmse_cycles
from twinseal.prognostics.windows import Prepared, Windows, join

Floats = NDArray[np.float32]

FAILING_STRIDE = 3


@dataclass(frozen=True, eq=False)
class EvaluationSet:
    """Windows under attack.

    Attributes:
        windows: N windows: those of the test, then failing ones of the validation.
        tested: How many of them are the test's; at least one.

    Raises:
        ValueError: There is no test window.
    """

    windows: Windows
    tested: int

    def __post_init__(self) -> None:
        if not 1 <= self.tested <= len(self.windows):
            raise ValueError(f"evaluation_set: expected 1 to {len(self.windows)} test windows, got {self.tested}")

    @classmethod
    def of(cls, prepared: Prepared) -> EvaluationSet:
        """The evaluation set that prepared windows offer.

        Raises:
            ValueError: There is no test window.
        """
        failing = np.flatnonzero(prepared.validation.rul <= FAILING_CYCLES)[::FAILING_STRIDE]
        return cls(join(prepared.test, prepared.validation.take(failing)), len(prepared.test))

    @property
    def truth(self) -> Floats:
        """True RUL, (N,) float32, cycles, capped."""
        return self.windows.rul

    @property
    def failing(self) -> NDArray[np.bool_]:
        """Which windows are within 30 cycles of failure, (N,) bool."""
        return self.truth <= FAILING_CYCLES

    def rmse_cycles(self, estimates: Floats) -> float:
        """Of `estimates` (N,), over the test windows."""
        return rmse_cycles(estimates[: self.tested], self.truth[: self.tested])

    def worst_case(self, low: Floats, high: Floats | None = None) -> WorstCase:
        """The worst that an attacker achieves who can bring each estimate to anywhere between two.

        Args:
            low: (N,) float32, cycles.
            high: Likewise; the same as `low` when left out.

        Returns:
            The RMSE with each estimate at the end further from the truth, over the test windows; the missed failures
            with each at the high end, over all failing windows.
        """
        high = low if high is None else high
        further = np.where(np.abs(low - self.truth) > np.abs(high - self.truth), low, high)
        return WorstCase(
            rmse_cycles=self.rmse_cycles(further),
            missed_failure_share=missed_failure_share(high, self.truth) if self.failing.any() else None,
        )

    def clean(self, estimates: Floats) -> Accuracy:
        """All measures of the test windows; what is said of failures is of the whole set."""
        tested = slice(None, self.tested)
        whole = {
            "failing_windows": int(self.failing.sum()),
            "failing_units": len(np.unique(self.windows.units[self.failing])),
            "missed_failure_share": self.worst_case(estimates).missed_failure_share,
        }
        measured = measure(estimates[tested], self.truth[tested], self.windows.units[tested])
        return measured.model_copy(update=whole)
