"""What `train` reports of the candidate that it made."""

from __future__ import annotations

from twinseal.measures.common import Accuracy, WorstCase
from twinseal.measures.keys import BadUnits, Epsilon, Mode
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


class UnitsBound(Group):
    """What the training units but for a few bad ones would have given alone, at the least and at the most; computed.

    Attributes:
        wear_threshold_least_times, wear_threshold_most_times: The guard's thresholds for falls of wear, as multiples of
            what they are.
        channel_threshold_least_times, channel_threshold_most_times: Likewise its other thresholds.
        relations_moved_share: How far the covariance of the channels moves, in the trace norm, as a share of its trace.
        mean_moved_sigma: How far the mean of a channel moves, in σ.
        sigma_least_times, sigma_most_times: σ of a channel, as a multiple.
        interval_least_times, interval_most_times: The width of an interval, likewise.
        interval_coverage_least_share: What the narrowest intervals hold.
        oldest_age_least_times, oldest_age_most_times: The age up to which there are answers, as a multiple.
    """

    wear_threshold_least_times: float = quantity("times", "wear thresholds, at least", "larger")
    wear_threshold_most_times: float = quantity("times", "wear thresholds, at most", "smaller")
    channel_threshold_least_times: float = quantity("times", "channel thresholds, at least", "larger")
    channel_threshold_most_times: float = quantity("times", "channel thresholds, at most", "smaller")
    relations_moved_share: float = quantity("share", "relations of channels move", "smaller")
    mean_moved_sigma: float = quantity("σ", "means move", "smaller")
    sigma_least_times: float = quantity("times", "σ, at least", "larger")
    sigma_most_times: float = quantity("times", "σ, at most", "smaller")
    interval_least_times: float = quantity("times", "intervals, at least", "larger")
    interval_most_times: float = quantity("times", "intervals, at most", "smaller")
    interval_coverage_least_share: float = quantity("share", "intervals hold, at least", "larger")
    oldest_age_least_times: float = quantity("times", "oldest age, at least", "larger")
    oldest_age_most_times: float = quantity("times", "oldest age, at most", "smaller")


class TrainingMeasures(Group):
    """All that `train` reports.

    Attributes:
        plain: The ensemble that answers for any unit.
        commissioned: The ensemble that reads the signed baseline; absent where the family has none.
        boosting: Gradient boosting on the same test windows, for comparison.
        cross_validation: Out of fold, over the training units.
        intervals: By ensemble.
        guard: On units that did not set it.
        units_bound: By number of bad training units; none where so few units tolerate none.
    """

    plain: NetworkMeasures
    commissioned: NetworkMeasures | None = None
    boosting: Accuracy
    cross_validation: dict[Mode, Accuracy]
    intervals: dict[Mode, IntervalMeasures]
    guard: GuardMeasures
    units_bound: dict[BadUnits, UnitsBound]
