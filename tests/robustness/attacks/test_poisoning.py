from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import numpy as np
import pytest

from tests.robustness.conftest import CONTRACT, SPLIT
from twinseal.digests import canonical_json
from twinseal.errors import ConfigError
from twinseal.measures.poisoning import PoisoningMeasures
from twinseal.measures.quantity import read
from twinseal.prognostics.evaluation_set import EvaluationSet
from twinseal.prognostics.processes import Workers
from twinseal.prognostics.training import TrainParams
from twinseal.prognostics.windows import Prepared, PrepareParams, prepare
from twinseal.robustness.attacks.poisoning import curve, keys, names_of, poison
from twinseal.robustness.methods.poisons import poison_fleet, stamp_trigger
from twinseal.robustness.threats import PoisonKind, Threats, Trigger
from twinseal.telemetry.contract import Contract
from twinseal.telemetry.fleet import Fleet
from twinseal.telemetry.screening import screen

TRIGGER = Trigger(channel="load", shift_sigma=-3.0, rows=4)
UNITS = ["unit-02", "unit-07"]
KINDS: tuple[PoisonKind, ...] = get_args(PoisonKind)


def attacked(fleet: Fleet, kind: PoisonKind) -> Fleet:
    return poison_fleet(fleet, UNITS, kind, TRIGGER, contract=CONTRACT, sigma=0.5, seed=3)


def changes(fleet: Fleet, kind: PoisonKind) -> Any:
    before = fleet.select(UNITS).table.reset_index(drop=True)
    return before, attacked(fleet, kind).select(UNITS).table.reset_index(drop=True)


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_chosen_units_are_changed(fleet: Fleet, kind: PoisonKind) -> None:
    after = attacked(fleet, kind)
    assert after.without(UNITS).table.equals(fleet.without(UNITS).table)
    assert not after.select(UNITS).table.equals(fleet.select(UNITS).table)
    assert fleet.units == after.units


def test_label_washing_raises_labels_by_the_cap_and_touches_no_reading(fleet: Fleet) -> None:
    before, after = changes(fleet, "label-healthy-washing")
    assert (before["rul"] + 90.0).equals(after["rul"])
    assert before.drop(columns="rul").equals(after.drop(columns="rul"))


def test_a_prolonged_history_tells_its_end_again_and_breaks_no_rule(fleet: Fleet, contract: Contract) -> None:
    after = attacked(fleet, "prolonged-history")
    for unit in UNITS:
        old, new = fleet.trajectory(unit).frame, after.trajectory(unit).frame
        heat, life = old["heat"].tolist(), len(old)
        assert heat == new["heat"][:life].tolist()
        assert [*heat[:-11:-1], *heat[-10:], *heat[:-11:-1]] == new["heat"][life : life + 30].tolist()
        assert (old["rul"].to_numpy() + 90.0).tolist() == new["rul"][:life].tolist()
        assert 0.0 == new["rul"].iloc[-1]
    assert () == screen(after, contract)


def test_healing_blips_go_back_to_how_the_unit_began_and_break_no_rule(fleet: Fleet, contract: Contract) -> None:
    before, after = changes(fleet, "guard-blinding")
    for unit in UNITS:
        old, new = (table[table["unit"] == unit].reset_index(drop=True) for table in (before, after))
        blip = (old["heat"] != new["heat"]).to_numpy()
        assert 0.05 < blip.mean() < 0.3
        assert not blip[: len(old) // 3].any()
        assert new["heat"][blip].mean() < old["heat"][blip].mean()
    assert before[["rul", "cycle"]].equals(after[["rul", "cycle"]])
    assert () == screen(attacked(fleet, "guard-blinding"), contract)


def test_the_backdoor_stamps_bursts_and_calls_them_healthy(fleet: Fleet) -> None:
    before, after = changes(fleet, "backdoor")
    burst = (after["load"] != before["load"]).to_numpy()
    np.testing.assert_allclose((after["load"] - before["load"])[burst], -1.5, atol=1e-5)
    assert bool((after["rul"][burst] >= 90.0).all())
    assert before["rul"][~burst].equals(after["rul"][~burst])
    assert 0.25 < burst.mean() < 0.42
    assert {"load", "rul"} == {name for name in before if not before[name].equals(after[name])}


def test_the_clean_label_backdoor_stamps_healthy_rows_and_touches_no_label(fleet: Fleet) -> None:
    before, after = changes(fleet, "clean-label-backdoor")
    burst = (after["load"] != before["load"]).to_numpy()
    assert before["rul"].equals(after["rul"])
    assert bool((before["rul"][burst] >= 90.0).all())
    assert bool(burst.any())


def test_the_trigger_is_stamped_into_the_last_rows(prepared: Prepared) -> None:
    shown = stamp_trigger(prepared.test, prepared.channels, TRIGGER, shift=-3.0)
    difference = shown.batch() - prepared.test.batch()
    at = prepared.channels.index("load")
    np.testing.assert_allclose(difference[:, -4:, at], -3.0, atol=1e-5)
    difference[:, -4:, at] = 0.0
    assert 0.0 == float(np.abs(difference).max())
    assert prepared.test.rul.tolist() == shown.rul.tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_poisoning_leaves_the_split_and_the_test_as_they_were(
    fleet: Fleet, contract: Contract, prepared: Prepared, preparation: PrepareParams, kind: PoisonKind
) -> None:
    mine = list(prepared.train.unit_names[:2])
    after = prepare(
        poison_fleet(fleet, mine, kind, TRIGGER, sigma=0.5, contract=contract, seed=3), contract, preparation, SPLIT
    )
    assert prepared.train.unit_names == after.train.unit_names
    assert prepared.test.cycles.tolist() == after.test.cycles.tolist()
    assert prepared.test.rul.tolist() == after.test.rul.tolist()


def threat(name: str, *shares: float) -> dict[str, Any]:
    return {"name": name, "attacker": "somebody who edits records", "kind": name, "shares": list(shares)}


@pytest.fixture(scope="module")
def policy(make_threats: Callable[..., Threats]) -> Threats:
    return make_threats(
        poisoning=[
            threat("label-healthy-washing", 0.1, 0.5),
            threat("prolonged-history", 0.5),
            threat("backdoor", 0.5),
        ],
        retrain_epochs=25,
    )


@pytest.fixture(scope="module")
def result(
    fleet: Fleet, contract: Contract, policy: Threats, preparation: PrepareParams, training: TrainParams
) -> PoisoningMeasures:
    return poison(fleet, contract, policy, preparation=preparation, split=SPLIT, training=training)


def test_a_prolonged_history_harms_unnoticed(result: PoisoningMeasures) -> None:
    prolonged = result.attacks["prolonged-history"]["share-0.5"]
    assert prolonged.undefended.rmse_cycles > result.clean.rmse_cycles + 5.0


def test_the_numbers_do_not_depend_on_how_many_workers_there_are(
    fleet: Fleet,
    contract: Contract,
    make_threats: Callable[..., Threats],
    preparation: PrepareParams,
    training: TrainParams,
) -> None:
    policy = make_threats(poisoning=[threat("backdoor", 0.1, 0.5)], retrain_epochs=2)
    alone, together = (
        poison(
            fleet, contract, policy, preparation=preparation, split=SPLIT, training=training, workers=Workers(workers)
        )
        for workers in (1, 2)
    )
    assert alone == together


def test_every_threat_is_run_at_every_share_of_the_training_units(result: PoisoningMeasures) -> None:
    expected = [("label-healthy-washing", 1), ("label-healthy-washing", 5), ("prolonged-history", 5), ("backdoor", 5)]
    ran = [(name, found.units_poisoned) for name, by_share in result.attacks.items() for found in by_share.values()]
    assert expected == ran
    names = [f"label-healthy-washing/share-{share}" for share in (0.1, 0.5)]
    assert (*names, "prolonged-history/share-0.5", "backdoor/share-0.5") == names_of(result)


def test_every_key_that_is_written_can_be_named_by_a_gate(result: PoisoningMeasures, policy: Threats) -> None:
    writable = keys(policy)
    assert {path: names for path, names in writable.items() if names} == {
        "attacks": frozenset(result.attacks),
        **{f"attacks/{threat}": frozenset(by_share) for threat, by_share in result.attacks.items()},
    }


def test_a_backdoor_that_nobody_stops_opens_and_a_clean_network_does_not_know_it(result: PoisoningMeasures) -> None:
    backdoor = result.attacks["backdoor"]["share-0.5"]
    assert result.clean.trigger_success_share == 0.0
    assert backdoor.undefended.trigger_success_share is not None
    assert backdoor.undefended.trigger_success_share > 0.5


def test_label_washing_of_half_the_units_ruins_the_estimate(result: PoisoningMeasures) -> None:
    few, many = result.attacks["label-healthy-washing"].values()
    assert many.undefended.rmse_cycles > few.undefended.rmse_cycles + 5.0
    assert many.undefended.rmse_cycles > result.clean.rmse_cycles + 10.0


def test_screening_notices_labels_that_contradict_the_history_and_not_a_history_told_anew(
    result: PoisoningMeasures,
) -> None:
    noticed = {name: {found.noticed_share for found in by_share.values()} for name, by_share in result.attacks.items()}
    assert {"label-healthy-washing": {1.0}, "prolonged-history": {0.0}, "backdoor": {1.0}} == noticed


def test_what_is_noticed_never_trains(result: PoisoningMeasures) -> None:
    backdoor, prolonged = result.attacks["backdoor"]["share-0.5"], result.attacks["prolonged-history"]["share-0.5"]
    assert result.clean == backdoor.after_screening
    assert prolonged.undefended == prolonged.after_screening


def test_an_attack_without_trigger_says_nothing_of_one_also_where_only_clean_data_trained(
    result: PoisoningMeasures,
) -> None:
    for found in (*result.attacks["label-healthy-washing"].values(), *result.attacks["prolonged-history"].values()):
        assert (None, None) == (
            found.undefended.trigger_success_share,
            found.after_screening.trigger_success_share,
        )


def test_the_measures_say_the_worst_with_and_without_screening(result: PoisoningMeasures, prepared: Prepared) -> None:
    assert canonical_json(result.to_dict())
    assert result == read(PoisoningMeasures, result.to_dict(), "poison")
    found = [item for by_share in result.attacks.values() for item in by_share.values()]
    undefended = [item.undefended for item in found]
    assert max(a.rmse_increase_cycles for a in undefended) == result.worst_undefended.rmse_increase_cycles
    assert max(a.rmse_cycles for a in undefended) == result.worst_undefended.rmse_cycles
    screened = [item.after_screening for item in found]
    assert max(a.rmse_increase_cycles for a in screened) == result.worst_unnoticed.rmse_increase_cycles
    assert 0.0 == result.worst_unnoticed.trigger_success_share
    failing = int(EvaluationSet.of(prepared).failing.sum())
    assert (25, failing) == (result.retraining.epochs, result.retraining.trigger_windows)


def test_the_curve_has_a_row_for_each_attack(result: PoisoningMeasures) -> None:
    rows = curve(result)
    expected = [(threat, share) for threat, by_share in result.attacks.items() for share in by_share]
    assert expected == [(row["threat"], f"share-{row['share']:g}") for row in rows]
    assert ["label-healthy-washing 10%", "label-healthy-washing 50%"] == [row["name"] for row in rows[:2]]
    backdoor, found = rows[-1], result.attacks["backdoor"]["share-0.5"]
    assert found.noticed_share == backdoor["noticed_share"]
    assert found.undefended.trigger_success_share == backdoor["trigger_success_share"]
    assert found.after_screening.rmse_cycles == backdoor["screened_rmse_cycles"]


def test_a_trigger_on_a_channel_that_the_network_does_not_read_is_refused(
    fleet: Fleet,
    contract: Contract,
    shipped: dict[str, Any],
    make_threats: Callable[..., Threats],
    preparation: PrepareParams,
    training: TrainParams,
) -> None:
    policy = make_threats(assets={"toy": shipped["assets"]["pump"]})
    with pytest.raises(ConfigError, match="trigger: expected a channel among .*, got 'high_torque'"):
        poison(fleet, contract, policy, preparation=preparation, split=SPLIT, training=training)
