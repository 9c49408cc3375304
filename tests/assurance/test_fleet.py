"""The fleet that policy names: a verdict on another part of it, or on an easier one, is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.assurance.candidate import ABOUT, build, policy_for
from twinseal.assurance.gates import Gates, judge
from twinseal.config import load
from twinseal.prognostics.splitting import SplitPolicy

FLEETS = load(SplitPolicy, Path(__file__).parents[2] / "policy/evaluation.yaml").fleets


@pytest.mark.attack("P")
@pytest.mark.parametrize(
    ("section", "value"),
    [
        ("seed", 8),
        ("units", 5_000),
        ("test_share", 0.05),
        ("life_cycles", [145, 150]),
        ("six_regimes", 0),
        (None, "table"),
    ],
)
def test_a_fleet_that_is_easier(policy: Gates, section: str | None, value: Any) -> None:
    """The experimenter tries fleets, or parts of a data set, until the test set is easy enough for the gates"""
    statements = build()
    fleet = FLEETS["pump"]
    assert "PASSED" == judge(policy, statements, asset="pump", fleet=fleet, **ABOUT).result
    data = statements["ingest"].predicate["buildDefinition"]["externalParameters"]["data"]
    data |= {"source": value} if section is None else {"simulated": data["simulated"] | {section: value}}
    found = judge(policy, statements, asset="pump", fleet=fleet, **ABOUT)
    assert "FAILED" == found.result
    where = "source" if section is None else f"simulated.{section}"
    assert any(f"policy/evaluation.yaml: expected data.{where}: " in failure for failure in found.failures)


def test_a_part_of_c_mapss_is_not_c_mapss(policy: Gates) -> None:
    statements, about = build(asset="turbofan"), ABOUT | {"policy": policy_for("turbofan")}
    parameters = statements["ingest"].predicate["buildDefinition"]["externalParameters"]
    whole = {"subset": "FD001", "max_units": None}
    for part, expected in (
        ({}, ""),
        ({"max_units": 30}, "expected data.cmapss.max_units: None, got 30"),
        ({"subset": "FD003"}, "expected data.cmapss.subset: FD001, got FD003"),
    ):
        parameters["data"] = {"source": "cmapss", "cmapss": whole | part}
        found = judge(policy, statements, asset="turbofan", fleet=FLEETS["turbofan"], **about)
        assert bool(expected) == any(expected in item for item in found.failures if item.startswith("record of ingest"))


def test_a_record_without_params_is_of_no_fleet(policy: Gates) -> None:
    statements = build()
    del statements["ingest"].predicate["buildDefinition"]["externalParameters"]["data"]
    assert "FAILED" == judge(policy, statements, asset="pump", fleet=FLEETS["pump"], **ABOUT).result
    assert "PASSED" == judge(policy, statements, asset="pump", fleet=None, **ABOUT).result
