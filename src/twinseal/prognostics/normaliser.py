"""The normaliser: raw rows, each channel in its unit, become rows of σ without gaps.

Fitted on training units only, kept in the checkpoint, and the same code in training and in the twin: what the network
sees there is made here too.

A machine that is operated in several regimes says other things in each: at another altitude, at another speed. Then
each row is normalised by its own regime's mean and spread, and what is left is wear. The regime of a row is the
nearest of the operating points that the training units had (their settings in clusters: k-means, Lloyd 1982, started
from the point that is furthest from those before it, Gonzalez 1985: nothing random). A row far from all of them has
no regime: it is refused, not guessed at.

    >>> rows = np.arange(6, dtype=np.float32).reshape(3, 2)
    >>> pad(rows, 4)[:, 0].tolist()  # what the first rows are on average stands for the time before them
    [2.0, 2.0, 2.0, 0.0, 2.0, 4.0]
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from twinseal.errors import DataError

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

PADDING_ROWS = 10  # the noise of one first row alone would stand for up to a whole window
BASELINE_CYCLES = 20  # long enough that the noise of a reading averages out, short enough that no wear shows
LEAST_ROWS = 30  # of a regime: from fewer, no spread can be told
_STEPS = 100
# A row may lie this much further from its operating point than any training row did.
_REACH = 2.0


@dataclass(frozen=True, eq=False)
class Normaliser:
    """Takes each channel from its own unit to σ of the training units: `(value - mean) / std`, by regime.

    Attributes:
        mean: (K, C) float64, by regime, each in its channel's unit.
        std: (K, C) float64, likewise, above 0.
        centres: (K, S) float64, the operating points: K = 1 and S = 0 where there is one regime only.
        scale: (S,) float64, in whose multiples the distance to an operating point is measured, above 0.
        reach: How far from its operating point a row may lie.

    Raises:
        ValueError: The arrays differ in shape, are empty, not finite, or a std, a scale or the reach is not above 0.
    """

    mean: F64
    std: F64
    centres: F64
    scale: F64
    reach: float = 1.0

    def __post_init__(self) -> None:
        regimes, settings = self.centres.shape if self.centres.ndim == 2 else (0, 0)
        if self.mean.ndim != 2 or self.mean.shape != self.std.shape or not self.mean.size:
            raise ValueError(
                f"normaliser: expected a mean and a std a channel, got {self.mean.shape}, {self.std.shape}"
            )
        if regimes != len(self.mean) or self.scale.shape != (settings,) or (settings == 0) != (regimes == 1):
            raise ValueError(f"normaliser: expected an operating point a regime, got {self.centres.shape}")
        finite = all(np.isfinite(a).all() for a in (self.mean, self.std, self.centres, self.scale, self.reach))
        if not (finite and (self.std > 0).all() and (self.scale > 0).all() and self.reach > 0):
            raise ValueError("normaliser: expected finite means and stds above 0")

    @classmethod
    def fit(cls, rows: F64, *, settings: int = 0, regimes: int = 1) -> Normaliser:
        """The normaliser of raw rows.

        Args:
            rows: (R, S + C) float64, the regime settings first, each column in its unit; NaN where one is missing.
            settings: S.
            regimes: K, how many operating regimes there are.

        Raises:
            DataError: A channel has no reading at all, or a regime too few rows.
        """
        if not settings:
            mean, std = _spread(rows)
            return cls(mean[None], std[None], np.zeros((1, 0)), np.zeros(0))
        points = rows[:, :settings]
        if not np.isfinite(points).all():
            raise DataError("normaliser: expected the regime settings of every row, got rows without")
        scale = np.maximum(points.std(axis=0), 1e-9 * np.maximum(1.0, np.abs(points).max(axis=0)))
        centres, regime = _clusters(points / scale, regimes)
        counts = np.bincount(regime, minlength=regimes)
        if counts.min() < LEAST_ROWS:
            raise DataError(
                f"normaliser: expected at least {LEAST_ROWS} rows of each of {regimes} regimes, got {counts.tolist()}",
                remedy="Bring more units, or say in policy/contract.yaml how many regimes there are.",
            )
        spreads = [_spread(rows[regime == k, settings:]) for k in range(regimes)]
        furthest = float(np.linalg.norm(points / scale - centres[regime], axis=1).max())
        mean, std = (np.stack([spread[side] for spread in spreads]) for side in (0, 1))
        return cls(mean, std, centres * scale, scale, _REACH * max(furthest, 1e-3))

    @property
    def settings(self) -> int:
        """S, how many of a row's first columns tell its regime."""
        return int(self.centres.shape[1])

    @property
    def sigma(self) -> F64:
        """(C,) float64: σ of each channel, in its unit, on average over the regimes."""
        return np.asarray(self.std.mean(axis=0))

    def regimes(self, rows: npt.NDArray[np.floating]) -> I64:
        """The regime of each raw row (L, S + C), (L,) int64.

        Raises:
            DataError: A setting is missing, or a row is too far from every operating point.
        """
        if not self.settings:
            return np.zeros(len(rows), dtype=np.int64)
        points = np.asarray(rows, dtype=np.float64)[:, : self.settings]
        with np.errstate(over="ignore"):  # what is infinitely far is too far
            away = np.linalg.norm((points[:, None] - self.centres) / self.scale, axis=2)  # (L, K)
        nearest = np.argmin(away, axis=1)
        distance = away[np.arange(len(rows)), nearest]
        strange = ~(distance <= self.reach)  # NaN is strange too
        if strange.any():
            at = int(np.flatnonzero(strange)[0])
            raise DataError(
                f"rows: expected settings near a known operating point, got {points[at].tolist()}",
                remedy="The machine is operated as no training unit was, or the settings are wrong.",
            )
        return np.asarray(nearest, dtype=np.int64)

    def scaled(self, rows: npt.NDArray[np.floating]) -> F64:
        """Raw rows (L, S + C) in σ, (L, C) float64; NaN stays NaN.

        Raises:
            DataError: As `regimes`; or a reading is infinite.
            ValueError: The rows have another number of columns.
        """
        values = np.asarray(rows, dtype=np.float64)
        if values.ndim != 2 or values.shape[1] != self.settings + self.mean.shape[1]:
            raise ValueError(f"rows: expected (L, {self.settings + self.mean.shape[1]}), got {values.shape}")
        if np.isinf(values).any():
            raise DataError("rows: expected finite readings, got an infinity")
        regime = self.regimes(values)
        with np.errstate(over="ignore"):  # what overflows is refused by whoever makes float32 of it
            return np.asarray((values[:, self.settings :] - self.mean[regime]) / self.std[regime])

    def apply(self, rows: npt.NDArray[np.floating]) -> F32:
        """Raw rows as the network wants them: normalised, gaps filled.

        A missing reading is the last one before it; before the first one it is the training mean. What guards the
        twin decides how many may be missing; this only makes training and serving treat them alike.

        Args:
            rows: (L, S + C), each column in its unit; NaN where a reading is missing.

        Returns:
            (L, C) float32 in σ.

        Raises:
            DataError: As `scaled`; or a reading is beyond float32 once normalised.
            ValueError: As `scaled`.
        """
        return in_float32(fill_gaps(self.scaled(rows)))

    def restore(self, values: npt.NDArray[np.floating], regimes: I64) -> F64:
        """The readings (..., C), each in its unit, that rows in σ stand for in their regimes (...)."""
        return np.asarray(values.astype(np.float64) * self.std[regimes] + self.mean[regimes])

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON. Law: `Normaliser.from_dict(n.to_dict())` normalises as `n` does."""
        arrays = {name: getattr(self, name).tolist() for name in ("mean", "std", "centres", "scale")}
        return arrays | {"reach": self.reach}

    @classmethod
    def from_dict(cls, value: Any) -> Normaliser:
        """The normaliser that plain data stands for.

        Raises:
            ValueError: It stands for none.
        """
        names = ("mean", "std", "centres", "scale")
        if not isinstance(value, dict) or set(value) != {*names, "reach"} or type(value["reach"]) is not float:
            raise ValueError(f"normaliser: expected {', '.join(names)} and reach")
        for name in names:
            _check_numbers(value[name], 1 if name == "scale" else 2, name)
        arrays = {name: np.array(value[name], dtype=np.float64) for name in names}
        if {len(point) for point in value["centres"]} != {len(value["scale"])}:
            raise ValueError("normaliser: expected operating points of as many settings as there are scales")
        arrays["centres"] = arrays["centres"].reshape(len(value["centres"]), len(value["scale"]))
        return cls(**arrays, reach=value["reach"])


def in_float32(known: F64) -> F32:
    """Rows in σ as the network takes them.

    Raises:
        DataError: A value is beyond float32.
    """
    with np.errstate(over="ignore"):  # what overflows is refused just below
        values = known.astype(np.float32)
    if not np.isfinite(values).all():
        raise DataError("rows: expected readings that float32 can hold, got values beyond it")
    return values


def fill_gaps(rows: F64) -> F64:
    """`rows` (L, C) with each NaN replaced by the last value before it in its column; by 0 where there is none."""
    known = ~np.isnan(rows)
    last = np.maximum.accumulate(np.where(known, np.arange(len(rows))[:, None], -1), axis=0)  # (L, C)
    filled = np.take_along_axis(rows, np.maximum(last, 0), axis=0)
    return np.where(last < 0, 0.0, filled)


def pad(rows: F32, window: int) -> F32:
    """`rows` (L, C) with `window - 1` rows before them, so that every row ends a window: the mean of the first ones."""
    first = rows[:PADDING_ROWS].mean(axis=0, dtype=np.float64).astype(np.float32)
    return np.concatenate([np.repeat(first[None], window - 1, axis=0), rows])


def baseline_of(known: F32) -> F32:
    """The baseline (C,) float32 in σ of a unit whose first rows, normalised, are `known` (L, C)."""
    return np.asarray(known[:BASELINE_CYCLES].mean(axis=0, dtype=np.float64), dtype=np.float32)


def _spread(rows: F64) -> tuple[F64, F64]:
    """Mean and standard deviation of each channel (C,)."""
    if not np.isfinite(rows).any(axis=0).all():
        raise DataError("normaliser: expected readings of every channel, got a channel with none")
    mean, std = np.nanmean(rows, axis=0), np.nanstd(rows, axis=0)
    # A channel that never moved in training carries nothing; 1 keeps it at 0 instead of at infinity.
    return mean, np.where(std < 1e-9 * np.maximum(1.0, np.abs(mean)), 1.0, std)


def _clusters(points: F64, count: int) -> tuple[F64, I64]:
    """Centres (K, S) of the clusters of points (R, S), sorted, and the cluster of each."""
    centres = points[[int(np.linalg.norm(points - points.mean(axis=0), axis=1).argmin())]]
    while len(centres) < count:
        nearest = np.min(np.linalg.norm(points[:, None] - centres, axis=2), axis=1)
        centres = np.concatenate([centres, points[[int(nearest.argmax())]]])
    for _ in range(_STEPS):
        cluster = np.argmin(np.linalg.norm(points[:, None] - centres, axis=2), axis=1)
        moved = np.stack(
            [points[cluster == k].mean(axis=0) if (cluster == k).any() else centres[k] for k in range(count)]
        )
        if np.array_equal(moved, centres):
            break
        centres = moved
    centres = centres[np.lexsort(centres.T[::-1])]
    return centres, np.argmin(np.linalg.norm(points[:, None] - centres, axis=2), axis=1).astype(np.int64)


def _check_numbers(value: Any, depth: int, name: str) -> None:
    """Refuse all but lists of numbers, `depth` deep: what numpy would make of anything else is not what was signed."""
    if not isinstance(value, list) or len(value) > 4096:
        raise ValueError(f"normaliser: {name}: expected a list, got {str(value)[:40]}")
    for item in value:
        if depth > 1:
            _check_numbers(item, depth - 1, name)
        elif type(item) not in (int, float) or abs(item) > 1e300:
            raise ValueError(f"normaliser: {name}: expected a valid number, got {str(item)[:40]!r}")
