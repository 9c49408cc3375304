"""What `train` reports of the candidate that it made."""

from __future__ import annotations

from twinseal.measures.common import Accuracy, WorstCase
from twinseal.measures.keys import Epsilon, Mode
from twinseal.measures.quantity import Group, quantity


class NetworkMeasures(Group):
    """What one ensemble of the candidate reaches: on test and validation windows, and what is certified on the test."""

    test: Accuracy
    validation: Accuracy
    certified: dict[Epsilon, WorstCase]


class IntervalMeasures(Group):
    """Whether the 90 % prediction intervals hold.

    Attributes:
        coverage_share: Of windows of units that did not set the intervals, the share within; mean over units.
        standard_error: Of that mean.
        width_cycles: Mean width.
        test_coverage_share: The share of test windows within.
        test_windows: How many those are.
    """

    coverage_share: float = quantity("share", "intervals hold", "larger")
    standard_error: float = quantity("share", "standard error", "smaller")
    width_cycles: float = quantity("cycles", "mean width", "smaller")
    test_coverage_share: float = quantity("share", "intervals hold on the test", "larger")
    test_windows: int = quantity("windows", "test windows", "larger")


class GuardMeasures(Group):
    """How often the guard disturbs: the share of rows of sound units that it flags or refuses."""

    false_alarm_share: float = quantity("share", "false alarms", "smaller")


class TrainingMeasures(Group):
    """All that `train` reports.

    Attributes:
        plain: The ensemble that answers for any unit.
        commissioned: The ensemble that reads the signed baseline; absent where the family has none.
        boosting: Gradient boosting on the same test windows, for comparison.
        cross_validation: Out of fold, over the training units.
        intervals: By ensemble.
        guard: On units that did not set it.
    """

    plain: NetworkMeasures
    commissioned: NetworkMeasures | None = None
    boosting: Accuracy
    cross_validation: dict[Mode, Accuracy]
    intervals: dict[Mode, IntervalMeasures]
    guard: GuardMeasures
