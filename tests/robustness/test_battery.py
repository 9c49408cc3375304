"""The battery, and its attacks on trees, by controlled sensors, by queries, on members: real models."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pytest
import torch

from tests.robustness.conftest import SPLIT
from twinseal.digests import canonical_json
from twinseal.errors import EvidenceError
from twinseal.measures.quantity import NOT_WRITTEN, Leaf, leaves, read
from twinseal.measures.robustness import FlagMeasures, RobustnessMeasures
from twinseal.prognostics.checkpoint import Model
from twinseal.prognostics.comparison import compare
from twinseal.prognostics.ensemble import Ensemble, Networks, networks_of
from twinseal.prognostics.evaluation import estimates
from twinseal.prognostics.processes import Workers
from twinseal.prognostics.splitting import Split
from twinseal.prognostics.training import TrainParams
from twinseal.prognostics.windows import Prepared, PrepareParams, prepare
from twinseal.robustness.attack import Attack, Plan, Testbed
from twinseal.robustness.attacks import (
    boosted_trees,
    controlled_members,
    extraction,
    false_age,
    membership,
    owned_sensors,
    repair_abuse,
)
from twinseal.robustness.attacks.evasion import ATTACKS, run_plain
from twinseal.robustness.battery import BatteryResult, all_attacks, doubted_tests, run_battery, writable_keys
from twinseal.robustness.histories import Histories
from twinseal.robustness.methods.art import infer_membership
from twinseal.robustness.methods.gradient import Box
from twinseal.robustness.threats import Threats
from twinseal.telemetry.contract import Contract
from twinseal.telemetry.fleet import Fleet


@pytest.fixture(scope="session")
def bed(model: Model, prepared: Prepared, quick: Threats) -> Testbed:
    return Testbed(model, prepared, quick)


@pytest.fixture(scope="session")
def result(bed: Testbed) -> BatteryResult:
    torch.set_num_threads(1)
    return run_battery(bed.model, bed.prepared, bed.threats)


@pytest.mark.proof
def test_all_of_it_is_the_same_in_one_process_or_two(result: BatteryResult, bed: Testbed) -> None:
    again = run_battery(bed.model, bed.prepared, bed.threats, workers=Workers(2))
    assert canonical_json(result.measures.to_dict()) == canonical_json(again.measures.to_dict())
    assert result == again
    assert len(result.lives) > 0


def test_the_measures_are_read_back_as_they_were_written(result: BatteryResult) -> None:
    assert result.measures == read(RobustnessMeasures, result.measures.to_dict(), "evade")


def test_each_field_of_the_measures_is_filled_by_one_attack_or_by_the_battery_itself(result: BatteryResult) -> None:
    fields = [attack.field for attack in all_attacks()]
    assert len(set(fields)) == len(fields)
    assert set(RobustnessMeasures.model_fields) == {*fields, "guard"}
    filled = set(RobustnessMeasures.model_fields) - {"median_certificate"}  # the toy's ensembles are means
    assert filled == {name for name, value in result.measures.fields().items() if value}


def mappings(value: Any, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], set[str]]:
    """The keys of each mapping in measures, by its path; groups are walked through."""
    if isinstance(value, dict):
        below = [mappings(item, (*path, key)) for key, item in value.items()]
        return {path: set(value)} | {at: keys for found in below for at, keys in found.items()}
    if hasattr(value, "fields"):
        below = [mappings(item, (*path, name)) for name, item in value.fields().items()]
        return {at: keys for found in below for at, keys in found.items()}
    return {}


def plan_of(bed: Testbed) -> Plan:
    return Plan(bed.threats, bed.model.family, frozenset(bed.model.contract.all_channels))


def test_every_key_that_is_written_is_one_that_a_gate_may_name(result: BatteryResult, bed: Testbed) -> None:
    """And the other way round: none is left unsaid."""
    writable = writable_keys(plan_of(bed))
    written = {"/".join(path): keys for path, keys in mappings(result.measures).items()}
    fixed = {"evasion/flags/by_check", "commissioned/flags/by_check", "owned_sensors/by_count"}  # by the types
    assert set(written) - set(writable) == fixed
    for path, keys in written.items():
        assert keys <= writable.get(path, keys), path
    differ = {path for path, keys in writable.items() if keys and written.get(path, set()) != set(keys)}
    assert differ <= {"owned_sensors/pairs"} | {f"owned_sensors/pairs/{name}" for name in bed.model.channels}


def test_what_the_plan_says_is_not_written_is_not_written(result: BatteryResult, bed: Testbed) -> None:
    absent = {path for path, keys in writable_keys(plan_of(bed)).items() if keys == NOT_WRITTEN}
    assert {"evasion/certified_baseline_moved", "median_certificate"} < absent
    for path in absent:
        found: Any = result.measures.to_dict()
        for part in path.split("/"):
            found = found.get(part, {})
        assert not found, path


def test_a_path_with_such_a_key_is_a_measure_of_the_type(bed: Testbed) -> None:
    known = leaves(RobustnessMeasures)
    for path, keys in writable_keys(plan_of(bed)).items():
        parts = tuple(path.split("/"))
        for key in keys:
            start = (*parts, key)
            assert any(leaf.path[: len(start)] and _fits(leaf, start) for leaf in known), start


def _fits(leaf: Leaf, start: tuple[str, ...]) -> bool:
    """Whether the measure may begin with `start`."""
    whole = start + leaf.path[len(start) :]
    known = replace(leaf, path=leaf.path[: len(start)], patterns=leaf.patterns[: leaf.path[: len(start)].count("*")])
    return len(whole) == len(leaf.path) and known.matches(start)


def test_the_tests_that_ran_are_the_single_entries_of_what_was_measured(result: BatteryResult) -> None:
    names, measures = result.passed, result.measures
    assert () == result.warned
    assert len(set(names)) == len(names)
    for field in ("evasion", "commissioned"):
        found = getattr(measures, field)
        each = {
            f"{field}/attacks/{threat}/{attack}/{aim}/{key}"
            for threat, by_attack in found.attacks.items()
            for attack, by_aim in by_attack.items()
            for aim, by_epsilon in by_aim.items()
            for key in by_epsilon
        }
        assert each == {name for name in names if name.startswith(f"{field}/")}
    for attack in all_attacks():
        if attack.field not in ("evasion", "commissioned"):
            own = {name for name in names if name.partition("/")[0] == attack.field}
            assert own == single_entries(attack, getattr(measures, attack.field))


def single_entries(attack: Attack, value: Any) -> set[str]:
    """The names of the deepest groups under keys, found in the values alone; of a result without keys the field."""
    within = getattr(value, attack.tests) if attack.tests else value
    start = (attack.field, attack.tests) if attack.tests else (attack.field,)
    found = {path for path in groups_under_keys(within, start) if path != (attack.field,)}
    return {"/".join(path) for path in found if not any(other[: len(path)] == path != other for other in found)} or (
        {attack.field} if value else set()
    )


def groups_under_keys(value: Any, path: tuple[str, ...]) -> set[tuple[str, ...]]:
    """The paths of groups that stand in mappings, at any depth."""
    if isinstance(value, dict):
        below = {at for key, item in value.items() for at in groups_under_keys(item, (*path, key))}
        return below | {(*path, key) for key, item in value.items() if hasattr(item, "fields")}
    if hasattr(value, "fields"):
        return {at for name, item in value.fields().items() for at in groups_under_keys(item, (*path, name))}
    return set()


@pytest.mark.parametrize("attack", all_attacks(), ids=lambda attack: attack.field)
def test_the_tests_of_an_attack_are_within_the_mapping_that_it_names(attack: Attack, result: BatteryResult) -> None:
    names = attack.names(getattr(result.measures, attack.field))
    inside = f"{attack.field}/{attack.tests}/" if attack.tests else attack.field
    assert all(name.startswith(inside) for name in names)
    assert names or attack.field == "median_certificate"


def test_what_did_not_run_is_no_test() -> None:
    attack = Attack("median_certificate", controlled_members.run)
    assert () == attack.names(None)
    assert () == attack.names({})


EVASION_TESTS = tuple(
    f"evasion/attacks/all-sensors/{attack}/{aim}/{key}"
    for attack in ("pgd", "strong", "noise")
    for aim in ("any", "healthy-washing")
    for key in ("eps-0.1", "eps-0.25")
)
DOUBTS = {
    "no-growth: all-sensors/pgd/any/eps-0.25: 9 cycles after 10 at ε 0.1": {
        "evasion/attacks/all-sensors/pgd/any/eps-0.25"
    },
    "not-converged: strong/eps-0.1: 5 cycles, 6 in twice the steps": {
        f"evasion/attacks/all-sensors/strong/{aim}/eps-0.1" for aim in ("any", "healthy-washing")
    },
    "zero-gradients: network: 12.0% of the windows": set(EVASION_TESTS),
    "not-converged: strong/eps-0.5: 5 cycles, 6 in twice the steps": set(EVASION_TESTS),  # no test of that name
}


@pytest.mark.parametrize("doubt", DOUBTS)
def test_a_test_in_doubt_is_warned_by_its_own_name_and_has_not_passed(doubt: str, result: BatteryResult) -> None:
    names = (*EVASION_TESTS, "commissioned/attacks/all-sensors/pgd/any/eps-0.25", "membership")
    flags = FlagMeasures(raised=1, by_check={}, details=(doubt,))
    evasion = result.measures.evasion.model_copy(update={"flags": flags})
    warned = doubted_tests(names, result.measures.model_copy(update={"evasion": evasion}))
    assert DOUBTS[doubt] == set(warned)
    assert [name for name in names if name in warned] == list(warned)


def test_what_the_checks_find_in_a_real_run_is_warned_of(bed: Testbed, result: BatteryResult) -> None:
    """A policy for which no attack moves an estimate enough: each of its runs is in doubt, by the name that it has."""
    strict = bed.threats.sanity.model_copy(update={"least_effect_cycles": 1e6})
    evasion = run_plain(replace(bed, threats=bed.threats.model_copy(update={"sanity": strict})))
    names = ATTACKS[0].names(evasion)
    warned = doubted_tests((*names, "membership"), result.measures.model_copy(update={"evasion": evasion}))
    assert evasion.flags.by_check["attack-without-effect"] > 0
    assert {name for name in names if "/noise/" not in name} == set(warned)


def test_windows_of_another_normaliser_or_length_are_refused(
    model: Model, fleet: Fleet, contract: Contract, preparation: PrepareParams, quick: Threats
) -> None:
    other = prepare(fleet, contract, preparation, Split(SPLIT.policy, "8"))
    with pytest.raises(EvidenceError, match="expected the normaliser of the model, got another one"):
        run_battery(model, other, quick)
    narrow = prepare(fleet, contract, preparation.model_copy(update={"window": 10}), SPLIT)
    with pytest.raises(EvidenceError, match="expected the model's channels and window"):
        run_battery(model, narrow, quick)


def seeded(bed: Testbed, **changes: Any) -> Testbed:
    """The testbed with the seed 1 and other attackers in its policy."""
    return replace(bed, threats=bed.threats.model_copy(update={"seed": 1} | changes))


def test_trees_attacked_err_more_with_more_room_and_never_less_than_clean(bed: Testbed) -> None:
    found = boosted_trees.run(seeded(bed))
    errors = [item.rmse_cycles for item in (found.clean, *found.worst.values())]
    assert ["eps-0.1", "eps-0.4"] == list(found.worst)
    assert errors == sorted(errors)
    assert errors[0] + 1 < errors[1]


def test_questions_and_transfer_both_count(bed: Testbed) -> None:
    """With a single question nothing is found by asking: what is left is what fools the network."""
    own = bed.threats.attacks
    asked = boosted_trees.run(seeded(bed))
    few = seeded(bed, attacks=own | {"boosted_trees": own["boosted_trees"] | {"queries": 10}})
    assert boosted_trees.run(few).worst != asked.worst
    blunt = seeded(bed, attacks=own | {"boosted_trees": own["boosted_trees"] | {"steps": 1}})
    assert boosted_trees.run(blunt).worst != asked.worst


def test_two_sensors_of_a_linear_victim_do_what_both_do(prepared: Prepared) -> None:
    x = np.zeros((3, 4, 3), dtype=np.float32)
    weights = torch.tensor([1.0, -2.0, 0.5])
    box = Box(torch.full((3, 4, 3), -1.0), torch.full((3, 4, 3), 1.0))
    reached = owned_sensors.pairs(lambda x, at: (x * weights).sum((1, 2)), x, box, np.array([0, 1, 2]), steps=4)  # type: ignore[arg-type]
    expected = 4 * np.array([[1, 3, 1.5], [3, 2, 2.5], [1.5, 2.5, 0.5]], dtype=np.float32)
    np.testing.assert_allclose(np.broadcast_to(expected[:, :, None], (3, 3, 3)), reached, rtol=1e-5)


def test_owned_sensors_by_twos_are_no_weaker_than_alone(bed: Testbed) -> None:
    found, names = owned_sensors.run(bed), set(bed.model.channels)
    assert names == set(found.pairs) == set(found.alone)
    for a in names:
        for b in names:
            assert found.pairs[a][b] == found.pairs[b][a]
            assert found.pairs[a][b] >= max(found.pairs[a][a], found.pairs[b][b]) - 1e-4
            assert 0 <= found.pairs[a][b] <= bed.model.rul_cap_cycles
    assert sum(sensor.chosen_first_share for sensor in found.alone.values()) == pytest.approx(1.0)


def test_more_owned_sensors_do_no_less_and_are_counted(bed: Testbed) -> None:
    for by_count in owned_sensors.run(bed).by_count.values():
        assert ["k-1", "k-2"] == list(by_count)
        assert by_count["k-1"].moved_share <= by_count["k-2"].moved_share
        assert by_count["k-1"].missed_failure_share is not None and by_count["k-2"].missed_failure_share is not None
        assert by_count["k-1"].missed_failure_share <= by_count["k-2"].missed_failure_share


def test_a_false_age_does_no_less_than_the_true_one(bed: Testbed) -> None:
    model, evaluation_set = bed.model, bed.evaluation_set
    found = false_age.run(bed)
    said = np.clip(estimates(networks_of(model.inference).plain, evaluation_set.windows), 0, model.rul_cap_cycles)
    assert found.rmse_cycles > evaluation_set.rmse_cycles(said)
    assert found.rise_cycles > 0


def of_three(model: Model, aggregation: Literal["mean", "median"]) -> Model:
    """The model with its network three times, in place of once."""
    plain = Networks.of(Ensemble.of(networks_of(model.inference).plain.networks * 3, aggregation))
    return replace(
        model,
        inference=plain.to_inference(),
        intervals={"plain": model.intervals["plain"]},
        life_bounds={"plain": model.life_bounds["plain"]},
    )


@pytest.mark.parametrize("aggregation", ["mean", "median"])
def test_attack_of_a_provoked_repair_does_not_lead_above_the_certificate(
    model: Model, prepared: Prepared, aggregation: Literal["mean", "median"]
) -> None:
    """Odd patterns within ε have honest channels replaced; the answer stays below what is certified for the rows."""
    found = repair_abuse.abuse_repair(of_three(model, aggregation), Histories.of(prepared.test), 0.2)
    assert (0.0, 0.0) == (found.beyond_share, found.largest_excess_cycles)
    assert 0.2 == found.epsilon_sigma


def test_the_repair_is_abused_within_the_smallest_budget_of_the_policy(bed: Testbed) -> None:
    found = repair_abuse.run(bed)
    assert repair_abuse.abuse_repair(bed.model, bed.histories, 0.2) == found
    assert bed.threats.adaptive.epsilon_sigma[0] == found.epsilon_sigma


def test_a_median_has_a_certificate_against_its_members_and_a_mean_has_none(bed: Testbed) -> None:
    assert {} == controlled_members.run(bed)
    found = controlled_members.run(replace(bed, model=of_three(bed.model, "median")))
    assert ["liars-0", "liars-1"] == list(found)
    assert set(found) <= writable_keys(replace(plan_of(bed), family="certified"))["median_certificate"]
    assert ("median_certificate/liars-0", "median_certificate/liars-1") == controlled_members.ATTACKS[0].names(found)


def test_a_repair_may_only_shorten_a_life(model: Model, prepared: Prepared) -> None:
    rows = [rows for rows, _ in prepared.test.histories()]
    worn, young = rows[0].copy(), rows[0].copy()
    worn[-10:, 1:] += 1.0
    young[-10:, 1:] -= 1.0
    said = [model.answer(told.astype(np.float32), len(told)) for told in (worn, rows[0], young)]
    assert said[0] < said[1] < said[2]
    assert said[1] == model.guarded_answer(rows[0], young, len(young)), "a lie that lengthens it is repaired"
    assert said[0] == model.guarded_answer(rows[0], worn, len(worn)), "one that shortens it is believed, and marked"
    median = of_three(model, "median")
    assert said[2] == pytest.approx(median.guarded_answer(rows[0], young, len(young)), abs=1e-4)


def test_more_questions_steal_more(bed: Testbed) -> None:
    found = extraction.run(seeded(bed))
    assert (["queries-30", "queries-400"], ["rounding-5"]) == (list(found.by_queries), list(found.by_rounding))
    few, many = found.by_queries.values()
    assert many.fidelity_rmse_cycles < few.fidelity_rmse_cycles
    assert many.near_share > few.near_share
    assert many.transfer_rise_cycles is not None and many.direct_rise_cycles is not None
    assert 0 < many.transfer_rise_cycles <= many.direct_rise_cycles + 1e-6
    assert few.transfer_rise_cycles is None and "transfer_rise_cycles" not in few.to_dict()


def test_members_learned_by_heart_are_told_apart_and_others_are_not(bed: Testbed) -> None:
    """An overfitted target: right about what it was trained on, wrong elsewhere. Both attacks must see it."""
    rng = np.random.default_rng(0)
    truth = rng.uniform(0, 90, 400).astype(np.float32)
    near, far = (truth + rng.normal(0, s, 400).astype(np.float32) for s in (0.5, 20.0))
    assert infer_membership(near, truth, far, truth) > 0.85
    same = truth + rng.normal(0, 5.0, 400).astype(np.float32)
    assert infer_membership(same[:200], truth[:200], same[200:], truth[200:]) == pytest.approx(0.5, abs=0.12)
    found = membership.run(seeded(bed))
    assert 0.25 < found.windows_auc < 0.85
    assert found.advantage >= 0
    assert ["rounding-5"] == list(found.rounded_auc)
    assert 0.25 < found.rounded_auc["rounding-5"] < 0.85
    assert 0 <= found.windows_found_share <= 1 and 0 <= found.units_auc <= 1


def test_families_are_compared_on_the_same_windows_and_the_candidate_is_not_trained_again(
    networks: Networks, prepared: Prepared, training: TrainParams
) -> None:
    short = training.with_few_epochs(1)
    units = short.certified.units
    quick = units.model_copy(update={"parts": 3, "recipe": units.recipe.model_copy(update={"least_steps": 0})})
    sensors = short.certified.sensors.model_copy(update={"parts": 3})
    certified = short.certified.model_copy(update={"units": quick, "sensors": sensors})
    found = compare(prepared, short.model_copy(update={"certified": certified}), networks).families
    assert ["accurate", "robust", "robust-commissioned", "certified-sensors", "certified-units"] == list(found)
    own = found["robust"].clean.rmse_cycles
    assert own < found["accurate"].clean.rmse_cycles, "one epoch against the candidate's many"
    assert {"liars-0", "liars-1"} == set(found["certified-units"].liars)
    assert {} == found["robust"].liars
