"""The normaliser: raw rows, each channel in its unit, become rows of σ without gaps.

Fitted on training units only, kept in the checkpoint, and the same code in training and in the twin: what the network
sees there is made here too. Every unit counts the same, and the few most extreme ones as the next ones do
(`telemetry.over_units`), so that a bad unit cannot choose what a σ is; `sigma_bounds` says how far it can move one.

A machine that is operated in several regimes says other things in each: at another altitude, at another speed. Then
each row is normalised by its own regime's mean and spread, and what is left is wear. The contract names the operating
points (`telemetry.regimes`). A row at none of them has no regime: it is refused, not guessed at.

    >>> rows = np.arange(6, dtype=np.float32).reshape(3, 2)
    >>> pad(rows, 4)[:, 0].tolist()  # what the first rows are on average stands for the time before them
    [2.0, 2.0, 2.0, 0.0, 2.0, 4.0]
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray

from twinseal.errors import DataError
from twinseal.prognostics.tensors import pieces
from twinseal.telemetry.over_units import reach, tolerated, winsorised_mean
from twinseal.telemetry.regimes import NOWHERE, regimes

if TYPE_CHECKING:
    from twinseal.telemetry.contract import Regimes

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

PADDING_ROWS = 10  # the noise of one first row alone would stand for up to a whole window
BASELINE_CYCLES = 20  # long enough that the noise of a reading averages out, short enough that no wear shows
LEAST_ROWS = 30  # of a regime: from fewer, no spread can be told
_ARRAYS = ("mean", "std", "points", "within")


@dataclass(frozen=True, eq=False)
class Normaliser:
    """Takes each channel from its own unit to σ of the training units: `(value - mean) / std`, by regime.

    Attributes:
        mean: (K, C) float64, by regime, each in its channel's unit.
        std: (K, C) float64, likewise, above 0.
        points: (K, S) float64, the operating points: K = 1 and S = 0 where there is one regime only.
        within: (S,) float64, how far from its point a setting may lie, above 0.

    Raises:
        ValueError: The arrays differ in shape, are empty, not finite, or a std or a `within` is not above 0.
    """

    mean: F64
    std: F64
    points: F64
    within: F64

    def __post_init__(self) -> None:
        regimes, settings = self.points.shape if self.points.ndim == 2 else (0, 0)
        if self.mean.ndim != 2 or self.mean.shape != self.std.shape or not self.mean.size:
            raise ValueError(
                f"normaliser: expected a mean and a std a channel, got {self.mean.shape}, {self.std.shape}"
            )
        if regimes != len(self.mean) or self.within.shape != (settings,) or (settings == 0) != (regimes == 1):
            raise ValueError(f"normaliser: expected an operating point a regime, got {self.points.shape}")
        finite = all(np.isfinite(a).all() for a in (self.mean, self.std, self.points, self.within))
        if not (finite and (self.std > 0).all() and (self.within > 0).all()):
            raise ValueError("normaliser: expected finite means and stds above 0")

    @classmethod
    def fit(cls, rows: F64, regimes: Regimes | None = None, lengths: I64 | None = None) -> Normaliser:
        """The normaliser of raw rows.

        Args:
            rows: (R, S + C) float64, the regime settings first, each column in its unit; NaN where one is missing.
            regimes: The operating points; none where there is one regime only.
            lengths: (U,), the rows of each unit, one after the other; left out, all rows are taken as of one unit.

        Raises:
            DataError: A channel has no reading at all, a regime too few rows, or a row was taken at no operating point.
        """
        units = np.array([len(rows)]) if lengths is None else lengths
        if regimes is None:
            mean, std = _spread(_Moments.of(rows, units))
            return cls(mean[None], std[None], np.zeros((1, 0)), np.zeros(0))
        points, within = np.array(regimes.points, dtype=np.float64), np.array(regimes.within, dtype=np.float64)
        regime = _known_regimes(rows[:, : len(within)], points, within)
        counts = np.bincount(regime, minlength=len(points))
        if counts.min() < LEAST_ROWS:
            raise DataError(
                f"normaliser: expected at least {LEAST_ROWS} rows of each of {len(points)} regimes, "
                f"got {counts.tolist()}",
                remedy="Bring more units, or strike from policy/contract.yaml the points at which none is operated.",
            )
        mine = [regime == k for k in range(len(points))]
        spreads = [_spread(_Moments.of(rows, units, at, len(within))) for at in mine]
        mean, std = (np.stack([spread[side] for spread in spreads]) for side in (0, 1))
        return cls(mean, std, points, within)

    @property
    def settings(self) -> int:
        """S, how many of a row's first columns tell its regime."""
        return int(self.points.shape[1])

    @property
    def sigma(self) -> F64:
        """(C,) float64: σ of each channel, in its unit, on average over the regimes."""
        return np.asarray(self.std.mean(axis=0))

    def regimes(self, rows: npt.NDArray[np.floating]) -> I64:
        """The regime of each raw row (L, S + C), (L,) int64.

        Raises:
            DataError: A row was taken at no operating point.
        """
        return _known_regimes(np.asarray(rows)[:, : self.settings].astype(np.float64), self.points, self.within)

    def found_regimes(self, rows: npt.NDArray[np.floating]) -> I64:
        """As `regimes`, but NOWHERE for a row that was taken at no operating point."""
        return _find_regimes(np.asarray(rows)[:, : self.settings].astype(np.float64), self.points, self.within)

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
        return self.scaled_in(values, self.regimes(values))

    def scaled_in(self, rows: F64, regimes: I64) -> F64:
        """Raw rows (L, S + C), none infinite, in σ of their regimes (L,), (L, C) float64; NaN stays NaN."""
        with np.errstate(over="ignore"):  # what overflows is refused by whoever makes float32 of it
            return np.asarray((rows[:, self.settings :] - self.mean[regimes]) / self.std[regimes])

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
        return {name: getattr(self, name).tolist() for name in _ARRAYS}

    @classmethod
    def from_dict(cls, value: Any) -> Normaliser:
        """The normaliser that plain data stands for.

        Raises:
            ValueError: It stands for none.
        """
        if not isinstance(value, dict) or set(value) != set(_ARRAYS):
            raise ValueError(f"normaliser: expected {', '.join(_ARRAYS)}")
        for name in _ARRAYS:
            _check_numbers(value[name], 1 if name == "within" else 2, name)
        arrays = {name: np.array(value[name], dtype=np.float64) for name in _ARRAYS}
        if {len(point) for point in value["points"]} != {len(value["within"])}:
            raise ValueError("normaliser: expected operating points of as many settings as have a `within`")
        arrays["points"] = arrays["points"].reshape(len(value["points"]), len(value["within"]))
        return cls(**arrays)


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


def padded(rows: F64, counts: I64) -> F32:
    """Windows (B, L, C) float32 of the newest rows (B, L, C) float64 of each of B units, as `pad` makes them.

    Args:
        rows: In σ.
        counts: (B,), how many of the rows there have been, 1 to L; those before are ignored.
    """
    with np.errstate(over="ignore"):  # what overflows is infinite, and refused by whoever reads the estimate
        windows = rows.astype(np.float32)
    length = rows.shape[1]
    short = np.flatnonzero(counts < length)
    if len(short):
        firsts = np.minimum(counts[short], PADDING_ROWS)
        at = (length - counts[short])[:, None] + np.arange(PADDING_ROWS)  # (S, PADDING_ROWS)
        used = np.arange(PADDING_ROWS) < firsts[:, None]
        values = windows[short[:, None], np.where(used, at, 0)].astype(np.float64)
        mean = np.where(used[..., None], values, 0.0).sum(axis=1) / firsts[:, None]
        before = np.arange(length) < (length - counts[short])[:, None]
        windows[short] = np.where(before[..., None], mean.astype(np.float32)[:, None], windows[short])
    return windows


def baseline_of(known: F32) -> F32:
    """The baseline (C,) float32 in σ of a unit whose first rows, normalised, are `known` (L, C)."""
    return np.asarray(known[:BASELINE_CYCLES].mean(axis=0, dtype=np.float64), dtype=np.float32)


@dataclass(frozen=True)
class SigmaBounds:
    """How far a few bad units could have moved a normaliser, at the channel that moves furthest.

    Attributes:
        mean_sigma: The mean, in σ.
        lowest, highest: σ, as a multiple of what it is.
    """

    mean_sigma: float
    lowest: float
    highest: float


def sigma_bounds(normaliser: Normaliser, rows: F64, lengths: I64, bad: int) -> SigmaBounds:
    """How far `bad` of the units (U,) that `normaliser` was fitted on could have moved it.

    Args:
        normaliser: Fitted on these rows.
        rows: As in `Normaliser.fit`.
        lengths: Likewise.
        bad: How many; the bounds are infinite beyond `telemetry.over_units.tolerated` of a regime's units.
    """
    regime = normaliser.regimes(rows)
    found = []
    for k, (mean, std) in enumerate(zip(normaliser.mean, normaliser.std, strict=True)):
        at = regime == k
        moments = _Moments.of(rows, lengths, at, normaliser.settings)
        if bad > tolerated(int((~np.isnan(moments.mean)).sum(axis=0).min())):
            return SigmaBounds(np.inf, 0.0, np.inf)
        low, high = reach(winsorised_mean, moments.mean, bad)
        # σ² is the winsorised mean of var + (mean - centre)², and the centre lies between low and high.
        nearest = moments.mean - np.clip(moments.mean, low, high)
        furthest = np.maximum(np.abs(moments.mean - low), np.abs(moments.mean - high))
        least, _ = reach(winsorised_mean, moments.variance + nearest**2, bad)
        _, most = reach(winsorised_mean, moments.variance + furthest**2, bad)
        moves = ~_still(mean, np.sqrt(winsorised_mean(moments.about(mean))))
        if moves.any():
            shift = (np.maximum(high - mean, mean - low) / std)[moves].max()
            ratios = (np.sqrt(np.maximum(side, 0.0)) / std for side in (least, most))
            lowest, highest = (ratio[moves] for ratio in ratios)
            found.append(SigmaBounds(float(shift), float(lowest.min()), float(highest.max())))
    if not found:
        return SigmaBounds(0.0, 1.0, 1.0)
    return SigmaBounds(
        max(item.mean_sigma for item in found),
        min(item.lowest for item in found),
        max(item.highest for item in found),
    )


@dataclass(frozen=True, eq=False)
class _Moments:
    """Of each unit the mean and the variance of each channel, (U, C); NaN where it has no reading."""

    mean: F64
    variance: F64

    @classmethod
    def of(cls, rows: F64, lengths: I64, at: NDArray[np.bool_] | None = None, settings: int = 0) -> _Moments:
        """Those of rows (R, S + C), unit after unit, one unit at a time; a unit without rows is left out.

        Args:
            rows: As in `Normaliser.fit`.
            lengths: Likewise.
            at: Which rows count, (R,); all by default.
            settings: S.
        """
        means, variances, ends = [], [], np.cumsum(lengths)
        for start, end in zip(ends - lengths, ends, strict=True):
            part = rows[start:end] if at is None else rows[start:end][at[start:end], settings:]
            if len(part):
                empty = np.isnan(part).all(axis=0)
                filled = np.where(empty, 0.0, part)
                means.append(np.where(empty, np.nan, np.nanmean(filled, axis=0)))
                variances.append(np.where(empty, np.nan, np.nanvar(filled, axis=0)))
        return cls(np.stack(means), np.stack(variances))

    def about(self, centre: F64) -> F64:
        """Of each unit the mean square distance from a centre (C,), (U, C)."""
        return np.asarray(self.variance + (self.mean - centre) ** 2)


def _spread(moments: _Moments) -> tuple[F64, F64]:
    """Mean and standard deviation of each channel (C,)."""
    if np.isnan(moments.mean).all(axis=0).any():
        raise DataError("normaliser: expected readings of every channel, got a channel with none")
    mean = winsorised_mean(moments.mean)
    std = np.sqrt(winsorised_mean(moments.about(mean)))
    # A channel that never moved in training carries nothing; 1 keeps it at 0 instead of at infinity.
    return mean, np.where(_still(mean, std), 1.0, std)


def _still(mean: F64, std: F64) -> NDArray[np.bool_]:
    """Which channels do not move, (C,)."""
    return np.asarray(std < 1e-9 * np.maximum(1.0, np.abs(mean)))


def _find_regimes(settings: F64, points: F64, within: F64) -> I64:
    if not len(settings) or not len(within):
        return np.zeros(len(settings), dtype=np.int64)
    return np.concatenate([regimes(piece, points, within) for piece in pieces(settings)])


def _known_regimes(settings: F64, points: F64, within: F64) -> I64:
    found = _find_regimes(settings, points, within)
    if (found == NOWHERE).any():
        at = int(np.flatnonzero(found == NOWHERE)[0])
        raise DataError(
            f"rows: expected settings at an operating point of the contract, got {settings[at].tolist()}",
            remedy="The machine is operated as the contract does not know it, or the settings are wrong.",
        )
    return found


def _check_numbers(value: Any, depth: int, name: str) -> None:
    """Refuse all but lists of numbers, `depth` deep: what numpy would make of anything else is not what was signed."""
    if not isinstance(value, list) or len(value) > 4096:
        raise ValueError(f"normaliser: {name}: expected a list, got {str(value)[:40]}")
    for item in value:
        if depth > 1:
            _check_numbers(item, depth - 1, name)
        elif type(item) not in (int, float) or abs(item) > 1e300:
            raise ValueError(f"normaliser: {name}: expected a valid number, got {str(item)[:40]!r}")
