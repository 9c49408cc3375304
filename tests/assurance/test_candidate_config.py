"""What kind of model a candidate is, read from a real model of every family and from the record of its training."""

from __future__ import annotations

import numpy as np
import pytest

from tests.assurance.candidate import KINDS, Kind, build, config, family_of, params
from tests.twin.deployment import guard_without_calibration
from twinseal.assurance.candidate_config import CandidateConfig
from twinseal.evidence import Statement
from twinseal.prognostics.architecture import Architecture, EnsembleConfig, NetworkConfig
from twinseal.prognostics.checkpoint import Model
from twinseal.prognostics.conformal import Intervals
from twinseal.prognostics.ensemble import Networks
from twinseal.prognostics.life_bounds import LifeBound
from twinseal.prognostics.normaliser import Normaliser
from twinseal.telemetry.contract import Contract

CHANNELS, WINDOW = 14, 100
INTERVALS = Intervals(coverage=0.9, edges=(), below=(5.0,), above=(5.0,), cap_cycles=125.0)
LIFE_BOUND = LifeBound(edges=(20.0,), margins=(10.0,), lives=20, false_lock_share=0.05, unknown_cycles=10.0)


def contract() -> Contract:
    channel = {"unit": "K", "minimum": -1000.0, "maximum": 1000.0, "max_change_per_cycle": 100.0}
    about = {"asset": "pump", "model": "pump-rul", "description": "A toy", "cycle": "One turn", "rul_cap_cycles": 125.0}
    sensors = {f"s{index}": channel for index in range(CHANNELS)}
    return Contract.from_dict(
        about | {"min_cycles": 10, "max_quarantined_share": 0.1, "settings": {}, "sensors": sensors}
    )


def model(kind: Kind) -> Model:
    """A model of the kind, its weights as they come."""
    expected = config(kind)

    def member(inputs: tuple[int, ...] = tuple(range(CHANNELS)), *, baseline: bool = False) -> NetworkConfig:
        return NetworkConfig.for_window(CHANNELS, WINDOW, hidden=(4,), inputs=inputs, baseline=baseline)

    members = [member()] * expected.plain.members
    if kind == "certified-sensors":
        members = [member((at, at + 5)) for at in range(expected.plain.members)]
    plain = EnsembleConfig(members=tuple(members), aggregation=expected.plain.aggregation)
    signed = EnsembleConfig(members=(member(baseline=True),) * 3) if kind == "robust" else None
    networks = Networks(Architecture(plain=plain, commissioned=signed)).eval()
    intervals = dict.fromkeys(networks.modes(), INTERVALS)
    normaliser = Normaliser.fit(np.random.default_rng(1).normal(size=(200, CHANNELS)))
    return Model(
        networks.to_inference(),
        contract(),
        normaliser,
        family_of(kind),
        guard_without_calibration(CHANNELS),
        intervals,
        dict.fromkeys(intervals, LIFE_BOUND),
    )


@pytest.mark.parametrize("kind", KINDS)
def test_the_config_of_every_family_is_what_its_model_and_its_training_say(kind: Kind) -> None:
    assert CandidateConfig.of(model(kind), build(kind)["train"]) == config(kind)


def test_without_a_sound_record_of_the_training_nothing_is_said_of_the_defence(
    statements: dict[str, Statement],
) -> None:
    definition = statements["train"].predicate["buildDefinition"]
    for spoilt in ({}, {"train": {"family": "robust", "epochs": 3}}, {"train": "robust"}, None):
        definition["externalParameters"] = spoilt
        found = CandidateConfig.of(model("robust"), statements["train"])
        assert (found.family, found.plain.members) == ("robust", 3)
        assert (found.plain.epsilon_sigma, found.plain.epochs, found.plain.defended) == (None, None, False)
    assert CandidateConfig.of(model("robust"), None).plain.epsilon_sigma is None


def test_the_params_of_another_family_say_nothing_of_this_one(statements: dict[str, Statement]) -> None:
    given = statements["train"].predicate["buildDefinition"]["externalParameters"]
    given["train"] = params("accurate").model_dump(mode="json")
    assert CandidateConfig.of(model("robust"), statements["train"]).plain.epsilon_sigma is None


def test_a_recipe_without_epsilon_is_no_defence(statements: dict[str, Statement]) -> None:
    given = statements["train"].predicate["buildDefinition"]["externalParameters"]["train"]
    given["robust"]["plain"]["epsilon_sigma"] = 0.0
    found = CandidateConfig.of(model("robust"), statements["train"])
    assert found.commissioned
    assert (found.plain.defended, found.commissioned.defended) == (False, True)
