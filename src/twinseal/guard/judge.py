"""The judge of one unit: which channels of its newest row are wrong, by what they are replaced, and when not to answer.

The guard asks it only about units in which something disagrees: the rules are in the text of `guard`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from twinseal.guard.cross_channel import NO_CHANNELS, CrossChannel
from twinseal.guard.memory import RECEIVED, REPAIRED, Counts, Doubles, Names, RowMemory, UnitState
from twinseal.guard.wear import WearMonitor

CYCLES_TO_REGAIN_TRUST = 10
# Share of a threshold. A channel must come below it to be trusted again: otherwise a manipulation just above the
# threshold would be trusted in every other row.
REGAIN_TRUST_RATIO = 0.7
# How many first channels are tried in the search for the smallest set of wrong channels.
MAX_FIRST_SUSPECTS = 16


@dataclass(frozen=True, eq=False)
class Judge:
    """Judges units, one at a time.

    Attributes:
        names: Of the C channels.
        max_replaced: How many of them may be replaced.
        averaging: (S, L), the weight of each of the newest rows in the average over each span; L is the longest.
        channels: How they go together: of each unit, or one for all.
        state: Of the units; changed.
        memory: Their rows; changed.
        wear: Theirs.
    """

    names: tuple[str, ...]
    max_replaced: int
    averaging: Doubles
    channels: tuple[CrossChannel, ...]
    state: UnitState
    memory: RowMemory
    wear: WearMonitor

    @property
    def longest_span(self) -> int:
        """L, rows."""
        return int(self.averaging.shape[1])

    def averages(self, rows: Doubles) -> Doubles:
        """The averages of rows (…, R, C) over the newest rows of each span, (…, S, C)."""
        return np.asarray(self.averaging @ rows[..., -self.longest_span :, :])

    def channels_of(self, unit: int) -> CrossChannel:
        """How the channels of a unit go together."""
        return self.channels[unit % len(self.channels)]

    def judge(self, unit: int, rules: Names, rewritten_rows: Counts) -> str:
        """Implicate, replace and trust the channels of one unit's newest row.

        Returns:
            Why no estimate may use this row; "" if one may.
        """
        broken = frozenset(np.flatnonzero(rules != "").tolist())
        if self.state.rows_abstained[unit] >= 0:
            abstained, refusal = int(self.state.rows_abstained[unit]), self._wait_for_agreement(unit, broken)
            rewritten_rows[:] = 0 if refusal else abstained  # their readings were guessed, up to the rows that agreed
            return refusal
        implicated = broken | frozenset(np.flatnonzero(self.state.distrusted[unit]).tolist())
        if len(implicated) <= self.max_replaced:  # with more broken rules the answer is clear
            implicated = self._implicate(unit, broken, implicated, rewritten_rows)
        names = ", ".join(self.names[i] for i in sorted(implicated))
        if len(implicated) > self.max_replaced:
            if implicated != broken:  # broken rules alone are seen in every row, without memory
                self.abstain(unit, self.longest_span)
            noun = "channel" if self.max_replaced == 1 else "channels"
            most = f"expected at most {self.max_replaced} faulty, manipulated or missing {noun}"
            return f"{most}, got {len(implicated)}: {names}"
        if self._repair_reduces_wear(unit) and self._has_other_explanation(unit, broken, implicated - broken):
            self.abstain(unit, self.longest_span)
            one = "expected one explanation of which sensors are faulty or manipulated"
            return f"{one}, got two: without {names} the machine would look less worn"
        return ""

    def _implicate(
        self, unit: int, broken: frozenset[int], implicated: frozenset[int], rewritten_rows: Counts
    ) -> frozenset[int]:
        """Trust channels again or implicate more, until the rest agrees or too many are implicated; returns them."""
        self._replace(unit, implicated, 1)
        implicated = broken | self._restore_trust(unit, implicated - broken)
        worst, span = self._worst_disagreement(self.memory.of(REPAIRED, unit), unit, implicated)
        while worst > 1 and len(implicated) <= self.max_replaced:
            chosen = self._rank_suspects(self.memory.of(REPAIRED, unit), unit, implicated)[0]
            implicated |= {chosen}
            self.state.distrusted[unit, chosen], self.state.rows_agreed[unit, chosen] = True, 0
            rewritten_rows[chosen] = span - 1
            self._replace(unit, implicated, span)
            worst, span = self._worst_disagreement(self.memory.of(REPAIRED, unit), unit, implicated)
        if len(implicated) > self.max_replaced and len(broken) < self.max_replaced:
            return self._fewest_channels(unit, broken, rewritten_rows) or implicated
        return implicated

    def _rank_suspects(self, rows: Doubles, unit: int, implicated: frozenset[int]) -> list[int]:
        """The other channels, in the order of how well the rest agrees without each."""
        count = self.state.row_count[unit]
        rest, worst = self.channels_of(unit).worst_without_each(self.averages(rows), count, implicated)
        return [rest[at] for at in np.argsort(worst, kind="stable")]

    def _fewest_channels(self, unit: int, broken: frozenset[int], rewritten_rows: Counts) -> frozenset[int]:
        """Replace the smallest set of channels without which the received rows agree; returns it, or an empty one.

        Channels that were not trusted before are trusted again if they are not in it.
        """
        given = self.memory.of(RECEIVED, unit)
        firsts = [broken | {i} for i in self._rank_suspects(given, unit, broken)]
        candidates = [first for first in firsts[:1] if self._worst_disagreement(given, unit, first)[0] <= 1]
        if not candidates and len(broken) + 2 <= self.max_replaced:
            candidates = [first | {self._rank_suspects(given, unit, first)[0]} for first in firsts[:MAX_FIRST_SUSPECTS]]
        fits = [(self._worst_disagreement(given, unit, implicated)[0], sorted(implicated)) for implicated in candidates]
        worst, found = min(fits, default=(np.inf, []))
        if worst > 1:
            return NO_CHANNELS
        self.memory.of(REPAIRED, unit)[-self.longest_span :] = given[-self.longest_span :]
        mine = [i for i in found if i not in broken]
        self.state.distrusted[unit] = np.isin(np.arange(len(self.names)), mine)
        self.state.rows_agreed[unit], rewritten_rows[mine] = 0, self.longest_span - 1
        self._replace(unit, frozenset(found), self.longest_span)
        return frozenset(found)

    def _repair_reduces_wear(self, unit: int) -> bool:
        """Whether the repair makes the machine less worn than its own readings do, by more than chance explains."""
        received, repaired = (self.averages(self.memory.of(version, unit)) for version in (RECEIVED, REPAIRED))
        return self.wear.is_implausible_recovery(unit, received - repaired)

    def _has_other_explanation(self, unit: int, broken: frozenset[int], implicated: frozenset[int]) -> bool:
        """Whether other channels, at most one more of them, would explain the received rows as well."""
        given, suspected = self.memory.of(RECEIVED, unit), broken
        for _ in range(len(implicated) + 1):
            suspects = [i for i in self._rank_suspects(given, unit, suspected) if i not in implicated]
            if not suspects:
                return False
            suspected |= {suspects[0]}
            if self._worst_disagreement(given, unit, suspected)[0] <= 1:
                return True
        return False

    def abstain(self, unit: int, span: int) -> None:
        """Abstain from now on; the last `span` rows are not reliable either."""
        self.state.rows_abstained[unit] = max(int(self.state.rows_abstained[unit]), span - 1)
        self.state.distrusted[unit], self.state.rows_in_agreement[unit] = False, 0

    def _wait_for_agreement(self, unit: int, broken: frozenset[int]) -> str:
        """Count rows in which all channels agree; after enough of them, replace the rows of the abstention.

        Returns:
            Why no estimate may use this row; "" if the abstention has ended.
        """
        rows, received = self.memory.of(REPAIRED, unit), self.memory.of(RECEIVED, unit)
        rows[-1] = received[-1]
        agree = not broken and self._worst_disagreement(received, unit, NO_CHANNELS)[0] <= REGAIN_TRUST_RATIO
        self.state.rows_in_agreement[unit] = self.state.rows_in_agreement[unit] + 1 if agree else 0
        if self.state.rows_in_agreement[unit] < CYCLES_TO_REGAIN_TRUST:
            return (
                f"expected all channels to agree again for {CYCLES_TO_REGAIN_TRUST} cycles, "
                f"got {self.state.rows_in_agreement[unit]}"
            )
        abstained = slice(max(0, len(rows) - 1 - int(self.state.rows_abstained[unit])), -CYCLES_TO_REGAIN_TRUST)
        rows[abstained] = rows[-CYCLES_TO_REGAIN_TRUST:].mean(axis=0)
        self.state.rows_abstained[unit] = -1
        return ""

    def _restore_trust(self, unit: int, distrusted: frozenset[int]) -> frozenset[int]:
        """Trust channels that have agreed for long enough; return those that are still not trusted after this row."""
        mine, received = self.memory.of(REPAIRED, unit), self.memory.of(RECEIVED, unit)
        channels, count = self.channels_of(unit), self.state.row_count[unit]
        for index in distrusted:
            rows = mine.copy()
            rows[:, index] = received[:, index]
            ratios = channels.ratios(self.averages(rows), count, distrusted - {index})[:, index]  # (S,)
            agreed = self.state.rows_agreed[unit, index] + 1 if ratios.max() <= REGAIN_TRUST_RATIO else 0
            self.state.rows_agreed[unit, index] = agreed
            if agreed >= CYCLES_TO_REGAIN_TRUST:
                self.state.distrusted[unit, index] = False
                mine[-1, index] = received[-1, index]
        return frozenset(index for index in distrusted if self.state.distrusted[unit, index])

    def _worst_disagreement(self, rows: Doubles, unit: int, implicated: frozenset[int]) -> tuple[float, int]:
        """The largest average disagreement of the other channels, as a share of its threshold, and its span in rows."""
        ratios = (
            self.channels_of(unit).ratios(self.averages(rows), self.state.row_count[unit], implicated).max(axis=1)
        )  # (S,)
        at = int(np.argmax(ratios))
        return float(ratios[at].max()), round(1 / self.averaging[at, -1])

    def _replace(self, unit: int, implicated: frozenset[int], span: int) -> None:
        if implicated:
            mine = sorted(implicated)
            rows = self.memory.of(REPAIRED, unit)[-span:]
            rows[:, mine] = rows @ self.channels_of(unit).leave_out(implicated).expected
