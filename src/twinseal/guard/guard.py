"""The guard at work: row after row, for any number of units at once.

For each row, and each unit:

1. what the contract's rules flag, and what has been stuck for too long, counts as absent
2. the disagreement of each remaining channel with the others is averaged over the newest rows (`parameters`)
3. while some average is beyond its threshold, the channel without which the rest agrees best is implicated too; where
   that implicates too many, the fewest channels are sought without which the rest agrees
4. implicated channels are replaced by what the others lead one to expect (`others`); one implicated by an average is
   replaced in all rows of that average
5. too many implicated before the rest agrees, one that the others hardly tell anything of for longer than MAX_HELD
   rows, two accounts of who lies, or a machine that heals (`wear`): no honest repair. The guard abstains, and says why

An implicated channel is trusted again once it has agreed with its reconstruction for AGREES rows on end, better than
what is just ordinary. A unit about which the guard abstained is answered for again once all its channels have agreed
for as long, and it is as worn as it was; for the rows of that time stands what came after them, which errs to the safe
side. Nothing is ever repaired in silence: every row says which channels were replaced, and by which rule.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from twinseal.guard.contract_limits import Limits
from twinseal.guard.cross_channel import NOBODY, CrossChannel
from twinseal.guard.parameters import Doubles, GuardParams
from twinseal.guard.wear import Wear
from twinseal.telemetry.contract import Contract

Flags = NDArray[np.bool_]
Names = NDArray[np.str_]
Counts = NDArray[np.int64]

# Three implicated channels are no longer a broken sensor: repairing three informative ones made estimates worse when
# it was measured (RMSE 22.3 to 29.5 on C-MAPSS FD001), so the guard abstains.
MAX_FLAGGED = 2
# A channel of which the others leave more than this share of the variance open is a guess once it is replaced: a few
# rows may be guessed, more would show a machine that has stopped wearing.
POOR, MAX_HELD = 0.5, 5
AGREES = 10
# Of a threshold: whoever strayed must come nearer than that, or a lie just above it would be trusted every other row.
TRUSTED = 0.7
# So many first suspects are tried with everybody else when the fewest liars are sought.
SUSPECTS = 16
# What a guard remembers, an entry a unit.
_OF_UNITS = ("_good", "_since", "_last", "_same", "_distrusted", "_agreed", "_guessed", "_silent", "_calm", "_seen")


@dataclass(frozen=True, eq=False)
class GuardDecision:
    """What the guard made of one row of each of B units.

    Attributes:
        known: (B, C) σ, the row with implicated channels replaced.
        rules: (B, C) why a channel was replaced: a contract's rule, `stuck`, `others` (it disagrees with them), or "".
        refusals: (B,) why no estimate may rest on this row; "" when one may.
        rewritten: (B, C), in how many rows before this one a channel was replaced as well.
    """

    known: Doubles
    rules: Names
    refusals: tuple[str, ...]
    rewritten: Counts

    @property
    def flagged(self) -> Flags:
        """(B, C), what was replaced."""
        return np.asarray(self.rules != "")


class Guard:
    """The guard of B units. It remembers, of each, the newest rows and which channels it does not trust.

    Args:
        params: What was learned.
        contract: Of the machines; its channels are those of the rows.
        units: B.
        window: Rows that are kept, for `window`; at least as many as twice the longest span.

    Raises:
        ValueError: The parameters are of another number of channels.
    """

    def __init__(self, params: GuardParams, contract: Contract, units: int = 1, window: int = 0) -> None:
        self._names, count = contract.channels, len(contract.channels)
        if len(params.stuck_cycles) != count:
            raise ValueError(f"guard: expected parameters of {count} channels, got {len(params.stuck_cycles)}")
        self._limits = Limits([contract.all_channels[name] for name in self._names])
        self._others, self._wear = CrossChannel(params), Wear(params, units)
        self._stuck_after, self._longest = np.array(params.stuck_cycles), params.spans[-1]
        ages = np.arange(self._longest, 0, -1)  # of the rows, the newest 1
        self._means = np.stack([(ages <= span) / span for span in params.spans])  # (S, longest)
        # A machine with four channels has lost half of what it says when two are replaced.
        self._most = min(MAX_FLAGGED, max(1, count // 4))
        shape, rows = (units, count), max(window, 2 * self._longest)
        regimes = len(contract.regimes.points) if contract.regimes else 1
        self._good = np.full((units, regimes, count), np.nan)  # last good reading of each regime, and its cycle
        self._since = np.zeros((units, regimes, count))
        self._last, self._same = np.full(shape, np.nan), np.ones(shape, dtype=np.int64)
        self._distrusted, self._agreed = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=np.int64)
        self._poor, self._guessed = 1 / np.diag(params.matrix) > POOR, np.zeros(shape, dtype=np.int64)
        self._silent = np.full(units, -1)  # how many rows ago the guard began to abstain; -1: it does not
        self._calm = np.zeros(units, dtype=np.int64)
        self._kept, self._end = rows, rows
        # σ: what the properties below say. Rows move when the end is reached, not in every cycle.
        self._memory = np.zeros((3, units, 2 * rows, count))
        self._seen = np.zeros(units, dtype=np.int64)

    @property
    def _newest(self) -> Doubles:
        """(3, B, R, C) σ, the rows that are kept, in three versions; the newest last."""
        return self._memory[:, :, self._end - self._kept : self._end]

    @property
    def _rows(self) -> Doubles:
        """(B, R, C) σ, replaced."""
        return np.asarray(self._newest[0])

    @property
    def _given(self) -> Doubles:
        """(B, R, C) σ, as they came, but for what broke a rule."""
        return np.asarray(self._newest[1])

    @property
    def _own(self) -> Doubles:
        """(B, R, C) σ, each channel from its own readings alone."""
        return np.asarray(self._newest[2])

    def repeated(self, times: int) -> Guard:
        """Guards that have seen what this one has, of its units again and again: unit u of copy k is k · B + u."""
        copied = copy.copy(self)
        for name in _OF_UNITS:
            setattr(copied, name, np.concatenate([getattr(self, name)] * times))
        copied._memory, copied._wear = np.concatenate([self._memory] * times, axis=1), self._wear.repeated(times)
        return copied

    def decide(
        self,
        cycles: Counts,
        readings: Doubles,
        known: Doubles,
        active: Flags | None = None,
        regimes: Counts | None = None,
    ) -> GuardDecision:
        """Judge one row of each unit; rows come in order of their cycles.

        Args:
            cycles: (B,) the rows' cycles, above those of the rows before.
            readings: (B, C) each channel in its unit; NaN where one is missing.
            known: (B, C) the same in σ, NaN likewise.
            active: (B,) which units have a row at all; all by default.
            regimes: (B,) the regime of each row; where there is only one, none need be given.
        """
        here = np.ones(len(readings), dtype=bool) if active is None else active
        at = (np.arange(len(readings)), np.zeros(len(readings), dtype=np.int64) if regimes is None else regimes)
        rules, newest = self._rules(cycles, readings, at, here), np.nan_to_num(known)
        ruled = rules != ""
        absent = ruled | (self._distrusted & here[:, None])
        self._push(here, *(np.where(ruled, rows[:, -1], newest) for rows in (self._rows, self._own)))
        rewritten, refusals = np.zeros(known.shape, dtype=np.int64), [""] * len(known)
        for unit in np.flatnonzero(here & (absent.any(axis=1) | (self._silent >= 0) | self._suspicious())):
            refusals[unit] = self._judge(int(unit), rules[unit], rewritten[unit])
        self._given[:, -1] = np.where(ruled, self._rows[:, -1], self._given[:, -1])
        self._heed_wear(here, refusals)
        disagreed = self._distrusted & here[:, None] & ~ruled
        rules[disagreed] = "others"
        flagged = ruled | disagreed
        self._guessed = np.where(here[:, None], np.where(flagged, self._guessed + 1, 0), self._guessed)
        for unit, channel in np.argwhere(here[:, None] & self._poor & (self._guessed > MAX_HELD)):
            refusals[unit] = refusals[unit] or (
                f"{self._names[channel]}: expected a good reading within {MAX_HELD} cycles, got none, and the other "
                "channels tell too little of it"
            )
        good = here[:, None] & ~flagged
        self._good[at] = np.where(good, readings, self._good[at])
        self._since[at] = np.where(good, cycles[:, None], self._since[at])
        return GuardDecision(self._rows[:, -1].copy(), rules, tuple(refusals), rewritten)

    def window(self, rows: int, *, repaired: bool = True) -> Doubles:
        """The newest rows of each unit in σ, (B, rows, C); zeros before the first.

        Args:
            rows: How many.
            repaired: With all that was replaced. Else as they came, and for a reading that broke a rule the last one of
                its own channel that did not: nothing in a channel is then another's word.
        """
        return (self._rows if repaired else self._own)[:, -rows:].copy()

    def hold(self) -> None:
        """A cycle without a row: the newest one stands for it."""
        everybody = np.ones(len(self._rows), dtype=bool)
        replaced, given, own = self._newest[:, :, -1].copy()
        self._push(everybody, given, own)
        self._rows[:, -1] = replaced
        self._guessed = np.where(self._guessed > 0, self._guessed + 1, 0)

    def forget(self) -> None:
        """A gap so long that no row of the window is left. How worn a unit was, and what is not answered for, stays."""
        self._seen[:] = 0
        for kept in (self._distrusted, self._agreed, self._calm, self._memory):
            kept[:] = 0

    def _push(self, here: Flags, known: Doubles, own: Doubles) -> None:
        """Put a row behind those of the units that are `here`: `known` (B, C), and for `own` another one."""
        if self._end == self._memory.shape[2]:
            self._memory[:, :, : self._kept], self._end = self._newest, self._kept
        before = self._newest
        self._end += 1
        self._newest[:, :, -1] = np.where(here[:, None], (known, known, own), 0.0)
        waiting = np.flatnonzero(~here & (self._seen > 0))  # who was never here has zeros only
        if len(waiting):
            self._newest[:, waiting] = before[:, waiting]  # indices copy
        self._seen += here
        self._silent += here & (self._silent >= 0)

    def _rules(self, cycles: Counts, readings: Doubles, at: tuple[Counts, Counts], here: Flags) -> Names:
        rules = self._limits.broken(readings, self._good[at], cycles[:, None] - self._since[at])
        same = np.where(readings == self._last, self._same + 1, 1)
        self._same = np.where(here[:, None], same, self._same)
        self._last = np.where(here[:, None], readings, self._last)
        stuck = self._same > self._stuck_after
        if stuck.any():
            rules[stuck & (rules == "")] = "stuck"
        rules[~here] = ""
        return rules

    def _averages(self, rows: Doubles) -> Doubles:
        """Rows (…, R, C), averaged over the newest of each span, (…, S, C)."""
        return np.asarray(self._means @ rows[..., -self._longest :, :])

    def _suspicious(self) -> Flags:
        """Units some of whose averages are beyond their thresholds, every channel trusted, (B,): most never are."""
        return np.asarray((self._others.ratios(self._averages(self._rows), self._seen) > 1).any(axis=(1, 2)))

    def _heed_wear(self, here: Flags, refusals: list[str]) -> None:
        """Abstain for units that have healed."""
        before = self._averages(self._rows[:, : -self._longest])
        fallen = self._wear.fallen(self._averages(self._rows), before, self._seen, here)
        for unit in np.flatnonzero(here & (fallen > 0)):
            healed = "expected a machine at least as worn as it was, got readings of a younger one"
            refusals[unit] = "; ".join(filter(None, (refusals[unit], healed)))
            self._abstain(int(unit), int(fallen[unit]))

    def _judge(self, unit: int, rules: Names, rewritten: Counts) -> str:
        """Implicate, replace and release the channels of one unit's newest row; why no estimate may rest on it."""
        ruled = frozenset(np.flatnonzero(rules != "").tolist())
        if self._silent[unit] >= 0:
            silent, refusal = int(self._silent[unit]), self._listen(unit, ruled)
            rewritten[:] = 0 if refusal else silent  # what stood for them was guessed, up to the rows that agreed
            return refusal
        implicated = ruled | frozenset(np.flatnonzero(self._distrusted[unit]).tolist())
        if len(implicated) <= self._most:  # more broken rules than can be replaced need no further judgement
            self._replace(unit, implicated, 1)
            implicated = ruled | self._release(unit, implicated - ruled)
            worst, span = self._worst(self._rows[unit], unit, implicated)
            while worst > 1 and len(implicated) <= self._most:
                chosen = self._suspects(self._rows[unit], unit, implicated)[0]
                implicated |= {chosen}
                self._distrusted[unit, chosen], self._agreed[unit, chosen] = True, 0
                rewritten[chosen] = span - 1
                self._replace(unit, implicated, span)
                worst, span = self._worst(self._rows[unit], unit, implicated)
            if len(implicated) > self._most and len(ruled) < self._most:
                implicated = self._fewest(unit, ruled, rewritten) or implicated
        if len(implicated) <= self._most:
            if self._younger(unit) and self._rival(unit, ruled, implicated - ruled):
                self._abstain(unit, self._longest)
                names = ", ".join(self._names[i] for i in sorted(implicated))
                return f"expected one account of who lies, got two: without {names} the machine would be younger"
            return ""
        if implicated != ruled:  # more than broken rules, which are seen in every row by themselves
            self._abstain(unit, self._longest)
        names = ", ".join(self._names[i] for i in sorted(implicated))
        return f"expected at most {self._most} channels that lie or are silent, got {len(implicated)}: {names}"

    def _suspects(self, rows: Doubles, unit: int, implicated: frozenset[int]) -> list[int]:
        """The others, first the one without which the rest agrees best."""
        rest, worst = self._others.worst_without_each(self._averages(rows), self._seen[unit], implicated)
        return [rest[at] for at in np.argsort(worst, kind="stable")]

    def _fewest(self, unit: int, ruled: frozenset[int], rewritten: Counts) -> frozenset[int]:
        """The fewest channels, also those trusted until now, without which all agree as they came; none if too many."""
        given = self._given[unit]
        firsts = [ruled | {i} for i in self._suspects(given, unit, ruled)]
        tried = [first for first in firsts[:1] if self._worst(given, unit, first)[0] <= 1]
        if not tried and len(ruled) + 2 <= self._most:
            tried = [first | {self._suspects(given, unit, first)[0]} for first in firsts[:SUSPECTS]]
        fits = [(self._worst(given, unit, implicated)[0], sorted(implicated)) for implicated in tried]
        worst, found = min(fits, default=(np.inf, []))
        if worst > 1:
            return NOBODY
        self._rows[unit, -self._longest :] = given[-self._longest :]
        mine = [i for i in found if i not in ruled]
        self._distrusted[unit] = np.isin(np.arange(len(self._names)), mine)
        self._agreed[unit], rewritten[mine] = 0, self._longest - 1
        self._replace(unit, frozenset(found), self._longest)
        return frozenset(found)

    def _younger(self, unit: int) -> bool:
        """Whether what was replaced makes a machine younger than it says itself, by more than a machine ever heals."""
        return self._wear.gap(self._averages(self._given[unit]) - self._averages(self._rows[unit]))

    def _rival(self, unit: int, ruled: frozenset[int], implicated: frozenset[int]) -> bool:
        """Whether it could as well be others who lie, one more at most: all agree as they came but for those."""
        given, blamed = self._given[unit], ruled
        for _ in range(len(implicated) + 1):
            suspects = [i for i in self._suspects(given, unit, blamed) if i not in implicated]
            if not suspects:
                return False
            blamed |= {suspects[0]}
            if self._worst(given, unit, blamed)[0] <= 1:
                return True
        return False

    def _abstain(self, unit: int, span: int) -> None:
        """From here on, and for the last `span` rows as well, nobody knows who lied."""
        self._silent[unit] = max(int(self._silent[unit]), span - 1)
        self._distrusted[unit], self._calm[unit] = False, 0

    def _listen(self, unit: int, ruled: frozenset[int]) -> str:
        """Wait until all agree again; for the rows until then stand the rows that agreed."""
        self._rows[unit, -1] = self._given[unit, -1]
        calm = not ruled and self._worst(self._given[unit], unit, NOBODY)[0] <= TRUSTED
        self._calm[unit] = self._calm[unit] + 1 if calm else 0
        if self._calm[unit] < AGREES:
            return f"expected all channels to agree for {AGREES} cycles after they did not, got {self._calm[unit]}"
        lost = slice(max(0, self._rows.shape[1] - 1 - int(self._silent[unit])), -AGREES)
        self._rows[unit, lost] = self._rows[unit, -AGREES:].mean(axis=0)
        self._silent[unit] = -1
        return ""

    def _release(self, unit: int, distrusted: frozenset[int]) -> frozenset[int]:
        """Of channels that are not trusted, those that still are not after this row."""
        for index in distrusted:
            rows = self._rows[unit].copy()
            rows[:, index] = self._given[unit, :, index]
            averages = self._averages(rows)
            ratios = self._others.ratios(averages, self._seen[unit], distrusted - {index})[:, index]  # (S,)
            self._agreed[unit, index] = self._agreed[unit, index] + 1 if ratios.max() <= TRUSTED else 0
            if self._agreed[unit, index] >= AGREES:
                self._distrusted[unit, index] = False
                self._rows[unit, -1, index] = self._given[unit, -1, index]
        return frozenset(index for index in distrusted if self._distrusted[unit, index])

    def _worst(self, rows: Doubles, unit: int, implicated: frozenset[int]) -> tuple[float, int]:
        """The largest average disagreement among the others, against its threshold, and the span that it is over."""
        ratios = self._others.ratios(self._averages(rows), self._seen[unit], implicated).max(axis=1)  # (S,)
        at = int(np.argmax(ratios))
        return float(ratios[at]), round(1 / self._means[at, -1])

    def _replace(self, unit: int, implicated: frozenset[int], span: int) -> None:
        if implicated:
            mine = sorted(implicated)
            rows = self._rows[unit, -span:]
            rows[:, mine] = rows @ self._others.view(implicated).expected
