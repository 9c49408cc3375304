"""The ledger: what was said of a unit's life is spent by its cycles, and nothing that arrives earns it back.

For each unit, with ages in cycles:

    e   the age at which its life is over at the latest, by all that was stated of it; ∞ at first
    g   the age at which its life is over by the answers before long gaps; ∞ while none of them is in the window
    a   the age at the newest row; 0 at first
    b   the age at which its life is over by the newest answer; ∞ at first, and if that was "more than the cap"
    lost   which of the newest L cycles have no row that counts: it never came, or it was set aside

A row at age t > a with the estimate r, which states that the life is over by t + h at the latest (`life_bounds`):

    1.  The cycles between a and t are lost; t itself is, if its row was set aside.
    2.  If more than few cycles between were lost: g ← min(g, b), so the machine wore in the gap. g ← ∞ once the window
        is past the last such gap. Single rows that are lost, as telemetry loses them, are no gap: each would lower g to
        the least of all answers. Nor is a row that was set aside: the guard puts later, more worn rows in its place.
    3.  e ← min(e, t + h), if the row counts.
    4.  If more of the window is lost than the policy's share, or the row was set aside: refused, and the answer is 0.
    5.  Else the answer is max(0, min(r, e - t, g - t)), and b ← t + the answer.

A row at an age t ≤ a is refused and changes nothing.

Law: whatever sequence of rows, gaps, losses and refusals comes, with any estimates: an answer at age t is at most
max(0, s + h - t) for every statement h that was made at any age s ≤ t. Proof: e is only ever lowered (3), and after age
s it is at most s + h; by 5 the answer is at most max(0, e - t). ∎  Nothing else than a new ledger raises e.

Law: while a gap of more than few cycles is in the window, an answer at age t is at most max(0, b - t) of the last
answer before it: a machine of which nothing is heard has worn by one cycle each cycle. Proof: 2 and 5. ∎

Law: an answer is finite and within 0 and the cap. Proof: by 5 it is 0, or at most r, which is within both. ∎

So whoever loses, withholds, repeats or renumbers rows changes which statements are made, and none that was. What that
is worth is measured by `robustness.attacks.spent_life`. Whoever can make the twin forget a ledger, or believe that
another unit's is this one's, is not stopped here: ledgers are kept on disk, and only a signed act begins another.

    >>> ledger = Ledger(units=1, window=10, max_lost_share=0.2)
    >>> for age, estimate in ((1, 40.0), (2, 90.0), (6, 90.0)):
    ...     entry = ledger.enter([0], [age], [estimate], [estimate + 10.0])
    ...     print(entry.answers.tolist(), entry.lost.tolist(), entry.refused.tolist())
    [40.0] [0] [False]
    [49.0] [0] [False]
    [0.0] [3] [True]
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from twinseal.guard.saved_arrays import Arrays, give_back, taken

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

CAPPED_SHARE = 0.95  # from this share of the cap on, an estimate does not tell how much longer a life is
_SAVED = ("over_at", "_gap_over_at", "_said_over_at", "ages", "_gap_until", "_lost", "_count")
FEW = 0.25  # of the rows that may be lost: a gap of no more is stale by as few cycles


@dataclass(frozen=True, eq=False)
class Entry:
    """What the ledger says of N rows.

    Attributes:
        answers: (N,) cycles; 0 where refused.
        at_most: (N,) cycles that the unit has left by all statements; ∞ where none was made.
        lost: (N,) how many of the newest L cycles have no row that counts.
        too_many_lost: (N,) whether these are more than the policy's share.
        refused: (N,) whether there is no answer: too many lost, the row was set aside, or its age is not a later one.
    """

    answers: F64
    at_most: F64
    lost: I64
    too_many_lost: Flags
    refused: Flags

    def interval(self, low: npt.ArrayLike, high: npt.ArrayLike) -> tuple[F64, F64]:
        """The ends (N,) of an estimate's interval, by what the ledger knows: each lost cycle lowers the low one."""
        lowest = np.minimum(np.asarray(low), self.answers) - self.lost
        highest = np.maximum(np.minimum(np.asarray(high), self.at_most), self.answers)
        return np.where(self.refused, 0.0, np.maximum(0.0, lowest)), np.where(self.refused, 0.0, highest)


class Ledger:
    """The ledgers of U units.

    Args:
        units: U.
        window: L, the rows that an estimate looks back.
        max_lost_share: The contract's: if more of a window's cycles are lost, there is no answer.
        capped_cycles: An answer from here on does not tell how much longer a life is.
    """

    def __init__(self, units: int, window: int, max_lost_share: float, capped_cycles: float = np.inf) -> None:
        self._window, self._share, self._capped = window, max_lost_share, capped_cycles
        self._few = int(FEW * max_lost_share * window)
        self.over_at, self._gap_over_at, self._said_over_at = (np.full(units, np.inf) for _ in range(3))  # e, g, b
        self.ages, self._gap_until = np.zeros((2, units), dtype=np.int64)
        self._lost = np.zeros((units, window), dtype=bool)  # by age modulo L
        self._count = np.zeros(units, dtype=np.int64)  # of them

    def enter(
        self,
        units: npt.ArrayLike,
        ages: npt.ArrayLike,
        estimates: npt.ArrayLike,
        at_most: npt.ArrayLike,
        counts: npt.ArrayLike = True,
    ) -> Entry:
        """Enter one row of each of N units.

        Args:
            units: (N,) which, each once.
            ages: (N,) cycles, at least 1.
            estimates: (N,) cycles, within 0 and the cap; not read where a row does not count.
            at_most: (N,) cycles, what each states; ∞ for nothing. Likewise.
            counts: (N,) whether the row counts; false where it was set aside.

        Raises:
            ValueError: An estimate or statement of a row that counts is NaN, below 0, or the estimate infinite.
        """
        at, ages = np.asarray(units, dtype=np.int64), np.asarray(ages, dtype=np.int64)
        later = ages > self.ages[at]
        good = later & np.asarray(counts, dtype=bool)
        said, stated = (np.where(good, np.asarray(each, dtype=np.float64), 0.0) for each in (estimates, at_most))
        if not (np.isfinite(said).all() and (said >= 0).all() and (stated >= 0).all()):
            raise ValueError("ledger: expected estimates and statements of 0 or more cycles, got others")
        gaps = later & (ages - self.ages[at] - 1 > self._few)
        self._mark(at[later], ages[later], ~good[later])  # 1
        lost = self._count[at]
        seen = np.minimum(ages, self._window)
        self._gap_until[at] = np.where(gaps, ages + self._window, self._gap_until[at])
        gap_over_at = np.where(gaps, np.minimum(self._gap_over_at[at], self._said_over_at[at]), self._gap_over_at[at])
        self._gap_over_at[at] = np.where(ages < self._gap_until[at], gap_over_at, np.inf)  # 2
        self.over_at[at] = np.where(good, np.minimum(self.over_at[at], ages + stated), self.over_at[at])  # 3
        too_many = lost > self.most_lost(seen)
        refused = too_many | ~good  # 4
        least = np.minimum(said, np.minimum(self.over_at[at], self._gap_over_at[at]) - ages)
        answers = np.where(refused, 0.0, np.maximum(0.0, least))  # 5
        said_over_at = np.where(answers >= self._capped, np.inf, ages + answers)
        self._said_over_at[at] = np.where(refused, self._said_over_at[at], said_over_at)
        return Entry(answers, np.maximum(0.0, self.over_at[at] - ages), lost, too_many, refused)

    @property
    def unit_bytes(self) -> int:
        """Memory of one ledger, bytes."""
        return 6 * 8 + self._window

    def most_lost(self, cycles: npt.ArrayLike) -> I64:
        """How many of so many cycles (N,), L at most, may be lost: at least one."""
        return np.asarray(np.maximum(1, np.floor(self._share * np.asarray(cycles))), dtype=np.int64)

    def grow(self, units: int) -> None:
        """Keep so many more ledgers, new ones."""
        self.over_at, self._gap_over_at, self._said_over_at = (
            np.pad(kept, (0, units), constant_values=np.inf)
            for kept in (self.over_at, self._gap_over_at, self._said_over_at)
        )
        self.ages, self._gap_until, self._count = (
            np.pad(kept, (0, units)) for kept in (self.ages, self._gap_until, self._count)
        )
        self._lost = np.pad(self._lost, ((0, units), (0, 0)))

    def saved(self, units: int) -> Arrays:
        """All that is known of the first `units` units."""
        return taken(self, _SAVED, units=units)

    def restore(self, arrays: Arrays, units: int) -> None:
        """Go on from what `saved` gave, of the same window.

        Raises:
            EvidenceError: It is none of these.
        """
        give_back(self, _SAVED, arrays, units=units)

    def take_over(self, other: Ledger, units: int) -> None:
        """Go on from the first `units` ledgers of another model: what was said by it holds, and what was lost is lost.

        Its window may be another; of cycles that it does not reach back to, none counts as lost.
        """
        for name in set(_SAVED) - {"_lost", "_count"}:
            getattr(self, name)[:units] = getattr(other, name)[:units]
        rows, self._lost[:units] = np.arange(units), False
        for back in range(min(self._window, other._window)):
            at = other.ages[:units] - back
            self._lost[rows, at % self._window] |= other._lost[rows, at % other._window] & (at >= 1)
        self._count[:units] = self._lost[:units].sum(axis=1)

    def begin(self, units: npt.ArrayLike, ages: npt.ArrayLike) -> None:
        """Begin the lives of units (N,) anew, at ages (N,): a signed act. Cycles up to them do not count as lost."""
        at = np.asarray(units, dtype=np.int64)
        for kept in (self.over_at, self._gap_over_at, self._said_over_at):
            kept[at] = np.inf
        self.ages[at], self._lost[at], self._count[at] = np.asarray(ages, dtype=np.int64), False, 0
        self._gap_until[at] = 0

    def repeated(self, times: int) -> Ledger:
        """The ledgers of `times` copies of these units, with the same past: unit u of copy k is k · U + u."""
        other = copy.copy(self)
        for name in _SAVED:
            setattr(other, name, np.concatenate([getattr(self, name)] * times))
        return other

    def lose_window(self, units: npt.ArrayLike) -> None:
        """All rows of units (N,) in the window count as lost: what was heard is lost, but the ledger is not."""
        at = np.asarray(units, dtype=np.int64)
        back = self.ages[at][:, None] - np.arange(self._window)  # (N, L)
        self._lost[at[:, None], back % self._window] = back >= 1
        self._count[at] = self._lost[at].sum(axis=1)
        self._gap_over_at[at] = np.minimum(self._gap_over_at[at], self._said_over_at[at])
        self._gap_until[at] = self.ages[at] + self._window + 1

    def _mark(self, at: I64, ages: I64, lost: Flags) -> None:
        """Mark which cycles up to ages (N,) of the units `at`, later than any before, are lost; the last as given."""
        apart = ages - self.ages[at] > 1
        for unit, age in zip(at[apart], ages[apart], strict=True):  # few have a gap
            between = np.arange(max(self.ages[unit] + 1, age - self._window + 1), age)
            self._lost[unit, between % self._window] = True
            self._count[unit] = self._lost[unit].sum()
        slots = ages % self._window
        self._count[at] += lost.astype(np.int64) - self._lost[at, slots]
        self._lost[at, slots] = lost
        self.ages[at] = ages
