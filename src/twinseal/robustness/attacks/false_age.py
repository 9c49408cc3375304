"""Ages: whoever may say which cycle it is. An attacker of readings does not hold that; this is for one who does.

The twin refuses ages beyond the oldest that training saw, so these are all that he can choose from.
"""

from __future__ import annotations

import numpy as np

from twinseal.measures.robustness import Rise
from twinseal.robustness.attack import Attack, Testbed
from twinseal.robustness.target import NetworkTarget, estimates

TRIED = 40


def run(testbed: Testbed) -> Rise:
    """The worst that a false age does to each window by itself, the readings as they are."""
    network, evaluation_set = testbed.model.networks.plain, testbed.evaluation_set
    x, config = evaluation_set.windows.batch(), network.config
    target, tried = NetworkTarget.of(network, evaluation_set.windows), []
    for age in np.unique(np.linspace(1, config.oldest_cycles, TRIED).round()):
        context = target.context.clone()
        context[:, 0] = float(age)
        tried.append(np.clip(estimates(NetworkTarget(target.network, context), x), 0, config.rul_cap_cycles))
    clean = np.clip(estimates(target, x), 0, config.rul_cap_cycles)
    estimated = np.stack([clean, *tried]).astype(np.float32)
    low, high = estimated.min(axis=0), estimated.max(axis=0)
    worst = evaluation_set.worst_case(low, high)
    return Rise(rise_cycles=float(np.mean(high - clean)), **worst.fields())


ATTACKS = (Attack("false_age", run),)
