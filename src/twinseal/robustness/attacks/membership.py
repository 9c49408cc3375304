"""Membership: whether an attacker with a unit's telemetry and true life can tell that the model was trained on it.

By the loss alone (Yeom et al., Privacy Risk in Machine Learning: Analyzing the Connection to Overfitting, 2018): a
model errs less on its training data. Reported as Carlini et al. (Membership Inference Attacks From First Principles,
2022) recommend: not only the average (AUC) but also the true-positive rate at one per cent of false positives, for
windows and for whole units. ART's black-box attack (boosted trees on the loss;
`input_type='loss'` is the only one of its inputs that works on regressors in ART 1.20.1) is run beside it, by
`art_adapter`.

Members are training windows; the others are validation and test windows. A window of a healthy machine is harder than
one of a failing machine, so members are drawn to have the others' remaining lives: otherwise the attack tells those
apart.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from twinseal.measures.keys import Rounding, rounding_key
from twinseal.measures.quantity import Keys
from twinseal.measures.robustness import MembershipMeasures
from twinseal.prognostics.ensemble import networks_of
from twinseal.prognostics.evaluation import estimates
from twinseal.prognostics.windows import join
from twinseal.robustness.attack import Attack, Plan, Testbed
from twinseal.robustness.methods.art import infer_membership

Doubles = NDArray[np.float64]

BINS = 10
MOST = 2_000  # windows of each side
FALSE_SHARE = 0.01


def run(testbed: Testbed) -> MembershipMeasures:
    """How well somebody with a unit's telemetry and its fate can tell that the model was trained on it."""
    network, prepared = networks_of(testbed.model.inference).plain, testbed.prepared
    rounding_cycles, seed = testbed.threats.extraction.rounding_cycles, testbed.threats.seed
    rng = np.random.default_rng([seed, 90])
    others = join(prepared.validation, prepared.test)
    chosen, drawn = _match_lives(others.rul, prepared.train.rul, rng)
    inside, outside = prepared.train.take(drawn), others.take(chosen)
    estimated = [np.clip(estimates(network, w), 0, prepared.rul_cap_cycles) for w in (inside, outside)]
    truths = [inside.rul, outside.rul]
    losses = [np.square(a.astype(np.float64) - t) for a, t in zip(estimated, truths, strict=True)]
    units = [
        np.array([loss[w.units == u].mean() for u in np.unique(w.units)])
        for loss, w in zip(losses, (inside, outside), strict=True)
    ]
    threshold = np.quantile(losses[1], FALSE_SHARE)
    rounded: dict[Rounding, float] = {}
    for cycles in rounding_cycles:
        coarse = [np.square(np.round(a / cycles) * cycles - t) for a, t in zip(estimated, truths, strict=True)]
        rounded[rounding_key(cycles)] = _auc(*coarse)
    return MembershipMeasures(
        windows_auc=_auc(*losses),
        units_auc=_auc(*units),
        windows_found_share=float(np.mean(losses[0] < threshold)),
        advantage=_advantage(*losses),
        art_accuracy=infer_membership(estimated[0], truths[0], estimated[1], truths[1]),
        rounded_auc=rounded,
    )


def keys(plan: Plan) -> Keys:
    """Which roundings its measures have."""
    return {"rounded_auc": frozenset(map(rounding_key, plan.threats.extraction.rounding_cycles))}


def _match_lives(
    wanted: NDArray[np.float32], there: NDArray[np.float32], rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """As many windows of each side in every bin of the remaining life: of the others, and of the members."""
    edges = np.unique(np.quantile(wanted, np.linspace(0, 1, BINS + 1)[1:-1]))
    sides: list[list[NDArray[np.int64]]] = [[], []]
    for b in range(len(edges) + 1):
        mine, theirs = (np.flatnonzero(np.searchsorted(edges, rul, side="right") == b) for rul in (wanted, there))
        count = min(len(mine), len(theirs), MOST // BINS)
        sides[0].append(rng.choice(mine, count, replace=False))
        sides[1].append(rng.choice(theirs, count, replace=False))
    return np.concatenate(sides[0]), np.concatenate(sides[1])


def _auc(members: Doubles, others: Doubles) -> float:
    """Chance that a member's loss is below another's (Mann & Whitney 1947); ties count half."""
    both = np.concatenate([members, others])
    _, inverse, counts = np.unique(both, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    above = ranks[: len(members)].sum() - len(members) * (len(members) + 1) / 2
    return float(1 - above / (len(members) * len(others)))


def _advantage(members: Doubles, others: Doubles) -> float:
    thresholds = np.unique(np.quantile(np.concatenate([members, others]), np.linspace(0, 1, 201)))
    return float(max(np.mean(members <= t) - np.mean(others <= t) for t in thresholds))


ATTACKS = (Attack("membership", run, keys, seconds=2),)
