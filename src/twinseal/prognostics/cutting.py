"""Cutting histories into windows: which rows each unit has, where its windows end, and all of them in arrays.

A fleet of ten million rows is there once: its columns are read unit by unit, and what windows are made of is written
into arrays that are as large as they will be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from twinseal.errors import DataError
from twinseal.prognostics.normaliser import F32, F64, I64, PADDING_ROWS, Normaliser, baseline_of, pad
from twinseal.prognostics.raw_rows import RawRows

if TYPE_CHECKING:
    from twinseal.telemetry.fleet import Fleet


def every(length: int, stride: int) -> I64:
    """Lengths of history at which windows end: every `stride`-th, counted back from the last.

    None before PADDING_ROWS rows are there: what stands for the time before would know the rows to come.
    """
    return np.arange(length, min(PADDING_ROWS, length) - 1, -stride, dtype=np.int64)[::-1].copy()


def cuts(length: int, shortest: int, count: int, rng: np.random.Generator) -> I64:
    """So many lengths of history drawn at random, none shorter than `shortest`, rising."""
    possible = np.arange(min(shortest, length), length + 1, dtype=np.int64)
    return np.sort(rng.choice(possible, size=min(count, len(possible)), replace=False))


class Histories:
    """The columns of a fleet, and where each unit's rows are in them: nothing is copied but what is asked for."""

    def __init__(self, fleet: Fleet, inputs: Sequence[str]) -> None:
        self._columns = [fleet.table[name].to_numpy() for name in inputs]
        self._rul, self._cycle = fleet.table["rul"].to_numpy(), fleet.table["cycle"].to_numpy()
        self._spans = dict(zip(fleet.units, map(slice, fleet.starts, fleet.starts + fleet.lengths), strict=True))

    def length(self, unit: str) -> int:
        """How many rows it has."""
        return int(self._spans[unit].stop - self._spans[unit].start)

    def raw(self, unit: str) -> F64:
        """Its rows (L, I) as they were read, a column after the other."""
        return self.rows([unit]).rows

    def rows(self, units: Sequence[str]) -> RawRows:
        """Those of several, likewise."""
        lengths = np.array([self.length(unit) for unit in units], dtype=np.int64)
        rows, ends = np.empty((len(self._columns), lengths.sum())), np.cumsum(lengths)
        for unit, start, end in zip(units, ends - lengths, ends, strict=True):
            for row, column in zip(rows, self._columns, strict=True):
                row[start:end] = column[self._spans[unit]]
        return RawRows(rows.T, lengths)

    def rul(self, unit: str) -> F32:
        """Its true remaining cycles, (L,)."""
        return np.asarray(self._rul[self._spans[unit]])

    def cycle(self, unit: str) -> I64:
        """The numbers of its cycles, (L,)."""
        return np.asarray(self._cycle[self._spans[unit]], dtype=np.int64)


@dataclass(frozen=True, eq=False)
class View:
    """How histories become windows: the same for every split."""

    normaliser: Normaliser
    told: Histories
    cap: float
    window: int

    def cut(self, chosen: Sequence[tuple[str, I64]]) -> dict[str, NDArray[Any]]:
        """The arrays of `Windows` that end after the given lengths of each unit's history.

        Raises:
            DataError: A label is missing.
        """
        lengths = np.array([self.told.length(name) + self.window - 1 for name, _ in chosen], dtype=np.int64)
        channels, total = self.normaliser.mean.shape[1], int(lengths.sum())
        rows, regimes = np.empty((total, channels), dtype=np.float32), np.empty(total, dtype=np.int64)
        baselines = np.empty((len(chosen), channels), dtype=np.float32)
        starts, labels, cycles = np.cumsum(lengths) - lengths, [], []
        for index, ((name, at), start, length) in enumerate(zip(chosen, starts, lengths, strict=True)):
            raw = self.told.raw(name)
            known, own = self.normaliser.apply(raw), self.normaliser.regimes(raw)
            label = self.told.rul(name)[at - 1]
            if not np.isfinite(label).all():
                unknown = int(np.isnan(label).sum())
                raise DataError(f"{name}: expected a known RUL at every cycle used, got {unknown} unknown")
            rows[start : start + length] = pad(known, self.window)
            regimes[start : start + length] = np.concatenate([np.repeat(own[:1], self.window - 1), own])
            baselines[index] = baseline_of(known)
            labels.append(np.minimum(label, np.float32(self.cap)))
            cycles.append(self.told.cycle(name)[at - 1])
        counts = [len(at) for _, at in chosen]
        return {
            "rows": rows,
            "regimes": regimes,
            "ends": np.concatenate([at for _, at in chosen]) + np.repeat(starts + self.window - 1, counts),
            "rul": np.concatenate(labels),
            "cycles": np.concatenate(cycles),
            "units": np.repeat(np.arange(len(chosen), dtype=np.int64), counts),
            "baselines": baselines,
        }
