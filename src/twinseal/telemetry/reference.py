"""The reference: what an accepted fleet looked like, in numbers, so that a later fleet can be compared with it.

Every validation writes the reference of the fleet that it accepted to `data/accepted/reference.json`. Which reference
a fleet is compared with is policy: `policy/reference.yaml`, one for each kind of asset. To make the last accepted
fleet the new reference, the owners of the policy copy it there. An asset without a reference is not compared, and the
validation says so. Of a refused fleet the numbers are in `data/quarantine/reference.json`, for those who set the
bounds; they say that it was refused, and cannot be a reference.

Where the contract names operating points, each has numbers of its own, and fleets are compared within each.

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
from twinseal.telemetry.blocks import blocks, units_by_regime
from twinseal.telemetry.contract import Contract
from twinseal.telemetry.fleet import Fleet
from twinseal.telemetry.unit_rows import Known, previous, regimes_of

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
        max_change_per_cycle: The largest change from one cycle to the next, within a regime.
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

    @property
    def spread(self) -> float:
        """The unit of shifts: the standard deviation; of a constant channel, a thousandth of its value."""
        return max(self.sigma, 1e-3 * abs(self.mean), 1e-12)


class RegimeReference(Settings):
    """The rows of the reference fleet at one operating point.

    Attributes:
        point: The operating point, as in the contract.
        units: How many units were there.
        rows: How many rows.
        channels: By name.
    """

    point: tuple[float, ...]
    units: int
    rows: int
    channels: dict[str, ChannelReference]


class Reference(Settings):
    """The reference fleet of one kind of asset.

    Attributes:
        asset: The kind.
        units: How many units it had.
        rows: How many rows.
        channels: By name; without those that had no value.
        regimes: The operating points at which the fleet was; none if the contract names none.
        refused: Whether the fleet was refused: then it is no reference.
    """

    asset: str
    units: int
    rows: int
    channels: dict[str, ChannelReference]
    regimes: tuple[RegimeReference, ...] = ()
    refused: bool = False

    @classmethod
    def of(cls, fleet: Fleet, contract: Contract, *, refused: bool = False) -> Reference:
        """The reference of `fleet`. Rounded to nine digits: its bytes must not depend on the order of a sum."""
        known = contract.regimes.model_dump(mode="json") if contract.regimes else None
        regime = np.concatenate(
            [np.zeros(0, np.int64), *(regimes_of(part.rows(fleet), known) for part in blocks(fleet))]
        )
        visits = units_by_regime(fleet, known) if known else np.zeros(0, np.int64)
        names = list(contract.all_channels)
        within = tuple(
            RegimeReference(
                point=tuple(known["points"][k]),
                units=int(visits[k]),
                rows=int((regime == k).sum()),
                channels=_channels(fleet, names, known, regime == k),
            )
            for k in np.flatnonzero(visits)
            if known
        )
        channels = _channels(fleet, names, known, None)
        return cls(
            asset=contract.asset,
            units=len(fleet.units),
            rows=len(fleet),
            channels=channels,
            regimes=within,
            refused=refused,
        )

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
        points = contract.regimes.points if contract.regimes else ()
        if reference.refused or not {regime.point for regime in reference.regimes} <= set(points):
            got = "one of a refused fleet" if reference.refused else "others"
            raise ConfigError(
                f"{path}: assets.{contract.asset}: expected an accepted fleet, at the contract's operating points, "
                f"got {got}",
                remedy="Replace the reference by data/accepted/reference.json of a run that accepts its fleet.",
            )
        return reference

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON and YAML; without `regimes` and `refused` where they say nothing."""
        return {key: value for key, value in self.model_dump(mode="json").items() if value not in ([], False)}


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


def bin_shares(ordered: npt.NDArray[Any], edges: Sequence[float]) -> tuple[float, ...]:
    """The share of rising values (N,) in each bin; all zero if there are none."""
    below = np.searchsorted(ordered, np.asarray(edges, dtype=np.float64), side="right")
    counts = np.diff(np.concatenate([[0], below, [len(ordered)]]))
    return tuple(float(count) / max(1, len(ordered)) for count in counts)


def _channels(
    fleet: Fleet, names: Sequence[str], known: Known | None, chosen: npt.NDArray[np.bool_] | None
) -> dict[str, ChannelReference]:
    """The channels that have a value in the chosen rows (R,); None: all."""
    changes = _largest_changes(fleet, names, known, chosen)
    found = {}
    for name in names:
        values = fleet.table[name].to_numpy()
        ordered = np.sort(values[np.isfinite(values) if chosen is None else np.isfinite(values) & chosen])
        if len(ordered):
            found[name] = _channel_reference(ordered, changes[name])
    return found


def _largest_changes(
    fleet: Fleet, names: Sequence[str], known: Known | None, chosen: npt.NDArray[np.bool_] | None
) -> dict[str, float]:
    """The largest finite change per cycle of each channel within a regime, among the chosen rows."""
    largest = dict.fromkeys(names, 0.0)
    for part in blocks(fleet):
        table = part.rows(fleet)
        before, gap = previous(table, regimes_of(table, known))
        mine = slice(None) if chosen is None else chosen[part.start : part.stop]
        for name in names:
            values = table[name].to_numpy(dtype=np.float64)
            with np.errstate(invalid="ignore"):
                change = (np.abs(values - values[before]) / gap)[mine]
            largest[name] = max(largest[name], float(np.max(change, initial=0.0, where=np.isfinite(change))))
    return largest


def _channel_reference(ordered: npt.NDArray[np.float32], change: float) -> ChannelReference:
    edges = sorted({_rounded(edge) for edge in _deciles(ordered)})
    return ChannelReference(
        mean=_rounded(ordered.mean(dtype=np.float64)),
        sigma=_rounded(ordered.std(dtype=np.float64)),
        minimum=_rounded(ordered[0]),
        maximum=_rounded(ordered[-1]),
        max_change_per_cycle=_rounded(change),
        edges=tuple(edges),
        shares=tuple(map(_rounded, bin_shares(ordered, edges))),
    )


def _deciles(ordered: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Between two values where a decile falls between them, as numpy's `quantile`."""
    at = (len(ordered) - 1) * np.arange(1, 10) / 10
    low = np.floor(at).astype(np.intp)
    below, above = (ordered[np.minimum(place, len(ordered) - 1)].astype(np.float64) for place in (low, low + 1))
    return np.asarray(below + (above - below) * (at - low))


def _rounded(value: float) -> float:
    return float(f"{value:.9g}")
