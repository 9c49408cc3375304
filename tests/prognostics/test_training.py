from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from twinseal.config import parse
from twinseal.errors import ConfigError, DataError
from twinseal.prognostics.evaluation import bounds, estimates
from twinseal.prognostics.metrics import rmse_cycles
from twinseal.prognostics.network import RulNetwork
from twinseal.prognostics.training import Epoch, RobustParams, TrainParams, loss, reproducible, train
from twinseal.prognostics.windows import Prepared

Trained = tuple[RulNetwork, tuple[Epoch, ...]]


def _weights(network: RulNetwork) -> list[tuple[str, bytes]]:
    return [(name, tensor.numpy().tobytes()) for name, tensor in network.state_dict().items()]


def test_training_learns_what_wear_means(toy_trained: Trained, toy_prepared: Prepared) -> None:
    test = toy_prepared.test
    guess = rmse_cycles(np.full(len(test), toy_prepared.train.rul.mean()), test.rul)
    assert rmse_cycles(estimates(toy_trained[0], test), test.rul) < guess / 2


def test_same_inputs_same_weights_whatever_ran_before(
    toy_trained: Trained, toy_prepared: Prepared, toy_training: TrainParams
) -> None:
    torch.manual_seed(99)
    torch.rand(17)
    again, history = train(toy_prepared, toy_training)
    assert _weights(toy_trained[0]) == _weights(again)
    assert toy_trained[1] == history


def test_another_seed_gives_other_weights(toy_prepared: Prepared) -> None:
    one, other = (train(toy_prepared, TrainParams(epochs=1, hidden=(4,), seed=seed))[0] for seed in (1, 2))
    assert _weights(one) != _weights(other)


def test_training_leaves_the_callers_torch_as_it_was(toy_prepared: Prepared) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train(toy_prepared, TrainParams(epochs=1, hidden=(4,)))
    assert expected.tolist() == torch.rand(3).tolist()
    assert not torch.are_deterministic_algorithms_enabled()


def test_reproducible_puts_everything_back_after_an_error() -> None:
    torch.set_num_threads(2)
    with pytest.raises(RuntimeError, match="boom"), reproducible(1):
        assert (1, True) == (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled())
        raise RuntimeError("boom")
    assert (2, False) == (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled())


def test_defence_narrows_the_bounds(toy_trained: Trained, toy_prepared: Prepared, toy_training: TrainParams) -> None:
    undefended = toy_training.model_copy(update={"robust": RobustParams(epsilon_sigma=0.0)})
    widths = []
    for network in (toy_trained[0], train(toy_prepared, undefended)[0]):
        low, high = bounds(network, toy_prepared.test, 0.1)
        widths.append(float((high - low).mean()))
    assert widths[0] < widths[1] / 2


def test_the_loss_is_the_clean_one_and_the_worst_one_by_kappa(toy_trained: Trained, toy_prepared: Prepared) -> None:
    network, test = toy_trained[0], toy_prepared.test
    features, rul = network.features(torch.from_numpy(test.batch())), torch.from_numpy(test.rul)
    low, high = network.bounds_from_features(features, 0.2)
    worst = torch.maximum((high - rul) ** 2, (low - rul) ** 2).mean()
    clean = ((network.from_features(features) - rul) ** 2).mean()
    whole, reported = loss(network, features, rul, 0.2, 0.25)
    torch.testing.assert_close(whole, 0.75 * clean + 0.25 * worst)
    torch.testing.assert_close(reported, clean)


def test_every_epoch_is_reported_as_it_ends(toy_prepared: Prepared) -> None:
    seen: list[Epoch] = []
    _, history = train(toy_prepared, TrainParams(epochs=3, hidden=(4,)), progress=seen.append)
    assert history == tuple(seen)
    assert [1, 2, 3] == [epoch.epoch for epoch in history]
    assert all(epoch.validation_worst_rmse_cycles > epoch.validation_rmse_cycles for epoch in history)


def test_validation_and_test_have_no_say_in_the_weights(toy_prepared: Prepared) -> None:
    params = TrainParams(epochs=2, hidden=(4,))
    elsewhere = replace(toy_prepared, validation=toy_prepared.test, test=toy_prepared.validation)
    assert _weights(train(toy_prepared, params)[0]) == _weights(train(elsewhere, params)[0])


def test_a_still_channel_does_no_harm(toy_prepared: Prepared) -> None:
    rows = toy_prepared.train.rows.copy()
    rows[:, 0] = 0.0
    still = replace(toy_prepared, train=replace(toy_prepared.train, rows=rows))
    network, _ = train(still, TrainParams(epochs=1, hidden=(4,)))
    assert np.isfinite(estimates(network, toy_prepared.test)).all()


def test_nothing_to_learn_from_is_refused(toy_prepared: Prepared) -> None:
    empty = replace(toy_prepared, train=toy_prepared.train.take(np.zeros(0, dtype=np.int64)))
    with pytest.raises(DataError, match="training: expected windows, got none"):
        train(empty, TrainParams(epochs=1))


def test_a_training_that_runs_away_is_refused(toy_prepared: Prepared) -> None:
    rul = toy_prepared.train.rul * np.float32(1e30)
    wild = replace(toy_prepared, train=replace(toy_prepared.train, rul=rul))
    with pytest.raises(DataError, match=r"training: expected a finite loss, got (nan|inf) in epoch 1"):
        train(wild, TrainParams(epochs=1, hidden=(4,)))


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"epochs": 0}, "epochs"),
        ({"batch": 0}, "batch"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"averaging": 1.0}, "averaging"),
        ({"hidden": []}, "hidden, layers: expected 1 to 4, got 0"),
        ({"hidden": [64, 0]}, "hidden, smallest: expected 1 to 1024, got 0"),
        ({"hidden": [64, 10_000_000]}, "hidden, largest: expected 1 to 1024"),
        ({"robust": {"epsilon_sigma": -0.1}}, "robust.epsilon_sigma"),
        ({"robust": {"kappa": 1.5}}, "robust.kappa"),
        ({"robust": {"kapa": 0.5}}, "did you mean 'kappa'"),
        ({"epoch": 3}, "did you mean 'epochs'"),
    ],
)
def test_params_out_of_range_are_refused_by_name(wrong: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        parse(TrainParams, wrong, "params.yaml: train")
