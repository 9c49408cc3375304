"""What the guard has learned, as plain numbers. It ships beside the weights and is read as untrusted input.

The channels of a machine go together. If the rows x (C,) in σ have a normal distribution with precision Ω, then the
other channels predict channel i with the error (Ωx)_i / Ω_ii, whose standard deviation is 1 / √Ω_ii (Lauritzen,
Graphical Models, 1996, section 5.1.3). So `z_i = (Ωx)_i / √Ω_ii` is the disagreement of a channel with all others in
standard deviations. Averages of z over the newest rows reveal what is too small to see in one row.

A manipulation of all channels together creates no disagreement. The wear `w·x` reveals it: a linear estimate of the
share of its life that a machine has behind it. No machine becomes less worn, so the average of the wear may not fall
far below its highest value so far.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinseal.config import Settings

MAX_CHANNELS = 512
SPANS = (1, 5, 20)  # rows over which disagreement and wear are averaged

Doubles = NDArray[np.float64]


class GuardParams(Settings):
    """How the channels of a machine go together and wear, and the thresholds for deviations.

    Attributes:
        precision: Ω, (C, C), the precision of rows in σ.
        spans: (S,), over how many of the newest rows disagreement and wear are averaged.
        thresholds: (S, C), the largest average disagreement that is allowed, for each span and channel.
        wear: w, (C,), share of a life per σ of each channel.
        falls: (S,), how far an average of the wear may fall below its highest earlier value, in shares of a life.
        stuck_cycles: (C,), for how many consecutive cycles a channel may show exactly the same value.
        false_alarm_share: α, the share of rows of healthy machines that may be flagged; the thresholds were set for it.
        measured_false_alarm_share: The share that was flagged or refused, on units that set nothing.
        widen: Factor by which the interval of an answer grows if a channel was repaired.

    Law: `parse(GuardParams, params.model_dump(mode="json"), …) == params`.

    Raises:
        ValueError: The shapes disagree, or a number is out of its range.
    """

    precision: tuple[tuple[float, ...], ...]
    spans: tuple[int, ...]
    thresholds: tuple[tuple[float, ...], ...]
    wear: tuple[float, ...]
    falls: tuple[float, ...]
    stuck_cycles: tuple[int, ...]
    false_alarm_share: float
    measured_false_alarm_share: float
    widen: float

    def model_post_init(self, _context: Any, /) -> None:
        """Refuse numbers that cannot be thresholds, weights or a precision."""
        count, spans = len(self.stuck_cycles), list(self.spans)
        rows = [*self.precision, *self.thresholds, self.wear]
        if not 1 <= count <= MAX_CHANNELS or {len(row) for row in rows} != {count} or len(self.precision) != count:
            raise ValueError(f"guard: expected 1-{MAX_CHANNELS} channels, the same everywhere, got {count}")
        if not 1 <= len(spans) <= 8 or spans != sorted(set(spans)) or spans[0] < 1 or spans[-1] > 1_000:
            raise ValueError(f"guard: expected 1 to 8 spans of 1 to 1000 rows, rising, got {spans}"[:200])
        if not len(self.thresholds) == len(self.falls) == len(spans):
            raise ValueError("guard: expected thresholds, a row of them for each span, and a fall for each")
        if min(min(row) for row in (*self.thresholds, self.falls)) <= 0:
            raise ValueError("guard: expected thresholds above 0, and falls above 0")
        if min(self.stuck_cycles) < 2 or not 0 < self.false_alarm_share < 1 or not 1 <= self.widen <= 100:
            raise ValueError("guard: expected stuck_cycles >= 2, a share of alarms in (0, 1), and widen of 1 to 100")
        if not 0 <= self.measured_false_alarm_share <= 1:
            raise ValueError(f"guard: expected a share of false alarms, got {self.measured_false_alarm_share}")
        matrix = self.matrix
        if not np.array_equal(matrix, matrix.T) or not _positive(matrix):
            raise ValueError("guard: expected a symmetric, positive definite precision, got another matrix")

    @property
    def matrix(self) -> Doubles:
        """Ω as an array."""
        return np.array(self.precision, dtype=np.float64)


def _positive(matrix: Doubles) -> bool:
    """Whether a symmetric matrix is positive definite by more than a rounding error."""
    with np.errstate(all="ignore"):
        try:
            values = np.linalg.eigvalsh(matrix)
        except np.linalg.LinAlgError:
            return False
    return bool(np.isfinite(values).all() and values[0] > 1e-12 * values[-1])
