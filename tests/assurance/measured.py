"""The measures of a small case in which everything is in order, made of the real types: mypy checks this module."""

from __future__ import annotations

from collections.abc import Sequence

from tests.measures.groups import with_examples
from twinseal.measures.common import Accuracy, WorstCase
from twinseal.measures.comparison import ComparisonMeasures, FamilyMeasures
from twinseal.measures.keys import (
    Aim,
    Epsilon,
    Liars,
    Mode,
    Share,
    bad_units_key,
    count_key,
    epsilon_key,
    liars_key,
    number_of,
    queries_key,
    rate_key,
    rounding_key,
    share_key,
    size_key,
)
from twinseal.measures.poisoning import (
    PoisonedDefences,
    PoisonEffect,
    PoisoningMeasures,
    PoisoningResult,
    RetrainingMeasures,
)
from twinseal.measures.preparation import PreparationMeasures, SplitMeasures
from twinseal.measures.robustness import (
    AlarmBySensors,
    AttackMeasures,
    AttackName,
    BoostedTrees,
    EvasionMeasures,
    Extraction,
    ExtractionMeasures,
    FalsifiedHistories,
    FalsifiedHistory,
    FlagMeasures,
    GuardAwareMeasures,
    HeldSensors,
    HiddenBySensors,
    InjectionGroup,
    InjectionMeasures,
    MembershipMeasures,
    OneSensor,
    OwnedSensorCount,
    OwnedSensors,
    RepairAbuseMeasures,
    Rise,
    RobustnessMeasures,
    SpentLife,
    SpentLives,
)
from twinseal.measures.training import (
    GuardMeasures,
    IntervalMeasures,
    LifeMeasures,
    NetworkMeasures,
    TrainingMeasures,
    UnitsBound,
)
from twinseal.measures.validation import ValidationMeasures

EPSILONS = (0.05, 0.1, 0.25, 0.5)
AIMS: tuple[Aim, ...] = ("any", "healthy-washing")


def accuracy(rmse: float, missed: float = 0.0) -> Accuracy:
    """100 test windows of 100 units; 129 failing windows of 34 units, those of the validation among them."""
    return Accuracy(
        rmse_cycles=rmse,
        nasa_score=rmse * 17.3,
        late_share=0.47,
        windows=100,
        units=100,
        failing_windows=129,
        failing_units=34,
        missed_failure_share=missed,
    )


def worst_case(scale: float, epsilon: float) -> WorstCase:
    """An attack or a bound that grows with ε."""
    return WorstCase(
        rmse_cycles=8.3 + scale * 60 * epsilon * (1 + epsilon),
        missed_failure_share=min(1.0, max(0.0, scale * (epsilon - 0.22) * 2)),
    )


def by_epsilon(scale: float, epsilons: Sequence[float] = EPSILONS) -> dict[Epsilon, WorstCase]:
    """At every ε."""
    return {epsilon_key(epsilon): worst_case(scale, epsilon) for epsilon in epsilons}


def attacks(worst: float) -> dict[str, dict[AttackName, dict[Aim, dict[Epsilon, AttackMeasures]]]]:
    """Four gradient attacks and noise, none stronger than the worst."""
    strength: dict[AttackName, float] = {"fgm": 0.8, "bim": 0.9, "pgd": 0.92, "strong": 0.95, "noise": 0.1}
    return {
        "small-changes": {
            name: {aim: attack_by_epsilon(worst * power * (1 if aim == "any" else 0.85)) for aim in AIMS}
            for name, power in strength.items()
        }
    }


def attack_by_epsilon(scale: float) -> dict[Epsilon, AttackMeasures]:
    """One attack at every ε."""
    return {key: AttackMeasures(damage_cycles=1.0, **found.fields()) for key, found in by_epsilon(scale).items()}


def evasion(clean: float, worst: float, certified: float, moved: float | None = None) -> EvasionMeasures:
    """One ensemble: its RMSE, and the strength of attack, of bound, and of the bound when the baseline moves too."""
    return EvasionMeasures(
        clean=accuracy(clean),
        attacks=attacks(worst),
        worst=by_epsilon(worst),
        certified=by_epsilon(certified),
        certified_baseline_moved=None if moved is None else by_epsilon(moved),
        zero_gradients_share=0.0,
        flags=FlagMeasures(raised=0, by_check={"no-growth": 0, "over-budget": 0}),
    )


def injection() -> InjectionGroup:
    """Eight signatures."""
    names = [f"{f}-{s}-{d}" for f in ("biased", "random") for s in ("continuous", "interim") for d in ("down", "up")]
    signatures = {
        name: InjectionMeasures(
            rmse_cycles=12.1 + index,
            missed_failure_share=0.0,
            unnoticed_rmse_cycles=11.9,
            unnoticed_missed_failure_share=0.0,
            largest_shift_sigma=7.1,
            windows_touched_share=0.83,
            noticed_share=0.4,
        )
        for index, name in enumerate(names)
    }
    quiet = WorstCase(rmse_cycles=11.9, missed_failure_share=0.0)
    return InjectionGroup(
        signatures=signatures,
        worst_undefended=WorstCase(rmse_cycles=19.1, missed_failure_share=0.0),
        worst_unnoticed=quiet,
    )


def falsified() -> FalsifiedHistory:
    """One falsified history: the guard finds it."""
    return FalsifiedHistory(
        units=37,
        failing_units=12,
        detected_share=1.0,
        abstained_share=0.1,
        rmse_cycles=30.0,
        missed_failure_share=0.2,
        guarded_rmse_cycles=8.5,
        guarded_missed_failure_share=0.0,
    )


def histories() -> FalsifiedHistories:
    """Four signatures of the experiment, and three scenarios."""
    sizes = {"any": size_key(0.5), "healthy-washing": size_key(2.0)}
    return FalsifiedHistories(
        experiment={f"{f}-{s}": falsified() for f in ("biased", "random") for s in ("continuous", "interim")},
        scenarios={
            "one-sensor": {aim: {sizes[aim]: falsified()} for aim in AIMS},
            "slow-drift": {"healthy-washing": {rate_key(share): falsified() for share in (0.005, 0.02)}},
            "replay": {"healthy-washing": {size_key(0): falsified()}},
        },
    )


def guard_aware() -> dict[Epsilon, GuardAwareMeasures]:
    """Somebody who knows the guard: nothing hidden at 0.1 σ, 42 % at 0.5 σ."""
    hidden = {0.1: 0.0, 0.5: 0.42}
    return {
        epsilon_key(epsilon): GuardAwareMeasures(
            **falsified().model_copy(update={"guarded_missed_failure_share": share}).fields(),
            rise_cycles=40 * epsilon,
            unnoticed_share=1.0,
            commissioned=Rise(rise_cycles=10 * epsilon, rmse_cycles=12.0, missed_failure_share=0.0),
        )
        for epsilon, share in hidden.items()
    }


def owned_sensors() -> OwnedSensors:
    """Four sensors, of which d does most."""
    by_count = {
        count_key(k): OwnedSensorCount(rmse_cycles=30.0, missed_failure_share=0.2 * k, moved_share=0.3 * k)
        for k in (1, 2, 3)
    }
    return OwnedSensors(
        by_count=dict.fromkeys(AIMS, by_count),
        alone={name: OneSensor(rise_cycles=4.0 * i, chosen_first_share=0.25) for i, name in enumerate("abcd")},
        pairs={a: {b: 20.0 + 15 * (i + j) for j, b in enumerate("abcd")} for i, a in enumerate("abcd")},
    )


def extraction() -> Extraction:
    """A student of the model."""
    student = ExtractionMeasures(near_share=0.5, fidelity_rmse_cycles=7.0, student_rmse_cycles=12.0)
    rises = student.model_copy(update={"transfer_rise_cycles": 2.0, "direct_rise_cycles": 3.0})
    return Extraction(
        by_queries={queries_key(100): student, queries_key(5000): rises}, by_rounding={rounding_key(5): student}
    )


def membership() -> MembershipMeasures:
    """Next to nothing is told."""
    return MembershipMeasures(
        windows_auc=0.51,
        units_auc=0.52,
        windows_found_share=0.01,
        advantage=0.03,
        art_accuracy=0.5,
        rounded_auc={rounding_key(10): 0.505},
    )


def median_certificate(liars: int) -> dict[Liars, WorstCase]:
    """Up to so many members under an attacker's control."""
    return {liars_key(r): WorstCase(rmse_cycles=10.0 + 4 * r, missed_failure_share=0.0) for r in range(liars + 1)}


def robustness(*, commissioned: bool = True, liars: int = 0) -> RobustnessMeasures:
    """What evade measures of a family with or without an ensemble for the baseline, certified for so many liars."""
    return with_examples(
        RobustnessMeasures,
        evasion=evasion(8.3, 0.95, 1.0),
        commissioned=evasion(8.0, 0.25, 0.3, 1.2) if commissioned else None,
        median_certificate=median_certificate(liars) if liars else {},
        guard=GuardMeasures(false_alarm_share=0.011),
        injection=injection(),
        falsified_histories=histories(),
        guard_aware=guard_aware(),
        repair_abuse=RepairAbuseMeasures(
            epsilon_sigma=0.1,
            guarded_rmse_cycles=9.0,
            guarded_missed_failure_share=0.0,
            beyond_share=0.0,
            largest_excess_cycles=0.0,
        ),
        spent_life=spent_life(),
        held_sensors=held_sensors(),
        owned_sensors=owned_sensors(),
        false_age=Rise(rise_cycles=5.0, rmse_cycles=20.0, missed_failure_share=0.1),
        boosted_trees=BoostedTrees(clean=accuracy(7.2), worst=by_epsilon(2.0)),
        extraction=extraction(),
        membership=membership(),
    )


def spent_life() -> SpentLives:
    """Nearly nothing is hidden with the ledger."""

    def one(failing: int, bare: float | None, held: float | None, refused: float) -> SpentLife:
        return SpentLife(
            units=60,
            failing_units=failing,
            bare_missed_failure_share=bare,
            missed_failure_share=held,
            refused_share=refused,
            locked_early_share=0.0,
        )

    return SpentLives(
        clean=one(30, 0.0, 0.0, 0.0),
        rmse_cycles=8.4,
        rise_cycles=0.1,
        attacks={"lost-worn": one(0, None, None, 0.5), "reset": one(60, 0.9, 0.01, 0.9)},
        worst_missed_failure_share=0.01,
    )


def held_sensors() -> HeldSensors:
    """More is hidden with more sensors, and much of it not with the ledger."""
    sizes = {"k-1": 0.0, "k-2": 0.05, "k-3": 0.1, "k-4": 0.2}
    rows = {"rows-40": 0.5, "rows-100": 1.0, "rows-150": 1.0}
    return HeldSensors(
        failing_units=20,
        healthy_units=20,
        hide={
            size: {
                key: HiddenBySensors(
                    bare_missed_failure_share=2 * most * part,
                    missed_failure_share=most * part,
                    answer_cycles=20.0 + 100 * most * part,
                )
                for key, part in rows.items()
            }
            for size, most in sizes.items()
        },
        alarm={
            size: {
                key: AlarmBySensors(
                    false_alarm_share=most * part, locked_early_share=2 * most * part, answer_cycles=90.0 - 200 * most
                )
                for key, part in rows.items()
            }
            for size, most in sizes.items()
        },
    )


def training(*, commissioned: bool = True) -> TrainingMeasures:
    """What train measures."""
    modes: tuple[Mode, ...] = ("plain", "commissioned") if commissioned else ("plain",)
    held = IntervalMeasures(
        coverage_share=0.905, standard_error=0.012, width_cycles=24.0, test_coverage_share=0.9, test_windows=100
    )
    network = NetworkMeasures(
        test=accuracy(8.3), validation=accuracy(12.2), certified=by_epsilon(1.0, (0.05, 0.1, 0.25))
    )
    return TrainingMeasures(
        plain=network,
        commissioned=network.model_copy(update={"test": accuracy(8.0)}) if commissioned else None,
        boosting=accuracy(7.2),
        cross_validation={mode: accuracy(9.1) for mode in modes},
        intervals=dict.fromkeys(modes, held),
        lives=dict.fromkeys(modes, lives()),
        guard=GuardMeasures(false_alarm_share=0.011),
        units_bound={bad_units_key(bad): units_bound(bad) for bad in (1, 2, 3)},
    )


def lives() -> LifeMeasures:
    """What a ledger costs: nearly nothing."""
    return LifeMeasures(
        lives=72,
        false_lock_most_share=1 / 73,
        failing_margin_cycles=18.0,
        unknown_cycles=20.0,
        out_of_fold_false_lock_share=0.0,
        unseen_lives=108,
        false_lock_share=0.0,
        rmse_cycles=8.4,
        bare_rmse_cycles=8.3,
        rise_cycles=0.1,
    )


def units_bound(bad: int) -> UnitsBound:
    """What so many bad units could have moved: a little, and more of more."""
    up, down = 1 + 0.05 * bad, 1 - 0.03 * bad
    return UnitsBound(
        wear_threshold_least_times=down,
        wear_threshold_most_times=up,
        channel_threshold_least_times=down,
        channel_threshold_most_times=up,
        relations_moved_share=0.05 * bad,
        mean_moved_sigma=0.03 * bad,
        sigma_least_times=down,
        sigma_most_times=up,
        interval_least_times=down,
        interval_most_times=up,
        interval_coverage_least_share=0.9 - 0.01 * bad,
        oldest_age_least_times=down,
        oldest_age_most_times=up,
    )


def validation() -> ValidationMeasures:
    """Two units of 152 in quarantine; no drift."""
    return ValidationMeasures(
        rows_total=36012,
        units_total=152,
        units_quarantined=2,
        quarantined_share=2 / 152,
        expectations_total=61,
        expectations_failed=2,
        findings_by_rule={"range": 3, "change": 1},
        drift_compared=1,
        drift_psi={"flow": 0.014, "torque": 0.002},
        drift_max_psi=0.014,
        values_filled=0,
    )


def preparation() -> PreparationMeasures:
    """Three splits."""
    train, few = SplitMeasures(windows=9000, units=90), SplitMeasures(windows=100, units=30)
    return PreparationMeasures(train=train, validation=few, test=few)


def effect(increase: float, trigger: float | None = None) -> PoisonEffect:
    """A network trained on some telemetry."""
    return PoisonEffect(
        rmse_cycles=12.0 + increase,
        rmse_increase_cycles=increase,
        missed_failure_share=0.0,
        trigger_success_share=trigger,
    )


def poisoned(
    noticed: float, undefended: PoisonEffect, after: PoisonEffect, shares: Sequence[Share]
) -> dict[Share, PoisoningResult]:
    """One attack at several shares."""
    return {
        share: PoisoningResult(
            units_poisoned=round(100 * number_of(share)),
            noticed_share=noticed,
            undefended=undefended,
            after_screening=after,
            defences=defences(),
        )
        for share in shares
    }


def poisoning() -> PoisoningMeasures:
    """Three attacks at four shares; one is not noticed."""
    shares = [share_key(share) for share in (0.01, 0.02, 0.05, 0.1)]
    return PoisoningMeasures(
        clean=effect(0.0, 0.0),
        retraining=RetrainingMeasures(epochs=10, trigger_windows=43),
        attacks={
            "label-healthy-washing": poisoned(1.0, effect(3.0), effect(0.1), shares),
            "backdoor": poisoned(1.0, effect(0.4, 1.0), effect(0.1, 0.0), shares),
            "clean-label-backdoor": poisoned(0.0, effect(0.4, 0.1), effect(0.4, 0.1), shares),
        },
        worst_undefended=effect(3.0, 1.0),
        worst_unnoticed=effect(0.4, 0.1),
        clean_defences=defences(),
        worst_defences=defences(),
    )


def defences() -> PoisonedDefences:
    """A guard and intervals that poison did not harm."""
    return PoisonedDefences(
        replay_noticed_share=1.0, false_alarm_share=0.011, interval_coverage_share=0.92, interval_width_cycles=31.0
    )


def comparison() -> ComparisonMeasures:
    """Four families."""
    certified = by_epsilon(1.0, (0.05, 0.1))
    liars = median_certificate(2)
    return ComparisonMeasures(
        families={
            "accurate": FamilyMeasures(clean=accuracy(7.7), certified=certified, liars={}),
            "robust": FamilyMeasures(clean=accuracy(8.3), certified=certified, liars={}),
            "robust-commissioned": FamilyMeasures(clean=accuracy(8.0), certified=certified, liars={}),
            "certified-sensors": FamilyMeasures(clean=accuracy(9.9), certified=certified, liars=liars),
        }
    )
