"""Theft: what somebody who may only ask a twin learns of its model.

Extraction: he labels telemetry of his own with the twin's answers and trains a network on them (Tramèr et al.,
Stealing Machine Learning Models via Prediction APIs, 2016; Orekondy et al., Knockoff Nets, 2019). Measured by how
close his student comes to the model, to the truth, and by what the student is worth as a surrogate: a strong attack
on it, tried on the model. ART's own extraction attacks (Copycat CNN, Knockoff Nets, functionally equivalent
extraction; ART 1.20.1) ask for a classifier and refuse a regressor, so the student is ours.

The twin's defence is to answer coarsely (whole cycles, or more) and seldom: one answer a unit and cycle, and no more
than `twin.runtime.MAX_UNITS` units. What each is worth is measured, not promised.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from twinseal.prognostics.ensemble import Ensemble
from twinseal.prognostics.evaluation import estimates
from twinseal.prognostics.fitting import Recipe, fit
from twinseal.prognostics.metrics import rmse_cycles
from twinseal.prognostics.network import RulNetwork
from twinseal.prognostics.windows import Prepared, Windows
from twinseal.robustness.methods.gradient import Box, attack
from twinseal.robustness.target import Floats, NetworkTarget
from twinseal.robustness.target import estimates as said
from twinseal.robustness.threats import TheftThreat

STUDENT = Recipe(epochs=1, least_steps=700, hidden=(32, 32))
NEAR_CYCLES = 5.0
STEPS = 20


def extract(target: Ensemble, prepared: Prepared, threat: TheftThreat, *, seed: int) -> dict[str, dict[str, float]]:
    """What students learn, by queries-…, and by rounding-… with the largest number of queries.

    Returns:
        near_share, of the test windows on which the student is within 5 cycles of the model; fidelity_rmse_cycles,
        between the two; student_rmse_cycles, against the truth; of the largest also transfer_rise_cycles, the mean rise
        that an attack on the student makes in the model, and direct_rise_cycles, that of the same attack on the model.
    """
    order = np.random.default_rng([seed, 80]).permutation(len(prepared.train))[: max(threat.queries)]
    pool = prepared.train.take(order)  # the very units that the model knows: more than a thief would have
    answers = np.clip(estimates(target, pool), 0, prepared.rul_cap_cycles)
    found: dict[str, dict[str, float]] = {}
    student: RulNetwork | None = None
    for queries in threat.queries:  # of a small fleet, as many as there are
        student, found[f"queries-{queries}"] = _student(target, prepared, pool, answers, queries, seed)
    for cycles in threat.rounding_cycles:
        coarse = (np.round(answers / cycles) * cycles).astype(np.float32)
        found[f"rounding-{cycles:g}"] = _student(target, prepared, pool, coarse, max(threat.queries), seed)[1]
    if student is not None:
        found[f"queries-{max(threat.queries)}"] |= _worth(target, student, prepared.test, threat.epsilon_sigma)
    return found


def _student(
    target: Ensemble, prepared: Prepared, pool: Windows, answers: Floats, queries: int, seed: int
) -> tuple[RulNetwork, dict[str, float]]:
    test, asked = prepared.test, pool.take(np.arange(min(queries, len(pool))))
    config = STUDENT.network(len(prepared.channels), prepared.window, prepared.rul_cap_cycles)
    student, _ = fit(replace(asked, rul=answers[: len(asked)].astype(np.float32)), test, config, STUDENT, seed=seed)
    his, ours = estimates(student, test), estimates(target, test)
    return student, {
        "near_share": float(np.mean(np.abs(his - ours) <= NEAR_CYCLES)),
        "fidelity_rmse_cycles": rmse_cycles(his, ours),
        "student_rmse_cycles": rmse_cycles(his, test.rul),
    }


def _worth(target: Ensemble, student: RulNetwork, test: Windows, epsilon: float) -> dict[str, float]:
    x, ours = test.batch(), NetworkTarget.of(target, test)
    box, clean = Box.around(torch.from_numpy(x), epsilon), said(ours, x)
    rises = []
    for followed in (NetworkTarget.of(student, test), ours):
        moved = attack(followed, x, test.rul, box, "healthy-washing", steps=STEPS).changed
        rises.append(float(np.mean(said(ours, moved) - clean)))
    return {"transfer_rise_cycles": rises[0], "direct_rise_cycles": rises[1]}
