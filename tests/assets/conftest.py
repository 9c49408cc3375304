"""Exports that the tests of new assets share: small fleets of simulated pumps, written as plants write files."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest

from tests.telemetry.conftest import cmapss_folder, pump, turbofan
from twinseal.assets.proposal import Request
from twinseal.sources.simulated import SimulatedParams, simulate

__all__ = ["cmapss_folder", "pump", "turbofan"]

ROOT = Path(__file__).parents[2]
COLUMNS = ["unit", "cycle", "ambient_temperature", "high_pressure", "high_oil_temperature", "high_flow"]


@pytest.fixture(scope="session")
def pumps_table() -> pd.DataFrame:
    """Twenty pumps that fail, four channels, as a plant would keep them."""
    table = simulate(SimulatedParams(units=12, seed=5, test_share=0.0)).table[COLUMNS].round(5)
    return table.rename(columns={"unit": "Pump", "cycle": "Mission"})


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project of its own: policy/ and params.yaml."""
    shutil.copytree(ROOT / "policy", tmp_path / "project/policy")
    shutil.copy(ROOT / "params.yaml", tmp_path / "project/params.yaml")
    return tmp_path / "project"


def request_for(path: Path, **more: object) -> Request:
    return Request(asset="oven", paths=(path,), date="2026-11-26", **more)
