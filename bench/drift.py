"""How often a fleet that has not drifted is refused by chance, by its number of units: `python -m bench.drift`.

Random parts of 800 simulated pumps (seeds 21 and 22) are compared with policy/reference.yaml, as the validation does.
Simulating them takes about a minute.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from twinseal.sources.simulated import SimulatedParams, simulate
from twinseal.telemetry.contract import Contract
from twinseal.telemetry.fleet import Fleet
from twinseal.telemetry.reference import ChannelReference, Reference, smallest_share, stability_index

POLICY = Path(__file__).parents[1] / "policy"
SEEDS, UNITS, PARTS = (21, 22), 400, 2_000
SIZES = (8, 12, 18, 24, 36, 60)
Doubles = NDArray[np.float64]


def main() -> None:
    """Simulate, compare, print."""
    contract = Contract.load(POLICY / "contract.yaml", "pump")
    reference = Reference.load(POLICY / "reference.yaml", contract)
    if reference is None:
        raise SystemExit("policy/reference.yaml: expected a reference for pump, got none")
    fleets = [simulate(SimulatedParams(units=UNITS, seed=seed, test_share=0.3)) for seed in SEEDS]
    sums = {
        name: np.concatenate([_sums(fleet, name, known) for fleet in fleets]) for name, known in _channels(reference)
    }
    rng = np.random.default_rng(7)
    for size in SIZES:
        parts = (rng.choice(len(SEEDS) * UNITS, size, replace=False) for _ in range(PARTS))
        share = np.mean([_refused(sums, part, reference, contract) for part in parts])
        print(f"{size:3d} units: {share:.1%} refused by chance")


def _channels(reference: Reference) -> list[tuple[str, ChannelReference]]:
    return list(reference.channels.items())


def _sums(fleet: Fleet, name: str, known: ChannelReference) -> Doubles:
    """For each unit its rows in each bin, and the sum of its values, (units, bins + 1)."""
    values = fleet.table[name].to_numpy(dtype=np.float64)
    counts = np.zeros((len(fleet.units), len(known.shares) + 1))
    units = np.repeat(np.arange(len(fleet.units)), fleet.lengths)
    np.add.at(counts, (units, np.searchsorted(np.array(known.edges), values, side="left")), 1)
    counts[:, -1] += np.bincount(units, values, len(fleet.units))
    return counts


def _refused(sums: Mapping[str, Doubles], part: NDArray[np.int64], reference: Reference, contract: Contract) -> bool:
    smallest = smallest_share(reference.units, len(part))
    for name, known in _channels(reference):
        *counts, total = sums[name][part].sum(axis=0)
        shares = np.array(counts) / np.sum(counts)
        shift = abs(total / np.sum(counts) - known.mean) / reference.spread(name)
        index = stability_index(known.shares, shares.tolist(), smallest=smallest)
        if index > contract.drift.max_psi or shift > contract.drift.max_mean_shift_sigma:
            return True
    return False


if __name__ == "__main__":
    main()
