from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from tests.prognostics.conftest import SPLIT
from twinseal.config import parse
from twinseal.errors import ConfigError, DataError
from twinseal.prognostics.ensemble import Networks
from twinseal.prognostics.evaluation import estimates
from twinseal.prognostics.families import FAMILIES, MEDIANS, WITH_BASELINE
from twinseal.prognostics.fitting import Epoch, Recipe, fit
from twinseal.prognostics.median_certificates import ROUNDING_CYCLES
from twinseal.prognostics.metrics import rmse_cycles
from twinseal.prognostics.normaliser import pad
from twinseal.prognostics.raw_rows import in_own_units
from twinseal.prognostics.splitting import seed, unit_part
from twinseal.prognostics.training import (
    TrainParams,
    cross_validate,
    sensor_groups,
    train,
)
from twinseal.prognostics.windows import Prepared, PrepareParams, Windows, prepare
from twinseal.telemetry.contract import Contract
from twinseal.telemetry.fleet import Fleet

Trained = tuple[Networks, tuple[Epoch, ...]]


def weights(networks: Networks) -> list[tuple[str, bytes]]:
    return [(name, tensor.numpy().tobytes()) for name, tensor in networks.state_dict().items()]


@pytest.fixture(scope="module")
def by_sensors(toy_prepared: Prepared, toy_training: TrainParams) -> Networks:
    return train(toy_prepared, toy_training, family="certified", against="sensors")[0]


@pytest.fixture(scope="module")
def by_units(toy_prepared: Prepared, toy_training: TrainParams) -> Networks:
    return train(toy_prepared, toy_training, family="certified", against="units")[0]


def test_the_robust_family_has_a_network_for_any_unit_and_one_that_reads_the_baseline(toy_trained: Trained) -> None:
    modes = toy_trained[0].modes()
    assert {"plain": False, "commissioned": True} == {name: e.config.baseline for name, e in modes.items()}
    assert 20 == len(toy_trained[1])


def test_the_tables_of_the_families_are_what_training_builds(
    toy_trained: Trained, toy_prepared: Prepared, toy_training: TrainParams, by_sensors: Networks, by_units: Networks
) -> None:
    accurate = train(toy_prepared, toy_training, family="accurate")[0]
    built = [("robust", toy_trained[0]), ("accurate", accurate), ("certified", by_sensors), ("certified", by_units)]
    assert set(FAMILIES) == {family for family, _ in built}
    for family, networks in built:
        assert (family in WITH_BASELINE) == (networks.commissioned is not None), family
        assert (family in MEDIANS) == (networks.plain.config.aggregation == "median"), family


def test_the_accurate_family_is_the_mean_of_its_members(toy_prepared: Prepared, toy_training: TrainParams) -> None:
    networks, _ = train(toy_prepared, toy_training, family="accurate")
    assert ["plain"] == list(networks.modes())
    each = [estimates(member, toy_prepared.test) for member in networks.plain.members]  # type: ignore[arg-type]
    assert 2 == len(each)
    np.testing.assert_allclose(np.mean(each, axis=0), estimates(networks.plain, toy_prepared.test), atol=1e-4)
    assert each[0].tolist() != each[1].tolist()


def test_members_share_no_sensor_and_their_median_answers(by_sensors: Networks, toy_prepared: Prepared) -> None:
    inputs = [member.inputs for member in by_sensors.config.plain.members]
    assert [0, 1, 2] == sorted(index for group in inputs for index in group)
    each = [estimates(member, toy_prepared.test) for member in by_sensors.plain.members]  # type: ignore[arg-type]
    np.testing.assert_allclose(np.median(each, axis=0), estimates(by_sensors.plain, toy_prepared.test), atol=1e-4)


def test_a_lying_sensor_moves_one_vote_only(by_sensors: Networks, toy_prepared: Prepared) -> None:
    values = toy_prepared.test.batch()
    values[:, :, 1] = 1e6
    lied = toy_prepared.test.with_values(values)
    moved = [
        estimates(member, lied).tolist() != estimates(member, toy_prepared.test).tolist()  # type: ignore[arg-type]
        for member in by_sensors.plain.members
    ]
    assert [1 in member.inputs for member in by_sensors.config.plain.members] == moved


@pytest.mark.parametrize("poison", ["rows", "labels", "repeated", "quarantined"])
def test_attack_of_one_units_history_reaches_one_vote_only(
    make_fleet: Callable[..., Fleet],
    toy_contract: Contract,
    toy_params: PrepareParams,
    toy_training: TrainParams,
    poison: str,
) -> None:
    """Whatever one unit's history is made to say, before anything was prepared: the other parts learn the same.

    Not its labels alone: rows that move the fleet's mean and σ, rows without end, and a unit that screening sets aside.
    """
    honest = make_fleet(24)
    name = prepare(honest, toy_contract, toy_params, SPLIT).train.unit_names[2]
    table = honest.table.copy()
    mine = table["unit"] == name
    if poison == "rows":
        table.loc[mine, ["heat", "drone", "load"]] *= 3.0
    elif poison == "labels":
        table.loc[mine, "rul"] += 500
    elif poison == "repeated":
        told = pd.concat([table[mine]] * 20).assign(cycle=lambda t: np.arange(1, len(t) + 1))
        table = pd.concat([table[~mine], told.assign(rul=np.arange(len(told))[::-1])])
    else:
        table = table[~mine]
    pair = [prepare(fleet, toy_contract, toy_params, SPLIT) for fleet in (honest, Fleet.of(table))]
    before, after = (train(p, toy_training, family="certified", against="units")[0] for p in pair)
    moved = pair[0].normaliser.to_dict() != pair[1].normaliser.to_dict()
    assert moved == (poison not in ("labels", "repeated"))  # told twenty times it is still one unit
    honest_parts = [at for at in range(3) if at != unit_part(name, 3, SPLIT.salt)]
    for at in honest_parts:
        assert layers(before, at) == layers(after, at)
    raw = [rows for unit, rows in zip(pair[0].train.unit_names, pair[0].raw.units(), strict=True) if unit != name]
    said = [[answers(networks, p, rows) for rows in raw[:5]] for networks, p in ((before, pair[0]), (after, pair[1]))]
    apart = np.abs(np.array(said[0]) - np.array(said[1]))[:, honest_parts]
    assert float(apart.max()) < ROUNDING_CYCLES


def layers(networks: Networks, member: int) -> list[tuple[str, bytes]]:
    return [item for item in weights_of(networks, member) if ".layers." in item[0]]


def answers(networks: Networks, prepared: Prepared, raw: np.ndarray) -> list[float]:
    """What each member says of a unit's whole history, from its raw rows."""
    known = torch.from_numpy(pad(prepared.normaliser.apply(raw), prepared.window)[-prepared.window :])[None]
    context = torch.tensor([[float(len(raw)), 0.0, 0.0, 0.0]])
    return [float(value) for value in networks.plain.each(known, context)[:, 0]]


def test_a_member_of_a_part_says_the_same_in_the_fleets_scale_as_in_its_own(
    by_units: Networks, toy_prepared: Prepared, toy_training: TrainParams
) -> None:
    windows = toy_prepared.train
    part_of = np.array([unit_part(name, 3, SPLIT.salt) for name in windows.unit_names])[windows.units]
    mine, _ = in_own_units(toy_prepared.raw, windows.take(part_of == 1))
    recipe = toy_training.certified.units.recipe
    config = recipe.network(3, toy_prepared.window, 40.0, oldest_cycles=int(mine.cycles.max()))
    alone, _ = fit(mine, toy_prepared.validation, config, recipe, seed=seed(SPLIT.salt, "weights") + 3_001)
    shipped = estimates(by_units.plain.networks[1], windows.take(part_of == 1))
    np.testing.assert_allclose(estimates(alone, mine), shipped, atol=1e-3)


def weights_of(networks: Networks, member: int) -> list[tuple[str, bytes]]:
    return [item for item in weights(networks) if item[0].startswith(f"plain.members.{member}.")]


def test_a_unit_is_in_a_part_by_its_own_name_and_the_salt() -> None:
    once, again, other = ([unit_part(f"unit-{n}", 10, salt) for n in range(200)] for salt in ("7", "7", "8"))
    assert once == again != other
    assert set(range(10)) == set(once)


def in_parts(training: TrainParams, parts: int) -> TrainParams:
    units = training.certified.units.model_copy(update={"parts": parts, "recipe": Recipe(epochs=1, hidden=(4,))})
    certified = training.certified.model_copy(update={"against": "units", "units": units})
    return training.model_copy(update={"family": "certified", "certified": certified})


def test_parts_of_few_units_are_cross_validated_too(toy_prepared: Prepared, toy_training: TrainParams) -> None:
    """Of a part with one unit nothing is left in one fold: the others vote there."""
    names = [toy_prepared.train.unit_names[unit] for unit in np.unique(toy_prepared.train.units)]
    parts = [unit_part(name, 7, SPLIT.salt) for name in names]
    assert 1 == min(parts.count(part) for part in parts)
    found = cross_validate(toy_prepared, in_parts(toy_training, 7))["plain"]
    assert np.isfinite(found.estimates).all()
    assert len(toy_prepared.train) == len(found.estimates)


def test_a_part_without_a_unit_is_refused(toy_prepared: Prepared, toy_training: TrainParams) -> None:
    with pytest.raises(DataError, match=r"units: expected training units in each of 32 parts, got them in \d+"):
        train(toy_prepared, in_parts(toy_training, 32))


def test_the_best_sensors_are_dealt_out_first(toy_prepared: Prepared) -> None:
    windows = toy_prepared.train
    assert sorted(sensor_groups(windows, 3)) == [(0,), (1,), (2,)]
    paired = sensor_groups(twice(windows), 3)
    # heat and drone tell of wear, the load does not: no group has two that tell, and each has one of six
    told = {1, 2, 4, 5}
    assert [1, 1, 2] == sorted(len(told & set(group)) for group in paired)


def twice(windows: Windows) -> Windows:
    both = {key: np.tile(getattr(windows, key), (1, 2)) for key in ("rows", "baselines")}
    return replace(windows, **both)


def test_more_groups_than_sensors_are_refused(toy_prepared: Prepared) -> None:
    with pytest.raises(DataError, match="expected at least 5 channels for 5 groups, got 3"):
        sensor_groups(toy_prepared.train, 5)


def test_the_numbers_do_not_depend_on_how_many_processes_there_are(
    toy_trained: Trained, toy_prepared: Prepared, toy_training: TrainParams
) -> None:
    again, history = train(toy_prepared, toy_training, workers=2)
    assert weights(toy_trained[0]) == weights(again)
    assert toy_trained[1] == history


def test_out_of_fold_nobody_is_asked_about_a_unit_that_he_saw(
    toy_prepared: Prepared, toy_training: TrainParams
) -> None:
    """A unit's own labels cannot move what is said of it out of fold; those of the others do."""
    params = toy_training.model_copy(update={"folds": 4})
    before = cross_validate(toy_prepared, params)
    mine = toy_prepared.train.units == 2
    rul = np.where(mine, np.float32(40), toy_prepared.train.rul)
    after = cross_validate(replace(toy_prepared, train=replace(toy_prepared.train, rul=rul)), params)
    for mode in ("plain", "commissioned"):
        assert before[mode].estimates[mine].tolist() == after[mode].estimates[mine].tolist()
        assert before[mode].estimates[~mine].tolist() != after[mode].estimates[~mine].tolist()
    plain = before["plain"]  # eight units are too few to tell what a baseline means
    guess = rmse_cycles(np.full(len(mine), plain.truth.mean()), plain.truth)
    assert rmse_cycles(plain.estimates, plain.truth) < guess / 2


def test_more_folds_than_units_are_refused(toy_prepared: Prepared, toy_training: TrainParams) -> None:
    with pytest.raises(DataError, match="cross-validation: expected at least 20 training units, got 8"):
        cross_validate(toy_prepared, toy_training.model_copy(update={"folds": 20}))


def test_progress_is_told_of_the_first_network(toy_prepared: Prepared) -> None:
    seen: list[Epoch] = []
    quick = TrainParams(family="accurate", accurate=Recipe(epochs=2, members=2, hidden=(4,)))
    _, history = train(toy_prepared, quick, progress=seen.append)
    assert history == tuple(seen)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"family": "sturdy"}, "family"),
        ({"family": "robust", "seed": 7}, "seed: unknown key"),
        ({"family": "robust", "folds": 1}, "folds"),
        ({"robust": {"plain": {"kapa": 0.5}}}, "did you mean 'kappa'"),
        ({"certified": {"sensors": {"parts": 2}}}, "parts: expected 3 to 32, got 2"),
        ({"epochs": 3}, "unknown key"),
    ],
)
def test_params_out_of_range_are_refused_by_name(wrong: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        parse(TrainParams, wrong, "params.yaml: train")
