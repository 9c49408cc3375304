"""A small fleet of wearing machines, a network trained on it, and attackers with small budgets."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from twinseal.config import parse, read_yaml
from twinseal.guard.calibration import fit as fit_guard
from twinseal.measures.robustness import EvasionMeasures
from twinseal.prognostics.checkpoint import Model
from twinseal.prognostics.conformal import Intervals
from twinseal.prognostics.ensemble import Ensemble, Networks, networks_of
from twinseal.prognostics.fitting import Recipe
from twinseal.prognostics.life_bounds import LifeBound
from twinseal.prognostics.splitting import Split, SplitPolicy
from twinseal.prognostics.training import RobustRecipes, TrainParams, train
from twinseal.prognostics.windows import Prepared, PrepareParams, prepare
from twinseal.robustness.attack import Testbed
from twinseal.robustness.attack_checks import AttackRuns, flags
from twinseal.robustness.attacks.evasion import attack_all, measure_runs
from twinseal.robustness.threats import Threats
from twinseal.telemetry.contract import Contract
from twinseal.telemetry.fleet import Fleet

POLICY = Path(__file__).parents[2] / "policy" / "threats.yaml"
PREPARATION = PrepareParams(window=20)
SPLIT = Split(SplitPolicy(validation_share=0.2, cuts_per_unit=6), "1138")
RECIPE = Recipe(epochs=25, batch=64, hidden=(16, 16), epsilon_sigma=0.1, kappa=0.3)
TRAINING = TrainParams(family="robust", robust=RobustRecipes(plain=RECIPE, commissioned=RECIPE))

CONTRACT = Contract.from_dict(
    {
        "asset": "toy",
        "model": "toy-rul",
        "description": "A machine that wears",
        "cycle": "One turn",
        "rul_cap_cycles": 90.0,
        "min_cycles": 10,
        "max_quarantined_share": 0.1,
        "settings": {"load": {"unit": "kN", "minimum": 0.0, "maximum": 10.0, "max_change_per_cycle": 6.0}},
        "sensors": {
            "heat": {"unit": "K", "minimum": 290.0, "maximum": 330.0, "max_change_per_cycle": 8.0},
            "hum": {"unit": "mm/s", "minimum": 5.0, "maximum": 20.0, "max_change_per_cycle": 3.0},
        },
    }
)


def wearing_fleet(units: int, seed: int = 5) -> Fleet:
    """Units of 80 to 120 cycles whose heat and hum rise with wear; their load says nothing."""
    rng, frames = np.random.default_rng(seed), []
    for index in range(units):
        life = int(rng.integers(80, 121))
        wear = (np.arange(1, life + 1) / life) ** 2
        columns = {
            "unit": f"unit-{index:02d}",
            "cycle": np.arange(1, life + 1),
            "censored": False,
            "rul": np.arange(life)[::-1],
            "load": rng.normal(5.0, 0.5, life),
            "heat": 300.0 + 20.0 * wear + rng.normal(0.0, 1.0, life),
            "hum": 10.0 + 5.0 * wear + rng.normal(0.0, 0.3, life),
        }
        frames.append(pd.DataFrame(columns))
    return Fleet.of(pd.concat(frames))


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def preparation() -> PrepareParams:
    return PREPARATION


@pytest.fixture(scope="session")
def split() -> Split:
    return SPLIT


@pytest.fixture(scope="session")
def training() -> TrainParams:
    return TRAINING


@pytest.fixture(scope="session")
def contract() -> Contract:
    return CONTRACT


@pytest.fixture(scope="session")
def fleet() -> Fleet:
    return wearing_fleet(20)


@pytest.fixture(scope="session")
def prepared(fleet: Fleet, contract: Contract) -> Prepared:
    return prepare(fleet, contract, PREPARATION, SPLIT)


@pytest.fixture(scope="session")
def networks(prepared: Prepared) -> Networks:
    torch.set_num_threads(1)
    return train(prepared, TRAINING)[0]


@pytest.fixture(scope="session")
def shipped() -> dict[str, Any]:
    """policy/threats.yaml as plain data."""
    return read_yaml(POLICY)


@pytest.fixture(scope="session")
def make_threats(shipped: dict[str, Any]) -> Callable[..., Threats]:
    """The shipped threats for the toy asset, with some keys said otherwise."""

    def made(**changes: Any) -> Threats:
        value = copy.deepcopy(shipped)
        injection = {"sensors": ["heat", "hum"], "biased_percent": 2.0, "random_percent": [1.0, 3.0]}
        value["assets"]["toy"] = {
            "injection": injection | {"continuous_from_cycle": 40, "interim_cycles": 5},
            "trigger": {"channel": "load", "shift_sigma": -3.0, "rows": 4},
        }
        return parse(Threats, value | changes, "threats")

    return made


@pytest.fixture(scope="session")
def short(shipped: dict[str, Any]) -> dict[str, Any]:
    """Sections of the shipped threats, all attackers that the battery tries, each short."""
    every, asked, _ = shipped["evasion"]
    scenarios = [item | {"rows": 12, "sizes": item["sizes"][:1]} for item in shipped["scenarios"] if "sizes" in item]
    trees = {"rounds": 30, "queries": 60, "epsilon_sigma": [0.1, 0.4]}
    held = {"most": 2, "rows": [12], "machines": 3, "sets": 1, "rounds": 1, "steps": 10}
    own = {"boosted_trees": trees, "held_sensors": held}
    return {
        "evasion": [
            every | {"attacks": ["pgd", "strong"], "epsilon_sigma": [0.1, 0.25], "pgd_steps": 8},
            asked | {"epsilon_sigma": [0.1, 0.25], "queries": 20},
        ],
        "attacks": shipped["attacks"] | {name: shipped["attacks"][name] | short for name, short in own.items()},
        "adaptive": shipped["adaptive"] | {"rows": 10, "epsilon_sigma": [0.2], "rounds": 1, "steps": 20},
        "sensors": shipped["sensors"] | {"most": 2, "steps": 3},
        "scenarios": scenarios[:1],
        "extraction": shipped["extraction"] | {"queries": [30, 400], "rounding_cycles": [5.0], "epsilon_sigma": 0.1},
    }


@pytest.fixture(scope="session")
def quick(make_threats: Callable[..., Threats], short: dict[str, Any]) -> Threats:
    """The shipped threats, each short."""
    return make_threats(**short)


@pytest.fixture(scope="session")
def threats(make_threats: Callable[..., Threats]) -> Threats:
    return make_threats()


@pytest.fixture(scope="session")
def model(networks: Networks, prepared: Prepared, contract: Contract) -> Model:
    """A whole candidate: with a guard of its own, and intervals wide enough for anything."""
    unseen = prepared.validation.histories() + prepared.test.histories()
    guard = fit_guard(prepared.train.histories(), unseen, contract, prepared.normaliser.restore)
    wide = Intervals(coverage=0.9, edges=(), below=(90.0,), above=(90.0,), cap_cycles=90.0)
    life = LifeBound(edges=(60.0,), margins=(30.0,), lives=20, false_lock_share=0.05, unknown_cycles=10.0)
    return Model(
        networks.to_inference(),
        contract,
        prepared.normaliser,
        "robust",
        guard,
        dict.fromkeys(networks.modes(), wide),
        dict.fromkeys(networks.modes(), life),
    )


@pytest.fixture(scope="session")
def network(networks: Networks) -> Ensemble:
    """What answers for any unit."""
    return networks.plain


@pytest.fixture(scope="session")
def testbed(model: Model, prepared: Prepared, threats: Threats) -> Testbed:
    """The candidate, its windows and every threat of the shipped policy."""
    return Testbed(model, prepared, threats)


@pytest.fixture(scope="session")
def runs(testbed: Testbed) -> AttackRuns:
    """Every attack of the policy on the network that answers for any unit."""
    torch.set_num_threads(1)
    return attack_all(networks_of(testbed.model.inference).plain, testbed)


@pytest.fixture(scope="session")
def evasion(runs: AttackRuns, threats: Threats) -> EvasionMeasures:
    return measure_runs(runs, flags(runs, threats.sanity))
