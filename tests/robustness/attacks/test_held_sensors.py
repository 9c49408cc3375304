"""Held sensors: a real small model, its guard and its ledger, and who knows all three."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from twinseal.errors import ConfigError
from twinseal.measures.robustness import HeldSensors
from twinseal.prognostics.checkpoint import Model
from twinseal.prognostics.metrics import FAILING_CYCLES, HEALTHY_CYCLES
from twinseal.prognostics.normaliser import PADDING_ROWS
from twinseal.prognostics.windows import Prepared
from twinseal.robustness.attack import Plan, Testbed
from twinseal.robustness.attacks.held_sensors import (
    FIELD,
    HeldSensorsThreat,
    attack,
    choose,
    keys,
    machines,
    reach,
    run,
    tell,
    unnoticed,
)
from twinseal.robustness.hearing import Hearing, Together
from twinseal.robustness.histories import Histories, guard_outcome, true_alarms
from twinseal.robustness.methods.slow_drift import SlowDrifts
from twinseal.robustness.threats import Threats

HELD, HEAT, HUM = 25, 1, 2
SHORT = {"most": 2, "rows": [10, HELD], "machines": 3, "sets": 1, "rounds": 1, "steps": 20}


@pytest.fixture(scope="module")
def bed(model: Model, prepared: Prepared, threats: Threats) -> Testbed:
    own = threats.attacks | {FIELD: threats.attacks[FIELD] | SHORT}
    return Testbed(model, prepared, threats.model_copy(update={"attacks": own}))


@pytest.fixture(scope="module")
def threat(bed: Testbed) -> HeldSensorsThreat:
    return bed.threats.own(FIELD, HeldSensorsThreat)


@pytest.fixture(scope="module")
def found(bed: Testbed) -> HeldSensors:
    return run(bed)


@pytest.fixture(scope="module")
def failing(bed: Testbed) -> Histories:
    every = machines(bed)
    return every.only([int(at) for at in np.flatnonzero(every.truth <= FAILING_CYCLES)[:4]])


@pytest.fixture(scope="module")
def drifts(model: Model, failing: Histories) -> SlowDrifts:
    return SlowDrifts(model, failing, HELD, 1.0)


@pytest.fixture(scope="module")
def change(drifts: SlowDrifts) -> Any:
    return drifts.falsify((HEAT, HUM), ledger=False, rounds=2, steps=80)


def deaf(model: Model) -> Model:
    """The same networks behind a guard that never disagrees with anything."""
    high = tuple(tuple(1e6 for _ in row) for row in model.guard.thresholds)
    guard = model.guard.model_copy(update={"thresholds": high, "falls": tuple(1e6 for _ in model.guard.falls)})
    return replace(model, guard=guard)


def test_who_holds_no_sensor_changes_nothing(drifts: SlowDrifts) -> None:
    nothing = drifts.falsify((), ledger=True, rounds=2, steps=20)
    assert not nothing.any()
    ((reached, _),), truth = reach(replace(drifts, sign=-1.0), [0], [nothing])
    assert np.allclose(reached.answers, truth.answers, atol=1e-4, equal_nan=True)
    assert np.allclose(reached.at_most, truth.at_most, atol=1e-4)


def test_other_sensors_and_earlier_rows_are_the_same_byte_for_byte(
    failing: Histories, drifts: SlowDrifts, model: Model
) -> None:
    only_heat = drifts.falsify((HEAT,), ledger=False, rounds=1, steps=40)
    told = tell(failing, only_heat, np.ones(len(failing.rows)))
    for true, false in zip(failing.rows, told, strict=True):
        assert true[:-HELD].tobytes() == false[:-HELD].tobytes()
        assert true[:PADDING_ROWS].tobytes() == false[:PADDING_ROWS].tobytes()
        others = [at for at in range(true.shape[1]) if at != HEAT]
        assert true[:, others].tobytes() == false[:, others].tobytes()
        assert (true[-HELD:, HEAT] != false[-HELD:, HEAT]).any()
        heat = model.contract.all_channels["heat"]
        readings = model.normaliser.restore(false, np.zeros(len(false), dtype=np.int64))[:, HEAT]
        assert heat.minimum - 1e-4 <= readings.min() and readings.max() <= heat.maximum + 1e-4


@pytest.mark.attack("P")
def test_the_guard_leaves_less_to_who_holds_sensors(
    model: Model, failing: Histories, threat: HeldSensorsThreat
) -> None:
    """Whoever holds both sensors that tell of wear, and knows the guard, raises answers; without a guard, further."""
    held, free = (attack(one, failing, threat, sign=1.0)["k-2"][f"rows-{HELD}"].bare for one in (model, deaf(model)))
    assert np.mean(np.nan_to_num(free) > HEALTHY_CYCLES) > np.mean(np.nan_to_num(held) > HEALTHY_CYCLES)
    assert np.nanmean(free) > np.nanmean(held) + 5


def test_what_is_told_raises_no_alarm_that_the_truth_does_not_raise(
    model: Model, failing: Histories, change: Any
) -> None:
    longest = max(map(len, failing.rows))
    past = Together(model, failing)
    for _ in past.hear(failing.rows, slice(longest - HELD)):
        pass
    twice = [change, 3 * change]  # the guard notices all of the second
    shares = unnoticed(past, failing, twice, slice(longest - HELD, None))
    assert (shares[0] > 0).any() and shares[1].mean() < shares[0].mean()
    for part, share in zip(twice, shares, strict=True):
        seen = guard_outcome(model, failing, tell(failing, part, share))
        for flagged, refused, true in zip(seen.flagged, seen.refused, true_alarms(model, failing), strict=True):
            assert not ((flagged | refused) & ~true).any()


@pytest.mark.proof
def test_more_sensors_and_rows_reach_no_less(model: Model, failing: Histories, threat: HeldSensorsThreat) -> None:
    for sign in (1.0, -1.0):
        found = attack(model, failing, threat, sign=sign)
        few, more = found["k-1"]["rows-10"], found["k-2"][f"rows-{HELD}"]
        assert (np.nan_to_num(more.answers - few.answers) * sign >= 0).all()
        assert (more.at_most <= few.at_most).all()


def test_the_ledger_objective_is_worth_more_to_who_must_deceive_the_ledger(drifts: SlowDrifts, change: Any) -> None:
    own = drifts.falsify((HEAT, HUM), ledger=True, rounds=2, steps=80)
    assert drifts.worth(own, ledger=True).mean() >= drifts.worth(change, ledger=True).mean()
    assert drifts.worth(change, ledger=False).mean() > drifts.worth(0 * change, ledger=False).mean() + 1


def test_of_two_sets_the_second_serves_machines_that_the_first_does_not(
    model: Model, failing: Histories, threat: HeldSensorsThreat
) -> None:
    chosen = choose(model, failing, threat.model_copy(update={"sets": 2}), sign=1.0)
    assert set(chosen) == {1, 2}
    assert all(len(set(sets)) == len(sets) <= 2 for sets in chosen.values())
    assert {len(one) for one in chosen[2]} == {2}


@pytest.mark.proof
def test_the_seed_decides_and_nothing_else(bed: Testbed, found: HeldSensors) -> None:
    assert found == run(bed)
    assert found.failing_units == SHORT["machines"]
    other = replace(bed, threats=bed.threats.model_copy(update={"seed": 7}))
    assert found != run(other)


def test_the_keys_of_the_measures_are_those_that_a_gate_may_name(bed: Testbed, found: HeldSensors) -> None:
    named = keys(Plan(bed.threats, "robust", frozenset(bed.model.channels)))
    assert set(found.hide) == named["hide"] and set(found.alarm) == named["alarm"]
    assert all(set(found.hide[size]) == named[f"hide/{size}"] for size in found.hide)
    assert all(set(found.alarm[size]) == named[f"alarm/{size}"] for size in found.alarm)


@pytest.mark.proof
def test_with_fewer_channels_than_sensors_all_are_held(
    model: Model, failing: Histories, threat: HeldSensorsThreat
) -> None:
    found = attack(model, failing, threat.model_copy(update={"most": 4, "rows": (10,)}), sign=1.0)
    assert np.array_equal(found["k-4"]["rows-10"].answers, found["k-3"]["rows-10"].answers, equal_nan=True)


def test_where_no_machine_is_failing_nothing_is_said(bed: Testbed, threat: HeldSensorsThreat) -> None:
    nobody = machines(bed).only([])
    assert len(attack(bed.model, nobody, threat, sign=1.0)["k-1"]["rows-10"].bare) == 0


@pytest.mark.parametrize("times", [1, 4])
def test_many_units_are_heard_as_each_alone(model: Model, failing: Histories, change: Any, times: int) -> None:
    told = tell(failing, times * change, np.ones(len(failing.rows)))
    heard = list(Together(model, failing).hear(told, slice(None)))
    assert times == 1 or any(np.isnan(one.bare[-3:]).any() for one in heard[-HELD:])  # refused
    for unit, (rows, regimes) in enumerate(zip(told, failing.regimes, strict=True)):
        hearing, begin = Hearing(model), len(heard) - len(rows)
        for age, (row, regime) in enumerate(zip(rows, regimes, strict=True), start=1):
            alone, one = hearing.hear(row, int(regime), age), heard[begin + age - 1]
            assert (
                np.isnan(one.bare[unit])
                if alone.bare is None
                else one.bare[unit] == pytest.approx(alone.bare, abs=1e-4)
            )
            assert (alone.answer is None) == np.isnan(one.answers[unit])
            assert one.at_most[unit] == pytest.approx(alone.at_most, abs=1e-4)


def test_copies_go_on_from_the_same_past(model: Model, failing: Histories) -> None:
    longest = max(map(len, failing.rows))
    together = Together(model, failing)
    for _ in together.hear(failing.rows, slice(longest - 5)):
        pass
    *_, copies = together.repeated(2).hear(failing.rows * 2, slice(longest - 5, None))
    *_, alone = together.hear(failing.rows, slice(longest - 5, None))
    assert np.allclose(copies.answers, np.tile(alone.answers, 2), atol=1e-4, equal_nan=True)


@pytest.mark.parametrize(
    "change", [{"most": 0}, {"most": 17}, {"rows": []}, {"rows": [40, 40]}, {"machines": 0}, {"steps": 0}]
)
def test_an_attacker_who_does_nothing_is_refused(threats: Threats, change: dict[str, Any]) -> None:
    entry = threats.attacks[FIELD] | change
    with pytest.raises(ConfigError):
        threats.model_copy(update={"attacks": threats.attacks | {FIELD: entry}}).own(FIELD, HeldSensorsThreat)
