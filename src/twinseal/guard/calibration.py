"""Learning the guard: how the channels of healthy machines go together, how they wear, and how far they deviate.

The precision is that of the training rows in σ, shrunk towards independence (Ledoit & Wolf, A Well-Conditioned
Estimator for Large-Dimensional Covariance Matrices, 2004) with a small ridge, so that no channel is ever explained
completely. The wear is a ridge regression: from the rows of a machine to the share of its life that has passed.

The thresholds control a risk as in conformal prediction (Angelopoulos et al., Conformal Risk Control, 2024). Units are
divided into folds; the guard of each fold has learned from the other folds. Two factors, one for all falls of wear and
one for all channels and spans, are the smallest at which at most a share α of the rows is flagged or refused,
hysteresis included. Units are exchangeable, rows of one unit are not, so each unit counts the same. The paper's
correction for n units, 1 / (n + 1), is left out: with 81 units it alone is more than the one per cent asked for.
Instead, the share of false alarms is measured on units that set nothing, and stored.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from twinseal.errors import DataError
from twinseal.guard.guard import Guard
from twinseal.guard.parameters import SPANS, Doubles, GuardParams
from twinseal.telemetry.contract import Contract

Number = TypeVar("Number", np.float64, np.int64)
Regimes = NDArray[np.int64]
History = tuple[Doubles, Regimes]
LearnedChannels = tuple[Doubles, Doubles]  # Ω (C, C) and w (C,), see `parameters`

RIDGE = 0.02
FOLDS = 5
MIN_UNITS = 5
# A replaced channel is an estimate, so the interval of the answer is this much wider. Measured: docs/robustness.md.
REPAIR_WIDENING = 1.25
# Only falls of wear reveal a manipulation of all channels together: they get almost half of the false alarms.
WEAR_SHARE = 0.4
TYPICAL_QUANTILE = 0.99  # thresholds are multiples of this quantile of the deviations
MIN_THRESHOLD = 1e-6
MAX_FACTOR = 10.0  # times the typical deviation; with a larger factor the guard finds nothing any more


def fit(
    histories: Sequence[History],
    unseen: Sequence[History],
    contract: Contract,
    restore: Callable[[Doubles, Regimes], Doubles],
    *,
    false_alarm_share: float = 0.01,
    seed: int = 0,
) -> GuardParams:
    """The guard's parameters.

    Args:
        histories: For each training unit its rows (R, C) in σ, in order of cycle and without gaps, and the regime of
            each row (R,).
        unseen: The same for other units. They set nothing; the false alarms are measured on them.
        contract: The contract of the machines.
        restore: Rows (B, C) in σ and their regimes (B,) → rows in the channels' units.
        false_alarm_share: α.
        seed: Seed of the division into folds.

    Raises:
        DataError: There are too few units, none to measure on, or all histories are short.
    """
    if len(histories) < MIN_UNITS or not unseen:
        raise DataError(
            f"guard: expected at least {MIN_UNITS} training units and one more, got {len(histories)}, {len(unseen)}",
            remedy="Bring more units that ran to failure.",
        )
    order = np.random.default_rng([seed, 50]).permutation(len(histories))
    parts = [[histories[i] for i in order[k::FOLDS]] for k in range(FOLDS)]
    folds = [(part, learn_channels([unit for other in parts if other is not part for unit in other])) for part in parts]
    deviations, falls = _typical_deviations(folds)
    stuck = tuple(int(n) for n in _stuck_limits(histories))

    def params(learned: LearnedChannels, channel_factor: float, wear_factor: float) -> GuardParams:
        return _params(learned, deviations * channel_factor, falls * wear_factor, stuck, false_alarm_share)

    def is_quiet(channel_factor: float, wear_factor: float, share: float) -> bool:
        """Whether at most this share of the rows of units that a fold did not learn from is flagged or refused."""
        left = share * len(histories)
        for fold, learned in folds:
            left -= alarm_shares(
                params(learned, channel_factor, wear_factor), fold, contract, restore, enough=left
            ).sum()
            if left < 0:
                return False
        return True

    wear_factor = _smallest_factor(lambda factor: is_quiet(MAX_FACTOR, factor, WEAR_SHARE * false_alarm_share))
    channel_factor = _smallest_factor(lambda factor: is_quiet(factor, wear_factor, false_alarm_share))
    final = params(learn_channels(histories), channel_factor, wear_factor)
    return final.model_copy(
        update={"measured_false_alarm_share": float(np.mean(alarm_shares(final, unseen, contract, restore)))}
    )


def alarm_shares(
    params: GuardParams,
    histories: Sequence[History],
    contract: Contract,
    restore: Callable[[Doubles, Regimes], Doubles],
    *,
    enough: float = math.inf,
) -> Doubles:
    """The share of the rows of each unit that the guard flags or refuses, (U,).

    Args:
        params: Of the guard.
        histories: As in `fit`.
        contract: Of the machines.
        restore: As in `fit`.
        enough: Stop once the shares add up to more than this; the result is then a lower bound.
    """
    lengths = np.array([len(rows) for rows, _ in histories])
    known, regimes = (_side_by_side(parts) for parts in zip(*histories, strict=True))  # (T, U, C), (T, U)
    readings = restore(known.reshape(-1, known.shape[2]), regimes.reshape(-1)).reshape(known.shape)
    guard, counts = Guard(params, contract, len(histories)), np.zeros(len(histories))
    for cycle in range(lengths.max()):
        here = cycle < lengths
        decision = guard.decide(np.full(len(lengths), cycle + 1), readings[cycle], known[cycle], here, regimes[cycle])
        alarmed = here & (decision.flagged.any(axis=1) | (np.array(decision.refusals) != ""))
        counts += alarmed
        if alarmed.any() and (counts / lengths).sum() > enough:
            break
    return np.asarray(counts / lengths)


def _side_by_side(histories: Sequence[NDArray[Number]]) -> NDArray[Number]:
    """Histories (R, …) of U units beside each other, (T, U, …); a shorter one goes on with its last row."""
    longest = max(map(len, histories))
    return np.stack([item[np.minimum(np.arange(longest), len(item) - 1)] for item in histories], axis=1)


def _params(
    learned: LearnedChannels, thresholds: Doubles, falls: Doubles, stuck: tuple[int, ...], share: float
) -> GuardParams:
    precision, wear = learned
    return GuardParams(
        precision=tuple(map(tuple, precision.tolist())),
        spans=SPANS,
        thresholds=tuple(map(tuple, thresholds.tolist())),
        wear=tuple(wear.tolist()),
        falls=tuple(falls.tolist()),
        stuck_cycles=stuck,
        false_alarm_share=share,
        measured_false_alarm_share=0.0,
        widen=REPAIR_WIDENING,
    )


def learn_channels(histories: Sequence[History]) -> LearnedChannels:
    """How the channels of these machines go together (Ω), and how they wear (w)."""
    rows = [rows.astype(np.float64) for rows, _ in histories]
    return shrunk_precision(np.concatenate(rows)), _wear_weights(rows)


def _typical_deviations(folds: Sequence[tuple[list[History], LearnedChannels]]) -> tuple[Doubles, Doubles]:
    """Deviation of each channel, (S, C), and fall of wear, (S,), that one row in a hundred of a new unit exceeds."""
    deviations: list[list[Doubles]] = [[] for _ in SPANS]
    depths: list[list[Doubles]] = [[] for _ in SPANS]
    steps = []
    for fold, (precision, wear) in folds:
        for rows, _ in fold:
            z = rows.astype(np.float64) @ (precision / np.sqrt(np.diag(precision)))
            steps.append(np.diff(rows @ wear))
            for k, span in enumerate(SPANS):
                deviations[k].append(np.abs(_averages(z, span)))
                averages = _averages(rows.astype(np.float64) @ wear, span)
                depths[k].append(np.maximum.accumulate(averages)[: -SPANS[-1]] - averages[SPANS[-1] :])
    if not sum(map(len, depths[-1])):
        raise DataError(f"guard: expected histories of {2 * SPANS[-1]} cycles or more, got none")
    typical = np.stack([np.quantile(np.concatenate(parts), TYPICAL_QUANTILE, axis=0) for parts in deviations])
    falls = np.array([np.quantile(np.concatenate(parts), TYPICAL_QUANTILE) for parts in depths])
    # Wear may never have fallen, and a channel may never have deviated: noise and rounding must raise no alarm.
    noise = np.concatenate(steps).std() / np.sqrt(2)  # standard deviation of one row's wear
    floor = 3 * np.sqrt(2 / np.array(SPANS)) * noise  # three standard deviations of the difference of two averages
    return np.maximum(typical, MIN_THRESHOLD), np.maximum(np.maximum(falls, floor), MIN_THRESHOLD)


def _averages(values: Doubles, span: int) -> Doubles:
    """The averages of (R, …) over every `span` consecutive rows, (R - span + 1, …)."""
    sums = np.concatenate([np.zeros((1, *values.shape[1:])), np.cumsum(values, axis=0)])
    return np.asarray((sums[span:] - sums[:-span]) / span)


def _smallest_factor(enough: Callable[[float], bool]) -> float:
    """The smallest factor that is enough, to 2 %; MAX_FACTOR if none is."""
    low, high = 0.5, MAX_FACTOR
    while high > 1.02 * low:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def shrunk_precision(rows: Doubles) -> Doubles:
    """The inverse of the covariance of rows (R, C), shrunk towards a multiple of the identity; exactly symmetric."""
    count, channels = rows.shape
    centred = rows.astype(np.float64)  # in σ of the training units: their mean is 0
    covariance = centred.T @ centred / count
    level = np.trace(covariance) / channels
    spread = np.sum((covariance - level * np.eye(channels)) ** 2) / channels  # δ² of Ledoit & Wolf, lemma 3.2
    noise = (np.sum((centred**2).T @ (centred**2)) / count - np.sum(covariance**2)) / channels / count  # β²
    share = min(1.0, max(0.0, noise / spread)) if spread > 0 else 1.0
    shrunk = (1 - share) * covariance + (share * level + RIDGE) * np.eye(channels)
    precision = np.linalg.inv(shrunk)
    return np.asarray((precision + precision.T) / 2)


def _wear_weights(histories: Sequence[Doubles]) -> Doubles:
    """The ridge regression (C,) from the rows of a machine to the share of its life that has passed."""
    rows = np.concatenate(list(histories))
    shares = np.concatenate([np.arange(1, len(unit) + 1) / len(unit) for unit in histories])
    gram = rows.T @ rows / len(rows) + RIDGE * np.eye(rows.shape[1])
    return np.asarray(np.linalg.solve(gram, rows.T @ (shares - shares.mean()) / len(rows)))


def _stuck_limits(histories: Sequence[History]) -> Regimes:
    """For each channel, the longest run of one value in consecutive rows, plus two; at least 3."""
    longest = np.ones(histories[0][0].shape[1], dtype=np.int64)
    for rows, _ in histories:
        run = np.ones(rows.shape[1], dtype=np.int64)
        for before, after in itertools.pairwise(rows):
            run = np.where(after == before, run + 1, 1)
            longest = np.maximum(longest, run)
    return np.maximum(longest + 2, 3)
