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


class LifeMeasures(Group):
    """What the ledger of lives does where telemetry is honest. A false lock: a life called over 20 cycles too early.

    Attributes:
        lives: How many set the bound.
        false_lock_most_share: The most that a bound of so many lives has among new ones, in the mean.
        failing_margin_cycles: What an estimate of 30 cycles states beyond itself.
        unknown_cycles: The highest answer for a unit that nobody vouches for.
        out_of_fold_false_lock_share: Of training lives, by bounds that the others set and networks that knew neither.
        unseen_lives: Lives of validation and test units. A test life ends in censoring: what is left, is so at least.
        false_lock_share: Of those, with the network as it is shipped.
        rmse_cycles: On the test windows with the ledger.
        bare_rmse_cycles: Without it.
        rise_cycles: By how much the ledger raises the error.
    """

    lives: int = quantity("lives", "lives that set the bound", "larger")
    false_lock_most_share: float = quantity("share", "false locks, at most", "smaller")
    failing_margin_cycles: float = quantity("cycles", "margin at 30 cycles", "smaller")
    unknown_cycles: float = quantity("cycles", "most for an unknown unit", "smaller")
    out_of_fold_false_lock_share: float = quantity("share", "false locks, out of fold", "smaller")
    unseen_lives: int = quantity("lives", "unseen lives", "larger")
    false_lock_share: float = quantity("share", "false locks, unseen lives", "smaller")
    rmse_cycles: float = quantity("cycles", "RMSE with the ledger", "smaller")
    bare_rmse_cycles: float = quantity("cycles", "RMSE without it", "smaller")
    rise_cycles: float = quantity("cycles", "rise of the RMSE", "smaller")


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
        lives: By ensemble.
        guard: On units that did not set it.
        units_bound: By number of bad training units; none where so few units tolerate none.
    """

    plain: NetworkMeasures
    commissioned: NetworkMeasures | None = None
    boosting: Accuracy
    cross_validation: dict[Mode, Accuracy]
    intervals: dict[Mode, IntervalMeasures]
    lives: dict[Mode, LifeMeasures]
    guard: GuardMeasures
    units_bound: dict[BadUnits, UnitsBound]
