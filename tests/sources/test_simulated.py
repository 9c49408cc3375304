from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from twinseal.config import parse
from twinseal.errors import ConfigError
from twinseal.sources.simulated import CHANNELS, Simulated, SimulatedParams, simulate
from twinseal.telemetry.contract import Contract
from twinseal.telemetry.fleet import Fleet
from twinseal.telemetry.screening import screen

SHORT = SimulatedParams(units=6, seed=5, test_share=0.5, life_cycles=(60, 70))


@pytest.fixture(scope="module")
def short() -> Fleet:
    return simulate(SHORT)


def test_the_same_seed_gives_the_same_fleet_and_another_gives_another(short: Fleet) -> None:
    pd.testing.assert_frame_equal(short.table, simulate(SHORT).table)
    other = simulate(SHORT.model_copy(update={"seed": 6}))
    assert not short.table.equals(other.table)


def test_numpys_global_seed_has_no_say(short: Fleet) -> None:
    np.random.seed(0)  # where ProgPy's own noise would draw from
    pd.testing.assert_frame_equal(short.table, simulate(SHORT).table)


def test_pumps_run_to_the_failure_or_are_cut_with_enough_history(short: Fleet) -> None:
    ends = {t.unit: (t.censored, float(t.rul_cycles[-1]), len(t)) for t in short.trajectories()}
    assert 3 == sum(censored for censored, _, _ in ends.values())
    assert [0.0] * 3 == [end for censored, end, _ in ends.values() if not censored]
    assert all(end >= 5 and length >= 30 for censored, end, length in ends.values() if censored)


def test_the_fleet_keeps_its_own_contract(pumps: Fleet, pump: Contract) -> None:
    assert CHANNELS == pumps.channels
    assert () == screen(pumps, pump)


def test_no_sensor_is_still_and_related_sensors_move_together(pumps: Fleet) -> None:
    table = pumps.table[list(CHANNELS)]
    assert table.std().min() > 0
    correlation = table.corr()
    assert correlation.loc["low_flow", "high_pressure"] > 0.9
    assert correlation.loc["low_oil_temperature", "high_oil_temperature"] > 0.9


def test_the_warm_up_tells_no_age(pumps: Fleet) -> None:
    """Without a burn-in the oil would be cold in every pump's first cycles."""
    oil = pumps.table.groupby("cycle")["low_oil_temperature"].mean()
    assert abs(oil.loc[1:3].mean() - oil.loc[10:20].mean()) < 1.5


def test_values_have_the_decimals_of_their_instrument(short: Fleet) -> None:
    flow = short.table["low_flow"].to_numpy(dtype=np.float64)
    assert np.abs(flow - flow.round(5)).max() < 1e-8


def test_an_asset_that_is_no_pump_is_not_simulated(turbofan: Contract) -> None:
    with pytest.raises(ConfigError, match="got 'turbofan'"):
        Simulated(SHORT, turbofan).read()


@pytest.mark.parametrize(
    "params", [{"units": 1}, {"units": 10_000}, {"seed": -1}, {"test_share": 1.0}, {"life_cycles": [70, 60]}]
)
def test_a_fleet_that_cannot_be_simulated_cannot_be_asked_for(params: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="expected"):
        parse(SimulatedParams, params, "data.simulated")
