"""Provoked: who stays within ε and makes the guard replace what is honest.

The certificate of a network is about the rows that reach it. A guard that repairs stands before it: by a pattern small
enough to be within ε, and odd enough for one channel to disagree with the others, an attacker has an honest reading
replaced, and the estimate from repaired rows may lie outside of what is certified for the rows as they came. So a
repair may only shorten a life (`Model.guarded`). Here it is tried: steepest ascent, and in the last rows the pattern
that makes one channel disagree most, for each channel and either way (z is linear in the row: `guard.parameters`).
"""

from __future__ import annotations

import numpy as np
import torch

from twinseal.prognostics.checkpoint import Model
from twinseal.prognostics.normaliser import PADDING_ROWS, in_float32
from twinseal.robustness.attacks.falsified_histories import harm
from twinseal.robustness.histories import Doubles, Histories, answers, guarded, watched_all
from twinseal.robustness.target import NetworkTarget, everyone

PATTERN_ROWS = 22  # the longest average that the guard looks at, and two more


def repair_abuse(model: Model, histories: Histories, epsilon_sigma: float) -> dict[str, float]:
    """What the twin says when its guard is provoked within ε, of units without a baseline.

    Returns:
        epsilon_sigma; guarded_rmse_cycles and guarded_missed_failure_share of the highest answers; beyond_share, of
        units answered above what is certified for the rows as they came; largest_excess_cycles.
    """
    network, x = model.networks.plain.eval(), torch.cat([model.inputs(in_float32(r)) for r in histories.rows])
    ages = [len(rows) for rows in histories.rows]
    context = torch.from_numpy(np.column_stack([ages, histories.baselines]).astype(np.float32))
    reading = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(NetworkTarget(network, context)(reading, everyone(reading)).sum(), reading)
    uphill = epsilon_sigma * np.sign(gradient.double().numpy())  # (N, L, C)
    with torch.inference_mode():
        high = np.clip(network.bounds(x, context, epsilon_sigma)[1].double().numpy(), 0, model.rul_cap_cycles)
    best = answers(model, histories, histories.rows)
    odd = [
        sign * epsilon_sigma * np.sign(pattern) for pattern in model.guard.matrix for sign in (1.0, -1.0)
    ]  # rows of Ω
    versions = [[_told(rows, up, one) for rows, up in zip(histories.rows, uphill, strict=True)] for one in odd]
    for seen in watched_all(model, histories, versions):
        silent = np.array([bool(refused[-1]) for refused in seen.refused])
        best = np.maximum(best, np.where(silent, 0.0, guarded(model, histories, seen)))
    excess = np.maximum(best - high, 0.0)
    return {
        "epsilon_sigma": epsilon_sigma,
        "beyond_share": float(np.mean(excess > 0)),
        "largest_excess_cycles": float(excess.max()),
    } | {f"guarded_{name}": value for name, value in harm(best, histories.truth).items()}


def _told(rows: Doubles, uphill: Doubles, pattern: Doubles) -> Doubles:
    told, count = rows.copy(), min(len(uphill), len(rows) - PADDING_ROWS)
    if count > 0:
        told[-count:] += uphill[-count:]
        last = min(count, PATTERN_ROWS)
        told[-last:] = rows[-last:] + pattern
    return told
