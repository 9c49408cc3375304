from __future__ import annotations

from pathlib import Path

import grimp
import pytest

from tests.telemetry.conftest import ROOT
from twinseal.config import load, parse
from twinseal.errors import ConfigError
from twinseal.sources.cmapss import Cmapss
from twinseal.sources.data_params import DataParams, open_source
from twinseal.sources.simulated import Simulated
from twinseal.telemetry.contract import AssetParams, Contract

LATER = sorted(path.stem for path in (ROOT / "pipelines").glob("[a-z]*.py") if path.stem != "ingest")


def test_each_source_is_opened_by_name(cmapss_folder: Path, pump: Contract, turbofan: Contract) -> None:
    simulated = parse(DataParams, {"source": "simulated", "asset": "pump"}, "data")
    cmapss = parse(DataParams, {"source": "cmapss", "asset": "turbofan", "path": str(cmapss_folder)}, "data")
    assert isinstance(open_source(simulated, pump), Simulated)
    assert isinstance(open_source(cmapss, turbofan), Cmapss)
    assert () == open_source(simulated, pump).origin()


@pytest.mark.parametrize(
    ("params", "complaint"),
    [
        ({"source": "simulation", "asset": "pump"}, "one of simulated, .*, got 'simulation'; did you mean 'simulated'"),
        ({"source": "asset", "asset": "pump"}, "expected one of simulated, .*, got 'asset'"),
        ({"source": "cmapss", "asset": "turbofan"}, "expected a file or folder"),
        ({"source": "table", "asset": "oven", "path": "ovens.csv"}, "table: expected a section of this name"),
        ({"source": "simulated"}, "asset: field required"),
        ({"source": "simulated", "asset": "pump", "simulate": {}}, "did you mean 'simulated'"),
        ({"source": "simulated", "asset": "pump", "cmapss": {"subset": "FD005"}}, "(?i)expected one of FD001"),
        ({"source": "simulated", "asset": "pump", "cmapss": {"max_units": 1}}, "2 or more"),
    ],
)
def test_params_that_mean_nothing_are_refused(params: dict[str, object], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        parse(DataParams, params, "data")


def test_the_tracked_params_name_a_source_and_the_same_asset_for_every_stage() -> None:
    params = load(DataParams, ROOT / "params.yaml", section="data")
    assert params.asset == load(AssetParams, ROOT / "params.yaml", section="data").asset


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("twinseal", "pipelines", cache_dir=None)  # its cache outlives the files it describes


@pytest.mark.parametrize("stage", LATER)
def test_no_stage_after_ingest_imports_a_source(graph: grimp.ImportGraph, stage: str) -> None:
    """A new source, or a change of one, must not run the training again."""
    closure = graph.find_upstream_modules(f"pipelines.{stage}")
    assert "twinseal.errors" in closure
    assert [] == sorted(module for module in closure if module.startswith("twinseal.sources"))


def test_the_asset_is_read_without_the_section_of_its_source() -> None:
    """A later stage must not refuse, or even look at, what only ingest understands."""
    section = {"source": "mqtt", "asset": "pump", "mqtt": {"broker": "localhost"}}
    assert "pump" == parse(AssetParams, section, "data").asset
    with pytest.raises(ConfigError, match="asset: field required"):
        parse(AssetParams, {"source": "mqtt"}, "data")
