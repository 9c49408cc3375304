"""Three bad units of eighty: how far they move σ, intervals and the oldest age, and that the bounds hold it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from tests.prognostics.conftest import PARAMS, SPLIT, wearing_fleet
from twinseal.guard.calibration import calibrate
from twinseal.prognostics import conformal
from twinseal.prognostics.architecture import EnsembleConfig, NetworkConfig
from twinseal.prognostics.bad_units import units_bounds
from twinseal.prognostics.conformal import fit
from twinseal.prognostics.normaliser import Normaliser, sigma_bounds
from twinseal.prognostics.training import OutOfFold, oldest_age
from twinseal.prognostics.windows import prepare
from twinseal.telemetry.contract import Contract

CAP = 125.0
Change = Callable[[np.ndarray], np.ndarray]


def units(count: int = 80) -> list[np.ndarray]:
    """Readings of two channels, (R, 2) each; units differ in level, spread and length."""
    rng = np.random.default_rng(3)
    return [
        rng.normal(rng.normal(0, 0.3, 2), rng.uniform(0.8, 1.2, 2), (rng.integers(50, 90), 2)) for _ in range(count)
    ]


def fitted(parts: list[np.ndarray]) -> tuple[Normaliser, np.ndarray, np.ndarray]:
    rows, lengths = np.concatenate(parts), np.array([len(part) for part in parts])
    return Normaliser.fit(rows, lengths=lengths), rows, lengths


@pytest.mark.attack("P")
@pytest.mark.parametrize(
    "change",
    [lambda rows: rows * 1e6, lambda rows: rows + 1e6, lambda rows: rows * 0, lambda rows: np.tile(rows, (99, 1))],
)
@pytest.mark.parametrize("bad", [1, 3])
def test_bad_units_do_not_choose_what_a_sigma_is(change: Change, bad: int) -> None:
    """Up to three training units read anything, or are told a hundred times, so that every budget counts in their σ"""
    honest = units()
    clean, rows, lengths = fitted(honest)
    bounds = sigma_bounds(clean, rows, lengths, bad)
    poisoned, *_ = fitted([*map(change, honest[:bad]), *honest[bad:]])
    ratio, moved = poisoned.std / clean.std, np.abs(poisoned.mean - clean.mean) / clean.std
    assert bounds.lowest <= ratio.min() and ratio.max() <= bounds.highest
    assert moved.max() <= bounds.mean_sigma
    assert 0.8 < bounds.lowest < 1 < bounds.highest < 1.25 and bounds.mean_sigma < 0.2
    assert sigma_bounds(clean, rows, lengths, 4).highest == np.inf


def told(seed: int, count: int = 80, windows: int = 60) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng, unit = np.random.default_rng(seed), np.repeat(np.arange(count), windows)
    truth = rng.uniform(0, CAP, count * windows)
    return truth + (2 + 0.1 * truth) * rng.normal(size=len(unit)), truth, unit


@pytest.mark.attack("P")
@pytest.mark.parametrize("error", [0.0, 1e6])
@pytest.mark.parametrize("bad", [1, 3])
def test_bad_units_do_not_choose_how_wide_intervals_are(error: float, bad: int) -> None:
    """Up to three training units are estimated exactly, or not at all, so that intervals hold nothing, or everything"""
    said, truth, unit = told(1)
    clean = fit(said, truth, unit, cap_cycles=CAP)
    narrow, wide = conformal.reach(said, truth, unit, cap_cycles=CAP, bad=bad)
    poisoned = fit(np.where(unit < bad, truth + error, said), truth, unit, cap_cycles=CAP)
    assert all(low <= found <= high for low, found, high in zip(narrow.below, poisoned.below, wide.below, strict=True))
    assert all(low <= found <= high for low, found, high in zip(narrow.below, clean.below, wide.below, strict=True))
    assert max(w / c for w, c in zip(wide.below, clean.below, strict=True)) < 2
    assert float(np.mean(narrow.hold(said, truth))) > 0.75


@pytest.mark.attack("P")
def test_an_unending_history_does_not_let_the_twin_answer_for_any_age(toy_contract: Contract) -> None:
    """One unit of sixty is told for thousands of cycles, so that no age is beyond what training saw"""
    fleet = wearing_fleet(60)
    prepared = prepare(fleet, toy_contract, PARAMS, SPLIT)
    honest, windows = oldest_age(prepared.train), prepared.train
    assert 80 <= honest <= 90
    at = windows.units == windows.units[0]
    aged = replace(windows, cycles=windows.cycles + at * 9_000)
    assert oldest_age(aged) <= windows.cycles.max()


def test_a_member_of_a_median_does_not_choose_the_oldest_age() -> None:
    members = tuple(NetworkConfig.for_window(2, 10, oldest_cycles=age) for age in (200, 210, 220, 230, 9_000))
    assert 220 == EnsembleConfig(members=members, aggregation="median").oldest_cycles
    assert 9_000 == EnsembleConfig(members=members, aggregation="mean").oldest_cycles


def test_a_candidate_of_enough_units_has_bounds_and_one_of_few_has_none(toy_contract: Contract) -> None:
    for count, expected in ((60, ["bad-1"]), (14, [])):
        prepared = prepare(wearing_fleet(count), toy_contract, PARAMS, SPLIT)
        guard = calibrate(
            prepared.train.histories(), prepared.test.histories(), toy_contract, prepared.normaliser.restore
        )
        rng, windows = np.random.default_rng(1), prepared.train
        said = windows.rul + rng.normal(0, 5, len(windows)).astype(np.float32)
        unseen = OutOfFold(said, windows.rul, windows.units, windows.cycles)
        intervals = fit(said, windows.rul, windows.units, cap_cycles=40.0)
        found = units_bounds(prepared, guard, unseen, intervals)
        assert expected == list(found)
        for bound in found.values():
            assert bound.sigma_least_times <= 1 <= bound.sigma_most_times
            assert bound.wear_threshold_least_times <= 1 <= bound.wear_threshold_most_times
            assert bound.interval_least_times <= 1 <= bound.interval_most_times
            assert bound.oldest_age_least_times <= 1 <= bound.oldest_age_most_times
            assert 0.7 < bound.interval_coverage_least_share < 1
