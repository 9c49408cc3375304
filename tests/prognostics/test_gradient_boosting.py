from __future__ import annotations

import numpy as np
import torch

from twinseal.prognostics.gradient_boosting import boosting_estimates, fit_boosting, multi_scale_features
from twinseal.prognostics.metrics import rmse_cycles
from twinseal.prognostics.network import RulNetwork
from twinseal.prognostics.windows import Prepared


def test_boosting_learns_and_repeats_itself(toy_prepared: Prepared) -> None:
    one, two = (boosting_estimates(toy_prepared, seed=1, rounds=30) for _ in range(2))
    assert one.tolist() == two.tolist()
    guess = rmse_cycles(np.full(len(one), toy_prepared.train.rul.mean()), toy_prepared.test.rul)
    assert rmse_cycles(one, toy_prepared.test.rul) < guess / 2
    test, predict = toy_prepared.test, fit_boosting(toy_prepared, seed=1, rounds=30)
    assert one.tolist() == predict(test.batch(), test.context()).tolist()


def test_it_sees_what_the_network_sees(toy_network: RulNetwork, toy_prepared: Prepared) -> None:
    test = toy_prepared.test.take(toy_prepared.test.cycles <= toy_network.config.oldest_cycles)
    assert len(test) > 5
    context = torch.from_numpy(test.context())
    expected = toy_network.features(torch.from_numpy(test.batch()), context).numpy()
    np.testing.assert_array_equal(expected, multi_scale_features(test))
