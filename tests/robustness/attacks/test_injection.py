from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from twinseal.errors import ConfigError
from twinseal.measures.robustness import InjectionMeasures
from twinseal.prognostics.ensemble import Ensemble
from twinseal.prognostics.evaluation_set import EvaluationSet
from twinseal.prognostics.windows import Prepared
from twinseal.robustness.attack import Testbed
from twinseal.robustness.attacks.injection import Case, cases, factors, inject, run
from twinseal.robustness.threats import Injection, Threats
from twinseal.telemetry.contract import Contract

DIRECTIONS = ("down", "up")


@pytest.fixture(scope="module")
def injection(threats: Threats) -> Injection:
    return threats.asset("toy").injection


@pytest.fixture(scope="module")
def measured(
    network: Ensemble, prepared: Prepared, contract: Contract, injection: Injection
) -> dict[str, InjectionMeasures]:
    return inject(network, prepared, contract, injection, DIRECTIONS, seed=3)


def test_the_four_signatures_are_tried_both_ways(measured: dict[str, InjectionMeasures]) -> None:
    expected = {f"{f}-{s}-{d}" for f in ("biased", "random") for s in ("continuous", "interim") for d in DIRECTIONS}
    assert expected == set(measured) == {case.name for case in cases(DIRECTIONS)}


def test_biased_continuous_scales_the_chosen_sensors_from_its_cycle_on(
    prepared: Prepared, injection: Injection
) -> None:
    test = prepared.test
    factor = factors(Case("biased", "continuous", "down"), test, prepared.channels, injection, seed=3)
    newest = test.cycles[:, None] - np.arange(test.window)[::-1]  # the cycle of each row, below 1 where padded
    struck = newest >= injection.continuous_from_cycle
    for sensor in ("heat", "hum"):
        np.testing.assert_allclose(np.where(struck, 0.98, 1.0), factor[:, :, prepared.channels.index(sensor)])
    assert {1.0} == set(np.unique(factor[:, :, prepared.channels.index("load")]))


def test_interim_strikes_the_last_cycles_only(prepared: Prepared, injection: Injection) -> None:
    factor = factors(Case("biased", "interim", "up"), prepared.test, prepared.channels, injection, seed=3)
    heat = factor[:, :, prepared.channels.index("heat")]
    assert {1.0} == set(np.unique(heat[:, :-5]))
    np.testing.assert_allclose(heat[:, -5:], 1.02)


def test_padding_is_changed_as_the_row_that_it_copies(prepared: Prepared, injection: Injection) -> None:
    young = prepared.train.take(prepared.train.cycles == 12)
    long = injection.model_copy(update={"interim_cycles": 2, "continuous_from_cycle": 1})
    heat = prepared.channels.index("heat")
    interim = factors(Case("biased", "interim", "up"), young, prepared.channels, long, seed=3)[:, :, heat]
    whole = factors(Case("biased", "continuous", "up"), young, prepared.channels, long, seed=3)[:, :, heat]
    assert {1.0} == set(np.unique(interim[:, :-2]))
    np.testing.assert_allclose(whole, 1.02)


def test_random_is_drawn_once_for_each_unit_and_sensor_within_its_limits(
    prepared: Prepared, injection: Injection
) -> None:
    case = Case("random", "interim", "up")
    factor = factors(case, prepared.test, prepared.channels, injection, seed=3)
    newest = factor[:, -1, [prepared.channels.index(s) for s in injection.sensors]]  # (N, 2)
    draws = {tuple(row) for row in zip(prepared.test.units.tolist(), *newest.T.tolist(), strict=True)}
    assert len(prepared.test.unit_names) == len(draws)
    assert 2 * len(prepared.test.unit_names) == len({value for draw in draws for value in draw[1:]})
    assert 1.01 <= newest.min() < newest.max() <= 1.03
    again = factors(case, prepared.test, prepared.channels, injection, seed=4)
    assert not np.array_equal(factor, again)


def test_readings_are_scaled_before_they_are_normalised(
    measured: dict[str, InjectionMeasures], prepared: Prepared, injection: Injection
) -> None:
    """2 % of the heat is 6 K, several σ: a percentage of the normalised value would be next to nothing."""
    windows, at = EvaluationSet.of(prepared).windows, prepared.channels.index("heat")
    hottest = (windows.batch()[:, -5:, at] * prepared.normaliser.std[0, at] + prepared.normaliser.mean[0, at]).max()
    expected = float(0.02 * hottest / prepared.normaliser.std[0, at])
    assert expected == pytest.approx(measured["biased-interim-up"].largest_shift_sigma, rel=1e-5)
    assert expected > 0.5


def test_sensors_that_read_too_cool_make_the_machine_look_healthy(
    network: Ensemble, prepared: Prepared, contract: Contract, injection: Injection
) -> None:
    strong = injection.model_copy(update={"biased_percent": 8.0, "random_percent": (7.0, 9.0)})
    measured = inject(network, prepared, contract, strong, DIRECTIONS, seed=3)
    for name in ("biased-interim", "random-interim"):
        assert 0.0 == measured[f"{name}-up"].missed_failure_share
        hidden = measured[f"{name}-down"].missed_failure_share
        assert hidden is not None and 0.2 < hidden


def test_a_leap_beyond_the_contract_is_noticed_and_a_small_one_is_not(
    network: Ensemble, prepared: Prepared, contract: Contract, injection: Injection
) -> None:
    small = injection.model_copy(update={"biased_percent": 0.01, "random_percent": (0.01, 0.01)})
    large = injection.model_copy(update={"biased_percent": 20.0, "random_percent": (20.0, 20.0)})
    quiet = inject(network, prepared, contract, small, DIRECTIONS, seed=3)
    loud = inject(network, prepared, contract, large, DIRECTIONS, seed=3)
    assert all(case.noticed_share <= 0.05 for case in quiet.values())
    assert {1.0} == {case.noticed_share for name, case in loud.items() if "interim" in name}
    clean = quiet["biased-interim-up"].rmse_cycles
    assert clean == pytest.approx(loud["biased-interim-up"].unnoticed_rmse_cycles, abs=0.5)
    assert clean + 5.0 < loud["biased-interim-up"].rmse_cycles


def test_the_worst_signature_is_the_highest_of_each_number(
    measured: dict[str, InjectionMeasures], testbed: Testbed
) -> None:
    found = run(replace(testbed, threats=testbed.threats.model_copy(update={"seed": 3})))
    assert measured == found.signatures
    undefended, unnoticed = found.worst_undefended, found.worst_unnoticed
    cases = list(measured.values())
    assert max(case.rmse_cycles for case in cases) == undefended.rmse_cycles
    assert max(case.missed_failure_share or 0.0 for case in cases) == undefended.missed_failure_share
    assert max(case.unnoticed_rmse_cycles for case in cases) == unnoticed.rmse_cycles
    expected = max(case.unnoticed_missed_failure_share or 0.0 for case in cases)
    assert expected == unnoticed.missed_failure_share


def test_a_sensor_that_the_network_does_not_read_is_refused(
    network: Ensemble,
    prepared: Prepared,
    contract: Contract,
    injection: Injection,
    make_threats: Callable[..., Threats],
) -> None:
    stranger = injection.model_copy(update={"sensors": ("heat", "colour")})
    with pytest.raises(ConfigError, match=r"expected sensors among .*, got \['colour'\]"):
        inject(network, prepared, contract, stranger, DIRECTIONS, seed=3)
