from __future__ import annotations

from pathlib import Path

import pytest

from twinseal.config import parse
from twinseal.errors import ConfigError
from twinseal.telemetry.cmapss import Cmapss
from twinseal.telemetry.contract import Contract
from twinseal.telemetry.simulated import Simulated
from twinseal.telemetry.sources import DataParams, open_source


def test_each_source_is_opened_by_name(cmapss_folder: Path, pump: Contract, turbofan: Contract) -> None:
    simulated = parse(DataParams, {"source": "simulated", "asset": "pump"}, "data")
    cmapss = parse(DataParams, {"source": "cmapss", "asset": "turbofan", "path": str(cmapss_folder)}, "data")
    assert isinstance(open_source(simulated, pump), Simulated)
    assert isinstance(open_source(cmapss, turbofan), Cmapss)
    assert () == open_source(simulated, pump).origin()


@pytest.mark.parametrize(
    ("params", "complaint"),
    [
        ({"source": "simulation", "asset": "pump"}, "'simulated', 'cmapss' or 'table'"),
        ({"source": "cmapss", "asset": "turbofan"}, "expected a file or folder"),
        ({"source": "table", "asset": "oven", "path": "ovens.csv"}, "expected a mapping"),
        ({"source": "simulated"}, "asset: field required"),
        ({"source": "simulated", "asset": "pump", "simulate": {}}, "did you mean 'simulated'"),
        ({"source": "simulated", "asset": "pump", "cmapss": {"subset": "FD005"}}, "(?i)expected one of FD001"),
        ({"source": "simulated", "asset": "pump", "cmapss": {"max_units": 1}}, "2 or more"),
    ],
)
def test_params_that_mean_nothing_are_refused(params: dict[str, object], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        parse(DataParams, params, "data")
