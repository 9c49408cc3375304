"""The guard at work: row after row, for any number of units at once.

For each row of each unit:

1. A reading that breaks a rule of the contract, or that has not changed for too long, counts as missing.
2. The disagreement of each remaining channel with the others is averaged over the newest rows (see `parameters`).
3. While an average is above its threshold, the channel whose removal makes the rest agree best is implicated too. If
   this implicates too many, the guard looks for the smallest set of channels whose removal makes the rest agree.
4. Implicated channels are replaced by what the other channels predict (see `cross_channel`). A channel that an average
   implicated is replaced in all rows of that average.
5. The guard abstains, and says why, when no honest repair is possible: too many channels are implicated; a channel that
   the others predict badly has been replaced for more than MAX_ESTIMATED_CYCLES; there are two explanations of which
   sensors are wrong; or the machine seems to become less worn (see `wear`).

An implicated channel is trusted again after it has agreed with its prediction for CYCLES_TO_REGAIN_TRUST rows in a row,
and more closely than the threshold asks. After an abstention, a unit is answered for again once all its channels have
agreed for as long and it is as worn as before. The rows of the abstention are then replaced by the rows that came after
them: these are more worn, so the error is on the safe side. No repair is silent: for every row the guard says which
channels were replaced, and by which rule.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from twinseal.guard.contract_limits import ContractLimits
from twinseal.guard.cross_channel import NO_CHANNELS, CrossChannel
from twinseal.guard.parameters import Doubles, GuardParams
from twinseal.guard.wear import WearMonitor
from twinseal.telemetry.contract import Contract

Flags = NDArray[np.bool_]
Names = NDArray[np.str_]
Counts = NDArray[np.int64]

# Three implicated channels are no longer a broken sensor: repairing three informative ones made estimates worse when
# it was measured (RMSE 22.3 to 29.5 on C-MAPSS FD001), so the guard abstains.
MAX_REPLACED_CHANNELS = 2
# If the other channels leave more than this share of a channel's variance unexplained, its replacement is a guess.
# A few rows may be guessed; more would show a machine that has stopped wearing.
MAX_UNEXPLAINED_VARIANCE, MAX_ESTIMATED_CYCLES = 0.5, 5
CYCLES_TO_REGAIN_TRUST = 10
# Share of a threshold. A channel must come below it to be trusted again: otherwise a manipulation just above the
# threshold would be trusted in every other row.
REGAIN_TRUST_RATIO = 0.7
# How many first channels are tried in the search for the smallest set of wrong channels.
MAX_FIRST_SUSPECTS = 16
# The state of a guard that has one entry for each unit.
_STATE_BY_UNIT = (
    "_last_good",
    "_last_good_cycle",
    "_last_reading",
    "_repeats",
    "_distrusted",
    "_rows_agreed",
    "_cycles_replaced",
    "_rows_abstained",
    "_rows_in_agreement",
    "_row_count",
)


@dataclass(frozen=True, eq=False)
class GuardDecision:
    """What the guard decided about one row of each of B units.

    Attributes:
        repaired: (B, C) σ, the row with its implicated channels replaced.
        rules: (B, C), why a channel was replaced: a rule of the contract, `stuck`, `cross-channel` (it disagrees with
            the other channels), or "" if it was not.
        refusals: (B,), why no estimate may use this row; "" if one may.
        rewritten_rows: (B, C), in how many earlier rows a channel was replaced as well, after the fact.
    """

    repaired: Doubles
    rules: Names
    refusals: tuple[str, ...]
    rewritten_rows: Counts

    @property
    def flagged(self) -> Flags:
        """Which channels were replaced, (B, C)."""
        return np.asarray(self.rules != "")


class Guard:
    """The guard of B units. It keeps the newest rows of each unit and the channels that it does not trust.

    Args:
        params: The learned parameters, for all units or for each; of the same spans.
        contract: The contract of the machines; the rows have its channels.
        units: B.
        window: How many rows to keep for `window`; never fewer than twice the longest span.

    Raises:
        ValueError: The parameters are for another number of channels or units.
    """

    def __init__(
        self, params: GuardParams | Sequence[GuardParams], contract: Contract, units: int = 1, window: int = 0
    ) -> None:
        self._names, count = contract.channels, len(contract.channels)
        each = (params,) if isinstance(params, GuardParams) else params
        if len(each) not in {1, units} or {one.spans for one in each} != {each[0].spans}:
            raise ValueError(f"guard: expected parameters of {units} units, of the same spans, got {len(each)}")
        for one in each:
            if len(one.stuck_cycles) != count:
                raise ValueError(f"guard: expected parameters of {count} channels, got {len(one.stuck_cycles)}")
        self._limits = ContractLimits([contract.all_channels[name] for name in self._names])
        self._wear, known = WearMonitor(params, units), {id(one): CrossChannel(one) for one in each}
        self._cross_channel = [known[id(one)] for one in each] * (units // len(each))  # of each unit
        self._stuck_after, spans = np.array([one.stuck_cycles for one in each]), each[0].spans
        self._longest_span = spans[-1]
        ages = np.arange(self._longest_span, 0, -1)  # of the rows, the newest 1
        self._averaging = np.stack([(ages <= span) / span for span in spans])  # (S, longest)
        # With four channels, two replaced ones would be half of all that is measured.
        self._max_replaced = min(MAX_REPLACED_CHANNELS, max(1, count // 4))
        shape, rows = (units, count), max(window, 2 * self._longest_span)
        regimes = len(contract.regimes.points) if contract.regimes else 1
        self._last_good = np.full((units, regimes, count), np.nan)  # last good reading in each regime, and its cycle
        self._last_good_cycle = np.zeros((units, regimes, count))
        self._last_reading, self._repeats = np.full(shape, np.nan), np.ones(shape, dtype=np.int64)
        self._distrusted, self._rows_agreed = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=np.int64)
        self._cycles_replaced = np.zeros(shape, dtype=np.int64)
        self._hard_to_estimate = np.array([1 / np.diag(one.matrix) for one in each]) > MAX_UNEXPLAINED_VARIANCE
        self._rows_abstained = np.full(units, -1)  # how many rows ago the guard began to abstain; -1: it does not
        self._rows_in_agreement = np.zeros(units, dtype=np.int64)
        self._kept, self._end = rows, rows
        # σ: three versions of the rows, see the properties below. They move when the end is reached, not every cycle.
        self._memory = np.zeros((3, units, 2 * rows, count))
        self._row_count = np.zeros(units, dtype=np.int64)

    @property
    def _newest(self) -> Doubles:
        """(3, B, R, C) σ, the rows that are kept, in three versions; the newest last."""
        return self._memory[:, :, self._end - self._kept : self._end]

    @property
    def _rows(self) -> Doubles:
        """(B, R, C) σ, repaired."""
        return np.asarray(self._newest[0])

    @property
    def _received(self) -> Doubles:
        """(B, R, C) σ, as received, except readings that broke a rule."""
        return np.asarray(self._newest[1])

    @property
    def _own_channel(self) -> Doubles:
        """(B, R, C) σ, each channel from its own readings only."""
        return np.asarray(self._newest[2])

    def repeated(self, times: int) -> Guard:
        """A guard of `times` copies of these units, with the same past: unit u of copy k is k · B + u."""
        copied = copy.copy(self)
        for name in _STATE_BY_UNIT:
            setattr(copied, name, np.concatenate([getattr(self, name)] * times))
        copied._memory, copied._wear = np.concatenate([self._memory] * times, axis=1), self._wear.repeated(times)
        copied._cross_channel = self._cross_channel * times
        if len(self._stuck_after) > 1:
            of_unit = (self._stuck_after, self._hard_to_estimate)
            copied._stuck_after, copied._hard_to_estimate = (np.concatenate([part] * times) for part in of_unit)
        return copied

    def decide(
        self,
        cycles: Counts,
        readings: Doubles,
        scaled: Doubles,
        active: Flags | None = None,
        regimes: Counts | None = None,
    ) -> GuardDecision:
        """Judge one row of each unit; rows come in order of their cycles.

        Args:
            cycles: (B,), the cycle of each row, higher than that of the row before.
            readings: (B, C), each channel in its unit; NaN if it is missing.
            scaled: (B, C), the same in σ.
            active: (B,), which units have a row; all by default.
            regimes: (B,), the regime of each row; not needed for an asset with one regime.
        """
        here = np.ones(len(readings), dtype=bool) if active is None else active
        at = (np.arange(len(readings)), np.zeros(len(readings), dtype=np.int64) if regimes is None else regimes)
        rules, newest = self._broken_rules(cycles, readings, at, here), np.nan_to_num(scaled)
        broken = rules != ""
        suspicious = (broken | (self._distrusted & here[:, None])).any(axis=1) | (self._rows_abstained >= 0)
        self._append(here, *(np.where(broken, rows[:, -1], newest) for rows in (self._rows, self._own_channel)))
        rewritten_rows, refusals = np.zeros(scaled.shape, dtype=np.int64), [""] * len(scaled)
        for unit in np.flatnonzero(here & (suspicious | self._units_above_threshold())):
            refusals[unit] = self._judge_unit(int(unit), rules[unit], rewritten_rows[unit])
        self._received[:, -1] = np.where(broken, self._rows[:, -1], self._received[:, -1])
        self._check_wear(here, refusals)
        rules[self._distrusted & here[:, None] & ~broken] = "cross-channel"
        self._check_estimates(here, rules, refusals)
        good = here[:, None] & (rules == "")
        self._last_good[at] = np.where(good, readings, self._last_good[at])
        self._last_good_cycle[at] = np.where(good, cycles[:, None], self._last_good_cycle[at])
        return GuardDecision(self._rows[:, -1].copy(), rules, tuple(refusals), rewritten_rows)

    def window(self, rows: int, *, repaired: bool = True) -> Doubles:
        """The newest rows of each unit in σ, (B, rows, C); zeros before the first.

        Args:
            rows: How many.
            repaired: With replaced channels. Otherwise as received; a reading that broke a rule is replaced by the
                last good one of its own channel, so that no channel depends on another.
        """
        return (self._rows if repaired else self._own_channel)[:, -rows:].copy()

    def fill_missing_cycle(self) -> None:
        """Repeat the newest row for a cycle that has none."""
        all_units = np.ones(len(self._rows), dtype=bool)
        replaced, received, own = self._newest[:, :, -1].copy()
        self._append(all_units, received, own)
        self._rows[:, -1] = replaced
        self._cycles_replaced = np.where(self._cycles_replaced > 0, self._cycles_replaced + 1, 0)

    def reset_window(self) -> None:
        """Empty the window after a gap as long as itself. The highest wear, and an abstention, stay."""
        self._row_count[:] = 0
        for kept in (self._distrusted, self._rows_agreed, self._rows_in_agreement, self._memory):
            kept[:] = 0

    def _append(self, here: Flags, scaled: Doubles, own: Doubles) -> None:
        """Append a row (B, C) to the units that are `here`: `scaled`, and `own` to the version of own readings only."""
        if self._end == self._memory.shape[2]:
            self._memory[:, :, : self._kept], self._end = self._newest, self._kept
        before = self._newest
        self._end += 1
        self._newest[:, :, -1] = np.where(here[:, None], (scaled, scaled, own), 0.0)
        waiting = np.flatnonzero(~here & (self._row_count > 0))  # a unit that was never here has zeros only
        if len(waiting):
            self._newest[:, waiting] = before[:, waiting]  # indices copy
        self._row_count += here
        self._rows_abstained += here & (self._rows_abstained >= 0)

    def _broken_rules(self, cycles: Counts, readings: Doubles, at: tuple[Counts, Counts], here: Flags) -> Names:
        rules = self._limits.broken_rules(readings, self._last_good[at], cycles[:, None] - self._last_good_cycle[at])
        same = np.where(readings == self._last_reading, self._repeats + 1, 1)
        self._repeats = np.where(here[:, None], same, self._repeats)
        self._last_reading = np.where(here[:, None], readings, self._last_reading)
        stuck = self._repeats > self._stuck_after
        if stuck.any():
            rules[stuck & (rules == "")] = "stuck"
        rules[~here] = ""
        return rules

    def _averages(self, rows: Doubles) -> Doubles:
        """The averages of rows (…, R, C) over the newest rows of each span, (…, S, C)."""
        return np.asarray(self._averaging @ rows[..., -self._longest_span :, :])

    def _units_above_threshold(self) -> Flags:
        """Which units have an average above its threshold, with every channel trusted, (B,). Most never have."""
        averages, above, begin = self._averages(self._rows), [], 0
        for channels, same in itertools.groupby(self._cross_channel):
            units = slice(begin, begin + sum(1 for _ in same))
            begin = units.stop
            above.append((channels.ratios(averages[units], self._row_count[units]) > 1).any(axis=(1, 2)))
        return np.concatenate(above)

    def _check_wear(self, here: Flags, refusals: list[str]) -> None:
        """Abstain for units whose wear seems to have gone back."""
        before = self._averages(self._rows[:, : -self._longest_span])
        open_falls = self._wear.longest_open_fall(self._averages(self._rows), before, self._row_count, here)
        for unit in np.flatnonzero(here & (open_falls > 0)):
            recovery = "expected wear that never goes back, got readings of a less worn machine"
            refusals[unit] = "; ".join(filter(None, (refusals[unit], recovery)))
            self._abstain(int(unit), int(open_falls[unit]))

    def _check_estimates(self, here: Flags, rules: Names, refusals: list[str]) -> None:
        """Refuse units of which a channel that the others predict badly has been replaced for too long."""
        replaced = np.where(rules != "", self._cycles_replaced + 1, 0)
        self._cycles_replaced = np.where(here[:, None], replaced, self._cycles_replaced)
        too_long = here[:, None] & self._hard_to_estimate & (self._cycles_replaced > MAX_ESTIMATED_CYCLES)
        for unit, channel in np.argwhere(too_long):
            refusals[unit] = refusals[unit] or (
                f"{self._names[channel]}: expected a good reading within {MAX_ESTIMATED_CYCLES} cycles, got none; "
                "the other channels are not enough to estimate it"
            )

    def _judge_unit(self, unit: int, rules: Names, rewritten_rows: Counts) -> str:
        """Implicate, replace and trust the channels of one unit's newest row.

        Returns:
            Why no estimate may use this row; "" if one may.
        """
        broken = frozenset(np.flatnonzero(rules != "").tolist())
        if self._rows_abstained[unit] >= 0:
            abstained, refusal = int(self._rows_abstained[unit]), self._wait_for_agreement(unit, broken)
            rewritten_rows[:] = 0 if refusal else abstained  # their readings were guessed, up to the rows that agreed
            return refusal
        implicated = broken | frozenset(np.flatnonzero(self._distrusted[unit]).tolist())
        if len(implicated) <= self._max_replaced:  # with more broken rules the answer is clear
            implicated = self._implicate(unit, broken, implicated, rewritten_rows)
        names = ", ".join(self._names[i] for i in sorted(implicated))
        if len(implicated) > self._max_replaced:
            if implicated != broken:  # broken rules alone are seen in every row, without memory
                self._abstain(unit, self._longest_span)
            noun = "channel" if self._max_replaced == 1 else "channels"
            most = f"expected at most {self._max_replaced} faulty, manipulated or missing {noun}"
            return f"{most}, got {len(implicated)}: {names}"
        if self._repair_reduces_wear(unit) and self._has_other_explanation(unit, broken, implicated - broken):
            self._abstain(unit, self._longest_span)
            one = "expected one explanation of which sensors are faulty or manipulated"
            return f"{one}, got two: without {names} the machine would look less worn"
        return ""

    def _implicate(
        self, unit: int, broken: frozenset[int], implicated: frozenset[int], rewritten_rows: Counts
    ) -> frozenset[int]:
        """Trust channels again or implicate more, until the rest agrees or too many are implicated; returns them."""
        self._replace(unit, implicated, 1)
        implicated = broken | self._restore_trust(unit, implicated - broken)
        worst, span = self._worst_disagreement(self._rows[unit], unit, implicated)
        while worst > 1 and len(implicated) <= self._max_replaced:
            chosen = self._rank_suspects(self._rows[unit], unit, implicated)[0]
            implicated |= {chosen}
            self._distrusted[unit, chosen], self._rows_agreed[unit, chosen] = True, 0
            rewritten_rows[chosen] = span - 1
            self._replace(unit, implicated, span)
            worst, span = self._worst_disagreement(self._rows[unit], unit, implicated)
        if len(implicated) > self._max_replaced and len(broken) < self._max_replaced:
            return self._fewest_channels(unit, broken, rewritten_rows) or implicated
        return implicated

    def _rank_suspects(self, rows: Doubles, unit: int, implicated: frozenset[int]) -> list[int]:
        """The other channels, in the order of how well the rest agrees without each."""
        count = self._row_count[unit]
        rest, worst = self._cross_channel[unit].worst_without_each(self._averages(rows), count, implicated)
        return [rest[at] for at in np.argsort(worst, kind="stable")]

    def _fewest_channels(self, unit: int, broken: frozenset[int], rewritten_rows: Counts) -> frozenset[int]:
        """Replace the smallest set of channels without which the received rows agree; returns it, or an empty one.

        Channels that were not trusted before are trusted again if they are not in it.
        """
        given = self._received[unit]
        firsts = [broken | {i} for i in self._rank_suspects(given, unit, broken)]
        candidates = [first for first in firsts[:1] if self._worst_disagreement(given, unit, first)[0] <= 1]
        if not candidates and len(broken) + 2 <= self._max_replaced:
            candidates = [first | {self._rank_suspects(given, unit, first)[0]} for first in firsts[:MAX_FIRST_SUSPECTS]]
        fits = [(self._worst_disagreement(given, unit, implicated)[0], sorted(implicated)) for implicated in candidates]
        worst, found = min(fits, default=(np.inf, []))
        if worst > 1:
            return NO_CHANNELS
        self._rows[unit, -self._longest_span :] = given[-self._longest_span :]
        mine = [i for i in found if i not in broken]
        self._distrusted[unit] = np.isin(np.arange(len(self._names)), mine)
        self._rows_agreed[unit], rewritten_rows[mine] = 0, self._longest_span - 1
        self._replace(unit, frozenset(found), self._longest_span)
        return frozenset(found)

    def _repair_reduces_wear(self, unit: int) -> bool:
        """Whether the repair makes the machine less worn than its own readings do, by more than chance explains."""
        received, repaired = self._averages(self._received[unit]), self._averages(self._rows[unit])
        return self._wear.is_implausible_recovery(unit, received - repaired)

    def _has_other_explanation(self, unit: int, broken: frozenset[int], implicated: frozenset[int]) -> bool:
        """Whether other channels, at most one more of them, would explain the received rows as well."""
        given, suspected = self._received[unit], broken
        for _ in range(len(implicated) + 1):
            suspects = [i for i in self._rank_suspects(given, unit, suspected) if i not in implicated]
            if not suspects:
                return False
            suspected |= {suspects[0]}
            if self._worst_disagreement(given, unit, suspected)[0] <= 1:
                return True
        return False

    def _abstain(self, unit: int, span: int) -> None:
        """Abstain from now on; the last `span` rows are not reliable either."""
        self._rows_abstained[unit] = max(int(self._rows_abstained[unit]), span - 1)
        self._distrusted[unit], self._rows_in_agreement[unit] = False, 0

    def _wait_for_agreement(self, unit: int, broken: frozenset[int]) -> str:
        """Count rows in which all channels agree; after enough of them, replace the rows of the abstention.

        Returns:
            Why no estimate may use this row; "" if the abstention has ended.
        """
        self._rows[unit, -1] = self._received[unit, -1]
        agree = (
            not broken and self._worst_disagreement(self._received[unit], unit, NO_CHANNELS)[0] <= REGAIN_TRUST_RATIO
        )
        self._rows_in_agreement[unit] = self._rows_in_agreement[unit] + 1 if agree else 0
        if self._rows_in_agreement[unit] < CYCLES_TO_REGAIN_TRUST:
            return (
                f"expected all channels to agree again for {CYCLES_TO_REGAIN_TRUST} cycles, "
                f"got {self._rows_in_agreement[unit]}"
            )
        abstained = slice(max(0, self._rows.shape[1] - 1 - int(self._rows_abstained[unit])), -CYCLES_TO_REGAIN_TRUST)
        self._rows[unit, abstained] = self._rows[unit, -CYCLES_TO_REGAIN_TRUST:].mean(axis=0)
        self._rows_abstained[unit] = -1
        return ""

    def _restore_trust(self, unit: int, distrusted: frozenset[int]) -> frozenset[int]:
        """Trust channels that have agreed for long enough; return those that are still not trusted after this row."""
        for index in distrusted:
            rows = self._rows[unit].copy()
            rows[:, index] = self._received[unit, :, index]
            averages = self._averages(rows)
            ratios = self._cross_channel[unit].ratios(averages, self._row_count[unit], distrusted - {index})[
                :, index
            ]  # (S,)
            self._rows_agreed[unit, index] = (
                self._rows_agreed[unit, index] + 1 if ratios.max() <= REGAIN_TRUST_RATIO else 0
            )
            if self._rows_agreed[unit, index] >= CYCLES_TO_REGAIN_TRUST:
                self._distrusted[unit, index] = False
                self._rows[unit, -1, index] = self._received[unit, -1, index]
        return frozenset(index for index in distrusted if self._distrusted[unit, index])

    def _worst_disagreement(self, rows: Doubles, unit: int, implicated: frozenset[int]) -> tuple[float, int]:
        """The largest average disagreement of the other channels, as a share of its threshold, and its span in rows."""
        ratios = (
            self._cross_channel[unit].ratios(self._averages(rows), self._row_count[unit], implicated).max(axis=1)
        )  # (S,)
        at = int(np.argmax(ratios))
        return float(ratios[at].max()), round(1 / self._averaging[at, -1])

    def _replace(self, unit: int, implicated: frozenset[int], span: int) -> None:
        if implicated:
            mine = sorted(implicated)
            rows = self._rows[unit, -span:]
            rows[:, mine] = rows @ self._cross_channel[unit].leave_out(implicated).expected
