"""The units that a twin watches: their newest rows behind one guard, in arrays with an entry for each unit.

A batch has at most one row of each unit. What it costs does not depend on the units without one, and little on how many
have one: all is done for the whole batch, and only what is rare (a row that is refused, a gap, a repair) unit by unit.

A row is not used when it says nothing new: the newest once more, as a broker sends it, or one that was overtaken. The
estimate stays as it is. More than MAX_UNUSED in a row are none of these, and refused: a counter that began anew, or
somebody who plays old rows. So is a second row of the newest cycle with other readings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinseal.errors import EvidenceError
from twinseal.guard.guard import Guard, GuardDecision
from twinseal.guard.saved_arrays import give_back, named, parts, taken
from twinseal.prognostics.checkpoint import Model
from twinseal.prognostics.normaliser import F32, F64, I64
from twinseal.telemetry.regimes import NOWHERE
from twinseal.telemetry.unit_names import unit_name
from twinseal.trust.life_acts import Act
from twinseal.twin.batch import Batch, fault_of
from twinseal.twin.lives import FIRST_UNITS, Lives
from twinseal.twin.units_image import UnitsImage, UnitsTexts

Flags = NDArray[np.bool_]
Acts = Mapping[str, Sequence[Act]]

MAX_UNUSED = 10  # rows of a unit in a row that came again or late; a broker sends a few
_CELLS = 1 << 18  # of windows that are estimated from together: more do not fit a processor's cache
# The arrays with an entry for each unit, and what it is at first.
_STATE: dict[str, Any] = {
    **dict.fromkeys(("cycles", "ages", "_offsets", "counts", "shown", "_unused", "_recent_ages", "_recent_count"), 0),
    **{"repaired": False, "commissioned": False, "_last": np.nan, "_recent": np.nan, "_baselines": 0.0},
}
_NO_PLACE = "expected a unit that has a place here, got one more"
_SAVED = tuple(name for name in _STATE if name not in ("_baselines", "commissioned"))  # these are read again


class Units:
    """The units, each with a slot: its place in the arrays.

    Args:
        model: Whose guard is before the rows.
        baselines: By unit, its normalised baseline (C,) float32 in σ.
        acts: By unit, what commissioners said of its life, in order; None where no machine is enrolled at all.
        forgotten: By unit, how many of its first acts do not vouch for it, since what was heard after them is lost;
            None if nothing is.
        keep_rows: Keep the newest rows as they came, so that another model can go on from them: see `take_over`.

    Attributes:
        lives: What is told of their lives.
        names: The name of each unit; "" for rows that name none.
        sent: Its name as its last row had it.
        cycles: (N,), the operating count of the last row that was taken; 0 before the first.
        ages: (N,), the age that the unit had then, cycles; the operating count, unless an act says otherwise.
        counts: (N,), rows in its history, also those that have left the window.
        shown: (N,), the cycle that its answer is shown for.
        repaired: (N, L), which of its newest rows a reading was repaired in, the newest last; no more than `counts`.
        commissioned: (N,), whether it has a signed baseline and the model has networks that read it.
        flagged: By slot, the channels of its last row that were replaced, and by which rule each.
        refusals: By slot, why there is no estimate.
        notes: By slot, why its last row was not used.
    """

    def __init__(
        self,
        model: Model,
        baselines: Mapping[str, F32],
        acts: Acts | None = None,
        *,
        forgotten: Mapping[str, int] | None = None,
        keep_rows: bool = False,
    ) -> None:
        self._model, self._known_baselines, self._acts, self._forgotten = model, baselines, acts, forgotten
        self.lives = Lives(model)
        inputs, channels = len(model.contract.inputs), len(model.channels)
        self._guard: Guard = model.guard_of(FIRST_UNITS, window=model.window)
        self.names: list[str] = []
        self.sent: list[str | int | float | None] = []
        self._slots: dict[str, int] = {}
        self._done_acts: list[tuple[Act, ...]] = []
        rows = model.window if keep_rows else 0  # a ring: row n of a unit, of all that were taken, is at n modulo L
        self._recent = np.full((FIRST_UNITS, rows, inputs), np.nan)
        self._recent_ages = np.zeros((FIRST_UNITS, rows), dtype=np.int64)
        self._recent_count = np.zeros(FIRST_UNITS, dtype=np.int64)
        self.cycles, self.ages, self.counts = (np.zeros(FIRST_UNITS, dtype=np.int64) for _ in range(3))
        self.shown, self._unused, self._offsets = (np.zeros(FIRST_UNITS, dtype=np.int64) for _ in range(3))
        self.repaired = np.zeros((FIRST_UNITS, model.window), dtype=bool)
        self._last = np.full((FIRST_UNITS, inputs), np.nan)
        self._baselines = np.zeros((FIRST_UNITS, channels), dtype=np.float32)
        self.commissioned = np.zeros(FIRST_UNITS, dtype=bool)
        self.flagged: dict[int, tuple[tuple[str, ...], tuple[str, ...]]] = {}
        self.refusals: dict[int, str] = {}
        self.notes: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self.names)

    @property
    def unit_bytes(self) -> int:
        """Memory of one unit, bytes, without its name and what is said of it in words."""
        arrays: list[NDArray[Any]] = [getattr(self, name) for name in _STATE]
        own = sum(array.nbytes for array in arrays) // self._guard.units
        return self._guard.unit_bytes + self.lives.unit_bytes + own

    def find(self, name: str, most: int) -> int:
        """The slot of a unit; a new one gets one of its own, unless there are `most`: then it is that of no name."""
        slot = self._slots.get(name)
        if slot is None and len(self.names) >= most - self._kept_free(name, most):
            name = ""
            slot = self._slots.get(name)
        return self._add(name) if slot is None else slot

    def knows(self, name: str) -> bool:
        """Whether a unit has a slot of its own, and somebody vouches for it."""
        slot = self._slots.get(name)
        return bool(name) and slot is not None and bool(self.lives.known[slot])

    def _kept_free(self, name: str, most: int) -> int:
        """Slots that are kept for enrolled machines which were not heard yet, if `name` is none of them."""
        acts = self._acts
        if acts is None or name in acts or len(self.names) + len(acts) + 1 < most:
            return 0
        return sum(unit not in self._slots for unit in ("", *acts))  # and the one of rows that name none

    def _add(self, name: str) -> int:
        slot = self._slots[name] = len(self.names)
        if slot == self._guard.units:
            for array, first in _STATE.items():
                old = getattr(self, array)
                setattr(self, array, np.concatenate([old, np.full_like(old, first)]))
            self.lives.grow(self._guard.units)
            self._guard.grow(self._guard.units)
        self.names.append(name)
        self.sent.append(None)
        self._done_acts.append(())
        self._do_acts(slot)
        return slot

    def use(self, acts: Acts | None, baselines: Mapping[str, F32] | None = None) -> None:
        """From the next row on, know these acts, and compare with these baselines; None: with those of before."""
        self._acts = acts
        if baselines is not None:
            self._known_baselines = baselines
        for slot in range(len(self.names)):
            self._do_acts(slot)

    def _do_acts(self, slot: int) -> None:
        """Compare a unit with its baseline, and do what commissioners said of it since it was last asked."""
        baseline = self._known_baselines.get(self.names[slot])
        self.commissioned[slot] = baseline is not None and self._model.inference.commissioned is not None
        if baseline is not None:
            self._baselines[slot] = baseline
        acts = () if self._acts is None else tuple(self._acts.get(self.names[slot], ()))
        lost = 0 if self._forgotten is None else self._forgotten.get(self.names[slot], 0)
        self.lives.known[slot] = (self._acts is None and self._forgotten is None) or len(acts) > lost
        done = self._done_acts[slot]
        news = acts[len(done) :] if acts[: len(done)] == done else acts
        self._done_acts[slot] = acts
        for number, act in enumerate(news, len(acts) - len(news)):
            self._do_act(slot, act, first=number == 0)

    def _do_act(self, slot: int, act: Act, *, first: bool) -> None:
        offset, heard = act.cycle - act.age, self.ages[slot] > 0
        if first and (not heard or offset == self._offsets[slot]):  # a later "new machine" is another one of its name
            self._offsets[slot] = offset  # its life begins, or goes on, at the first row that comes
            self.cycles[slot] = max(self.cycles[slot], act.cycle)
            return
        self._offsets[slot], self.cycles[slot], self._last[slot], self._unused[slot] = offset, act.cycle, np.nan, 0
        if act.opens:
            self._guard.forget(np.array([slot]))
            self.repaired[slot], self.counts[slot], self._recent_count[slot] = False, 0, 0
            self.lives.ledger.begin([slot], [act.age])
            self.ages[slot] = act.age
            self.flagged.pop(slot, None)
            self.refusals[slot] = f"expected a row after the {act.kind}, got none yet"

    def hear(self, batch: Batch) -> None:
        """Take a batch: afterwards the attributes tell of its units what is known after these rows."""
        slots, cycles, newest = batch.slots, batch.cycles, self.cycles[batch.slots]
        for slot, sent in zip(slots.tolist(), batch.sent, strict=True):
            self.sent[slot] = sent
        named = slots != self._slots.get("", -1)
        unneeded = named & self._are_unneeded(batch, newest)
        for place in np.flatnonzero(unneeded).tolist():
            cycle, before = int(cycles[place]), int(newest[place])
            came = "again" if cycle == before else f"after that of cycle {before}"
            self.notes[int(slots[place])] = f"the row of cycle {cycle} came {came}, and was not used"
            if np.isnan(self.lives.answers[slots[place]]):
                self.refusals.setdefault(int(slots[place]), f"expected a row after cycle {before}, got none yet")
        self._unused[slots] += unneeded
        used = slots[~unneeded]
        self.shown[used] = cycles[~unneeded]
        for known in (self.flagged, self.refusals, self.notes):
            if known:
                for slot in used.tolist():
                    known.pop(slot, None)
        ages = cycles - self._offsets[slots]
        sound = named & ~unneeded & (cycles > newest) & (ages <= self._model.oldest_cycles)
        for place in np.flatnonzero(~unneeded & ~sound).tolist():
            self.refusals[int(slots[place])] = self._refusal(batch, place)
        if sound.any():
            self._guard_rows(slots[sound], ages[sound], batch.readings[sound])

    def _are_unneeded(self, batch: Batch, newest: I64) -> Flags:
        """Which rows say nothing new, see the module's text."""
        not_after = (batch.cycles > 0) & (batch.cycles <= newest) & (self._unused[batch.slots] < MAX_UNUSED)
        if not not_after.any():
            return not_after
        readings, last = batch.readings, self._last[batch.slots]
        same = ((readings == last) | (np.isnan(readings) & np.isnan(last))).all(axis=1)
        return np.asarray(not_after & ((batch.cycles < newest) | same))

    def _refusal(self, batch: Batch, place: int) -> str:
        slot, cycle = int(batch.slots[place]), int(batch.cycles[place])
        if not self.names[slot]:
            return _NO_PLACE if unit_name(batch.sent[place]) else "expected the name of a unit, got none"
        if cycle <= self.cycles[slot]:
            return f"expected a cycle after {self.cycles[slot]}, got {batch.said[place]!r:.40}"
        # Not stored: one false cycle number must not exclude the rows that follow.
        age = cycle - int(self._offsets[slot])
        return f"expected an age of at most {self._model.oldest_cycles} cycles, as in training, got {age}"

    def _guard_rows(self, slots: I64, ages: I64, readings: F64) -> None:
        """Show the guard rows that come after those before, and enter them in the ledger."""
        normaliser = self._model.normaliser
        regimes = normaliser.found_regimes(readings)
        for place in np.flatnonzero(regimes == NOWHERE).tolist():
            # Not a row: the next row finds a gap, which is filled and reported.
            self.refusals[int(slots[place])] = fault_of(partial(normaliser.scaled, readings[place : place + 1]))
        here = regimes != NOWHERE
        if not here.all():
            slots, ages, readings, regimes = slots[here], ages[here], readings[here], regimes[here]
        if not len(slots):
            return
        first = slots[self.ages[slots] == 0]
        self.lives.ledger.begin(first, ages[self.ages[slots] == 0] - 1)  # what was before it is not known, not lost
        self._fill_gaps(slots, ages)
        scaled = normaliser.scaled_in(readings, regimes)
        decision = self._guard.decide(ages, readings[:, normaliser.settings :], scaled, slots, regimes)
        self._note_repairs(slots, decision)
        self.cycles[slots], self.ages[slots] = ages + self._offsets[slots], ages
        self._last[slots], self._unused[slots] = readings, 0
        if rows := self._recent.shape[1]:
            at = self._recent_count[slots] % rows
            self._recent[slots, at], self._recent_ages[slots, at] = readings, ages
            self._recent_count[slots] += 1
        self._enter(slots)

    def take_over(self, other: Units) -> None:
        """Go on from the units of another model, before the first row: its ledgers hold, its newest rows are read.

        The other must have kept its rows. A channel that it did not read is missing in them. What this model would
        have stated of a life from the first of these rows does not count: it would rest on a short history.
        """
        acts, self._acts, count = self._acts, None, len(other.names)
        for name in other.names:
            self.find(name, count)
        self.sent, slots, kept = list(other.sent), np.arange(count), other._recent.shape[1]
        inputs = other._model.contract.inputs
        columns = np.array([inputs.index(name) if name in inputs else -1 for name in self._model.contract.inputs])
        for back in range(kept, 0, -1):
            some = slots[other._recent_count[:count] >= back]
            at = (other._recent_count[some] - back) % kept
            readings = np.where(columns >= 0, other._recent[some, at][:, columns], np.nan)
            nobody: list[Any] = [None] * len(some)
            self.hear(Batch(some, other._recent_ages[some, at], readings, [self.sent[slot] for slot in some], nobody))
        for name in ("cycles", "ages", "shown", "_offsets"):
            getattr(self, name)[:count] = getattr(other, name)[:count]
        self._done_acts = list(other._done_acts)
        self.lives.take_over(other.lives, count)
        self.use(acts)

    def _enter(self, slots: I64) -> None:
        """Enter the newest rows of units in their ledgers."""
        estimates, ages = self._estimates(slots), self.ages[slots]
        repaired = self.repaired[slots].sum(axis=1)
        self.lives.enter(slots, ages, estimates, repaired, commissioned=self.commissioned[slots])
        for place in np.flatnonzero(np.isnan(self.lives.answers[slots])).tolist():
            slot = int(slots[place])
            if slot not in self.refusals:
                self.refusals[slot] = self.lives.refusal(slot, int(ages[place])) or self._why_none(slot)

    def _fill_gaps(self, slots: I64, ages: I64) -> None:
        """The network counts cycles by rows: a cycle that is missing is held, and said to be."""
        before = self.ages[slots]
        gaps = np.where(self.counts[slots] > 0, np.maximum(ages - before - 1, 0), 0)  # an act may lower an age
        if gaps.any():
            gone = slots[gaps >= self._model.window]  # nothing of the window would be left
            if len(gone):
                self._guard.reset_window(gone)
                self.repaired[gone], self.counts[gone] = False, 0
                gaps = np.where(gaps >= self._model.window, 0, gaps)
            for done in range(int(gaps.max())):
                held = slots[gaps > done]
                self._guard.fill_missing_cycle(held)
                self._append_repaired(held, True)
        self.counts[slots] += gaps + 1

    def _append_repaired(self, slots: I64, repaired: Flags | bool) -> None:
        newest = np.roll(self.repaired[slots], -1, axis=1)
        newest[:, -1] = repaired
        self.repaired[slots] = newest

    def _note_repairs(self, slots: I64, decision: GuardDecision) -> None:
        """Remember which rows were repaired, now and after the fact, and what is said of the newest."""
        flagged = decision.flagged
        any_flagged = np.asarray(flagged.any(axis=1))
        self._append_repaired(slots, any_flagged)
        rewritten, channels = decision.rewritten_rows.max(axis=1), self._model.channels
        for place in np.flatnonzero(rewritten).tolist():
            slot = int(slots[place])
            before = min(int(rewritten[place]), int(self.counts[slot]) - 1, self._model.window - 1)
            self.repaired[slot, -1 - before : -1] = True
        for place in np.flatnonzero(any_flagged).tolist():
            at = np.flatnonzero(flagged[place]).tolist()
            rules = tuple(str(decision.rules[place, channel]) for channel in at)
            self.flagged[int(slots[place])] = tuple(channels[channel] for channel in at), rules
        for slot, refusal in zip(slots.tolist(), decision.refusals, strict=True):
            if refusal:
                self.refusals[slot] = refusal

    def image(self) -> UnitsImage:
        """All that is known of the units: what another of the same model goes on from, and answers the same."""
        count = len(self.names)
        arrays = {
            **taken(self, _SAVED, units=count),
            **named("guard.", self._guard.saved(count)),
            **named("lives.", self.lives.saved(count)),
        }
        acts, flagged = tuple(self._done_acts), dict(self.flagged)
        texts = UnitsTexts(tuple(self.names), tuple(self.sent), acts, flagged, dict(self.refusals), dict(self.notes))
        return UnitsImage(arrays, texts)

    def restore(self, image: UnitsImage) -> None:
        """Go on from an image, before the first row.

        Raises:
            EvidenceError: It is of another model. These units are then of no use.
        """
        acts, self._acts, count, texts = self._acts, None, len(image.texts.names), image.texts
        for name in texts.names:
            self.find(name, count)
        if self.names != list(texts.names):
            raise EvidenceError("memory of units: expected each name once, got one again")
        give_back(self, _SAVED, image.arrays, units=count)
        self._guard.restore(parts("guard.", image.arrays), count)
        self.lives.restore(parts("lives.", image.arrays), count)
        self.sent, self._done_acts = list(texts.sent), list(texts.acts)
        self.flagged, self.refusals, self.notes = dict(texts.flagged), dict(texts.refusals), dict(texts.notes)
        told = np.stack([self.lives.answers, self.lives.low, self.lives.high])[:, :count]
        if not set(np.flatnonzero(~np.isfinite(told).all(axis=0)).tolist()) <= self.refusals.keys():
            raise EvidenceError("memory of units: expected an answer of each unit that is not refused, got none")
        self.use(acts)

    def _estimates(self, slots: I64) -> F64:
        """Of units the remaining lives (B,) in cycles by their readings, NaN where there is none.

        An answer is the lower of those from the rows as the guard repaired them and as they were given: see
        `Model.guarded_answer`, of which this is the same for many units.
        """
        found, refusals = np.full(len(slots), np.nan), self.refusals
        asked = np.array([at for at, slot in enumerate(slots.tolist()) if slot not in refusals], dtype=np.int64)
        size = max(1, _CELLS // (self._model.window * len(self._model.channels)))
        for trusted in (False, True):
            places = asked[self.commissioned[slots[asked]] == trusted]
            for start in range(0, len(places), size):
                part = places[start : start + size]
                found[part] = self._lives(slots[part], trusted=trusted)
        return found

    def _lives(self, slots: I64, *, trusted: bool) -> F64:
        """The remaining lives (B,) of units of one mode; NaN where there is none."""
        model, baselines = self._model, self._baselines[slots] if trusted else None
        counts, ages = np.minimum(self.counts[slots], model.window), self.ages[slots]
        told = model.answers(self._guard.window(model.window, slots, repaired=False), counts, ages, baselines)
        if not model.repairs:
            return told
        inside = np.arange(model.window, 0, -1) <= counts[:, None]
        differ = np.flatnonzero((self._guard.repaired_rows(slots)[:, -model.window :] & inside).any(axis=1))
        if len(differ):
            own = None if baselines is None else baselines[differ]
            rows = self._guard.window(model.window, slots[differ])
            told[differ] = np.minimum(told[differ], model.answers(rows, counts[differ], ages[differ], own))
        return told

    def _why_none(self, slot: int) -> str:
        model, count = self._model, min(int(self.counts[slot]), self._model.window)
        baseline = self._baselines[slot] if self.commissioned[slot] else None
        repaired, given = (self._guard.window(count, np.array([slot]), repaired=which)[0] for which in (True, False))
        return fault_of(lambda: model.guarded_answer(repaired, given, int(self.ages[slot]), baseline))
