"""Learning the guard: how the channels of sound machines go together, how they wear, and how far they stray.

The precision is that of the training rows in σ, shrunk towards independence (Ledoit & Wolf, A Well-Conditioned
Estimator for Large-Dimensional Covariance Matrices, 2004) with a small ridge, so that no channel is ever explained
without a rest. The wear is the ridge regression of the share of its life that a machine has behind it on its rows.

The thresholds control a risk as conformal prediction does (Angelopoulos et al., Conformal Risk Control, 2024): units
are divided into folds, each is watched by a guard that has learned from the others, and two factors, one for all falls
of wear and one for all channels and spans, are the smallest at which, of the rows of such units, at most a share α is
flagged or refused, hysteresis and all. Units are what is exchangeable, rows of one unit are not, so each unit counts
the same. That paper's correction for n units, 1 / (n + 1), is left out: with 81 units it alone is more than the one per
cent asked for. What the guard does on units that set nothing is measured instead, and said.
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
Learned = tuple[Doubles, Doubles]  # Ω (C, C) and w (C,), see `parameters`

RIDGE = 0.02
FOLDS = 5
LEAST_UNITS = 5
# A repaired answer rests on a guess of the others: its interval is this much wider. Measured, see docs/robustness.md.
WIDEN = 1.25
# Falls of wear find what nothing else does, all channels that lie together: they get almost half of the false alarms.
WEAR_SHARE = 0.4
USUAL = 0.99  # the quantile that thresholds are multiples of
TINY = 1e-6
MOST = 10.0  # times what is usual: beyond, nothing is found any more


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
        histories: Of each training unit the rows (R, C) in σ, in order of their cycles, without gaps, and the regime of
            each row (R,).
        unseen: Likewise of other units; they set nothing, the false alarms are measured on them.
        contract: Of the machines.
        restore: Rows (B, C) in σ and their regimes (B,) → rows in the channels' units.
        false_alarm_share: α.
        seed: Of the division into folds.

    Raises:
        DataError: Too few units, none to measure on, or all of them short.
    """
    if len(histories) < LEAST_UNITS or not unseen:
        raise DataError(
            f"guard: expected at least {LEAST_UNITS} training units and one more, got {len(histories)}, {len(unseen)}",
            remedy="Bring more units that ran to failure.",
        )
    order = np.random.default_rng([seed, 50]).permutation(len(histories))
    parts = [[histories[i] for i in order[k::FOLDS]] for k in range(FOLDS)]
    folds = [(part, learn([unit for other in parts if other is not part for unit in other])) for part in parts]
    usual, falls = _usual(folds)
    stuck = tuple(int(n) for n in _longest_run(histories))

    def params(learned: Learned, strays: float, heals: float) -> GuardParams:
        return _params(learned, usual * strays, falls * heals, stuck, false_alarm_share)

    def quiet(strays: float, heals: float, share: float) -> bool:
        left = share * len(histories)
        for fold, learned in folds:
            left -= alarms(params(learned, strays, heals), fold, contract, restore, most=left).sum()
            if left < 0:
                return False
        return True

    heals = _smallest(lambda factor: quiet(MOST, factor, WEAR_SHARE * false_alarm_share))
    strays = _smallest(lambda factor: quiet(factor, heals, false_alarm_share))
    final = params(learn(histories), strays, heals)
    return final.model_copy(
        update={"measured_false_alarm_share": float(np.mean(alarms(final, unseen, contract, restore)))}
    )


def alarms(
    params: GuardParams,
    histories: Sequence[History],
    contract: Contract,
    restore: Callable[[Doubles, Regimes], Doubles],
    *,
    most: float = math.inf,
) -> Doubles:
    """The share of each unit's rows that a guard flags or refuses, (U,).

    Args:
        params: The guard's.
        histories: As `fit`.
        contract: Of the machines.
        restore: As `fit`.
        most: Once the shares add up to more than this, the rest is not looked at: what is given is too little then.
    """
    lengths = np.array([len(rows) for rows, _ in histories])
    known, regimes = (_side_by_side(parts) for parts in zip(*histories, strict=True))  # (T, U, C), (T, U)
    readings = restore(known.reshape(-1, known.shape[2]), regimes.reshape(-1)).reshape(known.shape)
    guard, counts = Guard(params, contract, len(histories)), np.zeros(len(histories))
    for cycle in range(lengths.max()):
        here = cycle < lengths
        look = guard.decide(np.full(len(lengths), cycle + 1), readings[cycle], known[cycle], here, regimes[cycle])
        alarmed = here & (look.flagged.any(axis=1) | (np.array(look.refusals) != ""))
        counts += alarmed
        if alarmed.any() and (counts / lengths).sum() > most:
            break
    return np.asarray(counts / lengths)


def _side_by_side(histories: Sequence[NDArray[Number]]) -> NDArray[Number]:
    """Histories (R, …) of U units beside each other, (T, U, …); a shorter one goes on with its last row."""
    longest = max(map(len, histories))
    return np.stack([item[np.minimum(np.arange(longest), len(item) - 1)] for item in histories], axis=1)


def _params(learned: Learned, thresholds: Doubles, falls: Doubles, stuck: tuple[int, ...], share: float) -> GuardParams:
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
        widen=WIDEN,
    )


def learn(histories: Sequence[History]) -> Learned:
    """How the channels of these machines go together, and how they wear."""
    rows = [rows.astype(np.float64) for rows, _ in histories]
    return shrunk_precision(np.concatenate(rows)), _wear_of(rows)


def _usual(folds: Sequence[tuple[list[History], Learned]]) -> tuple[Doubles, Doubles]:
    """How far each channel strays, (S, C), and wear falls, (S,), in one row of a hundred of units not learned from."""
    strayed: list[list[Doubles]] = [[] for _ in SPANS]
    fallen: list[list[Doubles]] = [[] for _ in SPANS]
    steps = []
    for fold, (precision, wear) in folds:
        for rows, _ in fold:
            z = rows.astype(np.float64) @ (precision / np.sqrt(np.diag(precision)))
            steps.append(np.diff(rows @ wear))
            for k, span in enumerate(SPANS):
                strayed[k].append(np.abs(_averages(z, span)))
                averages = _averages(rows.astype(np.float64) @ wear, span)
                fallen[k].append(np.maximum.accumulate(averages)[: -SPANS[-1]] - averages[SPANS[-1] :])
    if not sum(map(len, fallen[-1])):
        raise DataError(f"guard: expected histories of {2 * SPANS[-1]} cycles or more, got none")
    strays = np.stack([np.quantile(np.concatenate(parts), USUAL, axis=0) for parts in strayed])
    falls = np.array([np.quantile(np.concatenate(parts), USUAL) for parts in fallen])
    # A machine that is quiet never falls, and a channel may never stray: neither noise nor rounding is an alarm.
    noise = np.concatenate(steps).std() / np.sqrt(2)  # of one row's wear
    floor = 3 * np.sqrt(2 / np.array(SPANS)) * noise  # three standard deviations of the difference of two averages
    return np.maximum(strays, TINY), np.maximum(np.maximum(falls, floor), TINY)


def _averages(values: Doubles, span: int) -> Doubles:
    """The averages of (R, …) over each `span` rows on end, (R - span + 1, …); none where there are fewer."""
    sums = np.concatenate([np.zeros((1, *values.shape[1:])), np.cumsum(values, axis=0)])
    return np.asarray((sums[span:] - sums[:-span]) / span)


def _smallest(enough: Callable[[float], bool]) -> float:
    """The smallest factor, to a fiftieth of itself, that is enough; MOST where none is."""
    low, high = 0.5, MOST
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


def _wear_of(histories: Sequence[Doubles]) -> Doubles:
    """The ridge regression (C,) of the share of its life that a machine has behind it on its rows."""
    rows = np.concatenate(list(histories))
    shares = np.concatenate([np.arange(1, len(unit) + 1) / len(unit) for unit in histories])
    gram = rows.T @ rows / len(rows) + RIDGE * np.eye(rows.shape[1])
    return np.asarray(np.linalg.solve(gram, rows.T @ (shares - shares.mean()) / len(rows)))


def _longest_run(histories: Sequence[History]) -> Regimes:
    """For how many rows on end each channel showed the same value, at most, and two more; at least 3."""
    longest = np.ones(histories[0][0].shape[1], dtype=np.int64)
    for rows, _ in histories:
        run = np.ones(rows.shape[1], dtype=np.int64)
        for before, after in itertools.pairwise(rows):
            run = np.where(after == before, run + 1, 1)
            longest = np.maximum(longest, run)
    return np.maximum(longest + 2, 3)
