"""Units whose history is that of another unit: a copy, also shifted in time, or with a little noise.

1. Of each row, the signs of the changes of the sensors that are read, each taken from its mean in the row's regime; of
   some rows, one number of 64 bits. Two machines seldom agree in all of them; a copy with little noise does in many
   rows, wherever it begins.
2. Numbers that two units share, and not a quarter of the fleet, propose a pair and a shift; two votes make a candidate.
   Of a large fleet only the numbers that end in zeros are kept (Broder, On the resemblance of documents, 1997).
3. A candidate is a copy if the distance between both histories is less than MOST_DISTANCE of the usual distance between
   two units: mean square over sensors and rows, each sensor in units of its own changes.

Both units are named: which one is the copy cannot be told. Where units usually do not differ, nothing is found.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from twinseal.telemetry.regimes import NOWHERE
from twinseal.telemetry.unit_rows import Known, lengths_of, parts_of, regimes_of, starts_of

MOST_DISTANCE = 0.2
LEAST_ROWS = 10  # that two histories must share
BITS = 60
KEPT = 1_000_000  # numbers, of all units
MAX_SENSORS = 15
SAMPLE = 200_000  # rows that show how a sensor changes
PAIRS = 200  # that show the usual distance
Array = npt.NDArray[np.float64]
Places = npt.NDArray[np.intp]
Readings = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Copy:
    """What a unit has in common with another.

    Attributes:
        other: Name of the other unit.
        shift: How many rows later the other unit shows the same.
        distance: As a share of the usual distance between two units.
        first, last: Places in the unit's history that both share; the last one is included.
    """

    other: str
    shift: int
    distance: float
    first: int
    last: int


def find_copies(table: pd.DataFrame, sensors: Sequence[str], known: Known | None = None) -> Mapping[str, Copy]:
    """The units that have the history of another one, by name.

    Args:
        table: The rows of a fleet, sorted by unit and cycle.
        sensors: Names of the sensors that are read.
        known: The contract's regimes.
    """
    starts = starts_of(table)
    lengths = lengths_of(table, starts)
    values = [table[name].to_numpy() for name in sensors]
    if known:
        regime = np.concatenate([regimes_of(part, known) for part in parts_of(table)]) - NOWHERE
        values = [_from_its_mean(channel, regime) for channel in values]
    values, scale = _lively(values)
    if len(starts) < 3 or not values:
        return {}
    histories = _Histories(values, scale, starts, lengths)
    usual = histories.usual_distance()
    found: dict[str, Copy] = {}
    names = table["unit"].iloc[starts].tolist()
    for one, other, shift in _candidates(histories) if usual > 0 else ():
        distance, first, last = histories.distance(one, other, shift)
        share = float(np.float32(distance / usual))
        if share < MOST_DISTANCE:
            pairs = ((one, other, shift, first, last), (other, one, -shift, first + shift, last + shift))
            for mine, others, by, begin, end in pairs:
                if names[mine] not in found or share < found[names[mine]].distance:
                    found[names[mine]] = Copy(names[others], by, share, begin, end)
    return found


@dataclass(frozen=True)
class _Histories:
    values: list[Readings]
    scale: Array
    starts: Places
    lengths: Places

    def distance(self, one: int, other: int, shift: int) -> tuple[float, int, int]:
        """Between two units, the second `shift` rows later; first and last place of the first one that they share."""
        first = max(0, -shift)
        last = int(min(self.lengths[one], self.lengths[other] - shift)) - 1
        if last - first + 1 < LEAST_ROWS:
            return np.inf, first, last
        here, there = self.starts[one], self.starts[other] + shift
        square = 0.0
        for values, scale in zip(self.values, self.scale, strict=True):
            mine, others = values[here + first : here + last + 1], values[there + first : there + last + 1]
            with np.errstate(invalid="ignore", over="ignore"):
                away = (mine.astype(np.float64) - others) / scale
            known = np.isfinite(away)
            square += float(np.mean(away[known] ** 2)) if known.any() else np.inf
        return float(np.sqrt(square / len(self.values))), first, last

    def usual_distance(self) -> float:
        """The median over pairs of units, each from its beginning."""
        units = len(self.starts)
        pairs = {(n * units // PAIRS % units, (n * units // PAIRS + 1 + n % (units - 1)) % units) for n in range(PAIRS)}
        distances = [self.distance(one, other, 0)[0] for one, other in sorted(pairs) if one != other]
        finite = [distance for distance in distances if np.isfinite(distance)]
        return float(np.median(finite)) if finite else 0.0


def _from_its_mean(values: Readings, regime: npt.NDArray[np.int64]) -> Readings:
    """Readings (R,) without what the regime (R,) makes of them."""
    known = np.isfinite(values)
    count = np.maximum(1, np.bincount(regime[known]))
    mean = np.append(np.bincount(regime[known], values[known]) / count, np.zeros(int(regime.max(initial=0)) + 1))
    return np.asarray(values - mean.astype(np.float32)[regime])


def _lively(values: list[Readings]) -> tuple[list[Readings], Array]:
    """The sensors that seldom repeat a value, and the usual size of their changes; of a sample of rows."""
    lively, scale = [], []
    for channel in values:
        with np.errstate(invalid="ignore", over="ignore"):
            change = np.diff(channel[:SAMPLE].astype(np.float64))
        change = change[np.isfinite(change)]
        typical = float(np.median(np.abs(change))) if len(change) else 0.0
        if typical > 0 and np.mean(change == 0) < 0.2:
            lively.append(channel)
            scale.append(typical)
    return lively[:MAX_SENSORS], np.array(scale[:MAX_SENSORS])


def _candidates(histories: _Histories) -> Iterator[tuple[int, int, int]]:
    """Pairs of units, by number, and the shift of the second one."""
    number, row = _numbers(histories)
    order = np.lexsort((row, number))
    number, row = number[order], row[order]
    unit = np.searchsorted(histories.starts, row, side="right") - 1
    place = row - histories.starts[unit]
    begins = np.flatnonzero(np.concatenate([[True], number[1:] != number[:-1]])) if len(number) else np.zeros(0, int)
    size = np.diff(np.append(begins, len(number)))
    common = np.repeat(size > max(4, len(histories.starts) // 4), size)
    near = np.flatnonzero((number[1:] == number[:-1]) & (unit[1:] != unit[:-1]) & ~common[1:])
    votes = np.stack([unit[near], unit[near + 1], place[near + 1] - place[near]], axis=1)
    pairs, count = np.unique(votes, axis=0, return_counts=True) if len(votes) else (votes, np.zeros(0, int))
    for one, other, shift in pairs[count >= 2].tolist():
        yield int(one), int(other), int(shift)


def _numbers(histories: _Histories) -> tuple[npt.NDArray[np.uint64], Places]:
    """The numbers of the windows that are kept, and the row in which each begins."""
    rows, sensors = len(histories.values[0]), len(histories.values)
    cycles = -(-BITS // sensors)
    keep = max(0, (rows // KEPT).bit_length())  # as many zeros at the end
    numbers, places = [], []
    firsts = np.append(histories.starts, rows)
    step = 1 << 17
    for begin in range(0, rows, step):
        end = min(rows, begin + step + cycles)
        signs = np.zeros(max(0, end - begin - 1), dtype=np.uint64)
        for at, values in enumerate(histories.values):
            part = values[begin:end]
            signs |= (part[1:] > part[:-1]).astype(np.uint64) << np.uint64(at)
        count = min(step, len(signs) - cycles + 1)
        if count <= 0:
            continue
        number = np.zeros(count, dtype=np.uint64)
        for back in range(cycles):  # a mix, so that the last bits depend on all
            number = (number ^ signs[back : back + count]) * np.uint64(0x9E3779B97F4A7C15)
            number ^= number >> np.uint64(29)
        row = np.arange(begin, begin + count)
        inside = row + cycles < firsts[np.searchsorted(firsts, row, side="right")]
        kept = inside & ((number & np.uint64((1 << keep) - 1)) == 0)
        numbers.append(number[kept])
        places.append(row[kept])
    if not numbers:
        return np.zeros(0, np.uint64), np.zeros(0, np.intp)
    return np.concatenate(numbers), np.concatenate(places)
