"""What a network says about windows, and between what an attacker can push it: the numbers that evidence reports.

Estimates are measured as the network gives them, neither floored nor capped; what the twin shows (`Model.predict`) is
clipped to [0, cap], which holds every true value, so it errs no more than what is measured here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from twinseal.prognostics.ensemble import Ensemble, Networks
from twinseal.prognostics.metrics import FAILING_CYCLES, measure, missed_failure_share, rmse_cycles
from twinseal.prognostics.network import RulNetwork
from twinseal.prognostics.normaliser import F32
from twinseal.prognostics.windows import Prepared, Windows

_BATCH = 2_000
CERTIFIED_SIGMA = (0.05, 0.1, 0.25)
BAND_SIGMA = 0.1


def estimates(network: RulNetwork | Ensemble, windows: Windows) -> F32:
    """The estimate of each window, (N,) float32 in cycles."""
    context = torch.from_numpy(windows.context())
    with torch.inference_mode():
        parts = [network(torch.from_numpy(windows.batch(part)), context[part]).numpy() for part in _parts(windows)]
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.float32)


def bounds(
    network: RulNetwork | Ensemble, windows: Windows, epsilon_sigma: float, baseline_epsilon_sigma: float = 0.0
) -> tuple[F32, F32]:
    """Lowest and highest estimate of each window under any change of up to ε σ, (N,) float32 in cycles each.

    Args:
        network: One, or an ensemble.
        windows: Where.
        epsilon_sigma: Of every reading.
        baseline_epsilon_sigma: Of every channel of the trusted baseline, should it not deserve the name.
    """
    context, empty = torch.from_numpy(windows.context()), [np.zeros(0, dtype=np.float32)]
    with torch.inference_mode():
        pairs = [
            network.bounds(torch.from_numpy(windows.batch(part)), context[part], epsilon_sigma, baseline_epsilon_sigma)
            for part in _parts(windows)
        ]
    low, high = (np.concatenate([pair[side].numpy() for pair in pairs] or empty) for side in (0, 1))
    return low, high


def certify(network: RulNetwork | Ensemble, windows: Windows, epsilon_sigma: float) -> dict[str, float | int]:
    """What no attacker who moves every reading of every window by up to ε σ can exceed.

    The errors are measured at that end of each window's bounds that is further from the truth; a failing machine is
    taken at its high end. The attacker that these bounds allow is stronger than any real one.

    Returns:
        rmse_cycles, and missed_failure_share where a window is close to failure.

    Raises:
        ValueError: There are no windows.
    """
    low, high = bounds(network, windows, epsilon_sigma)
    further = np.where(np.abs(high - windows.rul) >= np.abs(low - windows.rul), high, low)
    certified: dict[str, float | int] = {"rmse_cycles": rmse_cycles(further, windows.rul)}
    if (windows.rul <= FAILING_CYCLES).any():
        certified["missed_failure_share"] = missed_failure_share(high, windows.rul)
    return certified


def evaluate(networks: Networks, prepared: Prepared, baseline: npt.ArrayLike) -> dict[str, Any]:
    """Every number that training reports of the networks that it made.

    Args:
        networks: What was trained.
        prepared: What it was trained on.
        baseline: The baseline's estimates of the test windows, (N,), cycles.

    Returns:
        test.network, test.baseline, validation.network: as `measure`; certified.eps-…: as `certify`, on the test; the
        same of the network that reads the trusted baseline under `commissioned`, where there is one.

    Raises:
        ValueError: A split has no windows, or an estimate is not finite.
    """
    plain = _of(networks.plain, prepared)
    plain["test"]["baseline"] = measure(baseline, prepared.test.rul)
    return plain | ({"commissioned": _of(networks.commissioned, prepared)} if networks.commissioned else {})


def _of(network: Ensemble, prepared: Prepared) -> dict[str, Any]:
    test, validation = prepared.test, prepared.validation
    return {
        "test": {"network": measure(estimates(network, test), test.rul)},
        "validation": {"network": measure(estimates(network, validation), validation.rul)},
        "certified": {f"eps-{epsilon:g}": certify(network, test, epsilon) for epsilon in CERTIFIED_SIGMA},
    }


def predictions(network: Ensemble, windows: Windows, baseline: npt.ArrayLike) -> list[dict[str, Any]]:
    """One row for each window, to draw: the truth, both estimates, and the network's bounds at BAND_SIGMA, in cycles.

    Args:
        network: What was trained.
        windows: Where to look.
        baseline: The baseline's estimates of them, (N,), cycles.
    """
    low, high = bounds(network, windows, BAND_SIGMA)
    columns = {
        "unit": [windows.unit_names[unit] for unit in windows.units],
        "cycle": windows.cycles.tolist(),
        "true_rul": windows.rul.tolist(),
        "network": estimates(network, windows).tolist(),
        "baseline": np.asarray(baseline).tolist(),
        "network_low": low.tolist(),
        "network_high": high.tolist(),
    }
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _parts(windows: Windows) -> list[slice]:
    return [slice(start, start + _BATCH) for start in range(0, len(windows), _BATCH)]
