"""The contract that is proposed for a fleet: its bounds, the margins, and what each number rests on.

    minimum, maximum        the range that the units showed over whole lives, widened on each side by MARGIN_RANGE of
                            the largest range at one operating point, and by a step of the recorded digits at least; a
                            channel that never moved there: by a thousandth of its value. Not below 0 where no reading
                            was, but for °C and °F: a share or a concentration has none. A setting that defines
                            operating points: as far as these reach, at least. Words: their numbers, and no more
    max_change_per_cycle    the largest change from one cycle to the next, within one regime, × MARGIN_CHANGE; never
                            finer than a step of the recorded digits
    resolution              the greatest step of which all readings are multiples, if they show one; there is no margin
                            but that of the rule, a hundredth of a step. Means of rows have none
    missing_share           0 where nothing was missing; else the largest share of a unit × MARGIN_CHANGE
    consistency             the statistic of `telemetry.rules`, × MARGIN_SIGMA; not below LEAST_WINDOW and LEAST_UNIT,
                            which good fleets of pumps and engines have needed
    rul_cap_cycles          CAP_OF_LIFE of the median life: what 125 cycles (Heimes 2008) are to the lives of FD001
    min_cycles              MARGIN_LENGTH of the shortest history

All are rounded outward. The units that are far from the others (`measured`) set none of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from twinseal.assets.channel_bounds import Counted, channel_basis, channel_bounds
from twinseal.assets.measured import Array, Extremes, Known, Odd, extremes, level, odd_units, regime_of, sigma_within
from twinseal.assets.plans import UNBOUNDED, About, ChannelPlan
from twinseal.errors import DataError
from twinseal.telemetry.contract import Channel, Consistency, Contract, Regimes
from twinseal.telemetry.fleet import Fleet
from twinseal.telemetry.regimes import find_points
from twinseal.telemetry.screening import row_rules

MOST_SHOWN = 5  # channels, in a message
MARGIN_SIGMA, MARGIN_LENGTH = 1.5, 0.9
LEAST_WINDOW, LEAST_UNIT = 12.0, 10.0
CAP_OF_LIFE = 0.63
LEAST_TREND, LEAST_CORRELATION = 0.1, 0.1
AS_THERE = "the asset that this one is like does not use it"
LEAST_TOLD = 0.05  # of the variance of some sensor at a point, by a setting that divides the point


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


def propose_contract(fleet: Fleet, plans: Sequence[ChannelPlan], about: About) -> Proposed:
    """The contract for a fleet.

    Args:
        fleet: Its telemetry, read.
        plans: Its channels, each with a value somewhere.
        about: What the data do not say.

    Raises:
        DataError: No channel is left that a model can read.
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
    basis = _basis(fleet, plans, contract, seen, counted, averaged=about.averaged) | said
    return Proposed(contract, seen, basis, reasons, found)


def _regimes(fleet: Fleet, plans: Sequence[ChannelPlan]) -> Regimes | None:
    settings = [plan.name for plan in plans if plan.kind == "setting"]
    sensors = [plan.name for plan in plans if plan.kind == "sensor"]
    if not settings or not sensors:
        return None
    complete = [name for name in settings if not fleet.table[name].isna().any()]
    if not complete:
        return None
    found = _points(fleet, complete, sensors)
    if found is None:
        return None
    for name in tuple(name for name in found.settings if _splits(found, name)):
        less = _points(fleet, [other for other in complete if other != name], sensors)
        if less is not None and not _tells_more(fleet, found, less, sensors):
            complete = [other for other in complete if other != name]
            found = less
    return found


def _points(fleet: Fleet, settings: Sequence[str], sensors: Sequence[str]) -> Regimes | None:
    if not settings:
        return None
    found = find_points(fleet.table[[*settings]].to_numpy(), fleet.table[[*sensors]].to_numpy())
    if found is None:
        return None
    return Regimes(settings=tuple(settings[at] for at in found.columns), within=found.within, points=found.points)


def _splits(regimes: Regimes, name: str) -> bool:
    """Whether there are fewer points without this setting."""
    at = regimes.settings.index(name)
    return len({point[:at] + point[at + 1 :] for point in regimes.points}) < len(regimes.points)


def _tells_more(fleet: Fleet, regimes: Regimes, less: Regimes, sensors: Sequence[str]) -> bool:
    """Whether some sensor varies less at these points than at fewer of them: by LEAST_TOLD, and more than by chance."""
    chance = 3 * (len(regimes.points) - len(less.points)) / len(fleet)
    for name in sensors:
        values = fleet.table[name].to_numpy(np.float64)
        here, before = (sigma_within(fleet.table, values, known.model_dump()) for known in (regimes, less))
        if before > 0 and 1 - (here / before) ** 2 > max(LEAST_TOLD, chance):
            return True
    return False


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
    if all(plan.name in reasons for plan in plans):
        shown = "; ".join(f"{name}: {why}" for name, why in list(reasons.items())[:MOST_SHOWN])
        raise DataError(
            f"expected a channel that a model can read, got none: {shown}",
            remedy="Bring channels that move while the machine wears, or whole histories of more machines.",
        )
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
        mine = _what_counts(fleet, plan.name, regimes, counted, averaged=about.averaged)
        channels[plan.kind][plan.name] = channel_bounds(plan, seen[plan.name], mine, is_used=used[plan.name])
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


def _what_counts(
    fleet: Fleet, name: str, regimes: Regimes | None, counted: npt.NDArray[np.bool_], *, averaged: bool
) -> Counted:
    """What sets the bounds of a channel."""
    rows = np.repeat(counted & (not averaged), fleet.lengths)
    reach = None
    if regimes is not None and name in regimes.settings:
        at = regimes.settings.index(name)
        places = [point[at] for point in regimes.points]
        reach = (min(places) - regimes.within[at], max(places) + regimes.within[at])
    return Counted(counted, fleet.table[name].to_numpy()[rows], reach)


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
    fleet: Fleet,
    plans: Sequence[ChannelPlan],
    contract: Contract,
    seen: Mapping[str, Extremes],
    counted: npt.NDArray[np.bool_],
    *,
    averaged: bool,
) -> dict[str, str]:
    shortest, median = int(fleet.lengths[counted].min()), float(np.median(_lives(fleet, counted)))
    found = {
        "rul_cap_cycles": f"{CAP_OF_LIFE} of the median life, {median:g} cycles: early wear does not show",
        "min_cycles": f"{MARGIN_LENGTH} of the shortest history, {shortest} cycles",
        "max_quarantined_share": "as for every asset: more bad units mean a bad source, or an attack",
        "drift": "as for every asset; compared once policy/reference.yaml has a reference",
    }
    for plan in plans:
        mine = _what_counts(fleet, plan.name, contract.regimes, counted, averaged=averaged)
        found[plan.name] = channel_basis(plan, contract.all_channels[plan.name], seen[plan.name], mine)
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
