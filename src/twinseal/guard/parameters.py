"""What the guard has learned, as plain numbers. Shipped beside the weights, and read as if an enemy had written it.

The channels of a machine go together. Were the rows x (C,) in σ drawn from a normal distribution with precision Ω, then
what the others lead one to expect of channel i has the error (Ωx)_i / Ω_ii, with the standard deviation 1 / √Ω_ii
(Lauritzen, Graphical Models, 1996, section 5.1.3). So `z_i = (Ωx)_i / √Ω_ii` says by how many standard deviations a
channel disagrees with all others. Averages of z over the last rows find what is too small to see in one.

Lies that go together disagree with nobody. Against those stands what no machine does: heal. The wear `w·x` is a line
through the rows that says best which share of its life a machine has behind it; its average may not fall far below the
highest that it ever was.
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
    """How the channels of a machine go together and wear, and from where on they do not.

    Attributes:
        precision: Ω, (C, C), of rows in σ.
        spans: Over how many of the newest rows disagreement and wear are averaged.
        thresholds: (S, C), the largest average disagreement that is still ordinary, for each span and channel.
        wear: w, (C,), shares of a life for each σ of a channel.
        falls: (S,), by how much an average wear may fall below the highest before it, in shares of a life.
        stuck_cycles: (C,), for how many cycles on end a channel may show the very same value.
        false_alarm_share: α, the share of rows of sound machines that may be flagged, by which the thresholds were set.
        measured_false_alarm_share: The share that was, on units that set nothing.
        widen: By what factor the interval of an answer grows when a channel had to be repaired.

    Law: `parse(GuardParams, params.model_dump(mode="json"), …) == params`.

    Raises:
        ValueError: The shapes disagree, or a number is none that could be.
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
        """Refuse numbers by which nothing could be judged."""
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
    """Whether a symmetric matrix is positive definite, by more than a rounding."""
    with np.errstate(all="ignore"):
        try:
            values = np.linalg.eigvalsh(matrix)
        except np.linalg.LinAlgError:
            return False
    return bool(np.isfinite(values).all() and values[0] > 1e-12 * values[-1])
