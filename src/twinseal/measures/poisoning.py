"""What `poison` reports: the candidate's recipe trained on poisoned telemetry."""

from __future__ import annotations

from twinseal.measures.keys import Name, Share
from twinseal.measures.quantity import Group, quantity


class PoisonEffect(Group):
    """A network trained on some telemetry, measured on clean windows.

    Attributes:
        rmse_increase_cycles: RMSE above that of the same recipe trained on clean telemetry.
        trigger_success_share: Of the failing windows with the backdoor's trigger, the share estimated above 60 cycles;
            absent where the attack has no trigger.
    """

    rmse_cycles: float = quantity("cycles", "RMSE", "smaller")
    rmse_increase_cycles: float = quantity("cycles", "RMSE increase", "smaller")
    missed_failure_share: float | None = quantity("share", "missed failures", "smaller", optional=True)
    trigger_success_share: float | None = quantity("share", "trigger success", "smaller", optional=True)


class PoisonedDefences(Group):
    """What guards and intervals are worth that were learnt from some telemetry, measured on clean units.

    Attributes:
        replay_noticed_share: Of the failing machines whose last 40 rows are replaced by their first, the share of which
            the guard notices it.
        false_alarm_share: Of the rows of sound machines, the share that the guard flags or refuses.
        interval_coverage_share: Of the test windows, the share within their intervals; mean over units.
        interval_width_cycles: Mean width.
    """

    replay_noticed_share: float = quantity("share", "replay noticed", "larger")
    false_alarm_share: float = quantity("share", "false alarms", "smaller")
    interval_coverage_share: float = quantity("share", "intervals hold", "larger")
    interval_width_cycles: float = quantity("cycles", "mean width of intervals", "smaller")


class PoisoningResult(Group):
    """One attack on one share of the training units.

    Attributes:
        noticed_share: Of the poisoned units, the share that screening notices.
        undefended: Trained on all of the telemetry.
        after_screening: Trained on what screening leaves.
        defences: Guard and intervals, learnt from what screening leaves.
    """

    units_poisoned: int = quantity("units", "units poisoned")
    noticed_share: float = quantity("share", "noticed by screening", "larger")
    undefended: PoisonEffect
    after_screening: PoisonEffect
    defences: PoisonedDefences


class RetrainingMeasures(Group):
    """How each network of this stage was trained, and on how many windows its trigger is tried."""

    epochs: int = quantity("epochs", "epochs of each retraining", "larger")
    trigger_windows: int = quantity("windows", "failing windows with the trigger", "larger")


class PoisoningMeasures(Group):
    """All that `poison` reports.

    Attributes:
        clean: Trained on clean telemetry by the same schedule.
        attacks: By threat and share of the units.
        worst_undefended: The highest of each number over all attacks, without screening.
        worst_unnoticed: The same after screening.
        clean_defences: Guard and intervals, learnt from clean telemetry by the same schedule.
        worst_defences: The worst of each of their numbers over all attacks, after screening.
    """

    clean: PoisonEffect
    retraining: RetrainingMeasures
    attacks: dict[Name, dict[Share, PoisoningResult]]
    worst_undefended: PoisonEffect
    worst_unnoticed: PoisonEffect
    clean_defences: PoisonedDefences
    worst_defences: PoisonedDefences
