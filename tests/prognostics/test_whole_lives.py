from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from twinseal.prognostics.checkpoint import Model
from twinseal.prognostics.ensemble import Networks, networks_of
from twinseal.prognostics.evaluation import estimates
from twinseal.prognostics.life_bounds import LifeBound
from twinseal.prognostics.normaliser import PADDING_ROWS
from twinseal.prognostics.training import OutOfFold
from twinseal.prognostics.whole_lives import every_cycle, lives_of, measure_lives, spent
from twinseal.prognostics.windows import Prepared
from twinseal.telemetry.contract import Contract

from .conftest import complete


@pytest.fixture(scope="module")
def model(toy_trained: tuple[Networks, object], toy_contract: Contract, toy_prepared: Prepared) -> Model:
    return complete(toy_trained[0], toy_contract, toy_prepared)


def bound(margin: float) -> LifeBound:
    return LifeBound(edges=(30.0,), margins=(margin,), lives=99, false_lock_share=0.01, unknown_cycles=10.0)


def test_every_cycle_of_each_unit_is_seen_once_and_ends_where_its_newest_window_does(toy_prepared: Prepared) -> None:
    test = toy_prepared.test
    every = every_cycle(test)
    assert set(every.units.tolist()) == set(test.units.tolist())
    for unit in np.unique(test.units):
        mine, newest = every.take(every.units == unit), test.cycles[test.units == unit].max()
        assert np.array_equal(np.arange(1, newest + 1), mine.cycles)
        last = test.take((test.units == unit) & (test.cycles == newest))
        assert np.array_equal(last.batch(), mine.batch([-1]))
        assert mine.rul[-1] == last.rul[0] and np.array_equal(-np.ones(len(mine) - 1), np.diff(mine.rul))
    assert len(every_cycle(test.take(np.zeros(len(test), dtype=bool)))) == 0


def test_windows_that_are_there_are_among_those_of_every_cycle(toy_prepared: Prepared) -> None:
    validation = toy_prepared.validation
    every = every_cycle(validation)
    every = every.take(every.cycles >= PADDING_ROWS)  # there are none before
    assert np.array_equal(validation.batch(), every.batch())
    assert np.array_equal(validation.rul, np.minimum(every.rul, toy_prepared.rul_cap_cycles))


def test_a_ledger_of_wide_margins_changes_nothing_and_of_none_only_lowers(model: Model, toy_prepared: Prepared) -> None:
    lives = lives_of(model, "plain", toy_prepared.validation)
    wide = replace(model, life_bounds=dict.fromkeys(model.life_bounds, bound(1e5)))
    assert np.array_equal(lives.estimates, spent(wide, "plain", lives))
    held = spent(replace(model, life_bounds=dict.fromkeys(model.life_bounds, bound(0.0))), "plain", lives)
    assert (held <= lives.estimates).all() and (held < lives.estimates).any()


def test_measures_count_lives_and_say_what_the_ledger_costs(model: Model, toy_prepared: Prepared) -> None:
    train = toy_prepared.train
    unseen = OutOfFold(train.rul, train.rul, train.units, train.cycles)
    both = (toy_prepared.validation, toy_prepared.test)
    wide, tight = (replace(model, life_bounds=dict.fromkeys(model.life_bounds, bound(m))) for m in (1e5, 0.0))
    found, strict = (measure_lives(one, toy_prepared, "plain", unseen, 1) for one in (wide, tight))
    assert found.unseen_lives == sum(len(np.unique(windows.units)) for windows in both)
    assert (found.rise_cycles, found.false_lock_share, found.lives) == (0.0, 0.0, 99)
    assert strict.false_lock_share >= found.false_lock_share and strict.rmse_cycles != found.rmse_cycles
    said = np.clip(estimates(networks_of(model.inference).plain, toy_prepared.test), 0, model.rul_cap_cycles)
    expected = float(np.sqrt(np.mean((said - toy_prepared.test.rul) ** 2)))
    assert found.bare_rmse_cycles == pytest.approx(expected, abs=1e-5)
