"""Falsified histories: what is falsified, and what the guard makes of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from twinseal.guard.guard import Guard
from twinseal.prognostics.checkpoint import Model
from twinseal.prognostics.metrics import FAILING_CYCLES
from twinseal.prognostics.windows import Prepared
from twinseal.robustness import histories as module
from twinseal.robustness.attack import Plan, Testbed
from twinseal.robustness.attacks.falsified_histories import (
    experiment,
    falsify_histories,
    inject_histories,
    key_of,
    keys,
    run,
    scenario,
    towards_health,
)
from twinseal.robustness.histories import (
    Histories,
    answers,
    guard_decisions,
    guard_outcome,
    guard_outcomes,
    informative_channels,
    worst_answers,
)
from twinseal.robustness.threats import ScenarioThreat, Threats

ROWS = 15


@pytest.fixture(scope="session")
def histories(prepared: Prepared) -> Histories:
    return Histories.of(prepared.test)


def threat(kind: str, *sizes: float, aims: tuple[str, ...] = ("healthy-washing",)) -> ScenarioThreat:
    return ScenarioThreat(
        name="x",
        attacker="somebody in the middle of it",
        kind=kind,  # type: ignore[arg-type]
        sensors="informative",
        rows=ROWS,
        sizes=sizes or (0.0,),
        aims=aims,  # type: ignore[arg-type]
    )


def test_histories_are_the_units_up_to_their_newest_window(histories: Histories, prepared: Prepared) -> None:
    test = prepared.test
    newest = [int(test.cycles[test.units == unit].max()) for unit in np.unique(test.units)]
    assert newest == [len(rows) for rows in histories.rows]
    fewer = histories.only([1, 0])
    assert [newest[1], newest[0]] == [len(rows) for rows in fewer.rows]
    assert [float(histories.truth[1]), float(histories.truth[0])] == fewer.truth.tolist()


def test_channels_that_tell_of_wear_are_told_from_those_that_do_not(prepared: Prepared) -> None:
    assert {"heat", "hum"} == {prepared.channels[i] for i in informative_channels(prepared.train)}


def test_wear_raises_heat_and_hum_so_health_is_lower(histories: Histories, prepared: Prepared) -> None:
    way = dict(zip(prepared.channels, towards_health(histories), strict=True))
    assert (-1.0, -1.0) == (way["heat"], way["hum"])


@pytest.mark.parametrize(("healthier", "sign"), [(True, -1.0), (False, 1.0)])
def test_a_shift_moves_the_held_sensors_in_the_last_rows_and_nothing_else(
    model: Model, histories: Histories, healthier: bool, sign: float
) -> None:
    heat = model.channels.index("heat")
    told = falsify_histories(model, histories, threat("shift", 0.5), 0.5, [heat], healthier=healthier)
    for false, true in zip(told, histories.rows, strict=True):
        moved = np.zeros(true.shape)
        moved[-ROWS:, heat] = sign * 0.5
        np.testing.assert_allclose(false - true, moved, atol=1e-12)


def test_a_ramp_ends_at_its_size_and_a_drift_obeys_the_contracts_rate(model: Model, histories: Histories) -> None:
    heat = model.channels.index("heat")
    ramp = falsify_histories(model, histories, threat("ramp", 2.0), 2.0, [heat])[0] - histories.rows[0]
    np.testing.assert_allclose(-2.0 * np.arange(1, ROWS + 1) / ROWS, ramp[-ROWS:, heat], atol=1e-12)
    drift = falsify_histories(model, histories, threat("drift", 0.1), 0.1, [heat])[0] - histories.rows[0]
    allowed = model.contract.all_channels["heat"].max_change_per_cycle / model.normaliser.std[0][heat]
    np.testing.assert_allclose(-0.1 * allowed, np.diff(drift[-ROWS:, heat]), atol=1e-9)


def test_a_replay_repeats_early_rows_and_stuck_repeats_one(model: Model, histories: Histories) -> None:
    every = list(range(len(model.channels)))
    true = histories.rows[0]
    assert true[:ROWS].tolist() == falsify_histories(model, histories, threat("replay"), 0.0, every)[0][-ROWS:].tolist()
    stuck = falsify_histories(model, histories, threat("stuck"), 0.0, every)[0]
    assert [true[-ROWS - 1].tolist()] * ROWS == stuck[-ROWS:].tolist()


def test_the_key_of_a_size_says_in_which_unit_it_is(threats: Threats) -> None:
    found = {kind: key_of(threat(kind, 0.1), 0.1) for kind in ("shift", "ramp", "drift")}
    assert {"shift": "size-0.1", "ramp": "size-0.1", "drift": "rate-0.1"} == found
    for scenario_threat in threats.scenarios:
        (first, *_) = keys(Plan(threats, "robust", frozenset()))[
            f"scenarios/{scenario_threat.name}/{scenario_threat.aims[0]}"
        ]
        assert ("rate" if scenario_threat.kind == "drift" else "size") == first.partition("-")[0]


def test_any_goes_where_it_hurts_more_than_towards_health(model: Model, histories: Histories) -> None:
    """Of a machine that has its whole life before it, the worse error is to call it worn."""
    held = [model.channels.index("heat"), model.channels.index("hum")]
    young = replace(histories, truth=np.full_like(histories.truth, 90.0))
    found = scenario(model, young, threat("shift", 0.4, aims=("any", "healthy-washing")), held)
    assert [("any", ["size-0.4"]), ("healthy-washing", ["size-0.4"])] == [(k, list(v)) for k, v in found.items()]
    one, other = found["any"]["size-0.4"], found["healthy-washing"]["size-0.4"]
    assert one.rmse_cycles > other.rmse_cycles


def test_attack_replay_is_found_and_no_failure_is_missed(model: Model, histories: Histories) -> None:
    every = list(range(len(model.channels)))
    (by_size,) = scenario(model, histories, threat("replay"), every).values()
    (found,) = by_size.values()
    clean = worst_answers(answers(model, histories, histories.rows), histories.truth)
    assert found.rmse_cycles > clean.rmse_cycles + 5
    assert found.detected_share > 0.5
    assert found.guarded_missed_failure_share is not None and found.missed_failure_share is not None
    assert found.guarded_missed_failure_share <= found.missed_failure_share
    assert len(histories.rows) == found.units
    assert int((histories.truth <= FAILING_CYCLES).sum()) == found.failing_units


def test_the_injection_scales_its_sensors_from_its_cycle_on(
    model: Model, histories: Histories, threats: Threats
) -> None:
    injection = threats.asset("toy").injection
    percent = np.full((len(histories.rows), 2), 2.0)
    for interim, end in ((False, None), (True, 40 + injection.interim_cycles)):
        told = inject_histories(model, histories, injection, percent, interim=interim)
        for false, true in zip(told, histories.rows, strict=True):
            raw, was = (model.normaliser.restore(r, np.zeros(len(r), dtype=np.int64)) for r in (false, true))
            share = raw / was
            at = [model.channels.index(sensor) for sensor in injection.sensors]
            np.testing.assert_allclose(0.98, share[40:end, at], rtol=1e-9)
            share[40:end, at] = 1.0
            np.testing.assert_allclose(1.0, share, rtol=1e-9)


def test_the_experiment_has_four_signatures_or_none(model: Model, histories: Histories, threats: Threats) -> None:
    injection = threats.asset("toy").injection
    found = experiment(model, histories, injection.model_copy(update={"least_cycles": 60}), seed=1)
    assert {"biased-continuous", "biased-interim", "random-continuous", "random-interim"} == set(found)
    assert found == experiment(model, histories, injection.model_copy(update={"least_cycles": 60}), seed=1)
    assert {} == experiment(model, histories, injection.model_copy(update={"least_cycles": 10_000}), seed=1)


def test_every_scenario_of_the_policy_and_the_experiment_are_run(testbed: Testbed) -> None:
    few = tuple(
        threat.model_copy(update={"rows": 5, "sizes": threat.sizes[:1]}) for threat in testbed.threats.scenarios
    )
    short = replace(testbed, threats=testbed.threats.model_copy(update={"scenarios": few}))
    found, injection = run(short), short.threats.asset("toy").injection
    assert [threat.name for threat in few] == list(found.scenarios)
    for threat in few:
        sensors = short.channels[threat.sensors]
        assert scenario(short.model, short.histories, threat, sensors) == found.scenarios[threat.name]
    assert experiment(short.model, short.histories, injection, seed=short.threats.seed) == found.experiment


@pytest.mark.parametrize("largest", [1_000, 20])
def test_versions_heard_side_by_side_are_heard_as_each_alone(
    model: Model, histories: Histories, largest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever rows they differ in, and however many fit beside each other."""
    monkeypatch.setattr(module, "LARGEST", largest)
    versions = [[rows.copy() for rows in histories.rows] for _ in range(4)]
    for size, begin, told in zip((4.0, 1.0, 9.0), (-30, -8, 5), versions, strict=False):
        for rows in told:
            rows[begin:, 0] += size
    together = guard_outcomes(model, histories, versions)
    assert any(flags.any() for seen in together[:3] for flags in seen.flagged)
    for told, seen in zip(versions, together, strict=True):
        alone = guard_outcome(model, histories, told)
        for name in ("repaired", "given", "flagged", "refused"):
            for expected, got in zip(getattr(alone, name), getattr(seen, name), strict=True):
                np.testing.assert_array_equal(expected, got)
    fresh = list(guard_decisions(model.guard_of(len(histories.rows)), model, histories, versions[1]))
    assert [bool(d.flagged[0].any()) for d in fresh][-len(versions[1][0]) :] == together[1].flagged[0].tolist()


def test_units_watched_together_are_what_each_is_alone(model: Model, histories: Histories) -> None:
    """Law: watched(units)[i] == watched([unit i]), whatever their lengths, with what was answered afterwards."""
    every = list(range(len(model.channels)))
    told = falsify_histories(model, histories, threat("shift", 1.0), 1.0, every[:1])
    together = guard_outcome(model, histories, told)
    for i in (0, 1):
        alone = guard_outcome(model, histories.only([i]), [told[i]])
        assert alone.flagged[0].tolist() == together.flagged[i].tolist()
        assert alone.refused[0].tolist() == together.refused[i].tolist()
        np.testing.assert_allclose(alone.repaired[0], together.repaired[i], atol=1e-12)
        assert alone.given[0].tolist() == together.given[i].tolist()
        assert len(told[i]) == len(alone.flagged[0])
    seen = list(guard_decisions(Guard(model.guard, model.contract), model, histories.only([0]), [told[0]]))
    assert len(told[0]) == len(seen)


def test_harm_without_a_failing_unit_says_nothing_of_missed_failures() -> None:
    assert {"rmse_cycles": 10.0} == worst_answers(np.array([60.0]), np.array([50.0], dtype=np.float32)).to_dict()
    assert 1.0 == worst_answers(np.array([61.0]), np.array([30.0], dtype=np.float32)).missed_failure_share
