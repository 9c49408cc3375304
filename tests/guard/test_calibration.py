from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from guard.conftest import LOADS, NAMES, as_given, contract_of, histories, life, watch

from twinseal.errors import DataError
from twinseal.guard import calibration
from twinseal.guard.calibration import Calibration, alarm_shares, calibrate, fit
from twinseal.guard.parameters import SPANS, GuardParams
from twinseal.guard.relations import History, covariance_moved_share, learn_relations, shrunk_precision, sizes
from twinseal.telemetry.contract import Contract
from twinseal.telemetry.over_units import clipped_weights


def brief(units: int) -> list[History]:
    """The last rows of some machines: enough to fit, and soon fitted."""
    return [(rows[-50:], regimes[-50:]) for rows, regimes in histories(range(units))]


def test_sound_machines_are_rarely_flagged(params: GuardParams, contract: Contract) -> None:
    shares = alarm_shares(params, histories(range(50, 110)), contract, as_given)  # none of them was seen in any way
    assert shares.shape == (60,)
    assert float(shares.mean()) < 0.03
    assert float(np.mean(shares > 0)) > 0.0, "a guard that is never alarmed hears nothing"


def test_share_that_is_stated_is_the_one_measured_on_units_that_set_nothing(
    params: GuardParams, contract: Contract
) -> None:
    measured = float(np.mean(alarm_shares(params, histories(range(30, 50)), contract, as_given)))
    assert params.measured_false_alarm_share == measured
    assert params.false_alarm_share == 0.01


def test_more_false_alarms_allowed_make_it_keener(contract: Contract) -> None:
    dull, keen = (fit(brief(12), brief(2), contract, as_given, false_alarm_share=share) for share in (0.01, 0.1))
    assert (np.array(keen.thresholds) < np.array(dull.thresholds)).all()
    assert (np.array(keen.falls) < np.array(dull.falls)).all()


def test_same_histories_give_the_same_bytes(contract: Contract) -> None:
    once, again = (fit(brief(8), brief(2), contract, as_given) for _ in range(2))
    assert once.model_dump_json() == again.model_dump_json()


def test_a_search_that_stops_early_finds_the_same_thresholds(
    contract: Contract, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a replay that was stopped is taken up again: the bounds for bad units ask more of it."""
    early = calibrate(brief(24), brief(2), contract, as_given, false_alarm_share=0.05)
    monkeypatch.setattr(calibration, "CYCLES_BETWEEN_LOOKS", 10_000)
    late = calibrate(brief(24), brief(2), contract, as_given, false_alarm_share=0.05)
    assert (early.params, early.wear, early.channels) == (late.params, late.wear, late.channels)
    assert [1] == list(early.wear)


def healing(rows: np.ndarray) -> np.ndarray:
    """A history that goes back to how it began for five rows, again and again."""
    false = rows.copy()
    for begin in range(60, len(rows) - 20, 25):
        false[begin : begin + 5] = rows[:5]
    return false


def wild(rows: np.ndarray) -> np.ndarray:
    """A history in which nothing goes with anything."""
    return np.random.default_rng(len(rows)).normal(0.0, 30.0, rows.shape)


def backwards(rows: np.ndarray) -> np.ndarray:
    """A history that begins with its failure: the whole life is one long recovery."""
    return rows[::-1].copy()


def still(rows: np.ndarray) -> np.ndarray:
    """A history of one row."""
    return np.repeat(rows[:1], len(rows), axis=0)


HONEST = histories(range(300, 380))


@pytest.fixture(scope="module")
def clean(contract: Contract) -> Calibration:
    """Of eighty honest machines, so that three of them may be bad."""
    return calibrate(HONEST, histories(range(30, 35)), contract, as_given)


@pytest.mark.attack("P")
@pytest.mark.parametrize("kind", [healing, wild, backwards, still])
def test_bad_units_do_not_blind_the_guard(kind: Callable, clean: Calibration, contract: Contract) -> None:
    """Three of eighty training units are false in any way, so that the guard's thresholds grow until it sees nothing"""
    early = [rows.copy() for rows, _ in histories(range(60, 68))]
    for rows in early:
        rows[-30:] = rows[:30]  # the replay that the guard is to notice
    assert all(watch(clean.params, rows).silent[-30:].any() for rows in early)

    mixed = [(kind(rows), at) for rows, at in HONEST[:3]] + HONEST[3:]
    found = fit(mixed, histories(range(30, 35)), contract, as_given)
    falls = np.array(found.falls) / np.array(clean.params.falls)
    thresholds = np.array(found.thresholds) / np.array(clean.params.thresholds)
    assert falls.max() < 1.25 and falls.min() > 0.8
    assert thresholds.max() < 1.35 and thresholds.min() > 0.7
    assert max(found.stuck_cycles) <= 2 * max(clean.params.stuck_cycles)
    assert found.measured_false_alarm_share < 0.05
    assert all(watch(found, rows).silent[-30:].any() for rows in early)


def test_bounds_grow_with_the_number_of_bad_units(clean: Calibration) -> None:
    assert [1, 2, 3] == list(clean.wear) == list(clean.channels) == list(clean.relations_moved_share)
    for ranges in (clean.wear, clean.channels):
        assert all(0 < ranges[bad].low <= 1 <= ranges[bad].high < 3 for bad in (1, 2, 3))
        assert ranges[1].high <= ranges[3].high and ranges[3].low <= ranges[1].low
    assert 0 < clean.relations_moved_share[1] < clean.relations_moved_share[3] < 1


@pytest.mark.parametrize("kind", [wild, backwards, still])
def test_covariance_moves_no_further_than_is_said(kind: Callable) -> None:
    honest = [rows for rows, _ in HONEST]
    covariance = learned_covariance(honest)
    for bad in (1, 2, 3):
        mixed = [kind(rows) for rows in honest[:bad]] + honest[bad:]
        moved = np.abs(np.linalg.eigvalsh(learned_covariance(mixed) - covariance)).sum()
        assert moved <= covariance_moved_share(honest, bad) * np.trace(covariance)
    assert covariance_moved_share(honest, 4) == float("inf")


def learned_covariance(rows: list[np.ndarray]) -> np.ndarray:
    """What the guard makes of rows before it shrinks it."""
    weights = clipped_weights(sizes(rows))
    return np.asarray(sum(w * r.T @ r / len(r) for w, r in zip(weights, rows, strict=True)) / len(rows))


def test_wear_is_learned_with_its_sign() -> None:
    _, wear = learn_relations(histories(range(30)))
    assert np.sign(LOADS).tolist() == np.sign(wear).tolist()
    rows = life(60)
    assert (rows[-10:] @ wear).mean() - (rows[:10] @ wear).mean() == pytest.approx(0.8, abs=0.3)  # of a life of 1


def test_precision_comes_back_from_many_rows_of_a_known_one() -> None:
    rng = np.random.default_rng(1)
    factors = rng.normal(size=(5, 5))
    covariance = factors @ factors.T / 5 + np.eye(5)
    rows = rng.multivariate_normal(np.zeros(5), covariance, size=200_000)
    np.testing.assert_allclose(
        shrunk_precision([rows], np.ones(1)), np.linalg.inv(covariance + 0.02 * np.eye(5)), atol=0.02
    )


def test_precision_of_fewer_rows_than_channels_is_shrunk_until_it_can_be_used() -> None:
    precision = shrunk_precision([np.random.default_rng(2).normal(size=(6, 40))], np.ones(1))
    values = np.linalg.eigvalsh(precision)
    assert values.min() > 0
    assert values.max() / values.min() < 10


def test_channel_that_never_moves_is_no_obstacle(contract: Contract) -> None:
    still = [(np.where(np.arange(len(NAMES)) == 3, 0.0, rows), regimes) for rows, regimes in brief(12)]
    params = fit(still[:10], still[10:], contract, as_given)
    assert params.stuck_cycles[3] >= max(len(rows) for rows, _ in still[:10])
    assert not any(watch(params, rows).flagged[:, 3].any() for rows, _ in still)
    moved = still[11][0].copy()
    moved[20:, 3] += 0.5
    assert watch(params, moved).flagged[20:, 3].all()


def test_channel_may_be_stuck_as_long_as_sound_ones_were(params: GuardParams) -> None:
    assert set(params.stuck_cycles) == {3}  # noise never repeats itself: the least
    assert (params.spans, len(params.falls), np.array(params.thresholds).shape) == (SPANS, 3, (3, len(NAMES)))


@pytest.mark.parametrize(("training", "others"), [(4, 2), (8, 0)])
def test_too_few_units_are_refused(training: int, others: int, contract: Contract) -> None:
    with pytest.raises(DataError, match=f"at least 5 training units and one more, got {training}, {others}"):
        fit(histories(range(training)), histories(range(60, 60 + others)), contract, as_given)


def test_histories_too_short_to_know_wear_are_refused(contract: Contract) -> None:
    short = [(rows[:39], regimes[:39]) for rows, regimes in histories(range(8))]
    with pytest.raises(DataError, match="histories of 40 cycles or more"):
        fit(short[:6], short[6:], contract, as_given)


def test_regimes_reach_whoever_restores_the_readings() -> None:
    load = {"unit": "1", "minimum": 0.0, "maximum": 9.0, "max_change_per_cycle": 9.0, "used": False}
    regimes = {"settings": ["load"], "within": [0.1], "points": [[1.0], [2.0]]}
    plain = contract_of().model_dump(mode="json")
    contract = Contract.from_dict(plain | {"settings": {"load": load}, "regimes": regimes})
    marked = [(rows, np.arange(len(rows)) % 2) for rows, _ in brief(10)]
    seen: set[int] = set()

    def restore(rows: np.ndarray, regimes: np.ndarray) -> np.ndarray:
        assert regimes.shape == (len(rows),)
        seen.update(regimes.tolist())
        return rows + 10.0 * regimes[:, None]

    fit(marked[:8], marked[8:], contract, restore)
    assert seen == {0, 1}
