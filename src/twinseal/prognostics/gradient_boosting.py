"""Gradient boosting on the same windows, reported beside the network. The door to scikit-learn.

It sees the same multi-scale features. Where the network loses to it on clean data by more than its robustness is worth,
the gates should say so. It is never shipped.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from threadpoolctl import threadpool_limits  # comes with scikit-learn

from twinseal.prognostics.architecture import NetworkConfig
from twinseal.prognostics.network import RulNetwork
from twinseal.prognostics.normaliser import F32, F64
from twinseal.prognostics.windows import Prepared, Windows

_BATCH = 1_000


def boosting_estimates(prepared: Prepared, *, seed: int, rounds: int = 150) -> F64:
    """Estimates of the test windows, (N,) float64 in cycles; as `fit_boosting`."""
    with threadpool_limits(1):
        predict, test, context = (
            fit_boosting(prepared, seed=seed, rounds=rounds),
            prepared.test,
            prepared.test.context(),
        )
        starts = range(0, len(test), _BATCH)
        return np.concatenate([predict(test.batch(slice(s, s + _BATCH)), context[s : s + _BATCH]) for s in starts])


def fit_boosting(prepared: Prepared, *, seed: int, rounds: int = 150) -> Callable[[F32, F32], F64]:
    """Gradient boosting fitted on the training windows: windows (B, L, C) and contexts (B, 1 + C) → (B,) cycles.

    Args:
        prepared: The windows.
        seed: Of the binning; nothing else in it is random.
        rounds: Boosting rounds of trees of at most 31 leaves.
    """
    from sklearn.ensemble import HistGradientBoostingRegressor  # noqa: PLC0415 - a second, and few stages need it

    # Early stopping would split windows of one unit between fit and check: off.
    model = HistGradientBoostingRegressor(max_iter=rounds, learning_rate=0.06, early_stopping=False, random_state=seed)
    # One thread: on a busy machine OpenMP's threads wait for each other far longer than they work.
    with threadpool_limits(1):
        model.fit(multi_scale_features(prepared.train), prepared.train.rul)
    front = _front(prepared.train)

    def predict(windows: F32, context: F32) -> F64:
        with torch.inference_mode():
            features = front.features(torch.from_numpy(windows), torch.from_numpy(context)).numpy()
        return np.asarray(model.predict(features), dtype=np.float64)

    return predict


def multi_scale_features(windows: Windows) -> F32:
    """Means and slopes of every window, and the age, (N, F·C + 1) float32: what the network's front end gives."""
    front = _front(windows)
    parts, context = [slice(start, start + _BATCH) for start in range(0, len(windows), _BATCH)], windows.context()
    with torch.inference_mode():
        made = [front.features(torch.from_numpy(windows.batch(p)), torch.from_numpy(context[p])).numpy() for p in parts]
    return np.concatenate(made)


def _front(windows: Windows) -> RulNetwork:
    return RulNetwork(NetworkConfig.for_window(windows.rows.shape[1], windows.window, hidden=(1,)))
