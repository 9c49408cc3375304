"""Attacks, certificates, the guard and an answer: how long each takes, ours beside ART's in the same run."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from bench.table import Row, ratio
from tests.twin.deployment import CHANNELS, contract, guard_without_calibration
from twinseal.guard.guard import Guard
from twinseal.prognostics.architecture import NetworkConfig
from twinseal.prognostics.ensemble import Ensemble
from twinseal.prognostics.network import RulNetwork
from twinseal.robustness.methods.art import PGD_STEP, UNREACHABLE, ArtTarget
from twinseal.robustness.methods.gradient import ascend
from twinseal.robustness.target import Floats, NetworkTarget

WINDOWS, ROWS, STEPS, EPSILON = 1_000, 100, 20, 0.1
SHARE = 1 / 3  # of ART's time


def measure(_folder: Path, repeats: int) -> list[Row]:
    """The rows of `attack`; `repeats` of each."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    config = NetworkConfig.for_window(14, ROWS)
    networks = [RulNetwork(config).eval().requires_grad_(False) for _ in range(3)]
    x = torch.randn(WINDOWS, ROWS, 14)
    context = torch.cat([torch.full((WINDOWS, 1), 80.0), torch.zeros(WINDOWS, 14)], dim=1)
    network, y = NetworkTarget(networks[0], context), np.full(WINDOWS, 60.0, dtype=np.float32)
    target, up, step = ArtTarget(network, 125.0), torch.ones(WINDOWS), PGD_STEP * EPSILON / STEPS

    def pgd_by_art() -> Floats:
        return target.attack_windows(
            x.numpy(), y, method="pgd", aim="healthy-washing", epsilon_sigma=EPSILON, steps=STEPS
        )

    by_art = _timed(f"PGD-20 on {WINDOWS:,} windows, ART", pgd_by_art, repeats)
    ours = _timed(
        f"PGD-20 on {WINDOWS:,} windows, ours", lambda: ascend(network, x, up, EPSILON, steps=STEPS, step=step), repeats
    )
    apart = ascend(network, x, up, EPSILON, steps=STEPS, step=step).numpy()
    both = [target.estimates(changed) for changed in (pgd_by_art(), apart)]
    difference = float(np.abs(both[0] - both[1]).max()) / (UNREACHABLE * 125.0)
    ensemble = Ensemble.of(networks)
    bounds = _timed(
        "certificates of 200 windows, 3 networks", lambda: ensemble.bounds(x[:200], context[:200], 0.1), repeats
    )
    answer = _timed("100 answers of 3 networks, one by one", lambda: _answers(ensemble, x, context), repeats)
    guarded = _timed("the guard over 1,000 rows of one unit", _guarded, repeats)
    return [
        by_art,
        ours,
        ratio("attack", "ours against ART", ours, [by_art], SHARE),
        Row("attack", "and how far apart they end, of the target", (difference,), "×", 1e-4),
        bounds,
        answer,
        guarded,
    ]


def _timed(what: str, work: Callable[[], object], repeats: int) -> Row:
    work()  # what is loaded at first use is loaded
    samples = []
    for _ in range(repeats):
        begun = time.perf_counter()
        work()
        samples.append(time.perf_counter() - begun)
    return Row("attack", what, tuple(samples), "s")


def _answers(ensemble: Ensemble, x: torch.Tensor, context: torch.Tensor) -> None:
    with torch.inference_mode():
        for at in range(100):
            ensemble(x[at : at + 1], context[at : at + 1])


def _guarded() -> None:
    guard, rng = Guard(guard_without_calibration(len(CHANNELS)), contract()), np.random.default_rng(0)
    for cycle in range(1, 1_001):
        row = 5 + 0.1 * rng.standard_normal((1, len(CHANNELS)))
        guard.decide(np.array([cycle]), row, (row - 5) / 2)
