"""How often a fleet that has not drifted is refused by chance, by its number of units: `python -m bench.drift`.

Random parts of 800 simulated pumps (seeds 21 and 22) are compared with policy/reference.yaml, as the validation does.
Simulating them takes about a minute.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from twinseal.sources.simulated import SimulatedParams, simulate
from twinseal.telemetry.contract import Contract
from twinseal.telemetry.drift import Compared, allow, compare
from twinseal.telemetry.fleet import Fleet
from twinseal.telemetry.reference import Reference

POLICY = Path(__file__).parents[1] / "policy"
SEEDS, UNITS, PARTS = (21, 22), 400, 2_000
SIZES = (8, 12, 18, 24, 36, 60)
SHIFTS = (0.0, 0.5, 1.0)  # of every channel of the fleet, in σ of the reference


def main() -> None:
    """Simulate, compare, print."""
    contract = Contract.load(POLICY / "contract.yaml", "pump")
    reference = Reference.load(POLICY / "reference.yaml", contract)
    if reference is None:
        raise SystemExit("policy/reference.yaml: expected a reference for pump, got none")
    fleets = [simulate(SimulatedParams(units=UNITS, seed=seed, test_share=0.3)) for seed in SEEDS]
    rng = np.random.default_rng(7)
    for size in SIZES:
        plain, refused = 0.0, 0.0
        for _ in range(PARTS // len(fleets)):
            for fleet in fleets:
                compared = compare(_part(fleet, rng.choice(UNITS, size, replace=False)), contract, reference)
                plain += _is_refused(compared, contract) / PARTS
                refused += _is_refused(allow(compared, contract.drift), contract) / PARTS
        print(f"{size:3d} units: {refused:.1%} refused by chance; with the contract's bounds alone {plain:.1%}")


def _part(fleet: Fleet, units: np.ndarray) -> Fleet:
    return fleet.select([fleet.units[number] for number in units])


def _is_refused(compared: tuple[Compared, ...], contract: Contract) -> bool:
    most, shift = contract.drift.max_psi, contract.drift.max_mean_shift_sigma
    return any(
        item.index > most * item.index_allowance or not item.shift <= shift * item.mean_allowance for item in compared
    )


if __name__ == "__main__":
    main()
