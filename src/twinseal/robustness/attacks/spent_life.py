"""Spent life: attackers who falsify no reading. They lose, withhold, repeat or renumber rows, or call the unit another.

Each is told to the twin's own guard, network and ledger (`hearing`), once without the ledger's answer and once with it:

    lost              of the last rows of a failing unit only the healthiest arrive, and the newest
    lost-few          likewise, and no more are lost than the contract's share of a window
    lost-all-along    likewise over its whole life, a tenth of a window after the other
    withheld          none of the last rows arrives but the newest
    withheld-few      likewise, within the contract's share
    renumbered        the first rows are told again, numbered as if they were the newest
    reset             the twin lost all that it heard, but its ledger, and is told the unit's first rows again; so it
                      starts from the cautious end: nobody vouches for the unit
    reset-renumbered  likewise, as many rows as it looks back, numbered as if they were the newest
    forgotten         likewise, and it lost its ledger as well
    renamed           the first rows again, under a name that nobody vouches for
    lost-worn         of a unit that is not failing only the most worn rows arrive: it is to be locked too early
    lost-few-worn     likewise, within the contract's share

`clean` is what the ledger does to honest telemetry. The newest row always arrives: without any, the twin's answer is of
an earlier cycle, and its age says so. Of the validation's units, which ran to failure, the last CUT_CYCLES are cut off.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from twinseal.errors import EvidenceError
from twinseal.measures.quantity import Keys
from twinseal.measures.robustness import SpentLife, SpentLives
from twinseal.prognostics.checkpoint import Model
from twinseal.prognostics.life_bounds import SLACK_CYCLES
from twinseal.prognostics.metrics import FAILING_CYCLES, HEALTHY_CYCLES, rmse_cycles
from twinseal.robustness.attack import Attack, Plan, Testbed
from twinseal.robustness.hearing import Heard, Hearing
from twinseal.robustness.histories import Doubles, Histories, Ints, towards_health
from twinseal.robustness.threats import Attacker, require

FIELD, CUT_CYCLES, MOST_UNITS = "spent_life", 20, 150
FAILING = (
    *("lost", "lost-few", "lost-all-along", "withheld", "withheld-few"),
    *("renumbered", "reset", "reset-renumbered", "forgotten", "renamed"),
)
WORN = ("lost-worn", "lost-few-worn")
BLOCK = 10  # parts of a window that lost-all-along goes through


class SpentLifeThreat(Attacker):
    """An attacker of which rows arrive, and under which number and name.

    Attributes:
        rows: How many of the last rows are chosen from.
        arriving_share: The share of them that arrives.
        withheld: How many of the last rows do not arrive, but for the newest.
        repeated: How many of the first rows are told again.
    """

    rows: int
    arriving_share: float
    withheld: int
    repeated: int

    def model_post_init(self, _context: object, /) -> None:
        """Refuse an attacker who does nothing."""
        super().model_post_init(_context)
        require(min(self.rows, self.withheld, self.repeated) >= 2, "rows, withheld, repeated: expected at least 2")
        require(0 < self.arriving_share < 1, "arriving_share: expected a share between 0 and 1")


@dataclass(frozen=True, eq=False)
class _Unit:
    """A unit under attack: its rows (R, C) σ, their regimes and how healthy each reads, (R,); how long it lasts."""

    rows: Doubles
    regimes: Ints
    health: Doubles
    left: float

    @property
    def failing(self) -> bool:
        return self.left <= FAILING_CYCLES

    def tell(self, hearing: Hearing, which: Iterable[int], ages: Iterable[int] | None = None) -> Heard:
        """What is said after the last of some rows, by index from 0, that say they are of these ages."""
        chosen, heard = list(which), Heard(None, None, np.inf)
        for at, age in zip(chosen, [at + 1 for at in chosen] if ages is None else ages, strict=True):
            heard = hearing.hear(self.rows[at], int(self.regimes[at]), age)
        return heard

    def without(self, begin: int, lost: int, *, worn: bool = False) -> list[int]:
        """The rows from `begin` on without so many, the newest kept: without the most worn, or the healthiest."""
        order = np.argsort(self.health[begin:-1] * (-1 if worn else 1), kind="stable")
        gone = set((begin + order[:lost]).tolist())
        return [at for at in range(begin, len(self.rows)) if at not in gone]


_Said = list[tuple[_Unit, Heard]]


def run(testbed: Testbed) -> SpentLives:
    """Every attack, on test and validation units.

    Raises:
        EvidenceError: The twin answers for no honest unit.
    """
    model, threat = testbed.model, testbed.threats.own(FIELD, SpentLifeThreat)
    units, clean, told = _units(testbed)[:MOST_UNITS], _Said(), dict[str, _Said]()
    for unit in units:
        before, hearing = {}, Hearing(model)
        tried = (threat.rows, threat.withheld, _few(model), threat.repeated, model.window)
        starts = {max(0, len(unit.rows) - rows) for rows in tried}
        for at in range(len(unit.rows)):
            if at in starts:
                before[at] = hearing.copy()
            heard = unit.tell(hearing, [at])
        clean.append((unit, heard))
        for name, said in _attacked(model, unit, threat, before):
            told.setdefault(name, []).append((unit, said))
    attacks = {name: _measure(pairs) for name, pairs in told.items()}
    both = [(unit.left, h.bare, h.answer) for unit, h in clean if h.bare is not None and h.answer is not None]
    if not both:
        raise EvidenceError(f"{FIELD}: expected an answer for an honest unit, got none of {len(units)}")
    truth, bare, held = (np.array(values) for values in zip(*both, strict=True))
    missed = [one.missed_failure_share for one in attacks.values() if one.missed_failure_share is not None]
    cap = model.rul_cap_cycles
    return SpentLives(
        clean=_measure(clean),
        rmse_cycles=rmse_cycles(held, np.minimum(truth, cap)),
        rise_cycles=rmse_cycles(held, np.minimum(truth, cap)) - rmse_cycles(bare, np.minimum(truth, cap)),
        attacks=attacks,
        worst_missed_failure_share=max(missed) if missed else None,
    )


def keys(_plan: Plan) -> Keys:
    """Which attacks its measures have."""
    return {"attacks": frozenset((*FAILING, *WORN))}


def _units(testbed: Testbed) -> list[_Unit]:
    """Test units up to their newest window, then validation units up to CUT_CYCLES before their end."""
    prepared, informative = testbed.prepared, testbed.channels["informative"]
    validation = prepared.validation.take(prepared.validation.rul >= CUT_CYCLES)
    parts = [Histories.of(windows) for windows in (prepared.test, validation) if len(windows)]
    way = towards_health(parts[0])[informative]
    return [
        _Unit(rows, regimes, rows[:, informative] @ way, float(left))
        for part in parts
        for rows, regimes, left in zip(part.rows, part.regimes, part.truth, strict=True)
        if len(rows) >= 2
    ]


def _few(model: Model) -> int:
    """How many rows of a window the contract lets be lost."""
    return max(1, int(model.contract.max_lost_share * model.window))


def _attacked(
    model: Model, unit: _Unit, threat: SpentLifeThreat, before: dict[int, Hearing]
) -> Iterable[tuple[str, Heard]]:
    """By attack, what is said after it; `before` has what was heard up to some rows from the end."""
    count, few = len(unit.rows), _few(model)

    def past(held: int) -> tuple[int, Hearing]:
        begin = max(0, count - held)
        return begin, before[begin].copy()

    begin, hearing = past(threat.rows)
    many = int((1 - threat.arriving_share) * (count - begin))
    aim = {"worn": not unit.failing}
    suffix = "" if unit.failing else "-worn"
    yield f"lost{suffix}", unit.tell(hearing, unit.without(begin, many, **aim))
    begin, hearing = past(threat.rows)
    yield f"lost-few{suffix}", unit.tell(hearing, unit.without(begin, few, **aim))
    if not unit.failing:
        return
    yield "lost-all-along", unit.tell(Hearing(model), _thinned(unit, model))
    for name, held in (("withheld", threat.withheld), ("withheld-few", few)):
        _, hearing = past(held)
        yield name, unit.tell(hearing, [count - 1])
    first = list(range(min(threat.repeated, count)))
    whole = list(range(min(model.window, count)))

    def newest(rows: list[int]) -> list[int]:
        return [count - len(rows) + 1 + at for at in rows]

    yield "renumbered", unit.tell(past(len(first))[1], first, newest(first))
    for name, rows, ages in (("reset", first, [at + 1 for at in first]), ("reset-renumbered", whole, newest(whole))):
        _, hearing = past(len(rows))
        hearing.forget()
        yield name, unit.tell(hearing, rows, ages)
    yield "forgotten", unit.tell(Hearing(model, known=False), whole, newest(whole))
    yield "renamed", unit.tell(Hearing(model, known=False), first)


def _thinned(unit: _Unit, model: Model) -> list[int]:
    """The rows of a whole life without the most worn of each part of a window, as many as the contract bears."""
    size = max(2, model.window // BLOCK)
    lost, kept = int(model.contract.max_lost_share * size), []
    for begin in range(0, len(unit.rows), size):
        block = np.arange(begin, min(begin + size, len(unit.rows)))
        gone = block[np.argsort(unit.health[block], kind="stable")[:lost]] if begin else block[:0]
        kept += [int(at) for at in block if at not in gone or at == len(unit.rows) - 1]
    return kept


def _measure(pairs: Sequence[tuple[_Unit, Heard]]) -> SpentLife:
    failing = [heard for unit, heard in pairs if unit.failing]
    locked = [heard.at_most < unit.left - SLACK_CYCLES for unit, heard in pairs]
    return SpentLife(
        units=len(pairs),
        failing_units=len(failing),
        bare_missed_failure_share=_missed([heard.bare for heard in failing]),
        missed_failure_share=_missed([heard.answer for heard in failing]),
        refused_share=float(np.mean([heard.answer is None for _, heard in pairs])),
        locked_early_share=float(np.mean(locked)),
    )


def _missed(answers: list[float | None]) -> float | None:
    """The share of failing units that are called healthy; an answer that is refused misses none."""
    return float(np.mean([said is not None and said > HEALTHY_CYCLES for said in answers])) if answers else None


ATTACKS = (Attack(FIELD, run, keys, tests="attacks", threat=SpentLifeThreat, seconds=25),)
