"""A fixed piece of work that says how fast this machine is now: times of a benchmark are divided by its time.

Three parts, each about a third of the whole on one core: products of matrices (torch, one thread), SHA-256, and the
training of a small network, which is many short calls from Python. It never changes: a change would make every
accepted figure meaningless.
"""

from __future__ import annotations

import hashlib
import time

import torch

REPEATS = 3


def calibrate() -> float:
    """Seconds of the fixed work: the fastest of three runs, which the rest of the machine disturbs least."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return min(_seconds() for _ in range(REPEATS))
    finally:
        torch.set_num_threads(threads)


def _seconds() -> float:
    begun = time.perf_counter()
    _products()
    hashlib.sha256(bytes(256 << 20)).digest()
    _training()
    return time.perf_counter() - begun


def _products() -> None:
    square = torch.linspace(-1.0, 1.0, 1_024 * 1_024).reshape(1_024, 1_024)
    for _ in range(8):
        square = torch.nn.functional.normalize(square @ square)


def _training() -> None:
    """Full-batch descent on a network like those of the twin, from fixed numbers: nothing is drawn."""
    x = torch.linspace(-1.0, 1.0, 64 * 32).reshape(64, 32)
    first, second = torch.full((32, 64), 0.01, requires_grad=True), torch.full((64, 1), 0.01, requires_grad=True)
    optimiser = torch.optim.Adam([first, second], lr=1e-3)
    for _ in range(600):
        optimiser.zero_grad()
        torch.mean((torch.relu(x @ first) @ second - x[:, :1]) ** 2).backward()  # type: ignore[no-untyped-call]  # torch
        optimiser.step()
