"""Trees attacked, sensors owned by twos, models stolen, members told: on a real network and a real boosting."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pytest
import torch

from tests.robustness.conftest import SHORT_THEFT
from twinseal.config import parse
from twinseal.digests import canonical_json
from twinseal.prognostics.checkpoint import Model
from twinseal.prognostics.comparison import compare
from twinseal.prognostics.ensemble import Ensemble, Networks
from twinseal.prognostics.evaluation import estimates
from twinseal.prognostics.evaluation_set import EvaluationSet
from twinseal.prognostics.training import TrainParams
from twinseal.prognostics.windows import Prepared
from twinseal.robustness.attacks.boosted_trees import attack_trees
from twinseal.robustness.attacks.extraction import extract
from twinseal.robustness.attacks.false_age import false_ages
from twinseal.robustness.attacks.membership import infer
from twinseal.robustness.attacks.owned_sensors import owned, pairs
from twinseal.robustness.attacks.repair_abuse import repair_abuse
from twinseal.robustness.battery import beyond
from twinseal.robustness.histories import Histories
from twinseal.robustness.methods.art import infer_membership
from twinseal.robustness.methods.gradient import Box
from twinseal.robustness.threats import TheftThreat, Threats

THEFT = parse(TheftThreat, SHORT_THEFT, "theft")


@pytest.fixture(scope="session")
def quick(make_threats: Callable[..., Threats], short_threats: dict[str, Any]) -> Threats:
    """The shipped threats, all of them, each short."""
    return make_threats(**short_threats)


def test_all_of_it_is_the_same_in_one_process_or_two(model: Model, prepared: Prepared, quick: Threats) -> None:
    (one, lived), (two, again) = (beyond(model, prepared, quick, workers=workers) for workers in (1, 2))
    assert canonical_json(one) == canonical_json(two)
    assert lived == again
    told = {"experiment", "scenarios", "adaptive", "provoked", "guard"}
    assert told | {"sensors", "ages", "certificate", "trees", "theft", "membership"} == set(one)


def test_trees_attacked_err_more_with_more_room_and_never_less_than_clean(
    model: Model, prepared: Prepared, quick: Threats
) -> None:
    found = attack_trees(model.networks.plain, prepared, quick.boosting, seed=1)
    errors = [item["rmse_cycles"] for item in (found["clean"], *found["worst"].values())]
    assert ["eps-0.1", "eps-0.4"] == list(found["worst"])
    assert errors == sorted(errors)
    assert errors[0] + 1 < errors[1]


def test_questions_and_transfer_both_count(model: Model, prepared: Prepared, quick: Threats) -> None:
    """With a single question nothing is found by asking: what is left is what fools the network."""
    asked = attack_trees(model.networks.plain, prepared, quick.boosting, seed=1)
    few = quick.boosting.model_copy(update={"queries": 10})
    assert attack_trees(model.networks.plain, prepared, few, seed=1)["worst"] != asked["worst"]
    blunt = quick.boosting.model_copy(update={"steps": 1})
    assert attack_trees(model.networks.plain, prepared, blunt, seed=1)["worst"] != asked["worst"]


def test_two_sensors_of_a_linear_victim_do_what_both_do(prepared: Prepared) -> None:
    x = np.zeros((3, 4, 3), dtype=np.float32)
    weights = torch.tensor([1.0, -2.0, 0.5])
    box = Box(torch.full((3, 4, 3), -1.0), torch.full((3, 4, 3), 1.0))
    reached = pairs(lambda x, at: (x * weights).sum((1, 2)), x, box, np.array([0, 1, 2]), steps=4)  # type: ignore[arg-type]
    expected = 4 * np.array([[1, 3, 1.5], [3, 2, 2.5], [1.5, 2.5, 0.5]], dtype=np.float32)
    np.testing.assert_allclose(np.broadcast_to(expected[:, :, None], (3, 3, 3)), reached, rtol=1e-5)


def test_owned_sensors_by_twos_are_no_weaker_than_alone(model: Model, prepared: Prepared, quick: Threats) -> None:
    found = owned(model, EvaluationSet.of(prepared), quick.sensors)
    names = set(model.channels)
    assert names == set(found["pairs"]) == set(found["alone"])
    for a in names:
        for b in names:
            assert found["pairs"][a][b] == found["pairs"][b][a]
            assert found["pairs"][a][b] >= max(found["pairs"][a][a], found["pairs"][b][b]) - 1e-4
            assert 0 <= found["pairs"][a][b] <= model.rul_cap_cycles
    shares = [value["chosen_first_share"] for value in found["alone"].values()]
    assert sum(shares) == pytest.approx(1.0)


def test_a_false_age_does_no_less_than_the_true_one(model: Model, prepared: Prepared) -> None:
    evaluation_set = EvaluationSet.of(prepared)
    found = false_ages(model.networks.plain, evaluation_set)
    said = np.clip(estimates(model.networks.plain, evaluation_set.windows), 0, model.rul_cap_cycles)
    assert found["rmse_cycles"] > evaluation_set.rmse_cycles(said)
    assert found["rise_cycles"] > 0


@pytest.mark.parametrize("aggregation", ["mean", "median"])
def test_attack_of_a_provoked_repair_does_not_lead_above_the_certificate(
    model: Model, prepared: Prepared, aggregation: Literal["mean", "median"]
) -> None:
    """Odd patterns within ε have honest channels replaced; the answer stays below what is certified for the rows."""
    plain = Networks.of(Ensemble.of(model.networks.plain.networks * 3, aggregation))
    attacked = replace(model, networks=plain, intervals={"plain": model.intervals["plain"]})
    held = repair_abuse(attacked, Histories.of(prepared.test), 0.2)
    assert (0.0, 0.0) == (held["beyond_share"], held["largest_excess_cycles"])


def test_a_repair_may_only_shorten_a_life(model: Model, prepared: Prepared) -> None:
    rows = [rows for rows, _ in prepared.test.histories()]
    worn, young = rows[0].copy(), rows[0].copy()
    worn[-10:, 1:] += 1.0
    young[-10:, 1:] -= 1.0
    said = [model.answer(told.astype(np.float32), len(told)) for told in (worn, rows[0], young)]
    assert said[0] < said[1] < said[2]
    assert said[1] == model.guarded(rows[0], young, len(young)), "a lie that lengthens it is repaired"
    assert said[0] == model.guarded(rows[0], worn, len(worn)), "one that shortens it is believed, and marked"
    median = replace(
        model,
        networks=Networks.of(Ensemble.of(model.networks.plain.networks * 3, "median")),
        intervals={"plain": model.intervals["plain"]},
    )
    assert said[2] == pytest.approx(median.guarded(rows[0], young, len(young)), abs=1e-4)


def test_more_questions_steal_more(model: Model, prepared: Prepared) -> None:
    found = extract(model.networks.plain, prepared, THEFT, seed=1)
    few, many = found["queries-30"], found["queries-400"]
    assert many["fidelity_rmse_cycles"] < few["fidelity_rmse_cycles"]
    assert many["near_share"] > few["near_share"]
    assert 0 < many["transfer_rise_cycles"] <= many["direct_rise_cycles"] + 1e-6
    assert {"queries-30", "queries-400", "rounding-5"} == set(found)


def test_members_learned_by_heart_are_told_apart_and_others_are_not(networks: Networks, prepared: Prepared) -> None:
    """An overfitted target: right about what it was trained on, wrong elsewhere. Both attacks must see it."""
    rng = np.random.default_rng(0)
    truth = rng.uniform(0, 90, 400).astype(np.float32)
    near, far = (truth + rng.normal(0, s, 400).astype(np.float32) for s in (0.5, 20.0))
    assert infer_membership(near, truth, far, truth) > 0.85
    same = truth + rng.normal(0, 5.0, 400).astype(np.float32)
    assert infer_membership(same[:200], truth[:200], same[200:], truth[200:]) == pytest.approx(0.5, abs=0.12)
    found = infer(networks.plain, prepared, (5.0,), seed=1)
    assert 0.25 < found["windows_auc"] < 0.85
    assert found["advantage"] >= 0
    assert {"windows_auc", "units_auc", "windows_found_share", "advantage", "art_accuracy", "rounded_5_auc"} == set(
        found
    )


def test_families_are_compared_on_the_same_windows_and_the_candidate_is_not_trained_again(
    networks: Networks, prepared: Prepared, training: TrainParams
) -> None:
    short = training.shortened(1)
    units = short.certified.units
    quick = units.model_copy(update={"parts": 3, "recipe": units.recipe.model_copy(update={"least_steps": 0})})
    sensors = short.certified.sensors.model_copy(update={"parts": 3})
    certified = short.certified.model_copy(update={"units": quick, "sensors": sensors})
    found = compare(prepared, short.model_copy(update={"certified": certified}), networks)
    assert ["accurate", "robust", "robust-commissioned", "certified-sensors", "certified-units"] == list(found)
    own = found["robust"]["clean"]["rmse_cycles"]
    assert own < found["accurate"]["clean"]["rmse_cycles"], "one epoch against the candidate's many"
    assert {"liars-0", "liars-1"} == set(found["certified-units"]["liars"])
    assert "liars" not in found["robust"]
