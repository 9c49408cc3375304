"""Boosted trees: attacks on gradient boosting, the usual alternative to the network, so that both are compared fairly.

Trees have no gradient. The attacker queries them (square attack), and also tries on them the windows that fool the
network (transfer: Papernot, McDaniel & Goodfellow, Transferability in Machine Learning, 2016). Trees have no
certificate: the true worst case can be larger than the one that is found here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from twinseal.measures.common import WorstCase
from twinseal.measures.keys import Epsilon, epsilon_key
from twinseal.measures.quantity import Keys
from twinseal.measures.robustness import BoostedTrees
from twinseal.prognostics.ensemble import networks_of
from twinseal.prognostics.gradient_boosting import fit_boosting
from twinseal.robustness.attack import Attack, Plan, Testbed
from twinseal.robustness.methods.gradient import Box, attack
from twinseal.robustness.methods.square import search
from twinseal.robustness.target import NetworkTarget, PredictorTarget, estimates
from twinseal.robustness.threats import Aim, Attacker, is_distinct, is_rising, require

FIELD = "boosted_trees"


class BoostingThreat(Attacker):
    """An attacker of the boosted trees that stand beside the network in the report, to compare what robustness buys.

    Attributes:
        aims: any, healthy-washing.
        epsilon_sigma: Budgets, rising: the most that a reading changes, in σ of its channel.
        rounds: Of the boosting, as the baseline has them.
        queries: Questions about each window; trees have no gradient.
        steps: Of the attack on the network, whose result is tried on the trees as well.
    """

    aims: tuple[Aim, ...]
    epsilon_sigma: tuple[float, ...]
    rounds: int
    queries: int
    steps: int

    def model_post_init(self, _context: Any, /) -> None:
        """Refuse an attack on nothing."""
        super().model_post_init(_context)
        require(is_distinct(self.aims), "aims: expected at least one, each once")
        require(is_rising(self.epsilon_sigma), "epsilon_sigma: expected at least one budget above 0, rising")
        require(min(self.rounds, self.steps) >= 1, "rounds, steps: expected at least 1")
        require(self.queries >= 10, "queries: expected at least 10")


def run(testbed: Testbed) -> BoostedTrees:
    """Attack gradient boosting fitted on the training windows: by questions, and by what fools the network."""
    prepared, threat, seed = testbed.prepared, testbed.threats.own(FIELD, BoostingThreat), testbed.threats.seed
    evaluation_set = testbed.evaluation_set
    x, y = evaluation_set.windows.batch(), evaluation_set.truth
    trees = PredictorTarget(fit_boosting(prepared, seed=seed, rounds=threat.rounds), evaluation_set.windows.context())
    follow = NetworkTarget.of(networks_of(testbed.model.inference).plain, evaluation_set.windows)
    with threadpool_limits(1):
        clean = estimates(trees, x)
        worst: dict[Epsilon, WorstCase] = {}
        for epsilon in threat.epsilon_sigma:
            tried, box = [clean], Box.around(torch.from_numpy(x), epsilon)
            for aim in threat.aims:
                tried.append(search(trees, x, y, box, aim, queries=threat.queries, seed=seed).estimates)
                moved = attack(follow, x, y, box, aim, steps=threat.steps).changed
                tried.append(estimates(trees, moved))
            estimated = np.stack(tried)  # (A, N)
            worst[epsilon_key(epsilon)] = evaluation_set.worst_case(estimated.min(axis=0), estimated.max(axis=0))
    return BoostedTrees(clean=evaluation_set.clean(clean), worst=worst)


def keys(plan: Plan) -> Keys:
    """Which ε its measures have."""
    return {"worst": frozenset(map(epsilon_key, plan.threats.own(FIELD, BoostingThreat).epsilon_sigma))}


ATTACKS = (Attack(FIELD, run, keys, tests="worst", threat=BoostingThreat, seconds=12),)
