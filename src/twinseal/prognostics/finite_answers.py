"""Finite answers: whether a model answers with finite numbers for all readings within its own contract.

A file can be well formed, every weight finite, and the model useless: weights of 3e38 overflow float32 in the first
layer, and a twin that runs it refuses every row. So a model is examined once, when it is read. Numbered as in the body
of `require_finite_answers`:

1. the normaliser takes every reading within the contract to σ that float32 can hold, in every regime
2. no sum of any layer of any network can leave float32. This is a proof, for all windows and ages at once: no partial
   sum of `W h + b` is larger than `|W| |h| + |b|`, in whatever order a library sums (see `rounding`)
3. the guard's sums stay finite too
4. asked for the least, the greatest, the middle and alternating readings, in every regime and by every network, it
   answers, and the intervals around its answers are finite

Deterministic. One pass over the weights, in pieces, so that large ones stay mapped.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from twinseal.errors import EvidenceError
from twinseal.prognostics.architecture import AGE_CYCLES
from twinseal.prognostics.inference import Network
from twinseal.prognostics.normaliser import F32, F64

if TYPE_CHECKING:
    from twinseal.prognostics.checkpoint import Model

LARGEST = 1e38  # float32 ends at 3.4e38; the rest is for rounding
MAX_ASKED, MAX_READINGS = 64, 1 << 24  # regimes, and readings of all windows together; the proof is about all
AT_ONCE = 1 << 20  # readings
_PIECE = 1 << 18  # weights at once; they stay in a core's own cache


def require_finite_answers(model: Model) -> None:
    """Refuse a model that may answer a reading within its own contract with an infinity or NaN.

    Args:
        model: Read, not yet trusted to be of any use.

    Raises:
        EvidenceError: It may; the message says where.
    """
    with np.errstate(all="ignore"):
        sizes = _sizes(model)  # 1
        _check(sizes, "the normaliser")
        for mode, ensemble in model.inference.modes().items():  # 2
            total = np.zeros(1)
            for at, member in enumerate(ensemble.members):
                total = total + _largest_answer(member, sizes, f"network {at + 1} of {mode}")
            _check(total, f"the ensemble {mode}")
        _check_guard(model, sizes)  # 3
        _ask(model)  # 4


def _sizes(model: Model) -> F64:
    """(C,) float64: the largest |σ| that each channel can show within the contract, in any regime."""
    normaliser, limits = model.normaliser, [model.contract.all_channels[name] for name in model.channels]
    ends = np.array([[limit.minimum, limit.maximum] for limit in limits]).T  # (2, C)
    return np.asarray(np.abs((ends[:, None] - normaliser.mean) / normaliser.std).max(axis=(0, 1)))


def _largest_answer(network: Network, sizes: F64, where: str) -> F64:
    """No less than the largest size of its answer, (1,) float64 in cycles; every sum on the way is checked."""
    config, arrays = network.config, network.arrays
    tracks = sizes[list(config.inputs)]
    if config.components:
        tracks = _through(arrays["projection"], tracks, f"{where}, projection")
    scales = np.abs(network.front.astype(np.float64)).sum(axis=1)  # (F,)
    parts = [(scales[:, None] * tracks).ravel()]
    parts += [np.array([config.oldest_cycles / AGE_CYCLES])] * config.age
    parts += [tracks] * config.baseline
    hidden = np.concatenate(parts) + np.abs(arrays["feature_mean"].astype(np.float64))
    hidden = hidden / arrays["feature_std"].astype(np.float64)
    _check(hidden, f"{where}, features")
    for number, (weight, bias) in enumerate(network.layers, start=1):
        hidden = _through(weight, hidden, f"{where}, layer {number}") + np.abs(bias.astype(np.float64))
        _check(hidden, f"{where}, layer {number}")
    return np.asarray(hidden * config.rul_cap_cycles)


def _through(weight: F32, sizes: F64, where: str) -> F64:
    """|W| |h|, (H,) float64, a piece of the rows at a time."""
    rows, large = max(1, _PIECE // weight.shape[1]), sizes.astype(np.float32)
    pieces = (weight[start : start + rows] for start in range(0, len(weight), rows))
    # In float32, as fast as the weights can be read: what overflows is refused, and LARGEST leaves room for rounding.
    found = np.concatenate([np.abs(piece) @ large for piece in pieces]).astype(np.float64)
    _check(found, where)
    return found


def _check_guard(model: Model, sizes: F64) -> None:
    precision = np.abs(model.guard.matrix)
    _check(sizes @ precision / np.sqrt(np.diag(precision)), "the guard's disagreement")
    _check(np.atleast_1d(sizes @ np.abs(np.array(model.guard.wear))), "the guard's wear")


def _ask(model: Model) -> None:
    for windows in _windows(model):
        for mode, ensemble in model.inference.modes().items():
            ages = np.full((len(windows), 1), ensemble.config.oldest_cycles, dtype=np.float32)
            context = np.concatenate([ages, windows[:, -1]], axis=1)
            answers = ensemble.estimates(windows, context).astype(np.float64)
            _check(answers, f"the answer of {mode}")
            try:
                with np.errstate(all="raise"):
                    ends = model.intervals[mode].of(answers, model.guard.widen)
            except FloatingPointError as error:
                raise _refusal(f"the intervals of {mode}") from error
            _check(np.concatenate(ends), f"the intervals of {mode}")


def _windows(model: Model) -> Iterator[F32]:
    """What the networks are asked about, (N, L, C) float32 at a time: few windows where they are large."""
    normaliser, limits = model.normaliser, [model.contract.all_channels[name] for name in model.channels]
    low, high = (np.array([getattr(limit, end) for limit in limits]) for end in ("minimum", "maximum"))
    kinds = [(low, low), (high, high), (low / 2 + high / 2,) * 2, (low, high)]  # rows that take turns
    shape = (model.window, len(low))
    most = max(len(kinds), min(len(kinds) * MAX_ASKED, MAX_READINGS // math.prod(shape)))
    at_once = max(1, AT_ONCE // math.prod(shape))
    wanted = itertools.islice(itertools.product(range(len(normaliser.mean)), kinds), most)
    while batch := list(itertools.islice(wanted, at_once)):
        windows = np.empty((len(batch), *shape), dtype=np.float32)
        for window, (regime, rows) in zip(windows, batch, strict=True):
            for turn, row in enumerate(rows):
                window[turn::2] = (row - normaliser.mean[regime]) / normaliser.std[regime]
        yield windows


def _check(values: F64, where: str) -> None:
    if not (np.abs(values) <= LARGEST).all():  # NaN is not
        raise _refusal(where)


def _refusal(where: str) -> EvidenceError:
    return EvidenceError(
        "model: expected finite numbers as answers to all readings within its own contract, "
        f"got numbers beyond float32 ({where})",
        remedy="The model would refuse every row. Nothing is wrong with the telemetry: ask whoever signed it, or train "
        "again.",
    )
