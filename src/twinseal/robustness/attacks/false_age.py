"""False age: the attacker reports a wrong cycle number. Attackers of readings cannot do this; this one can.

The twin refuses an age above the oldest one in training, so the attacker can choose among the ages up to it.
"""

from __future__ import annotations

import numpy as np

from twinseal.measures.robustness import Rise
from twinseal.prognostics.ensemble import networks_of
from twinseal.robustness.attack import Attack, Testbed
from twinseal.robustness.target import NetworkTarget, estimates

TRIED = 40


def run(testbed: Testbed) -> Rise:
    """The worst that a false age does to each window by itself, the readings as they are."""
    network, evaluation_set = networks_of(testbed.model.inference).plain, testbed.evaluation_set
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
