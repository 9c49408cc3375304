"""Ages: whoever may say which cycle it is. An attacker of readings does not hold that; this is for one who does.

The twin refuses ages beyond the oldest that training saw, so these are all that he can choose from.
"""

from __future__ import annotations

import numpy as np

from twinseal.prognostics.ensemble import Ensemble
from twinseal.robustness.trial import Trial
from twinseal.robustness.victim import NetworkVictim, estimates

TRIED = 40


def false_ages(network: Ensemble, trial: Trial) -> dict[str, float]:
    """The worst that a false age does to each window by itself, the readings as they are.

    Args:
        network: Asked.
        trial: The windows.

    Returns:
        As `Trial.harm`, and rise_cycles, the mean rise of the estimates.
    """
    x, config = trial.windows.batch(), network.config
    victim, tried = NetworkVictim.of(network, trial.windows), []
    for age in np.unique(np.linspace(1, config.oldest_cycles, TRIED).round()):
        context = victim.context.clone()
        context[:, 0] = float(age)
        tried.append(np.clip(estimates(NetworkVictim(victim.network, context), x), 0, config.rul_cap_cycles))
    clean = np.clip(estimates(victim, x), 0, config.rul_cap_cycles)
    said = np.stack([clean, *tried]).astype(np.float32)
    return trial.harm(said.min(axis=0), said.max(axis=0)) | {"rise_cycles": float(np.mean(said.max(axis=0) - clean))}
