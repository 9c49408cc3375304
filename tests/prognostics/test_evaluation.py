from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from twinseal.digests import canonical_json
from twinseal.measures.quantity import read
from twinseal.measures.training import NetworkMeasures
from twinseal.prognostics.ensemble import Networks
from twinseal.prognostics.evaluation import accuracy, bounds, certify, estimates, evaluate, predictions
from twinseal.prognostics.fitting import Epoch
from twinseal.prognostics.metrics import measure, rmse_cycles
from twinseal.prognostics.windows import Prepared

Trained = tuple[Networks, tuple[Epoch, ...]]


def test_estimates_are_the_networks(toy_trained: Trained, toy_prepared: Prepared) -> None:
    test = toy_prepared.test
    direct = toy_trained[0].plain(torch.from_numpy(test.batch()), torch.from_numpy(test.context())).numpy()
    np.testing.assert_allclose(direct, estimates(toy_trained[0].plain, test), atol=1e-3)


def test_no_windows_no_estimates(toy_trained: Trained, toy_prepared: Prepared) -> None:
    none = toy_prepared.test.take(np.zeros(0, dtype=np.int64))
    assert (0, 0) == (len(estimates(toy_trained[0].plain, none)), len(bounds(toy_trained[0].plain, none, 0.1)[1]))
    with pytest.raises(ValueError, match="one estimate for each truth"):
        certify(toy_trained[0].plain, none, 0.1)


def test_what_is_certified_holds_against_the_worst_of_both_ends(toy_trained: Trained, toy_prepared: Prepared) -> None:
    network, test = toy_trained[0].plain, toy_prepared.test
    low, high = bounds(network, test, 0.1)
    certified = certify(network, test, 0.1)
    assert certified.rmse_cycles >= max(rmse_cycles(end, test.rul) for end in (low, high, estimates(network, test)))
    assert measure(high, test.rul, test.units).missed_failure_share == certified.missed_failure_share


def test_a_certificate_without_failing_windows_is_silent_about_them(
    toy_trained: Trained, toy_prepared: Prepared
) -> None:
    healthy = toy_prepared.test.take(toy_prepared.test.rul > 30)
    assert {"rmse_cycles"} == set(certify(toy_trained[0].plain, healthy, 0.1).to_dict())


def test_evaluation_is_evidence(toy_trained: Trained, toy_prepared: Prepared) -> None:
    networks = toy_trained[0]
    assert networks.commissioned is not None
    for network in (networks.plain, networks.commissioned):
        found = evaluate(network, toy_prepared)
        assert found == read(NetworkMeasures, json.loads(canonical_json(found.to_dict())), "train")
        assert ["eps-0.05", "eps-0.1", "eps-0.25"] == list(found.certified)
        assert accuracy(network, toy_prepared.test) == found.test
        assert accuracy(network, toy_prepared.validation) == found.validation
        grows = [certificate.rmse_cycles for certificate in found.certified.values()]
        assert found.test.rmse_cycles < grows[0] < grows[1] < grows[2]


def test_predictions_have_truth_estimates_and_bounds_of_each_window(
    toy_trained: Trained, toy_prepared: Prepared
) -> None:
    test = toy_prepared.test
    rows = predictions(toy_trained[0].plain, test, np.arange(len(test)))
    assert ["unit", "cycle", "true_rul", "network", "boosting", "network_low", "network_high"] == list(rows[0])
    assert test.rul.tolist() == [row["true_rul"] for row in rows]
    assert list(range(len(test))) == [row["boosting"] for row in rows]
    assert all(row["network_low"] < row["network"] < row["network_high"] for row in rows)
