"""The reference: what an accepted fleet looked like, in numbers, so that a later one can be compared with it.

Every validation writes the reference of the fleet that it accepted to `data/accepted/reference.json`. Which one a fleet
is compared with is policy, not habit: `policy/reference.yaml`, one for each kind of asset. To make the last accepted
fleet the new reference, its owners copy it there. An asset without one is not compared, and validation says so.

The population stability index over the reference's deciles is Σ (q - p) ln (q / p), p and q the shares of the reference
and of the fleet in each bin (Siddiqi, Credit Risk Scorecards, 2006, ch. 8); it is the symmetric Kullback-Leibler
divergence, and no bin counts as emptier than 1/10,000.

    >>> round(stability((0.5, 0.5), (0.6, 0.4)), 4)
    0.0405
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
from twinseal.telemetry.rules import steps

_EMPTY = 1e-4


class ChannelReference(Settings):
    """One channel of the reference fleet.

    Attributes:
        mean, sigma: Over all rows.
        minimum, maximum: Over all rows.
        max_change_per_cycle: The largest change from one cycle to the next.
        edges: Inner edges of the bins, rising; a value equal to an edge belongs below it.
        shares: Share of the rows in each bin; one more than edges.

    Raises:
        ValueError: The bins are none.
    """

    mean: float
    sigma: float
    minimum: float
    maximum: float
    max_change_per_cycle: float
    edges: tuple[float, ...]
    shares: tuple[float, ...]

    def model_post_init(self, _context: Any, /) -> None:
        """Refuse bins that are none."""
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
        """What `fleet` looks like. Rounded to nine digits: its bytes must not depend on the order of a sum."""
        channels = {name: _describe(fleet, name) for name in contract.all_channels}
        return cls(asset=contract.asset, units=len(fleet.units), rows=len(fleet), channels=channels)

    @classmethod
    def load(cls, path: Path, contract: Contract) -> Reference | None:
        """The reference for the contract's asset in the policy file at `path`; None when it has none.

        Raises:
            ConfigError: The file is not one of references, or the reference lacks a channel of the contract.
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
                remedy="The contract changed since: compare, and replace it by data/accepted/reference.json.",
            )
        return reference

    def spread(self, name: str) -> float:
        """Standard deviation of a channel, to count shifts in; of one that never moved, a hair of its value."""
        channel = self.channels[name]
        return max(channel.sigma, 1e-3 * abs(channel.mean), 1e-12)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON and YAML."""
        return self.model_dump(mode="json")


def stability(expected: Sequence[float], got: Sequence[float]) -> float:
    """The population stability index between two sets of shares over the same bins."""
    p, q = np.maximum(expected, _EMPTY), np.maximum(got, _EMPTY)
    return float(np.sum((q - p) * np.log(q / p)))


def shares(values: npt.NDArray[Any], edges: Sequence[float]) -> tuple[float, ...]:
    """Share of `values` (N,) in each bin; NaN counts as no value. All zero when there is none."""
    known = values[~np.isnan(values)]
    counts = np.bincount(np.searchsorted(np.asarray(edges), known, side="left"), minlength=len(edges) + 1)
    return tuple(float(count) / max(1, len(known)) for count in counts)


def _describe(fleet: Fleet, name: str) -> ChannelReference:
    values = fleet.table[name].to_numpy(dtype=np.float64)
    known = values[~np.isnan(values)]
    change = np.abs(steps(fleet.table, name))
    edges = sorted({_short(edge) for edge in np.quantile(known, np.arange(1, 10) / 10)})
    return ChannelReference(
        mean=_short(known.mean()),
        sigma=_short(known.std()),
        minimum=_short(known.min()),
        maximum=_short(known.max()),
        max_change_per_cycle=_short(np.nanmax(change, initial=0.0)),
        edges=tuple(edges),
        shares=tuple(map(_short, shares(known, edges))),
    )


def _short(value: float) -> float:
    return float(f"{value:.9g}")
