"""The guard at work: row after row, for any number of units at once, each with rows of its own pace.

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
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinseal.guard.contract_limits import ContractLimits
from twinseal.guard.cross_channel import CrossChannel
from twinseal.guard.judge import Judge
from twinseal.guard.memory import OWN, RECEIVED, REPAIRED, VERSIONS, Counts, Flags, Names, RowMemory, UnitState
from twinseal.guard.parameters import Doubles, GuardParams
from twinseal.guard.saved_arrays import Arrays, give_back, named, parts, taken
from twinseal.guard.wear import WearMonitor
from twinseal.telemetry.contract import Contract

# Three implicated channels are no longer a broken sensor: repairing three informative ones made estimates worse when
# it was measured (RMSE 22.3 to 29.5 on C-MAPSS FD001), so the guard abstains.
MAX_REPLACED_CHANNELS = 2
# If the other channels leave more than this share of a channel's variance unexplained, its replacement is a guess.
# A few rows may be guessed; more would show a machine that has stopped wearing.
MAX_UNEXPLAINED_VARIANCE, MAX_ESTIMATED_CYCLES = 0.5, 5


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

    def among(self, units: Counts, count: int) -> GuardDecision:
        """The same, of `count` units: these rows are of `units`, the others have none, and nothing is flagged."""
        shape, refusals = (count, self.rules.shape[1]), [""] * count
        repaired, rules, rewritten = np.zeros(shape), np.zeros(shape, self.rules.dtype), np.zeros(shape, dtype=np.int64)
        repaired[units], rules[units], rewritten[units] = self.repaired, self.rules, self.rewritten_rows
        for unit, refusal in zip(units.tolist(), self.refusals, strict=True):
            refusals[unit] = refusal
        return GuardDecision(repaired, rules, tuple(refusals), rewritten)


class Guard:
    """The guard of B units. It keeps the newest rows of each unit and the channels that it does not trust.

    Law: a unit among others, in any order and grouping of rows, is decided as alone, to the last bit. What a row costs
    does not depend on the units that have none. Of memory, a unit takes `unit_bytes`.

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
        self._contract, self._params = contract, params
        self._names, count = contract.channels, len(contract.channels)
        each = (params,) if isinstance(params, GuardParams) else params
        if len(each) not in {1, units} or {one.spans for one in each} != {each[0].spans}:
            raise ValueError(f"guard: expected parameters of {units} units, of the same spans, got {len(each)}")
        for one in each:
            if len(one.stuck_cycles) != count:
                raise ValueError(f"guard: expected parameters of {count} channels, got {len(one.stuck_cycles)}")
        self._limits = ContractLimits([contract.all_channels[name] for name in self._names])
        known = {id(one): CrossChannel(one) for one in each}
        self._stuck_after, spans = np.array([one.stuck_cycles for one in each]), each[0].spans
        self._hard_to_estimate = np.array([1 / np.diag(one.matrix) for one in each]) > MAX_UNEXPLAINED_VARIANCE
        self._longest_span = spans[-1]
        ages = np.arange(self._longest_span, 0, -1)  # of the rows, the newest 1
        regimes = len(contract.regimes.points) if contract.regimes else 1
        self._state = UnitState.fresh(units, regimes, count)
        self._memory = RowMemory(units, max(window, 2 * self._longest_span), count)
        self._wear = WearMonitor(params, units)
        self._judge = Judge(
            names=contract.channels,
            # With four channels, two replaced ones would be half of all that is measured.
            max_replaced=min(MAX_REPLACED_CHANNELS, max(1, count // 4)),
            averaging=np.stack([(ages <= span) / span for span in spans]),
            channels=tuple(known[id(one)] for one in each),
            state=self._state,
            memory=self._memory,
            wear=self._wear,
        )

    @property
    def units(self) -> int:
        """B."""
        return len(self._state.row_count)

    @property
    def unit_bytes(self) -> int:
        """Memory of one unit, bytes: its rows, and what is known of its channels."""
        return self._memory.unit_bytes + self._state.nbytes // self.units

    def grow(self, units: int) -> None:
        """Guard so many more units, of the same parameters.

        Raises:
            ValueError: The guard has parameters for each unit.
        """
        if not isinstance(self._params, GuardParams):
            raise ValueError("guard: expected parameters for all units, got some for each: no unit can be added")
        self._state.grow(units)
        self._memory.grow(units)
        self._wear.grow(units)

    def repeated(self, times: int) -> Guard:
        """A guard of `times` copies of these units, with the same past: unit u of copy k is k · B + u."""
        copied, judge = copy.copy(self), self._judge
        copied._state, copied._memory = self._state.repeated(times), self._memory.repeated(times)
        copied._wear, channels = self._wear.repeated(times), judge.channels
        if len(channels) > 1:
            of_unit = (self._stuck_after, self._hard_to_estimate)
            copied._stuck_after, copied._hard_to_estimate = (np.concatenate([part] * times) for part in of_unit)
            channels = channels * times
        copied._judge = replace(judge, channels=channels, state=copied._state, memory=copied._memory, wear=copied._wear)
        return copied

    def decide(
        self,
        cycles: Counts,
        readings: Doubles,
        scaled: Doubles,
        units: Counts | None = None,
        regimes: Counts | None = None,
    ) -> GuardDecision:
        """Judge one row of each of some units; the rows of a unit come in order of their cycles.

        Args:
            cycles: (B',), the cycle of each row, higher than that of the unit's row before.
            readings: (B', C), each channel in its unit; NaN if it is missing.
            scaled: (B', C), the same in σ.
            units: (B',), of which unit each row is, each at most once; by default there is one of each of all.
            regimes: (B',), the regime of each row; not needed for an asset with one regime.

        Raises:
            ValueError: Two rows are of one unit.
        """
        chosen = np.arange(self.units) if units is None else units
        if len(chosen) > 1 and len(np.unique(chosen)) < len(chosen):
            raise ValueError("guard: expected each unit once, got one twice")
        at = (chosen, np.zeros(len(chosen), dtype=np.int64) if regimes is None else regimes)
        rules, rows = self._broken_rules(cycles, readings, at), np.nan_to_num(scaled)
        broken = rules != ""
        suspicious = (broken | self._state.distrusted[chosen]).any(axis=1) | (self._state.rows_abstained[chosen] >= 0)
        any_broken, repaired, own = broken.any(axis=1), rows, rows
        if any_broken.any():
            repaired, own = (
                np.where(broken, self._memory.newest(version, chosen), rows) for version in (REPAIRED, OWN)
            )
        self._append(chosen, (repaired, repaired, own), any_broken)
        averages = self._newest_averages(chosen)
        rewritten_rows, refusals = np.zeros(scaled.shape, dtype=np.int64), [""] * len(scaled)
        judged = np.flatnonzero(suspicious | self._are_above_threshold(chosen, averages[0]))
        for place in judged.tolist():
            unit = int(chosen[place])
            refusals[place] = self._judge.judge(unit, rules[place], rewritten_rows[place])
            newest = self._memory.of(REPAIRED, unit)[-1]
            self._memory.of(RECEIVED, unit)[-1, broken[place]] = newest[broken[place]]
            self._memory.compare(unit)
        if len(judged):
            averages[:, judged] = self._newest_averages(chosen[judged])
        self._check_wear(chosen, averages, refusals)
        rules[self._state.distrusted[chosen] & ~broken] = "cross-channel"
        self._check_estimates(chosen, rules, refusals)
        good = rules == ""
        self._state.last_good[at] = np.where(good, readings, self._state.last_good[at])
        self._state.last_good_cycle[at] = np.where(good, cycles[:, None], self._state.last_good_cycle[at])
        return GuardDecision(self._memory.newest(REPAIRED, chosen), rules, tuple(refusals), rewritten_rows)

    def window(self, rows: int, units: Counts | None = None, *, repaired: bool = True) -> Doubles:
        """The newest rows of each unit in σ, (B', rows, C); zeros before the first.

        Args:
            rows: How many; of more than are kept, those.
            units: (B',), which units; all by default.
            repaired: With replaced channels. Otherwise as received; a reading that broke a rule is replaced by the
                last good one of its own channel, so that no channel depends on another.
        """
        chosen = np.arange(self.units) if units is None else units
        return self._memory.runs(REPAIRED if repaired else OWN, chosen, min(rows, self._memory.rows))

    def repaired_rows(self, units: Counts) -> Flags:
        """In which of the rows that are kept of `units` the versions of `window` differ, (B', R); the newest last."""
        return self._memory.differs(units)

    def fill_missing_cycle(self, units: Counts | None = None) -> None:
        """Repeat the newest row of each unit, or of each of `units` (B',), for a cycle that has none."""
        chosen = np.arange(self.units) if units is None else units
        newest = [self._memory.newest(version, chosen) for version in VERSIONS]
        self._append(chosen, newest, self._memory.differs(chosen)[:, -1])
        replaced = self._state.cycles_replaced[chosen]
        self._state.cycles_replaced[chosen] = np.where(replaced > 0, replaced + 1, 0)

    def reset_window(self, units: Counts | None = None) -> None:
        """Empty the window after a gap as long as itself. The highest wear, and an abstention, stay."""
        chosen = np.arange(self.units) if units is None else units
        state = self._state
        for kept in (state.row_count, state.distrusted, state.rows_agreed, state.rows_in_agreement):
            kept[chosen] = 0
        self._memory.clear(chosen)

    def forget(self, units: Counts) -> None:
        """Know nothing of `units` any more: other machines, or the same ones with other sensors, have their places."""
        self._state.forget(units)
        self._wear.forget(units)
        self._memory.clear(units)

    def saved(self, units: int) -> Arrays:
        """All that it knows of the first `units` units."""
        return {
            **named("state.", taken(self._state, UnitState.names(), units=units)),
            **named("wear.", taken(self._wear, WearMonitor.SAVED, units=units)),
            **named("rows.", self._memory.saved(units)),
        }

    def restore(self, arrays: Arrays, units: int) -> None:
        """Go on from what `saved` gave, in a guard of the same parameters and of as many units or more.

        Raises:
            EvidenceError: It is of another guard. This one is then of no use.
        """
        give_back(self._state, UnitState.names(), parts("state.", arrays), units=units)
        give_back(self._wear, WearMonitor.SAVED, parts("wear.", arrays), units=units)
        self._memory.restore(parts("rows.", arrays), units)

    def _append(self, units: Counts, versions: Sequence[Doubles], differs: Flags) -> None:
        self._memory.append(units, versions, differs)
        self._state.row_count[units] += 1
        abstained = self._state.rows_abstained[units]
        self._state.rows_abstained[units] = abstained + (abstained >= 0)

    def _broken_rules(self, cycles: Counts, readings: Doubles, at: tuple[Counts, Counts]) -> Names:
        units, state = at[0], self._state
        rules = self._limits.broken_rules(readings, state.last_good[at], cycles[:, None] - state.last_good_cycle[at])
        same = np.where(readings == state.last_reading[units], state.repeats[units] + 1, 1)
        state.repeats[units], state.last_reading[units] = same, readings
        stuck = same > _of_units(self._stuck_after, units)
        if stuck.any():
            rules[stuck & (rules == "")] = "stuck"
        return rules

    def _newest_averages(self, units: Counts) -> Doubles:
        """Of each of `units` the averages, and those before the rows of the longest span, (2, B', S, C)."""
        rows = self._memory.runs(REPAIRED, units, 2 * self._longest_span)
        return np.stack([self._judge.averages(rows), self._judge.averages(rows[:, : self._longest_span])])

    def _are_above_threshold(self, units: Counts, averages: Doubles) -> Flags:
        """Which of `units` have an average above its threshold, with every channel trusted, (B',). Most never have."""
        counts = self._state.row_count[units]
        if len(self._judge.channels) == 1:
            return np.asarray((self._judge.channels[0].ratios(averages, counts) > 1).any(axis=(1, 2)))
        above, own = np.zeros(len(units), dtype=bool), [self._judge.channels_of(unit) for unit in units.tolist()]
        for channels in dict.fromkeys(own):
            mine = np.array([each is channels for each in own])
            above[mine] = (channels.ratios(averages[mine], counts[mine]) > 1).any(axis=(1, 2))
        return above

    def _check_wear(self, units: Counts, averages: Doubles, refusals: list[str]) -> None:
        """Abstain for units whose wear seems to have gone back."""
        newest, before = averages
        open_falls = self._wear.longest_open_fall(newest, before, self._state.row_count[units], units)
        for place in np.flatnonzero(open_falls > 0):
            recovery = "expected wear that never goes back, got readings of a less worn machine"
            refusals[place] = "; ".join(filter(None, (refusals[place], recovery)))
            self._judge.abstain(int(units[place]), int(open_falls[place]))

    def _check_estimates(self, units: Counts, rules: Names, refusals: list[str]) -> None:
        """Refuse units of which a channel that the others predict badly has been replaced for too long."""
        replaced = np.where(rules != "", self._state.cycles_replaced[units] + 1, 0)
        self._state.cycles_replaced[units] = replaced
        too_long = _of_units(self._hard_to_estimate, units) & (replaced > MAX_ESTIMATED_CYCLES)
        for place, channel in np.argwhere(too_long):
            refusals[place] = refusals[place] or (
                f"{self._names[channel]}: expected a good reading within {MAX_ESTIMATED_CYCLES} cycles, got none; "
                "the other channels are not enough to estimate it"
            )


def _of_units(each: NDArray[Any], units: Counts) -> NDArray[Any]:
    """Of a parameter of all units (1, …) or of each (B, …) that of `units`."""
    return each if len(each) == 1 else each[units]
