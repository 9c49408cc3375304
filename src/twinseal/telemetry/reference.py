"""The reference: what an accepted fleet looked like, in numbers, so that a later fleet can be compared with it.

Every validation writes the reference of the fleet that it accepted to `data/accepted/reference.json`. Which reference a
fleet is compared with is policy: `policy/reference.yaml`, one for each kind of asset. To make the last accepted fleet
the new reference, the owners of the policy copy it there. An asset without a reference is not compared, and the
validation says so.

The population stability index over the reference's deciles is Σ (q - p) ln (q / p), where p and q are the shares of the
reference and of the fleet in each bin (Siddiqi, Credit Risk Scorecards, 2006, ch. 8). It is the symmetric
Kullback-Leibler divergence.

An empty bin would make it infinite, so the share of a bin counts as at least half a unit of the smaller fleet: the
half observation that is added to empty cells of a table (Haldane 1956; Gart & Zweifel 1967; Agresti, Categorical Data
Analysis, 2013, section 3.1). Units are counted, not rows, because the rows of one unit are not independent. With a
constant of 1/10,000 instead, one empty decile alone gives 0.69, whatever the number of units; with 24 units it gives
0.12, with 150 units 0.33. Bins that hold more than half a unit are not affected.

    >>> round(stability_index((0.5, 0.5), (0.6, 0.4), smallest=0.01), 4)
    0.0405
    >>> [round(stability_index((0.1, 0.9), (0.0, 1.0), smallest=smallest_share(150, n)), 2) for n in (24, 180)]
    [0.13, 0.34]
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from twinseal.config import Settings, parse, read_yaml
from twinseal.errors import ConfigError
from twinseal.telemetry.contract import Contract
from twinseal.telemetry.fleet import Fleet
from twinseal.telemetry.rules import changes

SMALLEST_SHARE = 1e-4  # of a bin, however many units there are

FEW_UNITS = 24
"""A fleet of fewer units can differ from its reference by chance alone.

`python -m bench.drift` measures it on random parts of 800 simulated pumps. The index or a mean refuses 9 % of the parts
with 8 units, 4 % with 12, 2 % with 18, 1 % with 24, and none of 2,000 with 36 or 60.
"""


class ChannelReference(Settings):
    """One channel of the reference fleet.

    Attributes:
        mean, sigma: Over all rows.
        minimum, maximum: Over all rows.
        max_change_per_cycle: The largest change from one cycle to the next.
        edges: Inner edges of the bins, rising; a value equal to an edge belongs to the bin below it.
        shares: Share of the rows in each bin; one more than edges.

    Raises:
        ValueError: The edges do not rise, or the shares do not fit them.
    """

    mean: float
    sigma: float
    minimum: float
    maximum: float
    max_change_per_cycle: float
    edges: tuple[float, ...]
    shares: tuple[float, ...]

    def model_post_init(self, _context: Any, /) -> None:
        """Refuse edges that do not rise, and shares that do not fit them."""
        rising = all(low < high for low, high in pairwise(self.edges))
        whole = len(self.shares) == len(self.edges) + 1 and min(self.shares) >= 0
        if not rising or not whole or not math.isclose(sum(self.shares), 1.0, abs_tol=1e-6):
            raise ValueError("expected rising edges, and shares between them that add up to 1")


class Reference(Settings):
    """The reference fleet of one kind of asset.

    Attributes:
        asset: The kind.
        units: How many units it had.
        rows: How many rows.
        channels: By name.
    """

    asset: str
    units: int
    rows: int
    channels: dict[str, ChannelReference]

    @classmethod
    def of(cls, fleet: Fleet, contract: Contract) -> Reference:
        """The reference of `fleet`. Rounded to nine digits: its bytes must not depend on the order of a sum."""
        channels = {name: _channel_reference(fleet, name) for name in contract.all_channels}
        return cls(asset=contract.asset, units=len(fleet.units), rows=len(fleet), channels=channels)

    @classmethod
    def load(cls, path: Path, contract: Contract) -> Reference | None:
        """The reference for the contract's asset in the policy file at `path`; None if there is none.

        Raises:
            ConfigError: The file does not hold references, or the reference has other channels than the contract.
        """
        value = read_yaml(path)
        if not isinstance(value, dict) or set(value) != {"assets"} or not isinstance(value["assets"], dict):
            raise ConfigError(f"{path}: expected one key 'assets', with a reference for each kind of asset")
        if contract.asset not in value["assets"]:
            return None
        reference = parse(cls, value["assets"][contract.asset], f"{path}: assets.{contract.asset}")
        if reference.asset != contract.asset or set(reference.channels) != set(contract.all_channels):
            raise ConfigError(
                f"{path}: assets.{contract.asset}: expected a reference with the channels of the contract, got others",
                remedy="The contract has changed: compare, and replace the reference by data/accepted/reference.json.",
            )
        return reference

    def spread(self, name: str) -> float:
        """The unit of shifts of a channel: its standard deviation; if it is constant, a thousandth of its value."""
        channel = self.channels[name]
        return max(channel.sigma, 1e-3 * abs(channel.mean), 1e-12)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON and YAML."""
        return self.model_dump(mode="json")


def smallest_share(*units: int) -> float:
    """The least share that a bin counts as, when fleets of so many units are compared."""
    return max(SMALLEST_SHARE, 0.5 / max(1, min(units)))


def stability_index(expected: Sequence[float], got: Sequence[float], *, smallest: float = SMALLEST_SHARE) -> float:
    """The population stability index between two sets of shares over the same bins.

    Args:
        expected: Share of each bin in the reference.
        got: Share of each bin in the fleet.
        smallest: The least share that a bin counts as; see `smallest_share`.
    """
    p, q = np.maximum(expected, smallest), np.maximum(got, smallest)
    return float(np.sum((q - p) * np.log(q / p)))


def largest_difference(edges: Sequence[float], expected: Sequence[float], got: Sequence[float]) -> str:
    """The bin whose share differs most, in words.

    >>> largest_difference((20.0, 30.0), (0.4, 0.5, 0.1), (0.5, 0.5, 0.0))
    'up to 20: 40 % of the reference, 50 % of this fleet'
    """
    if not edges:
        return "all values: 100 % of the reference"
    at = int(np.argmax(np.abs(np.subtract(got, expected)).round(9)))
    low, high = edges[max(0, at - 1)], edges[min(at, len(edges) - 1)]
    where = f"up to {high:g}" if at == 0 else f"above {low:g}" if at == len(edges) else f"{low:g} … {high:g}"
    return f"{where}: {100 * expected[at]:.0f} % of the reference, {100 * got[at]:.0f} % of this fleet"


def bin_shares(values: npt.NDArray[Any], edges: Sequence[float]) -> tuple[float, ...]:
    """The share of `values` (N,) in each bin, without NaN; all zero if there are no values."""
    known = values[~np.isnan(values)]
    counts = np.bincount(np.searchsorted(np.asarray(edges), known, side="left"), minlength=len(edges) + 1)
    return tuple(float(count) / max(1, len(known)) for count in counts)


def _channel_reference(fleet: Fleet, name: str) -> ChannelReference:
    values = fleet.table[name].to_numpy(dtype=np.float64)
    known = values[~np.isnan(values)]
    change = np.abs(changes(fleet.table, name))
    edges = sorted({_rounded(edge) for edge in np.quantile(known, np.arange(1, 10) / 10)})
    return ChannelReference(
        mean=_rounded(known.mean()),
        sigma=_rounded(known.std()),
        minimum=_rounded(known.min()),
        maximum=_rounded(known.max()),
        max_change_per_cycle=_rounded(np.nanmax(change, initial=0.0)),
        edges=tuple(edges),
        shares=tuple(map(_rounded, bin_shares(known, edges))),
    )


def _rounded(value: float) -> float:
    return float(f"{value:.9g}")
