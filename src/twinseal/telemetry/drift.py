"""Drift: how far a fleet lies from the reference, and how far chance alone takes a fleet of so few units.

Each channel is compared within each regime of the reference: its population stability index and its mean. With many
channels, one of them goes beyond its bound by chance now and then, and more easily in a fleet of few units. So a bound
is widened where chance needs it: so far that of fleets without drift only the share `Drift.chance` is refused for any
of their channels. How far chance goes is measured on the fleet itself, by its units, because the rows of one unit are
not independent: each block of units keeps or flips the sign of its difference from the fleet (wild bootstrap,
Rademacher weights: Liu 1988; Cameron, Gelbach and Miller 2008). Each index and each shift is taken as a share
of what chance alone does with it, and the largest of all counts (maxT, Westfall and Young 1993), which respects that
channels move together; a steady channel keeps the contract's bounds beside a restless one. With many units all do.

Rules: a fleet whose units differ wildly widens its own bounds, so they never go beyond MOST_ALLOWANCE times the
contract's. A regime in which the fleet has no row is not compared here; the rule `coverage` refuses it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from twinseal.telemetry.blocks import units_by_regime
from twinseal.telemetry.conditions import Distribution
from twinseal.telemetry.contract import Contract, Drift
from twinseal.telemetry.fleet import Fleet
from twinseal.telemetry.reference import (
    ChannelReference,
    Reference,
    largest_difference,
    smallest_share,
    stability_index,
)
from twinseal.telemetry.scan import distributions

DRAWS = 1_999
MOST_ALLOWANCE = 4.0
Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Compared:
    """One channel of a fleet beside the reference, in one regime.

    Attributes:
        channel: Its name. known: The reference. got: The fleet, by block. smallest: The least share that a bin counts
        as. shrunk: How much more the difference of the two fleets varies than the fleet alone: √(1 + units / reference
        units).
        where: The regime in words; "" if there is one only.
        index_allowance, mean_allowance: By which factor the contract's bounds are widened; see `allow`.
    """

    channel: str
    known: ChannelReference
    got: Distribution
    smallest: float
    shrunk: float
    where: str = ""
    index_allowance: float = 1.0
    mean_allowance: float = 1.0

    @property
    def index(self) -> float:
        """The population stability index."""
        return stability_index(self.known.shares, self.shares, smallest=self.smallest)

    @property
    def mean(self) -> float:
        """Of the fleet; NaN without a value."""
        rows = int(self.got.rows.sum())
        return float(f"{self.got.total.sum() / rows:.9g}") if rows else float("nan")

    @property
    def shift(self) -> float:
        """Of the mean, in σ of the reference."""
        return abs(self.mean - self.known.mean) / self.known.spread

    @property
    def shares(self) -> tuple[float, ...]:
        """Of the rows in each bin; zeros without a value."""
        counts = self.got.bins.sum(axis=0)
        return tuple((counts / max(1, int(counts.sum()))).tolist())

    @property
    def difference(self) -> str:
        """The bin that differs most, in words."""
        return f"{self.where}{largest_difference(self.known.edges, self.known.shares, self.shares)}"


def compare(
    fleet: Fleet,
    contract: Contract,
    reference: Reference,
    count: Callable[..., dict[str, Distribution]] = distributions,
) -> tuple[Compared, ...]:
    """Every channel of a fleet beside the reference, in each regime of the reference in which the fleet has rows.

    Args:
        fleet: The telemetry.
        contract: Its contract.
        reference: What it is compared with.
        count: `scan.distributions`, or another engine's.
    """
    if not reference.regimes or not contract.regimes:
        got = count(fleet, contract, {name: known.edges for name, known in reference.channels.items()})
        units = (reference.units, len(fleet.units))
        return tuple(_beside(name, known, got[name], units) for name, known in reference.channels.items())
    points, visits = contract.regimes.points, units_by_regime(fleet, contract.regimes.model_dump(mode="json"))
    found: list[Compared] = []
    for regime in reference.regimes:
        k = points.index(regime.point)
        if visits[k]:
            got = count(fleet, contract, {name: known.edges for name, known in regime.channels.items()}, k)
            where, units = f"at {', '.join(f'{value:g}' for value in regime.point)}: ", (regime.units, int(visits[k]))
            found += [_beside(name, known, got[name], units, where) for name, known in regime.channels.items()]
    return tuple(found)


def _beside(name: str, known: ChannelReference, got: Distribution, units: tuple[int, int], where: str = "") -> Compared:
    return Compared(name, known, got, smallest_share(*units), float(np.sqrt(1 + units[1] / max(1, units[0]))), where)


@dataclass(frozen=True)
class ChannelDrift:
    """The regime in which a channel lies furthest from the reference.

    Attributes:
        by_shape: Where its index is largest.
        by_mean: Where its mean has shifted most.
    """

    by_shape: Compared
    by_mean: Compared


def worst(compared: Sequence[Compared]) -> dict[str, ChannelDrift]:
    """For each channel the regime in which it lies furthest away; a mean that is no number is the furthest."""
    by_channel: dict[str, list[Compared]] = {}
    for item in compared:
        by_channel.setdefault(item.channel, []).append(item)
    return {
        name: ChannelDrift(
            max(items, key=lambda item: item.index / item.index_allowance),
            max(items, key=lambda item: item.shift / item.mean_allowance if np.isfinite(item.shift) else np.inf),
        )
        for name, items in by_channel.items()
    }


def allow(compared: Sequence[Compared], drift: Drift) -> tuple[Compared, ...]:
    """The same, with the bounds widened where chance goes beyond them in a fleet of so few units.

    Args:
        compared: Every channel in every regime.
        drift: The contract's bounds.
    """
    blocks = len(compared[0].got.rows) if compared else 0
    if blocks < 2:
        return tuple(compared)
    signs = np.random.default_rng(blocks).choice(np.array([-1.0, 1.0]), (DRAWS, blocks))
    reached = np.array([item for found in compared for item in _by_chance(found, signs, drift)])  # (2 items, DRAWS)
    alone = np.quantile(reached, 1 - drift.chance, axis=1, method="higher")  # each as if there were no other
    alone[alone < 1e-9] = 0.0  # chance has no say in a constant channel
    scaled = reached / np.where(alone > 0, alone, np.inf)[:, None]
    largest = float(np.quantile(scaled.max(axis=0), 1 - drift.chance, method="higher"))
    index, mean = (largest * _student(blocks - 1) * alone).reshape(-1, 2).T
    widened = zip(compared, np.clip(index**2, 1, MOST_ALLOWANCE), np.clip(mean, 1, MOST_ALLOWANCE), strict=True)
    return tuple(
        replace(found, index_allowance=float(f"{by_shape:.3g}"), mean_allowance=float(f"{by_mean:.3g}"))
        for found, by_shape, by_mean in widened
    )


def _student(degrees: int) -> float:
    """How much further Student's t goes than a normal deviate of 3 (Abramowitz and Stegun 1964, 26.7.5).

    How far chance goes is known from few units only.
    """
    z = 3.0
    return 1 + (z**2 + 1) / (4 * degrees) + (5 * z**4 + 16 * z**2 + 3) / (96 * degrees**2)


def _by_chance(found: Compared, signs: Array, drift: Drift) -> tuple[Array, Array]:
    """What chance makes of the root of the index and of the shift, as multiples of their bounds, (draws,) each."""
    rows, total = found.got.rows.astype(np.float64), found.got.total
    if not rows.sum() or not np.isfinite(total).all():
        return np.zeros(len(signs)), np.zeros(len(signs))
    scale = found.shrunk * np.sqrt(len(rows) / (len(rows) - 1)) / rows.sum()
    away = found.got.bins - rows[:, None] * np.array(found.shares)  # (blocks, bins)
    p = np.maximum(found.known.shares, found.smallest)
    q = np.maximum(np.array(found.known.shares) + scale * signs @ away, found.smallest)  # (draws, bins)
    index = np.sum((q - p) * np.log(q / p), axis=1)
    shift = np.abs(scale * signs @ (total - rows * total.sum() / rows.sum())) / found.known.spread
    return np.sqrt(index / drift.max_psi), shift / drift.max_mean_shift_sigma
