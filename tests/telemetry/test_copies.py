from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tests.telemetry.conftest import oven_table
from twinseal.telemetry.contract import Contract
from twinseal.telemetry.copies import find_copies
from twinseal.telemetry.fleet import Fleet
from twinseal.telemetry.screening import BESIDE_OTHERS, screen
from twinseal.telemetry.validation import examine


def with_copy(fleet: Fleet, *, shift: int = 0, noise_sigma: float = 0.0) -> Fleet:
    """The fleet and one unit more: the first one, without its first cycles, its sensors a little changed."""
    first = fleet.trajectory(fleet.units[0]).frame.iloc[shift:].copy()
    rng = np.random.default_rng(1)
    for name in fleet.channels:
        noise = rng.normal(0, noise_sigma * float(np.diff(first[name]).std()), len(first))
        first[name] += noise.astype(np.float32)
    first = first.assign(unit="zz-copy", cycle=np.arange(1, len(first) + 1, dtype=np.int32))
    return Fleet.of(pd.concat([fleet.table, first]).astype({"unit": "str"}))


@pytest.mark.attack("P")
@pytest.mark.parametrize(("shift", "noise"), [(0, 0.0), (7, 0.0), (0, 0.05), (11, 0.05)])
def test_the_history_of_another_machine_is_no_history(pumps: Fleet, pump: Contract, shift: int, noise: float) -> None:
    """A machine's history is sent again under another name, shifted in time, with a little noise."""
    assert {} == find_copies(pumps.table, list(pump.sensors))
    found = find_copies(with_copy(pumps, shift=shift, noise_sigma=noise).table, list(pump.sensors))
    assert {pumps.units[0]: ("zz-copy", -shift), "zz-copy": (pumps.units[0], shift)} == {
        unit: (copy.other, copy.shift) for unit, copy in found.items()
    }
    assert max(copy.distance for copy in found.values()) < 0.1


@pytest.mark.attack("P")
def test_a_copied_machine_goes_to_quarantine(pumps: Fleet, pump: Contract) -> None:
    """A history sent twice counts twice in training."""
    fleet = with_copy(pumps, shift=5)
    findings = [finding for finding in screen(fleet, pump) if finding.rule == "copy"]
    assert [(pumps.units[0], 6), ("zz-copy", 1)] == [(f.unit, f.first_cycle) for f in findings]
    assert {"zz-copy", pumps.units[0]} <= set(examine(fleet, pump).quarantined.units)


def test_machines_that_are_all_alike_are_no_copies(oven: Contract) -> None:
    fleet = Fleet.of(oven_table({f"oven-{n:02d}": 40 for n in range(12)}))
    assert [] == [finding for finding in screen(fleet, oven) if finding.rule in BESIDE_OTHERS]


def test_a_fleet_of_nobody_and_readings_that_are_none_have_no_copies(oven: Contract) -> None:
    table = Fleet.of(oven_table({f"oven-{n:02d}": 40 for n in range(12)})).table
    assert {} == find_copies(table.iloc[:0], ["heat"])
    assert {} == find_copies(table.assign(heat=np.float32(np.nan), glow=np.float32(np.inf)), ["heat", "glow"])


def noisy(units: int = 12) -> pd.DataFrame:
    table = oven_table({f"oven-{n:02d}": 60 for n in range(units)})
    rng = np.random.default_rng(3)
    return table.assign(
        heat=np.round(300 + rng.normal(0, 1, len(table)), 1), glow=np.round(310 + rng.normal(0, 1, len(table)))
    )


@pytest.mark.attack("P")
def test_a_sensor_that_is_stuck_is_found_with_its_cycles(oven: Contract) -> None:
    """A sensor is frozen at one value, within range and rate, for a third of a life."""
    table = noisy()
    assert [] == [finding for finding in screen(Fleet.of(table), oven) if finding.rule == "stuck"]
    frozen = (table["unit"] == "oven-04") & table["cycle"].between(11, 35)
    found = screen(Fleet.of(table.assign(heat=table["heat"].mask(frozen, 300.0))), oven)
    stuck = [finding for finding in found if finding.rule == "stuck"]
    assert [("oven-04", "heat", 11, 35, 25.0)] == [
        (f.unit, f.channel, f.first_cycle, f.last_cycle, f.observed) for f in stuck
    ]


def test_a_sensor_that_seldom_changes_anywhere_is_not_stuck(oven: Contract) -> None:
    table = noisy()
    assert [] == [f for f in screen(Fleet.of(table.assign(heat=300.0)), oven) if f.rule == "stuck"]


def test_real_fleets_have_no_copies_and_nothing_stuck(
    pumps: Fleet, pump: Contract, engines: Fleet, turbofan: Contract
) -> None:
    for fleet, contract in ((pumps, pump), (engines, turbofan)):
        assert [] == [finding for finding in screen(fleet, contract) if finding.rule in BESIDE_OTHERS]
