"""The baseline: gradient boosting on the same windows, reported beside the network. The door to scikit-learn.

It sees the same multi-scale features. Where the network loses to it on clean data by more than its robustness is worth,
the gates should say so. It is never shipped.
"""

from __future__ import annotations

import numpy as np
import torch
from sklearn.ensemble import HistGradientBoostingRegressor
from threadpoolctl import threadpool_limits  # comes with scikit-learn

from twinseal.prognostics.network import NetworkConfig, RulNetwork
from twinseal.prognostics.normaliser import F32, F64
from twinseal.prognostics.windows import Prepared, Windows

_BATCH = 1_000


def baseline(prepared: Prepared, *, seed: int, rounds: int = 150) -> F64:
    """Estimates of the test windows by gradient boosting fitted on the training windows.

    Args:
        prepared: The windows.
        seed: Of the binning; nothing else in it is random.
        rounds: Boosting rounds of trees of at most 31 leaves.

    Returns:
        (N,) float64, cycles.
    """
    # Early stopping would split windows of one unit between fit and check: off.
    model = HistGradientBoostingRegressor(max_iter=rounds, learning_rate=0.06, early_stopping=False, random_state=seed)
    # One thread: on a busy machine OpenMP's threads wait for each other far longer than they work.
    with threadpool_limits(1):
        model.fit(multi_scale_features(prepared.train), prepared.train.rul)
        estimates: F64 = model.predict(multi_scale_features(prepared.test)).astype(np.float64)
    return estimates


def multi_scale_features(windows: Windows) -> F32:
    """Means and slopes of every window, (N, F·C) float32 in σ: what the network's front end gives."""
    front = RulNetwork(NetworkConfig.for_window(windows.rows.shape[1], windows.window, hidden=(1,)))
    starts = range(0, len(windows), _BATCH)
    with torch.inference_mode():
        parts = [front.features(torch.from_numpy(windows.batch(slice(s, s + _BATCH)))).numpy() for s in starts]
    return np.concatenate(parts)
