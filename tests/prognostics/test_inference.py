"""What a twin computes in NumPy, beside torch: within the rounding that every certificate leaves room for."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from twinseal.prognostics.architecture import Architecture, EnsembleConfig, NetworkConfig
from twinseal.prognostics.ensemble import Networks, networks_of
from twinseal.prognostics.network import RulNetwork
from twinseal.prognostics.normaliser import F32
from twinseal.prognostics.windows import Prepared

CHANNELS, WINDOW = 5, 30
KINDS = {
    "robust": {"hidden": (16, 16)},
    "baseline": {"hidden": (8,), "baseline": True},
    "components": {"hidden": (8, 8, 8), "components": 2},
    "some channels": {"hidden": (32, 4), "inputs": (1, 3), "age": False},
    "no leak, oldest 50": {"hidden": (16,), "leak": 0.0, "oldest_cycles": 50},
}
SPREADS = st.sampled_from([1e-3, 1.0, 1e3, 1e6])


def networks(mode: str, kinds: tuple[str, ...], aggregation: str, spread: float, seed: int) -> Networks:
    members = tuple(NetworkConfig.for_window(CHANNELS, WINDOW, **KINDS[kind]) for kind in kinds)  # type: ignore[arg-type]
    ensemble = EnsembleConfig(members=members, aggregation=aggregation)  # type: ignore[arg-type]
    plain = EnsembleConfig(members=(NetworkConfig.for_window(CHANNELS, WINDOW),))
    architecture = Architecture(plain=ensemble) if mode == "plain" else Architecture(plain=plain, commissioned=ensemble)
    torch.manual_seed(seed)
    made = Networks(architecture).eval().requires_grad_(False)
    for name, tensor in made.state_dict().items():
        if name.endswith("feature_std"):
            tensor.copy_(torch.rand(tensor.shape) * spread + 1e-3)
        else:  # large terms of both signs cancel: what an attacker would choose to make rounding tell
            tensor.copy_(torch.randn(tensor.shape) * spread)
    return made


def within_rounding(made: Networks, mode: str, windows: F32, context: F32) -> Iterator[tuple[float, float]]:
    """(how far torch and NumPy lie apart, how far rounding may take the two) of each window."""
    ensemble = made.modes()[mode]
    said = made.to_inference().modes()[mode].estimates(windows, context).astype(np.float64)
    x, known = torch.from_numpy(windows), torch.from_numpy(context)
    torchs = ensemble(x, known).double().numpy()
    errors = np.stack([_error(member, x, known) for member in ensemble.networks])
    sizes = np.abs(np.stack([member(x, known).double().numpy() for member in ensemble.networks])) + errors
    # Either may be off by as much as the worst member, and by the mean's own sums.
    room = 2 * (errors.max(axis=0) + 64 * 2.0**-24 * sizes.sum(axis=0))
    yield from zip(np.abs(said - torchs).tolist(), room.tolist(), strict=True)


def _error(member: RulNetwork, windows: torch.Tensor, context: torch.Tensor) -> F32:
    return np.asarray(member._rounding(windows, context, 0.0, 0.0).numpy())


@given(
    kinds=st.lists(st.sampled_from([kind for kind in KINDS if kind != "baseline"]), min_size=1, max_size=4).map(tuple),
    aggregation=st.sampled_from(["mean", "median"]),
    spread=SPREADS,
    size=st.sampled_from([0.1, 3.0, 1e4]),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=60, deadline=None)
def test_law_numpy_answers_what_torch_answers_within_rounding(
    kinds: tuple[str, ...], aggregation: str, spread: float, size: float, seed: int
) -> None:
    made, rng = networks("plain", kinds, aggregation, spread, seed), np.random.default_rng(seed)
    windows = (rng.normal(size=(7, WINDOW, CHANNELS)) * size).astype(np.float32)
    context = np.column_stack([rng.integers(1, 500, 7), rng.normal(size=(7, CHANNELS))]).astype(np.float32)
    for apart, room in within_rounding(made, "plain", windows, context):
        assert apart <= room or np.isnan(room)


def test_trained_networks_answer_alike_to_thousandths(
    toy_trained: tuple[Networks, object], toy_prepared: Prepared
) -> None:
    made, test = toy_trained[0], toy_prepared.test
    windows, context = test.batch(slice(None)), test.context()
    for mode, ensemble in made.to_inference().modes().items():
        apart, room = zip(*within_rounding(made, mode, windows, context), strict=True)
        assert (np.array(apart) <= room).all()
        assert max(apart) < 1e-3  # cycles; with room for machines that sum otherwise
        moved = windows.copy()
        moved[:, -1, 0] += 1.0
        told = ensemble.estimates(windows, context), ensemble.estimates(moved, context)
        assert (np.abs(told[0] - told[1]) > room).any(), "the room is less than what a single reading is worth"


def test_the_network_that_reads_baselines_answers_alike() -> None:
    made, rng = networks("commissioned", ("baseline", "robust"), "mean", 1.0, 3), np.random.default_rng(3)
    windows = rng.normal(size=(50, WINDOW, CHANNELS)).astype(np.float32)
    context = np.column_stack([rng.integers(1, 500, 50), rng.normal(size=(50, CHANNELS))]).astype(np.float32)
    assert all(apart <= room for apart, room in within_rounding(made, "commissioned", windows, context))
    other = context.copy()
    other[:, 1] += 1.0
    inference = made.to_inference()
    assert inference.commissioned is not None
    assert (
        inference.commissioned.estimates(windows, context) != inference.commissioned.estimates(windows, other)
    ).all()


def test_there_and_back_shares_the_weights() -> None:
    inference = networks("commissioned", ("robust",), "mean", 1.0, 3).to_inference()
    there = networks_of(inference)
    there.plain.networks[0].feature_mean[0] = 7.0
    assert 7.0 == inference.arrays["plain.members.0.feature_mean"][0]
    assert not any(parameter.requires_grad for parameter in there.parameters())
    assert not there.training


@pytest.mark.parametrize("rows", [1, 3])
def test_answers_do_not_depend_on_what_else_is_asked(rows: int) -> None:
    """Within rounding: BLAS sums a batch in another order than a single window."""
    made, rng = networks("plain", ("robust", "components"), "mean", 1.0, 5), np.random.default_rng(5)
    windows = rng.normal(size=(100, WINDOW, CHANNELS)).astype(np.float32)
    context = np.ones((100, 1 + CHANNELS), dtype=np.float32)
    plain, room = made.to_inference().plain, [room for _, room in within_rounding(made, "plain", windows, context)]
    together = plain.estimates(windows, context)
    alone = np.concatenate(
        [plain.estimates(windows[at : at + rows], context[at : at + rows]) for at in range(0, 99, rows)]
    )
    assert (np.abs(together[: len(alone)] - alone) <= room[: len(alone)]).all()
