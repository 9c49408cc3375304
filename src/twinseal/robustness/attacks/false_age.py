"""Ages: whoever may say which cycle it is. An attacker of readings does not hold that; this is for one who does.

The twin refuses ages beyond the oldest that training saw, so these are all that he can choose from.
"""

from __future__ import annotations

import numpy as np

from twinseal.prognostics.ensemble import Ensemble
from twinseal.prognostics.evaluation_set import EvaluationSet
from twinseal.robustness.target import NetworkTarget, estimates

TRIED = 40


def false_ages(network: Ensemble, evaluation_set: EvaluationSet) -> dict[str, float]:
    """The worst that a false age does to each window by itself, the readings as they are.

    Args:
        network: Asked.
        evaluation_set: The windows.

    Returns:
        As `EvaluationSet.worst_case`, and rise_cycles, the mean rise of the estimates.
    """
    x, config = evaluation_set.windows.batch(), network.config
    target, tried = NetworkTarget.of(network, evaluation_set.windows), []
    for age in np.unique(np.linspace(1, config.oldest_cycles, TRIED).round()):
        context = target.context.clone()
        context[:, 0] = float(age)
        tried.append(np.clip(estimates(NetworkTarget(target.network, context), x), 0, config.rul_cap_cycles))
    clean = np.clip(estimates(target, x), 0, config.rul_cap_cycles)
    said = np.stack([clean, *tried]).astype(np.float32)
    return evaluation_set.worst_case(said.min(axis=0), said.max(axis=0)) | {
        "rise_cycles": float(np.mean(said.max(axis=0) - clean))
    }
