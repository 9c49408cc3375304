"""What a network estimates for windows, and how far an attacker can move it: the numbers that evidence reports.

Estimates are measured as the network gives them, neither floored nor capped; what the twin shows (`Model.predict`) is
clipped to [0, cap], which holds every true value, so it errs no more than what is measured here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from twinseal.measures.common import Accuracy, WorstCase
from twinseal.measures.keys import epsilon_key
from twinseal.measures.training import NetworkMeasures
from twinseal.prognostics.ensemble import Ensemble
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


def certify(network: RulNetwork | Ensemble, windows: Windows, epsilon_sigma: float) -> WorstCase:
    """What no attacker who moves every reading of every window by up to ε σ can exceed.

    The errors are measured at that end of each window's bounds that is further from the truth; a failing machine is
    taken at its high end. The attacker that these bounds allow is stronger than any real one.

    Raises:
        ValueError: There are no windows.
    """
    low, high = bounds(network, windows, epsilon_sigma)
    further = np.where(np.abs(high - windows.rul) >= np.abs(low - windows.rul), high, low)
    failing = bool((windows.rul <= FAILING_CYCLES).any())
    return WorstCase(
        rmse_cycles=rmse_cycles(further, windows.rul),
        missed_failure_share=missed_failure_share(high, windows.rul) if failing else None,
    )


def accuracy(network: RulNetwork | Ensemble, windows: Windows) -> Accuracy:
    """How good the estimates of windows are.

    Raises:
        ValueError: There are no windows, or an estimate is not finite.
    """
    return measure(estimates(network, windows), windows.rul, windows.units)


def evaluate(network: Ensemble, prepared: Prepared) -> NetworkMeasures:
    """Every number that training reports of one ensemble.

    Raises:
        ValueError: A split has no windows, or an estimate is not finite.
    """
    return NetworkMeasures(
        test=accuracy(network, prepared.test),
        validation=accuracy(network, prepared.validation),
        certified={epsilon_key(epsilon): certify(network, prepared.test, epsilon) for epsilon in CERTIFIED_SIGMA},
    )


def predictions(network: Ensemble, windows: Windows, boosting: npt.ArrayLike) -> list[dict[str, Any]]:
    """One row for each window, to draw: the truth, both estimates, and the network's bounds at BAND_SIGMA, in cycles.

    Args:
        network: What was trained.
        windows: Where to look.
        boosting: What gradient boosting estimates of them, (N,), cycles.
    """
    low, high = bounds(network, windows, BAND_SIGMA)
    columns = {
        "unit": [windows.unit_names[unit] for unit in windows.units],
        "cycle": windows.cycles.tolist(),
        "true_rul": windows.rul.tolist(),
        "network": estimates(network, windows).tolist(),
        "boosting": np.asarray(boosting).tolist(),
        "network_low": low.tolist(),
        "network_high": high.tolist(),
    }
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _parts(windows: Windows) -> list[slice]:
    return [slice(start, start + _BATCH) for start in range(0, len(windows), _BATCH)]
