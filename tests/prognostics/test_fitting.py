from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from tests.prognostics.conftest import SPLIT
from twinseal.config import parse
from twinseal.errors import ConfigError, DataError
from twinseal.prognostics.course import loss
from twinseal.prognostics.evaluation import bounds, estimates
from twinseal.prognostics.fitting import Epoch, Fit, Recipe, fit, fit_together, reproducible
from twinseal.prognostics.metrics import rmse_cycles
from twinseal.prognostics.network import RulNetwork
from twinseal.prognostics.splitting import seed
from twinseal.prognostics.training import TrainParams
from twinseal.prognostics.windows import Prepared

QUICK = Recipe(epochs=1, hidden=(4,))


def fitted(
    prepared: Prepared, recipe: Recipe = QUICK, seed: int = 7, **others: Any
) -> tuple[RulNetwork, tuple[Epoch, ...]]:
    config = recipe.network(3, 20, 40.0)
    return fit(prepared.train, prepared.validation, config, recipe, seed=seed, **others)


def weights(network: RulNetwork) -> list[tuple[str, bytes]]:
    return [(name, tensor.numpy().tobytes()) for name, tensor in network.state_dict().items()]


def test_training_learns_what_wear_means(toy_network: RulNetwork, toy_prepared: Prepared) -> None:
    test = toy_prepared.test
    guess = rmse_cycles(np.full(len(test), toy_prepared.train.rul.mean()), test.rul)
    assert rmse_cycles(estimates(toy_network, test), test.rul) < guess / 2


def test_same_inputs_same_weights_whatever_ran_before(
    toy_network: RulNetwork, toy_prepared: Prepared, toy_training: TrainParams
) -> None:
    torch.manual_seed(99)
    torch.rand(17)
    again, _ = fitted(toy_prepared, toy_training.robust.plain, seed(SPLIT.salt, "weights"))
    assert weights(toy_network) == weights(again)


@pytest.mark.parametrize("changes", [{}, {"epsilon_sigma": 0.1}, {"dropout": 0.5}, {"batch": 32, "epsilon_sigma": 0.1}])
def test_networks_fitted_together_are_what_each_would_be_alone(
    toy_prepared: Prepared, changes: dict[str, float]
) -> None:
    """Also where one has fewer windows than the others: its steps end earlier, and its last batch is smaller."""
    recipe = Recipe(epochs=2, hidden=(8, 4)).model_copy(update=changes)
    config = recipe.network(3, 20, 40.0, baseline=True)
    few = toy_prepared.train.take(np.arange(len(toy_prepared.train) // 3))
    fits = [Fit(windows, config, recipe, seed) for seed, windows in enumerate((toy_prepared.train, few, few))]
    together = fit_together(fits)
    for one, (network, history) in zip(fits, together, strict=True):
        alone, expected = fit_together([one])[0]
        np.testing.assert_allclose(
            estimates(alone, toy_prepared.test), estimates(network, toy_prepared.test), atol=1e-3
        )
        assert [epoch.loss for epoch in expected] == pytest.approx([epoch.loss for epoch in history], rel=1e-4)
    assert weights(together[1][0]) != weights(together[2][0])


def test_networks_of_two_recipes_are_not_fitted_together(toy_prepared: Prepared) -> None:
    recipes = [QUICK, QUICK.model_copy(update={"epochs": 2})]
    fits = [Fit(toy_prepared.train, recipe.network(3, 20, 40.0), recipe, 7) for recipe in recipes]
    with pytest.raises(ValueError, match="fit: expected networks of one shape and one recipe, got 2 kinds"):
        fit_together(fits)


def test_networks_that_nobody_watches_have_a_history_without_a_validation(toy_prepared: Prepared) -> None:
    _, history = fit_together([Fit(toy_prepared.train, QUICK.network(3, 20, 40.0), QUICK, 7)])[0]
    assert np.isnan(history[0].validation_rmse_cycles)
    assert history[0].train_rmse_cycles > 0


def test_another_seed_gives_other_weights(toy_prepared: Prepared) -> None:
    one, other = (fitted(toy_prepared, seed=seed)[0] for seed in (1, 2))
    assert weights(one) != weights(other)


def test_dropout_is_drawn_from_the_seed_and_gone_when_training_is_over(toy_prepared: Prepared) -> None:
    recipe = QUICK.model_copy(update={"dropout": 0.5})
    one, two = (fitted(toy_prepared, recipe)[0] for _ in range(2))
    assert weights(one) == weights(two)
    assert weights(one) != weights(fitted(toy_prepared)[0])
    assert estimates(one, toy_prepared.test).tolist() == estimates(one, toy_prepared.test).tolist()


def test_components_are_the_directions_of_most_variance(toy_prepared: Prepared) -> None:
    network, _ = fitted(toy_prepared, QUICK.model_copy(update={"components": 2}))
    rows = toy_prepared.train.rows[toy_prepared.train.ends - 1].astype(np.float64)
    values = np.linalg.eigvalsh(np.cov(rows, rowvar=False, bias=True))[::-1]
    projected = rows @ network.projection.numpy().T.astype(np.float64)
    np.testing.assert_allclose(values[:2], projected.var(axis=0), rtol=1e-4)
    np.testing.assert_allclose(np.eye(2), network.projection @ network.projection.T, atol=1e-6)


def test_training_leaves_the_callers_torch_as_it_was(toy_prepared: Prepared) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    fitted(toy_prepared)
    assert expected.tolist() == torch.rand(3).tolist()
    assert not torch.are_deterministic_algorithms_enabled()


def test_reproducible_puts_everything_back_after_an_error() -> None:
    torch.set_num_threads(2)
    with pytest.raises(RuntimeError, match="boom"), reproducible(1):
        assert (1, True) == (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled())
        raise RuntimeError("boom")
    assert (2, False) == (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled())


def test_defence_narrows_the_bounds(toy_network: RulNetwork, toy_prepared: Prepared, toy_training: TrainParams) -> None:
    undefended = toy_training.robust.plain.model_copy(update={"epsilon_sigma": 0.0})
    widths = []
    for network in (toy_network, fitted(toy_prepared, undefended)[0]):
        low, high = bounds(network, toy_prepared.test, 0.1)
        widths.append(float((high - low).mean()))
    assert widths[0] < widths[1] / 2


def test_the_loss_is_the_clean_one_and_the_worst_one_by_kappa(toy_network: RulNetwork, toy_prepared: Prepared) -> None:
    network, test = toy_network, toy_prepared.test
    features = network.features(torch.from_numpy(test.batch()), torch.from_numpy(test.context()))
    rul = torch.from_numpy(test.rul)
    low, high = network.interval_bounds(features, 0.2)
    worst = torch.maximum((high - rul) ** 2, (low - rul) ** 2).mean()
    clean = ((network.from_features(features) - rul) ** 2).mean()
    whole, reported = loss(network, features, rul, 0.2, 0.25)
    torch.testing.assert_close(whole, 0.75 * clean + 0.25 * worst)
    torch.testing.assert_close(reported, clean)


def test_every_epoch_is_reported_as_it_ends(toy_prepared: Prepared) -> None:
    seen: list[Epoch] = []
    recipe = Recipe(epochs=3, hidden=(4,), epsilon_sigma=0.1)
    _, history = fitted(toy_prepared, recipe, progress=seen.append)
    assert history == tuple(seen)
    assert [1, 2, 3] == [epoch.epoch for epoch in history]
    assert all(epoch.validation_worst_rmse_cycles > epoch.validation_rmse_cycles for epoch in history)


def test_few_windows_are_gone_through_more_often(toy_prepared: Prepared) -> None:
    steps = -(-len(toy_prepared.train) // 256)
    _, history = fitted(toy_prepared, QUICK.model_copy(update={"least_steps": 5 * steps}))
    assert 5 == len(history)


def test_what_is_watched_has_no_say_in_the_weights(toy_prepared: Prepared) -> None:
    elsewhere = replace(toy_prepared, validation=toy_prepared.test, test=toy_prepared.validation)
    assert weights(fitted(toy_prepared)[0]) == weights(fitted(elsewhere)[0])


def test_a_still_channel_does_no_harm(toy_prepared: Prepared) -> None:
    rows = toy_prepared.train.rows.copy()
    rows[:, 0] = 0.0
    network, _ = fitted(replace(toy_prepared, train=replace(toy_prepared.train, rows=rows)))
    assert np.isfinite(estimates(network, toy_prepared.test)).all()


def test_nothing_to_learn_from_is_refused(toy_prepared: Prepared) -> None:
    empty = replace(toy_prepared, train=toy_prepared.train.take(np.zeros(0, dtype=np.int64)))
    with pytest.raises(DataError, match="training: expected windows, got none"):
        fitted(empty)


def test_a_training_that_runs_away_is_refused(toy_prepared: Prepared) -> None:
    rul = toy_prepared.train.rul * np.float32(1e30)
    wild = replace(toy_prepared, train=replace(toy_prepared.train, rul=rul))
    with pytest.raises(DataError, match=r"training: expected a finite loss, got (nan|inf) in epoch 1"):
        fitted(wild)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"epochs": 0}, "epochs"),
        ({"members": 0}, "members: expected 1 to 32, got 0"),
        ({"batch": 0}, "batch"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"averaging": 1.0}, "averaging"),
        ({"dropout": 1.0}, "dropout"),
        ({"hidden": []}, "hidden, layers: expected 1 to 4, got 0"),
        ({"hidden": [64, 0]}, "hidden, smallest: expected 1 to 1024, got 0"),
        ({"hidden": [64, 10_000_000]}, "hidden, largest: expected 1 to 1024"),
        ({"epsilon_sigma": -0.1}, "epsilon_sigma"),
        ({"kappa": 1.5}, "kappa"),
        ({"kapa": 0.5}, "did you mean 'kappa'"),
    ],
)
def test_recipes_out_of_range_are_refused_by_name(wrong: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        parse(Recipe, wrong, "params.yaml: train.accurate")
