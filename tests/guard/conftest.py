from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from twinseal.guard.calibration import History, fit
from twinseal.guard.guard import Guard
from twinseal.guard.parameters import GuardParams
from twinseal.telemetry.contract import Contract

Doubles = NDArray[np.float64]

NAMES = tuple("abcdefghij")
LOADS = np.array([1.0, -1.0, 0.9, 0.8, -0.9, 1.1, -0.7, 1.0, 0.6, -0.8])  # what a life of wear does to each channel


def contract_of(names: tuple[str, ...] = NAMES, change: float = 1_000.0) -> Contract:
    """Channels whose unit is the σ, around 0."""
    bounds = {"unit": "K", "minimum": -100.0, "maximum": 100.0, "max_change_per_cycle": change}
    return Contract.from_dict(
        {
            "asset": "press",
            "model": "press-rul",
            "description": "A machine that wears",
            "cycle": "One stroke",
            "rul_cap_cycles": 125.0,
            "min_cycles": 30,
            "max_quarantined_share": 0.05,
            "settings": {},
            "sensors": dict.fromkeys(names, bounds),
        }
    )


def as_given(rows: Doubles, _regimes: NDArray[np.int64]) -> Doubles:
    return rows


def life(seed: int) -> Doubles:
    """One machine, (R, C) σ: every channel follows the wear, which accelerates, and has noise of its own."""
    rng = np.random.default_rng([90, seed])
    length = int(rng.integers(140, 200))
    wear = 3.0 * (np.arange(1, length + 1) / length) ** 2 - 1.0  # a mean of 0 over the life
    return wear[:, None] * LOADS + rng.normal(0.0, 0.3, (length, len(LOADS))) + rng.normal(0.0, 0.05, len(LOADS))


def histories(seeds: range) -> list[History]:
    return [(rows, np.zeros(len(rows), dtype=np.int64)) for rows in map(life, seeds)]


@pytest.fixture(scope="session")
def contract() -> Contract:
    return contract_of()


@pytest.fixture(scope="session")
def params(contract: Contract) -> GuardParams:
    return fit(histories(range(30)), histories(range(30, 50)), contract, as_given)


class GuardOutcome:
    """What a guard made of one history, row by row."""

    def __init__(self, guard: Guard, rows: Doubles) -> None:
        decisions = [guard.decide(np.array([cycle]), row[None], row[None]) for cycle, row in enumerate(rows, 1)]
        self.flagged = np.stack([decision.flagged[0] for decision in decisions])  # (R, C)
        self.rules = np.stack([decision.rules[0] for decision in decisions])
        self.refusals = [decision.refusals[0] for decision in decisions]
        self.rewritten_rows = np.stack([decision.rewritten_rows[0] for decision in decisions])
        self.known = guard.window(len(rows))[0]  # (R, C)

    @property
    def silent(self) -> NDArray[np.bool_]:
        """(R,), where it abstained."""
        return np.array([refusal != "" for refusal in self.refusals])


def watch(params: GuardParams, rows: Doubles, contract: Contract | None = None) -> GuardOutcome:
    return GuardOutcome(Guard(params, contract or contract_of(), window=len(rows)), rows)


def untrained_params(channels: int, **changes: object) -> GuardParams:
    """A guard that has learned nothing: it knows the contract's rules and no more."""
    values = {
        "precision": tuple(map(tuple, np.eye(channels).tolist())),
        "spans": (1,),
        "thresholds": ((1e6,) * channels,),
        "wear": (0.0,) * channels,
        "falls": (1e6,),
        "stuck_cycles": (1_000,) * channels,
        "false_alarm_share": 0.01,
        "measured_false_alarm_share": 0.0,
        "widen": 1.25,
    }
    return GuardParams(**(values | changes))
