"""Medians against liars: attacks try to leave the bounds, and reach them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from twinseal.prognostics.ensemble import Networks
from twinseal.prognostics.evaluation import estimates
from twinseal.prognostics.evaluation_set import EvaluationSet
from twinseal.prognostics.fitting import Recipe
from twinseal.prognostics.median_certificates import certify, highest, lowest, tolerated_liars
from twinseal.prognostics.training import CertifiedRecipes, Partition, TrainParams, train
from twinseal.prognostics.windows import Prepared

Doubles = NDArray[np.float64]
LIES = (-1e9, -50.0, 0.0, 30.0, 61.0, 125.0, 1e9)


def said(members: int, windows: int, seed: int) -> Doubles:
    return np.random.default_rng(seed).uniform(0, 125, (members, windows)).round(1)  # rounded: ties happen


@settings(max_examples=150, deadline=None)
@given(members=st.integers(3, 7), liars=st.integers(0, 3), seed=st.integers(0, 2**31), data=st.data())
def test_whatever_liars_say_the_median_stays_within(members: int, liars: int, seed: int, data: st.DataObject) -> None:
    honest = said(members, 4, seed)
    low, high = lowest(honest, liars), highest(honest, liars)
    who = data.draw(st.lists(st.integers(0, members - 1), min_size=min(liars, members), max_size=liars, unique=True))
    lied = honest.copy()
    for member in who:
        lied[member] = data.draw(st.sampled_from(LIES))
    assert bool((low <= np.median(lied, axis=0)).all()) and bool((np.median(lied, axis=0) <= high).all())


@pytest.mark.parametrize("members", [3, 4, 5, 6, 9, 10])
@pytest.mark.parametrize("liars", [0, 1, 2])
def test_the_bounds_are_reached(members: int, liars: int) -> None:
    """No bound is larger than it must be: somebody among all possible groups of liars gets there."""
    honest = said(members, 3, 7)
    groups = list(itertools.combinations(range(members), liars))
    for sign, bound in ((1.0, highest(honest, liars)), (-1.0, lowest(honest, liars))):
        reached = []
        for group in groups:
            lied = honest.copy()
            lied[list(group)] = sign * 1e12
            reached.append(np.median(lied, axis=0))
        worst = np.max(reached, axis=0) if sign > 0 else np.min(reached, axis=0)
        free = ~np.isfinite(bound)
        np.testing.assert_allclose(worst[~free], bound[~free])
        assert bool((np.abs(worst[free]) > 1e11).all())


def test_half_of_the_members_decide_anything() -> None:
    assert [np.inf] == highest(said(4, 1, 1), 2).tolist()
    assert [-np.inf] == lowest(said(5, 1, 1), 3).tolist()
    assert bool(np.isfinite(highest(said(5, 1, 1), 2)).all())


def test_members_that_others_may_move_are_taken_at_their_worst() -> None:
    honest = said(5, 6, 3)
    wide = highest(honest + 2.0, 1)
    np.testing.assert_allclose(highest(honest, 1) + 2.0, wide)


def test_how_many_liars_a_failing_machine_withstands() -> None:
    highs = np.array([[10.0, 10.0, 70.0, 10.0], [12.0, 70.0, 70.0, 12.0], [14.0, 14.0, 70.0, 14.0]])
    truth = np.array([20.0, 20.0, 20.0, 90.0])
    # three members: the median holds against one liar, unless one of the others is wrong already
    assert [1, 0, -1, -1] == tolerated_liars(highs, truth).tolist()


@pytest.mark.parametrize(("shape", "liars"), [((0, 3), 0), ((3,), 0), ((3, 3), -1)])
def test_what_is_no_question_gets_no_answer(shape: tuple[int, ...], liars: int) -> None:
    with pytest.raises(ValueError, match="certificate: expected estimates"):
        highest(np.zeros(shape), liars)


@pytest.fixture(scope="module")
def grouped(toy_prepared: Prepared) -> Networks:
    recipe = Recipe(epochs=5, batch=64, hidden=(8,))
    certified = CertifiedRecipes(sensors=Partition(parts=3, recipe=recipe))
    return train(toy_prepared, TrainParams(family="certified", certified=certified))[0]


@pytest.mark.parametrize("lie", [-1e6, -3.0, 3.0, 1e6])
@pytest.mark.parametrize("sensor", [0, 1, 2])
def test_sensors_of_one_group_cannot_leave_the_certificate(
    grouped: Networks, toy_prepared: Prepared, sensor: int, lie: float
) -> None:
    evaluation_set = EvaluationSet.of(toy_prepared)
    each = np.stack([estimates(member, evaluation_set.windows) for member in grouped.plain.members])  # type: ignore[arg-type]
    values = evaluation_set.windows.batch()
    values[:, :, sensor] = np.float32(lie)
    lied = estimates(grouped.plain, evaluation_set.windows.with_values(values))
    assert bool((lowest(each, 1) <= lied + 1e-3).all()) and bool((lied <= highest(each, 1) + 1e-3).all())
    worst = certify(evaluation_set, each, each, 1, cap_cycles=toy_prepared.rul_cap_cycles)
    assert (
        evaluation_set.worst_case(np.clip(lied, 0, toy_prepared.rul_cap_cycles)).rmse_cycles <= worst.rmse_cycles + 1e-3
    )


def test_a_certificate_grows_with_the_liars_and_never_beyond_the_cap(grouped: Networks, toy_prepared: Prepared) -> None:
    evaluation_set = EvaluationSet.of(toy_prepared)
    each = np.stack([estimates(member, evaluation_set.windows) for member in grouped.plain.members])  # type: ignore[arg-type]
    errors = [
        certify(evaluation_set, each, each, liars, cap_cycles=toy_prepared.rul_cap_cycles).rmse_cycles
        for liars in (0, 1, 2)
    ]
    assert errors[0] < errors[1] < errors[2] <= toy_prepared.rul_cap_cycles
