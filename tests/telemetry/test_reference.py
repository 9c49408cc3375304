from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.telemetry.conftest import POLICY, ROOT, oven_contract, oven_table
from twinseal.config import parse
from twinseal.errors import ConfigError
from twinseal.files import write_json
from twinseal.telemetry.contract import Contract
from twinseal.telemetry.fleet import Fleet
from twinseal.telemetry.reference import ChannelReference, Reference, bin_shares, smallest_share, stability_index

BINS = st.lists(st.floats(0.01, 1.0), min_size=4, max_size=4).map(lambda items: [item / sum(items) for item in items])


@settings(deadline=None, max_examples=40)  # a busy machine is no bug
@given(BINS, BINS)
def test_laws_of_the_stability_index(p: list[float], q: list[float]) -> None:
    assert 0.0 == stability_index(p, p)
    assert stability_index(p, q) >= 0.0
    assert stability_index(p, q) == pytest.approx(stability_index(q, p))


def test_an_empty_bin_is_a_large_shift_and_no_infinity() -> None:
    assert 8.0 < stability_index((0.0, 1.0), (1.0, 0.0)) < 20.0


def test_an_empty_bin_counts_as_half_a_unit_of_the_smaller_fleet() -> None:
    assert 0.5 / 24 == smallest_share(150, 24) == smallest_share(24, 150)
    assert 1e-4 == smallest_share(10_000, 9_000)
    p, without = (0.1,) * 10, (*(1 / 9,) * 9, 0.0)
    found = [stability_index(p, without, smallest=smallest_share(150, units)) for units in (12, 24, 60, 150)]
    assert found == sorted(found)
    assert found[1] < 0.25 < found[3]
    filled = (*(0.11,) * 9, 0.01)  # more than half a unit of 60: counted as it is
    assert stability_index(p, filled) == stability_index(p, filled, smallest=smallest_share(150, 60))


def test_24_pumps_of_seed_7_are_no_drift() -> None:
    """The bins of low_thrust_temperature: by chance, none of these pumps wears fastest in its thrust bearing."""
    seed_7 = (0.1263, 0.1041, 0.1165, 0.1171, 0.094, 0.13, 0.1169, 0.1176, 0.0775, 0.0)
    reference = Reference.load(ROOT / "policy" / "reference.yaml", Contract.load(POLICY, "pump"))
    assert reference is not None
    p = reference.channels["low_thrust_temperature"].shares
    assert 0.72 == pytest.approx(stability_index(p, seed_7), abs=0.01)
    assert stability_index(p, seed_7, smallest=smallest_share(reference.units, 24)) < 0.2


def test_a_value_on_an_edge_belongs_below_it_and_nothing_nowhere() -> None:
    assert (0.5, 0.25, 0.25) == bin_shares(np.array([0.0, 1.0, 1.5, 3.0]), [1.0, 2.0])
    assert (0.0, 0.0) == bin_shares(np.array([]), [1.0])


def test_a_reference_describes_each_channel(oven: Contract) -> None:
    fleet = Fleet.of(oven_table({"a": 3, "b": 3}))
    heat = Reference.of(fleet, oven).channels["heat"]
    assert (302.0, 301.0, 303.0, 1.0) == (heat.mean, heat.minimum, heat.maximum, heat.max_change_per_cycle)
    assert 1.0 == pytest.approx(sum(heat.shares))
    got = bin_shares(np.sort(fleet.table["heat"].to_numpy()), heat.edges)
    assert pytest.approx(0.0, abs=1e-9) == stability_index(heat.shares, got)


def test_a_reference_comes_back_from_json(pumps: Fleet, pump: Contract, tmp_path: Path) -> None:
    reference = Reference.of(pumps, pump)
    write_json(tmp_path / "reference.json", reference.to_dict())
    value = json.loads((tmp_path / "reference.json").read_text())
    assert reference == parse(Reference, value, "reference")


def test_policy_has_a_reference_for_both_assets(pump: Contract, turbofan: Contract) -> None:
    path = ROOT / "policy" / "reference.yaml"
    assert [150, 200] == [Reference.load(path, contract).units for contract in (pump, turbofan)]  # type: ignore[union-attr]


def test_an_asset_without_one_has_none(oven: Contract) -> None:
    assert None is Reference.load(ROOT / "policy" / "reference.yaml", oven)


def test_a_reference_with_other_channels_than_the_contract_is_refused(tmp_path: Path, oven: Contract) -> None:
    reference = Reference.of(Fleet.of(oven_table({"a": 3})), oven).to_dict()
    del reference["channels"]["glow"]
    write_json(tmp_path / "reference.yaml", {"assets": {"oven": reference}})
    with pytest.raises(ConfigError, match="channels of the contract"):
        Reference.load(tmp_path / "reference.yaml", oven)


@pytest.mark.attack("P")
def test_the_numbers_of_a_refused_fleet_are_no_reference(tmp_path: Path, oven: Contract) -> None:
    """The numbers of a fleet that was refused are put where the reference is."""
    fleet = Fleet.of(oven_table({"a": 3}))
    write_json(tmp_path / "reference.yaml", {"assets": {"oven": Reference.of(fleet, oven).to_dict()}})
    assert 1 == Reference.load(tmp_path / "reference.yaml", oven).units  # type: ignore[union-attr]
    write_json(tmp_path / "reference.yaml", {"assets": {"oven": Reference.of(fleet, oven, refused=True).to_dict()}})
    with pytest.raises(ConfigError, match="expected an accepted fleet.*got one of a refused fleet"):
        Reference.load(tmp_path / "reference.yaml", oven)


def test_a_fleet_without_a_value_has_no_numbers_for_that_channel(oven: Contract) -> None:
    table = oven_table({"a": 3}).assign(heat=np.nan, glow=[300.0, np.inf, np.nan])
    reference = Reference.of(Fleet.of(table), oven, refused=True)
    assert {"load", "glow"} == set(reference.channels)
    assert 300.0 == reference.channels["glow"].maximum


def test_each_operating_point_has_numbers_of_its_own(oven: Contract) -> None:
    two = two_loads()
    table = oven_table({"a": 4, "b": 4}).assign(
        load=[0.25, 0.75, 0.25, 0.75] * 2, heat=[300.0, 350.0, 304.0, 356.0] * 2
    )
    reference = Reference.of(Fleet.of(table), two)
    assert [((0.25,), 2, 4), ((0.75,), 2, 4)] == [(r.point, r.units, r.rows) for r in reference.regimes]
    assert [(302.0, 2.0, 2.0), (353.0, 3.0, 3.0)] == [
        (heat.mean, heat.sigma, heat.max_change_per_cycle)
        for heat in (regime.channels["heat"] for regime in reference.regimes)
    ]
    assert (300.0, 356.0, 3.0) == (
        *(reference.channels["heat"].minimum, reference.channels["heat"].maximum),
        reference.channels["heat"].max_change_per_cycle,
    )
    assert reference == parse(Reference, json.loads(json.dumps(reference.to_dict())), "reference")


def test_a_reference_at_other_operating_points_than_the_contracts_is_refused(tmp_path: Path) -> None:
    two = two_loads()
    table = oven_table({"a": 4, "b": 4}).assign(load=[0.25, 0.75, 0.25, 0.75] * 2)
    path = tmp_path / "reference.yaml"
    write_json(path, {"assets": {"oven": Reference.of(Fleet.of(table), two).to_dict()}})
    assert Reference.load(path, two) is not None
    with pytest.raises(ConfigError, match="at the contract's operating points, got others"):
        Reference.load(path, two_loads([[0.25], [0.6]]))


def two_loads(points: list[list[float]] | None = None) -> Contract:
    """Ovens of two loads."""
    plain = oven_contract()
    plain["settings"]["load"]["used"] = False
    return Contract.from_dict(
        plain | {"regimes": {"settings": ["load"], "within": [0.1], "points": points or [[0.25], [0.75]]}}
    )


def test_a_policy_file_that_is_no_reference_is_refused(tmp_path: Path, oven: Contract) -> None:
    (tmp_path / "reference.yaml").write_text("oven: {}")
    with pytest.raises(ConfigError, match="one key 'assets'"):
        Reference.load(tmp_path / "reference.yaml", oven)


@pytest.mark.parametrize(
    ("edges", "shares_"),
    [([2.0, 1.0], [0.5, 0.25, 0.25]), ([1.0], [1.0]), ([1.0], [0.5, 0.4]), ([1.0], [1.5, -0.5])],
)
def test_bins_that_are_none_cannot_be_built(edges: list[float], shares_: list[float]) -> None:
    value = {"mean": 0.0, "sigma": 1.0, "minimum": 0.0, "maximum": 1.0, "max_change_per_cycle": 0.0}
    with pytest.raises(ConfigError, match="rising edges"):
        parse(ChannelReference, value | {"edges": edges, "shares": shares_}, "reference")
