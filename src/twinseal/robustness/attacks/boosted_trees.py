"""Trees: attacks on the boosted trees that stand beside the network in the report, so that both are compared fairly.

Trees have no gradient. Their attacker asks (`search`: every question about a window costs him one answer), and tries on
them what moves the network, which has learned the same thing (transfer: Papernot, McDaniel & Goodfellow,
Transferability in Machine Learning, 2016). Both are lower bounds, and there is no certificate beside them: what the
trees stand is at most what they are seen to stand here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from twinseal.prognostics.ensemble import Ensemble
from twinseal.prognostics.evaluation_set import EvaluationSet
from twinseal.prognostics.gradient_boosting import predictor
from twinseal.prognostics.windows import Prepared
from twinseal.robustness.methods.gradient import Box, attack
from twinseal.robustness.methods.square import search
from twinseal.robustness.target import NetworkTarget, PredictorTarget, estimates
from twinseal.robustness.threats import BoostingThreat


def attack_trees(network: Ensemble, prepared: Prepared, threat: BoostingThreat, *, seed: int) -> dict[str, Any]:
    """The measures of `threat` against gradient boosting fitted on the training windows.

    Args:
        network: What fools this is tried on the trees.
        prepared: The windows.
        threat: The policy.
        seed: Of the questions.

    Returns:
        clean: as `EvaluationSet.clean`; worst: by eps-…, the worst of all that was tried, for each window by itself, as
        `EvaluationSet.worst_case`.
    """
    evaluation_set = EvaluationSet.of(prepared)
    x, y = evaluation_set.windows.batch(), evaluation_set.truth
    trees = PredictorTarget(predictor(prepared, seed=seed, rounds=threat.rounds), evaluation_set.windows.context())
    follow = NetworkTarget.of(network, evaluation_set.windows)
    with threadpool_limits(1):
        clean = estimates(trees, x)
        worst = {}
        for epsilon in threat.epsilon_sigma:
            tried, box = [clean], Box.around(torch.from_numpy(x), epsilon)
            for aim in threat.aims:
                tried.append(search(trees, x, y, box, aim, queries=threat.queries, seed=seed).estimates)
                moved = attack(follow, x, y, box, aim, steps=threat.steps).changed
                tried.append(estimates(trees, moved))
            said = np.stack(tried)  # (A, N)
            worst[f"eps-{epsilon:g}"] = evaluation_set.worst_case(said.min(axis=0), said.max(axis=0))
    return {"clean": evaluation_set.clean(clean), "worst": worst}
