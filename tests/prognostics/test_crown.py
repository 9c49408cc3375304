"""Linear bounds: sound against everything, never looser than intervals, exact where they must be."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from twinseal.prognostics import crown as module
from twinseal.prognostics.crown import Layer, crown

SLACK = 1e-7  # torch rounds the slope of a leaky unit to float32, in float64 too


def perceptron(seed: int, sizes: tuple[int, ...], reads: int) -> tuple[list[Layer], Tensor, Tensor]:
    """Layers after the first, the first one's map of what is moved, and unmoved pre-activations of five windows."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    layers = [(normal(b, a) / a**0.5, normal(b)) for a, b in itertools.pairwise((*sizes, 1))]
    return layers, normal(sizes[0], reads), normal(5, sizes[0])


def output(layers: list[Layer], pre: Tensor, leak: float) -> Tensor:
    for weight, bias in layers:
        pre = nn.functional.linear(nn.functional.leaky_relu(pre, leak), weight, bias)
    return pre.squeeze(-1)


def intervals(
    layers: list[Layer], centre: Tensor, leak: float, through: Tensor, epsilon: Tensor
) -> tuple[Tensor, Tensor]:
    radius = through.abs() @ epsilon
    box = (centre - radius, centre + radius)
    for weight, bias in layers:
        box = module._interval(box, weight, bias, leak)
    return box[0].squeeze(1), box[1].squeeze(1)


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    sizes=st.sampled_from([(4,), (8, 6), (6, 5, 4)]),
    leak=st.sampled_from([0.0, 0.02, 0.3, 1.0]),
    size=st.floats(0.0, 3.0),
)
def test_nothing_within_epsilon_leaves_the_bounds(seed: int, sizes: tuple[int, ...], leak: float, size: float) -> None:
    layers, through, centre = perceptron(seed, sizes, 7)
    epsilon = size * torch.rand(7, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    low, high = crown(layers, centre, leak=leak, through=through, epsilon=epsilon)
    corners = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=7)), dtype=torch.float64)
    inside = 2 * torch.rand(200, 7, generator=torch.Generator().manual_seed(seed + 1), dtype=torch.float64) - 1
    for delta in torch.cat([corners, inside]) * epsilon:
        estimate = output(layers, centre + through @ delta, leak)
        assert bool((low - SLACK <= estimate).all()) and bool((estimate <= high + SLACK).all())
    loosest = intervals(layers, centre, leak, through, epsilon)
    assert bool((low >= loosest[0] - SLACK).all()) and bool((high <= loosest[1] + SLACK).all())


def test_they_are_tighter_than_intervals_where_there_is_depth() -> None:
    layers, through, centre = perceptron(3, (16, 12), 9)
    epsilon = torch.full((9,), 0.1, dtype=torch.float64)
    low, high = crown(layers, centre, leak=0.02, through=through, epsilon=epsilon)
    loose_low, loose_high = intervals(layers, centre, 0.02, through, epsilon)
    assert float((high - low).mean()) < 0.8 * float((loose_high - loose_low).mean())


def test_of_a_linear_network_they_are_exact() -> None:
    layers, through, centre = perceptron(4, (6, 5), 7)
    epsilon = torch.full((7,), 0.3, dtype=torch.float64)
    low, high = crown(layers, centre, leak=1.0, through=through, epsilon=epsilon)
    whole = layers[1][0] @ layers[0][0] @ through  # (1, D)
    clean, radius = output(layers, centre, 1.0), (whole.abs() @ epsilon).squeeze(0)
    torch.testing.assert_close(low, clean - radius)
    torch.testing.assert_close(high, clean + radius)


def test_where_no_unit_changes_side_they_are_exact() -> None:
    layers, through, centre = perceptron(5, (6, 5), 7)
    epsilon = torch.full((7,), 1e-9, dtype=torch.float64)
    low, high = crown(layers, centre, leak=0.02, through=through, epsilon=epsilon)
    torch.testing.assert_close(low, output(layers, centre, 0.02), atol=1e-7, rtol=0)
    torch.testing.assert_close(high, low, atol=1e-7, rtol=0)


@pytest.mark.parametrize("chunk", [1, 1 << 30])
def test_pieces_of_any_size_give_the_same(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    layers, through, centre = perceptron(6, (6, 5), 7)
    epsilon = torch.full((7,), 0.2, dtype=torch.float64)
    expected = crown(layers, centre, leak=0.02, through=through, epsilon=epsilon)
    monkeypatch.setattr(module, "_CHUNK_BYTES", chunk)
    got = crown(layers, centre, leak=0.02, through=through, epsilon=epsilon)
    torch.testing.assert_close(expected[1], got[1])


def test_a_very_wide_network_falls_back_to_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    layers, through, centre = perceptron(7, (6, 5), 7)
    epsilon = torch.full((7,), 0.2, dtype=torch.float64)
    monkeypatch.setattr(module, "LARGEST", 5)
    low, high = crown(layers, centre, leak=0.02, through=through, epsilon=epsilon)
    expected = intervals(layers, centre, 0.02, through, epsilon)
    torch.testing.assert_close(expected[0], low)
    torch.testing.assert_close(expected[1], high)


@pytest.mark.parametrize("slope", ["below", "chord"])
def test_a_wrong_line_would_be_noticed(slope: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above must be able to fail: with one line too steep, some corner does leave the bounds."""
    honest = module._lines

    def wrong(low: Tensor, high: Tensor, leak: float) -> tuple[Tensor, Tensor, Tensor]:
        below, chord, offset = honest(low, high, leak)
        return (below + 0.5, chord, offset) if slope == "below" else (below, chord, offset - 0.5)

    monkeypatch.setattr(module, "_lines", wrong)
    with pytest.raises(AssertionError):
        test_nothing_within_epsilon_leaves_the_bounds()
