from __future__ import annotations

import numpy as np
import pytest
from guard.conftest import LOADS, NAMES, as_given, contract_of, histories, life, watch

from twinseal.errors import DataError
from twinseal.guard.calibration import History, alarm_shares, fit, learn_channels, shrunk_precision
from twinseal.guard.parameters import SPANS, GuardParams
from twinseal.telemetry.contract import Contract


def brief(units: int) -> list[History]:
    """The last rows of some machines: enough to fit, and soon fitted."""
    return [(rows[-50:], regimes[-50:]) for rows, regimes in histories(range(units))]


def test_sound_machines_are_rarely_flagged(params: GuardParams, contract: Contract) -> None:
    shares = alarm_shares(params, histories(range(50, 110)), contract, as_given)  # none of them was seen in any way
    assert shares.shape == (60,)
    assert float(shares.mean()) < 0.025
    assert float(np.mean(shares > 0)) > 0.0, "a guard that is never alarmed hears nothing"


def test_more_alarms_than_are_asked_about_are_not_counted_to_the_end(params: GuardParams, contract: Contract) -> None:
    units = histories(range(50, 110))
    whole = alarm_shares(params, units, contract, as_given)
    assert whole.tolist() == alarm_shares(params, units, contract, as_given, enough=float(whole.sum())).tolist()
    part = alarm_shares(params, units, contract, as_given, enough=float(whole.sum()) / 2)
    assert whole.sum() / 2 < part.sum() < whole.sum()
    assert (part <= whole).all()


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


def test_wear_is_learned_with_its_sign() -> None:
    _, wear = learn_channels(histories(range(30)))
    assert np.sign(LOADS).tolist() == np.sign(wear).tolist()
    rows = life(60)
    assert (rows[-10:] @ wear).mean() - (rows[:10] @ wear).mean() == pytest.approx(0.8, abs=0.3)  # of a life of 1


def test_precision_comes_back_from_many_rows_of_a_known_one() -> None:
    rng = np.random.default_rng(1)
    factors = rng.normal(size=(5, 5))
    covariance = factors @ factors.T / 5 + np.eye(5)
    rows = rng.multivariate_normal(np.zeros(5), covariance, size=200_000)
    np.testing.assert_allclose(shrunk_precision(rows), np.linalg.inv(covariance + 0.02 * np.eye(5)), atol=0.02)


def test_precision_of_fewer_rows_than_channels_is_shrunk_until_it_can_be_used() -> None:
    precision = shrunk_precision(np.random.default_rng(2).normal(size=(6, 40)))
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
