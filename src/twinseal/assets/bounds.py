"""The contract that is proposed for a fleet: its bounds, the margins, and what each number rests on.

    minimum, maximum        the range that the units showed over whole lives, widened on each side by MARGIN_RANGE of
                            itself, and by a step of the recorded digits at least; a channel that never moved: by a
                            thousandth of its value. Not below 0 where no reading was, but for °C and °F: a share or
                            a concentration has none
    max_change_per_cycle    the largest change from one cycle to the next, within one regime, × MARGIN_CHANGE; never
                            finer than a step of the recorded digits
    missing_share           0 where nothing was missing; else the largest share of a unit × MARGIN_CHANGE
    consistency             the statistic of `telemetry.rules`, × MARGIN_SIGMA; not below LEAST_WINDOW and LEAST_UNIT,
                            which good fleets of pumps and engines have needed
    rul_cap_cycles          CAP_OF_LIFE of the median life: what 125 cycles (Heimes 2008) are to the lives of FD001
    min_cycles              MARGIN_LENGTH of the shortest history

All are rounded outward. The units that are far from the others (`measured`) set none of them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from twinseal.assets.measured import Array, Extremes, Known, Odd, extremes, level, odd_units, regime_of
from twinseal.telemetry.contract import Channel, Consistency, Contract, Regimes
from twinseal.telemetry.fleet import Fleet
from twinseal.telemetry.regimes import find_points
from twinseal.telemetry.screening import row_rules

MARGIN_RANGE, MARGIN_CHANGE, MARGIN_SIGMA, MARGIN_LENGTH = 0.1, 1.25, 1.5, 0.9
LEAST_WINDOW, LEAST_UNIT = 12.0, 10.0
CAP_OF_LIFE = 0.63
LEAST_TREND, LEAST_CORRELATION = 0.1, 0.1
AS_THERE = "the asset that this one is like does not use it"
UNBOUNDED = 1e30  # as good as no bound, and a float32 still


Kind = Literal["setting", "sensor"]


@dataclass(frozen=True)
class ChannelPlan:
    """One channel before it has bounds.

    Attributes:
        name: In the contract.
        kind: Setting or sensor.
        unit: Of measure.
        description: What it measures.
        used: Whether a model reads it; None: the data decide.
    """

    name: str
    kind: Kind
    unit: str = "1"
    description: str = ""
    used: bool | None = None


@dataclass(frozen=True)
class About:
    """What no data say of an asset.

    Attributes:
        asset: Its name.
        model: Of the model.
        description: What it is.
        cycle: What one cycle is.
        rul_cap_cycles: None: from the lives.
        kept: Units that count as healthy, however far they are from the others.
        proposed: Who proposes, and from what.
        averaged: Whether readings are means of several rows: then the digits of a row say nothing.
    """

    asset: str
    model: str
    description: str
    cycle: str
    rul_cap_cycles: float | None = None
    kept: frozenset[str] = frozenset()
    proposed: str = ""
    averaged: bool = False


@dataclass(frozen=True)
class Proposed:
    """A contract, and what it rests on.

    Attributes:
        contract: It accepts the fleet, but for the units that are far from the others.
        seen: What the units showed, by channel.
        basis: For each channel and each key of the contract, what its numbers rest on.
        reasons: For each channel that no model reads, why.
        odd: The units that are far from the others; those that set no bound are marked.
    """

    contract: Contract
    seen: Mapping[str, Extremes]
    basis: Mapping[str, str]
    reasons: Mapping[str, str]
    odd: tuple[Odd, ...]


def wide_contract(about: About, plans: Sequence[ChannelPlan]) -> Contract:
    """A contract that admits every reading: with it a source reads a fleet that has no bounds yet."""
    channels = {
        kind: {
            plan.name: Channel(
                unit=plan.unit,
                minimum=-UNBOUNDED,
                maximum=UNBOUNDED,
                max_change_per_cycle=UNBOUNDED,
                missing_share=0.99,
                description=plan.description,
            )
            for plan in plans
            if plan.kind == kind
        }
        for kind in ("setting", "sensor")
    }
    return Contract(
        asset=about.asset,
        model=about.model,
        description=about.description,
        cycle=about.cycle,
        rul_cap_cycles=1.0,
        min_cycles=2,
        max_quarantined_share=0.05,
        settings=channels["setting"],
        sensors=channels["sensor"],
    )


def propose_contract(fleet: Fleet, plans: Sequence[ChannelPlan], about: About) -> Proposed:
    """The contract for a fleet.

    Args:
        fleet: Its telemetry, read.
        plans: Its channels, each with a value somewhere.
        about: What the data do not say.
    """
    regimes = _regimes(fleet, plans)
    known = regimes.model_dump() if regimes else None
    seen = {plan.name: extremes(fleet, plan.name, known) for plan in plans}
    used, reasons = _used(fleet, plans, seen, regimes)
    found = odd_units(fleet.units, fleet.lengths.astype(np.float64), seen, {})
    counted = _counted(fleet, found, about)
    first = _contract(fleet, plans, about, regimes, seen, used, counted)
    window, unit = _disagreements(fleet, first)
    found = odd_units(fleet.units, fleet.lengths.astype(np.float64), seen, window)
    found = tuple(replace(odd, is_left_out=odd.is_left_out and odd.unit not in about.kept) for odd in found)
    counted = _counted(fleet, found, about)
    contract = _contract(fleet, plans, about, regimes, seen, used, counted)
    contract, said = _with_consistency(contract, window, unit, counted)
    basis = _basis(fleet, contract, seen, counted, averaged=about.averaged) | said
    return Proposed(contract, seen, basis, reasons, found)


def _regimes(fleet: Fleet, plans: Sequence[ChannelPlan]) -> Regimes | None:
    settings = [plan.name for plan in plans if plan.kind == "setting"]
    sensors = [plan.name for plan in plans if plan.kind == "sensor"]
    if not settings or not sensors:
        return None
    complete = [name for name in settings if not fleet.table[name].isna().any()]
    if not complete:
        return None
    found = find_points(fleet.table[complete].to_numpy(), fleet.table[sensors].to_numpy())
    if found is None:
        return None
    return Regimes(settings=tuple(complete[at] for at in found.columns), within=found.within, points=found.points)


def _used(
    fleet: Fleet, plans: Sequence[ChannelPlan], seen: Mapping[str, Extremes], regimes: Regimes | None
) -> tuple[dict[str, bool], dict[str, str]]:
    """Which channels a model reads, and why it does not read the others."""
    reasons: dict[str, str] = {}
    telling = [p.name for p in plans if seen[p.name].trend >= LEAST_TREND and not seen[p.name].is_constant]
    known = regimes.model_dump() if regimes else None
    levels = {plan.name: level(fleet.table, fleet.table[plan.name].to_numpy(np.float64), known) for plan in plans}
    for plan in plans:
        name, mine = plan.name, seen[plan.name]
        if regimes and name in regimes.settings:
            reasons[name] = "it defines the operating regime"
        elif mine.is_constant:
            reasons[name] = "it never moves"
        elif plan.used is not None:
            if not plan.used:
                reasons[name] = AS_THERE
        elif name not in telling and not (plan.kind == "setting" and _is_followed(name, telling, levels)):
            reasons[name] = f"no trend over the life ({mine.trend:.2f}, below {LEAST_TREND})"
    for kept in (AS_THERE, ""):
        if all(plan.name in reasons for plan in plans):  # nothing would be left: what moves is read
            reasons = {k: why for k, why in reasons.items() if seen[k].is_constant or "regime" in why or why == kept}
    return {plan.name: plan.name not in reasons for plan in plans}, reasons


def _is_followed(name: str, telling: Sequence[str], levels: Mapping[str, Array]) -> bool:
    """Whether some sensor that tells of the life moves with this setting."""
    return any(
        abs(_correlation(levels[name], levels[other])) >= LEAST_CORRELATION for other in telling if other != name
    )


def _correlation(a: Array, b: Array) -> float:
    both = np.isfinite(a) & np.isfinite(b)
    if both.sum() < 3 or a[both].std() == 0 or b[both].std() == 0:
        return 0.0
    return float(np.corrcoef(a[both], b[both])[0, 1])


def _counted(fleet: Fleet, found: Sequence[Odd], about: About) -> npt.NDArray[np.bool_]:
    """Which units set bounds, (U,) bool."""
    left_out = {odd.unit for odd in found if odd.is_left_out} - about.kept
    return np.array([unit not in left_out for unit in fleet.units])


def _contract(
    fleet: Fleet,
    plans: Sequence[ChannelPlan],
    about: About,
    regimes: Regimes | None,
    seen: Mapping[str, Extremes],
    used: Mapping[str, bool],
    counted: npt.NDArray[np.bool_],
) -> Contract:
    channels: dict[str, dict[str, Channel]] = {"setting": {}, "sensor": {}}
    for plan in plans:
        in_regime = regimes is not None and plan.name in regimes.settings
        channel = _channel(plan, seen[plan.name], counted, is_used=used[plan.name])
        channels[plan.kind][plan.name] = channel.model_copy(update={"missing_share": 0.0}) if in_regime else channel
    return Contract(
        proposed=about.proposed,
        asset=about.asset,
        model=about.model,
        description=about.description,
        cycle=about.cycle,
        rul_cap_cycles=about.rul_cap_cycles or _cap(fleet, counted),
        min_cycles=max(2, math.floor(MARGIN_LENGTH * int(fleet.lengths[counted].min()))),
        max_quarantined_share=0.05,
        settings=channels["setting"],
        sensors=channels["sensor"],
        regimes=regimes,
    )


def _channel(plan: ChannelPlan, seen: Extremes, counted: npt.NDArray[np.bool_], *, is_used: bool) -> Channel:
    low, high = as_recorded(np.nanmin(seen.low[counted])), as_recorded(np.nanmax(seen.high[counted]))
    change, missing = float(seen.change[counted].max()), float(seen.missing[counted].max())
    if low == high:
        wider = max(abs(high) / 1000, seen.step)
        grain = _grain(wider, 1)
    else:
        wider = max(MARGIN_RANGE * (high - low), seen.step)
        grain = _grain(high - low, 2)
    smallest = max(MARGIN_CHANGE * change, seen.step if change or low != high else wider)
    minimum = outward(low - wider, grain, -1)
    return Channel(
        unit=plan.unit,
        minimum=0.0 if minimum < 0 <= low and low != high and has_zero(plan.unit) else minimum,
        maximum=outward(high + wider, grain, 1),
        max_change_per_cycle=outward(smallest, _grain(smallest, 1), 1),
        missing_share=min(0.9, outward(MARGIN_CHANGE * missing, 0.01, 1)) if missing else 0.0,
        used=is_used,
        description=plan.description,
    )


def has_zero(unit: str) -> bool:
    """Whether 0 is the least that a unit of measure has: a share, a concentration, a pressure, a speed.

    No scale of temperature, and no unit that nobody named: its numbers may be of anything.
    """
    return (
        unit != "1" and re.fullmatch(r"(?:°|º|deg\.?\s*)?[CF]|℃|℉|(degree\s?)?(celsius|fahrenheit)", unit, re.I) is None
    )


def as_recorded(value: float) -> float:
    """The shortest decimal number that is the same float32: 21.61, not 21.610001."""
    return float(np.format_float_positional(np.float32(value), unique=True))


def outward(value: float, grain: float, way: Literal[-1, 1]) -> float:
    """The value rounded up (1) or down (-1) to a multiple of `grain`, a power of ten.

    >>> outward(1.234, 0.01, 1), outward(-1.234, 0.01, -1)
    (1.24, -1.24)
    """
    decimals = -round(math.log10(grain))
    scaled = value / grain
    near = round(scaled)
    whole = near if math.isclose(scaled, near, rel_tol=1e-12, abs_tol=1e-9) else math.ceil(scaled * way) * way
    return round(whole * grain, max(0, decimals)) + 0.0


def _grain(size: float, digits: int) -> float:
    """The power of ten that is `digits` places below the first digit of `size`."""
    return float(10.0 ** (math.floor(math.log10(size)) - digits)) if size > 0 else 1e-6


def _lives(fleet: Fleet, counted: npt.NDArray[np.bool_]) -> npt.NDArray[np.intp]:
    """The lengths of the counted histories that end in the failure; of all, if none is known to."""
    last = fleet.starts + fleet.lengths - 1
    failed = counted & ~fleet.table["censored"].to_numpy()[last]
    return fleet.lengths[failed if failed.any() else counted]


def _cap(fleet: Fleet, counted: npt.NDArray[np.bool_]) -> float:
    share = CAP_OF_LIFE * float(np.median(_lives(fleet, counted)))
    return float(max(2, 5 * round(share / 5) if share >= 20 else round(share)))


def _disagreements(fleet: Fleet, contract: Contract) -> tuple[dict[str, Array], dict[str, Array]]:
    """By sensor, the largest disagreement of each unit with the others, in σ: over a window, and over the unit."""
    found = []
    for asked in (
        Consistency(max_window_sigma=1.0, max_unit_sigma=UNBOUNDED),
        Consistency(max_window_sigma=UNBOUNDED, max_unit_sigma=1.0),
    ):
        rules = row_rules(contract.model_copy(update={"consistency": asked}), units=len(fleet.units))
        compared = [rule for rule in rules if rule.name == "consistency"]
        found.append({r.channel: np.fmax.reduceat(r.check(fleet.table).observed, fleet.starts) for r in compared})
    return found[0], found[1]


def _with_consistency(
    contract: Contract, window: Mapping[str, Array], unit: Mapping[str, Array], counted: npt.NDArray[np.bool_]
) -> tuple[Contract, dict[str, str]]:
    seen = [max((float(v[counted].max()) for v in values.values()), default=0.0) for values in (window, unit)]
    most = [
        float(math.ceil(max(floor, MARGIN_SIGMA * value)))
        for value, floor in zip(seen, (LEAST_WINDOW, LEAST_UNIT), strict=True)
    ]
    compared = sum(bool(values.max() > 0) for values in window.values())
    if compared:
        least = f"at least {LEAST_WINDOW:g} and {LEAST_UNIT:g}"
        words = f"largest seen: {seen[0]:.1f} and {seen[1]:.1f} σ, × {MARGIN_SIGMA}; {least}"
    else:
        words = "not measured: too few units or rows, or no two sensors that move together"
    bounds = Consistency(max_window_sigma=most[0], max_unit_sigma=most[1])
    return contract.model_copy(update={"consistency": bounds}), {"consistency": words}


def _basis(
    fleet: Fleet, contract: Contract, seen: Mapping[str, Extremes], counted: npt.NDArray[np.bool_], *, averaged: bool
) -> dict[str, str]:
    shortest, median = int(fleet.lengths[counted].min()), float(np.median(_lives(fleet, counted)))
    found = {
        "rul_cap_cycles": f"{CAP_OF_LIFE} of the median life, {median:g} cycles: early wear does not show",
        "min_cycles": f"{MARGIN_LENGTH} of the shortest history, {shortest} cycles",
        "max_quarantined_share": "as for every asset: more bad units mean a bad source, or an attack",
        "drift": "as for every asset; compared once policy/reference.yaml has a reference",
    }
    for name, channel in contract.all_channels.items():
        mine = seen[name]
        low, high = np.nanmin(mine.low[counted]), np.nanmax(mine.high[counted])
        words = f"seen {low:.6g} to {high:.6g}, change {mine.change[counted].max():.3g}"
        words += "" if averaged else f", recorded to {mine.step:.3g}"
        words += f", never below 0 {channel.unit}" if channel.minimum == 0 <= low and low != high else ""
        missing = float(mine.missing[counted].max())
        found[name] = words + (f", missing up to {missing:.1%} of a unit" if missing else "")
    return found


def regimes_basis(fleet: Fleet, regimes: Regimes) -> str:
    """What the regimes rest on."""
    known: Known = regimes.model_dump()
    _, counts = np.unique(regime_of(fleet.table, known), return_counts=True)
    return f"found in {len(fleet):,} rows; the rarest point has {counts.min():,} of them"


def as_entry(contract: Contract) -> dict[str, Any]:
    """The contract as its entry in policy/contract.yaml: nothing that is the default, the name not repeated."""
    value = contract.model_dump(mode="json", exclude={"asset", "accepted"})
    if not value["proposed"]:
        del value["proposed"]
    return value
