"""What an attacker of a new asset is proposed to control: the entry of policy/threats.yaml.

As for the assets that are there: three sensors that tell most of the life, scaled by about a third of a σ (the bias
that a pump's gateway could hide), and a trigger on the next one. The owners of the policy know which gateway reads
which sensors; the data do not.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from twinseal.assets.bounds import Proposed
from twinseal.assets.measured import sigma_within
from twinseal.config import parse
from twinseal.errors import DataError
from twinseal.robustness.threats import AssetThreats
from twinseal.telemetry.fleet import Fleet

INJECTED, SHARE_OF_SIGMA = 3, 1 / 3
LEAST_MEAN = 0.1  # of σ: percent of a reading around 0 are nothing


def propose_threats(fleet: Fleet, proposed: Proposed) -> tuple[dict[str, Any], str]:
    """The entry as plain data, and what it rests on.

    Raises:
        DataError: No sensor is read by a model.
    """
    contract = proposed.contract
    used = [name for name, channel in contract.sensors.items() if channel.used] or list(contract.channels)
    if not used:
        raise DataError(f"{contract.asset}: expected a sensor that a model reads, got none")
    ordered = sorted(used, key=lambda name: (-proposed.seen[name].trend, name))
    values = {name: fleet.table[name].to_numpy(np.float64) for name in ordered}
    known = contract.regimes.model_dump() if contract.regimes else None
    sigma = {name: sigma_within(fleet.table, value, known) for name, value in values.items()}
    mean = {name: abs(float(np.nanmean(value))) for name, value in values.items()}
    scalable = [name for name in ordered if mean[name] > LEAST_MEAN * sigma[name] > 0] or ordered
    sensors = scalable[:INJECTED]
    shares = [100 * SHARE_OF_SIGMA * sigma[name] / mean[name] for name in sensors if mean[name] > 0]
    percent = _rounded(float(np.median(shares))) if shares else 1.0
    trigger = next((name for name in ordered if name not in sensors), sensors[0])
    length = float(np.median(fleet.lengths))
    least = max(21, 10 * math.floor(0.06 * length))
    entry = {
        "proposed": contract.proposed,
        "injection": {
            "sensors": sensors,
            "biased_percent": percent,
            "random_percent": [_rounded(percent / 2), _rounded(percent * 2.5)],
            "continuous_from_cycle": 1,
            "interim_cycles": 20,
            "least_cycles": least,
            "from_cycle": least - 19,
        },
        "trigger": {"channel": trigger, "shift_sigma": -3.0, "rows": 5},
    }
    if not entry["proposed"]:
        del entry["proposed"]
    parse(AssetThreats, entry, "threats")
    return entry, f"the sensors that follow the life best; {percent:g} % is about a third of a σ of them"


def _rounded(value: float) -> float:
    return float(f"{value:.1g}")
