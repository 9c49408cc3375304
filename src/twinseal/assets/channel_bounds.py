"""The bounds that are proposed for one channel, and what they rest on; `bounds` has the rules in one table.

>>> greatest_step(np.arange(20, dtype=np.float32) / np.float32(8)), greatest_step(np.arange(20) * 0.05)
(0.125, 0.05)
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from twinseal.assets.measured import Extremes, as_recorded
from twinseal.assets.plans import ChannelPlan
from twinseal.telemetry.contract import Channel
from twinseal.telemetry.rules import FLOAT32

MARGIN_RANGE, MARGIN_CHANGE = 0.1, 1.25
LEAST_VALUES = 10  # different ones that show a step: of so many, all would be even by chance in one of 1,000 channels
BY_CHANCE = 1e-6  # that all values are near multiples of a step which is none


@dataclass(frozen=True)
class Counted:
    """What sets the bounds of one channel.

    Attributes:
        units: Which units do, (U,) bool.
        values: Of the channel in the rows of these units, (N,); none where the digits of a row say nothing.
        reach: How far the operating points of a setting that defines them reach; None for another channel.
    """

    units: npt.NDArray[np.bool_]
    values: npt.NDArray[np.floating[Any]]
    reach: tuple[float, float] | None = None


def channel_bounds(plan: ChannelPlan, seen: Extremes, counted: Counted, *, is_used: bool) -> Channel:
    """The channel with its bounds."""
    missing = float(seen.missing[counted.units].max())
    share = min(0.9, outward(MARGIN_CHANGE * missing, 0.01, 1)) if missing and counted.reach is None else 0.0
    if plan.words:
        minimum, maximum, most = 0.0, float(len(plan.words) - 1), float(len(plan.words) - 1)
        step = 1.0 if len(counted.values) else 0.0
    else:
        minimum, maximum, most = _numbers(plan.unit, seen, counted)
        step = greatest_step(counted.values)
    return Channel(
        unit=plan.unit,
        minimum=minimum,
        maximum=maximum,
        max_change_per_cycle=most,
        missing_share=share,
        resolution=step,
        used=is_used,
        description=plan.description,
    )


def _numbers(unit: str, seen: Extremes, counted: Counted) -> tuple[float, float, float]:
    """The minimum, the maximum and the largest change."""
    low, high = _seen_range(seen, counted)
    change, wider = float(seen.change[counted.units].max()), margin(seen, counted)
    span = seen.span(counted.units)
    grain = grain_of(span, 2) if span else grain_of(wider, 1)
    smallest = max(MARGIN_CHANGE * change, seen.step if change or low != high else wider)
    minimum, maximum = outward(low - wider, grain, -1), outward(high + wider, grain, 1)
    if counted.reach is not None:
        minimum, maximum = min(minimum, counted.reach[0]), max(maximum, counted.reach[1])
    if minimum < 0 <= low and low != high and has_zero(unit):
        minimum = 0.0
    return minimum, maximum, outward(smallest, grain_of(smallest, 1), 1)


def margin(seen: Extremes, counted: Counted) -> float:
    """How far a range is widened on each side: by a share of the largest range at one operating point."""
    span, (_, high) = seen.span(counted.units), _seen_range(seen, counted)
    return max(MARGIN_RANGE * span if span else abs(high) / 1000, seen.step)


def channel_basis(plan: ChannelPlan, channel: Channel, seen: Extremes, counted: Counted) -> str:
    """What the numbers of a channel rest on."""
    low, high = _seen_range(seen, counted)
    missing = float(seen.missing[counted.units].max())
    often = f", missing up to {missing:.1%} of a unit" if missing else ""
    if plan.words:
        return ", ".join(f"{at} {word}" for at, word in enumerate(plan.words)) + often
    words = f"seen {low:.6g} to {high:.6g}"
    if len(seen.lows) > 1:
        words += f", at one operating point over {seen.span(counted.units):.3g} at most"
    words += f", change {seen.change[counted.units].max():.3g}"
    if channel.resolution:
        count = len(np.unique(counted.values[np.isfinite(counted.values)]))
        words += f", {count:,} values, all in steps of {channel.resolution:g}"
    elif len(counted.values):
        words += f", recorded to {seen.step:.3g}"
    words += f", never below 0 {channel.unit}" if channel.minimum == 0 <= low and low != high else ""
    return words + often


def greatest_step(values: npt.NDArray[np.floating[Any]]) -> float:
    """The greatest step, 1, 2 or 5 × 10^k or 1/2^k, of which all values (N,) are multiples but for float32's rounding.

    0 if there is none that the values show: they must be LEAST_VALUES different ones, and float32 so fine beside the
    step that values which are on no step would not be on this one by chance.
    """
    known = np.unique(values[np.isfinite(values)].astype(np.float64))
    if len(known) < LEAST_VALUES:
        return 0.0
    rounding = FLOAT32 * np.abs(known)
    for step in _steps(float(known[-1] - known[0]) / (len(known) - 1)):
        share = (
            4 * float(rounding.max()) / step
        )  # of all numbers, how many are as near to a multiple; float32 is one too
        if share >= 1 or len(known) * math.log(max(share, 1e-300)) > math.log(BY_CHANCE):
            return 0.0
        if (np.abs(known - np.round(known / step) * step) <= rounding).all():
            return step
    return 0.0


def _steps(most: float) -> list[float]:
    """Steps of at most `most`, the greatest first."""
    if not 0 < most < math.inf:
        return []
    top = math.floor(math.log10(most))
    tens = [float(f"{digit}e{k}") for k in range(top - 12, top + 1) for digit in (1, 2, 5)]
    halves = [0.5**k for k in range(1, 40)]
    return sorted({step for step in (*tens, *halves) if step <= most * (1 + 1e-6)}, reverse=True)


def _seen_range(seen: Extremes, counted: Counted) -> tuple[float, float]:
    low, high = np.nanmin(seen.low[counted.units]), np.nanmax(seen.high[counted.units])
    return as_recorded(low), as_recorded(high)


def has_zero(unit: str) -> bool:
    """Whether 0 is the least that a unit of measure has: a share, a concentration, a pressure, a speed.

    No scale of temperature, and no unit that nobody named: its numbers may be of anything.
    """
    return (
        unit != "1" and re.fullmatch(r"(?:°|º|deg\.?\s*)?[CF]|℃|℉|(degree\s?)?(celsius|fahrenheit)", unit, re.I) is None
    )


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


def grain_of(size: float, digits: int) -> float:
    """The power of ten that is `digits` places below the first digit of `size`."""
    return float(10.0 ** (math.floor(math.log10(size)) - digits)) if size > 0 else 1e-6
