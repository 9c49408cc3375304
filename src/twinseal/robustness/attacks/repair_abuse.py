"""Repair abuse: an attacker within ε makes the guard replace honest readings.

The certificate of a network holds for the rows that reach it, and a guard that repairs rows comes first. A pattern
within ε can make one channel disagree with the others, so that the guard replaces an honest reading; the estimate from
repaired rows can then be outside the certified range of the original rows. Therefore a repair may only shorten the
estimated life (`Model.guarded_answer`). This attack tests that: steepest ascent, and in the last rows the pattern that
makes one channel disagree most, for each channel and both directions (z is linear in the row, see `guard.parameters`).
"""

from __future__ import annotations

import numpy as np
import torch

from twinseal.measures.robustness import RepairAbuseMeasures
from twinseal.prognostics.checkpoint import Model
from twinseal.prognostics.ensemble import networks_of
from twinseal.prognostics.normaliser import PADDING_ROWS, in_float32
from twinseal.robustness.attack import Attack, Testbed
from twinseal.robustness.histories import Doubles, Histories, answers, guard_outcomes, guarded_answers, worst_answers
from twinseal.robustness.target import NetworkTarget, everyone

PATTERN_ROWS = 22  # the longest average that the guard looks at, and two more


def run(testbed: Testbed) -> RepairAbuseMeasures:
    """The highest estimates of the twin within the smallest ε of the guard-aware attacker, without a baseline."""
    return abuse_repair(testbed.model, testbed.histories, testbed.threats.adaptive.epsilon_sigma[0])


def abuse_repair(model: Model, histories: Histories, epsilon_sigma: float) -> RepairAbuseMeasures:
    """As `run`, of any model, histories (U units) and ε."""
    network = networks_of(model.inference).plain
    x = torch.from_numpy(np.concatenate([model.inputs(in_float32(rows)) for rows in histories.rows]))
    ages = [len(rows) for rows in histories.rows]
    context = torch.from_numpy(np.column_stack([ages, histories.baselines]).astype(np.float32))
    reading = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(NetworkTarget(network, context)(reading, everyone(reading)).sum(), reading)
    uphill = epsilon_sigma * np.sign(gradient.double().numpy())  # (N, L, C)
    with torch.inference_mode():
        high = np.clip(network.bounds(x, context, epsilon_sigma)[1].double().numpy(), 0, model.rul_cap_cycles)
    best = answers(model, histories, histories.rows)
    rows_of_omega = [sign * epsilon_sigma * np.sign(pattern) for pattern in model.guard.matrix for sign in (1.0, -1.0)]
    versions = [
        [_with_pattern(rows, up, odd) for rows, up in zip(histories.rows, uphill, strict=True)] for odd in rows_of_omega
    ]
    for seen in guard_outcomes(model, histories, versions):
        silent = np.array([bool(refused[-1]) for refused in seen.refused])
        best = np.maximum(best, np.where(silent, 0.0, guarded_answers(model, histories, seen)))
    excess = np.maximum(best - high, 0.0)
    harm = worst_answers(best, histories.truth)
    return RepairAbuseMeasures(
        epsilon_sigma=epsilon_sigma,
        guarded_rmse_cycles=harm.rmse_cycles,
        guarded_missed_failure_share=harm.missed_failure_share,
        beyond_share=float(np.mean(excess > 0)),
        largest_excess_cycles=float(excess.max()),
    )


def _with_pattern(rows: Doubles, uphill: Doubles, pattern: Doubles) -> Doubles:
    false, count = rows.copy(), min(len(uphill), len(rows) - PADDING_ROWS)
    if count > 0:
        false[-count:] += uphill[-count:]
        last = min(count, PATTERN_ROWS)
        false[-last:] = rows[-last:] + pattern
    return false


ATTACKS = (Attack("repair_abuse", run, seconds=8),)
