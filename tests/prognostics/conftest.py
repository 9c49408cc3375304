"""A small fleet of wearing machines, prepared, trained and written once for the session."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from twinseal.guard.calibration import fit as fit_guard
from twinseal.prognostics.checkpoint import Model, write_model
from twinseal.prognostics.conformal import Intervals
from twinseal.prognostics.ensemble import Networks
from twinseal.prognostics.fitting import Epoch, Recipe
from twinseal.prognostics.life_bounds import LifeBound
from twinseal.prognostics.network import RulNetwork
from twinseal.prognostics.splitting import Split, SplitPolicy
from twinseal.prognostics.training import CertifiedRecipes, Partition, RobustRecipes, TrainParams, train
from twinseal.prognostics.windows import Prepared, PrepareParams, prepare
from twinseal.telemetry.contract import Contract
from twinseal.telemetry.fleet import Fleet

PARAMS = PrepareParams(window=20)
SPLIT = Split(SplitPolicy(validation_share=0.2, cuts_per_unit=6), "274")
INTERVALS = Intervals(coverage=0.9, edges=(20.0,), below=(4.0, 9.0), above=(4.0, 9.0), cap_cycles=40.0)
LIFE_BOUND = LifeBound(edges=(20.0,), margins=(10.0,), lives=20, false_lock_share=0.05, unknown_cycles=10.0)
RECIPE = Recipe(epochs=20, batch=32, hidden=(16, 16), epsilon_sigma=0.1)
TRAINING = TrainParams(
    family="robust",
    robust=RobustRecipes(plain=RECIPE, commissioned=RECIPE),
    accurate=Recipe(epochs=20, batch=32, hidden=(16, 16), components=2, members=2),
    certified=CertifiedRecipes(sensors=Partition(parts=3, recipe=RECIPE), units=Partition(parts=3, recipe=RECIPE)),
)


def wearing_fleet(units: int, *, censored: int = 0, seed: int = 5) -> Fleet:
    """Units of 50 to 90 cycles whose heat and drone rise with wear; the last `censored` stop 25 cycles early."""
    rng, frames = np.random.default_rng(seed), []
    for index in range(units):
        life = int(rng.integers(50, 91))
        seen = life - 25 if index >= units - censored else life
        wear = (np.arange(1, life + 1) / life) ** 2
        columns = {
            "unit": f"unit-{index:02d}",
            "cycle": np.arange(1, life + 1),
            "censored": seen < life,
            "rul": np.arange(life)[::-1],
            "load": rng.normal(5.0, 0.5, life),
            "heat": 300.0 + 20.0 * wear + rng.normal(0.0, 1.0, life),
            "drone": 1.0 + wear + rng.normal(0.0, 0.1, life),
        }
        frames.append(pd.DataFrame(columns).head(seen))
    return Fleet.of(pd.concat(frames))


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def make_fleet() -> Callable[..., Fleet]:
    return wearing_fleet


@pytest.fixture(scope="session")
def toy_params() -> PrepareParams:
    return PARAMS


@pytest.fixture(scope="session")
def toy_split() -> Split:
    return SPLIT


@pytest.fixture(scope="session")
def toy_training() -> TrainParams:
    return TRAINING


@pytest.fixture(scope="session")
def toy_contract() -> Contract:
    channel = {"unit": "K", "minimum": -1000.0, "maximum": 1000.0, "max_change_per_cycle": 100.0}
    return Contract.from_dict(
        {
            "asset": "toy",
            "model": "toy-rul",
            "description": "A machine that wears",
            "cycle": "One turn",
            "rul_cap_cycles": 40.0,
            "min_cycles": 10,
            "max_quarantined_share": 0.1,
            "settings": {"load": channel},
            "sensors": {"heat": channel, "drone": channel},
        }
    )


@pytest.fixture(scope="session")
def toy_fleet() -> Fleet:
    return wearing_fleet(14)


@pytest.fixture(scope="session")
def toy_prepared(toy_fleet: Fleet, toy_contract: Contract) -> Prepared:
    return prepare(toy_fleet, toy_contract, PARAMS, SPLIT)


@pytest.fixture(scope="session")
def toy_trained(toy_prepared: Prepared) -> tuple[Networks, tuple[Epoch, ...]]:
    return train(toy_prepared, TRAINING)


@pytest.fixture(scope="session")
def toy_network(toy_trained: tuple[Networks, tuple[Epoch, ...]]) -> RulNetwork:
    """The only member of the ensemble that answers for any unit."""
    network: RulNetwork = toy_trained[0].plain.members[0]  # type: ignore[assignment]
    return network


@pytest.fixture(scope="session")
def toy_context(toy_prepared: Prepared) -> torch.Tensor:
    return torch.from_numpy(toy_prepared.test.context())


def complete(networks: Networks, contract: Contract, prepared: Prepared) -> Model:
    """A model with a guard of its own."""
    histories, unseen = prepared.train.histories(), prepared.validation.histories()
    guard = fit_guard(histories, unseen, contract, prepared.normaliser.restore)
    intervals = dict.fromkeys(networks.modes(), INTERVALS)
    return Model(
        networks.to_inference(),
        contract,
        prepared.normaliser,
        "robust",
        guard,
        intervals,
        dict.fromkeys(intervals, LIFE_BOUND),
    )


@pytest.fixture(scope="session")
def toy_model(
    toy_trained: tuple[Networks, tuple[Epoch, ...]],
    toy_contract: Contract,
    toy_prepared: Prepared,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A directory with the trained model's files. Read only."""
    directory = tmp_path_factory.mktemp("toy") / "model"
    write_model(directory, complete(toy_trained[0], toy_contract, toy_prepared))
    return directory
