"""Extraction: how much of the model an attacker learns who can only query the twin.

The attacker labels own telemetry with the twin's answers and trains a student network on it (Tramèr et al., Stealing
Machine Learning Models via Prediction APIs, 2016; Orekondy et al., Knockoff Nets, 2019). Measured: how close the
student is to the model and to the truth, and how well it works as a surrogate (a strong attack on the student, tried
on the model). ART's extraction attacks (Copycat CNN, Knockoff Nets, functionally equivalent extraction; ART 1.20.1)
need a classifier and refuse a regressor, so the student is ours.

The twin's defence is to give rounded answers (whole cycles, or coarser) and few of them: one answer per unit and cycle,
and at most `twin.runtime.MAX_UNITS` units. The effect of each is measured.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from twinseal.measures.keys import Queries, Rounding, queries_key, rounding_key
from twinseal.measures.quantity import NOT_WRITTEN, Keys
from twinseal.measures.robustness import Extraction, ExtractionMeasures
from twinseal.prognostics.ensemble import Ensemble, networks_of
from twinseal.prognostics.evaluation import estimates
from twinseal.prognostics.fitting import Recipe, fit
from twinseal.prognostics.metrics import rmse_cycles
from twinseal.prognostics.network import RulNetwork
from twinseal.prognostics.windows import Prepared, Windows
from twinseal.robustness.attack import Attack, Plan, Testbed
from twinseal.robustness.methods.gradient import Box, attack
from twinseal.robustness.target import Floats, NetworkTarget
from twinseal.robustness.target import estimates as said

STUDENT = Recipe(epochs=1, least_steps=700, hidden=(32, 32))
NEAR_CYCLES = 5.0
STEPS = 20


def run(testbed: Testbed) -> Extraction:
    """What students learn, by questions; and, with the most questions, by the rounding of the answers."""
    target, prepared, threat = networks_of(testbed.model.inference).plain, testbed.prepared, testbed.threats.extraction
    seed, most = testbed.threats.seed, max(testbed.threats.extraction.queries)
    order = np.random.default_rng([seed, 80]).permutation(len(prepared.train))[:most]
    pool = prepared.train.take(order)  # the very units that the model knows: more than a thief would have
    answers = np.clip(estimates(target, pool), 0, prepared.rul_cap_cycles)
    by_queries: dict[Queries, ExtractionMeasures] = {}
    student: RulNetwork | None = None
    for queries in threat.queries:  # of a small fleet, as many as there are
        student, measures = _student(target, prepared, pool, answers, queries, seed)
        by_queries[queries_key(queries)] = measures
    if student is not None:
        rises = _rises(target, student, prepared.test, threat.epsilon_sigma)
        key = queries_key(most)
        by_queries[key] = by_queries[key].model_copy(update=rises)
    by_rounding: dict[Rounding, ExtractionMeasures] = {}
    for cycles in threat.rounding_cycles:
        coarse = (np.round(answers / cycles) * cycles).astype(np.float32)
        by_rounding[rounding_key(cycles)] = _student(target, prepared, pool, coarse, most, seed)[1]
    return Extraction(by_queries=by_queries, by_rounding=by_rounding)


def keys(plan: Plan) -> Keys:
    """Which numbers of questions and roundings its measures have."""
    threat = plan.threats.extraction
    found = {
        "by_queries": frozenset(map(queries_key, threat.queries)),
        "by_rounding": frozenset(map(rounding_key, threat.rounding_cycles)),
    }
    attacked = f"by_queries/{queries_key(max(threat.queries))}"
    students = [f"{mapping}/{key}" for mapping, keys in found.items() for key in keys]
    rises = ("transfer_rise_cycles", "direct_rise_cycles")
    return found | {f"{path}/{rise}": NOT_WRITTEN for path in students if path != attacked for rise in rises}


def _student(
    target: Ensemble, prepared: Prepared, pool: Windows, answers: Floats, queries: int, seed: int
) -> tuple[RulNetwork, ExtractionMeasures]:
    test, asked = prepared.test, pool.take(np.arange(min(queries, len(pool))))
    config = STUDENT.network(len(prepared.channels), prepared.window, prepared.rul_cap_cycles)
    student, _ = fit(replace(asked, rul=answers[: len(asked)].astype(np.float32)), test, config, STUDENT, seed=seed)
    copied, ours = estimates(student, test), estimates(target, test)
    return student, ExtractionMeasures(
        near_share=float(np.mean(np.abs(copied - ours) <= NEAR_CYCLES)),
        fidelity_rmse_cycles=rmse_cycles(copied, ours),
        student_rmse_cycles=rmse_cycles(copied, test.rul),
    )


def _rises(target: Ensemble, student: RulNetwork, test: Windows, epsilon: float) -> dict[str, float]:
    x, ours = test.batch(), NetworkTarget.of(target, test)
    box, clean = Box.around(torch.from_numpy(x), epsilon), said(ours, x)
    rises = []
    for followed in (NetworkTarget.of(student, test), ours):
        moved = attack(followed, x, test.rul, box, "healthy-washing", steps=STEPS).changed
        rises.append(float(np.mean(said(ours, moved) - clean)))
    return {"transfer_rise_cycles": rises[0], "direct_rise_cycles": rises[1]}


ATTACKS = (Attack("extraction", run, keys, seconds=4),)
