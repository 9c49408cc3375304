"""The model that MLflow loads in the benchmark `cold_start`: the same torch network, as MLflow's own kind of model."""

from __future__ import annotations

import mlflow
import numpy as np
import torch

from twinseal.prognostics.ensemble import Ensemble


class Rul(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """Remaining useful life of windows (B, T, C) float32.

    Args:
        network: What computes it.
    """

    def __init__(self, network: Ensemble) -> None:
        self._network = network

    def predict(self, _context, model_input):  # type: ignore[no-untyped-def]  # MLflow reads type hints, and warns
        """As MLflow says."""
        with torch.inference_mode():
            windows = torch.from_numpy(np.asarray(model_input, dtype=np.float32))
            return self._network(windows, torch.zeros(len(windows), 1 + windows.shape[2])).numpy()
