from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from twinseal.digests import canonical_json
from twinseal.prognostics.ensemble import Networks
from twinseal.prognostics.evaluation import bounds, certify, estimates, evaluate, predictions
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
    assert certified["rmse_cycles"] >= max(rmse_cycles(end, test.rul) for end in (low, high, estimates(network, test)))
    assert measure(high, test.rul)["missed_failure_share"] == certified["missed_failure_share"]


def test_a_certificate_without_failing_windows_is_silent_about_them(
    toy_trained: Trained, toy_prepared: Prepared
) -> None:
    healthy = toy_prepared.test.take(toy_prepared.test.rul > 30)
    assert {"rmse_cycles"} == set(certify(toy_trained[0].plain, healthy, 0.1))


def test_evaluation_is_evidence(toy_trained: Trained, toy_prepared: Prepared) -> None:
    found = evaluate(toy_trained[0], toy_prepared, toy_prepared.test.rul)
    assert found == json.loads(canonical_json(found))
    assert 0.0 == found["test"]["baseline"]["rmse_cycles"]
    assert ["eps-0.05", "eps-0.1", "eps-0.25"] == list(found["certified"])
    assert {"test", "validation", "certified"} == set(found["commissioned"])
    grows = [certificate["rmse_cycles"] for certificate in found["certified"].values()]
    assert found["test"]["network"]["rmse_cycles"] < grows[0] < grows[1] < grows[2]


def test_predictions_have_truth_estimates_and_bounds_of_each_window(
    toy_trained: Trained, toy_prepared: Prepared
) -> None:
    test = toy_prepared.test
    rows = predictions(toy_trained[0].plain, test, np.arange(len(test)))
    assert ["unit", "cycle", "true_rul", "network", "baseline", "network_low", "network_high"] == list(rows[0])
    assert test.rul.tolist() == [row["true_rul"] for row in rows]
    assert list(range(len(test))) == [row["baseline"] for row in rows]
    assert all(row["network_low"] < row["network"] < row["network_high"] for row in rows)
