"""What `evade` reports: one field for each attack of the battery.

A new attack adds its type and a field of `RobustnessMeasures` here; `robustness.battery` fills it.
"""

from __future__ import annotations

from typing import Literal

from twinseal.config import Field
from twinseal.measures.common import Accuracy, WorstCase
from twinseal.measures.keys import Aim, Count, Epsilon, Liars, Name, Queries, Rounding, Rows, Size
from twinseal.measures.quantity import Group, quantity
from twinseal.measures.training import GuardMeasures

AttackName = Literal["fgm", "bim", "pgd", "pgd-smoothed", "strong", "square", "transfer", "noise"]
CheckName = Literal[
    "attack-without-effect",
    "no-growth",
    "weaker-than-noise",
    "one-step-beats-many",
    "over-budget",
    "outside-certificate",
    "black-box-beats-white",
    "not-converged",
    "random-output",
    "zero-gradients",
]


class AttackMeasures(WorstCase):
    """One attack at one ε.

    Attributes:
        damage_cycles: What its aim wants: RMSE for `any`, mean rise of the estimate for `healthy-washing`.
    """

    damage_cycles: float = quantity("cycles", "damage", "smaller")


class FlagMeasures(Group):
    """Reasons to doubt that the attacks worked (`robustness.attack_checks`).

    Attributes:
        raised: How many.
        by_check: How many of each check; 0 where it found nothing.
        details: One line each, for people.
    """

    raised: int = quantity("flags", "checks that found a fault in an attack", "smaller")
    by_check: dict[CheckName, int] = quantity("flags", "faults found", "smaller")
    details: tuple[str, ...] = ()


class EvasionMeasures(Group):
    """Every reading changed by at most ε.

    Attributes:
        clean: Without an attack; failing windows and units are those of the whole evaluation set.
        attacks: By threat, attack, aim and ε.
        worst: The worst of all attacks, window by window.
        certified: What no attack within ε can exceed.
        certified_baseline_moved: The same where the attacker moves the signed baseline by ε as well; absent for a
            network that reads none.
        zero_gradients_share: Windows without any gradient.
    """

    clean: Accuracy
    attacks: dict[Name, dict[AttackName, dict[Aim, dict[Epsilon, AttackMeasures]]]]
    worst: dict[Epsilon, WorstCase]
    certified: dict[Epsilon, WorstCase]
    certified_baseline_moved: dict[Epsilon, WorstCase] | None = None
    zero_gradients_share: float = quantity("share", "windows without a gradient", "smaller")
    flags: FlagMeasures


class InjectionMeasures(WorstCase):
    """A few sensors off by some percent (Mode, Calyam & Hoque 2020): one signature, on single windows, no guard.

    Attributes:
        unnoticed_rmse_cycles: With the windows that break the contract's ranges or rates at their clean estimates.
        unnoticed_missed_failure_share: Likewise.
        largest_shift_sigma: The furthest that a reading moved.
        windows_touched_share: Windows in which any reading moved.
        noticed_share: Windows that break the contract's ranges or rates.
    """

    unnoticed_rmse_cycles: float = quantity("cycles", "RMSE, unnoticed", "smaller")
    unnoticed_missed_failure_share: float | None = quantity("share", "missed, unnoticed", "smaller", optional=True)
    largest_shift_sigma: float = quantity("σ", "largest shift")
    windows_touched_share: float = quantity("share", "windows touched")
    noticed_share: float = quantity("share", "noticed by the contract", "larger")


class InjectionGroup(Group):
    """All signatures of the injection, and the highest of each number over them."""

    signatures: dict[Name, InjectionMeasures]
    worst_undefended: WorstCase
    worst_unnoticed: WorstCase


class FalsifiedHistory(WorstCase):
    """Whole histories falsified: without the guard, and with it.

    Attributes:
        units: How many histories.
        failing_units: How many of them end with a failing machine: the n of the missed failures.
        detected_share: Units flagged or refused in a falsified row about whose true version the guard is silent.
        abstained_share: Units for which the guard gives no estimate after the last row.
        guarded_rmse_cycles: Of the estimates that are given; absent where none is.
        guarded_missed_failure_share: An abstention misses no failure; absent where no unit is failing.
    """

    units: int = quantity("units", "units", "larger")
    failing_units: int = quantity("units", "failing units", "larger")
    detected_share: float = quantity("share", "detected", "larger")
    abstained_share: float = quantity("share", "abstained", "smaller")
    guarded_rmse_cycles: float | None = quantity("cycles", "RMSE where the guard answers", "smaller", optional=True)
    guarded_missed_failure_share: float | None = quantity(
        "share", "missed failures with the guard", "smaller", optional=True
    )


class FalsifiedHistories(Group):
    """Falsified histories.

    Attributes:
        experiment: Mode, Calyam & Hoque's experiment, by signature; empty when no unit has run long enough.
        scenarios: Those of policy/threats.yaml, by threat, aim and size.
    """

    experiment: dict[Name, FalsifiedHistory]
    scenarios: dict[Name, dict[Aim, dict[Size, FalsifiedHistory]]]


class Rise(WorstCase):
    """An attack that raises estimates, and by how much in the mean."""

    rise_cycles: float = quantity("cycles", "mean rise", "smaller")


class GuardAwareMeasures(FalsifiedHistory):
    """An attacker who knows the network and the guard, at one ε.

    Attributes:
        rise_cycles: Mean rise of the estimate over the units.
        unnoticed_share: Units in whose falsified rows the guard notices nothing more than in the true ones.
        commissioned: The same attack on the network that reads the signed baseline; absent where there is none.
    """

    rise_cycles: float = quantity("cycles", "mean rise", "smaller")
    unnoticed_share: float = quantity("share", "units unnoticed", "smaller")
    commissioned: Rise | None = None


class SpentLife(Group):
    """Telemetry without a false reading, of which rows are lost, repeated or renamed: without the ledger, and with it.

    Attributes:
        units: How many.
        failing_units: How many of them are failing.
        bare_missed_failure_share: Without the ledger; absent where no unit is failing.
        missed_failure_share: With it; a refusal misses no failure.
        refused_share: Units for which there is no answer with the ledger: inspect now.
        locked_early_share: Units whose life the ledger calls over more than 20 cycles before it is.
    """

    units: int = quantity("units", "units", "larger")
    failing_units: int = quantity("units", "failing units", "larger")
    bare_missed_failure_share: float | None = quantity("share", "missed failures, no ledger", "smaller", optional=True)
    missed_failure_share: float | None = quantity("share", "missed failures with the ledger", "smaller", optional=True)
    refused_share: float = quantity("share", "inspect now", "smaller")
    locked_early_share: float = quantity("share", "locked too early", "smaller")


class SpentLives(Group):
    """What the ledger of lives is worth.

    Attributes:
        clean: Honest telemetry.
        rmse_cycles: Of it, with the ledger, where there are answers.
        rise_cycles: By how much the ledger raises this error.
        attacks: By what is done; see `robustness.attacks.spent_life`.
        worst_missed_failure_share: The highest with the ledger; absent where no unit is failing.
    """

    clean: SpentLife
    rmse_cycles: float = quantity("cycles", "RMSE with the ledger", "smaller")
    rise_cycles: float = quantity("cycles", "rise of the RMSE by the ledger", "smaller")
    attacks: dict[Name, SpentLife]
    worst_missed_failure_share: float | None = quantity("share", "missed failures, at worst", "smaller", optional=True)


class HiddenBySensors(Group):
    """Failing machines of which an attacker holds a few sensors, unnoticed by the guard; absent where none is failing.

    Attributes:
        bare_missed_failure_share: Called healthy behind the guard, without the ledger.
        missed_failure_share: With it.
        answer_cycles: The mean answer, with it.
    """

    bare_missed_failure_share: float | None = quantity("share", "missed failures, no ledger", "smaller", optional=True)
    missed_failure_share: float | None = quantity("share", "missed failures with the ledger", "smaller", optional=True)
    answer_cycles: float | None = quantity("cycles", "mean answer", "smaller", optional=True)


class AlarmBySensors(Group):
    """Healthy machines of which an attacker holds a few sensors, unnoticed by the guard; absent where none is healthy.

    Attributes:
        false_alarm_share: Called failing.
        locked_early_share: Whose life the ledger then calls over more than 20 cycles before it is.
        answer_cycles: The mean answer.
    """

    false_alarm_share: float | None = quantity("share", "false alarms", "smaller", optional=True)
    locked_early_share: float | None = quantity("share", "locked too early", "smaller", optional=True)
    answer_cycles: float | None = quantity("cycles", "mean answer", "larger", optional=True)


class HeldSensors(Group):
    """An attacker who knows network, guard and ledger, and holds so many sensors for so many rows, or fewer.

    Attributes:
        failing_units: How many machines are to be hidden.
        healthy_units: How many machines are to be called failing.
        hide: By number of sensors, and of rows.
        alarm: Likewise.
    """

    failing_units: int = quantity("units", "failing units", "larger")
    healthy_units: int = quantity("units", "healthy units", "larger")
    hide: dict[Count, dict[Rows, HiddenBySensors]]
    alarm: dict[Count, dict[Rows, AlarmBySensors]]


class RepairAbuseMeasures(Group):
    """Whether an attacker within ε makes the guard repair honest readings so that an estimate leaves its certificate.

    Attributes:
        epsilon_sigma: ε.
        guarded_rmse_cycles: Of the highest estimates.
        guarded_missed_failure_share: Likewise; absent where no unit is failing.
        beyond_share: Units whose estimate is above its certified bound.
        largest_excess_cycles: By how much at most.
    """

    epsilon_sigma: float = quantity("σ", "ε")
    guarded_rmse_cycles: float = quantity("cycles", "RMSE with the guard", "smaller")
    guarded_missed_failure_share: float | None = quantity(
        "share", "missed failures with the guard", "smaller", optional=True
    )
    beyond_share: float = quantity("share", "units above their certified bound", "smaller")
    largest_excess_cycles: float = quantity("cycles", "largest excess", "smaller")


class OwnedSensorCount(WorstCase):
    """So many sensors controlled by the attacker.

    Attributes:
        moved_share: Windows whose estimate so many sensors move far (policy/threats.yaml says how far).
    """

    moved_share: float = quantity("share", "estimates moved far", "smaller")


class OneSensor(Group):
    """One sensor controlled by the attacker.

    Attributes:
        rise_cycles: Mean rise of the estimate.
        chosen_first_share: Windows for which it is the attacker's best single sensor.
    """

    rise_cycles: float = quantity("cycles", "mean rise", "smaller")
    chosen_first_share: float = quantity("share", "windows in which it is the best choice")


class OwnedSensors(Group):
    """Sensors controlled by the attacker, who may report anything within the contract's range.

    Attributes:
        by_count: By aim and number of sensors, chosen for each window.
        alone: By channel.
        pairs: By two channels, the mean estimate of failing machines; one channel twice: that one alone.
    """

    by_count: dict[Aim, dict[Count, OwnedSensorCount]]
    alone: dict[Name, OneSensor]
    pairs: dict[Name, dict[Name, float]] = quantity("cycles", "mean estimate of failing machines", "smaller")


class BoostedTrees(Group):
    """Gradient boosting in the network's place, attacked.

    Attributes:
        clean: Without an attack.
        worst: By ε, the worst of all that was tried; a lower bound.
    """

    clean: Accuracy
    worst: dict[Epsilon, WorstCase]


class ExtractionMeasures(Group):
    """What a student network learns from the model's answers.

    Attributes:
        near_share: Test windows on which it is within 5 cycles of the model.
        fidelity_rmse_cycles: Between student and model.
        student_rmse_cycles: Of the student against the truth.
        transfer_rise_cycles: Mean rise that an attack on the student makes in the model; of the most questions only.
        direct_rise_cycles: The same attack on the model itself; likewise.
    """

    near_share: float = quantity("share", "within 5 cycles of the model", "smaller")
    fidelity_rmse_cycles: float = quantity("cycles", "RMSE to the model", "larger")
    student_rmse_cycles: float = quantity("cycles", "RMSE to the truth", "larger")
    transfer_rise_cycles: float | None = quantity("cycles", "rise by an attack on the copy", "smaller", optional=True)
    direct_rise_cycles: float | None = quantity("cycles", "rise by the same attack on the model", optional=True)


class Extraction(Group):
    """Models stolen by questions: by how many, and with answers rounded to so many cycles."""

    by_queries: dict[Queries, ExtractionMeasures]
    by_rounding: dict[Rounding, ExtractionMeasures]


class MembershipMeasures(Group):
    """Whether somebody can tell which units the model was trained on; AUC and accuracy of 0.5 are a guess.

    Attributes:
        windows_auc: Area under the ROC curve over windows, by the loss (Yeom et al. 2018).
        units_auc: Over whole units.
        windows_found_share: Members found with one false alarm in a hundred (Carlini et al. 2022).
        advantage: True positive minus false positive share, at best.
        art_accuracy: ART's black-box attack.
        rounded_auc: `windows_auc` with answers rounded to so many cycles.
    """

    windows_auc: float = quantity("AUC", "windows told apart", "smaller")
    units_auc: float = quantity("AUC", "units told apart", "smaller")
    windows_found_share: float = quantity("share", "members found at 1 % false alarms", "smaller")
    advantage: float = quantity("share", "advantage over a guess", "smaller")
    art_accuracy: float = quantity("share", "accuracy of ART's attack", "smaller")
    rounded_auc: dict[Rounding, float] = quantity("AUC", "windows told apart, answers rounded", "smaller")


class RobustnessMeasures(Group):
    """All that `evade` reports.

    Attributes:
        evasion: Of the ensemble that answers for any unit.
        commissioned: Of the ensemble that reads the signed baseline; absent where the family has none.
        median_certificate: What r members of a median can do at most, by r; empty for a mean.
        guard: False alarms, as the signed model states them.
        Each other field: the attack of that name in robustness/attacks/.
    """

    evasion: EvasionMeasures
    commissioned: EvasionMeasures | None = None
    median_certificate: dict[Liars, WorstCase] = Field(default_factory=dict)
    guard: GuardMeasures
    injection: InjectionGroup
    falsified_histories: FalsifiedHistories
    guard_aware: dict[Epsilon, GuardAwareMeasures]
    repair_abuse: RepairAbuseMeasures
    spent_life: SpentLives
    held_sensors: HeldSensors
    owned_sensors: OwnedSensors
    false_age: Rise
    boosted_trees: BoostedTrees
    extraction: Extraction
    membership: MembershipMeasures
