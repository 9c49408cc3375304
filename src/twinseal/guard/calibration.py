"""Setting the guard's thresholds: from the deviations of healthy machines, so that few bad units cannot raise them far.

How the channels go together and wear is learnt in `relations`. The precision is that of the training rows in σ, shrunk
towards independence (Ledoit & Wolf, A Well-Conditioned Estimator for Large-Dimensional Covariance Matrices, 2004) with
a small ridge, so that no channel is ever explained completely. The wear is a ridge regression: from the rows of a
machine to the share of its life that has passed.

The thresholds control a risk as in conformal prediction (Angelopoulos et al., Conformal Risk Control, 2024). Units are
divided into folds; the guard of each fold has learned from the other folds. Two factors, one for all falls of wear and
one for all channels and spans, each tried with the other out of reach, are the smallest at which at most their parts of
a share α of the rows are flagged or refused, hysteresis included. Units are exchangeable, rows of one unit are not, so
each unit counts the same. The paper's correction for n units, 1 / (n + 1), is left out: with 81 units it alone is more
than the one per cent asked for. Instead, the share of false alarms is measured on units that set nothing, and stored.

The share is a trimmed mean: the t units with the most alarms have no vote (`telemetry.over_units`), so a unit that
raises any number of alarms does not raise a factor. What healthy machines among these t would have asked for is given
back by a constant, SLACK. `calibrate` says how far r bad units could have moved the thresholds that were set.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from twinseal.errors import DataError
from twinseal.guard.guard import Guard
from twinseal.guard.parameters import SPANS, Doubles, GuardParams
from twinseal.guard.relations import History, Relations, covariance_moved_share, learn_relations, stuck_limits
from twinseal.telemetry.contract import Contract
from twinseal.telemetry.over_units import median, reach, tolerated

Regimes = NDArray[np.int64]
Restore = Callable[[Doubles, Regimes], Doubles]
AlarmsAt = Callable[[float], "Replay"]  # factor → the histories, shown to guards that have learned from other folds

FOLDS = 5
MIN_UNITS = 5
# A replaced channel is an estimate, so the interval of the answer is this much wider. Measured: docs/robustness.md.
REPAIR_WIDENING = 1.25
# Only falls of wear reveal a manipulation of all channels together: they get almost half of the false alarms.
WEAR_SHARE = 0.4
TYPICAL_QUANTILE = 0.99  # thresholds are multiples of this quantile of the deviations of a typical unit
SLACK = 1.05  # on both factors, for the healthy units among those that have no vote; measured: docs/robustness.md
MIN_THRESHOLD = 1e-6
CYCLES_BETWEEN_LOOKS = 10  # of a replay, at whether the factor is too small already
MIN_FACTOR = 0.5  # times the typical deviation
MAX_FACTOR = 10.0  # likewise; with a larger factor the guard finds nothing any more


@dataclass(frozen=True)
class Range:
    """How far a threshold may be from where it was set, as a multiple of that: `low` ≤ 1 ≤ `high`."""

    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Calibration:
    """A guard, and how far bad units could have moved it.

    Attributes:
        params: Of the guard.
        wear, channels: By number of bad units among those that it learned from, from 1 to what is tolerated: the range
            of all wear thresholds, and of all others, for these relations of the channels.
        relations_moved_share: Likewise, how far the relations move: the covariance, in the trace norm, as a share of
            its trace.
    """

    params: GuardParams
    wear: dict[int, Range]
    channels: dict[int, Range]
    relations_moved_share: dict[int, float]


def fit(
    histories: Sequence[History],
    unseen: Sequence[History],
    contract: Contract,
    restore: Restore,
    *,
    false_alarm_share: float = 0.01,
    seed: int = 0,
) -> GuardParams:
    """The guard's parameters alone; as `calibrate`."""
    return _Calibrating(histories, contract, restore, false_alarm_share, seed, unseen).params()


def calibrate(
    histories: Sequence[History],
    unseen: Sequence[History],
    contract: Contract,
    restore: Restore,
    *,
    false_alarm_share: float = 0.01,
    seed: int = 0,
) -> Calibration:
    """The guard's parameters, and how far few bad units could have moved them.

    Args:
        histories: For each training unit its rows (R, C) in σ, in order of cycle and without gaps, and the regime of
            each row (R,).
        unseen: The same for other units. They set nothing; the false alarms are measured on them.
        contract: The contract of the machines.
        restore: Rows (B, C) in σ and their regimes (B,) → rows in the channels' units.
        false_alarm_share: α.
        seed: Seed of the division into folds: nobody may know it who names units (`prognostics.splitting`).

    Raises:
        DataError: There are too few units, none to measure on, or all histories are short.
    """
    found = _Calibrating(histories, contract, restore, false_alarm_share, seed, unseen)
    rows = [rows.astype(np.float64) for rows, _ in histories]
    bad = range(1, tolerated(len(histories)) + 1)
    return Calibration(
        params=found.params(),
        wear={count: found.range_of_wear(count) for count in bad},
        channels={count: found.range_of_channels(count) for count in bad},
        relations_moved_share={count: covariance_moved_share(rows, count) for count in bad},
    )


class _Calibrating:
    """The steps of one calibration; what is asked twice is computed once."""

    def __init__(
        self,
        histories: Sequence[History],
        contract: Contract,
        restore: Restore,
        share: float,
        seed: int,
        unseen: Sequence[History],
    ) -> None:
        if len(histories) < MIN_UNITS or not unseen:
            raise DataError(
                f"guard: expected at least {MIN_UNITS} training units and one more, got {len(histories)}, "
                f"{len(unseen)}",
                remedy="Bring more units that ran to failure.",
            )
        self._histories, self._unseen, self._contract, self._restore = histories, unseen, contract, restore
        self._share = share
        order = np.random.default_rng(seed).permutation(len(histories))
        parts = [[histories[i] for i in order[k::FOLDS]] for k in range(FOLDS)]
        trimmed = tolerated(len(histories))  # all bad units may be in what one fold learns from
        others = [[unit for other in parts if other is not part for unit in other] for part in parts]
        self._folds = [(part, learn_relations(rest, trimmed)) for part, rest in zip(parts, others, strict=True)]
        self._slack = SLACK if trimmed else 1.0
        self._typical = _typical_deviations(self._folds)
        self._stuck = tuple(int(n) for n in stuck_limits(histories))
        self._wear_alarms: AlarmsAt = cache(lambda factor: self._replay(MAX_FACTOR, factor))
        self._channel_alarms: AlarmsAt = cache(lambda factor: self._replay(factor, MAX_FACTOR))
        self._side_by_side = SideBySide.of([unit for part in parts for unit in part], restore)
        self._wear_share, self._channel_share = WEAR_SHARE * share, (1 - WEAR_SHARE) * share

    def params(self) -> GuardParams:
        """The guard that is shipped."""
        wear = self._slack * _smallest_factor(self._wear_alarms, self._wear_share)
        channels = self._slack * _smallest_factor(self._channel_alarms, self._channel_share)
        final = self._guard(learn_relations(self._histories), channels, wear)
        measured = alarm_shares(final, self._unseen, self._contract, self._restore)
        return final.model_copy(update={"measured_false_alarm_share": float(np.mean(measured))})

    def range_of_wear(self, bad: int) -> Range:
        """How far `bad` units could have moved the thresholds for falls of wear."""
        return _range(self._wear_alarms, self._wear_share, self._typical.falls, bad)

    def range_of_channels(self, bad: int) -> Range:
        """Likewise all other thresholds."""
        return _range(self._channel_alarms, self._channel_share, self._typical.deviations, bad)

    def _guard(self, relations: Relations, channel_factor: float, wear_factor: float) -> GuardParams:
        precision, wear = relations
        thresholds = self._typical.deviations.learned * channel_factor
        return GuardParams(
            precision=tuple(map(tuple, precision.tolist())),
            spans=SPANS,
            thresholds=tuple(map(tuple, thresholds.tolist())),
            wear=tuple(wear.tolist()),
            falls=tuple((self._typical.falls.learned * wear_factor).tolist()),
            stuck_cycles=self._stuck,
            false_alarm_share=self._share,
            measured_false_alarm_share=0.0,
            widen=REPAIR_WIDENING,
        )

    def _replay(self, channel_factor: float, wear_factor: float) -> Replay:
        """Every unit, shown to the guard that has not learned from it."""
        params = []
        for fold, relations in self._folds:
            params += [self._guard(relations, channel_factor, wear_factor)] * len(fold)
        return Replay(params, self._side_by_side, self._contract)


@dataclass(frozen=True, eq=False)
class SideBySide:
    """Histories of U units beside each other; a shorter one goes on with its last row.

    Attributes:
        lengths: (U,), rows of each.
        scaled: (T, U, C), σ.
        regimes: (T, U).
        readings: (T, U, C), in the channels' units.
    """

    lengths: NDArray[np.int64]
    scaled: Doubles
    regimes: Regimes
    readings: Doubles

    @classmethod
    def of(cls, histories: Sequence[History], restore: Restore) -> SideBySide:
        """The histories, and their readings; arguments as in `calibrate`."""
        lengths = np.array([len(rows) for rows, _ in histories])
        at = [np.minimum(np.arange(lengths.max()), length - 1) for length in lengths]
        scaled = np.stack([rows[i] for (rows, _), i in zip(histories, at, strict=True)], axis=1)
        regimes = np.stack([regime[i] for (_, regime), i in zip(histories, at, strict=True)], axis=1)
        readings = restore(scaled.reshape(-1, scaled.shape[2]), regimes.reshape(-1)).reshape(scaled.shape)
        return cls(lengths, scaled, regimes, readings)


class Replay:
    """Guards that are shown histories cycle by cycle, for as long as somebody asks.

    Args:
        params: Of the guard, for all units or for each.
        histories: Of U units.
        contract: Of the machines.

    Attributes:
        alarmed: (T, U), which rows a guard flagged or refused, up to the cycle that was shown last.
    """

    def __init__(self, params: GuardParams | Sequence[GuardParams], histories: SideBySide, contract: Contract) -> None:
        self._histories = histories
        self._guard: Guard | None = Guard(params, contract, len(histories.lengths))
        self.alarmed, self._shown = np.zeros(histories.regimes.shape, dtype=bool), 0

    @property
    def shares(self) -> Doubles:
        """The share of the rows of each unit that is alarmed so far, (U,): what it will be at the end, or less."""
        return np.asarray(self.alarmed.sum(axis=0) / self._histories.lengths)

    def show(self, cycles: int) -> bool:
        """Show the next rows; False when there are no more."""
        if self._guard is None:
            return False
        told, end = self._histories, min(self._shown + cycles, len(self.alarmed))
        for at in range(self._shown, end):
            units = np.flatnonzero(at < told.lengths)
            given = (told.readings[at, units], told.scaled[at, units])
            decision = self._guard.decide(np.full(len(units), at + 1), *given, units, told.regimes[at, units])
            self.alarmed[at, units] = decision.flagged.any(axis=1) | (np.array(decision.refusals) != "")
        self._shown = end
        if end == len(self.alarmed):
            self._guard = None  # many replays are kept, for what was alarmed
        return end < len(self.alarmed)


def alarm_shares(params: GuardParams, histories: Sequence[History], contract: Contract, restore: Restore) -> Doubles:
    """The share of the rows of each unit that the guard flags or refuses, (U,); arguments as in `alarmed_rows`."""
    return np.array([float(np.mean(rows)) for rows in alarmed_rows(params, histories, contract, restore)])


def alarmed_rows(
    params: GuardParams, histories: Sequence[History], contract: Contract, restore: Restore
) -> list[NDArray[np.bool_]]:
    """Of each unit the rows (R,) that the guard flags or refuses.

    Args:
        params: Of the guard.
        histories: As in `calibrate`.
        contract: Of the machines.
        restore: As in `calibrate`.
    """
    told = SideBySide.of(histories, restore)
    replay = Replay(params, told, contract)
    replay.show(len(replay.alarmed))
    return [replay.alarmed[:length, unit] for unit, length in enumerate(told.lengths)]


@dataclass(frozen=True, eq=False)
class _Typical:
    """The deviation that a typical unit exceeds in one row of a hundred, `learned` (S, …), and how far it can move."""

    learned: Doubles
    moved: dict[int, tuple[Doubles, Doubles]]


@dataclass(frozen=True, eq=False)
class _Deviations:
    """Of the channels, (S, C), and of the wear, (S,)."""

    deviations: _Typical
    falls: _Typical


def _typical_deviations(folds: Sequence[tuple[list[History], Relations]]) -> _Deviations:
    """What is typical: of each unit the quantile of its rows, and of these the median over units."""
    deviations, falls = [], []
    for fold, (precision, wear) in folds:
        for rows, _ in fold:
            values = rows.astype(np.float64)
            z = values @ (precision / np.sqrt(np.diag(precision)))
            deviations.append([np.quantile(np.abs(_averages(z, n)), TYPICAL_QUANTILE, axis=0) for n in SPANS])
            if len(values) >= 2 * SPANS[-1]:
                falls.append(_falls(values @ wear))
    if not falls:
        raise DataError(f"guard: expected histories of {2 * SPANS[-1]} cycles or more, got none")
    return _Deviations(_typical(np.array(deviations)), _typical(np.array(falls)))


def _falls(wear: Doubles) -> Doubles:
    """How far the averages of one unit's wear (R,) fall, (S,).

    Wear may never have fallen: noise and rounding must raise no alarm.
    """
    depths = []
    for span in SPANS:
        averages = _averages(wear, span)
        depth = np.maximum.accumulate(averages)[: -SPANS[-1]] - averages[SPANS[-1] :]
        depths.append(np.quantile(depth, TYPICAL_QUANTILE) if len(depth) else 0.0)
    noise = np.diff(wear).std() / np.sqrt(2)  # standard deviation of one row's wear
    floor = 3 * np.sqrt(2 / np.array(SPANS)) * noise  # three standard deviations of the difference of two averages
    return np.asarray(np.maximum(np.array(depths), floor))


def _typical(by_unit: Doubles) -> _Typical:
    """Of what each unit deviates, (U, S, …)."""

    def usual(values: Doubles) -> Doubles:
        return np.maximum(median(values), MIN_THRESHOLD)

    bad = range(1, tolerated(len(by_unit)) + 1)
    return _Typical(usual(by_unit), {count: reach(usual, by_unit, count) for count in bad})


def _averages(values: Doubles, span: int) -> Doubles:
    """The averages of (R, …) over every `span` consecutive rows, (R - span + 1, …)."""
    sums = np.concatenate([np.zeros((1, *values.shape[1:])), np.cumsum(values, axis=0)])
    return np.asarray((sums[span:] - sums[:-span]) / span)


def _range(alarms: AlarmsAt, share: float, typical: _Typical, bad: int) -> Range:
    """How far `bad` units could have moved thresholds.

    A threshold is a factor times what is typical, x. If bad units move x to x', low ≤ x' ≤ high, a factor that keeps
    the others quiet at x keeps them quiet at x' once it is divided by the least low/x: so no threshold is above that
    factor times high/x, divided by the least low/x. In the same way downwards.
    """
    if bad not in typical.moved:
        return Range(0.0, math.inf)
    now = _smallest_factor(alarms, share)
    low, high = (side / typical.learned for side in typical.moved[bad])
    wide = float(high.max() / low.min())
    least = _smallest_factor(alarms, share, silent=bad) / now / wide
    return Range(least, _smallest_factor(alarms, share, loud=bad) / now * wide)


def _smallest_factor(alarms: AlarmsAt, share: float, *, loud: int = 0, silent: int = 0) -> float:
    """The smallest factor at which the units are quiet, to 2 %; MAX_FACTOR if they are at none.

    Args:
        alarms: Of each unit at a factor.
        share: What the units that are not trimmed may have on average.
        loud: So many units are bad, and raise alarms at every factor: they take the places of the quietest ones.
        silent: So many units are bad, and raise none at any: they take the places of the loudest ones.
    """

    def quiet(factor: float) -> bool:
        replay, more = alarms(factor), True
        units = len(replay.shares)
        trimmed = tolerated(units)
        while more:
            more = replay.show(CYCLES_BETWEEN_LOOKS)
            kept = np.sort(replay.shares)[loud : units - (trimmed - loud + silent)]
            if kept.sum() > share * (units - trimmed):  # the rows that are still to come can only add to it
                return False
        return True

    def search(quiet: Callable[[float], bool]) -> float:
        low, high = MIN_FACTOR, MAX_FACTOR
        while high > 1.02 * low:
            middle = math.sqrt(low * high)
            low, high = (low, middle) if quiet(middle) else (middle, high)
        return high

    if quiet(MIN_FACTOR):  # as the wear of many fleets: one look, and one at what is taken then
        least = search(lambda _: True)
        if quiet(least):
            return least
    return search(quiet)
