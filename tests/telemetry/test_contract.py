from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.telemetry.conftest import POLICY, oven_contract
from twinseal.digests import canonical_json, parse_json
from twinseal.errors import ConfigError
from twinseal.telemetry.contract import Channel, Contract

FINITE = st.floats(allow_nan=False, allow_infinity=False, width=32)
NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,20}", fullmatch=True).filter(
    lambda name: name not in ("unit", "cycle", "censored", "rul")
)


@st.composite
def channels(draw: st.DrawFn) -> dict[str, Any]:
    low, high = sorted([draw(FINITE), draw(FINITE)])
    return {
        "unit": draw(st.sampled_from(["K", "1", "N·m"])),
        "minimum": low,
        "maximum": high,
        "max_change_per_cycle": abs(draw(FINITE)),
        "missing_share": draw(st.floats(0, 0.99)),
        "used": True,
    }


@settings(deadline=None, max_examples=40)  # a busy machine is no bug
@given(st.dictionaries(NAMES, channels(), min_size=1, max_size=4))
def test_law_from_dict_of_to_dict_is_the_contract_also_by_way_of_canonical_json(sensors: dict[str, Any]) -> None:
    contract = Contract.from_dict(oven_contract() | {"settings": {}, "sensors": sensors})
    for value in (contract.to_dict(), parse_json(canonical_json(contract.to_dict()), "contract")):
        again = Contract.from_dict(value)
        # Dictionaries are equal in any order, and the network's channels are not.
        assert (contract, tuple(sensors)) == (again, again.channels)


def test_a_contract_is_proposed_or_accepted_and_a_model_carries_no_mark() -> None:
    plain = Contract.from_dict(oven_contract())
    for mark in ("proposed", "accepted"):
        marked = Contract.from_dict(oven_contract() | {mark: "from ovens.csv"})
        assert "from ovens.csv" == getattr(marked, mark)
        assert plain.to_dict() == marked.to_dict()
    with pytest.raises(ConfigError, match="expected proposed or accepted, got both"):
        Contract.from_dict(oven_contract() | {"proposed": "from ovens.csv", "accepted": "gerda, 2026-11-26"})


@pytest.mark.parametrize("order", [["load", "heat"], ["load", "heat", "glow", "glow"], "load", None, ["a", "b", "c"]])
def test_an_order_that_is_not_the_channels_is_refused(order: Any) -> None:
    with pytest.raises(ConfigError, match="order: expected each channel once"):
        Contract.from_dict(oven_contract() | {"order": order})


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 0.99, 2.01])
def test_a_channel_admits_nothing_outside_its_bounds_nor_nan(value: float) -> None:
    channel = Channel(unit="mm", minimum=1.0, maximum=2.0, max_change_per_cycle=1.0)
    assert [True, True, False] == [channel.admits(1.0), channel.admits(2.0), channel.admits(value)]


@pytest.mark.parametrize(
    ("defect", "complaint"),
    [
        ({"model": "Oven RUL"}, "model: expected lower-case"),
        ({"min_cycles": 1}, "min_cycles >= 2"),
        ({"max_quarantined_share": 1.0}, "max_quarantined_share < 1"),
        ({"max_quarantined_share": float("nan")}, "finite number"),
        ({"rul_cap_cycles": 0.0}, "rul_cap_cycles > 0"),
        ({"cycle": " "}, "what one cycle is"),
        ({"settings": {"heat": oven_contract()["settings"]["load"]}}, "each once"),
        ({"settings": {"rul": oven_contract()["settings"]["load"]}}, "plain names"),
        ({"settings": {"No Name": oven_contract()["settings"]["load"]}}, "plain names"),
        ({"max_quarantined_shares": 0.1}, "did you mean 'max_quarantined_share'"),
        ({"drift": {"max_psi": 0.0}}, "above zero"),
        ({"consistency": {"min_correlation": 1.0}}, "correlation < 1"),
        ({"consistency": {"window_cycles": 0}}, "at least one cycle"),
    ],
)
def test_a_contract_that_cannot_be_obeyed_cannot_be_built(defect: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        Contract.from_dict(oven_contract() | defect)


@pytest.mark.parametrize(
    ("defect", "complaint"),
    [
        ({"minimum": 500.0}, "minimum <= maximum"),
        ({"max_change_per_cycle": -1.0}, "expected >= 0"),
        ({"missing_share": 1.0}, "share < 1"),
        ({"unit": ""}, "physical unit"),
        ({"minimum": "200"}, "valid number"),
        ({"maximum": float("inf")}, "finite"),
        ({"minimun": 1.0}, "did you mean 'minimum'"),
    ],
)
def test_a_channel_that_nothing_could_satisfy_cannot_be_built(defect: dict[str, Any], complaint: str) -> None:
    sensors = oven_contract()["sensors"]
    with pytest.raises(ConfigError, match=complaint):
        Contract.from_dict(oven_contract() | {"sensors": {"heat": sensors["heat"] | defect}})


def test_a_contract_without_a_used_channel_is_none() -> None:
    load = oven_contract()["settings"]["load"] | {"used": False}
    with pytest.raises(ConfigError, match="at least one with 'used'"):
        Contract.from_dict(oven_contract() | {"settings": {"load": load}, "sensors": {}})


def test_policy_names_what_the_network_reads(pump: Contract, turbofan: Contract) -> None:
    assert (16, 2) == (len(pump.channels), len(pump.settings))
    assert tuple(f"s{n}" for n in (2, 3, 4, 7, 8, 9, 11, 12, 13, 14, 15, 17, 20, 21)) == turbofan.channels
    assert ("unit", "cycle", "censored", "rul", "setting1", "setting2", "setting3", "s1") == turbofan.columns[:8]
    assert ("pump-rul", "turbofan-rul") == (pump.model, turbofan.model)


def test_an_unknown_asset_names_the_nearest_known_one() -> None:
    with pytest.raises(ConfigError, match="did you mean 'turbofan'") as caught:
        Contract.load(POLICY, "turbofans")
    assert "Write a contract for it" in caught.value.remedy


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("assets: []", "one key 'assets'"),
        ("pump: {}", "one key 'assets'"),
        ("assets: {oven: 3}", "got \\['oven'\\]"),
        ("assets: {oven: {asset: pump}}", "the key above it already names the asset"),
        ("assets: {oven: {}}", "field required"),
        ("assets: {oven: {}, oven: {}}", "given twice"),
    ],
)
def test_a_malformed_policy_is_one_clear_error(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "contract.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=complaint):
        Contract.load(path, "oven")
