"""Fleets that the tests of telemetry share: real ones, made or read once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from typing import Any

import pandas as pd
import pytest

from twinseal.sources.cmapss import Cmapss, CmapssParams
from twinseal.sources.simulated import SimulatedParams, simulate
from twinseal.telemetry.contract import Contract
from twinseal.telemetry.fleet import Fleet
from twinseal.trust.ceremonies import ceremony
from twinseal.trust.root.home import Home
from twinseal.trust.root.roles import Roles

ROOT = Path(__file__).parents[2]
POLICY = ROOT / "policy" / "contract.yaml"


@pytest.fixture(scope="session")
def pump() -> Contract:
    return Contract.load(POLICY, "pump")


@pytest.fixture(scope="session")
def turbofan() -> Contract:
    return Contract.load(POLICY, "turbofan")


@pytest.fixture(scope="session")
def pumps() -> Fleet:
    """Twelve pumps, two of them censored."""
    return simulate(SimulatedParams(units=12, seed=3))


@pytest.fixture(scope="session")
def cmapss_folder() -> Path:
    folder = Path(os.environ.get("TWINSEAL_CMAPSS") or ROOT.parent / "shared/data/cmapss")
    if not (folder / "train_FD001.txt").is_file():
        pytest.skip(f"NASA's C-MAPSS is not at {folder}; name its folder in TWINSEAL_CMAPSS")
    return folder


@pytest.fixture(scope="session")
def engines(cmapss_folder: Path, turbofan: Contract) -> Fleet:
    """The first twenty train and twenty test engines of FD001."""
    return Cmapss.open(cmapss_folder, CmapssParams(max_units=20), turbofan).read()


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of a deployment with throw-away keys."""
    home = tmp_path_factory.mktemp("keys")
    ceremony.init_demo(Home(home), Roles.load(ROOT / "policy" / "roles.yaml"), datetime.now(UTC))
    return home


@pytest.fixture
def oven() -> Contract:
    """A kind of asset that nobody has heard of: one setting, two sensors, of which one may be absent."""
    return Contract.from_dict(oven_contract())


@pytest.fixture(scope="module")
def spark_is_here() -> Iterator[None]:
    """Skip where Spark or Java is not installed; its workers import the tests from the root of the repository."""
    wanted = {
        "pyspark (bash requirements/install.sh --with-spark)": find_spec("pyspark"),
        "Java (apt-get install openjdk-17-jre-headless)": which("java"),
    }
    missing = [name for name, there in wanted.items() if not there]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT / "src"), str(ROOT), os.environ.get("PYTHONPATH", "")]))
        yield


def oven_contract() -> dict[str, Any]:
    heat = {"unit": "K", "minimum": 200.0, "maximum": 400.0, "max_change_per_cycle": 20.0}
    return {
        "asset": "oven",
        "model": "oven-rul",
        "description": "an oven",
        "cycle": "one batch",
        "rul_cap_cycles": 10.0,
        "min_cycles": 3,
        "max_quarantined_share": 0.3,
        "settings": {"load": {"unit": "1", "minimum": 0.0, "maximum": 1.0, "max_change_per_cycle": 1.0}},
        "sensors": {"heat": heat, "glow": heat | {"missing_share": 0.25}},
    }


def oven_table(lives: dict[str, int], *, censored: tuple[str, ...] = ()) -> pd.DataFrame:
    """Ovens that warm by one kelvin a cycle and keep every rule."""
    rows = [
        {
            "unit": unit,
            "cycle": cycle,
            "censored": unit in censored,
            "rul": float(life - cycle + (5 if unit in censored else 0)),
            "load": 0.5,
            "heat": 300.0 + cycle,
            "glow": 310.0 + cycle,
        }
        for unit, life in lives.items()
        for cycle in range(1, life + 1)
    ]
    return pd.DataFrame(rows)
