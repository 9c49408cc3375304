"""The normaliser: raw rows, each channel in its unit, become rows of σ without gaps.

Fitted on training units only, kept in the checkpoint, and the same code in training and in the twin: what the network
sees there is made here too.

    >>> rows = np.arange(6, dtype=np.float32).reshape(3, 2)
    >>> pad(rows, 4)[:, 0].tolist()  # the first row stands for the time before it
    [0.0, 0.0, 0.0, 0.0, 2.0, 4.0]
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from twinseal.errors import DataError

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Normaliser:
    """Takes each channel from its own unit to σ of the training units: `(value - mean) / std`.

    Attributes:
        mean: (C,) float64, each in its channel's unit.
        std: (C,) float64, each in its channel's unit, above 0.

    Raises:
        ValueError: The arrays differ in shape, are empty, not finite, or a std is not above 0.
    """

    mean: F64
    std: F64

    def __post_init__(self) -> None:
        if self.mean.ndim != 1 or self.mean.shape != self.std.shape or not self.mean.size:
            raise ValueError(
                f"normaliser: expected a mean and a std a channel, got {self.mean.shape}, {self.std.shape}"
            )
        if not (np.isfinite(self.mean).all() and np.isfinite(self.std).all() and (self.std > 0).all()):
            raise ValueError("normaliser: expected finite means and stds above 0")

    @classmethod
    def fit(cls, rows: F64) -> Normaliser:
        """The normaliser of raw rows.

        Args:
            rows: (R, C) float64, each channel in its unit; NaN where a reading is missing.

        Raises:
            DataError: A channel has no reading at all.
        """
        if not np.isfinite(rows).any(axis=0).all():
            raise DataError("normaliser: expected readings of every channel, got a channel with none")
        std = np.nanstd(rows, axis=0)
        # A channel that never moved in training carries nothing; 1 keeps it at 0 instead of at infinity.
        still = std < 1e-9 * np.maximum(1.0, np.abs(np.nanmean(rows, axis=0)))
        return cls(np.nanmean(rows, axis=0), np.where(still, 1.0, std))

    def apply(self, rows: npt.NDArray[np.floating]) -> F32:
        """Raw rows as the network wants them: normalised, gaps filled.

        A missing reading is the last one before it; before the first one it is the training mean. What guards the
        twin decides how many may be missing; this only makes training and serving treat them alike.

        Args:
            rows: (L, C), each channel in its unit; NaN where a reading is missing.

        Returns:
            (L, C) float32 in σ.

        Raises:
            DataError: A reading is infinite, or beyond float32 once normalised.
            ValueError: The rows have another number of channels.
        """
        values = np.asarray(rows, dtype=np.float64)
        if values.ndim != 2 or values.shape[1] != self.mean.size:
            raise ValueError(f"rows: expected (L, {self.mean.size}), got {values.shape}")
        if np.isinf(values).any():
            raise DataError("rows: expected finite readings, got an infinity")
        with np.errstate(over="ignore"):  # what overflows is refused just below
            known = fill_gaps((values - self.mean) / self.std).astype(np.float32)
        if not np.isfinite(known).all():
            raise DataError("rows: expected readings that float32 can hold, got values beyond it")
        return known


def fill_gaps(rows: F64) -> F64:
    """`rows` (L, C) with each NaN replaced by the last value before it in its column; by 0 where there is none."""
    known = ~np.isnan(rows)
    last = np.maximum.accumulate(np.where(known, np.arange(len(rows))[:, None], -1), axis=0)  # (L, C)
    filled = np.take_along_axis(rows, np.maximum(last, 0), axis=0)
    return np.where(last < 0, 0.0, filled)


def pad(rows: F32, window: int) -> F32:
    """`rows` (L, C) with `window - 1` copies of the first one before them, so that every row ends a window."""
    return np.concatenate([np.repeat(rows[:1], window - 1, axis=0), rows])
