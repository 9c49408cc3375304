"""How the channels of healthy machines go together and wear, learned so that no few units decide it.

Every unit counts the same, and contributes no more than the (t+1)-th largest unit does (`telemetry.over_units`): r bad
units move each sum by at most r such contributions of the n, and no quantile or count below by more than r places.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from twinseal.guard.parameters import Doubles
from twinseal.telemetry.over_units import clipped_weights, largest, tolerated, winsorised_mean

History = tuple[Doubles, NDArray[np.int64]]
Relations = tuple[Doubles, Doubles]  # Ω (C, C) and w (C,), see `parameters`

RIDGE = 0.02
STUCK_MARGIN = 0.5  # of the longest run among all but few units: the longest of those few may be honest


def learn_relations(histories: Sequence[History], trimmed: int | None = None) -> Relations:
    """How the channels of these machines go together (Ω), and how they wear (w).

    Args:
        histories: Of each machine its rows (R, C) in σ, and their regimes.
        trimmed: How many of them may be bad; left out, what so many tolerate.
    """
    rows = [rows.astype(np.float64) for rows, _ in histories]
    weights = clipped_weights(sizes(rows), trimmed)
    return shrunk_precision(rows, weights, trimmed), _wear_weights(rows, weights)


def sizes(histories: Sequence[Doubles]) -> Doubles:
    """The mean square length of each unit's rows, (U,): the trace of what it adds to the covariance."""
    return np.array([np.mean(np.sum(rows**2, axis=1)) for rows in histories])


def covariance_moved_share(histories: Sequence[Doubles], bad: int) -> float:
    """The most that `bad` units among these move the covariance, in the trace norm, as a share of its trace.

    A unit adds a matrix of trace min(s, b) / n, where b is the (t+1)-th largest of the sizes s; b itself moves by
    `bad` places. So the sum moves by at most `bad` times twice the higher b, and by what the other units are clipped
    differently.
    """
    found = np.sort(sizes(histories))
    trimmed, count = tolerated(len(found)), len(found)
    if bad > trimmed:
        return float("inf")
    now = np.minimum(found, found[count - 1 - trimmed])
    ends = [found[count - 1 - trimmed + bad], found[max(0, count - 1 - trimmed - bad)]]
    other = max(float(np.abs(np.minimum(found, end) - now).sum()) for end in ends)
    return float((2 * bad * ends[0] + other) / now.sum())


def shrunk_precision(histories: Sequence[Doubles], weights: Doubles, trimmed: int | None = None) -> Doubles:
    """The inverse of the covariance of rows, shrunk towards a multiple of the identity; exactly symmetric.

    Args:
        histories: Of each of U units (R, C), in σ: their mean is 0.
        weights: Of each unit (U,).
        trimmed: As in `learn_relations`.
    """
    count = sum(map(len, histories))
    moments = [rows.T @ rows / len(rows) for rows in histories]
    covariance = np.tensordot(weights, np.stack(moments), axes=1) / len(histories)
    channels = len(covariance)
    level = np.trace(covariance) / channels
    spread = np.sum((covariance - level * np.eye(channels)) ** 2) / channels  # δ² of Ledoit & Wolf, lemma 3.2
    fourth = winsorised_mean(np.array([np.mean(np.sum(rows**2, axis=1) ** 2) for rows in histories]), trimmed)
    noise = (fourth - np.sum(covariance**2)) / channels / count  # β²
    share = min(1.0, max(0.0, float(noise / spread))) if spread > 0 else 1.0
    shrunk = (1 - share) * covariance + (share * level + RIDGE) * np.eye(channels)
    precision = np.linalg.inv(shrunk)
    return np.asarray((precision + precision.T) / 2)


def _wear_weights(histories: Sequence[Doubles], weights: Doubles) -> Doubles:
    """The ridge regression (C,) from the rows of a machine to the share of its life that has passed."""
    gram, told = np.zeros((histories[0].shape[1],) * 2), np.zeros(histories[0].shape[1])
    for rows, weight in zip(histories, weights, strict=True):
        shares = np.arange(1, len(rows) + 1) / len(rows)
        gram += weight * (rows.T @ rows) / len(rows)
        told += weight * (rows.T @ (shares - shares.mean())) / len(rows)
    units = len(histories)
    return np.asarray(np.linalg.solve(gram / units + RIDGE * np.eye(len(told)), told / units))


def stuck_limits(histories: Sequence[History]) -> NDArray[np.int64]:
    """For each channel, the longest run of one value in consecutive rows of any but few units, and a margin; ≥ 3."""
    longest = np.ones((len(histories), histories[0][0].shape[1]), dtype=np.int64)
    for unit, (rows, _) in enumerate(histories):
        run = np.ones(rows.shape[1], dtype=np.int64)
        for before, after in itertools.pairwise(rows):
            run = np.where(after == before, run + 1, 1)
            longest[unit] = np.maximum(longest[unit], run)
    usual = largest(longest.astype(np.float64))
    return np.asarray(usual + np.ceil(STUCK_MARGIN * (usual - 1)) + 2, dtype=np.int64)
