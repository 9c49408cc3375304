"""Held sensors: an attacker who knows network, guard and ledger, and holds one to four sensors for many rows.

    hide    the sensors of failing machines are told so that the machines are called healthy
    alarm   those of healthy machines so that they are called failing

For each number of sensors and of rows the attacker chooses sensors, and solves for the drift that does most and that
the guard does not notice (`methods.slow_drift`), for either of two objectives: what the network says at last, and what
the ledger lets the twin say. The guard is asked: of each machine's drift, as much is told as raises no flag that the
truth does not raise. Of all that was found for a machine with as many sensors and rows or fewer, the worst counts; the
truth is one of them, so an attacker never helps.

Every number is about what is *not noticed*. A false alarm that is noticed is nothing new: whoever breaks a sensor gets
a flag, and an answer that is too low. Of what is noticed, `falsified_histories` says how much is hidden.

Machines are drawn by the policy's seed from test units and from validation units up to CUT_CYCLES before their end.
Unchanged: other sensors, earlier rows, and the first PADDING_ROWS of a unit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from twinseal.measures.keys import Count, Rows, count_key, rows_key
from twinseal.measures.quantity import Keys
from twinseal.measures.robustness import AlarmBySensors, HeldSensors, HiddenBySensors
from twinseal.prognostics.checkpoint import Model
from twinseal.prognostics.life_bounds import SLACK_CYCLES
from twinseal.prognostics.metrics import FAILING_CYCLES, HEALTHY_CYCLES
from twinseal.robustness.attack import Attack, Plan, Testbed
from twinseal.robustness.hearing import Together
from twinseal.robustness.histories import Doubles, Histories
from twinseal.robustness.methods.slow_drift import Sensors, SlowDrifts
from twinseal.robustness.threats import Attacker, is_rising, require

FIELD, CUT_CYCLES = "held_sensors", 20
SCOUTED = 2  # sensors are chosen on every so-manieth machine
SHARES = (1.0, 0.88, 0.7, 0.45)  # of a drift, tried at the guard; the largest that is not noticed is told


class HeldSensorsThreat(Attacker):
    """An attacker who holds a few sensors.

    Attributes:
        most: The largest number of sensors.
        rows: For how many of the last rows, rising.
        machines: How many failing ones, and how many healthy ones, are attacked.
        sets: How many choices of sensors are tried.
        rounds: How often the gradient is taken.
        steps: Of each linear programme.
    """

    most: int
    rows: tuple[int, ...]
    machines: int
    sets: int
    rounds: int
    steps: int

    def model_post_init(self, _context: object, /) -> None:
        """Refuse an attacker who does nothing."""
        super().model_post_init(_context)
        require(1 <= self.most <= 16, "most: expected 1 to 16 sensors")
        require(is_rising(self.rows) and max(self.rows) <= 1_000, "rows: expected 1 to 1000, rising")
        numbers = (self.machines, self.sets, self.rounds, self.steps)
        require(min(numbers) >= 1, "machines, sets, rounds, steps: expected at least 1")


@dataclass(frozen=True, eq=False)
class Reached:
    """The worst of all that was tried on N machines.

    Attributes:
        bare: (N,) cycles without a ledger; NaN where there is no answer.
        answers: (N,) with it, likewise.
        at_most: (N,) what the ledger knows to be left at most, the least.
    """

    bare: Doubles
    answers: Doubles
    at_most: Doubles

    def or_worse(self, other: Reached, sign: float) -> Reached:
        """For each machine the higher answers if `sign` is 1, the lower ones if it is -1."""
        worse = np.fmax if sign > 0 else np.fmin
        bare, answers = worse(self.bare, other.bare), worse(self.answers, other.answers)
        return Reached(bare, answers, np.minimum(self.at_most, other.at_most))


def run(testbed: Testbed) -> HeldSensors:
    """Both aims, on machines of test and validation."""
    model, threat = testbed.model, testbed.threats.own(FIELD, HeldSensorsThreat)
    units = machines(testbed)
    order = np.random.default_rng([testbed.threats.seed, 71]).permutation(len(units.rows))
    failing, healthy = (
        units.only([int(i) for i in order if chosen[i]][: threat.machines])
        for chosen in (units.truth <= FAILING_CYCLES, units.truth > HEALTHY_CYCLES)
    )
    hide = attack(model, failing, threat, sign=1.0)
    alarm = attack(model, healthy, threat, sign=-1.0)
    return HeldSensors(
        failing_units=len(failing.rows),
        healthy_units=len(healthy.rows),
        hide={size: {rows: _hidden(reached) for rows, reached in each.items()} for size, each in hide.items()},
        alarm={
            size: {rows: _alarmed(reached, healthy.truth) for rows, reached in each.items()}
            for size, each in alarm.items()
        },
    )


def keys(plan: Plan) -> Keys:
    """Which numbers of sensors and rows its measures have."""
    threat = plan.threats.own(FIELD, HeldSensorsThreat)
    counts = frozenset(map(count_key, range(1, threat.most + 1)))
    rows = {f"{aim}/{count}": frozenset(map(rows_key, threat.rows)) for aim in ("hide", "alarm") for count in counts}
    return {"hide": counts, "alarm": counts} | rows


def machines(testbed: Testbed) -> Histories:
    """Test units up to their newest window, then validation units up to CUT_CYCLES before their end."""
    prepared = testbed.prepared
    validation = prepared.validation.take(prepared.validation.rul >= CUT_CYCLES)
    parts = [Histories.of(windows) for windows in (prepared.test, validation) if len(windows)]
    return Histories(
        [rows for part in parts for rows in part.rows],
        [regimes for part in parts for regimes in part.regimes],
        np.concatenate([part.baselines for part in parts]),
        np.concatenate([part.truth for part in parts]),
    )


def attack(
    model: Model, histories: Histories, threat: HeldSensorsThreat, *, sign: float
) -> dict[Count, dict[Rows, Reached]]:
    """What is reached on some machines with up to so many sensors, for up to so many rows.

    Args:
        model: Under attack.
        histories: Of the machines.
        threat: How much is held, and how hard is tried.
        sign: 1 to raise what is said, -1 to lower it.
    """
    found: dict[Count, dict[Rows, Reached]] = {count_key(k): {} for k in range(1, threat.most + 1)}
    if not histories.rows:
        nobody = Reached(*np.zeros((3, 0)))
        return {size: {rows_key(rows): nobody for rows in threat.rows} for size in found}
    sensors = choose(model, histories, threat, sign=sign)
    before: dict[int, Reached] = {}
    for held in threat.rows:
        drifts = SlowDrifts(model, histories, held, sign)
        sizes, changes = zip(*falsify(drifts, threat, sensors), strict=True)
        reached, worst = reach(drifts, list(sizes), list(changes))
        for size in range(1, threat.most + 1):
            for one in (each for each, own in reached if own == size):
                worst = worst.or_worse(one, sign)
            before[size] = worst = worst.or_worse(before.get(size, worst), sign)
            found[count_key(size)][rows_key(held)] = worst
    return found


def choose(model: Model, histories: Histories, threat: HeldSensorsThreat, *, sign: float) -> dict[int, list[Sensors]]:
    """By number of sensors, which: of each set that is chosen the next is worth most to machines that it is no use to.

    What sets are worth is sketched on every SCOUTED-th machine, for the fewest rows and for more; both choose in turn.
    """
    most, scouted = min(threat.most, len(model.channels)), histories.only(list(range(0, len(histories.rows), SCOUTED)))
    few, more = (
        SlowDrifts(model, scouted, rows, sign) for rows in (threat.rows[0], threat.rows[len(threat.rows) // 2])
    )
    chosen: dict[int, list[Sensors]] = {}
    for size, sets in more.favoured(most).items():
        sketched = [
            np.array([few.sketch(one, ledger=False) for one in sets]),
            np.array([more.sketch(one, ledger=sign > 0) for one in sets]),
        ]  # (P, N) each
        own: list[int] = []
        for turn in range(min(threat.sets, len(sets))):
            worth = sketched[turn % len(sketched)]
            gains = np.maximum(worth, worth[own].max(axis=0, initial=-np.inf)).mean(axis=1)
            gains[own] = -np.inf
            own.append(int(gains.argmax()))
        chosen[size] = [sets[at] for at in own]
    return chosen


def falsify(
    drifts: SlowDrifts, threat: HeldSensorsThreat, sensors: dict[int, list[Sensors]]
) -> Iterator[tuple[int, Doubles]]:
    """Numbers of sensors, and changes (N, H, C) σ of their readings that a model of the guard does not notice."""
    for size, sets in sensors.items():
        for chosen in sets:
            for ledger in _objectives(drifts.sign):
                yield size, drifts.falsify(chosen, ledger=ledger, rounds=threat.rounds, steps=threat.steps)


def _objectives(sign: float) -> tuple[bool, ...]:
    """Whether the ledger is: what locks a life early is the lowest estimate itself."""
    return (False, True) if sign > 0 else (False,)


def tell(histories: Histories, change: Doubles, shares: Doubles) -> list[Doubles]:
    """The histories with so much (N,) of a change (N, H, C) of their last rows."""
    false = [rows.copy() for rows in histories.rows]
    for rows, part, share in zip(false, change, shares, strict=True):
        count = min(len(rows), len(part))
        rows[-count:] += share * part[-count:]
    return false


def unnoticed(past: Together, histories: Histories, changes: list[Doubles], steps: slice) -> Doubles:
    """The share of each change that the guard does not notice, (V, N): the largest of those that are tried; or 0.

    Args:
        past: What was heard before.
        histories: As they were.
        changes: V, each (N, H, C) σ.
        steps: The last H rows.
    """
    count, true = len(histories.rows), past.repeated(1).hear(histories.rows, steps)
    alarmed = np.stack([heard.alarmed for heard in true], axis=1)  # (N, H)
    tried = [tell(histories, change, np.full(count, share)) for change in changes for share in SHARES]
    known = np.tile(alarmed, (len(tried), 1))
    silent = past.repeated(len(tried)).is_silent([rows for false in tried for rows in false], steps, known)
    parts = silent.reshape(len(changes), len(SHARES), count)
    return np.where(parts.any(axis=1), np.array(SHARES)[parts.argmax(axis=1)], 0.0)


def reach(drifts: SlowDrifts, sizes: list[int], changes: list[Doubles]) -> tuple[list[tuple[Reached, int]], Reached]:
    """What is said in the end, if as much of each machine's best change is told as the guard does not notice.

    Args:
        drifts: Of the machines.
        sizes: V, how many sensors each change needs.
        changes: V, each (N, H, C) σ.

    Returns:
        For each objective and number of sensors what the best of that number reach, and the number; what is said of
        the truth.
    """
    model, histories = drifts.model, drifts.histories
    longest, count = max(map(len, histories.rows)), len(histories.rows)
    steps, past = slice(max(0, longest - drifts.held), None), Together(model, histories)
    for _ in past.hear(histories.rows, slice(steps.start)):
        pass
    shares = unnoticed(past, histories, changes, steps)
    parts = [change * share[:, None, None] for change, share in zip(changes, shares, strict=True)]
    told, owns = [], []
    for ledger in _objectives(drifts.sign):
        worth = np.array([drifts.worth(part, ledger=ledger) for part in parts])  # (V, N)
        for size in sorted(set(sizes)):
            best = np.where(np.array(sizes)[:, None] == size, worth, -np.inf).argmax(axis=0)
            change = np.array([parts[at][unit] for unit, at in enumerate(best)])
            told.append(tell(histories, change, np.ones(count)))
            owns.append(size)
    told.append(histories.rows)
    *_, last = past.repeated(len(told)).hear([rows for false in told for rows in false], steps)
    said = (last.bare, last.answers, last.at_most)
    found = [Reached(*(part[at : at + count] for part in said)) for at in range(0, len(told) * count, count)]
    return list(zip(found[:-1], owns, strict=True)), found[-1]


def _hidden(reached: Reached) -> HiddenBySensors:
    """An answer that is refused misses no failure."""
    if not len(reached.bare):
        return HiddenBySensors(bare_missed_failure_share=None, missed_failure_share=None, answer_cycles=None)
    bare, answers = (np.nan_to_num(each) for each in (reached.bare, reached.answers))
    return HiddenBySensors(
        bare_missed_failure_share=float(np.mean(bare > HEALTHY_CYCLES)),
        missed_failure_share=float(np.mean(answers > HEALTHY_CYCLES)),
        answer_cycles=float(np.mean(answers)),
    )


def _alarmed(reached: Reached, left: NDArray[np.float32]) -> AlarmBySensors:
    """A refusal that the truth causes as well is no false alarm of the attacker's."""
    if not len(reached.bare):
        return AlarmBySensors(false_alarm_share=None, locked_early_share=None, answer_cycles=None)
    given = reached.answers[~np.isnan(reached.answers)]
    return AlarmBySensors(
        false_alarm_share=float(np.mean(reached.answers <= FAILING_CYCLES)),
        locked_early_share=float(np.mean(reached.at_most < left - SLACK_CYCLES)),
        answer_cycles=float(np.mean(given)) if len(given) else None,
    )


ATTACKS = (Attack(FIELD, run, keys, threat=HeldSensorsThreat, seconds=25),)
