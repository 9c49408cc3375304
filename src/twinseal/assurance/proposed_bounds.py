"""Bounds for an asset that has none, proposed from what a first run showed. Nothing counts until a person accepts it.

A bound says what is normal for this asset, so it leaves room for chance, and no more:

- cycles, times, σ and other amounts: an RMSE over n units has a standard error of 1/√(2n) of itself, and another split
  of the same fleet moves it as far. Room: two of them, 15 % at least; rounded outward to two digits that can be read.
- shares of n units: the 95 % bound of a share (Wilson 1927); if none was seen, 3/n (rule of three).
- counts, such as flags or units: a count that should be small keeps what was seen if that is none; one that should be
  large may be a tenth smaller.

Not proposed is what no owner should accept unread: an error in cycles that always answering the same number would not
exceed (`cap/√12`, for lives spread evenly up to the cap); a share above the widest that policy has for any asset;
flags that were raised.

    >>> amount_bound(10.0, 100, smaller=True)
    (11.5, '15 %')
    >>> share_bound(0.0, 40, smaller=True)
    (0.075, '3/40')
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from twinseal.assurance.gates import Bound, Gate, observe
from twinseal.measures.quantity import resolve
from twinseal.measures.stages import STAGES
from twinseal.policy_entries import RELATIONS

UNITS, FAILING = "evasion/clean/units", "evasion/clean/failing_units"
# Of who holds a few sensors only so many machines are attacked.
HELD = {"held_sensors/hide": "held_sensors/failing_units", "held_sensors/alarm": "held_sensors/healthy_units"}
LEAST_ROOM, Z = 0.15, 1.645  # one-sided 95 %


@dataclass(frozen=True)
class Seen:
    """What a run showed.

    Attributes:
        measures: By stage, the measures of its verified record.
        rul_cap_cycles: Of the contract.
        run: Which run, for people, e.g. `the run of 2026-11-26`.
    """

    measures: Mapping[str, Mapping[str, Any]]
    rul_cap_cycles: float
    run: str

    def units(self, gate: Gate) -> int:
        """Independent machines behind the measure of a gate: those that failed, if it is about missed failures."""
        path = FAILING if "missed_failure" in gate.measure or "trigger" in gate.measure else UNITS
        path = HELD.get(gate.measure.rpartition("/k-")[0], path)
        found, _ = observe(self.measures.get("evade", {}), path)
        return max(1, int(found or 1))


@dataclass(frozen=True)
class ProposedBound:
    """What is proposed for one gate, or why nothing is.

    Attributes:
        gate: Its name.
        unit: What the number counts.
        seen: The number seen; None if it was not measured.
        bound: What is proposed; None if nothing is.
        margin: The room that it leaves, in words.
        why: Where it comes from; or why nothing is proposed.
    """

    gate: str
    unit: str
    seen: float | None
    bound: Bound | None
    margin: str
    why: str


def propose(gates: Iterable[Gate], asset: str, seen: Seen, *, again: bool = False) -> tuple[ProposedBound, ...]:
    """One for each of the gates that has no bound for `asset` but a proposed one.

    A bound that was proposed before stays, and the line says what this run showed; `again` widens it where this run
    needs more room, and never narrows it. What somebody wrote or accepted is left alone.
    """
    open_gates = [gate for gate in gates if not gate.has_default or asset in gate.assets]
    return tuple(
        _beside(propose_one(gate, seen), gate.assets.get(asset), again=again)
        for gate in open_gates
        if asset not in gate.assets or gate.assets[asset].proposed
    )


def _beside(new: ProposedBound, old: Bound | None, *, again: bool) -> ProposedBound:
    """The new proposal, where an older one stands in the file."""
    if old is None or new.bound is None:
        return new
    if old.admits(new.bound.number):
        return replace(new, bound=None, why=f"proposed before: {_words(old)}, which leaves this run room enough")
    if not again:
        return replace(
            new, bound=None, why=f"proposed before: {_words(old)}; this run asks for more: --again widens it"
        )
    return new


def _words(bound: Bound) -> str:
    return f"{RELATIONS[bound.relation]} {bound.number:g}"


def propose_one(gate: Gate, seen: Seen) -> ProposedBound:
    """What is proposed for one gate, whatever it has already."""
    observed, fault = observe(seen.measures.get(gate.evidence, {}), gate.measure)
    if observed is None:
        return ProposedBound(gate.name, gate.unit, None, None, "", fault)
    quantity = resolve(STAGES[gate.evidence], gate.measure, gate.name).quantity
    smaller, n = quantity.better != "larger", seen.units(gate)
    if gate.unit == "share":
        number, margin = share_bound(observed, n, smaller=smaller)
    elif gate.unit in ("units", "windows", "flags"):
        number, margin = (observed, "none") if smaller else (float(math.floor(0.9 * observed)), "10 %")
    else:
        number, margin = amount_bound(observed, n, smaller=smaller)
    refused = _danger(gate, observed, number, seen, smaller=smaller)
    if refused:
        return ProposedBound(gate.name, gate.unit, observed, None, margin, refused)
    why = f"{observed:.4g} seen in {seen.run}, and room of {margin} for another split of {n} units"
    bound = Bound(at_most=number, proposed=why) if smaller else Bound(at_least=number, proposed=why)
    return ProposedBound(gate.name, gate.unit, observed, bound, margin, why)


def amount_bound(observed: float, units: int, *, smaller: bool) -> tuple[float, str]:
    """The bound on an amount that is an RMSE or behaves like one, and the room in words."""
    room = max(LEAST_ROOM, 2 / math.sqrt(2 * units))
    number = observed * (1 + room) if smaller else observed * (1 - room)
    step = 10.0 ** (math.floor(math.log10(abs(number))) - 1) / 2 if number else 0.5
    rounded = math.ceil(number / step - 1e-9) * step if smaller else math.floor(number / step + 1e-9) * step
    return float(f"{max(rounded, step) if smaller else rounded:.10g}"), f"{100 * room:.0f} %"


def share_bound(observed: float, units: int, *, smaller: bool) -> tuple[float, str]:
    """The bound on a share of so many units, and the room in words."""
    bad = observed if smaller else 1 - observed
    if bad <= 0:
        most, words = 3 / units, f"3/{units}"
    else:
        centre, spread = bad + Z**2 / (2 * units), Z * math.sqrt(bad * (1 - bad) / units + Z**2 / (4 * units**2))
        most, words = (centre + spread) / (1 + Z**2 / units), f"95 % of {units} units"
    most = min(1.0, math.ceil(1000 * most - 1e-9) / 1000)
    return float(f"{most if smaller else 1 - most:.10g}"), words


def _danger(gate: Gate, observed: float, number: float, seen: Seen, *, smaller: bool) -> str:
    """Why a bound is not proposed; "" if it may be."""
    if gate.unit == "flags" and observed > 0:
        return "something was flagged: find out why, and run again"
    constant = seen.rul_cap_cycles / math.sqrt(12)
    if gate.unit == "cycles" and smaller and number >= constant:
        return f"always answering the same number of cycles would be no worse ({constant:.3g}): this is no model yet"
    others = [bound.number for bound in gate.assets.values() if not bound.proposed]
    if gate.unit == "share" and others and (number > max(others) if smaller else number < min(others)):
        widest = max(others) if smaller else min(others)
        return f"{number:.3g} would be wider than policy has for any asset ({widest:.3g}): an owner must write it"
    return ""
