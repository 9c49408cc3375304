from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from twinseal.config import parse
from twinseal.errors import ConfigError
from twinseal.prognostics.architecture import NetworkConfig
from twinseal.prognostics.network import RulNetwork
from twinseal.prognostics.windows import Prepared

CONTEXT = torch.tensor([50.0, 0.5, -0.5, 1.0])  # an age, and a baseline of three channels


def _random_network(seed: int, window: int = 12, channels: int = 3) -> RulNetwork:
    """One of every kind there is: with components or without, with a baseline or without, of some channels or all."""
    others = {"components": (0, 2)[seed % 2], "baseline": seed % 3 == 0, "leak": (0.0, 0.02, 0.3)[seed % 3]}
    inputs = (0, 2) if seed % 5 == 0 else (0, 1, 2)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = RulNetwork(NetworkConfig.for_window(channels, window, hidden=(16, 8), inputs=inputs, **others))
        if network.config.components:
            network.projection.normal_()
        network.feature_mean.normal_()
        network.feature_std.uniform_(0.05, 2.0)
    return network.eval().requires_grad_(False)


def _attack(
    network: RulNetwork, windows: Tensor, context: Tensor, epsilon: float, sign: float, steps: int = 20
) -> Tensor:
    """The strongest estimate in one direction that gradient steps over the box find (PGD)."""
    delta = torch.zeros_like(windows).requires_grad_()
    for _ in range(steps):
        (gradient,) = torch.autograd.grad(network(windows + delta, context).sum() * sign, delta)
        moved = delta.detach() + epsilon / 4 * gradient.sign()
        delta = moved.clamp(-epsilon, epsilon).requires_grad_()
    return network(windows + delta, context).detach()


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**31), epsilon=st.floats(0.0, 2.0), scale=st.floats(0.0, 20.0))
def test_nothing_within_epsilon_leaves_the_bounds(seed: int, epsilon: float, scale: float) -> None:
    network, generator = _random_network(seed), torch.Generator().manual_seed(seed)
    windows = torch.randn(4, 12, 3, generator=generator) * scale
    context = CONTEXT.expand(4, 4)
    low, high = network.bounds(windows, context, epsilon)
    corners = epsilon * torch.randn(30, 4, 12, 3, generator=generator).sign()
    inside = epsilon * (2 * torch.rand(30, 4, 12, 3, generator=generator) - 1)
    for delta in torch.cat([corners, inside, torch.zeros(1, 4, 12, 3)]):
        estimate = network(windows + delta, context)
        assert bool((low <= estimate).all()) and bool((estimate <= high).all())
    assert bool((_attack(network, windows, context, epsilon, 1.0) <= high).all())
    assert bool((_attack(network, windows, context, epsilon, -1.0) >= low).all())


def test_no_attack_leaves_the_bounds_of_a_trained_network(
    toy_network: RulNetwork, toy_context: Tensor, toy_prepared: Prepared
) -> None:
    network, windows, context = toy_network, torch.from_numpy(toy_prepared.test.batch()), toy_context
    for epsilon in (0.05, 0.1, 0.5):
        low, high = network.bounds(windows, context, epsilon)
        up, down = (_attack(network, windows, context, epsilon, sign, 40) for sign in (1.0, -1.0))
        assert bool((up <= high).all()) and bool((down >= low).all())


def test_the_bounds_are_not_empty_words(toy_network: RulNetwork, toy_context: Tensor, toy_prepared: Prepared) -> None:
    """At the ε trained for, an attack reaches a good part of the bounds: they are tight enough to mean something."""
    network, windows, context = toy_network, torch.from_numpy(toy_prepared.test.batch()), toy_context
    _, high = network.bounds(windows, context, 0.1)
    reached, clean = _attack(network, windows, context, 0.1, 1.0, 40), network(windows, context)
    assert float(((reached - clean) / (high - clean)).mean()) > 0.5


def test_bounds_of_no_change_are_the_estimate(
    toy_network: RulNetwork, toy_context: Tensor, toy_prepared: Prepared
) -> None:
    network, windows, context = toy_network, torch.from_numpy(toy_prepared.test.batch()), toy_context
    low, high = network.bounds(windows, context, 0.0)
    torch.testing.assert_close(low, network(windows, context), atol=0.01, rtol=0)
    torch.testing.assert_close(high, network(windows, context), atol=0.01, rtol=0)


def test_bounds_widen_with_epsilon_and_with_each_channel_in_reach() -> None:
    network, windows = _random_network(3), torch.randn(5, 12, 3, generator=torch.Generator().manual_seed(3))
    one_channel = torch.tensor([0.0, 0.3, 0.0])
    widths = [
        high - low
        for low, high in (network.bounds(windows, CONTEXT.expand(5, 4), e) for e in (0.0, one_channel, 0.3, 0.6))
    ]
    for narrower, wider in pairwise(widths):
        assert bool((narrower < wider).all())


def test_a_channel_out_of_reach_may_not_move() -> None:
    """With ε on channel 1 only, changes of it stay within; the same change of channel 0 need not."""
    network, windows, context = _random_network(4), torch.zeros(1, 12, 3), CONTEXT[None]
    low, high = network.bounds(windows, context, torch.tensor([0.0, 0.3, 0.0]))
    for sign in (-0.3, 0.3):
        moved = windows.clone()
        moved[:, :, 1] = sign
        assert bool(low <= network(moved, context) <= high)
    moved = windows.clone()
    moved[:, :, 0] = 100.0
    assert not bool(low <= network(moved, context) <= high)


def test_the_front_end_means_and_slopes() -> None:
    network = RulNetwork(NetworkConfig(channels=1, window=6, inputs=(0,), means=(2, 6), slopes=(3,), baseline=True))
    windows = torch.tensor([0.0, 0.0, 0.0, 1.0, 2.0, 3.0])[None, :, None]
    # means of the last 2 and 6; slope 1 a cycle over the last 3, times 3 cycles
    # then the age in 200 cycles, and the baseline
    context = torch.tensor([[50.0, 0.75]])
    assert pytest.approx([2.5, 1.0, 3.0, 0.25, 0.75]) == network.features(windows, context)[0].tolist()


def test_a_short_window_shortens_the_scales() -> None:
    config = NetworkConfig.for_window(channels=2, window=20)
    assert ((3, 10, 20), (10, 20)) == (config.means, config.slopes)


def test_estimates_are_one_number_a_window() -> None:
    assert (7,) == tuple(_random_network(1)(torch.zeros(7, 12, 3), CONTEXT.expand(7, 4)).shape)


def test_a_change_of_batch_changes_no_estimate(
    toy_network: RulNetwork, toy_context: Tensor, toy_prepared: Prepared
) -> None:
    network, windows, context = toy_network, torch.from_numpy(toy_prepared.test.batch()), toy_context
    alone = torch.cat([network(window[None], one[None]) for window, one in zip(windows, context, strict=True)])
    np.testing.assert_allclose(network(windows, context).numpy(), alone.numpy(), atol=1e-3)


@pytest.mark.parametrize(
    "wrong",
    [
        {"channels": 0},
        {"channels": 10**9},
        {"window": 10**9},
        {"means": [200]},
        {"means": [0]},
        {"slopes": [1]},
        {"means": [], "slopes": []},
        {"hidden": []},
        {"hidden": [10**9]},
        {"hidden": [8] * 9},
        {"rul_cap_cycles": 0.0},
        {"rul_cap_cycles": 1e30},
        {"activation": "exec"},
        {"inputs": []},
        {"inputs": [1, 0]},
        {"inputs": [0, 0]},
        {"inputs": [-1, 0]},
        {"inputs": [0, 3]},
        {"components": 4},
        {"leak": 1.0},
    ],
)
def test_an_architecture_out_of_range_cannot_be_built(wrong: dict[str, object]) -> None:
    honest: dict[str, object] = {"channels": 3, "window": 100, "inputs": [0, 1, 2]}
    honest |= {"means": [3, 100], "slopes": [10], "hidden": [8], "rul_cap_cycles": 125.0}
    assert 3 == parse(NetworkConfig, honest, "config.json").channels
    with pytest.raises(ConfigError, match=r"expected|unknown key"):
        parse(NetworkConfig, honest | wrong, "config.json")


def test_a_baseline_in_the_attackers_hand_is_bounded_too() -> None:
    network, windows = _random_network(3), torch.zeros(1, 12, 3)  # 3: one that reads the baseline
    context, moved = CONTEXT[None], CONTEXT[None].clone()
    moved[:, 1:] += torch.tensor([0.3, -0.3, 0.3])
    low, high = network.bounds(windows, context, 0.0)
    assert not bool(low <= network(windows, moved) <= high)
    low, high = network.bounds(windows, context, 0.0, 0.3)
    assert bool(low <= network(windows, moved) <= high)


def test_what_a_network_does_not_read_does_not_move_it() -> None:
    network, windows, context = _random_network(5), torch.zeros(1, 12, 3), CONTEXT[None]  # 5: of channels 0 and 2
    elsewhere, older = windows.clone(), context.clone()
    elsewhere[:, :, 1] = 1e6
    older[:, 1:] = 1e6
    assert network(windows, context).tolist() == network(elsewhere, older).tolist()


def test_attack_of_weights_that_cancel_does_not_leave_the_bounds_by_rounding() -> None:
    """A builder's weights: large terms that cancel on paper, and not in float32."""
    config = NetworkConfig(channels=1, window=2, inputs=(0,), means=(2,), slopes=(2,), age=False, hidden=(2,), leak=0.0)
    network = RulNetwork(config).eval().requires_grad_(False)
    first, second = network.layers
    first.weight.copy_(torch.tensor([[1.0, 0.0], [3.0, 0.0]]))
    first.bias.copy_(torch.tensor([1e6, 3e6]))
    second.weight.copy_(torch.tensor([[3.0, -1.0]]))
    second.bias.zero_()
    moved = torch.linspace(-0.1, 0.1, 2001)[:, None, None].expand(-1, 2, 1)
    said = network(moved, torch.zeros(2001, 2))
    low, high = network.bounds(torch.zeros(1, 2, 1), torch.zeros(1, 2), 0.1)
    assert float(said.max()) > 20
    assert float(low) <= float(said.min()) <= float(said.max()) <= float(high)


@pytest.mark.parametrize("age", [201.0, 1e6])
def test_ages_beyond_the_oldest_are_taken_for_it(age: float) -> None:
    network = RulNetwork(NetworkConfig.for_window(2, 10, oldest_cycles=200)).eval()
    window = torch.zeros(1, 10, 2)
    oldest, older = (network(window, torch.tensor([[cycles, 0.0, 0.0]])) for cycles in (200.0, age))
    assert oldest.item() == older.item()


def test_an_oldest_age_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="expected an oldest age of 1 to"):
        parse(NetworkConfig, NetworkConfig.for_window(2, 10).model_dump(mode="json") | {"oldest_cycles": 0}, "x")
